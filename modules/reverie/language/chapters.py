"""Chapters out of files as novelists keep them: Markdown or plain text, one chapter per file or many in one."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from reverie.errors import BadInput
from reverie.language import numbers
from reverie.language.encodings import decode

SUFFIXES = (".md", ".markdown", ".txt")
_SKIPPED = re.compile(r"(readme|licen[cs]e|copying|contributing|changelog)\b.*|notes?|outline|synopsis", re.I)

_NUMBER = numbers.PATTERN
_SEPARATED = rf"(?P<number>{_NUMBER})\s*(?:[.:)—–-]+\s*(?P<title>.*))?"
_CHAPTER = re.compile(rf"(?:chapter|chap\.?|ch\.|part|book)\s+(?:{_SEPARATED}|(?P<number2>{_NUMBER})\s+(?P<title2>\S.*))", re.I)
_NUMBERED = re.compile(_SEPARATED, re.I)
_NAMED = re.compile(r"(?P<name>prologue|epilogue|interlude)\s*(?:[.:—–-]+\s*(?P<title>.*))?", re.I)
_HASHES = re.compile(r"(#{1,6})\s+(.*?)\s*#*\s*")
_NOTES = re.compile(
    r"(craft notes?|author['’]?s?['’]? notes?|notes? (for|on|to|towards) (the )?(revision|self|craft|author|draft|editor)s?"
    r"|revision notes?|editor['’]?s?['’]? notes?|writing notes?|writer['’]?s?['’]? notes?|drafting notes?|notes)"
    r"\s*(\(.*\)|[:—–-].{0,60})?", re.I)
_EMPHASIS = re.compile(r"^[*_\s]+|[*_\s:]+$")


@dataclass(frozen=True)
class Chapter:
    """One chapter: its number (unique in the book, prologue 0), title, text without notes, and file name."""

    number: int
    title: str
    text: str
    source: str


@dataclass(frozen=True)
class _Heading:
    level: int              # of Markdown hashes; 0 for a plain line
    number: int | None
    title: str
    name: str = ""          # prologue, epilogue, interlude
    explicit: bool = False  # says "chapter", or is named
    body: int = 0           # the line where the text begins
    line: int = 0


def read(path: Path | str) -> list[Chapter]:
    """The chapters of a file, or of a folder's .md, .markdown and .txt files, numbered without doubles.

    Raises BadInput for a missing path, a binary file, and where there are no chapters.
    """
    path = Path(path)
    files = _files(path)
    parts = [(file, _chapters(file)) for file in files]
    parts = [(file, found) for file, found in parts if found]
    if not parts:
        raise BadInput(f"No chapters in '{path}'.", "Put .md or .txt files there, one chapter each or all in one.")
    return _numbered([chapter for _, found in _ordered(parts) for chapter in found])


def pick(chapters: list[Chapter], wanted) -> list[Chapter]:
    """Only the chapters whose numbers are wanted (all when None or empty); BadInput names those that exist."""
    if not wanted:
        return chapters
    there = {c.number for c in chapters}
    missing = [n for n in wanted if n not in there]
    if missing:
        listed = ", ".join(str(c.number) for c in chapters)
        raise BadInput(f"Chapter {', '.join(map(str, missing))} is not in the text.", f"It has: {listed}.")
    return [c for c in chapters if c.number in set(wanted)]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = [f for f in path.iterdir() if f.is_file() and f.suffix.lower() in SUFFIXES and not f.name.startswith(".")]
        return sorted((f for f in found if not _SKIPPED.fullmatch(f.stem)), key=_natural)
    if not path.exists():
        raise BadInput(f"There is no '{path}'.", "Give a .md or .txt file, or a folder of them.")
    if path.suffix.lower() not in SUFFIXES:
        raise BadInput(f"'{path.name}' is of a kind that is not read.", "Give a .md or .txt file, or a folder of them.")
    return [path]


def _natural(path: Path):
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", path.name.lower()) if p]


def _ordered(parts):
    """By chapter number where every file has its own; a book in parts (1, 2, 1, 2) stays in the files' order."""
    firsts = [found[0].number for _, found in parts]
    if None not in firsts and len(set(firsts)) == len(firsts):
        return sorted(parts, key=lambda part: part[1][0].number)
    return parts


