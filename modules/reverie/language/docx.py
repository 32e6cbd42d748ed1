"""DOCX as one Markdown text: the document as it reads with all changes accepted, its heading styles as headings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

from reverie.errors import BadInput
from reverie.language import markup
from reverie.language.archive import Archive
from reverie.language.markup import BREAK, Block

# What is left out with all that is in it: deleted and moved-away text, guides of ruby, second forms of drawings, older formats.
_SKIPPED = frozenset("del moveFrom rt Fallback rPrChange pPrChange delText instrText".split())
_CHARACTERS = {"tab": " ", "cr": "\n", "noBreakHyphen": "-", "softHyphen": "", "sym": "❧"}
_TITLE, _HEADING, _CONTENTS = re.compile(r"title", re.I), re.compile(r"heading (\d)", re.I), re.compile(r"toc( \d| heading)|table of (figures|authorities)|index( \d| heading)", re.I)
_LISTS = re.compile(r"\s*\\?(TOC|INDEX|TOA|BIBLIOGRAPHY|PAGE|NUMPAGES|PAGEREF)\b", re.I)


@dataclass
class _Style:
    """What a style says itself; None where the style it is based on decides."""

    name: str = ""
    base: str = ""
    outline: int | None = None
    hidden: bool | None = None
    numbered: bool = False


@dataclass
class _Paragraph:
    text: list[str] = field(default_factory=list)
    style: str = ""
    outline: int | None = None
    joins: bool = False     # its end was deleted: the next paragraph carries on in it
    numbered: bool = False  # by Word: its number is not in the text
    picture: bool = False
    paged: bool = False     # begins a page
    listed: bool = False    # part of a table of contents


def read(path: Path) -> str:
    """The document as Markdown. BadInput for an old .doc, a locked or broken file, and what is no Word document."""
    with Archive(path) as archive:
        main = _main_part(archive)
        data = archive.read(main)
        if data is None:
            raise BadInput(f"'{path.name}' is no Word document, or broken.", "Open it in a word processor and save it as .docx.")
        styles = _Styles()
        sheet = archive.inside(main, "styles.xml")
        if sheet and (source := archive.read(sheet)):
            _parse(source, styles, path.name)
        body = _Body(styles)
        _parse(data, body, path.name)
    return markup.to_markdown(_blocks(body))


def _main_part(archive: Archive) -> str:
    links = archive.read("_rels/.rels") or b""
    for link in re.findall(rb"<[\w:]*Relationship\b[^>]*>", links):
        if re.search(rb"/officeDocument[\"']", link) and (target := re.search(rb"Target=[\"']([^\"']*)[\"']", link)):
            return archive.inside("", target[1].decode("utf-8", "replace").lstrip("/")) or "word/document.xml"
    return "word/document.xml"


def _parse(data: bytes, target, name: str) -> None:
    """Feed XML to a target, a DTD refused: Word writes none, and its entities can grow without end."""
    parser = ElementTree.XMLParser(target=target)
    try:
        parser.feed(data)
        parser.close()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise BadInput(f"'{name}' is broken: its text is not sound XML ({error}).", "Open it in a word processor and save it again as .docx.") from error


class _Target:
    """A parser's target whose elements have their names without namespaces."""

    def doctype(self, *_):
        raise ValueError("it declares entities")

    def data(self, text):
        pass

    def close(self):
        pass


@lru_cache(maxsize=4096)
def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _value(attrs: dict[str, str]) -> str:
    return next((v for k, v in attrs.items() if _local(k) == "val"), "")


def _is_on(attrs: dict[str, str]) -> bool:
    return _value(attrs).lower() not in ("0", "false", "off", "none")


def _level(outline: int) -> int:
    """Word's outline level (0 the highest, 9 text) as Markdown's; the first is left to the book's title."""
    return min(6, outline + 2) if outline < 9 else 0


class _Styles(_Target):
    """styles.xml: which styles are headings, titles, hidden, or a table of contents."""

    def __init__(self):
        self.of: dict[str, _Style] = {}
        self._style = _Style()

    def start(self, tag, attrs):
        name = _local(tag)
        if name == "style":
            self._style = _Style()
            self.of[next((v for k, v in attrs.items() if _local(k) == "styleId"), "")] = self._style
        elif name == "name":
            self._style.name = _value(attrs)
        elif name == "basedOn":
            self._style.base = _value(attrs)
        elif name == "outlineLvl" and _value(attrs).isdigit():
            self._style.outline = int(_value(attrs))
        elif name == "vanish":
            self._style.hidden = _is_on(attrs)
        elif name == "numPr":
            self._style.numbered = True

    def end(self, tag):
        if _local(tag) == "style":
            self._style = _Style()

    def _chain(self, style: str):
        """The style and what it is based on; without a sheet its id must do as its name."""
        seen = set()
        while style and style not in seen:
            seen.add(style)
            known = self.of.get(style) or _Style(re.sub(r"(?<=[a-z])(?=\d)", " ", style))
            yield known
            style = known.base

    def level(self, style: str) -> int:
        """1 for a title, 2 to 6 for headings (by name, else by outline), 0 for text."""
        for known in self._chain(style):
            if match := _HEADING.fullmatch(known.name):
                return min(6, int(match[1]) + 1)
            if _TITLE.fullmatch(known.name):
                return 1
            if known.outline is not None:
                return _level(known.outline)
        return 0

    def is_numbered(self, style: str) -> bool:
        return any(known.numbered for known in self._chain(style))

    def is_hidden(self, style: str) -> bool:
        return next((known.hidden for known in self._chain(style) if known.hidden is not None), False)

    def is_contents(self, style: str) -> bool:
        return any(_CONTENTS.fullmatch(known.name) for known in self._chain(style))


