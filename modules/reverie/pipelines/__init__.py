"""Everything a person can ask for. A pipeline is one module in this folder with

    NAME, TITLE     words for people
    Params          a pydantic model, flat; its fields draw flags, widgets and papermill parameters (see faces/forms.py)
    run(studio, params) -> Iterator[Update]

`run` yields as things happen; stopping the iteration (closing the generator, or KeyboardInterrupt in it) cancels what is
still queued or running and keeps what is finished. Cancel from another thread: `studio.cancel(session)`.

Field metadata in `json_schema_extra`: `widget` ("text", "textarea", "path", "seed", "slider"), `choices` (a list, or the
name of a list that forms.py fills: "models", "styles", "samplers", "engines", "writers"), `flag` (another name for the
command line), `advanced` (hidden behind a fold).
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Update:
    """One thing that happened. `kind`:

    plan      `data` = list of rows (what will be made), before anything is
    note      `text` for people
    progress  `fraction` of the whole 0..1, `preview` JPEG bytes of the picture in the making (or empty), `text`
    picture   `path` of a finished picture (absolute), `data` = its row or recipe, `fraction`
    failed    `text` = the sentence of one job's error; the run goes on where it can
    done      `data` = summary: {"session", "pictures": [paths], "failed": n, "seconds", "storyboard": path or None, …}
    """

    kind: str
    text: str = ""
    fraction: float = 0.0
    preview: bytes = b""
    path: Path | None = None
    data: Any = field(default=None)


def names() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def get(name: str):
    """The pipeline module called `name` (with NAME, TITLE, Params, run)."""
    return importlib.import_module(f"reverie.pipelines.{name}")
