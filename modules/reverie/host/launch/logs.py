"""Logs of what runs: written within bounds, read from their end, followed while they grow."""

from __future__ import annotations

import os
import re
from pathlib import Path

LIMIT_BYTES = 16 << 20  # of one file; with what was rotated a log takes at most three times that
TAIL_BYTES = 256 << 10
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def rotated(path: Path) -> Path:
    """What this run wrote before the file was full."""
    return path.with_name(path.name + ".1")


def previous(path: Path) -> Path:
    """The end of the run before."""
    return path.with_name(path.name + ".old")


class Bounded:
    """A log file for one run: what an earlier run wrote is kept once, and a file that is full is put aside once."""

    def __init__(self, path: Path, limit: int = LIMIT_BYTES):
        self.path, self.limit, self._size = path, limit, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        rotated(path).unlink(missing_ok=True)
        if path.exists():
            _move(path, previous(path))
        self._file = self._fresh()

    def write(self, data: bytes) -> None:
        """A disk that is full loses the words, never the program that says them."""
        try:
            if self._size + len(data) > self.limit:
                self._file.close()
                _move(self.path, rotated(self.path))
                self._file, self._size = self._fresh(), 0
            self._file.write(data)
            self._size += len(data)
        except (OSError, ValueError):
            pass

    def close(self) -> None:
        self._file.close()

    def _fresh(self):
        return os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600), "wb", buffering=0)


def _move(path: Path, target: Path) -> None:
    """On Windows a file that somebody reads cannot be moved: then it is begun anew without that."""
    try:
        os.replace(path, target)
    except OSError:
        pass


def tail(path: Path, count: int = 40) -> list[str]:
    """The last `count` lines that this run wrote, as a terminal would show them; [] without a log."""
    data = _end(path)
    if data.count(b"\n") < count:
        data = _end(rotated(path)) + data
    return plain(data)[-count:]


def plain(data: bytes) -> list[str]:
    """Lines as they stand on a terminal at last: of a progress bar its last state, no colours, no empty ends."""
    text = data.decode("utf-8", errors="replace").replace("\r\n", "\n")
    lines = [next((part for part in reversed(line.split("\r")) if part.strip()), "") for line in text.split("\n")]
    lines = [_ESCAPES.sub("", line).rstrip() for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _end(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            data = file.read(TAIL_BYTES)
            return data if size <= TAIL_BYTES else data.partition(b"\n")[2]
    except OSError:
        return b""


class Follower:
    """The lines that come in after the last look, whole ones only; what is rotated away meanwhile is still read."""

    def __init__(self, path: Path):
        self.path, self._file, self._rest = path, None, b""

    def lines(self) -> list[str]:
        """New whole lines since the last call, at most the last TAIL_BYTES of them."""
        data = self._read()
        if self._file is not None and self._replaced():
            self._file.close()
            self._file = None
            data += self._read()
        data = (self._rest + data)[-TAIL_BYTES:]
        whole, _, self._rest = data.rpartition(b"\n")
        return [line for line in plain(whole) if line]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self) -> bytes:
        try:
            if self._file is None:
                self._file = open(self.path, "rb")
            left = os.fstat(self._file.fileno()).st_size - self._file.tell()
            if left < 0:  # begun anew in its place
                left = self._file.seek(0)
            elif left > TAIL_BYTES:
                self._file.seek(-TAIL_BYTES, os.SEEK_END)
            return self._file.read()
        except OSError:
            return b""

    def _replaced(self) -> bool:
        try:
            there, mine = os.stat(self.path), os.fstat(self._file.fileno())
        except OSError:
            return False
        return (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)
