"""A new manifest, or one in place of a lost one, is told what lies there: blobs, what is noted beside them, links in our folders."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Iterator

from reverie.host.depot import linking
from reverie.host.depot.words import HEX, KEPT, kind_of

MAX_BYTES = 255  # of one part of a name, as most file systems have it


def tell_again(depot) -> None:
    """Fill the depot's manifest. Which links a dedup had put in place of files is not known any more."""
    rows = [(blob, kept) for blob in depot.stored() for kept in read_kept(blob.with_name(blob.name + KEPT))]
    known = {blob.name for blob, _ in rows}
    links, models = list(_links_on_disk(depot)), depot.storage / "models"
    with depot.manifest.change() as db:
        for blob, kept in rows:
            depot.write_kept_row(db, blob.name, blob.stat().st_size, kept)
        for at, sha256, view in links:
            db.execute(*depot.link_statement(at, sha256, "symlink", view))
            if sha256 not in known and view == "models" and depot.has(sha256):
                name = "/".join(at.relative_to(models).parts[1:])
                kept = {"kind": kind_of(at, models), "name": name, "url": "", "about": {}, "kept_at": at.lstat().st_mtime}
                depot.write_kept_row(db, sha256, depot.blob(sha256).stat().st_size, kept)
    depot.manifest.settle()


def read_kept(place: Path) -> list[dict[str, Any]]:
    """What is noted beside a blob; what cannot be read, or can be no name of a model, is nothing."""
    try:
        found = json.loads(place.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    return [row for row in found if _is_note(row)] if isinstance(found, list) else []


def _is_note(row: Any) -> bool:
    """Whether it has what a note has. It may come from somebody else's storage, and its name becomes a path in each view."""
    types = {"kind": str, "name": str, "url": str, "about": dict, "kept_at": (int, float)}
    if not isinstance(row, dict) or any(not isinstance(row.get(key), type_) for key, type_ in types.items()):
        return False
    parts = row["name"].split("/")
    try:
        json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except ValueError:
        return False
    return (
        bool(re.fullmatch(r"[a-z_]{1,40}", row["kind"])) and not any(part in ("", ".", "..") or len(part.encode()) > MAX_BYTES for part in parts)
        and not re.search(r"[\x00-\x1f\x7f\\:]", row["name"])
    )


def _links_on_disk(depot) -> Iterator[tuple[Path, str, str]]:
    """(place, SHA-256, view) of every symbolic link in our folders that leads to a blob."""
    if not depot.blobs.is_dir():
        return
    home = os.path.realpath(depot.blobs)
    for at in symlinks_below([depot.storage / "models", depot.storage / "webuis"]):
        said = linking.points_to(at)
        if HEX.fullmatch(os.path.basename(said)) and os.path.realpath(os.path.dirname(os.path.dirname(said))) == home:
            parts = at.relative_to(depot.storage).parts
            yield at, os.path.basename(said), parts[1] if parts[0] == "webuis" else "models"


def symlinks_below(folders: list[Path]) -> Iterator[Path]:
    """Every symbolic link in these folders; links to folders are not followed."""
    for top in folders:
        for folder, below, files in os.walk(top):
            below[:] = [name for name in below if name not in (".git", "__pycache__", "node_modules")]
            yield from (path for name in (*files, *below) if (path := Path(folder, name)).is_symlink())
