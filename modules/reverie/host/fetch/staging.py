"""What a download leaves in its folder, and when it may be carried on.

    KEY.part         the bytes, with holes
    KEY.part.aria2   which of them are there (see pieces.py)
    KEY.part.json    of what they are: size, ETag, Last-Modified; and of the start of the machine that they began in
    KEY.whole        the file, checked
    KEY.lock         held while somebody fetches it, also by the aria2c that a killed run left behind for a second
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from reverie.host.fetch.pieces import Pieces


@dataclass(frozen=True)
class Identity:
    """By what two answers are known to give the same bytes. `ranges`: whether the server can carry on in the middle."""

    size: int
    etag: str = ""
    modified: str = ""
    ranges: bool = True

    @property
    def validator(self) -> str:
        return self.etag or self.modified


class Staging:
    """The files of one download. `sha256` is the expected sum, "" where nothing tells it."""

    def __init__(self, folder: Path, key: str, sha256: str = ""):
        self.part = folder / f"{key}.part"
        self.control = folder / f"{key}.part.aria2"
        self.about = folder / f"{key}.part.json"
        self.whole = folder / f"{key}.whole"
        self.lock = Lock(folder / f"{key}.lock")
        self.sha256 = sha256
        self._now: Identity | None = None  # what this run found, for servers that tell nothing to know it by

    def resume(self, identity: Identity) -> Pieces:
        """What is already there of this very content. Everything else is thrown away."""
        pieces = self._kept(identity)
        if pieces:
            with suppress(OSError):  # on a full disk the record that is there stays: it claims less
                self.save(pieces)
        else:
            pieces = self._anew(identity)
        self._now = identity
        return pieces

    def bytes_there(self) -> int:
        """Bytes that a later run need not fetch again, as far as can be told without asking the server."""
        with suppress(OSError):
            return self.whole.stat().st_size
        about = self._about()
        pieces = self._pieces(about) if about and about.ranges else None
        return pieces.done_bytes if pieces else 0

    def allocated_bytes(self) -> int:
        """What the part takes on the disk; its holes take nothing."""
        with suppress(OSError, AttributeError):
            return self.part.stat().st_blocks * 512
        return 0

    def save(self, pieces: Pieces) -> None:
        temporary = self.control.with_name(self.control.name + ".new")
        temporary.write_bytes(pieces.encode())
        os.replace(temporary, self.control)

    def clear(self) -> None:
        # The bytes go last: a description without bytes is harmless, bytes without a description may look whole.
        for path in (self.about, self.control, *self._temporary(), self.part):
            path.unlink(missing_ok=True)
        self._now = None

    def finish(self) -> None:
        """The bytes are checked: they get their last name here."""
        os.replace(self.part, self.whole)
        for path in (self.control, *self._temporary(), self.about):
            path.unlink(missing_ok=True)

    def _temporary(self) -> list[Path]:
        """What a kill in the middle of a save leaves: ours, aria2's."""
        return [self.control.with_name(self.control.name + end) for end in (".new", "__temp")]

    def _kept(self, identity: Identity) -> Pieces | None:
        if not identity.ranges or not self._same(self._about(), identity):
            return None
        return self._pieces(identity)

    def _same(self, before: Identity | None, now: Identity) -> bool:
        """With a known sum the size is enough: the sum judges the whole file in the end, and the mirrors behind one address
        may each have an ETag of their own. Without one, no validator means that nobody can say, except within one run."""
        if before is None or before.size != now.size or not before.ranges:
            return False
        return bool(self.sha256) or before == self._now == now or bool(now.validator) and before.validator == now.validator

    def _pieces(self, identity: Identity) -> Pieces | None:
        try:
            stat = self.part.stat()
        except OSError:
            return None
        if not self.control.exists():
            return self._finished_by_aria2(stat, identity.size)
        pieces = Pieces.read(self.control)
        if pieces is None or pieces.size != identity.size:
            return None
        pieces.cut_at(stat.st_size)
        if self._boot() == _this_boot() != "":
            pieces.mark_written(self.part)
        return pieces

    def _finished_by_aria2(self, stat: os.stat_result, size: int) -> Pieces | None:
        """aria2 takes its control file away when the last byte is written, and there is one from before the first byte on."""
        if stat.st_size != size or getattr(stat, "st_blocks", size) * 512 < size:
            return None
        pieces = Pieces(size)
        pieces.mark(0, size)
        return pieces

    def _anew(self, identity: Identity) -> Pieces:
        self.clear()
        pieces = Pieces(max(identity.size, 0))
        self.save(pieces)
        self.part.touch()
        self.about.write_text(json.dumps({**asdict(identity), "boot": _this_boot()}), "utf-8")
        return pieces

    def _about(self) -> Identity | None:
        try:
            said = json.loads(self.about.read_text("utf-8"))
            return Identity(said["size"], said["etag"], said["modified"], said["ranges"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _boot(self) -> str:
        with suppress(OSError, ValueError, AttributeError):
            return str(json.loads(self.about.read_text("utf-8")).get("boot", ""))
        return ""


def _this_boot() -> str:
    """The name of this start of the machine, "" where it has none. Within it, what one write put into a file is there before what a
    later one put there; a machine that loses its power may keep the later one alone."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


class Lock:
    """One process at a time. The lock belongs to the open file (`fd`): a child that inherits it holds it too, until it ends."""

    def __init__(self, path: Path):
        self.path = path
        self.fd = -1

    def take(self) -> bool:
        """Whether it is ours now; it does not wait."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(fd)
            if os.path.samestat(os.fstat(fd), os.stat(self.path)):  # else its last holder took the file away meanwhile
                self.fd = fd
        except OSError:
            pass
        if self.fd != fd:
            os.close(fd)
        return self.fd == fd

    def release(self) -> None:
        if self.fd >= 0:
            with suppress(OSError):
                self.path.unlink()  # Windows does not, while it is open
            os.close(self.fd)
            self.fd = -1


def _lock(fd: int) -> None:
    """BlockingIOError or PermissionError where another has it. A file system that knows no locks gives none: then all goes on without."""
    try:
        if os.name == "nt":
            import msvcrt

            return msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        import fcntl

        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if isinstance(error, (BlockingIOError, PermissionError)):
            raise
