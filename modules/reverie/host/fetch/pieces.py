"""Which parts of a file are there. On the disk it is aria2's own control file (https://aria2.github.io/manual/en/html/technical-notes.html),
whoever wrote it: so either way of fetching carries on where the other one stopped, and there is one format to get wrong."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

BLOCK = 16 * 1024  # aria2's unit within a piece
PIECE = 1024 * 1024
_HEAD = struct.Struct(">H4sI")  # version, extensions, length of a BitTorrent hash (none)
_SIZES = struct.Struct(">IQQI")  # piece length, total length, uploaded, length of the bit field
_PIECE = struct.Struct(">III")  # index, length, length of its bit field


class Pieces:
    """The blocks of a file of `size` bytes, a byte each: 1 where it is there."""

    def __init__(self, size: int):
        self.size = size
        self.blocks = bytearray(-(-size // BLOCK))

    @property
    def done_bytes(self) -> int:
        short = -self.size % BLOCK if self.blocks and self.blocks[-1] else 0
        return self.blocks.count(1) * BLOCK - short

    def mark(self, start: int, end: int) -> None:
        """The bytes from `start` (the beginning of a block) to `end` are there; a block that `end` cuts is not."""
        last = len(self.blocks) if end >= self.size else end // BLOCK
        first = start // BLOCK
        if last > first:
            self.blocks[first:last] = b"\x01" * (last - first)

    def cut_at(self, length: int) -> None:
        """The file is only `length` bytes long: whatever lies behind that is not there."""
        first = len(self.blocks) if length >= self.size else length // BLOCK
        self.blocks[first:] = bytes(len(self.blocks) - first)

    def mark_written(self, part: Path) -> None:
        """Blocks that lie in `part` though no record tells of them, as a kill leaves them. Sure for a file that was empty at first
        and whose blocks were each written from their beginning on: a last byte that is not zero was written, and so were all
        before it. A block that really ends with a zero is fetched again."""
        with open(part, "rb", buffering=0) as file:
            for start, end in self.missing():
                while 0 <= (start := _next_data(file.fileno(), start)) < end:
                    start = start // BLOCK * BLOCK
                    last = min(start + BLOCK, self.size) - 1
                    file.seek(last)
                    if file.read(1).strip(b"\0"):
                        self.blocks[start // BLOCK] = 1
                    start += BLOCK

    def missing(self) -> list[tuple[int, int]]:
        """(start, end) in bytes of each gap, in order."""
        gaps, at = [], 0
        while (first := self.blocks.find(0, at)) >= 0:
            at = self.blocks.find(1, first)
            at = len(self.blocks) if at < 0 else at
            gaps.append((first * BLOCK, min(at * BLOCK, self.size)))
        return gaps

    def encode(self) -> bytes:
        """As aria2's control file, in pieces of 1 MiB."""
        per, total = PIECE // BLOCK, len(self.blocks)
        whole, begun = bytearray(-(-self.size // PIECE)), []
        for index in range(len(whole)):
            first, last = index * per, min((index + 1) * per, total)
            there = self.blocks.count(1, first, last)
            whole[index] = there == last - first
            if there and not whole[index]:
                bits = _packed(self.blocks[first:last])
                begun.append(_PIECE.pack(index, min(PIECE, self.size - index * PIECE), len(bits)) + bits)
        field = _packed(whole)
        parts = [_HEAD.pack(1, bytes(4), 0), _SIZES.pack(PIECE, self.size, 0, len(field)), field, struct.pack(">I", len(begun)), *begun]
        return b"".join(parts)

    @classmethod
    def read(cls, control: Path) -> Pieces | None:
        """From a control file; None where there is none that can be read."""
        try:
            return cls._decoded(control.read_bytes())
        except (OSError, ValueError, struct.error):
            return None

    @classmethod
    def _decoded(cls, data: bytes) -> Pieces:
        version, _, hash_length = _HEAD.unpack_from(data)
        at = _HEAD.size + hash_length
        length, size, _, field_length = _SIZES.unpack_from(data, at)
        at += _SIZES.size
        if version != 1 or length < BLOCK or length % BLOCK or field_length != -(-(-(-size // length)) // 8) or len(data) < at + field_length:
            raise ValueError("no control file")
        pieces, per = cls(size), length // BLOCK
        for index, there in enumerate(_unpacked(data[at : at + field_length], -(-size // length))):
            if there:
                pieces.mark(index * length, (index + 1) * length)
        at += field_length
        (count,) = struct.unpack_from(">I", data, at)
        at += 4
        for _ in range(count):
            index, _, bits = _PIECE.unpack_from(data, at)
            at += _PIECE.size
            first, last = index * per, min((index + 1) * per, len(pieces.blocks))
            if first >= last or len(data) < at + bits or bits * 8 < last - first:
                raise ValueError("a piece outside the file")
            pieces.blocks[first:last] = bytes(_unpacked(data[at : at + bits], last - first))
            at += bits
        return pieces


def _next_data(fd: int, start: int) -> int:
    """Where the file's next bytes that are no hole lie, from `start` on; -1 behind the last. `start` where holes cannot be told."""
    if not hasattr(os, "SEEK_DATA"):
        return start
    try:
        return os.lseek(fd, start, os.SEEK_DATA)
    except OSError as error:
        return -1 if error.errno == errno.ENXIO else start


def _packed(flags: bytes | bytearray) -> bytes:
    """One bit each, the first one the highest."""
    text = flags.translate(_DIGITS).decode("ascii")
    length = -(-len(flags) // 8)
    return int(text.ljust(length * 8, "0"), 2).to_bytes(length, "big") if length else b""


def _unpacked(data: bytes, count: int) -> list[int]:
    return [data[i >> 3] >> (7 - (i & 7)) & 1 for i in range(count)]


_DIGITS = bytes([48, 49]) + bytes(254)