class _Body(_Target):
    """document.xml, as its elements pass by; nothing of it is kept but the paragraphs."""

    def __init__(self, styles: _Styles):
        self.styles = styles
        self.paragraphs: list[_Paragraph] = []
        self._open: list[_Paragraph] = []           # a text box has paragraphs within a paragraph
        self._path: list[str] = []
        self._skipping = 0
        self._hidden = self._reads = False
        self._fields: list[list[str]] = []          # [code, state]: "code", "result", or "list" for what is left out
        self._lists: list[int] = []                 # depths of content controls that hold a table of contents

    def start(self, tag, attrs):
        name = _local(tag)
        parent = self._path[-1] if self._path else ""
        self._path.append(name)
        here = self._open[-1] if self._open else None
        if parent == "rPr" and name in ("del", "moveFrom") and here and self._path[-3] == "pPr":
            here.joins = True
        if name == "fldChar":
            self._field(next((v for k, v in attrs.items() if _local(k) == "fldCharType"), ""))
        if self._skipping or name in _SKIPPED:
            self._skipping += 1
            self._reads = name == "instrText" and self._skipping == 1
        elif name == "p":
            self._open.append(_Paragraph(listed=bool(self._lists)))
        elif here and (action := getattr(self, f"_on_{name}", None)):
            action(here, attrs)
        elif name == "docPartGallery" and "contents" in _value(attrs).lower() and "sdt" in self._path:
            self._lists.append(len(self._path) - 1 - self._path[::-1].index("sdt"))
        elif here and name == "t":
            self._reads = not self._hidden and self._shown()
        elif here and name in _CHARACTERS and parent == "r" and not self._hidden and self._shown():
            here.text.append(_CHARACTERS[name])

    def end(self, tag):
        name = _local(tag)
        self._path.pop()
        self._reads = False
        if self._skipping:
            self._skipping -= 1
        elif name == "p" and self._open:
            self.paragraphs.append(self._open.pop())
            if not self._open:  # a field's code ends with its paragraph, whatever a broken file says
                self._fields = [field for field in self._fields if field[1] != "code"]
        elif name == "r":
            self._hidden = False
        elif name == "fldSimple" and self._fields:
            self._fields.pop()
        elif name == "sdt" and self._lists and self._lists[-1] == len(self._path):
            self._lists.pop()

    def data(self, text):
        if not self._reads:
            return
        if not self._skipping:
            self._open[-1].text.append(text)
        elif self._fields:
            self._fields[-1][0] += text

    def _on_pStyle(self, here, attrs):
        here.style = _value(attrs)
        here.listed = here.listed or self.styles.is_contents(here.style)

    def _on_rStyle(self, here, attrs):
        self._hidden = self._hidden or self.styles.is_hidden(_value(attrs)) and "pPr" not in self._path

    def _on_vanish(self, here, attrs):
        if "pPr" not in self._path:
            self._hidden = _is_on(attrs)

    def _on_outlineLvl(self, here, attrs):
        here.outline = int(_value(attrs)) if _value(attrs).isdigit() else None

    def _on_numPr(self, here, attrs):
        here.numbered = True

    def _on_br(self, here, attrs):
        pages = any(_local(k) == "type" and v in ("page", "column") for k, v in attrs.items())
        here.paged = here.paged or pages
        if not self._hidden and not pages and self._shown():
            here.text.append("\n")

    def _on_drawing(self, here, attrs):
        here.picture = True

    _on_pict = _on_object = _on_drawing

    def _on_sectPr(self, here, attrs):
        here.paged = True

    def _on_fldSimple(self, here, attrs):
        self._fields.append([next((v for k, v in attrs.items() if _local(k) == "instr"), ""), ""])
        self._field("separate")

    def _field(self, step: str):
        if step == "begin":
            self._fields.append(["", "code"])
        elif step == "separate" and self._fields:
            self._fields[-1][1] = "list" if _LISTS.match(self._fields[-1][0]) else "result"
        elif step == "end" and self._fields:
            self._fields.pop()

    def _shown(self) -> bool:
        return all(state == "result" for _, state in self._fields)


def _blocks(body: _Body) -> list[Block]:
    """Paragraphs as blocks: joined where their border was deleted, without the table of contents."""
    blocks, carried, count = [], "", 0
    for paragraph in body.paragraphs:
        text = carried + "".join(paragraph.text)
        carried = text if paragraph.joins else ""
        if paragraph.joins or paragraph.listed or body.styles.is_hidden(paragraph.style):
            continue
        text = markup.tidy(text)
        level = body.styles.level(paragraph.style) if paragraph.outline is None else _level(paragraph.outline)
        if level and not text and (paragraph.numbered or body.styles.is_numbered(paragraph.style)):
            count += 1
            text = f"Chapter {count}"
        if level and text:
            blocks.append(Block(markup.one_line(text), level))
        elif paragraph.picture and not text:
            blocks.append(Block(BREAK))
        elif text or not paragraph.paged:
            blocks.append(Block(text))
    return [*blocks, Block(markup.tidy(carried))] if carried.strip() else blocks
