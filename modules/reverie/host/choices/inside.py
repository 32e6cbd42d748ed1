"""Whether a place that somebody else's file names lies within our own folders. Pure: nothing is looked up."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Iterable


def leads_out(place: str, folders: Iterable[Path]) -> bool:
    """Whether `place` is a path, and not one within `folders`. Addresses (https:…, hf:owner/repo) and ids are no paths."""
    begins = re.match(r"(?i:file:)|[/~.\\]|[A-Za-z]:[\\/]", place)
    is_path = begins or ("/" in place or "\\" in place) and not re.match(r"\w+:", place)
    return bool(is_path) and not is_inside(Path(re.sub(r"^file:(//)?", "", place, flags=re.IGNORECASE)), folders)


def is_inside(path: Path, folders: Iterable[Path]) -> bool:
    return path.is_absolute() and ".." not in path.parts and any(path.is_relative_to(folder) for folder in folders)