def _numbered(chapters: list[Chapter]) -> list[Chapter]:
    """A number that is missing or taken becomes the next one after the last, so the order of reading is kept."""
    result, last = [], None
    for chapter in chapters:
        number = chapter.number
        if number is None or number == _LAST or (last is not None and number <= last):
            number = 1 if last is None else last + 1
        last = number
        result.append(replace(chapter, number=number, title=chapter.title or f"Chapter {number}"))
    return result


_LAST = 10 ** 6  # an epilogue, until it is known which number is the last


def _chapters(file: Path) -> list[Chapter]:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BadInput(f"'{file}' cannot be read ({error.strerror}).", "Check that the file is there and readable.") from error
    lines = _without_front_matter(decode(data, file.name)).split("\n")
    headings = _headings(lines)
    if not headings:
        text = _tidy(lines)
        number, title = _from_name(file.stem)
        return [Chapter(number, title, text, file.name)] if text else []
    found = []
    if preface := _preface(lines[:headings[0].line]):
        found.append(Chapter(0, "Preface", preface, file.name))
    for heading, after in zip(headings, [*headings[1:], None]):
        text = _tidy(lines[heading.body:after.line if after else len(lines)])
        if text:
            found.append(_chapter(heading, text, file, alone=len(headings) == 1))
    return found


def _chapter(heading: _Heading, text: str, file: Path, alone: bool) -> Chapter:
    number, title = heading.number, heading.title
    named = {"prologue": 0, "epilogue": _LAST}.get(heading.name.lower())
    if number is None:
        number = named if named is not None else (_from_name(file.stem)[0] if alone else None)
    return Chapter(number, title or heading.name.capitalize(), text, file.name)


def _without_front_matter(text: str) -> str:
    match = re.match(r"\s*---[ \t]*\n(?=[A-Za-z_][\w -]*:)(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|$)", text, re.S)
    return text[match.end():] if match else text


def _preface(lines: list[str]) -> str:
    """Text before the first chapter, when it is more than the book's title page."""
    text = _tidy([line for line in lines if not _HASHES.fullmatch(line.strip())])
    return text if len(text.split()) >= 60 else ""


def _tidy(lines: list[str]) -> str:
    """The lines up to a notes heading, without blank lines at both ends."""
    for i, line in enumerate(lines):
        if _is_notes(line):
            lines = lines[:i]
            break
    return "\n".join(lines).strip("\n \t\f\v")


def _is_notes(line: str) -> bool:
    hashes = _HASHES.fullmatch(line.strip())
    bare = _EMPHASIS.sub("", hashes[2] if hashes else line)
    match = len(bare) < 90 and _NOTES.fullmatch(bare)
    return bool(match) and (bool(hashes) or bare.lower() != "notes" or bare.isupper())


def _headings(lines: list[str]) -> list[_Heading]:
    found = [h for i, line in enumerate(lines) if (h := _heading(lines, i))]
    strong = [h for h in found if h.explicit] or [h for h in found if h.number is not None and h.level]
    if not strong:
        strong = _bare_numbers(lines) or _titles(found)
    level = strong[0].level if strong else 0
    return _outside_notes(lines, [h for h in strong if h.level <= max(level, 1) or h.name], level)


def _outside_notes(lines, headings, level):
    """A list in the notes ("## 1. Pacing") is no chapter: after notes only a heading of the chapters' own kind is."""
    notes = [(i, _level(line)) for i, line in enumerate(lines) if _is_notes(line)]
    kept = []
    for heading in headings:
        since = kept[-1].line if kept else -1
        inside = [n for i, n in notes if since < i < heading.line]
        if not inside or (heading.explicit and heading.level == level) or (heading.level and heading.level < inside[-1]):
            kept.append(heading)
    return kept


def _level(line: str) -> int:
    hashes = _HASHES.fullmatch(line.strip())
    return len(hashes[1]) if hashes else 0


