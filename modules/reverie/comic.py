"""Scenes with pictures become pages like a comic's: panels in rows with white gutters, a caption each, as one PDF to print."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from reverie import media, storyboard
from reverie.lettering import Block, shape

DPI, QUALITY = 200, 88  # of the pages, and of the JPEG inside
PAGE = (1654, 2339)  # pixels: A4
MARGIN, GUTTER, FOOTER = 104, 34, 60
TITLE, HEADING, TEXT, SMALL = 72, 46, 25, 22  # pixels of letters; 25 at 200 dpi are 9 points
INK, PALE, GREY, WHITE, NARRATION = (24, 24, 28), (232, 232, 228), (112, 112, 118), (255, 255, 255), (255, 251, 238)
BORDER = 3
PAD = 13


@dataclass(frozen=True)
class Item:
    """Something at a place of a page, in pixels from its top left: a title, a chapter's heading, or a panel."""

    kind: str
    x: int
    y: int
    width: int
    height: int
    text: Block | None = None
    above: Block | None = None
    picture: Path | None = None
    shot: tuple[int, int] = (0, 0)  # width and height of the panel's picture


def build(title: str, rows: list[dict[str, Any]], out_path) -> int:
    """Write the pages of `rows` (storyboard rows) to `out_path`; how many there are. A page at a time is in memory."""
    pages = layout(title, rows)
    about = {"title": title, "creator": "SD-Reverie", "producer": "SD-Reverie"}
    with media.staged(Path(out_path)) as part:
        for number, items in enumerate(pages):
            page = draw_page(title, items, number + 1, len(pages))
            page.save(part, "PDF", append=number > 0, resolution=DPI, quality=QUALITY, **about)
    return len(pages)


def layout(title: str, rows: list[dict[str, Any]]) -> list[list[Item]]:
    """Every page's items. Rows of a chapter are filled; a heading stays with the row below it."""
    sheet = _Sheet(title)
    columns, aspect = _grid([path for row in rows for path in storyboard.images(row)])
    for _, group in groupby(rows, key=lambda row: row.get("chapter")):
        scenes = list(group)
        panels = [(row, path) for row in scenes for path in storyboard.images(row) or [None]]
        head = _heading(scenes[0])
        for start in range(0, len(panels), columns):
            sheet.add(head if start == 0 else [], _row(panels[start : start + columns], columns, aspect))
    return sheet.pages


class _Sheet:
    """Pages that are filled from the top."""

    def __init__(self, title: str):
        block = shape(title, _inner(), 260, TITLE, 40, bold=True)
        self.pages: list[list[Item]] = [[Item("title", MARGIN, MARGIN, _inner(), block.height + 26, block)]]
        self._y = MARGIN + block.height + 26 + GUTTER

    def add(self, *groups: list[Item]) -> None:
        """Put groups under one another, all on this page or all on the next."""
        tall = sum(_height(group) + GUTTER for group in groups if group)
        if self._y + tall - GUTTER > PAGE[1] - MARGIN - FOOTER and self._y > MARGIN:
            self.pages.append([])
            self._y = MARGIN
        for group in filter(None, groups):
            self.pages[-1] += [Item(**{**vars(item), "y": item.y + self._y}) for item in group]
            self._y += _height(group) + GUTTER


def _height(group: list[Item]) -> int:
    return max(item.y + item.height for item in group)


def _inner() -> int:
    return PAGE[0] - 2 * MARGIN


def _grid(paths: list[Path]) -> tuple[int, float]:
    """Panels in a row, and width over height of each: as the usual picture is, within reason."""
    from PIL import Image

    aspects = [1.0]
    for number, path in enumerate(paths):
        with Image.open(path) as picture:
            aspects = [*aspects[number == 0 :], picture.width / picture.height]
    aspect = min(2.2, max(0.66, statistics.median(aspects)))
    return (2 if aspect > 1.3 else 3), aspect


