"""The storage folder: what lies in it, by kind, and how much room is left. It only looks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

KINDS = {
    "pictures": ("outputs/pictures",),
    "storyboards": ("outputs/illustrate",),
    "other outputs": ("outputs",),
    "models": ("models", "blobs"),
    "WebUIs": ("webuis",),
    "environments": ("venvs",),
    "unfinished downloads": ("downloads",),
    "bin": ("bin",),
    "start pictures": ("inputs",),
    "uploads": ("uploads",),
    "wildcards": ("wildcards",),
    "database": ("reverie.sqlite3", "reverie.sqlite3-wal", "reverie.sqlite3-shm", "depot.sqlite3"),
    "logs and caches": ("logs", "cache", "run"),
    "other": (".",),
}


def usage(storage: Path) -> list[tuple[str, int, int]]:
    """(kind, files, bytes), largest first. A file is counted once, under the first kind that has its folder."""
    seen: set[tuple[int, int]] = set()
    rows = []
    for kind, places in KINDS.items():
        found = [_count(storage / place, seen) for place in places]
        files, size = (sum(column) for column in zip(*found))
        if files:
            rows.append((kind, files, size))
    return sorted(rows, key=lambda row: -row[2])


def free(path: Path) -> int:
    """Bytes that may still be written at `path`, which need not be there yet."""
    return shutil.disk_usage(nearest(path)).free


def nearest(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _count(place: Path, seen: set[tuple[int, int]]) -> tuple[int, int]:
    """Files and bytes under `place`; hard links and what was counted before are not counted again."""
    files = size = 0
    below = (Path(folder) / name for folder, _, names in os.walk(place) for name in names)
    for path in [place] if place.is_file() else below:
        try:
            stat = path.lstat()
        except OSError:
            continue  # gone meanwhile
        if (stat.st_dev, stat.st_ino) not in seen:
            seen.add((stat.st_dev, stat.st_ino))
            files, size = files + 1, size + stat.st_size
    return files, size
