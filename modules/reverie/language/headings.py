"""The headings of a book among its lines: Markdown's, or plain lines that can be nothing else."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

from reverie.language import lexicon, matter, numbers

_NUMBER = numbers.PATTERN
_SEPARATED = rf"(?P<number>{_NUMBER})\s*(?:[.:)—–-]+\s*(?P<title>.*))?"
_CHAPTER = rf"(?i)(?:(?P<chapter><chapter_words>)|<part_words>)\s+(?:{_SEPARATED}|(?P<number2>{_NUMBER})\s+(?P<title2>\S.*))"
_NUMBERED = re.compile(_SEPARATED, re.I)
_NAMED = re.compile(r"(?P<name>prologue|epilogue|interlude|intermezzo|coda)\s*(?:[.:—–-]+\s*(?P<title>.*))?", re.I)
_HASHES = re.compile(r"(#{1,6})\s+(.*?)\s*#*\s*")
_NOTES = r"(?i)<notes>\s*(\(.*\)|[:—–-].{0,60})?"
_CHAPTER_WORDS = 400  # what parts a text without numbers is a chapter's heading where so much stands under it
_BOOK_WORDS = 8000    # and the whole is longer than one chapter
_LONG_GAP = 3         # blank lines
_EMPHASIS = re.compile(r"^[*_\s]+|[*_\s:]+$")


@dataclass(frozen=True)
class Heading:
    """A heading line and what it begins: a chapter, a division (a part of the book) or matter around the story."""

    level: int              # of Markdown hashes; 0 for a plain line
    number: int | None
    title: str
    kind: str = "title"     # chapter, numbered, named (prologue, epilogue, interlude), title, division, matter
    name: str = ""
    body: int = 0           # the line where the text begins
    line: int = 0


def find(lines: list[str]) -> list[Heading]:
    """The headings that part the book, in order: its chapters' and, between them, those of divisions and matter."""
    every = _without_subtitles([h for i, line in enumerate(lines) if (h := _heading(lines, i))])
    counted = _chapters(lines, [h for h in every if h.kind != "matter"])
    named = [h for h in every if h.kind == "named"]
    if not counted or {h.kind for h in counted} == {"title"}:
        counted = sorted([*counted, *(h for h in named if h not in counted)], key=lambda h: h.line)
    level = Counter(h.level for h in counted if h.level).most_common(1)
    level = level[0][0] if level else 0
    first = min((h.line for h in [*counted, *named]), default=len(lines))
    taken, last = {h.line for h in counted}, None
    parting = []
    for heading in every:
        follows = heading.number is not None and last is not None and heading.number == last + 1
        if heading.line in taken:
            if heading.level <= max(level, 1) or heading.kind == "named" or (follows and heading.kind == "chapter"):
                parting.append(replace(heading, kind="title") if heading.kind == "division" else heading)
                last = heading.number
        elif heading.kind in ("named", "matter"):
            parting.append(heading)
        elif 0 < heading.level <= level and (heading.line > first or heading.level == level):
            parting.append(replace(heading, kind="division" if heading.level < level or _is_division(heading.title) else "title"))
        elif heading.kind == "division" and not heading.level and heading.line > first:
            parting.append(heading)
    parting += [h for h in counted if h.line not in {e.line for e in every}]  # bare numbers are found by themselves
    return _outside_notes(lines, sorted(parting, key=lambda h: h.line), level)


def is_notes(line: str) -> bool:
    """Whether a line begins the author's notes, which end a chapter."""
    hashes = _HASHES.fullmatch(line.strip())
    bare = _EMPHASIS.sub("", hashes[2] if hashes else line)
    match = len(bare) < 90 and lexicon.pattern(_NOTES).fullmatch(bare)
    return bool(match) and (bool(hashes) or bare.lower() != "notes" or bare.isupper())


def level_of(line: str) -> int:
    """How many hashes a Markdown heading has; 0 for any other line."""
    hashes = _HASHES.fullmatch(line.strip())
    return len(hashes[1]) if hashes else 0


def is_label(text: str) -> bool:
    """Whether a text alone says which chapter it is ("Chapter IV", "12", "Prologue")."""
    found = _named_or_numbered(text.strip(), 1)
    return bool(found) and not found[1]


def _chapters(lines: list[str], every: list[Heading]) -> list[Heading]:
    """The chapters' headings: those that say "chapter", else numbered ones, bare numbers, or titles of one level."""
    if spoken := [h for h in every if h.kind == "chapter"]:
        return spoken
    numbered = [h for h in every if h.kind == "numbered"]
    levels = Counter(h.level for h in every if h.level)
    if numbered and _are_sections(lines, numbered, every):
        numbered = []
    if numbered and (len(numbered) > 1 or len(every) == 1) and 2 * len(numbered) >= levels[numbered[0].level]:
        return numbered
    marked = [h for h in every if h.level]
    return _bare_numbers(lines) or _titles(lines, marked) if marked else _bare_numbers(lines) or _lone_titles(lines) or _gaps(lines)


