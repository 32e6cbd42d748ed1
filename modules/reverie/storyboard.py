"""Scenes with pictures become one HTML page that needs no other file: to read on a phone, to send, to print."""

from __future__ import annotations

import base64
import html
import io
import os
import re
from itertools import groupby
from pathlib import Path
from typing import Any, Iterable

from reverie import media

MIN_WIDTH, MAX_WIDTH = 512, 1344  # pixels of an embedded picture
QUALITY = 86  # of WebP: no visible loss on drawn pictures, a tenth of PNG's bytes
SKETCH_MODELS = ("pocket",)
SKETCH_NOTE = "a small sketch model: it blocks out a scene, it does not paint one"
# `{{` and `}}` would be easier to read, but scene texts may hold them; a comment cannot come out of `html.escape`.
_SLOT = re.compile(r"<!--slot:(\w+)-->")


def build(title: str, rows: Iterable[dict[str, Any]], out_path, *, style: str = "", model: str = "") -> Path:
    """Write the storyboard of `rows` to `out_path` and return it; an older page is replaced only by a whole new one.

    A row is what the illustrate pipeline plans (chapter, chapter_title, scene, words, characters, setting, time, mood,
    action, prompt, negative, filename) with `image`, a path or a list of paths, and `excerpt`, a few words of the text.
    `grades`, as the check gives them, mark weak pictures. Rows without a picture are shown as not drawn yet. StoreFailed if the page cannot be written.
    """
    return media.write_text(Path(out_path), page(title, list(rows), style=style, model=model))


def page(title: str, rows: list[dict[str, Any]], *, style: str = "", model: str = "") -> str:
    """The whole page as text."""
    chapters = [(number, list(group)) for number, group in groupby(rows, key=lambda row: row.get("chapter"))]
    slots = {
        "page_title": f"{_text(title)} · storyboard",
        "title": _text(title),
        "counts": _counts(chapters, rows),
        "model": _model_line(model, style),
        "nav": _nav(chapters) if len(chapters) > 1 else "",
        "chapters": "\n".join(_chapter(number, group) for number, group in chapters)
        or '<p class="nothing">There are no scenes yet.</p>',
        "footer": "Made with SD-Reverie. Click a picture for its full size; the arrow keys go on from there.",
    }
    return _SLOT.sub(lambda match: slots[match[1]], _template())


def model_label(model: str) -> str:
    """The model's name, said honestly: `pocket (sketch model)`."""
    return f"{model} (sketch model)" if model in SKETCH_MODELS else model


def heading(row: dict[str, Any]) -> tuple[str, str]:
    """`("Chapter 3", "The Gate")`; the title is empty where it says no more than the number."""
    numbered, title = f"Chapter {row.get('chapter', '')}".strip(), str(row.get("chapter_title") or "").strip()
    return numbered, "" if title.casefold() == numbered.casefold() else title


def caption(row: dict[str, Any]) -> str:
    """A line of the text that tells the scene; what happens in it, or where, when it has no words."""
    for key in ("excerpt", "action", "setting"):
        if text := " ".join(str(row.get(key) or "").split()):
            return text[0].upper() + text[1:]
    return ""


def description(row: dict[str, Any]) -> str:
    """What the picture shows, for those who cannot see it: who does what, where and when."""
    people = row.get("characters") or []
    who = people if isinstance(people, str) else " and ".join(people[:2])
    deed = " ".join(part for part in (who, str(row.get("action") or "")) if part)
    parts = [deed] + [str(row.get(key) or "") for key in ("setting", "time", "weather")]
    text = "; ".join(" ".join(part.split()) for part in parts if part.strip())
    return f"{text[0].upper()}{text[1:]}." if text else f"A picture of scene {row.get('scene', 1)}."


def picture_uri(path) -> tuple[str, int, int]:
    """A picture as a WebP data URI between MIN_WIDTH and MAX_WIDTH wide, with its width and height in pixels."""
    from PIL import Image

    picture = media.open_picture(path)
    width = min(max(picture.width, MIN_WIDTH), MAX_WIDTH)
    if width != picture.width:
        height = max(1, round(picture.height * width / picture.width))
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}", picture.width, picture.height


def _template() -> str:
    from reverie import settings

    return (settings.load().assets / "storyboard.html").read_text("utf-8")


