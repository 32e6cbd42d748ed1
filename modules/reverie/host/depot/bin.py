"""The bin: what the cleaner takes away lies here until the bin is emptied, with where it was and why it went.

`storage/bin/<id>/record.json` is written first, then each thing is moved beside it as `0`, `1`, …: killed at any moment,
everything is either still at its place or in the bin with its record.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Callable

from reverie import media
from reverie.errors import BadInput, NotFound, StoreFailed
from reverie.host.depot import linking

RECORD = "record.json"
STALE_S = 3600
GONE = ".gone"  # ends the name of an entry that is being deleted for good


@dataclass(frozen=True)
class Entry:
    """What went into the bin in one go: `origins` are the places it had, `bytes` what it takes on the disk."""

    id: str
    why: str
    at: float
    origins: list[str]
    bytes: int = 0
    links: dict[str, str] = field(default_factory=dict)  # origin → what it named, of symbolic links


def new_id() -> str:
    """Sorts by time."""
    now = time.time_ns()
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now // 10**9))}{now // 10**6 % 1000:03d}-{secrets.token_hex(3)}"


class Bin:
    def __init__(self, storage: Path):
        self.storage = Path(os.path.abspath(storage))
        self.folder = self.storage / "bin"

    def put(self, paths: list[Path], why: str) -> Entry:
        """Move these, files or folders, into the bin; what is not there is left out. NotFound if nothing is, DiskFull, StoreFailed."""
        there = [Path(os.path.abspath(path)) for path in paths if os.path.lexists(path)]
        self._check(there, paths)
        links = {str(path): linking.points_to(path) for path in there if path.is_symlink()}
        entry = Entry(new_id(), why, time.time(), [str(path) for path in there], sum(map(size_of, there)), links)
        home = self.folder / entry.id
        with media.writing(home):
            home.mkdir(parents=True)
            media.write_text(home / RECORD, json.dumps(asdict(entry), indent=1))
            linking.sync_folder(self.folder)
            try:
                for number, path in enumerate(there):
                    with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                        linking.move(path, home / str(number), contested=False)
            finally:
                self._drop_if_empty(home)
        return entry

    def _check(self, there: list[Path], asked: list[Path]) -> None:
        if not there:
            raise NotFound(f"{asked[0] if asked else 'Nothing'} is not there any more.", "Look again.")
        for path in there:
            if self.folder in (path, *path.parents):
                raise BadInput(f"{path} is in the bin already.", "Empty the bin to be rid of it: reverie storage empty")
            if path in (self.storage, *self.storage.parents):
                raise BadInput(f"{path} holds the storage itself.", "Name something inside it.")

    def list(self) -> list[Entry]:
        """Oldest first; only what really lies there."""
        homes = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        return [entry for home in homes if not home.name.endswith(GONE) and self._things(home) and (entry := self._read(home))]

    def restore(self, entry_id: str) -> list[Path]:
        """Put everything of this entry back where it was. BadInput, and nothing is moved, where something has a place by now."""
        entry = self.get(entry_id)
        home = self.folder / entry.id
        moves = [(home / str(number), Path(origin)) for number, origin in enumerate(entry.origins) if os.path.lexists(home / str(number))]
        for thing, origin in moves:
            if os.path.lexists(origin) and not _same(thing, origin):
                raise BadInput(f"Something else is at {origin} by now.", "Move that away, then undo again.")
        for thing, origin in moves:
            with media.writing(origin):
                origin.parent.mkdir(parents=True, exist_ok=True)
                try:
                    thing.unlink() if _same(thing, origin) else linking.move(thing, origin)
                except FileExistsError:
                    raise BadInput(f"Something else is at {origin} by now.", "Move that away, then undo again.") from None
        self._drop_if_empty(home)
        return [origin for _, origin in moves]

    def get(self, entry_id: str) -> Entry:
        """The entry with this id, or with an id that begins so."""
        found = [entry for entry in self.list() if entry.id == entry_id] or [e for e in self.list() if entry_id and e.id.startswith(entry_id)]
        if len(found) != 1:
            what = f"There is no '{entry_id}' in the bin." if not found else f"'{entry_id}' fits {len(found)} entries of the bin."
            raise NotFound(what, "See: reverie storage bin")
        return found[0]

    def empty(self, ids: list[str] | None = None, on_entry: Callable[[Entry], None] = lambda entry: None) -> int:
        """Delete these entries for good, all by default; the bytes given back. What a killed run left of this goes too."""
        freed = 0
        for entry in [self.get(entry_id) for entry_id in ids] if ids is not None else self.list():
            on_entry(entry)
            freed += size_of(self.folder / entry.id)
            with media.writing(self.folder / entry.id):
                os.rename(self.folder / entry.id, self.folder / f"{entry.id}{GONE}")
        for home in self.folder.glob(f"*{GONE}"):
            _delete(home)
        for home in self.folder.iterdir() if ids is None and self.folder.is_dir() else ():
            if time.time() - home.stat().st_mtime > STALE_S:  # a younger one may be somebody's who moves things into it right now
                self._drop_if_empty(home)
        return freed

    def bytes(self) -> int:
        return size_of(self.folder) if self.folder.is_dir() else 0

    def _things(self, home: Path) -> list[Path]:
        with contextlib.suppress(OSError):
            return [path for path in home.iterdir() if path.name.isdigit()]
        return []

    def _read(self, home: Path) -> Entry | None:
        """None where the record cannot be read: such a folder is left alone, and nobody is told what it is not."""
        try:
            return Entry(**json.loads((home / RECORD).read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _drop_if_empty(self, home: Path) -> None:
        """Take away an entry in which nothing is left; what somebody else put beside the record keeps it."""
        if home.name.endswith(GONE) or not home.is_dir() or any(path.name != RECORD for path in home.iterdir()):
            return
        with contextlib.suppress(OSError):
            (home / RECORD).unlink(missing_ok=True)
            home.rmdir()


def size_of(path: Path) -> int:
    """Bytes that a file or a folder takes on the disk; a hard link is counted once, a symbolic link for itself."""
    total, seen, todo = 0, set(), [path]
    while todo:
        at = todo.pop()
        with contextlib.suppress(OSError):
            stat = os.lstat(at)
            if (stat.st_dev, stat.st_ino) not in seen:
                seen.add((stat.st_dev, stat.st_ino))
                total += linking.blocks(stat)
            if at.is_dir() and not at.is_symlink():
                todo += at.iterdir()
    return total


def _same(one: Path, other: Path) -> bool:
    """Whether both are names of one file, as a move leaves it that was killed between giving the new name and taking the old."""
    first, second = linking.lstat(one), linking.lstat(other)
    return linking.is_regular(first) and second is not None and linking.identity(first) == linking.identity(second)


def _delete(home: Path) -> None:
    def unlock(function, path, _):
        """A folder without the right to write keeps its files: give it to ourselves, once."""
        try:
            os.chmod(os.path.dirname(path), 0o700)
            os.chmod(path, 0o700)
            function(path)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise StoreFailed(f"{path} could not be deleted ({error.strerror}).", "Close what uses it, then empty the bin again.") from error

    shutil.rmtree(home, onerror=unlock)
