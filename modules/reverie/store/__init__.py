"""What must survive: jobs and their events, sessions, the library. One SQLite file; see schema.py for the tables.

`Store` owns the connection. Every write is one short transaction, so a killed process leaves nothing half done.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

from reverie import interrupts, media
from reverie.errors import StoreFailed
from reverie.store.jobs import Jobs
from reverie.store.library import Library
from reverie.store.sessions import Sessions

BUSY_TIMEOUT_S = 30


class Store:
    """The database at `path` (made and migrated when needed). Safe to use from many threads and processes."""

    def __init__(self, path: Path):
        with interrupts.held():  # a library imported by half stays so until the program ends
            from sqlalchemy import URL, create_engine, event

            from reverie.store import schema

        media.folder(path.parent)
        self.path = path
        address = URL.create("sqlite", database=str(path))
        self._engine = create_engine(address, connect_args={"timeout": BUSY_TIMEOUT_S})
        event.listen(self._engine, "connect", _on_connect)
        event.listen(self._engine, "begin", _on_begin)
        with self.begin() as db:
            schema.migrate(db)
        self.jobs = Jobs(self)
        self.sessions = Sessions(self)
        self.library = Library(self)

    @contextlib.contextmanager
    def begin(self):
        """One transaction that takes the write lock at once. Full disk, lock or damage become StoreFailed."""
        from sqlalchemy.exc import DatabaseError

        try:
            with interrupts.held(), self._engine.begin() as db:
                yield db
        except DatabaseError as error:
            raise StoreFailed(f"The database {self.path} refused: {error.orig}.", _advice(str(error.orig))) from error

    @contextlib.contextmanager
    def read(self):
        """A connection that only reads; it never waits for a writer (WAL)."""
        from sqlalchemy.exc import DatabaseError

        try:
            with interrupts.held(), self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
                yield db
        except DatabaseError as error:
            raise StoreFailed(f"The database {self.path} refused: {error.orig}.", _advice(str(error.orig))) from error

    def backup(self, target: Path) -> None:
        """A consistent copy at `target` while others write (SQLite's backup API; never copy the file itself)."""
        staged = target.with_suffix(f".{time.time_ns()}.part")
        with contextlib.closing(sqlite3.connect(self.path)) as source, contextlib.closing(sqlite3.connect(staged)) as copy:
            source.backup(copy)
        staged.replace(target)

    def close(self) -> None:
        self._engine.dispose()


def _on_connect(connection, _record) -> None:
    connection.isolation_level = None  # SQLAlchemy's begin event below decides when a transaction starts
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _on_begin(connection) -> None:
    if connection.get_isolation_level() != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _advice(reason: str) -> str:
    if "full" in reason:
        return "Free some disk space and run it again: what is finished is kept."
    if "locked" in reason:
        return "Another program holds it: close that one and run it again."
    if "malformed" in reason or "not a database" in reason:
        return "Move the file away and run it again: the pictures are kept, only the history starts anew."
    return "Check that the folder is writable and on a local disk."
