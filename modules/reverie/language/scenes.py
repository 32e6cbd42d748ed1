"""Scenes out of a chapter: at the author's break marks, else where place, time or people change between paragraphs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from reverie.language import lexicon, numbers, signals
from reverie.language.chapters import Chapter

#: Words that a scene found by changes should have: fewer are joined to a neighbour, more are parted.
TARGET_WORDS = (150, 900)

_ORNAMENT = "*＊•·~#§❦❧☙∗⁎⁂†‡%\u2190-\u2bff\ue000-\uf8ff\U0001f300-\U0001faff\ufe0e\ufe0f"
_MARK = (
    rf"(?mi)^[ \t]*(?:(?:[{_ORNAMENT}](?:[ \t]*[{_ORNAMENT}])*|(?:[-–—=_+][ \t]*){{3,}}"
    rf"|(?=[^\n{_ORNAMENT}]*[{_ORNAMENT}])[{_ORNAMENT} \t<>()|^.:=_+–—-]{{2,60}}"
    r"|[-~*=_. \t]{0,20}<flourishes>[-~*=_. \t]{0,20}|<hr ?/?>|\[(?:scene )?break\])[ \t]*\\?)[ \t]*(?:\n|\Z)")
_NUMBER_LINE = re.compile(r"(?:^|(?<=\n\n))[ \t]*(\d{1,3}|[IVXL]{1,7})\.?[ \t]*(?=\n[ \t]*\n)")
#: How a letter, an entry of a diary or a caption of time begins: "12 May 1897", "My dear Emma,", "Three days later".
_OPENING = (
    r"(?im)[ \t*_]*(?:(?:[\w.' ]{2,40},[ \t]+){0,2}(?:<weekdays>,?[ \t]+)?"
    r"(?:(?:the[ \t]+)?\d{1,2}(?:st|nd|rd|th)?(?:[ \t]+of)?[ \t]+<months>\b\.?"
    r"|<months>\b\.?[ \t]+\d{1,2}(?:st|nd|rd|th)?\b|<weekdays>|\d{1,2}[./]\d{1,2}[./]\d{2,4})"
    r"(?:,?[ \t]+\d{4})?(?:[ \t]*[,.:;—–*_-]|[ \t]*$)"
    r"|[^\n’']{3,40}[’']s?[ \t]+<documents>\b[^\n]{0,30}$|<letters>(?:,|[ \t]+from)?[ \t]+[^\n]{3,60}[ \t]+to[ \t][^\n]{3,60}$"
    r"|(?:my[ \t]+)?(?:own[ \t]+)?dear(?:est)?\b[^\n.!?]{0,40}[,:—][ \t]*$"
    r"|(?:<counts>[ \t]+<spans>s?[ \t]+(?:later|earlier|before)|(?:the[ \t]+)?<which_times>[ \t]+<times_of_day>"
    r"|later(?:[ \t]+that[ \t]+\w+)?|meanwhile)[.:*_]{0,3}[ \t]*$)")
_GAP = re.compile(r"\n(?:[ \t]*\n)+")
_SENTENCE = re.compile(r"[.!?…][”’\"')\]]*\s+")
_WORD = re.compile(r"\w[\w'’-]*")
_OPENS = 3.0       # how much change an opening says, beside what border_scores gives
_LONG = 3          # a scene between marks is parted further when it is so many times the longest
_BLOCK_WORDS = 40  # paragraphs shorter than this stand with the next: it bounds the work, whatever the text


@dataclass(frozen=True)
class Scene:
    """One scene. `start` and `end` are characters in the chapter's text; `text` is that span without outer blanks."""

    chapter: int
    chapter_title: str
    scene: int
    text: str
    start: int
    end: int
    words: int


def split(chapter: Chapter, target_words: tuple[int, int] = TARGET_WORDS) -> list[Scene]:
    """The chapter's scenes in order. Their spans lose nothing of the text but break marks and blanks around them."""
    text = chapter.text
    spans = _marked(text)
    most = target_words[1] * (_LONG if len(spans) > 1 else 0)
    spans = [part for span in spans for part in (_by_change(text, span, target_words) if _is_longer(text, span, most) else [span])]
    full = [span for span in spans if _WORD.search(text, *span)]
    return [Scene(chapter.number, chapter.title, i, text[start:end].strip(), start, end, count_words(text[start:end]))
            for i, (start, end) in enumerate(full, 1)]


def count_words(text: str) -> int:
    return len(_WORD.findall(text))


def _is_longer(text: str, span: tuple[int, int], words: int) -> bool:
    return span[1] - span[0] > 2 * words and count_words(text[slice(*span)]) > words


