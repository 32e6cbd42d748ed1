"""What belongs beside a model: `.civitai.info`, `.json`, `.preview.png`. Kept beside its blob, copied to each place it is seen at.

Copied and not linked: WebUIs write into these files (A1111 keeps the user's notes in `<stem>.json`, and replaces
`<stem>.preview.png`), and through a link they would write into everybody's.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
from pathlib import Path
from typing import Iterator

from reverie import media
from reverie.errors import BadInput
from reverie.host.depot import linking
from reverie.host.depot.words import BESIDE, MODEL_ENDS

MOST_BYTES = 64 << 20
_STEM = "model"


def put(blob: Path, end: str, content: bytes | Path) -> None:
    """Keep this for the model: `end` is what its name has after the model's stem. BadInput if it is no such end, or too large."""
    if not re.fullmatch(r"\.[\w.-]{1,40}", end):
        raise BadInput(f"'{end}' is not how a file's name ends.", "Give something like .civitai.info or .preview.png.")
    data = content if isinstance(content, bytes) else content.read_bytes()
    if len(data) > MOST_BYTES:
        raise BadInput(f"What belongs beside {blob.name[:12]} has {len(data) / 1e6:.0f} MB.", "Only notes and previews belong there.")
    media.write_bytes(blob.with_name(blob.name + BESIDE) / f"{_STEM}{end}", data)


def expose(blob: Path, at: Path) -> None:
    """Copy what is kept beside the model at `at`, where nothing has that name."""
    for kept, place in _pairs(blob, at):
        if not os.path.lexists(place):
            part = linking.staging(place)
            try:
                part.write_bytes(kept.read_bytes())
                with contextlib.suppress(FileExistsError):
                    linking.publish(part, place)
            finally:
                part.unlink(missing_ok=True)


def withdraw(blob: Path, at: Path) -> None:
    """Take away what is still as we copied it: notes that somebody wrote since are theirs. A model of the same stem keeps them."""
    if any(other.suffix in MODEL_ENDS for other in at.parent.glob(f"{glob.escape(at.stem)}.*")):
        return
    for kept, place in _pairs(blob, at):
        with contextlib.suppress(OSError):
            if linking.is_regular(linking.lstat(place)) and place.read_bytes() == kept.read_bytes():
                place.unlink()


def _pairs(blob: Path, at: Path) -> Iterator[tuple[Path, Path]]:
    """(what is kept, its place beside the model at `at`)"""
    folder = blob.with_name(blob.name + BESIDE)
    for kept in sorted(folder.glob(f"{_STEM}.*")) if folder.is_dir() else ():
        yield kept, at.with_name(at.stem + kept.name.removeprefix(_STEM))
