"""What keeps a depot right over the years: garbage into the bin, a check of every byte, and the way back from a dedup."""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from reverie.errors import NotFound, ReverieError
from reverie.host.depot import digests, linking
from reverie.host.depot.bin import Bin, size_of
from reverie.host.depot import BESIDE, KEPT, Change, Depot, Report
from reverie.host.depot.retelling import symlinks_below

GRACE_S = 24 * 3600  # a download becomes a blob first and gets its links later
PARTIAL_DAYS = 7
LEFTOVER_S = 3600
WHY_UNREACHED = "no link in any WebUI, nor in our own models, leads to it"
WHY_PARTIAL = "a download that nobody went on with for {days} days"

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Problem:
    """What is not as it should be, where, and what to do about it."""

    path: Path
    what: str
    next_step: str


# ------------------------------------------------------------------------------------------------------------- garbage


def reached(depot: Depot) -> dict[str, list[Path]]:
    """SHA-256 → the links that lead to it: ours, those anybody made in our folders or beside ours, those in the bin.

    A row counts for an hour even without its link: it is written first, and the link may be about to come.
    """
    links: dict[str, list[Path]] = defaultdict(list)
    folders = set()
    for row in depot.manifest.rows("SELECT * FROM links"):
        at = depot._path(row["path"])
        if time.time() - row["made_at"] < LEFTOVER_S or depot.is_ours(row):
            links[row["sha256"]].append(at)
        folders.add(at.parent)
    inside = [depot.storage / name for name in ("models", "webuis")]
    outside = [folder for folder in folders if not any(top in (folder, *folder.parents) for top in inside)]
    beside = [path for folder in outside if folder.is_dir() for path in folder.iterdir() if path.is_symlink()]
    home = os.path.realpath(depot.blobs)
    for at in {*symlinks_below(inside), *beside}:
        end = os.path.realpath(at)
        if end.startswith(home + os.sep) and at not in links[os.path.basename(end)]:
            links[os.path.basename(end)].append(at)
    for entry in Bin(depot.storage).list():
        for origin, end in entry.links.items():
            if os.path.realpath(os.path.dirname(end)).startswith(home):
                links[os.path.basename(end)].append(Path(origin))
    return {sha256: places for sha256, places in links.items() if places}


def gc(depot: Depot, dry_run: bool = False, grace_s: float = GRACE_S, partial_days: float = PARTIAL_DAYS) -> Report:
    """Put into the bin what nothing reaches: blobs without any link, and downloads nobody went on with. Nothing is deleted
    but our own leftovers. `freed_bytes` is what emptying the bin will give back."""
    started, report, links = time.monotonic(), Report("gc", dry_run), reached(depot)
    for blob in depot.stored():
        stat = blob.stat()
        if stat.st_nlink > 1:
            links[blob.name] = links.get(blob.name) or [blob]  # a hard link somewhere shows it
        if blob.name in links or time.time() - stat.st_ctime < grace_s:
            continue
        _discard(depot, report, [blob, blob.with_name(blob.name + KEPT), blob.with_name(blob.name + BESIDE)], WHY_UNREACHED, blob.name)
    for paths in _partial(depot.storage / "downloads", partial_days):
        _discard(depot, report, paths, WHY_PARTIAL.format(days=f"{partial_days:g}"))
    if not dry_run:
        _sweep(depot)
    report.seconds = time.monotonic() - started
    return report


def _discard(depot: Depot, report: Report, paths: list[Path], why: str, sha256: str = "") -> None:
    paths = [path for path in paths if os.path.lexists(path)]
    size = sum(map(size_of, paths))
    if not report.dry_run:
        with depot.manifest.change() as db:  # in here nobody makes a link
            rows = db.execute("SELECT * FROM links WHERE sha256=? AND made_at>?", (sha256, time.time() - LEFTOVER_S)).fetchall() if sha256 else []
            if rows:
                report.skipped.append((paths[0], "somebody links to it right now"))
                return
            report.run = Bin(depot.storage).put(paths, why).id
    report.changes.append(Change(paths[0], why, size, sha256))
    report.freed_bytes += size


def discard(depot: Depot, hashes: list[str], dry_run: bool = False) -> Report:
    """Put these blobs into the bin, those that something reaches by now excepted."""
    report, links = Report("gc", dry_run), reached(depot)
    for blob in map(depot.blob, hashes):
        if not blob.is_file():
            report.skipped.append((blob, "it is not there any more"))
        elif blob.name in links or blob.stat().st_nlink > 1:
            report.skipped.append((blob, "something links to it by now"))
        else:
            _discard(depot, report, [blob, blob.with_name(blob.name + KEPT), blob.with_name(blob.name + BESIDE)], WHY_UNREACHED, blob.name)
    return report


