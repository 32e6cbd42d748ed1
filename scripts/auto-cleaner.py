"""Cell 5's care: what takes how much of the disk, what of it could go and why, and a bin with a way back.

    python scripts/auto-cleaner.py                 look; nothing is changed
    python scripts/auto-cleaner.py --dry-run       say what would go into the bin, and what would be stored once
    python scripts/auto-cleaner.py --yes           put everything that is safe to go into the bin, store duplicates once
    python scripts/auto-cleaner.py --old-days 90   what counts as an old output

Nothing is deleted: `reverie storage undo` brings it back, `reverie storage empty` gives the room back for good.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "modules")] * (__name__ == "__main__")

import cells  # noqa: E402


def main(namespace: dict | None = None) -> None:
    """In an open notebook the Storage tab, which looks around in a thread; else the same in lines."""
    with cells.plainly():
        if cells.headless():
            tell()
        else:
            from reverie.faces.widgets.care import CareTab

            tab = CareTab()
            cells.show(tab.widget)
            tab.look_again()


def tell() -> None:
    """How much of what, and how much of it could go."""
    from reverie import settings
    from reverie.errors import ReverieError
    from reverie.host import storage
    from reverie.host.depot import care

    here = settings.load()
    rows = storage.usage(here.storage)
    print(f"storage {here.storage}: {size(sum(number for _, _, number in rows))}, {size(storage.free(here.storage))} free")
    for kind, files, number in rows:
        print(f"  {kind:16s} {size(number):>9s}  {files} file{'' if files == 1 else 's'}")
    try:
        items = care.look(here).items if here.storage.is_dir() else []
    except ReverieError as error:  # a storage that may only be read: what it holds was told
        print(error)
        return
    for group in dict.fromkeys(item.group for item in items):
        found = [item for item in items if item.group == group]
        print(f"  could go: {group}, {size(sum(item.bytes for item in found))}. {found[0].why[0].upper()}{found[0].why[1:]}.")
    if items:
        print("  See: reverie storage show")


def clean(old_days: float, dry_run: bool) -> int:
    """Everything that is safe goes into the bin, or is stored once; the rest is named. The exit code."""
    from reverie import settings
    from reverie.host.depot import care

    here = settings.load()
    picture = care.look(here, old_days)
    safe = [item for item in picture.items if item.safe]
    would = "would be " if dry_run else ""
    done = 0
    for report in care.apply(here, safe, dry_run):
        for change in report.changes:
            print(f"{change.path}: {would}{change.what if report.action == 'dedup' else 'moved to the bin, ' + change.what} ({size(change.bytes)})")
        for path, why in report.skipped:
            print(f"{path}: left as it is, {why}")
        done += max(0, report.freed_bytes)
    for item in picture.items:
        if not item.safe:
            print(f"{item.title}: left to you, {item.why} ({size(item.bytes)})")
    print(f"{size(done)} {would}cleared. Undo: reverie storage undo. For good: reverie storage empty" if safe else "Nothing is there that could safely go.")
    return 0


def size(number: int) -> str:
    """`31.4 MB`"""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def shell(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage="auto-cleaner.py [options]")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")
    parser.add_argument("--yes", action="store_true", help="do it without asking")
    parser.add_argument("--old-days", type=float, default=30, metavar="N", help="outputs older than this count as old (default: 30)")
    given = parser.parse_args(argv)
    from reverie.errors import ReverieError

    try:
        if given.dry_run or given.yes:
            return clean(given.old_days, given.dry_run)
        tell()
        return 0
    except ReverieError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Stopped. What is done stays done.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(shell())
