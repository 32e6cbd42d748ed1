"""The queue: jobs, their states and what happened to them. What was running at a sudden end waits again, never lost.

The transitions are this one table; anything else is refused.
"""

from __future__ import annotations

import base64
import time
import uuid
from typing import Iterable

from reverie.errors import NotFound, StoreFailed
from reverie.types import Event, Job, Task

TRANSITIONS: dict[str, frozenset[str]] = {
    "queued": frozenset({"running", "cancelled"}),
    "running": frozenset({"succeeded", "failed", "cancelled", "quarantined", "queued"}),
    "succeeded": frozenset({"queued"}),  # asked for again after its files were deleted
    "failed": frozenset({"queued"}),
    "cancelled": frozenset({"queued"}),
    "quarantined": frozenset({"queued"}),
}
EVENT_OF_STATE = {"queued": "requeued", "running": "started", "quarantined": "failed"}
MAX_DEATHS = 3  # a job that was running at that many sudden deaths is quarantined: it may be what kills

_COLUMNS = "id, key, session, task, state, deaths, node, priority, error, error_class, created_at, finished_at"


class Jobs:
    def __init__(self, store):
        self._store = store

    def put(self, task: Task, key: str, session: str, priority: int = 0) -> tuple[Job, bool]:
        """The job of this key, made if there is none; the flag says whether it is new."""
        with self._store.begin() as db:
            known = db.exec_driver_sql(f"SELECT {_COLUMNS} FROM jobs WHERE key = ?", (key,)).mappings().first()
            if known:
                return _job(known), False
            job = Job(id=uuid.uuid4().hex, task=task, key=key, session=session, priority=priority,
                      created_at=time.time())
            db.exec_driver_sql(
                "INSERT INTO jobs (id, key, session, task, state, priority, created_at) "
                "VALUES (?, ?, ?, ?, 'queued', ?, ?)",
                (job.id, key, session, task.model_dump_json(), priority, job.created_at),
            )
            _event(db, job, "queued")
            return job, True

    def get(self, job_id: str) -> Job:
        with self._store.read() as db:
            row = db.exec_driver_sql(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,)).mappings().first()
        if row is None:
            raise NotFound(f"There is no job '{job_id}'.")
        return _job(row)

    def find(self, *, state: str = "", session: str = "", key: str = "") -> list[Job]:
        """Jobs that match everything given, oldest first."""
        wanted = {"state": state, "session": session, "key": key}
        wanted = {name: value for name, value in wanted.items() if value}
        where = " AND ".join(f"{name} = ?" for name in wanted) or "1"
        with self._store.read() as db:
            rows = db.exec_driver_sql(
                f"SELECT {_COLUMNS} FROM jobs WHERE {where} ORDER BY created_at", tuple(wanted.values())
            ).mappings().all()
        return [_job(row) for row in rows]

    def claim(self, node: str, sessions: list[str], full: Iterable[str] = (), beside: Iterable[Job] = ()) -> Job | None:
        """The next waiting job of these sessions, now running on `node`; None if nothing waits.

        Engines in `full` get no more. A job that may be what kills the program runs alone, so that none of those `beside`
        it is blamed for its end.
        """
        running, full = list(beside), tuple(full)
        if any(map(_is_suspect, running)):
            return None
        marks, engines = (",".join("?" * len(names)) for names in (sessions, full))
        with self._store.begin() as db:
            row = db.exec_driver_sql(
                f"SELECT {_COLUMNS} FROM jobs WHERE state = 'queued' AND session IN ({marks}) "
                f"AND json_extract(task, '$.engine') NOT IN ({engines}) "
                "ORDER BY priority DESC, created_at, rowid LIMIT 1", (*sessions, *full),
            ).mappings().first()
            if row is None or running and _is_suspect(_job(row)):
                return None
            return self._move(db, _job(row), "running", {"node": node, "cancel_requested": 0})

    def ask_again(self, job: Job, session: str, living: list[str]) -> Job:
        """The job waits (again), now for this session. One that runs, or waits for a `living` one, stays as it is."""
        with self._store.begin() as db:
            job = _job(db.exec_driver_sql(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job.id,)).mappings().one())
            if job.state == "running" or job.state == "queued" and job.session in living:
                return job
            deaths = job.deaths if job.state == "queued" else 0  # what has ended begins anew
            db.exec_driver_sql("UPDATE jobs SET session = ?, deaths = ? WHERE id = ?", (session, deaths, job.id))
            job = job.model_copy(update={"session": session, "deaths": deaths})
            return job if job.state == "queued" else self.move_in(db, job, "queued", note="asked for again")

    def adopt(self, session_of: dict[str, str], living: list[str]) -> int:
        """Waiting jobs whose own session's process is gone come to the session that still follows them; how many."""
        number = 0
        with self._store.begin() as db:
            for job_id, session in session_of.items():
                row = db.exec_driver_sql("SELECT session FROM jobs WHERE id = ? AND state = 'queued'", (job_id,)).first()
                if row and row[0] not in living:
                    db.exec_driver_sql("UPDATE jobs SET session = ? WHERE id = ?", (session, job_id))
                    number += 1
        return number

    def last_event(self) -> int:
        """The id of the newest stored event, 0 if there is none."""
        with self._store.read() as db:
            return db.exec_driver_sql("SELECT coalesce(max(id), 0) FROM events").scalar()

    def move(self, job_id: str, state: str, error: BaseException | None = None, note: str = "") -> Job:
        """Put a job into another state, with its event. StoreFailed if the table above does not allow it."""
        with self._store.begin() as db:
            job = _job(db.exec_driver_sql(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,)).mappings().one())
            return self.move_in(db, job, state, error, note)

    def move_in(self, db, job: Job, state: str, error: BaseException | None = None, note: str = "") -> Job:
        """`move` within an open transaction."""
        changes = {
            "error": str(error) if error else "",
            "error_class": type(error).__name__ if error else "",
            "finished_at": 0.0 if state == "queued" else time.time(),
        }
        return self._move(db, job, state, changes, note)

    def _move(self, db, job: Job, state: str, changes: dict, note: str = "") -> Job:
        if state not in TRANSITIONS[job.state]:
            raise StoreFailed(f"Job {job.id} is {job.state} and cannot become {state}.")
        sets = ", ".join(f"{name} = ?" for name in changes)
        db.exec_driver_sql(f"UPDATE jobs SET state = ?, {sets} WHERE id = ?", (state, *changes.values(), job.id))
        if state != "running":
            db.exec_driver_sql("DELETE FROM progress WHERE job = ?", (job.id,))
        _event(db, job, EVENT_OF_STATE.get(state, state), error=changes.get("error", ""), note=note)
        changes.pop("cancel_requested", None)
        return job.model_copy(update={"state": state, **changes})

    def requeue_orphans(self) -> int:
        """Jobs that were running when their dispatcher ended wait again; how many. Repeat killers are quarantined."""
        with self._store.begin() as db:
            db.exec_driver_sql("UPDATE jobs SET deaths = deaths + 1 WHERE state = 'running'")
            rows = db.exec_driver_sql(f"SELECT {_COLUMNS} FROM jobs WHERE state = 'running'").mappings().all()
            for job in map(_job, rows):
                if job.deaths >= MAX_DEATHS:
                    what = f"The program broke off {job.deaths} times while this was running."
                    self.move_in(db, job, "quarantined", StoreFailed(what, "Try a smaller size or another model."))
                else:
                    self.move_in(db, job, "queued", note="taken up again after a sudden end")
        return len(rows)

    def request_cancel(self, job_ids: Iterable[str]) -> int:
        """Cancel waiting jobs at once and mark running ones; how many that was."""
        number = 0
        with self._store.begin() as db:
            for job_id in job_ids:
                row = db.exec_driver_sql(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,)).mappings().first()
                job = _job(row) if row else None
                if job and job.state == "queued":
                    self.move_in(db, job, "cancelled")
                    number += 1
                elif job and job.state == "running":
                    db.exec_driver_sql("UPDATE jobs SET cancel_requested = 1 WHERE id = ?", (job_id,))
                    number += 1
        return number

    def cancel_requested(self, job_id: str) -> bool:
        with self._store.read() as db:
            return bool(db.exec_driver_sql("SELECT cancel_requested FROM jobs WHERE id = ?", (job_id,)).scalar())

    def report(self, job_id: str, fraction: float, preview: bytes = b"", note: str = "") -> None:
        """Keep the last progress of a running job (an empty preview or note leaves the one before)."""
        with self._store.begin() as db:
            db.exec_driver_sql(
                """INSERT INTO progress (job, fraction, preview, note, at) VALUES (?, ?, ?, ?, ?)
                   ON CONFLICT(job) DO UPDATE SET fraction = excluded.fraction, at = excluded.at,
                   preview = CASE WHEN excluded.preview = x'' THEN preview ELSE excluded.preview END,
                   note = CASE WHEN excluded.note = '' THEN note ELSE excluded.note END""",
                (job_id, fraction, preview, note, time.time()),
            )

    def events(self, job_ids: Iterable[str], after: int = 0) -> list[Event]:
        """Stored events of these jobs with an id above `after`, then the last progress of those that run (id 0)."""
        ids = tuple(job_ids)
        found: list[Event] = []
        with self._store.read() as db:
            for start in range(0, len(ids), 500):  # SQLite's limit of bound values
                part = ids[start : start + 500]
                marks = ",".join("?" * len(part))
                rows = db.exec_driver_sql(f"SELECT * FROM events WHERE id > ? AND job IN ({marks})", (after, *part)).mappings()
                found += [Event(**row) for row in rows]
                running = db.exec_driver_sql(
                    f"SELECT p.*, j.session FROM progress p JOIN jobs j ON j.id = p.job WHERE p.job IN ({marks})", part
                ).mappings()
                found += [_progress(row) for row in running]
        return sorted(found, key=lambda event: event.id or float("inf"))


def _progress(row) -> Event:
    return Event(job=row["job"], session=row["session"], kind="progress", fraction=row["fraction"], note=row["note"],
                 preview=base64.b64encode(row["preview"]).decode(), at=row["at"])


def _job(row) -> Job:
    return Job(**{**row, "task": Task.model_validate_json(row["task"])})


def _is_suspect(job: Job) -> bool:
    return job.deaths == MAX_DEATHS - 1


def _event(db, job: Job, kind: str, error: str = "", note: str = "", asset: str = "") -> None:
    db.exec_driver_sql(
        "INSERT INTO events (job, session, kind, asset, error, note, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (job.id, job.session, kind, asset, error, note, time.time()),
    )
