"""A session is one run of one pipeline: its flow, a label for people, the parameters it was started with, and the process
that wants it. Jobs of a process that is gone wait until somebody asks for them again.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
import uuid
from pathlib import Path
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


def process(pid: int) -> str:
    """`pid:start`, so that a number that is used again is not taken for the same process; empty if there is none.

    On Linux the start is in clock ticks since the machine's own, as the time of day moves when somebody sets the clock.
    """
    import psutil

    try:
        if sys.platform == "linux":
            return f"{pid}:{Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]}"
        return f"{pid}:{psutil.Process(pid).create_time():.2f}"
    except (OSError, psutil.Error):
        return ""


_remembered = functools.lru_cache(maxsize=1)(process)


def this_process() -> str:
    return _remembered(os.getpid())


def _lives(owner: str) -> bool:
    pid = owner.partition(":")[0]
    return owner == this_process() or pid.isdecimal() and process(int(pid)) == owner
