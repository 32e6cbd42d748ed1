"""A session is one run of one pipeline: its flow, a label for people, the parameters it was started with, and the process
that wants it. Jobs of a process that is gone wait until somebody asks for them again.
"""

from __future__ import annotations

import functools
import json
import os
import time
import uuid
from typing import Any


class Sessions:
    def __init__(self, store):
        self._store = store

    def create(self, flow: str, label: str = "", params: dict[str, Any] | None = None) -> str:
        """A new session's id."""
        session = uuid.uuid4().hex
        with self._store.begin() as db:
            db.exec_driver_sql(
                "INSERT INTO sessions (id, flow, label, params, owner, created_at) VALUES (?, ?, ?, ?, ?, ?)",
                (session, flow, label, json.dumps(params or {}, default=str), this_process(), time.time()),
            )
        return session

    def wanted(self) -> list[str]:
        """Ids of the sessions that have waiting jobs and whose process lives."""
        with self._store.read() as db:
            rows = db.exec_driver_sql(
                "SELECT id, owner FROM sessions WHERE id IN (SELECT session FROM jobs WHERE state = 'queued')"
            ).all()
        return [session for session, owner in rows if _lives(owner)]

    def all(self, limit: int = 100) -> list[dict[str, Any]]:
        """The newest sessions first, each with how many jobs it has in each state."""
        with self._store.read() as db:
            rows = db.exec_driver_sql(
                "SELECT * FROM sessions ORDER BY created_at DESC LIMIT ?", (limit,)
            ).mappings().all()
            counts = db.exec_driver_sql("SELECT session, state, count(*) FROM jobs GROUP BY session, state").all()
        by_session: dict[str, dict[str, int]] = {}
        for session, state, number in counts:
            by_session.setdefault(session, {})[state] = number
        return [{**row, "params": json.loads(row["params"]), "jobs": by_session.get(row["id"], {})} for row in rows]


@functools.lru_cache(maxsize=1)
def _this_process(pid: int) -> str:
    import psutil

    return f"{pid}:{psutil.Process(pid).create_time():.2f}"


def this_process() -> str:
    """`pid:start time`, so that a number that is used again is not taken for the same process."""
    return _this_process(os.getpid())


def _lives(owner: str) -> bool:
    import psutil

    pid, _, started = owner.partition(":")
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" == started
    except (psutil.Error, ValueError):
        return False
