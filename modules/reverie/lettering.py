"""Words on pictures: a font that has the letters, lines that fit their box, and text to be read on any ground."""

from __future__ import annotations

import functools
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass

# Regular and bold, the first that is installed and has every letter of a text; Pillow's own font (ASCII only) is the last resort.
FAMILIES = (
    ("LiberationSans-Regular.ttf", "LiberationSans-Bold.ttf"), ("arial.ttf", "arialbd.ttf"), ("Arial.ttf", "Arial Bold.ttf"),
    ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"), ("NotoSans-Regular.ttf", "NotoSans-Bold.ttf"), ("", ""),
)
PLAINER = {"—": " - ", "–": "-", "…": "...", "“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "‐": "-", "‑": "-"}
LEADING = 1.08  # line height over the font's own ascent and descent
_NOT_A_LETTER = "\uffff"


@dataclass(frozen=True)
class Block:
    """Lines of text in one font. `width` and `height` in pixels; `cut` tells that not everything found room."""

    lines: tuple[str, ...]
    font: object
    width: int
    height: int
    step: int
    cut: bool = False

    def draw(self, pen, x: float, y: float, fill, centred: bool = False, **more) -> None:
        """Onto a Pillow `ImageDraw`, the first line's top at `y`; `x` is the left edge, or the middle where `centred`."""
        for number, line in enumerate(self.lines):
            pen.text((x, y + number * self.step), line, fill=fill, font=self.font, anchor="ma" if centred else "la", **more)


def shape(text: str, width: int, height: int, size: int, smallest: int = 0, bold: bool = False) -> Block:
    """`text` in a box of pixels: at `size`, else smaller down to `smallest`, else cut with an ellipsis.

    Letters that no installed font has become plainer ones or are left out; a word wider than the box is broken.
    """
    family, text = _lettered(" ".join(str(text).split()))
    least = min(smallest or size, size)
    while (block := _block(text, _font(family, size, bold), width, height)).cut and size > least:
        size = max(least, int(size * 0.92))
    return block


def _block(text: str, font, width: int, height: int) -> Block:
    step = max(1, round(sum(font.getmetrics()) * LEADING))
    room = max(1, height // step)
    lines = _wrapped(text, font, width)
    if cut := len(lines) > room:
        lines = [*lines[: room - 1], _shortened(lines[room - 1], font, width)]
    widest = max((font.getlength(line) for line in lines), default=0)
    return Block(tuple(lines), font, round(widest), step * len(lines), step, cut)


def _wrapped(text: str, font, width: int) -> list[str]:
    lines: list[str] = []
    line, used, space = "", 0.0, font.getlength(" ")
    for word in text.split():
        length = font.getlength(word)  # a word at a time: measuring whole lines anew costs several times as much
        if line and used + space + length <= width:
            line, used = f"{line} {word}", used + space + length
            continue
        lines += [line] if line else []
        *whole, line = _broken(word, font, width) if length > width else [word]
        lines, used = lines + whole, font.getlength(line) if whole else length
    return [*lines, line] if line else lines


def _broken(word: str, font, width: int) -> list[str]:
    """A word as pieces that are no wider than `width`; scripts without spaces come as one long word."""
    pieces = []
    while word:
        room = max(1, bisect_right(range(1, len(word) + 1), width, key=lambda letters: font.getlength(word[:letters])))
        pieces.append(word[:room])
        word = word[room:]
    return pieces


def _shortened(line: str, font, width: int) -> str:
    dots = "…" if _has(_family_of(font), "…") else "..."
    while " " in line and font.getlength(line + dots) > width:
        line = line.rpartition(" ")[0]
    while line and font.getlength(line + dots) > width:
        line = line[:-1]
    return line.rstrip(" ,;:—-") + dots


def _lettered(text: str) -> tuple[int, str]:
    """The first family with all of these letters, or the first with their letters made plainer."""
    text = "".join(c for c in text if c == " " or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn"))
    installed = [family for family in range(len(FAMILIES)) if _font(family, 24, False)]
    whole = next((family for family in installed if all(_has(family, c) for c in set(text))), None)
    if whole is not None:
        return whole, text
    best = max(installed, key=lambda family: (sum(_has(family, c) for c in set(text)), -family))
    return best, " ".join("".join(_plainer(best, c) for c in text).split())


def _plainer(family: int, letter: str) -> str:
    forms = (letter, PLAINER.get(letter, ""), "".join(c for c in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(c)))
    return next((form for form in forms if form and all(_has(family, c) for c in form)), "")


@functools.lru_cache(maxsize=4096)
def _has(family: int, letter: str) -> bool:
    font = _font(family, 24, False)
    return letter == " " or bytes(font.getmask(letter)) != bytes(font.getmask(_NOT_A_LETTER))


@functools.lru_cache(maxsize=64)
def _font(family: int, size: int, bold: bool):
    """A Pillow font (not bold where there is only the regular one), or None where the family is not installed."""
    from PIL import ImageFont

    for name in (FAMILIES[family][bold], FAMILIES[family][0]):
        try:
            return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
        except OSError:
            continue
    return None


def _family_of(font) -> int:
    return next(family for family in range(len(FAMILIES)) if (own := _font(family, 24, False)) and own.getname()[0] == font.getname()[0])