def _marked(text: str) -> list[tuple[int, int]]:
    """Spans between break marks; long runs of blank lines count where the text's paragraphs have shorter ones,

    and lines with nothing but a number do where they count up ("2", "3" or "I", "II").
    """
    cuts = [m.span() for m in lexicon.pattern(_MARK).finditer(text)] + [(start, start) for start in _counting(text)]
    gaps = [(m.span(), m[0].count("\n")) for m in _GAP.finditer(text)]
    if len(gaps) > 2:
        usual = sorted(n for _, n in gaps)[len(gaps) // 2]
        marked = {place for cut in cuts for place in cut}
        cuts += [(end, end) for (start, end), n in gaps
                 if n >= usual + 2 and end < len(text) and marked.isdisjoint(range(start, end + 1))]
    spans, start = [], 0
    for a, b in sorted(cuts):
        spans.append((start, a))
        start = b
    return [s for s in [*spans, (start, len(text))] if text[slice(*s)].strip()] or [(0, len(text))]


def _counting(text: str) -> list[int]:
    """Where the numbered sections of a chapter begin."""
    found: list[tuple[int, int]] = []
    for match in _NUMBER_LINE.finditer(text):
        number = numbers.parse(match[1])
        if number and (number == found[-1][0] + 1 if found else number <= 2):
            found.append((number, match.start()))
    return [start for _, start in found] if len(found) > 1 else []


def _by_change(text: str, span: tuple[int, int], target: tuple[int, int]) -> list[tuple[int, int]]:
    blocks = _blocks(text, span, target[1])
    scores = signals.border_scores([text[a:b] for a, b, _ in blocks])
    scores = [score + _OPENS * _opens(text, a) for score, (a, _, _) in zip(scores, blocks)]
    borders = _best_borders([n for _, _, n in blocks], scores, target)
    starts = [blocks[i][0] for i in borders] or [span[0]]
    return list(zip(starts, [*starts[1:], span[1]]))


def _opens(text: str, at: int) -> bool:
    return bool(lexicon.pattern(_OPENING).match(text, at))


def _blocks(text: str, span: tuple[int, int], most: int) -> list[tuple[int, int, int]]:
    """Contiguous (start, end, words): paragraphs, short ones joined, and overlong ones parted between sentences."""
    start, end = span
    cuts = [m.end() for m in _GAP.finditer(text, start, end)]
    if not cuts:
        cuts = [m.end() for m in re.compile(r"\n").finditer(text, start, end)]
    blocks, a, words = [], start, 0
    last = start
    for b in [*cuts, end]:
        words += count_words(text[last:b])
        last = b
        if words > most // 2 and words > 300:
            blocks += _sentences(text, a, b, most // 3)
        elif words >= _BLOCK_WORDS or (b < end and words and _opens(text, b) and not (words < 12 and _opens(text, a))):
            blocks.append((a, b, words))
        elif b == end and blocks:
            blocks[-1] = (blocks[-1][0], b, blocks[-1][2] + words)
        elif b == end:
            blocks.append((a, b, words))
        else:
            continue
        a, words = b, 0
    return blocks or [(start, end, count_words(text[start:end]))]


def _sentences(text: str, start: int, end: int, most: int) -> list[tuple[int, int, int]]:
    blocks, a, words, last = [], start, 0, start
    for b in [*(m.end() for m in _SENTENCE.finditer(text, start, end)), end]:
        words += count_words(text[last:b])
        last = b
        if words >= most or b == end:
            blocks.append((a, b, words))
            a, words = b, 0
    return [part for block in blocks if block[0] < block[1] for part in (_at_words(text, *block, most) if block[2] > 2 * most else [block])]


def _at_words(text: str, start: int, end: int, words: int, most: int) -> list[tuple[int, int, int]]:
    """A sentence without an end, parted where it must be."""
    cuts = [m.start() for m in list(_WORD.finditer(text, start, end))[most::most]]
    borders = [start, *cuts, end]
    return [(a, b, count_words(text[a:b])) for a, b in zip(borders, borders[1:])]


def _best_borders(words: list[int], scores: list[float], target: tuple[int, int]) -> list[int]:
    """Indices of the blocks that begin a scene: most change at the borders for the best lengths.

    Dynamic programming over the last border; a scene's length bounds how far back it looks, so it is linear.
    """
    least, most = target
    ideal = (least + most) / 2.4
    best, back, total = [0.0], [0], [0]
    for n in words:
        total.append(total[-1] + n)
    for end in range(1, len(words) + 1):
        options = []
        for begin in range(end - 1, -1, -1):
            length = total[end] - total[begin]
            if length > most and begin < end - 1:
                break
            change = scores[begin] if begin else 0.0
            options.append((best[begin] + change - _cost(length, least, ideal), begin))
        value, begin = max(options)
        best.append(value)
        back.append(begin)
    borders, end = [], len(words)
    while end > 0:
        end = back[end]
        borders.append(end)
    return borders[::-1]


def _cost(length: int, least: int, ideal: float) -> float:
    short = max(0.0, 1 - length / least) * 8
    return 1.5 + short + ((length - ideal) / ideal) ** 2 * 1.2
