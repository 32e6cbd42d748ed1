"""From a text to chapters, scenes, shots and prompts, by rules alone: pure functions that need no model and no torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable

from reverie.language.tongues import book_language

__all__ = ["Reading", "book_language", "read", "sheet_beside"]


@dataclass(frozen=True)
class Reading:
    """A book as it was read: a row per scene, its whole cast, and what a kept sheet should learn of it."""

    rows: list[dict[str, Any]]
    texts: dict[tuple[int, int], str]  # (chapter, scene) → its text, of the whole book
    cast: dict[str, Any]          # name → Person, everyone whom pictures can show
    new: dict[str, Any]           # of them those whom no sheet describes
    unseen: set[str]              # people of the kept sheet whom the text does not name any more
    notes: list[str]              # what a reader should know of the sheets


def read(path: Path | str, chapters=None, characters: Path | str | None = None, style: str = "graphic novel", family: str = "pocket",
         max_tokens: int | None = None, count_tokens=None, kept: Path | None = None,
         slots: Callable[[list[dict]], list[tuple[int, int]]] | None = None) -> Reading:
    """A row per scene of the book at `path`, in order: what it shows, its prompt and its file name; and the cast.

    `chapters`: the numbers wanted, all when None. `characters`: a sheet; without one a `characters.yaml` beside the
    chapters is used. Rows have the keys chapter, chapter_title, scene, words, characters, setting, time, mood, action,
    prompt, negative, filename, and then excerpt, weather, source, budget, span. BadInput where the text cannot be used.
    `kept` is a sheet that goes behind the others. `slots` is given the scenes' spans and tells the chapter and scene under
    which each was first drawn: its picture keeps that composition when scenes are put in before it.
    """
    from reverie.language import chapters as books
    from reverie.language import people, prompts, rules, scenes, sheet

    book = books.read(path)
    wanted = {c.number for c in books.pick(book, chapters)}
    given = sheet.load_sheet(characters or sheet_beside(path))
    own = sheet.load_sheet(kept) if kept is not None and kept.is_file() else {}
    sheets, found = sheet.together(given, own), rules.find_characters(book)
    everyone = sheet.freeze(rules.cast(found, sheets), sheets)
    split = [scene for chapter in book for scene in scenes.split(chapter)]
    texts = {chapter.number: chapter for chapter in book}
    shots = [(scene, shot) for scene, shot in zip(split, rules.describe_all(split, everyone), strict=True) if shot.chapter in wanted]
    spans = [_span(scene, texts[scene.chapter]) for scene, _ in shots]
    drawn_as = slots(spans) if slots else [(shot.chapter, shot.scene) for _, shot in shots]
    rows = []
    for (_, shot), span, (chapter, number) in zip(shots, spans, drawn_as, strict=True):
        prompt = prompts.compose(replace(shot, chapter=chapter, scene=number), family, style, max_tokens, count_tokens)
        rows.append(_row(shot, prompt, prompts.filename(shot)) | {"source": span["file"], "budget": prompt.budget, "span": span})
    whole = "\n".join(chapter.text for chapter in book).lower()
    unseen = {name for name, p in own.items() if not p.narrator and not any(n.lower() in whole for n in people.names(p))}
    doubled = [f"{name} is described in two sheets; {characters or 'characters.yaml beside the text'} goes before {kept}." for name in own if name not in sheets]
    new = {name: p for name, p in everyone.items() if name not in sheets}
    notes = [*doubled, *sheet.doubts(own), *(f"{p.name} {p.note}: join them in the sheet, if so." for p in new.values() if p.note)]
    tongue = book_language(whole)
    if tongue not in ("", "en"):
        notes.append(f"The book seems to be in another language ({tongue}), and the rules that read scenes are English: correct the prompts (they are files) before drawing.")
    return Reading(rows, {(scene.chapter, scene.scene): scene.text for scene in split}, everyone, new, unseen, notes)


def sheet_beside(path: Path | str) -> Path | None:
    """The `characters.yaml` (or .yml) in the book's folder, when there is one."""
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    return next((f for name in ("characters.yaml", "characters.yml") if (f := folder / name).is_file()), None)


def _span(scene, chapter) -> dict:
    """Where the scene stands in its text, and a digest that tells whether it was changed."""
    paragraphs = [1 + chapter.text.count("\n\n", 0, at) for at in (scene.start, scene.end)]
    return {"file": chapter.source, "chapter": scene.chapter, "scene": scene.scene, "start": scene.start, "end": scene.end, "paragraphs": paragraphs,
            "digest": hashlib.sha256(scene.text.encode()).hexdigest()[:16]}


def _row(shot, prompt, filename: str) -> dict:
    return {
        "chapter": shot.chapter, "chapter_title": shot.chapter_title, "scene": shot.scene, "words": shot.words,
        "characters": shot.characters, "setting": shot.setting, "time": shot.time_phrase, "mood": shot.mood,
        "action": shot.action, "prompt": prompt.prompt, "negative": prompt.negative, "filename": filename,
        "excerpt": shot.excerpt, "weather": shot.weather}
