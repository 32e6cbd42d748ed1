"""From a text to chapters, scenes, shots and prompts, by rules alone: pure functions that need no model and no torch."""

from __future__ import annotations

from pathlib import Path

from reverie.language.tongues import book_language

__all__ = ["book_language", "illustrate_rows"]


def illustrate_rows(path: Path | str, chapters=None, characters: Path | str | None = None, style: str = "graphic novel",
                    family: str = "pocket", max_tokens: int | None = None, count_tokens=None) -> list[dict]:
    """A row per scene of the book at `path`, in order: what it shows, its prompt and its file name.

    `chapters`: the numbers wanted, all when None. `characters`: a sheet; without one a `characters.yaml` beside the
    chapters is used. Rows have the keys chapter, chapter_title, scene, words, characters, setting, time, mood, action,
    prompt, negative, filename, and then excerpt, weather, source. BadInput where the text cannot be used.
    """
    from reverie.language import chapters as books
    from reverie.language import prompts, rules, scenes

    book = books.read(path)
    wanted = {c.number for c in books.pick(book, chapters)}
    sources = {c.number: c.source for c in book}
    everyone = rules.cast(rules.find_characters(book), rules.load_sheet(characters or sheet_beside(path)))
    shots = rules.describe_all([scene for chapter in book for scene in scenes.split(chapter)], everyone)
    rows = []
    for shot in shots:
        if shot.chapter in wanted:
            prompt = prompts.compose(shot, family, style, max_tokens, count_tokens)
            rows.append(_row(shot, prompt, prompts.filename(shot)) | {"source": sources[shot.chapter]})
    return rows


def sheet_beside(path: Path | str) -> Path | None:
    """The `characters.yaml` (or .yml) in the book's folder, when there is one."""
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    return next((f for name in ("characters.yaml", "characters.yml") if (f := folder / name).is_file()), None)


def _row(shot, prompt, filename: str) -> dict:
    return {
        "chapter": shot.chapter, "chapter_title": shot.chapter_title, "scene": shot.scene, "words": shot.words,
        "characters": shot.characters, "setting": shot.setting, "time": shot.time_phrase, "mood": shot.mood,
        "action": shot.action, "prompt": prompt.prompt, "negative": prompt.negative, "filename": filename,
        "excerpt": shot.excerpt, "weather": shot.weather}
