"""Who runs the jobs: one thread per studio, and of all studios on one storage folder the one that holds its lock."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from reverie import additions, engines, models, retouch
from reverie.errors import Cancelled, EngineFailed, ReverieError
from reverie.types import Job

if TYPE_CHECKING:
    from reverie.studio import Studio

PROGRESS_INTERVAL_S = 0.1
log = logging.getLogger("reverie.dispatcher")


class Dispatcher(threading.Thread):
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
