"""Cell 5's care: what takes how much of the disk, by kind. It only looks; nothing is deleted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cells

KINDS = {
    "pictures": ("outputs/pictures",), "storyboards": ("outputs/illustrate",), "other outputs": ("outputs",), "models": ("models",),
    "start pictures": ("inputs",), "database": ("reverie.sqlite3", "reverie.sqlite3-wal", "reverie.sqlite3-shm"),
    "logs and caches": ("logs", "cache"),
}


def main(namespace: dict | None = None) -> None:
    with cells.plainly():
        from reverie import settings

        storage = settings.load().storage
        rows = usage(storage)
        print(f"storage {storage}: {size(sum(number for _, _, number in rows))}, {size(shutil.disk_usage(storage).free)} free")
        for kind, files, number in rows:
            print(f"  {kind:16s} {size(number):>9s}  {files} file{'' if files == 1 else 's'}")


def usage(storage: Path) -> list[tuple[str, int, int]]:
    """(kind, files, bytes), largest first. A file is counted once, under the first kind that has its folder."""
    seen: set[tuple[int, int]] = set()
    rows = []
    for kind, places in KINDS.items():
        found = [count(storage / place, seen) for place in places]
        files, number = (sum(column) for column in zip(*found))
        if files:
            rows.append((kind, files, number))
    return sorted(rows, key=lambda row: -row[2])


def count(place: Path, seen: set[tuple[int, int]]) -> tuple[int, int]:
    """Files and bytes under `place`; hard links and what was counted before are not counted again."""
    files = number = 0
    paths = [place] if place.is_file() else (Path(folder) / name for folder, _, names in os.walk(place) for name in names)
    for path in paths:
        try:
            stat = path.lstat()
        except OSError:
            continue  # gone meanwhile
        if (stat.st_dev, stat.st_ino) not in seen:
            seen.add((stat.st_dev, stat.st_ino))
            files, number = files + 1, number + stat.st_size
    return files, number


def size(number: int) -> str:
    """`31.4 MB`"""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


if __name__ == "__main__":
    main()
