#!/usr/bin/env python3
"""Build the release package that cell 1 takes: one zip of what the repository holds, the same bytes for the same files.

    python3 scripts/package_release.py                      dist/sd-reverie.zip
    python3 scripts/package_release.py --out ~/reverie.zip
    python3 scripts/package_release.py --list               what would go into it

Put it beside a release under that name, or anywhere, and give its address to cell 1:
    REVERIE_SOURCE = "https://…/sd-reverie.zip#sha256=…"
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MARK = "modules/reverie/__init__.py"
STORED = {".safetensors", ".gz", ".jpg", ".png"}  # these do not get any smaller
EPOCH = (1980, 1, 1, 0, 0, 0)  # a zip's earliest date: the bytes must not depend on when it was built


def files(root: Path) -> list[str]:
    """The names of what git keeps, as it lies in the working tree."""
    command = ["git", "-C", str(root), "ls-files", "-z"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60) if (root / ".git").exists() else None
    if listed is None or listed.returncode:
        sys.exit(f"{root} is no checkout of the repository, so nothing tells what belongs into a package. Clone it with git first.")
    return sorted(name for name in listed.stdout.split("\0") if name and (root / name).is_file())


def version(root: Path) -> str:
    return re.search(r'__version__ = "([^"]+)"', (root / MARK).read_text("utf-8"))[1]


def build(root: Path, out: Path) -> str:
    """Write the package to `out`, whole or not at all; its sha256."""
    top, staged = f"sd-reverie-{version(root)}", out.with_name(f".{out.name}.part")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(staged, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as package:
            for name in files(root):
                path = root / name
                entry = zipfile.ZipInfo(f"{top}/{name}", EPOCH)
                entry.compress_type = zipfile.ZIP_STORED if path.suffix in STORED else zipfile.ZIP_DEFLATED
                entry.external_attr = (0o755 if os.access(path, os.X_OK) else 0o644) << 16
                package.writestr(entry, path.read_bytes())
        digest = hashlib.sha256(staged.read_bytes()).hexdigest()
        staged.replace(out)
    finally:
        staged.unlink(missing_ok=True)
    return digest


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "sd-reverie.zip", metavar="FILE", help="where to (default: dist/sd-reverie.zip)")
    parser.add_argument("--list", action="store_true", help="only list what would go into it")
    given = parser.parse_args(argv)
    if given.list:
        print("\n".join(files(ROOT)))
        return 0
    out = given.out.expanduser().absolute()
    digest = build(ROOT, out)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, version {version(ROOT)}\nREVERIE_SOURCE = \"…/{out.name}#sha256={digest}\"")
    return 0


if __name__ == "__main__":
    sys.exit(main())
