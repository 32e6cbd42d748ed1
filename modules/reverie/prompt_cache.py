"""One text file per scene with its prompt, for people to edit: `OUT/prompts/NAME.txt`.

    the prompt, on as many lines as one likes
    Negative: what to keep out

`OUT/prompts/.composed.json` remembers what the program itself wrote, so that an edit is told from an older version of ours.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Iterable

from reverie import media

_MARK = "Negative:"


def keep(out: Path, scenes: Iterable[dict[str, Any]]) -> None:
    """Write the prompt files of scenes (with filename, prompt, negative); those that a person edited stay as they are."""
    composed = _composed(out)
    before = dict(composed)
    for scene in scenes:
        path = _path(out, scene["filename"])
        if not _is_edited(path, composed):
            text = _format(scene["prompt"], scene["negative"])
            composed[path.name] = _digest(text)
            _write_changed(path, text)
    if composed != before:
        media.write_text(_index(out), json.dumps(composed, indent=1, sort_keys=True))


def edit(out: Path, filename: str, prompt: str, negative: str) -> Path:
    """Write a scene's prompt as a person's own."""
    path = _path(out, filename)
    _write_changed(path, _format(prompt, negative))
    composed = _composed(out)
    if composed.setdefault(path.name, "") == _digest(_format(prompt, negative)):
        return path  # put back to what we composed: no edit any more
    media.write_text(_index(out), json.dumps(composed, indent=1, sort_keys=True))
    return path


def edits(out: Path) -> dict[str, dict[str, str]]:
    """File name of the picture → `{prompt, negative}`, for every scene whose prompt file a person changed."""
    composed = _composed(out)
    found = {}
    for path in sorted((out / "prompts").glob("*.txt")):
        if _is_edited(path, composed):
            prompt, _, negative = path.read_text("utf-8", "replace").partition(_MARK)
            found[f"{path.stem}.png"] = {"prompt": " ".join(prompt.split()), "negative": " ".join(negative.split())}
    return found


def _is_edited(path: Path, composed: dict[str, str]) -> bool:
    """An emptied file is no edit: it is composed anew."""
    if not path.exists():
        return False
    text = path.read_text("utf-8", "replace")
    return bool(text.strip()) and composed.get(path.name) != _digest(text)


def _format(prompt: str, negative: str) -> str:
    return f"{prompt}\n{_MARK} {negative}\n"


def _write_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text("utf-8", "replace") != text:
        media.write_text(path, text)


def _path(out: Path, filename: str) -> Path:
    return out / "prompts" / f"{filename.removesuffix('.png')}.txt"


def _index(out: Path) -> Path:
    return out / "prompts" / ".composed.json"


def _composed(out: Path) -> dict[str, str]:
    try:
        return json.loads(_index(out).read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def _digest(text: str) -> str:
    return media.sha256(text.encode())[:16]
