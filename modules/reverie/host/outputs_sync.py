"""Finished outputs are copied to the folder that outlives the session, before the platform ends it: now and then, at the end of
the process, and shortly before the end that the platform has set. Nothing is ever deleted there, and nothing half written.

storage/run/synced.json remembers what was copied, so that the cleaner can tell what may go.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import filecmp
import functools
import json
import logging
import os
import shutil
import signal
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from reverie import media
from reverie.errors import BadInput, ReverieError, StoreFailed
from reverie.host import platform
from reverie.settings import Settings

log = logging.getLogger(__name__)
EVERY_S = 300.0
BEFORE_END_S = (15 * 60, 5 * 60, 60)  # before the platform's own end: the last minutes' pictures count most
SETTLED_S = 3.0  # a file that changed within this time may still be in the making
KEEP_FREE = 256 * 2**20  # bytes left alone at the target
UNFINISHED = (".part", ".tmp", ".partial", ".crdownload", ".aria2", ".lock")
STAGED = ".reverie-part"


@dataclass(frozen=True)
class Report:
    """One pass: files and bytes copied, how many were there already, and for those that could not be copied why."""

    copied: int = 0
    bytes: int = 0
    there: int = 0
    waiting: int = 0  # still being written
    refused: tuple[str, ...] = ()

    def __str__(self) -> str:
        said = f"{self.copied} file{'' if self.copied == 1 else 's'} copied ({self.bytes / 1e6:.1f} MB), {self.there} there already"
        said += f", {self.waiting} still being written" if self.waiting else ""
        more = f" and {len(self.refused) - 3} more" if len(self.refused) > 3 else ""
        return said + (f". Not copied: {'; '.join(self.refused[:3])}{more}." if self.refused else ".")


def target(settings: Settings, where: platform.Platform | None = None) -> Path:
    """The folder that outputs of this platform go to. BadInput where there is none, or it is not mounted, with what to do."""
    where = where or platform.here()
    if not where.persistent:
        raise BadInput(f"{where.name} keeps nothing after the session.", "Save the pictures you want to keep from the notebook.")
    if where.url.startswith("http://localhost"):
        raise BadInput(f"{where.name} is a machine of your own: its outputs stay where they are.", "Nothing needs to be copied.")
    kept = Path(where.persistent).expanduser()
    if where.id == "colab" and not kept.is_dir():
        mount = "Run in a cell: from google.colab import drive; drive.mount('/content/drive')"
        raise BadInput("Google Drive is not mounted, so nothing of this session will be kept.", mount)
    if not kept.is_dir():
        raise BadInput(f"{kept}, which {where.name} keeps, is not there.", "Make it, or mount it.")
    if settings.outputs.resolve().is_relative_to(kept.resolve()):
        raise BadInput(f"The outputs lie in {kept} already, which {where.name} keeps.", "Nothing needs to be copied.")
    return kept / "SD-Reverie" / "outputs"


def sync(settings: Settings, to: Path, extra: dict[str, Path] | None = None, settled_s: float = SETTLED_S) -> Report:
    """Copy what is new or changed from the outputs (and from each of `extra`: a WebUI's own outputs, into a folder of that name) to
    `to`. A changed file replaces its older copy; what somebody put there himself under the same name is kept beside it."""
    mark = Mark(settings.storage / "run" / "synced.json", to)
    copied = size = there = waiting = 0
    refused: list[str] = []
    try:
        for source, name in _finished(settings, extra or {}):
            try:
                state = source.stat()
                seen = [state.st_size, state.st_mtime_ns]
                if mark.has(name, seen):
                    there += 1
                elif 0 <= time.time() - state.st_mtime < settled_s:
                    waiting += 1
                else:
                    place, was_there = _copy(source, to / name, seen, mark.own_copy(name))
                    mark.add(name, seen, place)
                    copied, size, there = copied + (not was_there), size + seen[0] * (not was_there), there + was_there
            except FileNotFoundError:
                continue  # gone meanwhile
            except (OSError, ReverieError) as error:
                refused.append(f"{name}: {getattr(error, 'what', None) or getattr(error, 'strerror', None) or error}")
    finally:
        mark.save()
    return Report(copied, size, there, waiting, tuple(refused))


def _finished(settings: Settings, extra: dict[str, Path]):
    """(file, its name below the target) of everything that can be copied, the newest first: those are missed most."""
    found = []
    for prefix, folder in {"": settings.outputs, **extra}.items():
        for below, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(below) / name
                if not name.startswith(".") and not name.endswith(UNFINISHED) and not path.is_symlink() and path.is_file():
                    with contextlib.suppress(OSError):
                        found.append((path.stat().st_mtime, path, (Path(prefix) / path.relative_to(folder)).as_posix()))
    return [(path, name) for _, path, name in sorted(found, reverse=True)]


def _copy(source: Path, place: Path, seen: list[int], own: Path | None) -> tuple[Path, bool]:
    """Whole or not at all, and only if the source did not change under our hands. Where it lies now, and whether it lay there
    already. `own` is our copy of an earlier state of it, which may be replaced; other files may not."""
    if own is None and place.exists():
        if filecmp.cmp(source, place, shallow=False):
            return place, True
        place = _beside(place)
    place = own or place
    place.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(place.parent).free
    if free - seen[0] < KEEP_FREE:
        raise StoreFailed(f"no room ({free / 1e6:.0f} MB free at {place.parent})")
    staged = place.with_name(f".{uuid.uuid4().hex}{STAGED}")  # never one name twice: SIGTERM may come in the middle of a pass
    try:
        with open(source, "rb") as read, open(staged, "wb") as write:
            shutil.copyfileobj(read, write, 1 << 20)
            write.flush()
            os.fsync(write.fileno())
        state = source.stat()
        if [state.st_size, state.st_mtime_ns] != seen or staged.stat().st_size != seen[0]:
            raise StoreFailed("it changed while it was copied; the next pass takes it")
        with contextlib.suppress(OSError):  # Drive and network folders may not keep times
            os.utime(staged, ns=(state.st_atime_ns, state.st_mtime_ns))
        os.replace(staged, place)
        return place, False
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFailed(f"no room at {place.parent}") from None
        raise
    finally:
        with contextlib.suppress(OSError):
            staged.unlink(missing_ok=True)


def _beside(place: Path) -> Path:
    numbers = (place.with_name(f"{place.stem} ({n}){place.suffix}") for n in range(2, 10_000))
    return next(path for path in numbers if not path.exists())


class Mark:
    """What was copied to one target: name → `source` [bytes, mtime in ns] as it was copied, and the name `as` which it lies there."""

    def __init__(self, path: Path, to: Path):
        self.path, self.to, self._changed = path, to, False
        try:
            kept = json.loads(path.read_text("utf-8"))
            self._files = dict(kept["files"]) if kept["target"] == str(to) else {}
        except (OSError, ValueError, KeyError, TypeError):
            self._files = {}

    def has(self, name: str, seen: list[int]) -> bool:
        """Whether this very state of it was copied, and the copy is still there."""
        entry = self._files.get(name, {})
        return entry.get("source") == seen and _size(self.to / entry["as"]) == seen[0]

    def own_copy(self, name: str) -> Path | None:
        """Where our copy of an earlier state lies; None without one, or if somebody changed it since."""
        entry = self._files.get(name, {})
        return self.to / entry["as"] if entry and _size(self.to / entry["as"]) == entry["source"][0] else None

    def add(self, name: str, seen: list[int], place: Path) -> None:
        self._files[name], self._changed = {"source": seen, "as": place.relative_to(self.to).as_posix()}, True

    def save(self) -> None:
        if self._changed:
            media.write_text(self.path, json.dumps({"target": str(self.to), "at": time.time(), "files": self._files}) + "\n")


def is_synced(path: Path, settings: Settings) -> bool:
    """Whether this output, as it is now, has a copy in the persistent folder."""
    place = settings.storage / "run" / "synced.json"
    try:
        name = path.absolute().relative_to(settings.outputs.absolute()).as_posix()
        state = path.stat()
        to = Path(json.loads(place.read_text("utf-8"))["target"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return Mark(place, to).has(name, [state.st_size, state.st_mtime_ns])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


@dataclass
class Guard:
    """Copies in the background until `stop`. `last` is the last report; `on_report(report)` comes after each pass that copied or
    refused something. `ends_at` is when the platform ends the run (time.time seconds; None: not known)."""

    settings: Settings
    to: Path
    every_s: float = EVERY_S
    extra: dict[str, Path] = field(default_factory=dict)
    ends_at: float | None = None
    on_report: Callable[[Report], None] = lambda report: None
    last: Report | None = None
    _wake: threading.Event = field(default_factory=threading.Event, repr=False)
    _stopped: bool = field(default=False, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)
    _pass: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _before: Any = field(default=None, repr=False)

    @classmethod
    def start(cls, settings: Settings, where: platform.Platform | None = None, *, to: Path | None = None, since: float | None = None, **more) -> Guard:
        """Guard this process's outputs. `since`: when the session began (default: when this machine did). BadInput where the
        platform keeps nothing, or needs nothing."""
        where = where or platform.here()
        to = to or target(settings, where)
        ends = (since or _began()) + where.session_h * 3600 if where.session_h else None
        guard = cls(settings, to, ends_at=ends, **more)
        guard._thread = threading.Thread(target=guard._run, name="reverie-outputs", daemon=True)
        guard._thread.start()
        atexit.register(guard.stop)
        guard._hear_the_end()
        return guard

    def now(self) -> Report:
        """One pass at once."""
        with self._pass:
            return self._once(SETTLED_S)

    def stop(self) -> Report | None:
        """A last pass, with everything that is whole by now, and the end. The last report."""
        with self._pass:
            if not self._stopped:
                self._stopped = True
                self._wake.set()
                self._once(0.0)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(30)
        atexit.unregister(self.stop)
        self._unhear()
        return self.last

    def _run(self) -> None:
        while not self._wake.wait(self._pause_s()):
            try:
                with self._pass:
                    if not self._stopped:
                        self._once(SETTLED_S)
            except Exception:  # a bug of whoever hears the reports must not end the guard
                log.exception("sync=failed")

    def _pause_s(self) -> float:
        """Until the next pass: the usual time, or less where one is due shortly before the end."""
        left = (self.ends_at - time.time()) if self.ends_at else float("inf")
        due = [left - before for before in BEFORE_END_S if left > before]
        return max(0.05, min([self.every_s, *due]))

    def _once(self, settled_s: float) -> Report:
        try:
            self.last = sync(self.settings, self.to, self.extra, settled_s)
        except (OSError, ReverieError) as error:  # a mount that went away comes back, or not: the next pass tries again
            self.last = Report(refused=(str(error),))
        log.info("sync=%s", self.last)
        if self.last.copied or self.last.refused:
            self.on_report(self.last)
        return self.last

    def _hear_the_end(self) -> None:
        """SIGTERM, with which platforms end a run: copy first, then do what was to be done. Only the main thread may ask for it."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._ended)

    def _unhear(self) -> None:
        if self._before is not None and threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == self._ended:
            signal.signal(signal.SIGTERM, self._before)
        self._before = None

    def _ended(self, number, frame) -> None:
        before = self._before
        try:
            self.stop()
        finally:
            if callable(before):
                before(number, frame)
            elif before != signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)


@functools.cache
def guard(settings: Settings) -> str:
    """Begin to guard this process's outputs, once; what is to be said of it: "" on a machine of one's own."""
    where = platform.here()
    if where.url.startswith("http://localhost"):
        return ""
    try:
        return f"Outputs are copied to {Guard.start(settings, where).to} while you work."
    except BadInput as error:
        return str(error)


def _began() -> float:
    """When this machine, or the container that it is, was started: the earliest of its processes that can be seen."""
    import psutil

    try:
        return psutil.Process(1).create_time()
    except psutil.Error:
        return psutil.boot_time()
