"""What is in a file, told by its bytes: SHA-256, and a quick sample that tells most different files apart."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sys
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator

PIECE_BYTES = 1 << 20
MOST_OPEN = 32
_ZEROS = bytes(PIECE_BYTES)
SAMPLE_BYTES = 16 << 10
MOST_THREADS = 4

OnBytes = Callable[[int], None]  # so many bytes more were looked at
Cancelled = Callable[[], bool]


class StillWritten(OSError):
    """The file changed while it was read: somebody is writing it."""


def stamp(stat: os.stat_result) -> tuple[int, int, int]:
    """(size, mtime in ns, inode): while these stay, the bytes are taken to be the same."""
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def sha256_of(path: Path, on_bytes: OnBytes = lambda count: None, cancelled: Cancelled = lambda: False) -> str:
    """The SHA-256 of the file's bytes, in hex; "" if `cancelled()` became true. StillWritten if it changed meanwhile."""
    answer = sha256_of_all([path], on_bytes, cancelled).get(path, "")
    if isinstance(answer, OSError):
        raise answer
    return answer


def sha256_of_all(paths: list[Path], on_bytes: OnBytes = lambda count: None, cancelled: Cancelled = lambda: False) -> dict[Path, str | OSError]:
    """Each file's SHA-256 or what was against reading it, of files of one size that are probably equal.

    They are read side by side: the first is hashed, the others are only compared with it, which is several times faster; those
    that differ are read again among themselves. Where all have a hole nothing is read. What was cancelled is left out.
    """
    answers: dict[Path, str | OSError] = {}
    todo = list(paths)
    while todo and not cancelled():
        with contextlib.ExitStack() as stack:
            streams = []
            for path in todo[:MOST_OPEN]:
                try:
                    streams.append(_Stream(path, stack))
                except OSError as error:
                    answers[path] = error
            if streams:
                _hash_alike(streams, answers, on_bytes, cancelled)
        todo = [path for path in todo if path not in answers]
    return answers


class _Stream:
    """One file as it is read, piece by piece."""

    def __init__(self, path: Path, stack: contextlib.ExitStack):
        self.path, self.file, self.buffer = path, stack.enter_context(open(path, "rb", buffering=0)), bytearray(PIECE_BYTES)
        self.stat = os.fstat(self.file.fileno())
        self.has_holes = getattr(self.stat, "st_blocks", 1 << 60) * 512 < self.stat.st_size
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def read(self) -> memoryview:
        """The next piece, whole but for the last: a network drive may give less at a time."""
        count, view = 0, memoryview(self.buffer)
        while count < PIECE_BYTES and (more := self.file.readinto(view[count:])):
            count += more
        return view[:count]

    def data_from(self, position: int) -> int:
        """Where the next byte is that is not in a hole; the file's end if there is none."""
        if not self.has_holes:
            return position
        try:
            found = os.lseek(self.file.fileno(), position, os.SEEK_DATA)
        except OSError as error:
            found = self.stat.st_size if error.errno == errno.ENXIO else position
        os.lseek(self.file.fileno(), position, os.SEEK_SET)
        return found


def _hash_alike(streams: list[_Stream], answers: dict[Path, str | OSError], on_bytes: OnBytes, cancelled: Cancelled) -> None:
    """Hash the first, and give the answer to all that are the same to the end."""
    digest, position, first, others = hashlib.sha256(), 0, streams[0], list(streams[1:])
    try:
        while not cancelled():
            hole = min(stream.data_from(position) for stream in (first, *others)) - position if first.has_holes else 0
            if hole >= PIECE_BYTES:
                count = hole - hole % PIECE_BYTES
                for _ in range(count // PIECE_BYTES):
                    digest.update(_ZEROS)
                for stream in (first, *others):
                    os.lseek(stream.file.fileno(), position + count, os.SEEK_SET)
            else:
                piece = first.read()
                if not (count := len(piece)):
                    break
                others = [stream for stream in others if _is_same(stream, first, count, answers)]
                digest.update(piece)  # hashlib lets other threads run meanwhile
            position += count
            on_bytes(count * (1 + len(others)))
        else:
            return
    except OSError as error:
        answers[first.path] = error
        return
    for stream in (first, *others):
        same = stamp(os.fstat(stream.file.fileno())) == stamp(stream.stat) and stream.stat.st_size == position
        answers[stream.path] = digest.hexdigest() if same else StillWritten(f"{stream.path} changed while it was read")


def _is_same(stream: _Stream, first: _Stream, count: int, answers: dict[Path, str | OSError]) -> bool:
    try:
        found = len(stream.read())
    except OSError as error:
        answers[stream.path] = error
        return False
    if found == count == PIECE_BYTES:
        return stream.buffer == first.buffer
    return found == count and stream.buffer[:count] == first.buffer[:count]


def sample_of(path: Path, size: int) -> bytes:
    """A hash of five short pieces spread over the file. The merges of one family have the same size, the same head and
    often the same tail, so those two alone would not tell them apart."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb", buffering=0) as file:
        for part in range(5):
            file.seek(max(0, size - SAMPLE_BYTES) * part // 4)
            digest.update(file.read(SAMPLE_BYTES))
    return digest.digest()


def each(
    read: Callable[[Any], Any], things: Iterable[Any], threads: int, cancelled: Callable[[], bool] = lambda: False
) -> Iterator[tuple[Any, Any]]:
    """(thing, what `read(thing)` gave or its OSError), as they are done, by that many threads."""
    from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait  # a model into another WebUI needs none of this

    todo = iter(things)
    with ThreadPoolExecutor(threads, thread_name_prefix="reverie-read") as pool:
        running: dict = {}
        while True:
            while len(running) < 2 * threads and not cancelled() and (thing := next(todo, None)) is not None:
                running[pool.submit(read, thing)] = thing
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                thing, error = running.pop(future), future.exception()
                if error is not None and not isinstance(error, OSError):
                    raise error
                yield thing, error if error is not None else future.result()


def threads_for(place: Path) -> int:
    """How many files to read at once: one on a disk that turns (its head would run to and fro), else as many as there are cores."""
    return 1 if turns(place) else max(1, min(MOST_THREADS, os.cpu_count() or 1))


def turns(place: Path) -> bool:
    """Whether Linux says that this place lies on a rotating disk; False where it cannot be told."""
    try:
        device = os.stat(place).st_dev
        folder = Path(os.path.realpath(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"))
        told = next((at / "queue/rotational" for at in (folder, folder.parent) if (at / "queue/rotational").is_file()), None)
        return told is not None and told.read_text().strip() == "1"
    except (OSError, AttributeError):
        return False


def is_open_for_writing(path: Path) -> bool:
    """Whether some process has the file open to write it (Linux: a read lease is refused then); False where it cannot be told."""
    if not sys.platform.startswith("linux"):
        return False
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(descriptor)
