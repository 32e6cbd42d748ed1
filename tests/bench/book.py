"""How long a dry run of a whole book takes and how much memory (limits for 120,000 words: 10 s and 500 MB).

    python tests/bench/book.py [BOOK.epub | FOLDER] [--words 120000]

Without a book, an EPUB is made of the sample chapters, as often as it takes. The dry run is a process of its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from html import escape
from itertools import cycle
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONTAINER = """<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
<rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>"""
PACKAGE = """<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata/><manifest>{}</manifest><spine>{}</spine></package>"""


def epub(path: Path, words: int) -> int:
    """Write an EPUB of at least so many words; returns how many it has."""
    texts = [file.read_text("utf-8") for file in sorted((ROOT / "assets/samples/the-time-machine").glob("chapter_*.md"))]
    count, chapters = 0, []
    for text in cycle(texts):
        if count >= words:
            break
        paragraphs = "".join(f"<p>{escape(part)}</p>" for part in text.split("\n\n") if not part.startswith("#"))
        chapters.append(f"<html xmlns='http://www.w3.org/1999/xhtml'><body><h2>Chapter {len(chapters) + 1}</h2>{paragraphs}</body></html>")
        count += len(text.split())
    names = [f"chapter-{number:03d}" for number in range(len(chapters))]
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("mimetype", "application/epub+zip")
        file.writestr("META-INF/container.xml", CONTAINER)
        items = "".join(f'<item id="{name}" href="{name}.xhtml" media-type="application/xhtml+xml"/>' for name in names)
        file.writestr("book.opf", PACKAGE.format(items, "".join(f'<itemref idref="{name}"/>' for name in names)))
        for name, text in zip(names, chapters, strict=True):
            file.writestr(f"{name}.xhtml", text)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("book", nargs="?", type=Path)
    parser.add_argument("--words", type=int, default=120_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        book, words = args.book, None
        if book is None:
            book = Path(scratch) / "book.epub"
            words = epub(book, args.words)
        command = [sys.executable, "-m", "reverie.faces.cli", "illustrate", str(book), "--dry-run", "--json", "--out", f"{scratch}/out"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "modules"), "REVERIE_STORAGE": f"{scratch}/storage"}
        begun = time.perf_counter()
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, timeout=600)
        seconds = time.perf_counter() - begun
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        scenes = done.stdout.count(b'"filename"')
        print(f"{words or 'its own'} words, {scenes} scenes: {seconds:.1f} s "
              f"({spent.ru_utime + spent.ru_stime:.1f} s of processor time), {spent.ru_maxrss / 1024:.0f} MB at the peak")


if __name__ == "__main__":
    main()
