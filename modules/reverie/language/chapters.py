"""Chapters out of files as novelists keep them: Markdown, plain text, EPUB or DOCX, one chapter per file or many in one."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from reverie.errors import BadInput
from reverie.language import docx, epub, headings, matter, numbers, quotes
from reverie.language.encodings import decode
from reverie.language.headings import Heading

SUFFIXES = (".md", ".markdown", ".txt", ".docx", ".epub")
_READERS = {".docx": docx.read, ".epub": epub.read}
_GIVE = "Give a .md, .txt, .epub or .docx file, or a folder of them."
_OTHERWISE = dict.fromkeys((".doc", ".rtf", ".odt", ".pages", ".wpd", ".fodt"), "Open it in a word processor and save it as .docx.") \
    | dict.fromkeys((".mobi", ".azw", ".azw3", ".kfx", ".fb2", ".lit", ".pdf", ".html", ".htm"), "Convert it to .epub and give that.")
_SKIPPED = re.compile(r"(readme|licen[cs]e|copying|contributing|changelog)\b.*|notes?|outline|synopsis", re.I)
_FEW_WORDS = 60  # less text than this before the first chapter, or under a part's title, is no chapter
_BREAK = "\n\n* * *\n\n"


@dataclass(frozen=True)
class Chapter:
    """One chapter: its number (unique in the book, prologue 0), title, text without notes, and file name."""

    number: int
    title: str
    text: str
    source: str


def read(path: Path | str) -> list[Chapter]:
    """The chapters of a file, or of a folder's .md, .markdown, .txt, .docx and .epub files, numbered without doubles.

    Files of one name in two formats are taken for the same text: the plainer one is read. A book that this program made of the
    chapters beside it is left out. Raises BadInput for a missing
    path, for a file that is binary, broken or locked, and where there are no chapters.
    """
    path = Path(path)
    files = _files(path)
    parts = [(file, _chapters(file)) for file in files]
    parts = [(file, found) for file, found in parts if found]
    if not parts:
        raise BadInput(f"No chapters in '{path}'.", "Put .md or .txt files there, one chapter each or all in one, or an .epub or .docx.")
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
        found = [f for f in path.iterdir() if f.is_file() and f.suffix.lower() in SUFFIXES and not f.name.startswith((".", "~"))]
        found = [f for f in found if f.suffix.lower() != ".epub" or not epub.is_own(f)] or found
        plainest = {f.stem.lower(): f for f in sorted(found, key=lambda f: -SUFFIXES.index(f.suffix.lower()))}
        return sorted((f for f in plainest.values() if not _SKIPPED.fullmatch(f.stem)), key=_natural)
    if not path.exists():
        raise BadInput(f"There is no '{path}'.", _GIVE)
    if path.suffix.lower() not in SUFFIXES:
        raise BadInput(f"'{path.name}' is of a kind that is not read.", _OTHERWISE.get(path.suffix.lower(), _GIVE))
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
        result.append(replace(chapter, number=number, title=chapter.title or f"Chapter {number}", text=quotes.doubled(chapter.text)))
    return result


_LAST = 10 ** 6  # an epilogue, until it is known which number is the last


def _text(file: Path) -> str:
    """The file as Markdown lines, without what stands around the book."""
    if reader := _READERS.get(file.suffix.lower()):
        return matter.without_licence(reader(file))
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BadInput(f"'{file}' cannot be read ({error.strerror}).", "Check that the file is there and readable.") from error
    return matter.without_licence(_without_front_matter(decode(data, file.name)))


def _chapters(file: Path) -> list[Chapter]:
    lines = _text(file).split("\n")
    found = headings.find(lines)
    number, title = _from_name(file.stem)
    if not any(h.kind != "matter" for h in found):
        text = _story(_tidy(lines[:found[0].line] if found else lines))
        return [Chapter(number, title, text, file.name)] if text else []
    parts = [(h, _tidy(lines[h.body:after])) for h, after in zip(found, [*(h.line for h in found[1:]), len(lines)])]
    parts = _glued([(h, text) for h, text in parts if h.kind != "matter" and _story(text, h.title)])
    preface = _tidy([line for line in lines[:found[0].line] if not headings.level_of(line)])
    if _words(preface) >= _FEW_WORDS and not matter.is_rights(preface) and not matter.is_list(preface):
        parts.insert(0, (Heading(1, None, "Preface"), preface))
    if len(parts) > 1 and parts[0][0].kind == "title" and _words(parts[0][1]) < min(_FEW_WORDS, max(_words(t) for _, t in parts) // 10):
        del parts[0]  # the book's title, as a heading like its chapters
    if len(parts) == 1 and parts[0][0].number is None and parts[0][0].kind != "named":
        return [Chapter(number, parts[0][0].title or title, parts[0][1], file.name)]
    return [Chapter(n, h.title or h.name.capitalize(), text, file.name) for h, n, text in _counted(parts)]


def _story(text: str, title: str = "") -> str:
    """The text where it is story; nothing for rights, contents and prefaces about the book."""
    return "" if matter.is_rights(text) or matter.is_list(text) or matter.is_doubtful(title, text) else text


def _words(text: str) -> int:
    return len(text.split())


def _glued(parts: list[tuple[Heading, str]]) -> list[tuple[Heading, str]]:
    """A motto under a part's title goes to the chapter that follows."""
    result, waiting = [], []
    for i, (heading, text) in enumerate(parts):
        if heading.kind == "division" and _words(text) < _FEW_WORDS and i + 1 < len(parts):
            waiting.append(text)
        else:
            result.append((heading, "\n\n".join([*waiting, text])))
            waiting = []
    return result


