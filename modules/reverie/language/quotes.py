"""Whether a text really says what is quoted from it, and where."""

from __future__ import annotations

import re
from functools import lru_cache

LEAST_WORDS = 2  # of a quote: a single word can be found for any claim

_SAME = {char: same for same, chars in {
    "'": "'\"`´‘’‚‛“”„‟«»‹›′″「」『』", "-": "-‐‑‒–—―−", "...": "…"}.items() for char in chars}
_UNSEEN = frozenset("*_\u00ad\u200b\u200c\u200d\u2060\ufeff")  # emphasis of Markdown, soft hyphens, joiners
_SIGNS = re.compile(r"[‘’'“”\"]")
_OPENS = re.compile(r"(?m)(?:(?<=[\s—(])|^)[‘'](?!(?:[Tt]is|[Tt]was|[Tt]were|[Tt]will|em|cause|bout|un|ere|gainst)\b)(?=[\w“\"—…])")
_CLOSES = re.compile(r"(?<=[,.!?;:—…-])['’](?!\w)|(?<=[\w’”])['’](?=[.!?;:,—]|\s*\Z)")
_EDGES = " '-.,;:!?"


def find(text: str, quote: str, least_words: int = LEAST_WORDS) -> tuple[int, int] | None:
    """Where `quote` stands in `text`, as (start, end); None if it does not, or has fewer than `least_words`.

    Blanks, the forms of quotation marks and dashes, and emphasis do not count; every letter does, whole words only.
    """
    plain, places = _normalised(text)
    wanted = _normalised(quote)[0].strip(_EDGES)
    if len(re.findall(r"\w+", wanted)) < least_words:
        return None
    at = plain.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        before, after = plain[at - 1:at] if at else "", plain[end:end + 1]
        if not (before.isalnum() and wanted[0].isalnum() or after.isalnum() and wanted[-1].isalnum()):
            return places[at], places[end - 1] + 1
        at = plain.find(wanted, at + 1)
    return None


def doubled(text: str) -> str:
    """The text with ‘speech’ and 'speech' as “speech”, where that is how its people speak; every other text as it is.

    Nothing moves: one sign stands for one. What is quoted within speech changes the other way.
    """
    single, double = len(_OPENS.findall(text)), len(re.findall(r"[“\"](?=\w)", text))
    if single < 5 or single < 3 * double:
        return text
    return "".join(part if part.isspace() else _doubled_paragraph(part) for part in re.split(r"(\n[ \t]*\n\s*)", text))


def _doubled_paragraph(text: str) -> str:
    within, signs = False, list(text)
    for match in _SIGNS.finditer(text):
        at, sign = match.start(), match[0]
        if sign in "“”\"":
            signs[at] = ("‘" if sign == "“" or sign == '"' and text[at + 1:at + 2].isalnum() else "’") if within else sign
        elif not within and _OPENS.match(text, at):
            signs[at], within = "“", True
        elif within and sign in "'’" and _CLOSES.match(text, at):
            signs[at], within = "”", False
    return "".join(signs)


@lru_cache(maxsize=8)
def _normalised(text: str) -> tuple[str, list[int]]:
    """The text in one form, and for each of its characters where it stood."""
    plain: list[str] = []
    places: list[int] = []
    for place, char in enumerate(text):
        for same in "" if char in _UNSEEN else " " if char.isspace() else _SAME.get(char, char):
            if same not in " -'" or plain[-1:] != [same]:
                plain.append(same)
                places.append(place)
    return "".join(plain), places