def put_away(depot: Depot, paths: list[Path], why: str, dry_run: bool = False) -> Report:
    """Put files or folders into the bin. A blob that something reaches stays, and is named."""
    report, links = Report("bin", dry_run), None
    for path in list(paths):
        if depot.blobs in path.parents and depot.has(path.name):
            links = reached(depot) if links is None else links
            if path.name in links:
                report.skipped.append((path, f"{links[path.name][0]} leads to it"))
                paths = [other for other in paths if other != path]
    there = [path for path in paths if os.path.lexists(path)]
    report.skipped += [(path, "it is not there any more") for path in paths if path not in there]
    if there:
        with _noting(report, there[0]):
            sizes = {path: size_of(path) for path in there}
            report.run = "" if dry_run else Bin(depot.storage).put(there, why).id
            report.changes = [Change(path, why, size) for path, size in sizes.items()]
            report.freed_bytes = sum(sizes.values())
    return report


def _partial(folder: Path, days: float) -> list[list[Path]]:
    """Staging files by download, where the newest of them is older than that."""
    downloads: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        downloads[path.name.split(".")[0] or path.name].append(path)
    oldest = time.time() - days * 86400
    return [paths for paths in downloads.values() if max(path.lstat().st_mtime for path in paths) < oldest]


def _sweep(depot: Depot) -> None:
    """Our own leftovers: staged links of killed runs, notes of blobs that are gone for good, rows about what is not there."""
    old = time.time() - LEFTOVER_S
    places = {depot._path(row["path"]).parent for row in depot.manifest.rows("SELECT path FROM links")} | {depot.blobs / f"{n:02x}" for n in range(256)}
    for folder in places:
        for path in folder.glob(f".*{linking.STAGED}") if folder.is_dir() else ():
            with contextlib.suppress(OSError):
                if path.lstat().st_mtime < old and path.lstat().st_ctime < old:
                    path.unlink()
    binned = {Path(origin).name for entry in Bin(depot.storage).list() for origin in entry.origins}
    with depot.manifest.change() as db:
        for row in db.execute("SELECT * FROM links WHERE made_at<?", (old,)).fetchall():
            if not os.path.lexists(depot._path(row["path"])):
                db.execute("DELETE FROM links WHERE path=?", (row["path"],))
        for row in db.execute("SELECT DISTINCT sha256 FROM kept").fetchall():
            if not depot.has(row["sha256"]) and row["sha256"] not in binned:
                db.execute("DELETE FROM kept WHERE sha256=?", (row["sha256"],))
        for row in db.execute("SELECT path FROM hashes").fetchall():
            if not os.path.lexists(depot._path(row["path"])):
                db.execute("DELETE FROM hashes WHERE path=?", (row["path"],))


# --------------------------------------------------------------------------------------------------------------- check


def verify(depot: Depot, on_progress: OnProgress = lambda *_: None, cancelled: Callable[[], bool] = lambda: False) -> list[Problem]:
    """Read every blob and hold it against its name; look at every link of ours and at unfinished downloads."""
    blobs = list(depot.stored())
    total, done, problems = sum(blob.stat().st_size for blob in blobs), 0, []

    def count(number: int) -> None:
        nonlocal done
        done += number
        on_progress("checking", min(done, total), total)

    read = lambda blob: digests.sha256_of(blob, count, cancelled)  # noqa: E731
    for blob, found in digests.each(read, blobs, digests.threads_for(depot.storage), cancelled):
        if isinstance(found, OSError):
            problems.append(Problem(blob, f"it cannot be read ({found.strerror or found})", "Check the disk, and who may read it."))
        elif found and found != blob.name:
            problems.append(Problem(blob, f"its bytes are not those of its name: their SHA-256 is {found[:12]}…", _fetch_again(depot, blob.name)))
    return problems + _links_amiss(depot) + _unfinished(depot)


def _fetch_again(depot: Depot, sha256: str) -> str:
    kept = next((row for row in depot.manifest.rows("SELECT url, name FROM kept WHERE sha256=? AND url<>''", (sha256,))), None)
    step = f"Fetch it again: reverie fetch '{kept['url']}'." if kept else "Put the right file in its place, or take its links away."
    return f"{step} Something wrote to it through a link, or the disk lost it."


