"""The same work where nobody clicks: papermill, a script. Plain lines, a strip of pictures, a summary."""

from __future__ import annotations

import io
import json
import time
from typing import Any

from reverie import pipelines, settings
from reverie.errors import BadInput
from reverie.faces import forms

STRIP_COLUMNS, STRIP_TILE, STRIP_MAX = 4, 224, 24


def run_headless(parameters: dict[str, Any]) -> dict[str, Any]:
    """Run illustrate, or generate where `parameters` has a prompt; names that no parameter has are left alone.

    Prints plain lines, shows the pictures, writes storage/outputs/runs/last.json and returns what it holds.
    """
    from reverie.studio import Studio

    pipeline = pipelines.get("generate" if str(parameters.get("prompt") or "").strip() else "illustrate")
    params = forms.parse(pipeline.Params, forms.only_known(pipeline.Params, parameters))
    started, summary, pictures = time.monotonic(), {}, 0
    with Studio.open() as studio:
        for update in pipeline.run(studio, params):
            pictures += update.kind == "picture"
            line = _line(update, pictures)
            if line:
                print(line, flush=True)
            if update.kind == "done":
                summary = dict(update.data or {})
    summary = {"pipeline": pipeline.NAME, "pictures": [], "storyboard": None, **summary, "seconds": round(time.monotonic() - started, 2)}
    if not summary["pictures"] and not getattr(params, "dry_run", False):
        raise BadInput("Nothing was drawn.", "Look at the lines above, mend what they name and run it again.")
    for line in summary.get("check", {}).get("told", []):
        print(line)
    show_strip(summary["pictures"])
    _remember(summary)
    return summary


def show_strip(pictures: list[str]) -> None:
    """The pictures side by side in the notebook, small enough that the saved notebook stays small."""
    from pathlib import Path

    from IPython import get_ipython
    from IPython.display import Image, display

    from reverie import media

    if not pictures or get_ipython() is None:
        return
    sheet = media.contact_sheet([Path(path) for path in pictures[:STRIP_MAX]], STRIP_COLUMNS, STRIP_TILE)
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=85)
    display(Image(data=buffer.getvalue(), format="jpeg", width=sheet.width))


def _line(update, pictures: int) -> str:
    """One update as a line, or nothing: progress within a picture would fill the saved notebook."""
    if update.kind == "plan" and update.data and "scene" in update.data[0]:
        chapters = len({row["chapter"] for row in update.data})
        return f"{len(update.data)} scene{'' if len(update.data) == 1 else 's'} in {chapters} chapter{'' if chapters == 1 else 's'}"
    if update.kind == "picture":
        return f"[{pictures}] {update.path.name}"
    return update.text if update.kind in ("note", "failed") else ""


def _remember(summary: dict[str, Any]) -> None:
    from reverie import media

    media.write_text(settings.load().outputs / "runs" / "last.json", json.dumps(summary, indent=2, default=str))