def _counted(parts: list[tuple[Heading, str]]) -> list[tuple[Heading, int | None, str]]:
    """(heading, number, text) with what has no number beside numbered chapters joined to them, so that theirs stay true.

    All before the first numbered chapter is chapter 0; an interlude belongs to the chapter before it.
    """
    numbered = [i for i, (h, _) in enumerate(parts) if h.number is not None]
    result: list[tuple[Heading, int | None, str]] = []
    for i, (heading, text) in enumerate(parts):
        name, following = heading.name.lower(), next((parts[n][0].number for n in numbered if n > i), None)
        number = heading.number
        if number is None and numbered:
            before = result[-1] if result else None
            if i < numbered[0] and before:
                result[-1] = (heading if name == "prologue" else before[0], 0, before[2] + _BREAK + text)
                continue
            if before and following is not None and before[1] is not None and following == before[1] + 1:
                result[-1] = (*before[:2], before[2] + _BREAK + text)
                continue
            number = 0 if i < numbered[0] else None
        if number is None:
            number = {"prologue": 0, "epilogue": _LAST}.get(name, 0 if not i and heading.title == "Preface" else None)
        result.append((heading, number, text))
    return result


def _without_front_matter(text: str) -> str:
    match = re.match(r"\s*---[ \t]*\n(?=[A-Za-z_][\w -]*:)(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|$)", text, re.S)
    return text[match.end():] if match else text


def _tidy(lines: list[str]) -> str:
    """The lines up to a notes heading, without blank lines at both ends; headings within are breaks."""
    kept: list[str] = []
    for line in lines:
        if headings.is_notes(line):
            break
        if headings.level_of(line):
            kept += ["* * *", "", line.strip(" #\t")]
        else:
            kept.append(line)
    return "\n".join(kept).strip("\n \t\f\v")


def _from_name(stem: str) -> tuple[int | None, str]:
    """Number and title out of a file name: `chapter_03`, `03 - The Storm`, `ch-iv`, `prologue`."""
    name = re.sub(r"[_\s]+", " ", stem).strip()
    if match := re.match(r"(prologue|epilogue)\b", name, re.I):
        return (0 if match[1].lower() == "prologue" else _LAST), match[1].capitalize()
    pattern = rf"(?:.*?\b)?(?:chapter|chap|ch)[\s.-]*({numbers.PATTERN})[\s.:-]*(.*)|(\d{{1,4}})(?:[\s.:-]+(.*))?|.*?(\d{{1,3}})"
    match = re.fullmatch(pattern, name, re.I)
    if not match:
        return None, name.replace("-", " ").strip().capitalize()
    number = numbers.parse(match[1] or match[3] or match[5])
    return number, (match[2] or match[4] or "").strip()