def _links_amiss(depot: Depot) -> list[Problem]:
    problems = []
    for row in depot.manifest.rows("SELECT * FROM links ORDER BY path"):
        at = depot._path(row["path"])
        if not os.path.lexists(at):
            problems.append(Problem(at, "our link is gone", "If it is wanted, fetch it again; else nothing need be done."))
        elif not depot.is_ours(row):
            problems.append(Problem(at, "something else is where our link was", "It is left alone."))
        elif not at.exists():
            problems.append(Problem(at, "our link leads nowhere: its bytes are gone", "Undo what took them (reverie storage bin), or fetch them again."))
    return problems


def _unfinished(depot: Depot) -> list[Problem]:
    folder = depot.storage / "downloads"
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [Problem(path, "a download that is not finished", "Fetch it again to go on, or: reverie storage gc") for path in files]


# ---------------------------------------------------------------------------------------------------------------- undo


def last_run(depot: Depot) -> str:
    """The id of the last dedup or adopt of which links are left; "" if there is none."""
    rows = depot.manifest.rows("SELECT DISTINCT run FROM links WHERE run<>'' ORDER BY run DESC")
    left = {link.run for link in depot.links()} if rows else set()
    return next((row["run"] for row in rows if row["run"] in left), "")


def undo(depot: Depot, run: str = "", dry_run: bool = False, on_progress: OnProgress = lambda *_: None, **_: Any) -> Report:
    """Turn the links of that dedup back into files of their own. Where there is no room for one, it stays a link and is named."""
    run = run or last_run(depot)
    rows = depot.manifest.rows("SELECT * FROM links WHERE run=? ORDER BY path", (run,)) if run else []
    if not rows:
        raise NotFound(f"There is no dedup '{run}' to undo." if run else "There is no dedup to undo.", "See: reverie storage show")
    started, report, links = time.monotonic(), Report("undo", dry_run, run), reached(depot)
    for number, row in enumerate(rows):
        on_progress("undoing", number, len(rows))
        at = depot._path(row["path"])
        if not depot.is_ours(row):
            report.skipped.append((at, "it is no longer our link"))
            continue
        with _noting(report, at):
            others = [place for place in links.get(row["sha256"], []) if place != at and _leads_to(place, depot.blob(row["sha256"]))]
            size = 0 if dry_run else _to_file(depot, row, at, others)
            report.freed_bytes -= size
            report.changes.append(Change(at, "a file of its own again", -size, row["sha256"]))
    report.seconds = time.monotonic() - started
    return report


def _leads_to(place: Path, blob: Path) -> bool:
    """Whether this place shows the blob now; what lies in the bin counts, for it may come back."""
    with contextlib.suppress(OSError):
        return os.path.samefile(place, blob)
    return not os.path.lexists(place)


def _to_file(depot: Depot, row, at: Path, others: list[Path]) -> int:
    """A file in place of our link; the bytes that this took from the disk. The last one gets the blob itself, if we did not fetch it."""
    blob = depot.blob(row["sha256"])
    if not others and blob.stat().st_nlink == 1 and _give_blob(depot, row, blob, at):
        return 0
    part = linking.staging(at)
    try:
        linking.copy(blob, part)
        _as_it_was(part, row)
        os.replace(part, at)
    finally:
        part.unlink(missing_ok=True)
    depot.drop_link_row(at)
    return linking.blocks(at.stat())


def _give_blob(depot: Depot, row, blob: Path, at: Path) -> bool:
    part = linking.staging(at)
    with depot.manifest.change() as db:  # in here nobody makes a link to it
        fetched = db.execute("SELECT 1 FROM kept WHERE sha256=? AND url<>''", (blob.name,)).fetchone()
        linked = db.execute("SELECT 1 FROM links WHERE sha256=? AND run<>? AND made_at>?", (blob.name, row["run"], time.time() - LEFTOVER_S)).fetchone()
        if fetched or linked:
            return False
        try:
            os.link(blob, part)
        except OSError:
            return False  # another disk, or no hard links
        try:
            _as_it_was(part, row)
            os.replace(part, at)
        finally:
            part.unlink(missing_ok=True)
        db.execute("DELETE FROM links WHERE path=?", (row["path"],))
        db.execute("DELETE FROM kept WHERE sha256=?", (blob.name,))
        blob.unlink()
        blob.with_name(blob.name + KEPT).unlink(missing_ok=True)
    return True


def _as_it_was(path: Path, row) -> None:
    with contextlib.suppress(OSError):
        if row["mode"]:
            os.chmod(path, row["mode"])
        if row["mtime_ns"]:
            os.utime(path, ns=(row["mtime_ns"], row["mtime_ns"]))


@contextlib.contextmanager
def _noting(report: Report, path: Path):
    try:
        yield
    except (OSError, ReverieError) as error:
        report.skipped.append((path, getattr(error, "strerror", "") or str(error)))
