"""The tables, as numbered migrations: append a list, never edit one that was released."""

from __future__ import annotations

from reverie.errors import StoreFailed

MIGRATIONS: list[list[str]] = [
    [
        """CREATE TABLE sessions (
            id TEXT PRIMARY KEY, flow TEXT NOT NULL, label TEXT NOT NULL DEFAULT '', params TEXT NOT NULL DEFAULT '{}',
            owner TEXT NOT NULL DEFAULT '', created_at REAL NOT NULL)""",
        """CREATE TABLE jobs (
            id TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, session TEXT NOT NULL REFERENCES sessions(id),
            task TEXT NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL DEFAULT 0, node TEXT NOT NULL DEFAULT '',
            lease_until REAL NOT NULL DEFAULT 0, priority INTEGER NOT NULL DEFAULT 0, parent TEXT NOT NULL DEFAULT '',
            error TEXT NOT NULL DEFAULT '', error_class TEXT NOT NULL DEFAULT '', created_at REAL NOT NULL,
            finished_at REAL NOT NULL DEFAULT 0, cancel_requested INTEGER NOT NULL DEFAULT 0)""",
        "CREATE INDEX jobs_waiting ON jobs(state, priority DESC, created_at)",
        "CREATE INDEX jobs_of_session ON jobs(session)",
        """CREATE TABLE events (
            id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, session TEXT NOT NULL, kind TEXT NOT NULL,
            asset TEXT NOT NULL DEFAULT '', error TEXT NOT NULL DEFAULT '', note TEXT NOT NULL DEFAULT '', at REAL NOT NULL)""",
        "CREATE INDEX events_of_job ON events(job, id)",
        """CREATE TABLE progress (
            job TEXT PRIMARY KEY, fraction REAL NOT NULL, preview BLOB NOT NULL DEFAULT x'', note TEXT NOT NULL DEFAULT '',
            at REAL NOT NULL)""",
        """CREATE TABLE assets (
            id TEXT NOT NULL, job TEXT NOT NULL, idx INTEGER NOT NULL, media TEXT NOT NULL, width INTEGER NOT NULL,
            height INTEGER NOT NULL, bytes INTEGER NOT NULL, path TEXT NOT NULL, prompt TEXT NOT NULL DEFAULT '',
            recipe TEXT NOT NULL, parents TEXT NOT NULL DEFAULT '[]', tags TEXT NOT NULL DEFAULT '[]',
            rating INTEGER NOT NULL DEFAULT 0, created_at REAL NOT NULL, PRIMARY KEY (job, idx))""",
        "CREATE INDEX assets_by_id ON assets(id)",
        "CREATE INDEX assets_by_time ON assets(created_at DESC)",
    ],
    [
        "UPDATE jobs SET attempt = 0",
        "ALTER TABLE jobs RENAME COLUMN attempt TO deaths",
        "ALTER TABLE jobs DROP COLUMN lease_until",
        "ALTER TABLE jobs DROP COLUMN parent",
    ],
]


def migrate(db) -> None:
    """Bring an open transaction's database to the newest version. StoreFailed if it is newer than this program."""
    version = db.exec_driver_sql("PRAGMA user_version").scalar()
    if version > len(MIGRATIONS):
        raise StoreFailed(
            f"The database has version {version}, this program knows {len(MIGRATIONS)}.",
            "Update SD-Reverie, or point REVERIE_STORAGE to another folder.",
        )
    for number in range(version, len(MIGRATIONS)):
        for statement in MIGRATIONS[number]:
            db.exec_driver_sql(statement)
    if version < len(MIGRATIONS):
        db.exec_driver_sql(f"PRAGMA user_version = {len(MIGRATIONS)}")
