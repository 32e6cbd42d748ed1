"""From links to models in their folders: resolve → plan → fetch → keep → expose. Stopped at any moment, the same call carries on.

    found = downloads.resolve(links)              each link by itself: a dead one stops no other
    plan = downloads.prepare(links, settings)     … and what is here already, as a Plan to show before anything moves
    outcome = downloads.carry_out(plan, settings, on_progress=…, cancelled=…)

Bytes are staged as `downloads/<key>.part`, checked there, moved into the depot, and linked from `models/<folder>/<name>`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Iterable, Sequence

from reverie import checkpoints
from reverie.errors import Busy, FetchFailed, Interrupted, ReverieError
from reverie.host import arrivals, planning
from reverie.host.planning import Found, Here, Place, Plan, Row
from reverie.host.resources import FOLDERS, Link, Resource
from reverie.settings import Settings

VIEW = "models"  # the depot's name for our own view, storage/models
RESOLVE_AT_ONCE = 8

log = logging.getLogger("reverie.downloads")


@dataclass
class Outcome:
    """What became of a plan. `failed`: (row, sentence) of what could not be had, the refused rows among them."""

    done: list[Row] = field(default_factory=list)
    failed: list[tuple[Row, str]] = field(default_factory=list)
    skipped: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fetched_bytes: int = 0
    seconds: float = 0.0
    cancelled: bool = False

    @property
    def good(self) -> bool:
        return not self.failed and not self.cancelled


# ------------------------------------------------------------------------------------------------------------ before


def prepare(links: Sequence[Link], settings: Settings, pickles_allowed: Iterable[str] = ()) -> Plan:
    """The plan for these links: what each leads to, against what is here and the room there is."""
    found = resolve(links)
    return planning.make(found, survey([one for each in found for one in each.resources], settings), pickles_allowed)


def resolve(links: Sequence[Link]) -> list[Found]:
    """What each link leads to, asked several at a time; a link that leads nowhere has its sentence."""
    from reverie.host import sources

    def one(link: Link) -> Found:
        try:
            return Found(link, tuple(sources.resolve(link)))
        except ReverieError as error:
            return Found(link, refusal=str(error))
        except Exception as error:  # a source's answer that nobody has seen before must not stop the other links
            log.exception("link=%r", link.address)
            return Found(link, refusal=f"What the source says cannot be understood ({type(error).__name__}). Report this link.")

    return _in_threads(one, list(links))


def survey(resources: Sequence[Resource], settings: Settings) -> Here:
    """What of these is here already: in the depot, in the folders, in staging; which secrets are set, and the room."""
    from reverie.host import fetch, secrets
    from reverie.host.depot import Depot

    with Depot(settings.storage) as depot:
        kept = depot.find()
        named = {r.sha256 for r in resources if r.sha256 and depot.has(r.sha256)}  # also what a killed run had no time to note
        ours = {Path(row.path): row.sha256 for row in depot.links(VIEW)}
    places = {
        (kind, name): _place(path, ours, {r.sha256 for r in resources if r.sha256 and r.kind == kind and path.name == Path(r.name).name})
        for kind, name, path in _files_near(resources, settings)
    }
    return Here(
        free_bytes=free_bytes(settings),
        kept=frozenset({row.sha256 for row in kept} | named),
        known={row.url: row.sha256 for row in kept if row.url},
        places=places,
        partial={resource.key: fetch.resumable(staging(settings), resource.key) for resource in resources},
        tokens=frozenset(name for name in {r.token for r in resources if r.token} if secrets.token(name)),
    )


def staging(settings: Settings) -> Path:
    return settings.storage / "downloads"


def free_bytes(settings: Settings) -> int:
    """Room for downloads: what the disk has, or what is left of the platform's quota where that is less."""
    from reverie.host import platform, storage

    room, here = storage.free(settings.storage), platform.here()
    if here.disk_gb and settings.storage.is_relative_to(Path(here.root).expanduser()):
        room = min(room, max(0, int(here.disk_gb * 1e9) - sum(size for _, _, size in storage.usage(settings.storage))))
    return room