def _are_sections(lines: list[str], numbered: list[Heading], every: list[Heading]) -> bool:
    """Whether the numbers stand within a few chapters of a book whose chapters have titles: most titles above them hold text."""
    level = min(h.level for h in numbered)
    above = [h for h in every if h.kind == "title" and 0 < h.level < level]
    ends = [next((e.line for e in every if e.line > h.line), len(lines)) for h in above]
    own = sum(sum(len(line.split()) for line in lines[h.body:end]) >= _CHAPTER_WORDS for h, end in zip(above, ends))
    return own >= 3 and 2 * own > len(above)


def _without_subtitles(found: list[Heading]) -> list[Heading]:
    """Without headings that are the title under a number."""
    kept: list[Heading] = []
    for heading in found:
        if not kept or heading.line >= kept[-1].body:
            kept.append(heading)
    return kept


def _outside_notes(lines, headings, level):
    """A list in the notes ("## 1. Pacing") is no chapter: after notes only a heading of the chapters' own kind is."""
    notes = [(i, level_of(line)) for i, line in enumerate(lines) if is_notes(line)]
    kept = []
    for heading in headings:
        since = kept[-1].line if kept else -1
        inside = [n for i, n in notes if since < i < heading.line]
        own = heading.kind in ("chapter", "named") and heading.level == level
        if not inside or own or (heading.level and heading.level < inside[-1]):
            kept.append(heading)
    return kept


def _heading(lines: list[str], i: int) -> Heading | None:
    line = lines[i].strip()
    if not line or len(line) > 130:
        return None
    hashes = _HASHES.fullmatch(line)
    bare = _EMPHASIS.sub("", hashes[2] if hashes else line)
    if not bare or len(bare) > 100:
        return None
    level = len(hashes[1]) if hashes else 0
    if not level and not _stands_alone(lines, i, bare):
        return None
    if is_notes(line):
        return None
    if matter.is_title(bare) and (level or bare.isupper()):
        return Heading(level, None, bare, "matter", body=i + 1, line=i)
    found = _named_or_numbered(bare, level)
    if found is None:
        kind = "division" if _is_division(bare) else "title"
        return Heading(level, None, bare, kind, body=i + 1, line=i) if level or kind == "division" else None
    number, title, name, kind = found
    body = i + 1
    if not title:
        title, body = _title_below(lines, body)
    return Heading(level, number, _EMPHASIS.sub("", title), kind, name, body, i)


def _named_or_numbered(bare: str, level: int):
    if match := _NAMED.fullmatch(bare):
        return None, match["title"] or "", match["name"], "named"
    if match := lexicon.pattern(_CHAPTER).fullmatch(bare):
        # "Part Two" above chapters is a division, not a chapter; it is one only where it heads the text in Markdown.
        number = numbers.parse(match["number"] or match["number2"])
        title = match["title"] or match["title2"] or ""
        chapter = bool(match["chapter"])
        if number is not None and chapter and (level or match["number"] or _looks_like_title(title)):
            return number, title, "", "chapter"
        return None
    if level and (match := _NUMBERED.fullmatch(bare)):
        number = numbers.parse(match["number"])
        return (number, match["title"] or "", "", "numbered") if number is not None else None
    return None


def _is_division(bare: str) -> bool:
    match = lexicon.pattern(_CHAPTER).fullmatch(bare)
    return bool(match) and not match["chapter"] and (bool(match["number"]) or _looks_like_title(match["title2"]))


def _stands_alone(lines: list[str], i: int, bare: str) -> bool:
    before = not i or not lines[i - 1].strip() or set(lines[i - 1].strip()) <= set("*-=_ ")
    return before and len(bare.split()) <= 14


def _title_below(lines: list[str], i: int) -> tuple[str, int]:
    """The next non-empty line when it reads as a title; the text begins after it."""
    j = next((k for k in range(i, len(lines)) if lines[k].strip()), None)
    if j is None:
        return "", i
    hashes = _HASHES.fullmatch(lines[j].strip())
    bare = _EMPHASIS.sub("", hashes[2] if hashes else lines[j])
    followed = j + 1 < len(lines) and not lines[j + 1].strip() and any(line.strip() for line in lines[j + 1:])
    if is_notes(lines[j]) or (hashes and (_named_or_numbered(bare, 1) or matter.is_title(bare))):
        return "", i
    return (bare, j + 1) if (hashes and bare) or (followed and _looks_like_title(bare)) else ("", i)


