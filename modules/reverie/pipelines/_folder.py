"""The folder of an illustrate run: who may write into it, what is put there, and which pictures stay as they are."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reverie import media, prompt_cache, recipes
from reverie.errors import BadInput, Busy, NotFound, StoreFailed
from reverie.language import sheet as cast_sheet

STORYBOARD_WIDTH = 512  # pixels, at least
CLAIMS = "claims.json"


@contextmanager
def hold(out: Path):
    """The output folder for this run alone. Busy if another run has it, StoreFailed if it cannot be written."""
    from filelock import FileLock, Timeout

    lock = FileLock(media.folder(out) / ".reverie.lock")
    try:
        with media.writing(out):
            lock.acquire(timeout=0)
    except Timeout:
        raise Busy(f"Another run is drawing into {out}.", "Wait for it, or choose another folder: --out FOLDER") from None
    try:
        yield
    finally:
        lock.release()


def filenames(filename: str, count: int) -> list[str]:
    """One name, or `count` numbered ones (`…_b.png` would not sort beyond 26)."""
    stem = filename.removesuffix(".png")
    return [filename] if count == 1 else [f"{stem}_{index + 1:02d}.png" for index in range(count)]


def pictures(out: Path, row: dict[str, Any], count: int) -> list[Path]:
    """Where the scene's pictures lie now, or would: under the names of the last run until this one has moved them."""
    name = prompt_cache.lies_at(out, row)
    return [out / each for each in filenames(name, count)] if name else []


def stays(picture: Path, key: str) -> bool:
    """Whether a scene's picture is there to stay: made from this very task, or a person's own."""
    if not picture.exists():
        return False
    try:
        recipe = recipes.read(picture)
    except NotFound:
        return True
    except BadInput:
        return False
    return recipe["source"] != "reverie" or recipe.get("key") == key or not prompt_cache.is_placed(picture)


def put(source: Path, target: Path) -> None:
    """The picture at `target`, at least STORYBOARD_WIDTH pixels wide, with its recipe."""
    data = source.read_bytes()
    picture = media.open_picture(source, data)
    larger = media.enlarge(picture, STORYBOARD_WIDTH)
    if larger is not picture:
        recipe = {name: value for name, value in recipes.read(source, data).items() if name != "source"}
        data = media.encode_png(larger, recipe)
    prompt_cache.note_placed(target, data)
    media.write_bytes(target, data)


def keep(out: Path, reading) -> list[str]:
    """Keep the character sheet, and by chapter what a writer claims, each with its quote and its place in the text."""
    notes, claims = cast_sheet.keep(out, reading), {}
    people = [{"person": name} | claim for name, told in reading.claims.items() for claim in told]
    for claim in [*people, *(claim for row in reading.rows for claim in row["claims"])]:
        claims.setdefault(str(claim["chapter"]), []).append(claim)
    if claims:
        media.write_text(out / CLAIMS, json.dumps(_kept_claims(out) | claims, ensure_ascii=False, indent=1))
    return notes


def propose(out: Path, reading) -> list[str]:
    """Keep the character sheet of a dry run; a folder that another run holds, or that cannot be written, is no reason to fail."""
    if not cast_sheet.is_due(out, reading) and not reading.claims:
        return []
    try:
        with hold(out):
            return keep(out, reading)
    except StoreFailed as error:
        return [f"The character sheet was not written: {error}"]


def _kept_claims(out: Path) -> dict[str, list]:
    try:
        return dict(json.loads((out / CLAIMS).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
