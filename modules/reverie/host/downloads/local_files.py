"""A file of this machine into staging: copied and hashed in one pass, told of as a download is. Begun anew after a kill."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from pathlib import Path
from typing import Callable
from urllib.parse import urlsplit
from urllib.request import url2pathname

from reverie.errors import DiskFull, FetchFailed, Interrupted
from reverie.host.fetch import Fetched, Progress
from reverie.host.resources import Address

PIECE_BYTES, TELL_EVERY_S = 8 << 20, 0.25


def copy(address: Address, key: str, title: str, folder: Path, tell: Callable[[Progress], None], cancelled: Callable[[], bool]) -> Fetched:
    """`folder/<key>.whole` with the bytes of a file:// address. FetchFailed, DiskFull, Interrupted."""
    source, part = Path(url2pathname(urlsplit(address.url).path)), folder / f"{key}.part"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        digest, size = _pour(source, part, lambda done, whole, speed: tell(Progress(key, title, done, whole, speed, "fetching")), cancelled)
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"The disk became full while {title} was copied.", "Free some space and run it again.") from None
        raise FetchFailed(f"{source} cannot be copied: {error.strerror or error}.", "Look at the file and the disk, and run it again.") from None
    except Interrupted:
        part.unlink(missing_ok=True)
        raise
    os.replace(part, folder / f"{key}.whole")
    tell(Progress(key, title, size, size, 0.0, "done"))
    return Fetched(folder / f"{key}.whole", size, digest)


def _pour(source: Path, part: Path, tell: Callable[[int, int, float], None], cancelled: Callable[[], bool]) -> tuple[str, int]:
    digest, done, started, told = hashlib.sha256(), 0, time.monotonic(), 0.0
    with open(source, "rb") as reader, open(part, "wb") as writer:
        whole = os.fstat(reader.fileno()).st_size
        while piece := reader.read(PIECE_BYTES):
            writer.write(piece)
            digest.update(piece)
            done += len(piece)
            if cancelled():
                raise Interrupted("The copying was stopped.", "The same again begins it anew.")
            if time.monotonic() - told >= TELL_EVERY_S:
                told = time.monotonic()
                tell(done, whole, done / max(told - started, 1e-3))
        writer.flush()
        os.fsync(writer.fileno())
    if done != whole:
        raise OSError(errno.EBUSY, "it changed while it was read")
    return digest.hexdigest(), done
