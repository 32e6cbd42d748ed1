"""Every finished picture: where it lies, how it was made, what people said of it."""

from __future__ import annotations

import json
from typing import Any

from reverie.errors import NotFound
from reverie.store.jobs import _event
from reverie.types import Asset, Job


class Library:
    def __init__(self, store):
        self._store = store

    def finish(self, job: Job, assets: list[Asset]) -> None:
        """Record a job's pictures and its success in one transaction: both or neither."""
        with self._store.begin() as db:
            for asset in assets:
                db.exec_driver_sql(
                    """INSERT OR REPLACE INTO assets (id, job, idx, media, width, height, bytes, path, prompt, recipe,
                       parents, tags, rating, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
                    (asset.id, asset.job, asset.index, asset.media, asset.width, asset.height, asset.bytes, asset.path,
                     asset.recipe.get("prompt", ""), json.dumps(asset.recipe), json.dumps(asset.parents),
                     json.dumps(asset.tags), asset.rating, asset.created_at),
                )
                _event(db, job, "asset", asset=asset.id)
            self._store.jobs.move_in(db, job, "succeeded")

    def of_job(self, job_id: str) -> list[Asset]:
        """A job's pictures in the order of their seeds."""
        return self._select("WHERE job = ? ORDER BY idx", (job_id,))

    def get(self, asset_id: str) -> Asset:
        """The asset of this id, or of an unambiguous beginning of it (at least 6 characters)."""
        if len(asset_id) >= 6 and asset_id.isalnum():
            found = self._select("WHERE id GLOB ? GROUP BY id LIMIT 2", (f"{asset_id}*",))
            if len(found) == 1:
                return found[0]
        raise NotFound(f"There is no picture '{asset_id}' in the library.", "List them: reverie library list")

    def list(self, limit: int = 50, words: str = "", offset: int = 0) -> list[Asset]:
        """The newest first; with `words`, those whose prompt has all of them."""
        terms = words.split()
        where = " AND ".join(["prompt LIKE ? ESCAPE '\\'"] * len(terms))
        values = [f"%{term.replace(chr(92), chr(92) * 2).replace('%', chr(92) + '%').replace('_', chr(92) + '_')}%" for term in terms]
        clause = f"WHERE {where} " if terms else ""
        return self._select(f"{clause}ORDER BY created_at DESC, idx LIMIT ? OFFSET ?", (*values, limit, offset))

    def count(self) -> int:
        with self._store.read() as db:
            return db.exec_driver_sql("SELECT count(*) FROM assets").scalar()

    def _select(self, clause: str, values: tuple[Any, ...]) -> list[Asset]:
        with self._store.read() as db:
            rows = db.exec_driver_sql(f"SELECT * FROM assets {clause}", values).mappings().all()
        return [_asset(row) for row in rows]


def _asset(row) -> Asset:
    fields = {name: row[name] for name in ("id", "job", "media", "width", "height", "bytes", "path", "rating", "created_at")}
    return Asset(**fields, index=row["idx"], recipe=json.loads(row["recipe"]), parents=tuple(json.loads(row["parents"])),
                 tags=tuple(json.loads(row["tags"])))
