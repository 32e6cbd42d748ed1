"""What is in a file, told by its bytes: SHA-256, and a quick sample that tells most different files apart."""

from __future__ import annotations

import hashlib
import os
import sys
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator

PIECE_BYTES = 4 << 20
SAMPLE_BYTES = 16 << 10
MOST_THREADS = 4


class StillWritten(OSError):
    """The file changed while it was read: somebody is writing it."""


def stamp(stat: os.stat_result) -> tuple[int, int, int]:
    """(size, mtime in ns, inode): while these stay, the bytes are taken to be the same."""
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def sha256_of(path: Path, on_bytes: Callable[[int], None] = lambda count: None, cancelled: Callable[[], bool] = lambda: False) -> str:
    """The SHA-256 of the file's bytes, in hex; "" if `cancelled()` became true. StillWritten if it changed meanwhile."""
    digest, buffer = hashlib.sha256(), bytearray(PIECE_BYTES)
    view = memoryview(buffer)
    with open(path, "rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        _read_ahead(file.fileno())
        while count := file.readinto(buffer):
            digest.update(view[:count])  # hashlib lets other threads run meanwhile
            on_bytes(count)
            if cancelled():
                return ""
        if stamp(os.fstat(file.fileno())) != stamp(before):
            raise StillWritten(f"{path} changed while it was read")
    return digest.hexdigest()


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
    import errno
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


def _read_ahead(descriptor: int) -> None:
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