def _text(value: Any) -> str:
    return html.escape(str(value if value is not None else "").strip())


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _counts(chapters, rows) -> str:
    parts = [_plural(len(chapters), "chapter"), _plural(len(rows), "scene"), _plural(sum(len(images(row)) for row in rows), "picture")]
    words = sum(int(row.get("words") or 0) for row in rows)
    return " · ".join(parts + ([_plural(words, "word")] if words else []))


def _model_line(model: str, style: str) -> str:
    parts = []
    if model:
        note = f", {SKETCH_NOTE}" if model in SKETCH_MODELS else ""
        parts.append(f"Drawn by <b>{_text(model)}</b>{note}.")
    if style:
        parts.append(f"Style: {_text(style)}.")
    return " ".join(parts)


def _nav(chapters) -> str:
    links = "".join(f'<li><a href="#chapter-{_text(number)}">{_chapter_name(number, group[0])}</a></li>' for number, group in chapters)
    return f'<nav class="chapters" aria-label="Chapters"><ol class="wrap">{links}</ol></nav>'


def _chapter_name(number, row) -> str:
    return _text(row.get("chapter_title")) or f"Chapter {_text(number)}"


def _chapter(number, group) -> str:
    title = _text(group[0].get("chapter_title"))
    numbered = f"Chapter {_text(number)}"
    heading = f"<small>{numbered}</small>{title}" if title and title.casefold() != numbered.casefold() else numbered
    scenes = "\n".join(_scene(row) for row in group)
    return f'<section class="chapter" id="chapter-{_text(number)}"><h2>{heading}</h2>\n<div class="scenes">\n{scenes}\n</div></section>'


def _scene(row: dict[str, Any]) -> str:
    words = f"<span>{_plural(int(row['words']), 'word')}</span>" if row.get("words") else ""
    excerpt = f"<blockquote>{_text(row['excerpt'])}</blockquote>" if row.get("excerpt") else ""
    return (
        f'<article class="scene">{_pictures(row)}<div class="text">'
        f"<h3>Scene {_text(row.get('scene'))}{words}</h3>{_chips(row)}{excerpt}{_prompt(row)}</div></article>"
    )


def images(row: dict[str, Any]) -> list[Path]:
    """The row's pictures that are there."""
    value = row.get("image") or []
    paths = [value] if isinstance(value, (str, os.PathLike)) else value
    return [Path(path) for path in paths if Path(path).is_file()]


def _pictures(row: dict[str, Any]) -> str:
    paths = images(row)
    if not paths:
        return '<div class="pictures"><div class="undrawn">not drawn yet</div></div>'
    where = f"Chapter {_text(row.get('chapter'))}, scene {_text(row.get('scene'))}"
    alt = _text(row.get("action") or row.get("excerpt") or row.get("prompt"))
    return f'<div class="pictures{" many" if len(paths) > 1 else ""}">{"".join(_picture(path, where, alt) for path in paths)}</div>'


def _picture(path: Path, where: str, alt: str) -> str:
    uri, width, height = picture_uri(path)
    return (
        f'<button type="button" data-where="{where}" title="Full size">'
        f'<img src="{uri}" width="{width}" height="{height}" alt="{alt}" decoding="async"></button>'
    )


def _chips(row: dict[str, Any]) -> str:
    characters = row.get("characters") or []
    who = [characters] if isinstance(characters, str) else list(characters)
    chips = [f'<li class="who">{_text(name)}</li>' for name in who if _text(name)]
    chips += [f'<li class="{key}">{_text(row[key])}</li>' for key in ("setting", "time", "weather", "mood") if row.get(key)]
    chips += [f'<li class="weak">weak match, rank {grade["rank"]} of {grade["of"]}</li>' for grade in _weak(row)]
    return f'<ul class="chips">{"".join(chips)}</ul>' if chips else ""


def _weak(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The worst grade of the row's pictures, if it is a weak one."""
    grades = [grade for grade in row.get("grades") or [] if grade["weak"]]
    return sorted(grades, key=lambda grade: grade["sure"])[:1]


def _prompt(row: dict[str, Any]) -> str:
    named = (("Prompt", "prompt"), ("Negative", "negative"), ("File", "filename"))
    items = "".join(f"<dt>{label}</dt><dd>{_text(row[key])}</dd>" for label, key in named if row.get(key))
    return f"<details><summary>Prompt</summary><dl>{items}</dl></details>" if items else ""
