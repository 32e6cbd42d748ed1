"""From links to models in their folders: resolve → plan → fetch → keep → expose. Stopped at any moment, the same call carries on.

    plan = downloads.prepare(links, settings)     each link by itself: a dead one stops no other; shown before anything moves
    outcome = downloads.carry_out(plan, settings, on_progress=…, cancelled=…)

Bytes are staged as `downloads/<key>.part`, checked there, moved into the depot, and linked from `models/<folder>/<name>`.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Iterable, Sequence

from reverie.errors import Busy, Cancelled, FetchFailed, Interrupted, ReverieError
from reverie.host.downloads import arrivals, planning, survey
from reverie.host.downloads.planning import Plan, Row
from reverie.host.resources import FOLDERS, Link, Resource
from reverie.settings import Settings


@dataclass
class Outcome:
    """What became of a plan. `failed`: (row, sentence) of what could not be had, the refused rows among them; `troubles`:
    sentences on what else went wrong, such as a WebUI that could not be installed."""

    done: list[Row] = field(default_factory=list)
    failed: list[tuple[Row, str]] = field(default_factory=list)
    skipped: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    fetched_bytes: int = 0
    seconds: float = 0.0
    cancelled: bool = False

    @property
    def good(self) -> bool:
        return not (self.failed or self.troubles or self.cancelled)

    def check(self) -> None:
        """Cancelled, or FetchFailed with what went wrong, where not everything came."""
        if self.cancelled:
            raise Cancelled("Stopped. What has come stays;", "the same again carries on.")
        wrong = [*(f"{row.name}: {why}" for row, why in self.failed), *self.troubles]
        if wrong:
            raise FetchFailed("\n".join(wrong))


# ------------------------------------------------------------------------------------------------------------ before


def prepare(links: Sequence[Link], settings: Settings, pickles_allowed: Iterable[str] = ()) -> Plan:
    """The plan for these links: what each leads to, against what is here and the room there is."""
    found = survey.resolve(links, settings)
    return planning.make(found, survey.look([one for each in found for one in each.resources], settings), pickles_allowed)


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
        for row in (row for row in plan.of("link", "skip") if row.resource):  # a run that was killed at the very end left it
            (survey.staging(settings) / f"{row.resource.key}.lock").unlink(missing_ok=True)
    if webui and (outcome.done or outcome.skipped):
        outcome.notes += show_in(webui, settings)
    outcome.cancelled, outcome.seconds = cancelled(), time.monotonic() - started
    return outcome


def show_in(webui: str, settings: Settings) -> list[str]:
    """A WebUI that is installed sees every model that is here in its own folders; notes on what it does not see."""
    from reverie.host import webuis
    from reverie.host.webuis import views
    from reverie.host.depot import Depot

    ui = webuis.find(webui, settings)
    if not webuis.is_installed(ui, settings):
        return []
    with Depot(settings.storage) as depot:
        report = views.expose_all(ui, depot, settings)
    return [*report.notes, *(f"{ui.title} does not see {path.name}: {why}" for path, why in report.refused)]


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
        place = survey.staging(self.settings)

        def report(progress) -> None:
            row = waiting.get(progress.key)
            if progress.state == "done" and row and row.resource.sha256:
                self._arrived(waiting.pop(progress.key), fetch.Fetched(place / f"{progress.key}.whole", progress.size, row.resource.sha256))
            if on_progress:
                on_progress(progress)

        for row in [row for row in rows if row.resource.source == "file" and not cancelled()]:
            self._arrived(row, self._copied(waiting.pop(row.resource.key), place, on_progress or (lambda progress: None), cancelled))
        orders = [_order(row) for row in rows if row.resource.source != "file"]
        results = fetch.fetch(orders, place, report, cancelled, way, at_once) if orders else {}
        for key, row in waiting.items():
            if key in results:
                self._arrived(row, results[key])

    def _copied(self, row: Row, place: Path, tell, cancelled):
        """A file of this machine, staged; or the error."""
        from reverie.host import sources
        from reverie.host.downloads import local_files

        try:
            return local_files.copy(sources.open_address(row.resource), row.resource.key, row.resource.name, place, tell, cancelled)
        except ReverieError as error:
            return error

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
        self._tried(row, lambda: self._show(row, row.resource, digest, survey.staging(self.settings) / f"{row.resource.key}.none"))

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
        self.depot.expose(digest, self._path(resource), survey.VIEW)
        self.outcome.done.append(replace(row, kind=resource.kind, name=resource.name, resource=resource))

    def _with_free_name(self, resource: Resource, digest: str) -> Resource:
        """The plan's name, unless something else got there meanwhile, or the file turned out to be of another kind."""
        number, name = 1, resource.name
        while os.path.lexists(path := self._path(replace(resource, name=name))) and self.depot.linked_at(path) != digest:
            number += 1
            name = planning.numbered(resource.name, number)
        return replace(resource, name=name)

    def _path(self, resource: Resource) -> Path:
        return self.settings.models / FOLDERS[resource.kind] / resource.name


def _order(row: Row):
    from reverie.host import sources
    from reverie.host.fetch import Order

    resource = row.resource
    address = lambda: sources.open_address(resource)  # noqa: E731
    about = {"size": resource.size, "sha256": resource.sha256, "title": resource.name, "name": Path(resource.name).name}
    return Order(key=resource.key, address=address, **about)
