"""The same bytes once: which files are equal, and a link in place of each but one.

Size first, then a sample of five pieces, then the SHA-256 of what is still alike. Each file is replaced in one step by a link
that was made beside it, after a last look whether it is still the file that was read: killed at any moment, every path still
shows its bytes. Files that are being written, that cannot be read, or that lie where no links are to be had stay as they are.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterable

from reverie.errors import NotFound, ReverieError
from reverie.host.depot import digests, linking
from reverie.host.depot.bin import new_id
from reverie.host.depot.git_files import GitFiles
from reverie.host.depot import MODEL_ENDS, NO_MODELS, Change, Depot, Report, kind_of

MIN_BYTES = 64 << 10
SETTLE_S = 5  # a file that changed within these seconds is taken to be in the making
BATCH = 200
_UNFINISHED = (".aria2", ".part", ".crdownload", ".tmp")

OnProgress = Callable[[str, int, int], None]  # what is being done, bytes done, bytes in all


@dataclass(frozen=True)
class Place:
    """A folder with models of one kind ("" where it holds several), as part of a view."""

    folder: Path
    kind: str = ""
    view: str = ""


@dataclass(frozen=True)
class Name:
    """One path of a file, and what it is kept as."""

    path: Path
    place: Place


@dataclass
class Found:
    """One file on the disk, however many hard links of it were found."""

    stat: os.stat_result
    names: list[Name] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.names[0].path


def dedup(depot: Depot, folders: Iterable[Path | Place], **how: Any) -> Report:
    """Store what is the same in these folders, and in the depot, once. `dry_run`, `on_progress`, `cancelled`, `min_bytes`."""
    return _Run(depot, [folder if isinstance(folder, Place) else Place(Path(folder)) for folder in folders], "dedup", False, **how).go()


def adopt(depot: Depot, folder: Path, kind: str, view: str, **how: Any) -> Report:
    """Take every model of this folder into the depot: it is kept, a link is in its place, and what is there already is stored once.

    NotFound if there is no such folder. The same options as `dedup`.
    """
    if not Path(folder).is_dir():
        raise NotFound(f"There is no folder {folder}.", "Name a folder with models.")
    return _Run(depot, [Place(Path(folder), kind, view)], "adopt", True, **how).go()


class _Run:
    def __init__(
        self, depot: Depot, places: list[Place], action: str, everything: bool, dry_run: bool = False, on_progress: OnProgress = lambda *_: None,
        cancelled: Callable[[], bool] = lambda: False, min_bytes: int = MIN_BYTES, surely: bool = True,
    ):
        self.depot, self.places, self.everything, self.surely = depot, places, everything, surely
        self.on_progress, self.cancelled, self.min_bytes = on_progress, cancelled, min_bytes
        self.report = Report(action, dry_run, new_id())
        self._hashed: list[tuple] = []
        self._git = GitFiles()

    def go(self) -> Report:
        started = time.monotonic()
        classes = self._classes()
        todo = [(sha256, members) for sha256, members in classes.items() if not self.cancelled()]
        for start in range(0, len(todo), BATCH):
            self._apply(todo[start : start + BATCH])
        self.report.seconds = time.monotonic() - started
        return self.report

    # ------------------------------------------------------------------------------------------------ which are equal

    def _classes(self) -> dict[str, list[Found]]:
        """SHA-256 → the files that have it: all of them for `everything`, else those that are there more than once."""
        found = self._walk()
        blobs = self._blobs({one.stat.st_size for one in found})
        alike = self._alike(found, blobs)
        hashes = self._hash(alike) if self.surely else []
        classes: dict[str, list[Found]] = defaultdict(list)
        for one, sha256 in hashes:
            classes[sha256].append(one)
        stored = {path.name for paths in blobs.values() for path in paths}
        return {sha256: files for sha256, files in sorted(classes.items(), key=lambda pair: pair[1][0].path) if self.everything or len(files) > 1 or sha256 in stored}

    def _walk(self) -> list[Found]:
        files: dict[str, Found] = {}
        for place in self.places:
            for path in self._files(place.folder):
                try:
                    stat = os.lstat(path)
                except OSError as error:
                    self._skip(path, error.strerror or str(error))
                    continue
                if not linking.is_regular(stat) or stat.st_size < self.min_bytes or self._git.has(path):
                    continue
                one = files.setdefault(linking.identity(stat), Found(stat))
                if all(name.path != path for name in one.names):
                    one.names.append(Name(path, place))
        hard = {str(link.path) for link in self.depot.links() if link.way == "hardlink"}
        for one in files.values():
            one.names = [name for name in one.names if str(name.path) not in hard]  # done already, as far as this file system can
        return [one for one in files.values() if one.names and self._is_settled(one)]

    def _files(self, top: Path) -> Iterable[Path]:
        for folder, below, names in os.walk(os.path.abspath(top), onerror=lambda error: self._skip(Path(error.filename), error.strerror or "")):
            below[:] = sorted(name for name in below if name not in NO_MODELS)
            there = set(names)
            for name in sorted(names):
                if os.path.splitext(name)[1].lower() in MODEL_ENDS:
                    if any(name + end in there for end in _UNFINISHED):
                        self._skip(Path(folder, name), "its download is not finished")
                    elif not _is_text(folder + name):
                        self._skip(Path(ascii(os.path.join(folder, name))), "its name is not UTF-8")
                    else:
                        yield Path(folder, name)

    def _is_settled(self, one: Found) -> bool:
        if abs(time.time() - one.stat.st_mtime) < SETTLE_S:
            self._skip(one.path, "it changed just now")
            return False
        return True

    def _blobs(self, sizes: set[int]) -> dict[int, list[Path]]:
        blobs: dict[int, list[Path]] = defaultdict(list)
        for blob in self.depot.stored():
            if (size := blob.stat().st_size) in sizes:
                blobs[size].append(blob)
        return blobs

    def _alike(self, found: list[Found], blobs: dict[int, list[Path]]) -> list[list[Found | Path]]:
        """Files and blobs that may be equal, by size and sample; for `everything` also those that are alone."""
        sizes: dict[int, list[Found | Path]] = defaultdict(list)
        for one in found:
            sizes[one.stat.st_size].append(one)
        for size, paths in blobs.items():
            sizes[size] += paths
        groups = [(size, group) for size, group in sizes.items() if len(group) > 1 or self.everything]
        samples: dict[tuple, list[Found | Path]] = defaultdict(list)
        alone = [group for _, group in groups if len(group) == 1]
        asked = [(one, size) for size, group in groups if len(group) > 1 for one in group]
        for (one, size), sample in digests.each(lambda pair: digests.sample_of(_path(pair[0]), pair[1]), asked, self._threads(asked), self.cancelled):
            if isinstance(sample, OSError):
                self._skip(_path(one), f"it cannot be read ({sample.strerror})")
            else:
                samples[size, sample].append(one)
        alike = list(samples.values()) + alone
        return [group for group in alike if self.everything or len(group) > 1 and any(isinstance(one, Found) for one in group)]

    def _threads(self, things: list) -> int:
        return min((digests.threads_for(place.folder) for place in self.places if place.folder.exists()), default=1) if things else 1

    def _hash(self, alike: list[list[Found | Path]]) -> list[tuple[Found, str]]:
        """The files with their SHA-256. Blobs are read too where something wrote to them since: they must be what their name says."""
        known, groups = [], []
        for group in alike:
            answers = [(one, os.stat(_path(one)) if isinstance(one, Path) else one.stat) for one in group]
            told = [(one, self.depot.known_hash(_path(one), stat)) for one, stat in answers]
            known += [(one, sha256) for one, sha256 in told if sha256 and isinstance(one, Found)]
            if unknown := [pair for pair, (_, sha256) in zip(answers, told) if not sha256]:
                groups.append(unknown)
        total, done = sum(stat.st_size for group in groups for _, stat in group), 0

        def count(number: int) -> None:
            nonlocal done
            done += number
            self.on_progress("reading", min(done, total), total)

        read = lambda group: digests.sha256_of_all([_path(one) for one, _ in group], count, self.cancelled)  # noqa: E731
        groups.sort(key=lambda group: -group[0][1].st_size * len(group))
        for group, found in digests.each(read, groups, self._threads(groups), self.cancelled):
            for one, stat in group:
                answer = found.get(_path(one))
                if isinstance(answer, OSError):
                    self._skip(_path(one), "it is being written" if isinstance(answer, digests.StillWritten) else f"it cannot be read ({answer.strerror})")
                elif answer:
                    self._hashed.append((_path(one), stat, answer))
                    known += [(one, answer)] if isinstance(one, Found) else []
            if len(self._hashed) >= BATCH:
                self._remember()
        self._remember()
        self.report.read_bytes = done
        return known

    def _remember(self) -> None:
        settled = time.time_ns() - 2 * 10**9
        self.depot.remember_all([row for row in self._hashed if row[1].st_mtime_ns < settled])
        self._hashed = []

    # ----------------------------------------------------------------------------------------------- a link for each

    def _apply(self, classes: list[tuple[str, list[Found]]]) -> None:
        """Bytes into the depot, rows of the links into the manifest, then the links."""
        kept: list[tuple[str, Found, bool]] = []
        for sha256, files in classes:
            with self._noting(files[0].path):
                keeper = self._keeper(sha256, files)
                kept += [(sha256, one, one is keeper) for one in files]
        if not self.report.dry_run:
            statements = [self.depot.link_statement(name.path, sha256, "symlink", self._view(name), None, self.report.run, one.stat) for sha256, one, _ in kept for name in one.names]
            with self.depot.manifest.change() as db:
                for statement in statements:
                    db.execute(*statement)
        for number, (sha256, one, is_keeper) in enumerate(kept):
            self.on_progress("linking", number, len(kept))
            if self.cancelled():
                break
            self._replace_all(sha256, one, is_keeper)

    def _keeper(self, sha256: str, files: list[Found]) -> Found | None:
        """The file that becomes the blob: itself where it lies on the storage's disk, else a copy. None if the blob is there."""
        blob = self.depot.blob(sha256)
        if blob.is_file() and self.depot.hash_of(blob) == sha256:
            self._keep_names(sha256, files)
            same = linking.identity(blob.stat())  # a run that was killed had made the file its own blob
            return next((one for one in files if linking.identity(one.stat) == same), None)
        home = os.stat(self.depot.storage).st_dev
        keeper = next((one for one in files if one.stat.st_dev == home), None)
        if not self.report.dry_run:
            one = keeper or files[0]
            if not _is_still(one.path, one.stat):
                raise OSError(0, "it changed meanwhile")
            blob.parent.mkdir(parents=True, exist_ok=True)
            blob = self.depot.clear_unsound(sha256)
            linked = keeper is not None and _linked(keeper.path, blob)
            if not linked:
                linking.copy(one.path, blob)
                keeper = None
            linking.sync_folder(blob.parent)
            self.depot.remember_all([(blob, blob.stat(), sha256)])
            self._keep_names(sha256, files)
        if keeper is None:
            self.report.freed_bytes -= linking.blocks(files[0].stat)
        return keeper

    def _keep_names(self, sha256: str, files: list[Found]) -> None:
        if self.report.dry_run:
            return
        blob = self.depot.blob(sha256)
        for name in (name for one in files for name in one.names):
            kind = name.place.kind or kind_of(name.path, self.depot.storage / "models")
            base = name.place.folder if name.place.kind else self.depot.storage / "models" / _folder_of(kind)
            if kind and not self.depot.find(sha256=sha256, kind=kind):
                label = Path(os.path.relpath(name.path, os.path.abspath(base))).as_posix()
                self.depot.note(blob, {"kind": kind, "name": label, "url": "", "about": {}, "kept_at": time.time()})

    def _replace_all(self, sha256: str, one: Found, is_keeper: bool) -> None:
        """Links in place of all names of one file; its room is given back when nothing else has it."""
        left = [name for name in one.names if not self._replace(sha256, name, one)]
        whole = not left and one.stat.st_nlink == len(one.names)
        freed = 0 if is_keeper or not whole else linking.blocks(one.stat)
        self.report.freed_bytes += freed
        if not is_keeper and not whole and not left:
            self._skip(one.path, "it has other hard links elsewhere, so its link gives no room back")
        for name in one.names:
            if name not in left:
                what = "kept" if is_keeper else "linked"
                self.report.changes.append(Change(name.path, what, freed if name is one.names[-1] else 0, sha256))

    def _replace(self, sha256: str, name: Name, one: Found) -> bool:
        if self.report.dry_run:
            return True
        blob, at = self.depot.blob(sha256), name.path
        with self._noting(at):
            if not _is_still(at, one.stat):
                raise OSError(0, "it changed meanwhile")
            if digests.is_open_for_writing(at):
                raise OSError(0, "some program has it open for writing")
            try:
                linking.replace("symlink", blob, at, self.depot.storage)
            except (OSError, NotImplementedError):
                self.depot.write_link_row(at, sha256, "hardlink", self._view(name), blob.stat(), self.report.run, one.stat)
                linking.replace("hardlink", blob, at, self.depot.storage)
            return True
        if os.path.basename(linking.points_to(at)) != sha256:  # else another dedup was faster, and the row is right
            self.depot.drop_link_row(at)
        return False

    def _view(self, name: Name) -> str:
        """A WebUI's folder in the storage names its view itself."""
        webuis = self.depot.storage / "webuis"
        inside = webuis in name.path.parents
        return name.place.view or (name.path.relative_to(webuis).parts[0] if inside else "models")

    @contextlib.contextmanager
    def _noting(self, path: Path):
        """What the system, or we, have against one file is noted, and the others go on."""
        try:
            yield
        except (OSError, ReverieError) as error:
            self._skip(path, getattr(error, "strerror", "") or str(error))

    def _skip(self, path: Path, why: str) -> None:
        self.report.skipped.append((path, why))


def likely(depot: Depot, places: list[Place], **how: Any) -> list[list[Path]]:
    """Groups of files that are probably equal, told by size and samples only: quick, and not sure. Blobs are among them."""
    run = _Run(depot, places, "likely", False, dry_run=True, surely=False, **how)
    found = run._walk()
    groups = run._alike(found, run._blobs({one.stat.st_size for one in found}))
    return [[_path(one) for one in group] for group in groups]


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
        return True
    except UnicodeEncodeError:
        return False


def _path(one: Found | Path) -> Path:
    return one.path if isinstance(one, Found) else one


def _folder_of(kind: str) -> str:
    from reverie.host.resources import FOLDERS

    return FOLDERS.get(kind, "")


def _is_still(path: Path, stat: os.stat_result) -> bool:
    now = linking.lstat(path)
    return now is not None and digests.stamp(now) == digests.stamp(stat)


def _linked(path: Path, blob: Path) -> bool:
    """The file is its own blob from now on. False where the file system has no hard links."""
    try:
        os.link(path, blob)
        return True
    except OSError:
        return False
