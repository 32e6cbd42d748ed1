"""The studio: a task goes in, assets come out. Durable, resumable, one dispatcher per storage folder.

Every face and pipeline opens a `Studio`; all of them may submit and follow, from any process. Whichever holds the lock
`storage/dispatcher.lock` runs the jobs, so two of them never load two models onto one card; when it ends, another takes over.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterable, Iterator

from reverie import additions, engines, interrupts, media, models, retouch
from reverie import settings as settings_module
from reverie.errors import BadInput, Cancelled, EngineFailed, ReverieError
from reverie.store import Store
from reverie.types import FINISHED, Asset, Event, Job, Task

PROGRESS_INTERVAL_S = 0.1
ADOPT_INTERVAL_S = 1.0
log = logging.getLogger("reverie.studio")


class Studio:
    """Use `with Studio.open() as studio:`; closing it ends the engine's processes and puts unfinished work back."""

    def __init__(self, settings: settings_module.Settings, open_engine=engines.open_engine, **engine_options: Any):
        self.settings = settings
        self.store = Store(settings.database)
        self.library = self.store.library
        self._dispatcher: _Dispatcher | None = None
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
                self._dispatcher = _Dispatcher(self)
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


class _Dispatcher(threading.Thread):
    """Takes waiting jobs while it holds the storage folder's lock: as many at the same time as their engine does at once,
    each in a thread of its own."""

    def __init__(self, studio: Studio):
        super().__init__(name="reverie-dispatcher", daemon=True)
        from filelock import FileLock

        self.studio = studio
        self.broken: BaseException | None = None
        self._jobs = studio.store.jobs
        self._lock = FileLock(studio.settings.storage / "dispatcher.lock")
        self._stopping = threading.Event()
        self._look = threading.Event()  # something was asked for, or a job has ended
        self._hands: dict[threading.Thread, Job] = {}

    def look(self) -> None:
        self._look.set()

    def stop(self) -> None:
        """End the jobs in hand (they wait again). Returns when they are ended."""
        self._stopping.set()
        self._look.set()
        self.studio.notify()
        self.join(timeout=60)

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._look.clear()
                if not self._holds_lock():
                    self._stopping.wait(0.5)
                elif not self._start_one():
                    self._look.wait(PROGRESS_INTERVAL_S)
        except BaseException as error:
            self._break(error)
        finally:
            for hand in filter(threading.Thread.is_alive, list(self._hands)):
                hand.join()
            self._lock.release(force=True)

    def _break(self, error: BaseException) -> None:
        """A follower must not wait for a dispatcher that is gone; the other jobs in hand wait for the next one."""
        log.error("dispatcher ended", exc_info=error)
        self.broken = self.broken or error
        self._stopping.set()
        self._look.set()
        self.studio.notify()

    def _holds_lock(self) -> bool:
        from filelock import Timeout

        if self._lock.is_locked:
            return True
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        number = self._jobs.requeue_orphans()
        if number:
            log.info("requeued=%d after a sudden end", number)
        return True

    def _start_one(self) -> bool:
        """Take the next job for which there is room, and give it to a thread; whether there was one."""
        running = list(self._hands.values())
        wanted = self.studio._wanted()
        full = [name for name in {job.task.engine for job in running} if self._room(name, running) <= 0]
        job = self._jobs.claim("local", wanted, full=full, beside=running) if wanted else None
        if job is None:
            return False
        hand = threading.Thread(target=self._one, args=(job,), name=f"reverie-job-{job.id[:8]}", daemon=True)
        self._hands[hand] = job
        hand.start()
        return True

    def _room(self, name: str, running: list[Job]) -> int:
        """How many more jobs the engine takes. One that is not open yet gets a single one, which opens it."""
        return self.studio._at_once.get(name, 1) - sum(job.task.engine == name for job in running)

    def _one(self, job: Job) -> None:
        try:
            self._finish(job)
        except BaseException as error:  # its end could not be written down
            self._break(error)
        finally:
            del self._hands[threading.current_thread()]
            self._look.set()
            self.studio.notify()

    def _finish(self, job: Job) -> None:
        """Do the job's work and write down how it ended."""
        try:
            self._work(job)
        except Cancelled as error:
            self._jobs.move(job.id, "queued" if self._stopping.is_set() else "cancelled", error)
        except ReverieError as error:
            log.info("job=%s failed: %s", job.id, error)
            self._jobs.move(job.id, "failed", error)
        except Exception as error:
            log.exception("job=%s", job.id)
            self._jobs.move(job.id, "failed", EngineFailed(f"{type(error).__name__}: {error}.", "This is a bug; the log has the details."))

    def _work(self, job: Job) -> None:
        task = job.task
        inputs = [self.studio.input_path(asset_id) for asset_id in task.inputs]
        model = models.find(task.model, self.studio.settings)
        added = additions.of(task, model, self.studio.settings)
        hashes = {"model_hash": models.fingerprint(model), **additions.hashes(added)}
        with retouch.prepare(task, inputs) as (files, finish):
            asked = _CancelAsked(self._jobs, job.id, self._stopping)
            pictures = self._engine(task.engine).run(task, files, _Reporter(self.studio, job), asked)
            pictures = [replace(picture, image=finish(picture.image)) for picture in pictures]
        if len(pictures) != task.count:
            raise EngineFailed(f"The engine made {len(pictures)} of {task.count} pictures.", "Run it again.")
        assets = [self.studio.keep(job, index, picture, hashes) for index, picture in enumerate(pictures)]
        self.studio.library.finish(job, assets)

    def _engine(self, name: str) -> engines.Engine:
        opened = self.studio._engines
        if name not in opened:
            opened[name] = self.studio._open_engine(name)
            self.studio._at_once[name] = int(opened[name].capabilities().get("at_once", 1))
        return opened[name]


class _Reporter:
    """Writes an engine's progress to the store, at most ten times a second."""

    def __init__(self, studio: Studio, job: Job):
        self._studio, self._job, self._next = studio, job, 0.0

    def __call__(self, progress: engines.Progress) -> None:
        now = time.monotonic()
        if now < self._next and progress.fraction < 1 and not progress.note:
            return
        self._next = now + PROGRESS_INTERVAL_S
        self._studio.store.jobs.report(self._job.id, progress.fraction, progress.preview, progress.note)
        self._studio.notify()


class _CancelAsked:
    """Whether this job should end: asked in the store (looked at ten times a second at most), or because the studio closes."""

    def __init__(self, jobs, job_id: str, stopping: threading.Event):
        self._jobs, self._job_id, self._stopping, self._next, self._asked = jobs, job_id, stopping, 0.0, False

    def __call__(self) -> bool:
        if self._stopping.is_set() or self._asked:
            return True
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_INTERVAL_S
            self._asked = self._jobs.cancel_requested(self._job_id)
        return self._asked


def make_task(**fields: Any) -> Task:
    """A Task from fields, with pydantic's complaints as one BadInput sentence."""
    from pydantic import ValidationError

    from reverie.types import validation_sentence

    try:
        return Task(**fields)
    except ValidationError as error:
        raise BadInput(f"{validation_sentence(error)}.", "Change that value.") from None