def _heading(row: dict[str, Any]) -> list[Item]:
    numbered, name = storyboard.heading(row)
    above = shape(numbered.upper(), _inner(), 60, SMALL) if name else None
    block = shape(name or numbered, _inner(), 200, HEADING, 30, bold=True)
    height = block.height + (above.height + 4 if above else 0)
    return [Item("heading", MARGIN, 0, _inner(), height, block, above)]


def _row(panels: list[tuple[dict, Path | None]], columns: int, aspect: float) -> list[Item]:
    """Panels side by side over the whole width. A full row has its captions below; in a shorter one they stand beside."""
    width = (_inner() - GUTTER * (columns - 1)) // columns
    shot = (width, round(width / aspect))
    beside = len(panels) < columns
    cell = (_inner() - GUTTER * (len(panels) - 1)) // len(panels)
    room = (cell - width, shot[1]) if beside else (width, 5 * TEXT + 2 * PAD)
    texts = [_caption(row, room, TEXT + beside * 8 * (columns - len(panels))) for row, _ in panels]
    below = 0 if beside else max((text.height for text in texts), default=0) + 2 * PAD
    return [
        Item("panel", MARGIN + number * (cell + GUTTER), 0, cell, shot[1] + below, text, None, path, shot)
        for number, ((_, path), text) in enumerate(zip(panels, texts, strict=True))
    ]


def _caption(row: dict[str, Any], room: tuple[int, int], size: int) -> Block:
    return shape(storyboard.caption(row), room[0] - 2 * PAD, room[1] - 2 * PAD, size, TEXT - 4)


def draw_page(title: str, items: list[Item], number: int, count: int):
    """One page as a Pillow picture."""
    from PIL import Image, ImageDraw

    page = Image.new("RGB", PAGE, WHITE)
    pen = ImageDraw.Draw(page)
    for item in items:
        _DRAW[item.kind](page, pen, item)
    foot = PAGE[1] - MARGIN + 4
    shape(title, _inner() * 2 // 3, 40, SMALL).draw(pen, MARGIN, foot, GREY)
    pen.text((PAGE[0] - MARGIN, foot), f"{number} / {count}", fill=GREY, font=shape("0", 99, 99, SMALL).font, anchor="ra")
    return page


def _draw_title(page, pen, item: Item) -> None:
    item.text.draw(pen, item.x, item.y, INK)
    pen.rectangle((item.x, item.y + item.height - 6, item.x + item.width, item.y + item.height), fill=INK)


def _draw_heading(page, pen, item: Item) -> None:
    top = item.y
    if item.above:
        item.above.draw(pen, item.x, top, GREY)
        top += item.above.height + 4
    item.text.draw(pen, item.x, top, INK)


def _draw_panel(page, pen, item: Item) -> None:
    from PIL import Image, ImageOps

    right, bottom = item.x + item.width - 1, item.y + item.height - 1
    pen.rectangle((item.x, item.y, right, bottom), fill=NARRATION)
    wide, tall = item.shot
    if item.picture:
        page.paste(ImageOps.fit(media.open_picture(item.picture), item.shot, Image.Resampling.LANCZOS), (item.x, item.y))
    else:
        pen.rectangle((item.x, item.y, item.x + wide - 1, item.y + tall - 1), fill=PALE)
        shape("not drawn yet", wide, tall, TEXT).draw(pen, item.x + wide / 2, item.y + tall / 2 - TEXT, GREY, centred=True)
    pen.rectangle((item.x, item.y, item.x + wide - 1, item.y + tall - 1), outline=INK, width=BORDER)
    pen.rectangle((item.x, item.y, right, bottom), outline=INK, width=BORDER)
    if item.width > wide:
        item.text.draw(pen, (item.x + wide + right) / 2, item.y + (tall - item.text.height) / 2, INK, centred=True)
    else:
        item.text.draw(pen, item.x + PAD, item.y + tall + PAD, INK)


_DRAW = {"title": _draw_title, "heading": _draw_heading, "panel": _draw_panel}
