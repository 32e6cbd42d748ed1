"""The studio: a task goes in, assets come out. Durable, resumable, one dispatcher per storage folder.

Every face and pipeline opens a `Studio`; all of them may submit and follow, from any process. Whichever holds the lock
`storage/dispatcher.lock` runs the jobs, so two of them never load two models onto one card; when it ends, another takes over.
"""

from __future__ import annotations

import functools
import threading
import time
from pathlib import Path
from typing import Any, Iterable, Iterator

from reverie import additions, engines, interrupts, media, models
from reverie import settings as settings_module
from reverie.dispatcher import PROGRESS_INTERVAL_S, Dispatcher
from reverie.errors import BadInput, Cancelled
from reverie.store import Store
from reverie.types import FINISHED, Asset, Event, Job, Task

ADOPT_INTERVAL_S = 1.0


class Studio:
    """Use `with Studio.open() as studio:`; closing it ends the engine's processes and puts unfinished work back."""

    def __init__(self, settings: settings_module.Settings, open_engine=engines.open_engine, **engine_options: Any):
        self.settings = settings
        self.store = Store(settings.database)
        self.library = self.store.library
        self._dispatcher: Dispatcher | None = None
        self._open_engine = functools.partial(open_engine, settings=settings, **engine_options)
        self._engines: dict[str, engines.Engine] = {}
        self._at_once: dict[str, int] = {}  # how many jobs each of them does at the same time
        self._changed = threading.Condition()
        self._marks: dict[tuple[str, str], int] = {}  # (session, job) → the newest event before it was asked for
        self._cancelled: set[str] = set()
        self._start = threading.Lock()

    @classmethod
    def open(cls, settings: settings_module.Settings | None = None, **options: Any) -> Studio:
        return cls(settings or settings_module.load(), **options)

    def __enter__(self) -> Studio:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._dispatcher:
            self._dispatcher.stop()
        for engine in self._engines.values():
            engine.close()
        self.store.close()

    def session(self, flow: str, label: str = "", params: dict[str, Any] | None = None) -> str:
        return self.store.sessions.create(flow, label, params)

    def submit(self, task: Task, session: str, priority: int = 0) -> Job:
        """The job for this task, with the session that asked. Cancelled if that was cancelled.

        The same task again is the same job: if its pictures are still there it has succeeded already, and while it waits
        for another living session it stays with that one.
        """
        key = self.key(task)
        mark = self.store.jobs.last_event()
        job, new = self.store.jobs.put(task, key, session, priority)
        if not new:
            job = self._ask_again(job, session)
        if session in self._cancelled:
            self.cancel(session)
            raise Cancelled("Cancelled before everything was asked for.")
        self._marks[session, job.id] = mark
        if job.state not in FINISHED:
            self._dispatch()
        return job.model_copy(update={"session": session})

    def _ask_again(self, job: Job, session: str) -> Job:
        return job if self._is_kept(job) else self.store.jobs.ask_again(job, session, self._wanted())

    def _wanted(self) -> list[str]:
        """Sessions that somebody waits for."""
        return [session for session in self.store.sessions.wanted() if session not in self._cancelled]

    def key(self, task: Task) -> str:
        """The key a task is stored under: its own JSON and the fingerprint of its model and of all that is on top of it.

        ModelMissing if one of them is not here, BadInput if they do not fit together, or not the size.
        """
        model = models.find(task.model, self.settings)
        models.check_size(model, task.width, task.height)
        return task.key(additions.fingerprint(model, additions.of(task, model, self.settings)))

    def _is_kept(self, job: Job) -> bool:
        assets = self.library.of_job(job.id) if job.state == "succeeded" else []
        return len(assets) == job.task.count and all(self.path(asset).exists() for asset in assets)

    def _dispatch(self) -> None:
        with self._start:
            if self._dispatcher is None or self._dispatcher.broken:
                self._dispatcher = Dispatcher(self)
                self._dispatcher.start()
            self._dispatcher.look()
        self.notify()

    def follow(self, jobs: Iterable[Job]) -> Iterator[Event]:
        """Events of these jobs as they come, until each has ended. Those that had ended already say so at once.

        A job that only another session cancelled is asked for again; one that another session asked for first goes on
        when its session here is cancelled, but is followed no longer.
        """
        waiting: dict[str, Job] = {}
        for job in jobs:
            if job.state in FINISHED:
                yield _end(job, _END[job.state])
            else:
                waiting[job.id] = job
        adopt_at = time.monotonic() + ADOPT_INTERVAL_S
        after = min((self._marks.get((job.session, job.id), 0) for job in waiting.values()), default=0)
        reported: dict[str, float] = {}
        while waiting:
            for event in self.store.jobs.events(waiting, after):
                if event.id:
                    after = event.id
                elif event.at <= reported.get(event.job, 0.0):
                    continue
                else:
                    reported[event.job] = event.at
                job = waiting.get(event.job)
                if job is None:
                    continue
                if event.kind == "cancelled" and event.session == job.session:
                    self._cancelled.add(job.session)
                elif event.kind == "cancelled" and job.session not in self._cancelled:
                    self._ask_again(self.store.jobs.get(job.id), job.session)
                    continue
                if event.kind in _ENDS:
                    del waiting[job.id]
                yield event
            for job in self._left_to_others(waiting.values()):
                yield _end(waiting.pop(job.id), "cancelled")
            if waiting and time.monotonic() > adopt_at:
                adopt_at = time.monotonic() + ADOPT_INTERVAL_S
                self._adopt(waiting.values())
            if waiting:
                self._wait()

    def _left_to_others(self, jobs: Iterable[Job]) -> list[Job]:
        """Jobs that a cancelled session has only followed: they belong to a session that asked for them first."""
        cancelled = [job for job in jobs if job.session in self._cancelled]
        return [job for job in cancelled if self.store.jobs.get(job.id).session != job.session]

    def _adopt(self, jobs: Iterable[Job]) -> None:
        """A job that ran for a process that died waits again, but for nobody: it is ours now, since we follow it."""
        mine = {job.id: job.session for job in jobs if job.session not in self._cancelled}
        self.store.jobs.adopt(mine, self._wanted())

    def _wait(self) -> None:
        if self._dispatcher and self._dispatcher.broken:
            raise self._dispatcher.broken
        with interrupts.held(), self._changed:
            self._changed.wait(PROGRESS_INTERVAL_S)

    def notify(self) -> None:
        with interrupts.held(), self._changed:
            self._changed.notify_all()

    def cancel(self, session: str) -> int:
        """Cancel what a session still has waiting or running; how many jobs that was. Nothing more can be submitted for it.

        What is finished stays, and so do jobs that another session asked for first.
        """
        self._cancelled.add(session)
        number = self.store.jobs.request_cancel([job.id for job in self.store.jobs.find(session=session)])
        self.notify()
        return number

    def was_cancelled(self, session: str) -> bool:
        return session in self._cancelled

    def path(self, asset: Asset) -> Path:
        return self.settings.storage / asset.path

    def pictures(self, job: Job | str) -> list[Path]:
        """The files of a finished job, in the order of their seeds."""
        return [self.path(asset) for asset in self.library.of_job(job if isinstance(job, str) else job.id)]

    def take_in(self, path: Path) -> str:
        """Keep a picture of the user's as an input; its id (sha256 of the bytes) goes into `Task.inputs`."""
        media.open_picture(path)
        data = path.read_bytes()
        name = media.sha256(data)
        target = self._input(name)
        if not target.exists():
            media.write_bytes(target, data)
        return name

    def input_path(self, asset_id: str) -> Path:
        path = self._input(asset_id)
        return path if path.exists() else self.path(self.library.get(asset_id))

    def _input(self, name: str) -> Path:
        return self.settings.storage / "inputs" / name

    def keep(self, job: Job, index: int, picture: engines.Picture, hashes: dict[str, Any]) -> Asset:
        """Write one finished picture into storage and describe it. The name follows from the job's key: doing it again replaces it."""
        recipe = {**job.task.one(index).model_dump(mode="json"), **picture.recipe, "seed": picture.seed, "key": job.key, **hashes}
        data = media.encode_png(picture.image, recipe)
        relative = Path("outputs") / "pictures" / job.key[:2] / f"{job.key[:20]}_{index:03d}.png"
        media.write_bytes(self.settings.storage / relative, data)
        return Asset(
            id=media.sha256(data), width=picture.image.width, height=picture.image.height, bytes=len(data), path=relative.as_posix(),
            job=job.id, index=index, recipe=recipe, parents=job.task.inputs, created_at=time.time(),
        )


_END = {"succeeded": "succeeded", "failed": "failed", "cancelled": "cancelled", "quarantined": "failed"}
_ENDS = frozenset(_END.values())


def _end(job: Job, kind: str) -> Event:
    return Event(job=job.id, session=job.session, kind=kind, fraction=1.0, error=job.error)


def make_task(**fields: Any) -> Task:
    """A Task from fields, with pydantic's complaints as one BadInput sentence."""
    from pydantic import ValidationError

    from reverie.types import validation_sentence

    try:
        return Task(**fields)
    except ValidationError as error:
        raise BadInput(f"{validation_sentence(error)}.", "Change that value.") from None
