"""The depot's book: what is kept, which links are ours, which file had which hash. It can be lost: blobs and links tell it again.

One SQLite file with the rollback journal (WAL breaks on network drives), short transactions, and a long patience for others.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Iterator

from reverie.errors import Busy, DiskFull, StoreFailed

PATIENCE_S = 30
VERSION = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS kept (
  sha256 TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, url TEXT NOT NULL, about TEXT NOT NULL,
  kept_at REAL NOT NULL, PRIMARY KEY (sha256, kind, name));
CREATE TABLE IF NOT EXISTS links (
  path TEXT PRIMARY KEY, sha256 TEXT NOT NULL, way TEXT NOT NULL, view TEXT NOT NULL, identity TEXT NOT NULL, stamp TEXT NOT NULL,
  made_at REAL NOT NULL, run TEXT NOT NULL, mode INTEGER NOT NULL, mtime_ns INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS hashes (
  path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode TEXT NOT NULL, sha256 TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS links_by_sha256 ON links (sha256);
"""
_DAMAGED = ("not a database", "malformed", "unsupported file format")


class Manifest:
    """The open book. `is_new` says that it was made just now, so that what lies there has to be told to it."""

    def __init__(self, path: Path):
        self.path, self._lock = path, threading.RLock()
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            if not any(word in str(error) for word in _DAMAGED):
                raise _sentence(error, path) from error
            os.replace(path, path.with_name(f"{path.name}.damaged-{time.time_ns()}"))
            self._open()

    def _open(self) -> None:
        self._db = sqlite3.connect(self.path, timeout=PATIENCE_S, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        self.is_new = version == 0
        if version == 0:
            self._db.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
        elif version > VERSION:
            raise StoreFailed(f"{self.path} was written by a newer SD-Reverie.", "Update this one.")

    def settle(self) -> None:
        """All that lay there has been told: from now on the book is whole."""
        with self._lock, self._plainly():
            self._db.execute(f"PRAGMA user_version = {VERSION}")
            self.is_new = False

    def rows(self, statement: str, values: tuple = ()) -> list[sqlite3.Row]:
        with self._lock, self._plainly():
            return self._db.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """A transaction. No other process changes the book meanwhile, so what is looked up in here stays true."""
        with self._lock, self._plainly():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def _plainly(self):
        try:
            yield
        except sqlite3.Error as error:
            raise _sentence(error, self.path) from error


def _sentence(error: sqlite3.Error, path: Path) -> StoreFailed:
    said = str(error)
    if "locked" in said:
        return Busy(f"Another process has been writing {path.name} for {PATIENCE_S} s.", "Wait for it to end, or stop it, and try again.")
    if "full" in said:
        return DiskFull(f"The disk is full: {path} could not be written.", "Free some space and try again.")
    return StoreFailed(f"{path} cannot be used ({said}).", "Check that the storage folder may be written and lies on a local disk.")