def _files_near(resources: Sequence[Resource], settings: Settings):
    """(kind, name, path) of every file in the folders where these would lie: of a whole folder's files only those."""
    tops = {(resource.kind, resource.name.split("/")[0] if "/" in resource.name else "") for resource in resources if resource.kind in FOLDERS}
    for kind, top in tops:
        home = settings.models / FOLDERS[kind]
        roots = [home] if not top else [folder for folder in home.glob("*") if folder.name.casefold().startswith(top.casefold())]
        for root in roots:
            for folder, _, names in os.walk(root):
                for name in names if top or Path(folder) == home else []:
                    path = Path(folder) / name
                    if path.exists():
                        yield kind, path.relative_to(home).as_posix(), path


def _place(path: Path, ours: dict[Path, str], wanted: set[str]) -> Place:
    """What lies at `path`; a file that is not ours is read through only where its bytes may be the very ones that are wanted."""
    size = path.stat().st_size
    if path in ours:
        return Place(ours[path], size)
    return Place(checkpoints.sha256(path) if wanted else "", size)


def _in_threads(function: Callable[[Any], Any], items: list) -> list:
    """`function` of each item in order, by daemon threads: Ctrl-C need not wait for a server that does not answer."""
    answers: list = [None] * len(items)
    todo = iter(range(len(items)))
    turn = threading.Lock()

    def work() -> None:
        while True:
            with turn:
                index = next(todo, None)
            if index is None:
                return
            answers[index] = function(items[index])

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(RESOLVE_AT_ONCE, len(items)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


# ------------------------------------------------------------------------------------------------------------- doing


def carry_out(
    plan: Plan, settings: Settings, on_progress: Callable[[Any], None] | None = None, cancelled: Callable[[], bool] = lambda: False,
    way: str = "auto", at_once: int = 3, webui: str = "",
) -> Outcome:
    """Do what the plan says. `on_progress` gets fetch.Progress from other threads; `webui` is one whose folders see the models too.

    What fails by itself is in the outcome. DiskFull before anything moves, Busy while another download is at work here.
    """
    plan.check_room(settings.storage)
    started = time.monotonic()
    outcome = Outcome(failed=[(row, row.reason) for row in plan.refused], skipped=list(plan.of("skip")))
    from reverie.host.depot import Depot

    with _alone(settings), Depot(settings.storage) as depot:
        house = _House(depot, settings, outcome)
        coming = [row for row in plan.rows if row.moves]
        house.fetch(coming, on_progress, cancelled, way, at_once)
        for row in plan.of("link"):
            house.link(row)
        for row in plan.of("link", "skip"):  # a run that was killed at the very end left it
            (staging(settings) / f"{row.resource.key}.lock").unlink(missing_ok=True)
        if webui and (outcome.done or outcome.skipped):
            house.show_in(webui)
    outcome.cancelled, outcome.seconds = cancelled(), time.monotonic() - started
    return outcome


@contextmanager
def _alone(settings: Settings):
    """One download at a time in one storage: two would write into the same staged files. Ends with the process, however that ends."""
    from filelock import FileLock, Timeout

    folder = settings.storage / "run"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "downloads.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Busy("Another download is at work in this storage.", "Wait for it to end, or stop it, then run this again.") from None
    try:
        yield
    finally:
        lock.release()


class _House:
    """The depot and the folders while a plan is carried out; what happened goes into `outcome`."""

    def __init__(self, depot, settings: Settings, outcome: Outcome):
        self.depot, self.settings, self.outcome = depot, settings, outcome

    def fetch(self, rows: list[Row], on_progress, cancelled, way: str, at_once: int) -> None:
        """Each file is taken in as soon as it is whole and its sum was known before; the others when all have ended."""
        from reverie.host import fetch

        waiting = {row.resource.key: row for row in rows}
        place = staging(self.settings)

        def report(progress) -> None:
            row = waiting.get(progress.key)
            if progress.state == "done" and row and row.resource.sha256:
                self._arrived(waiting.pop(progress.key), fetch.Fetched(place / f"{progress.key}.whole", progress.size, row.resource.sha256))
            if on_progress:
                on_progress(progress)

        results = fetch.fetch([_order(row) for row in rows], place, report, cancelled, way, at_once) if rows else {}
        for key, row in waiting.items():
            self._arrived(row, results[key])

    def _arrived(self, row: Row, result) -> None:
        if isinstance(result, Interrupted):
            return
        if isinstance(result, ReverieError):
            self.outcome.failed.append((row, str(result)))
            return
        self.outcome.fetched_bytes += max(0, result.size - row.there)
        self._tried(row, lambda: self._take(row, result))

    def link(self, row: Row) -> None:
        """Bytes that are in the depot get the name that is wanted."""
        digest = row.resource.sha256 or next((kept.sha256 for kept in self.depot.find(url=row.resource.url)), "")
        if not digest or not self.depot.has(digest):
            failing = {failed.resource.url: why for failed, why in self.outcome.failed if failed.resource}
            if not self.outcome.cancelled:
                self.outcome.failed.append((row, failing.get(row.resource.url, "The file that it shares its bytes with did not come.")))
            return
        self._tried(row, lambda: self._show(row, row.resource, digest, staging(self.settings) / f"{row.resource.key}.none"))

    def show_in(self, webui: str) -> None:
        """The WebUI's own folders see what is here, if it is installed."""
        from reverie.host import views, webuis

        ui = webuis.find(webui)
        if webuis.is_installed(ui, self.settings):
            views.expose_all(ui, self.depot, self.settings)

    def _tried(self, row: Row, step: Callable[[], None]) -> None:
        try:
            step()
        except ReverieError as error:
            self.outcome.failed.append((row, str(error)))

    def _take(self, row: Row, fetched) -> None:
        """A staged whole file becomes a kept one. Killed in here, the next run finds it staged or kept, and goes on from there."""
        try:
            resource, notes = arrivals.examine(fetched.path, row.resource)
        except FetchFailed:
            fetched.path.unlink(missing_ok=True)  # so that it is fetched anew and not taken for whole again
            raise
        self._show(replace(row, notes=(*row.notes, *notes)), resource, fetched.sha256, fetched.path)

    def _show(self, row: Row, resource: Resource, digest: str, staged: Path) -> None:
        """Kept under its name, and to be seen there. What is in the depot already is only told its further name."""
        resource = self._with_free_name(resource, digest)
        beside = arrivals.sidecars(resource) if "/" not in resource.name else {}
        self.depot.keep(staged, digest, kind=resource.kind, name=resource.name, url=resource.url, about=resource.about, sidecars=beside)
        self.depot.expose(digest, self._path(resource), VIEW)
        self.outcome.done.append(replace(row, kind=resource.kind, name=resource.name, resource=resource))

    def _with_free_name(self, resource: Resource, digest: str) -> Resource:
        """The plan's name, unless something else got there meanwhile, or the file turned out to be of another kind."""
        ours = {Path(link.path): link.sha256 for link in self.depot.links(VIEW)}
        number, name = 1, resource.name
        while os.path.lexists(path := self._path(replace(resource, name=name))) and ours.get(path) != digest:
            number += 1
            name = planning.numbered(resource.name, number)
        return replace(resource, name=name)

    def _path(self, resource: Resource) -> Path:
        return self.settings.models / FOLDERS[resource.kind] / resource.name


def _order(row: Row):
    from reverie.host import sources
    from reverie.host.fetch import Order

    resource = row.resource
    return Order(key=resource.key, address=lambda: sources.open_address(resource), size=resource.size, sha256=resource.sha256, title=resource.name, name=Path(resource.name).name)
