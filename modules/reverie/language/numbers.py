"""Chapter numbers as people write them: `3`, `III`, `three`, `twenty-first`."""

from __future__ import annotations

import re

_UNITS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
          "seventeen eighteen nineteen").split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_ORDINALS = ("zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
             "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth").split()
_WORDS = {w: i for i, w in enumerate(_UNITS)} | {w: i for i, w in enumerate(_ORDINALS)}
_WORDS |= {w: 10 * i for i, w in enumerate(_TENS, 2)} | {w[:-1] + "ieth": 10 * i for i, w in enumerate(_TENS, 2)}
_ROMAN = re.compile(r"(?=[mdclxvi])m{0,3}(cm|cd|d?c{0,3})(xc|xl|l?x{0,3})(ix|iv|v?i{0,4})", re.I)
_VALUES = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100, "d": 500, "m": 1000}

_WORD = "|".join(sorted(_WORDS, key=len, reverse=True))
#: A number in any of the three forms, to build other patterns from.
PATTERN = rf"(?:\d{{1,4}}|(?:(?:{'|'.join(_TENS)})[\s-]+|(?:{'|'.join(_UNITS[1:10])})[\s-]and[\s-](?={'|'.join(_TENS)}))?(?:{_WORD})|hundred|[mdclxvi]{{1,9}})(?![\w'’])"


def from_roman(text: str) -> int | None:
    """`XIV` → 14; None for what is not a roman numeral."""
    if not text or not _ROMAN.fullmatch(text):
        return None
    values = [_VALUES[c] for c in text.lower()]
    return sum(-v if v < max(values[i:]) else v for i, v in enumerate(values))


def from_words(text: str) -> int | None:
    """`twenty-three`, `one hundred and four`, `Third` → the number; None for other words."""
    total, words = 0, [w for w in re.split(r"[\s-]+", text.lower().strip()) if w != "and"]
    if not words:
        return None
    for word in words:
        if word in ("hundred", "hundredth"):
            total = (total or 1) * 100
        elif word in _WORDS:
            total += _WORDS[word]
        else:
            return None
    return total


def parse(text: str) -> int | None:
    """The number that `text` is, whichever way it is written; None when it is not one."""
    text = text.strip().rstrip(".:")
    if text.isascii() and text.isdigit():
        return int(text)
    words = from_words(text)
    return words if words is not None else from_roman(text)
