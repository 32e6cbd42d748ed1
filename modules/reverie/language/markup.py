"""Pages of XHTML, sound or broken, to the blocks of text that a reader sees. Entities of a DTD are never expanded."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from reverie.language import headings, lexicon, matter, tags

BREAK = "* * *"

_HEADINGS = {f"h{n}": n for n in range(1, 7)}
_BLOCKS = frozenset("""p div section article aside header footer main body blockquote ul ol li dl dt dd table tr td th figure pre address
    center hgroup form fieldset details summary tbody thead caption""".split()) | frozenset(_HEADINGS)
_SKIPPED = frozenset("head script style nav rt rp rtc audio video object iframe template noscript math figcaption title del".split())
_VOID = frozenset("img br hr input meta link wbr area base col embed source track param image".split())
_SKIPPED_CLASS, _BREAK_CLASS = "(?i)<skipped_classes>", "(?i)<break_classes>"
_MARKER = re.compile(r"\s*[\[({]?\s*(?:\d{1,4}|[*†‡§]{1,4}|[a-z])\s*[\])}]?\s*")
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"))
_SPACES = re.compile(r"[ \t\r\f\v\n\xa0\u2002-\u200a\u202f]+")


@dataclass
class Block:
    """A paragraph or a heading (`level` 1 to 6). An empty text is a line left blank, BREAK a mark between scenes."""

    text: str
    level: int = 0


@dataclass
class Page:
    """What a page shows: its blocks, where its ids stand among them, its epub:types and the share of text in links."""

    blocks: list[Block] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    types: set[str] = field(default_factory=set)
    linked: float = 0.0

    @property
    def text(self) -> str:
        return "\n\n".join(block.text for block in self.blocks)


def page(source: str) -> Page:
    """Read one page. It never fails: what is not well-formed is read as a browser would, roughly."""
    reader = _Reader()
    for event, text, attrs in tags.events(source):
        if event == "start":
            reader.start(text, attrs)
        elif event == "end":
            reader.end(text)
        else:
            reader.data(text)
    return reader.done()


def to_markdown(blocks: list[Block]) -> str:
    """Blocks as the Markdown that the splitter reads."""
    return "\n\n".join(f"{'#' * b.level} {b.text}" if b.level else _plain(b.text) for b in blocks)


def tidy(text: str) -> str:
    """Text without invisible characters, each line's blanks made one."""
    lines = text.translate(_INVISIBLE).split("\n")
    return "\n".join(_SPACES.sub(" ", line).strip() for line in lines).strip("\n")


def _plain(text: str) -> str:
    return re.sub(r"^(?=#{1,6}\s+\S|---$)", r"\\", text, flags=re.M)  # "# 5" in a sentence is no heading


def _types(attrs: dict[str, str]) -> set[str]:
    kinds = next((v for k, v in attrs.items() if k.endswith(":type")), "")
    return {kind.lower() for kind in f"{kinds} {attrs.get('role', '')}".split()}


class _Reader:
    def __init__(self):
        self._page = Page()
        self._text: list[str] = []      # of the block at hand
        self._level = 0
        self._skipping, self._depth = "", 0
        self._image = self._spaced = self._marked = False
        self._alt = ""
        self._links: list[tuple[str, int]] = []
        self._letters = self._linked = 0
        self._group = 0                 # how deep in <hgroup>, whose paragraphs are titles
        self._pre = False

    def start(self, tag, attrs):
        if self._skipping:
            if tag == self._skipping == "p" or tag == "body":
                self._skipping = ""
            else:
                self._depth += tag == self._skipping
                return
        if tag in _BLOCKS:
            self._flush()
        if anchor := attrs.get("id") or (attrs.get("name") if tag == "a" else ""):
            self._page.ids.setdefault(anchor, len(self._page.blocks))
        if tag in ("body", "section", "article", "div") and not self._page.blocks:
            self._page.types |= _types(attrs)
        elif _is_skipped(tag, attrs):
            self._skipping, self._depth = tag, 1
            return
        if tag in _HEADINGS:
            self._level = _HEADINGS[tag]
        elif tag == "p" and self._group:
            self._level = 6
        elif tag == "hr":
            self._flush()
            self._page.blocks.append(Block(BREAK))
        elif tag == "br":
            self._text.append("\n")
            self._spaced = True
        elif tag in ("img", "image", "svg"):
            self._picture(attrs)
        elif tag == "a":
            self._links.append((attrs.get("href", ""), len(self._text)))
        self._group += tag == "hgroup"
        self._pre = self._pre or tag == "pre"
        if tag in ("p", "div") and _has_class(attrs, _BREAK_CLASS):
            self._marked = True

    def end(self, tag):
        if self._skipping:
            self._depth -= tag == self._skipping
            if self._depth <= 0 or tag == "body":
                self._skipping = ""
            return
        if tag in _BLOCKS:
            self._flush()
        elif tag == "a" and self._links:
            self._end_link()
        self._group -= tag == "hgroup" and self._group > 0
        self._pre = self._pre and tag != "pre"

    def data(self, data):
        if self._skipping:
            return
        self._letters += len(data.strip())
        self._spaced = self._spaced or "\xa0" in data
        self._text.append(data if self._pre else re.sub(r"[ \t\r\n]+", " ", data))

    def done(self) -> Page:
        self._flush()
        self._page.linked = self._linked / self._letters if self._letters else 0.0
        return self._page

    def _picture(self, attrs):
        self._image = True
        alt = attrs.get("alt", "").strip()
        if len(alt) == 1 and alt.isalpha() and not "".join(self._text).strip():
            self._text.append(alt)  # a drawn first letter
        self._alt = self._alt or alt

    def _end_link(self):
        href, start = self._links.pop()
        inside = "".join(self._text[start:])
        if "#" in href and _MARKER.fullmatch(inside):
            del self._text[start:]  # the number of a note
        elif href:
            self._linked += len(inside.strip())

    def _flush(self):
        text = tidy("".join(self._text))
        blocks = self._page.blocks
        if self._level:
            text = one_line(text or (self._alt if matter.is_title(self._alt) or headings.is_label(self._alt) else ""))
            if text:
                blocks.append(Block(text, self._level))
        elif self._image and len(text) <= 1 or self._marked and not re.search(r"\w", text):
            blocks.append(Block(BREAK))
        elif text or (self._spaced and "".join(self._text)):
            blocks.append(Block(text))
        self._text, self._links, self._level = [], [], 0
        self._image = self._spaced = self._marked = False
        self._alt = ""


def _is_skipped(tag: str, attrs: dict[str, str]) -> bool:
    if tag in _VOID:
        return False
    return (tag in _SKIPPED or "hidden" in attrs or bool(_types(attrs) & matter.PASSAGES) or attrs.get("id", "") in ("pg-header", "pg-footer")
            or "display:none" in attrs.get("style", "").replace(" ", "").lower()
            or _has_class(attrs, _SKIPPED_CLASS))


def _has_class(attrs: dict[str, str], template: str) -> bool:
    return any(lexicon.pattern(template).fullmatch(name) for name in attrs.get("class", "").split())


def one_line(text: str) -> str:
    """A heading over several lines as one: "Chapter IV: The Storm", "The Time Machine"."""
    lines = [line for line in text.split("\n") if line]
    labelled = len(lines) > 1 and headings.is_label(lines[0])
    return f"{lines[0].rstrip('.:')}: {' '.join(lines[1:])}" if labelled else " ".join(lines)
