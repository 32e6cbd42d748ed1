"""Cell 5's care: what takes how much of the disk, by kind. It only looks; nothing is deleted."""

from __future__ import annotations

import cells


def main(namespace: dict | None = None) -> None:
    with cells.plainly():
        from reverie import settings
        from reverie.host import storage

        folder = settings.load().storage
        rows = storage.usage(folder)
        print(f"storage {folder}: {size(sum(number for _, _, number in rows))}, {size(storage.free(folder))} free")
        for kind, files, number in rows:
            print(f"  {kind:16s} {size(number):>9s}  {files} file{'' if files == 1 else 's'}")


def size(number: int) -> str:
    """`31.4 MB`"""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


if __name__ == "__main__":
    main()