def _heading(lines: list[str], i: int) -> _Heading | None:
    line = lines[i].strip()
    hashes = _HASHES.fullmatch(line)
    bare = _EMPHASIS.sub("", hashes[2] if hashes else line)
    if not bare or len(bare) > 100 or _is_notes(line):
        return None
    level = len(hashes[1]) if hashes else 0
    if not level and not _stands_alone(lines, i, bare):
        return None
    found = _named_or_numbered(bare, level)
    if found is None:
        return _Heading(level, None, bare, body=i + 1, line=i) if level else None
    number, title, name, explicit = found
    body = i + 1
    if not title:
        title, body = _title_below(lines, body)
    return _Heading(level, number, _EMPHASIS.sub("", title), name, explicit, body, i)


def _named_or_numbered(bare: str, level: int):
    if match := _NAMED.fullmatch(bare):
        return None, match["title"] or "", match["name"], True
    if match := _CHAPTER.fullmatch(bare):
        # "Part Two" above chapters is a division, not a chapter; it is one only where it heads the text in Markdown.
        number = numbers.parse(match["number"] or match["number2"])
        title = match["title"] or match["title2"] or ""
        chapter = bare[:2].lower() == "ch"
        if number is not None and chapter and (level or match["number"] or _looks_like_title(title)):
            return number, title, "", True
        return None
    if level and (match := _NUMBERED.fullmatch(bare)):
        number = numbers.parse(match["number"])
        return (number, match["title"] or "", "", False) if number is not None else None
    return None


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
    if _is_notes(lines[j]) or (hashes and _named_or_numbered(bare, 1)):
        return "", i
    return (bare, j + 1) if (hashes and bare) or (followed and _looks_like_title(bare)) else ("", i)


def _looks_like_title(text: str) -> bool:
    words = re.findall(r"[^\W\d_][\w'’-]*", text)
    if not words or len(words) > 10 or text[-1] in ".,;:" or text[0] in "“\"‘'":
        return False
    long = [w for w in words if len(w) > 4]
    return words[0][0].isupper() and (text.isupper() or all(w[0].isupper() for w in long))


def _bare_numbers(lines: list[str]) -> list[_Heading]:
    """Lines that hold only a number ("III", "4.") are headings when they count up from one."""
    found, expected = [], 1
    for i, line in enumerate(lines):
        bare = line.strip().rstrip(".")
        if 0 < len(bare) < 12 and numbers.parse(bare) == expected and _stands_alone(lines, i, bare):
            title, body = _title_below(lines, i + 1)
            found.append(_Heading(0, expected, title, body=body, line=i))
            expected += 1
    return found if len(found) >= 2 else []


def _titles(found: list[_Heading]) -> list[_Heading]:
    """Markdown headings without numbers: those of the highest level; a lone book title above others is none."""
    by_level: dict[int, list[_Heading]] = {}
    for heading in found:
        by_level.setdefault(heading.level, []).append(heading)
    levels = sorted(by_level)
    if len(levels) > 1 and len(by_level[levels[0]]) == 1 and by_level[levels[1]][0].line - by_level[levels[0]][0].line <= 3:
        return by_level[levels[1]]
    return by_level[levels[0]] if levels else []


def _from_name(stem: str) -> tuple[int | None, str]:
    """Number and title out of a file name: `chapter_03`, `03 - The Storm`, `ch-iv`, `prologue`."""
    name = re.sub(r"[_\s]+", " ", stem).strip()
    if match := re.match(r"(prologue|epilogue)\b", name, re.I):
        return (0 if match[1].lower() == "prologue" else _LAST), match[1].capitalize()
    pattern = rf"(?:.*?\b)?(?:chapter|chap|ch)[\s.-]*({_NUMBER})[\s.:-]*(.*)|(\d{{1,4}})(?:[\s.:-]+(.*))?|.*?(\d{{1,3}})"
    match = re.fullmatch(pattern, name, re.I)
    if not match:
        return None, name.replace("-", " ").strip().capitalize()
    number = numbers.parse(match[1] or match[3] or match[5])
    return number, (match[2] or match[4] or "").strip()
