"""What a short film of scenes shows when: lengths, camera moves, captions. Pure: no picture is opened here."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from reverie import storyboard

FPS = 24
FADE_S = 0.5
CARD_S = 2.75
READING_WPM = 200  # a usual pace of silent reading
PACE = 40  # times faster than reading: a scene of 400 words, two minutes to read, stands for 3 s
SCENE_S = (2.5, 6.0)  # shorter is not seen, longer is not watched
TIGHTEST = 1.0 / 1.16  # the closest view, as a part of the widest
CAPTION_LETTERS = 92  # two lines
# Camera moves: where the view is (across and down, 0..1 of the free room; size as a part of the widest) first and last.
MOVES = {
    "in": ((0.5, 0.40, 1.0), (0.5, 0.45, TIGHTEST)),
    "up": ((0.35, 1.0, 0.94), (0.65, 0.15, 0.94)),
    "out": ((0.5, 0.55, TIGHTEST), (0.5, 0.40, 1.0)),
    "right": ((0.0, 0.25, 0.92), (1.0, 0.60, 0.92)),
    "down": ((0.6, 0.0, 0.94), (0.4, 0.85, 0.94)),
    "left": ((1.0, 0.60, 0.92), (0.0, 0.30, 0.92)),
}
CARD_MOVE = ((0.5, 0.5, 1.0), (0.5, 0.5, 0.95))

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Clip:
    """One picture on the screen from `start` to `end` (seconds; neighbours in a chapter overlap by FADE_S)."""

    picture: Path
    start: float
    end: float
    move: tuple
    caption: str = ""   # short, in the picture; a card's title
    subtitle: str = ""  # whole, beside the film
    kicker: str = ""    # above a card's title
    is_card: bool = False


def clips(title: str, rows: list[dict[str, Any]]) -> list[Clip]:
    """The film in order: each chapter's card, then its scenes that have a picture. A chapter ends before the next begins."""
    film: list[Clip] = []

    def add(seconds: float, **more) -> None:
        before = film[-1].end if film else 0.0
        start = before if more.get("is_card") else before - FADE_S
        film.append(Clip(start=start, end=start + seconds, **more))

    for scenes in chapters(rows):
        first = storyboard.images(scenes[0])[0]
        numbered, name = storyboard.heading(scenes[0])
        kicker = f"{title} · {numbered}" if name else title
        add(CARD_S, picture=first, move=CARD_MOVE, caption=name or numbered, kicker=kicker, is_card=True)
        for row in scenes:
            picture, whole = storyboard.images(row)[0], storyboard.caption(row)
            short = shortened(whole)
            add(seconds_for(int(row.get("words") or 0), short), picture=picture, move=move_of(row), caption=short, subtitle=whole)
    return film


def chapters(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The rows that have a picture, chapter by chapter."""
    drawn = [row for row in rows if storyboard.images(row)]
    return [list(group) for _, group in groupby(drawn, key=lambda row: row.get("chapter"))]


def seconds_for(words: int, caption: str) -> float:
    """How long a scene stays: as its words would take to read, PACE times faster, within SCENE_S; but its caption can be read.

    Rounded to whole frames, so that every clip begins on one.
    """
    scaled = 60 * words / READING_WPM / PACE
    reading = 60 * len(caption.split()) / READING_WPM + FADE_S
    seconds = min(SCENE_S[1], max(SCENE_S[0], scaled, reading))
    return round(seconds * FPS) / FPS


def shortened(text: str, most: int = CAPTION_LETTERS) -> str:
    """At most `most` letters, cut after a part of the sentence where there is one, else after a word."""
    if len(text) <= most:
        return text
    head = text[: most - 1]
    cut = max(head.rfind(mark) for mark in (", ", "; ", ": ", "—"))
    cut = cut if cut > most // 2 else head.rfind(" ")
    return (head[:cut] if cut > 0 else head).rstrip(" ,;:—…") + "…"


def move_of(row: dict[str, Any]) -> tuple:
    """The scene's camera move; it follows from chapter and scene, and differs from the neighbours'."""
    names = list(MOVES)
    return MOVES[names[(int(row.get("scene") or 0) + 3 * int(row.get("chapter") or 0)) % len(names)]]


def ease(part: float) -> float:
    """0..1 → 0..1, slow at both ends."""
    part = min(1.0, max(0.0, part))
    return part * part * (3 - 2 * part)


def view(clip: Clip, now: float, picture: tuple[int, int], film: tuple[int, int]) -> Box:
    """What the camera sees at `now`: left, top, right, bottom in the picture's pixels, never past its border."""
    done = ease((now - clip.start) / (clip.end - clip.start))
    across, down, part = (first + (last - first) * done for first, last in zip(*clip.move, strict=True))
    return window(across, down, part, picture, film)


def window(across: float, down: float, part: float, picture: tuple[int, int], film: tuple[int, int]) -> Box:
    """A window of the film's shape, `part` of the largest that the picture holds, at a place in the room that is left."""
    fit = min(picture[0] / film[0], picture[1] / film[1]) * part
    width, height = film[0] * fit, film[1] * fit
    left, top = (picture[0] - width) * across, (picture[1] - height) * down
    return left, top, left + width, top + height
