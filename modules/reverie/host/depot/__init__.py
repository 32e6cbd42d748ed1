"""The depot: every model's bytes once, under the name of their SHA-256, and links to them wherever they are wanted.

    storage/blobs/ab/<sha256>                 the bytes
    storage/blobs/ab/<sha256>.kept.json       what is known of them (kind, name, address, what the source says), so that
                                              a lost manifest can be told again
    storage/blobs/ab/<sha256>.beside/NAME     what belongs beside the model: `.civitai.info`, `.preview.png`, …
    storage/depot.sqlite3                     what is kept, and which links are ours

What belongs beside a model is copied to each view, never linked: WebUIs write into those files (A1111 keeps the user's notes in
`<stem>.json` and replaces `<stem>.preview.png`), and through a link they would write into everybody's.

Order of steps: bytes, then what is known of them, then the manifest; the manifest's row of a link, then the link. Whoever is
killed in between leaves a blob that the next `keep` finds, or a row without a link, which is no link.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

from reverie import media
from reverie.errors import BadInput, NotFound, StoreFailed
from reverie.host.depot import digests, linking, retelling, sidecars as sidecars_of
from reverie.host.depot.words import BESIDE, HEX, KEPT, MODEL_ENDS, NO_MODELS, Change, Kept, LinkRow, Report, kind_of, plain
from reverie.host.depot.manifest import Manifest

__all__ = ["BESIDE", "KEPT", "MODEL_ENDS", "NO_MODELS", "Change", "Depot", "Kept", "LinkRow", "Report", "kind_of", "plain"]


class Depot:
    def __init__(self, storage: Path):
        self.storage = Path(os.path.abspath(storage))
        self.blobs = self.storage / "blobs"
        media.folder(self.storage)
        self.manifest = Manifest(self.storage / "depot.sqlite3")
        if self.manifest.is_new:
            retelling.tell_again(self)

    def close(self) -> None:
        self.manifest.close()

    def __enter__(self) -> Depot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---------------------------------------------------------------------------------------------------- what is kept

    def blob(self, sha256: str) -> Path:
        """Where these bytes are or would be. BadInput if that is no SHA-256."""
        if not HEX.fullmatch(sha256):
            raise BadInput(f"'{sha256}' is not a SHA-256 (64 letters 0-9 and a-f).", "Use the one that `reverie storage show --json` gives.")
        return self.blobs / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        return bool(sha256) and self.blob(sha256).is_file()

    def keep(
        self, staged: Path, sha256: str, *, kind: str, name: str, url: str = "", about: dict[str, Any] | None = None,
        sidecars: Mapping[str, bytes | Path] | None = None,
    ) -> Path:
        """Move the finished file `staged`, whose SHA-256 was checked, into the depot; the blob. Doing it again changes nothing.

        `sha256` may be "", then it is found out here. `sidecars` belong beside the model: the end of the name after the
        stem (".civitai.info", ".preview.png") → the bytes, or a file with them. NotFound, DiskFull, StoreFailed.
        """
        sha256 = sha256.lower() or digests.sha256_of(staged)
        blob = self.blob(sha256)
        with media.writing(blob):
            self._take_in(staged, blob)
            for end, content in (sidecars or {}).items():
                sidecars_of.put(blob, end, content)
            kept = {"kind": kind, "name": name, "url": url, "about": about or {}, "kept_at": time.time()}
            self.note(blob, kept)
        return blob

    def _take_in(self, staged: Path, blob: Path) -> None:
        if not staged.is_file():
            if not blob.is_file():
                raise NotFound(f"{staged} is not there, so it cannot be kept.", "Fetch it again.")
            return
        if blob.is_file() and self._is_sound(blob):
            if os.path.abspath(staged) != str(blob):
                staged.unlink()
            return
        blob.parent.mkdir(parents=True, exist_ok=True)
        with open(staged, "rb+") as file:
            os.fsync(file.fileno())
        linking.move(staged, self.clear_unsound(blob.name), contested=False)
        linking.sync_folder(blob.parent)

    def clear_unsound(self, sha256: str) -> Path:
        """The blob's place, free. What somebody wrote there through a link goes into the bin: it is no longer what the name says."""
        blob = self.blob(sha256)
        if os.path.lexists(blob):
            from reverie.host.depot.bin import Bin

            Bin(self.storage).put([blob], "its bytes were no longer those of its name when the right ones came")
        return blob

    def _is_sound(self, blob: Path) -> bool:
        """Whether the blob's bytes are those of its name; hashed only when its size or time are not as noted."""
        return self.hash_of(blob) == blob.name

    def hash_of(self, path: Path, on_bytes: Callable[[int], None] = lambda count: None, cancelled: Callable[[], bool] = lambda: False) -> str:
        """SHA-256 of a file; remembered, so that nothing is read twice while size, time and inode stay. "" if cancelled."""
        stat = os.stat(path)
        if known := self.known_hash(path, stat):
            return known
        sha256 = digests.sha256_of(path, on_bytes, cancelled)
        if sha256 and time.time_ns() - stat.st_mtime_ns > 2 * 10**9:  # a file just written may change within the same tick of its clock
            self.remember_all([(path, stat, sha256)])
        return sha256

    def known_hash(self, path: Path, stat: os.stat_result) -> str:
        """The remembered SHA-256 of a file that is still as `stat` says; "" if it is not known."""
        size, mtime_ns, inode = digests.stamp(stat)
        where = "WHERE path=? AND size=? AND mtime_ns=? AND inode=?"
        rows = self.manifest.rows(f"SELECT sha256 FROM hashes {where}", (self._key(path), size, mtime_ns, str(inode)))
        return rows[0]["sha256"] if rows else ""

    def remember_all(self, known: list[tuple[Path, os.stat_result, str]]) -> None:
        with self.manifest.change() as db:
            self._write_hash_rows(db, known)

    def _write_hash_rows(self, db, known: list[tuple[Path, os.stat_result, str]]) -> None:
        rows = [(self._key(path), *digests.stamp(stat)[:2], str(stat.st_ino), sha256) for path, stat, sha256 in known]
        db.executemany("INSERT OR REPLACE INTO hashes VALUES (?,?,?,?,?)", rows)

    def note(self, blob: Path, kept: dict[str, Any]) -> None:
        """Write down what is known: first beside the blob, then in the manifest. The newest says what a name's address is."""
        place = blob.with_name(blob.name + KEPT)
        with self.manifest.change() as db:  # in here nobody else adds a name
            self._write_hash_rows(db, [(blob, blob.stat(), blob.name)])
            known = [old for old in retelling.read_kept(place) if (old["kind"], old["name"]) != (kept["kind"], kept["name"])]
            media.write_text(place, json.dumps([*known, kept], indent=1, default=str))
            self.write_kept_row(db, blob.name, blob.stat().st_size, kept)

    def write_kept_row(self, db, sha256: str, size: int, kept: dict[str, Any]) -> None:
        about = json.dumps(kept["about"], default=str)
        db.execute("INSERT OR REPLACE INTO kept VALUES (?,?,?,?,?,?,?)", (sha256, kept["kind"], kept["name"], size, kept["url"], about, kept["kept_at"]))

    def find(self, url: str = "", sha256: str = "", kind: str = "", name: str = "") -> list[Kept]:
        """What is kept and fits all that is given, the newest first; everything without any."""
        wanted = {"url": url, "sha256": sha256.lower(), "kind": kind, "name": name}
        given = {key: value for key, value in wanted.items() if value}
        where = f"WHERE {' AND '.join(f'{key}=?' for key in given)}" if given else ""
        rows = self.manifest.rows(f"SELECT * FROM kept {where} ORDER BY kept_at DESC, name", tuple(given.values()))
        return [self._kept(row) for row in rows if self.has(row["sha256"])]

    def _kept(self, row) -> Kept:
        about = json.loads(row["about"])
        return Kept(row["sha256"], row["size"], row["kind"], row["name"], self.blob(row["sha256"]), row["url"], about, row["kept_at"])

    # ---------------------------------------------------------------------------------------------------------- links

    def expose(self, sha256: str, at: Path, view: str) -> str:
        """Let the bytes be seen at `at`, for `view` (a WebUI's id, or "models" for our own); the way: symlink, hardlink or copy,
        "there" where it is seen already.

        A file with the same bytes becomes a link (`undo` makes it a file again). BadInput where something else is. What
        belongs beside the model is copied there too, where nothing has that name.
        """
        at, blob = Path(os.path.abspath(at)), self.blob(sha256)
        if not blob.is_file():
            raise NotFound(f"The bytes for {at.name} (SHA-256 {sha256[:12]}…) are not in the depot.", "Fetch them again.")
        with media.writing(at):
            at.parent.mkdir(parents=True, exist_ok=True)
            way = self._link(blob, at, view)
            sidecars_of.expose(blob, at)
        return way

    def _link(self, blob: Path, at: Path, view: str) -> str:
        stat, row = linking.lstat(at), self._link_row(at)
        if stat is None:
            return self._place(blob, at, view, linking.make)
        if row is not None and (self.is_ours(row, exactly=False) or self._is_of_a_killed_run(at, stat)):
            if at.exists() and (row["way"] == "copy" and row["sha256"] == blob.name and self.is_ours(row) or os.path.samefile(at, blob)):
                return "there"
            return self._place(blob, at, view, linking.replace)
        if at.exists() and os.path.samefile(at, blob):
            return "there"
        if linking.is_regular(stat) and stat.st_size == blob.stat().st_size and self.hash_of(at) == blob.name:
            from reverie.host.depot.bin import new_id

            if digests.is_open_for_writing(at) or (now := linking.lstat(at)) is None or digests.stamp(now) != digests.stamp(stat):
                return "there"  # the same bytes, but somebody is at it
            return self._place(blob, at, view, linking.replace, run=new_id(), was=stat)
        raise BadInput(f"There is something else at {at} already.", "Move it away or give it another name, then do this again.")

    def _is_of_a_killed_run(self, at: Path, stat: os.stat_result) -> bool:
        """Whether our hard link or copy of before is there, and its row tells of the next one already: its bytes are in the depot."""
        return linking.is_regular(stat) and self.has(self.hash_of(at))

    def _place(self, blob: Path, at: Path, view: str, put: Callable, run: str = "", was: os.stat_result | None = None) -> str:
        """Make the link by the first way that this file system has; its row comes first."""
        refused, before = None, self._link_row(at)
        for way in linking.WAYS:
            if way == "copy" and run:  # a copy in place of the same bytes gives nothing back
                self.drop_link_row(at)
                return "there"
            try:
                if way == "copy":
                    self._place_copy(blob, at, view, replace=put is linking.replace)
                else:
                    self.write_link_row(at, blob.name, way, view, linking.lstat(blob) if way == "hardlink" else None, run, was)
                    put(way, blob, at, self.storage)
                return way
            except FileExistsError:
                raise BadInput(f"Somebody put something at {at} at this moment.", "Look at it, then do this again.") from None
            except (OSError, NotImplementedError) as error:
                refused = error if isinstance(error, OSError) else OSError(str(error))
        self.drop_link_row(at)
        if before is not None:
            with self.manifest.change() as db:
                db.execute(f"INSERT INTO links VALUES ({','.join('?' * len(before))})", tuple(before))
        raise StoreFailed(f"{at} cannot be made ({refused.strerror}).", "Check who may write to that folder.") from refused

    def _place_copy(self, blob: Path, at: Path, view: str, replace: bool) -> None:
        """The copy is made first and gets its name last: its row says which file it is, so that later ones are not taken for it."""
        part = linking.staging(at)
        try:
            linking.copy(blob, part)
            self.write_link_row(at, blob.name, "copy", view, linking.lstat(part))
            os.replace(part, at) if replace else linking.publish(part, at)
        finally:
            part.unlink(missing_ok=True)

    def write_link_row(self, at: Path, sha256: str, way: str, view: str, file: os.stat_result | None, run: str = "", was: os.stat_result | None = None) -> None:
        with self.manifest.change() as db:
            db.execute(*self.link_statement(at, sha256, way, view, file, run, was))
            if not self.blob(sha256).is_file():  # in here no garbage is collected, so what is there now stays
                raise NotFound(f"The bytes for {at.name} went away at this moment.", "Do it again.")

    def link_statement(self, at, sha256, way, view, file=None, run="", was=None) -> tuple[str, tuple]:
        known = linking.identity(file) if file else ""
        stamp = f"{file.st_size}:{file.st_mtime_ns}" if file else ""
        mode, mtime_ns = (was.st_mode & 0o7777, was.st_mtime_ns) if was else (0, 0)
        return "INSERT OR REPLACE INTO links VALUES (?,?,?,?,?,?,?,?,?,?)", (self._key(at), sha256, way, view, known, stamp, time.time(), run, mode, mtime_ns)

    def drop_link_row(self, at: Path) -> None:
        with self.manifest.change() as db:
            db.execute("DELETE FROM links WHERE path=?", (self._key(at),))

    def _link_row(self, at: Path):
        return next(iter(self.manifest.rows("SELECT * FROM links WHERE path=?", (self._key(at),))), None)

    def is_ours(self, row, exactly: bool = True) -> bool:
        """Whether what is at the row's place now is what we made, and not what somebody put there since. Not `exactly`: a link to
        other bytes of the depot is ours too, as whoever is killed between a new row and its link leaves it."""
        at, blob = self._path(row["path"]), self.blob(row["sha256"])
        stat = linking.lstat(at)
        if stat is None:
            return False
        if row["way"] == "symlink":
            said = linking.points_to(at)
            if not said or exactly and os.path.basename(said) != blob.name or not HEX.fullmatch(os.path.basename(said)):
                return False
            return os.path.realpath(os.path.dirname(os.path.dirname(said))) == os.path.realpath(self.blobs)
        if not linking.is_regular(stat) or linking.identity(stat) != row["identity"]:
            return False
        return row["way"] == "hardlink" or f"{stat.st_size}:{stat.st_mtime_ns}" == row["stamp"]

    def withdraw(self, at: Path) -> bool:
        """Take our link away; False, and nothing is touched, where there is none of ours. The bytes stay in the depot."""
        at = Path(os.path.abspath(at))
        row = self._link_row(at)
        if row is None:
            return False
        ours = self.is_ours(row, exactly=False)
        if ours:
            with media.writing(at):
                at.unlink(missing_ok=True)
                sidecars_of.withdraw(self.blob(row["sha256"]), at)
        self.drop_link_row(at)
        return ours

    def links(self, view: str = "") -> list[LinkRow]:
        """The links that we made and that are still ours, of one view or of all."""
        rows = self.manifest.rows("SELECT * FROM links" + (" WHERE view=?" if view else "") + " ORDER BY path", (view,) if view else ())
        return [LinkRow(self._path(row["path"]), row["sha256"], row["way"], row["view"], row["run"]) for row in rows if self.is_ours(row)]

    def linked_at(self, at: Path) -> str:
        """The SHA-256 of what our link at `at` shows; "" where there is none of ours."""
        row = self._link_row(Path(os.path.abspath(at)))
        return row["sha256"] if row is not None and self.is_ours(row) else ""

    # ------------------------------------------------------------------------------------------------- the larger jobs

    def adopt(self, folder: Path, kind: str, view: str, **how: Any) -> Report:
        """Take the models of a folder into the depot and leave links in their places: see `dedup.adopt`."""
        from reverie.host.depot import dedup

        return dedup.adopt(self, Path(folder), kind, view, **how)

    def dedup(self, folders: list, **how: Any) -> Report:
        """Store what is the same in these folders, and in the depot, once: see `dedup.dedup`."""
        from reverie.host.depot import dedup

        return dedup.dedup(self, folders, **how)

    def undo(self, run: str = "", **how: Any) -> Report:
        """Turn the links of a dedup (the last one by default) back into files: see `upkeep.undo`."""
        from reverie.host.depot import upkeep

        return upkeep.undo(self, run, **how)

    def gc(self, dry_run: bool = False, **how: Any) -> Report:
        """Put what nothing reaches into the bin: see `upkeep.gc`."""
        from reverie.host.depot import upkeep

        return upkeep.gc(self, dry_run, **how)

    def verify(self, **how: Any) -> list:
        """What is not as it should be: see `upkeep.verify`."""
        from reverie.host.depot import upkeep

        return upkeep.verify(self, **how)

    def stored(self) -> Iterator[Path]:
        """Every blob that lies there."""
        for folder in sorted(self.blobs.iterdir()) if self.blobs.is_dir() else ():
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if HEX.fullmatch(path.name) and path.is_file():
                    yield path

    # --------------------------------------------------------------------------------------------------------- places

    def _key(self, path: Path) -> str:
        """How the manifest names a place: inside the storage from there on, so that the storage can move."""
        path = os.path.abspath(path)
        if any("\udc80" <= letter <= "\udcff" for letter in path):  # bytes that are no UTF-8 come as these; SQLite takes none of them
            raise BadInput(f"{ascii(path)} has a name that is not UTF-8.", "Give it another name.")
        inside = path.startswith(str(self.storage) + os.sep)
        return os.path.relpath(path, self.storage).replace(os.sep, "/") if inside else path

    def _path(self, key: str) -> Path:
        return self.storage / key  # an absolute key stays what it is