def _looks_like_title(text: str) -> bool:
    words = re.findall(r"[^\W\d_][\w'’-]*", text)
    if not words or len(words) > 10 or text[-1] in ".,;:" or text[0] in "“\"‘'":
        return False
    long = [w for w in words if len(w) > 4]
    return words[0][0].isupper() and (text.isupper() or all(w[0].isupper() for w in long))


def _bare_numbers(lines: list[str]) -> list[Heading]:
    """Lines that hold only a number ("III", "4.") are headings when they count up from one; "4. The Storm" where a chapter follows each."""
    found, titled, expected = [], [], {"": 1, "title": 1}
    for i, line in enumerate(lines):
        bare = line.strip().rstrip(".")
        if not 0 < len(bare) < 80 or not _stands_alone(lines, i, bare):
            continue
        match = _NUMBERED.fullmatch(bare)
        number = numbers.parse(match["number"]) if match else None
        if number is None:
            continue
        if not match["title"] and number == expected[""]:
            title, body = _title_below(lines, i + 1)
            found.append(Heading(0, number, title, "numbered", body=body, line=i))
            expected[""] += 1
        elif match["title"] and match["title"][0].isupper() and number in (1, expected["title"], expected["title"] + 1):
            titled = titled if number > 1 else []  # a table of contents counts, too: the last count is the book's
            titled.append(Heading(0, number, match["title"], "numbered", body=i + 1, line=i))
            expected["title"] = number + 1
    return found if len(found) >= 2 else titled if _hold_chapters(lines, titled) else []


def _hold_chapters(lines: list[str], found: list[Heading], least: int = _CHAPTER_WORDS, book: int = 0) -> bool:
    """Whether there are three at least, half of them with `least` words and all together with `book` words."""
    ends = [*(h.line for h in found[1:]), len(lines)]
    words = sorted(sum(len(line.split()) for line in lines[h.body:end]) for h, end in zip(found, ends))
    return len(found) >= 3 and words[len(words) // 2] >= least and sum(words) >= book


def _lone_titles(lines: list[str]) -> list[Heading]:
    """Lines without a number that read as titles, in capitals or with wider gaps before them than paragraphs have."""
    usual = _usual_gap(lines)
    for fits in (lambda bare, gap: bare.isupper() and gap > usual, lambda bare, gap: gap > usual, lambda bare, gap: bare.isupper()):
        found, blank = [], usual + 1
        for i, line in enumerate(lines):
            bare = _EMPHASIS.sub("", line.strip())
            ends = i + 1 < len(lines) and not lines[i + 1].strip()
            if bare and blank and ends and len(bare) < 80 and bare[-1] not in ".!" and _looks_like_title(bare) and fits(bare, blank):
                found.append(Heading(0, None, bare, "title", body=i + 1, line=i))
            blank = 0 if line.strip() else blank + 1
        if _hold_chapters(lines, found, book=_BOOK_WORDS):
            return found
    return []


def _gaps(lines: list[str]) -> list[Heading]:
    """Chapters without a heading, parted by three blank lines or more where paragraphs have fewer."""
    usual, blank, found = _usual_gap(lines), _LONG_GAP, []
    for i, line in enumerate(lines):
        if line.strip() and blank >= max(_LONG_GAP, usual + 2):
            found.append(Heading(0, len(found) + 1, "", "numbered", body=i, line=i))
        blank = 0 if line.strip() else blank + 1
    return found if _hold_chapters(lines, found, 1000, 2 * _BOOK_WORDS) else []


def _usual_gap(lines: list[str]) -> int:
    """How many blank lines most paragraphs have between them."""
    gaps, blank = Counter(), 0
    for line in lines:
        if line.strip() and blank:
            gaps[blank] += 1
        blank = 0 if line.strip() else blank + 1
    return gaps.most_common(1)[0][0] if gaps else 1


def _titles(lines: list[str], found: list[Heading]) -> list[Heading]:
    """Markdown headings without numbers: those of the highest level that has text of its own beneath it.

    A book's or a part's title has little: what stands under it stands under the headings below.
    """
    own, everything = Counter(), 0
    for heading, after in zip(found, [*(h.line for h in found[1:]), len(lines)]):
        words = sum(len(line.split()) for line in lines[heading.body:after])
        own[heading.level] += words
        everything += words
    level = next((n for n in sorted(own) if own[n] >= 0.2 * everything and own[n]), min(own, default=0))
    return [h for h in found if h.level == level and h.kind != "named"]
