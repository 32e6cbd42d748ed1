"""The words of the depot: what is kept, what was linked, what was done; and what counts as a model."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reverie.host.resources import FOLDERS

KEPT, BESIDE = ".kept.json", ".beside"  # ends of names beside a blob
HEX = re.compile(r"[0-9a-f]{64}")
MODEL_ENDS = frozenset(".safetensors .sft .ckpt .pt .pth .bin .gguf .onnx .h5 .msgpack .tflite .task".split())
NO_MODELS = frozenset({".git", "__pycache__", "node_modules", "site-packages", "venv", ".venv", "bin", "blobs"})


@dataclass(frozen=True)
class Kept:
    """One name under which bytes are kept. `path` is the blob."""

    sha256: str
    size: int
    kind: str
    name: str
    path: Path
    url: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    kept_at: float = 0.0


@dataclass(frozen=True)
class LinkRow:
    """A link that we made. `way` is symlink, hardlink or copy; `run` the id of the dedup that put it where a file had been."""

    path: Path
    sha256: str
    way: str
    view: str
    run: str = ""


@dataclass(frozen=True)
class Change:
    """One thing that was done, or would be: to which file, what, and how many bytes that gives back."""

    path: Path
    what: str
    bytes: int = 0
    sha256: str = ""


@dataclass
class Report:
    """What was done. `freed_bytes` is what the disk really has more: a file with other hard links gives nothing back."""

    action: str
    dry_run: bool = False
    run: str = ""  # undo takes this
    changes: list[Change] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)  # and why
    freed_bytes: int = 0
    read_bytes: int = 0
    seconds: float = 0.0


def kind_of(path: Path, models: Path) -> str:
    """The kind of a model by the folder of `models` in which it lies; "" if by none."""
    with contextlib.suppress(ValueError):
        first = path.relative_to(models).parts[0]
        return next((kind for kind, folder in FOLDERS.items() if folder == first), "")
    return ""


def plain(thing: Any) -> Any:
    """A report, a change, a problem as JSON has it."""
    return json.loads(json.dumps(asdict(thing), default=str))
