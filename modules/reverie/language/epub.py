"""EPUB 2 and 3 as one Markdown text: the spine's order, the text's own headings, without what stands around the story."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from reverie.errors import BadInput
from reverie.language import headings, markup, matter, tags
from reverie.language.archive import Archive
from reverie.language.encodings import decode_markup
from reverie.language.markup import BREAK, Block, Page

_FONTS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")  # obfuscated fonts lock no text
GENERATOR = "SD-Reverie"  # what our own books say made them
_SHORT, _GUIDED = 60, 3000  # words: a page without heading that is no story in front; a page that a guide can leave out


@dataclass
class _Book:
    """The package: its documents in reading order, and what nav, ncx and guide say of them."""

    title: str = ""
    spine: list[str] = field(default_factory=list)
    labels: dict[str, list[tuple[str, str, int]]] = field(default_factory=dict)  # part → (id, title, depth)
    kinds: dict[str, set[str]] = field(default_factory=dict)


def read(path: Path) -> str:
    """The book as Markdown. BadInput for a file that is locked, broken or no EPUB; missing documents are skipped."""
    with Archive(path) as archive:
        book = _book(archive)
        locked = _locked(archive)
        if locked & set(book.spine):
            raise BadInput(f"'{path.name}' is locked by its shop (DRM) and cannot be read.", "Give a copy without DRM, or the manuscript as .docx or .md.")
        pages = []
        for part in dict.fromkeys(book.spine):
            if text := _source(archive, part):
                pages.append((part, markup.page(text)))
    if not any(re.search(r"\w", page.text) for _, page in pages):
        raise BadInput(f"'{path.name}' has no text that can be read.", "Open it in a reader to see whether it is whole, and save or download it again.")
    return markup.to_markdown(_story(book, pages))


def is_own(path: Path) -> bool:
    """Whether this program made the book."""
    try:
        with Archive(path) as archive:
            return any(name[-1] == "meta" and (attrs.get("name"), attrs.get("content")) == ("generator", GENERATOR)
                       for name, attrs, _ in _elements(archive, _package(archive)))
    except BadInput:
        return False


def _source(archive: Archive, part: str | None) -> str:
    data = archive.read(part)
    try:
        return decode_markup(data, part) if data else ""
    except BadInput:  # a picture or worse where a page should be: the rest of the book can still be read
        return ""


def _elements(archive: Archive, part: str | None) -> list[tuple[tuple[str, ...], dict[str, str], list[str]]]:
    """The elements of a small XML file, sound or not, as (path of names, attributes, [text within])."""
    found, within = [], []
    for event, name, attrs in tags.events(_source(archive, part)):
        if event == "start":
            within = [*within[-12:], (name, [])]
            found.append((tuple(n for n, _ in within), attrs, within[-1][1]))
        elif event == "text":
            for _, text in within[-4:]:
                text.append(name)
        elif any(n == name for n, _ in within):
            while within.pop()[0] != name:
                pass
    return found


def _package(archive: Archive) -> str | None:
    opf = next((p for path, attrs, _ in _elements(archive, "META-INF/container.xml") if path[-1] == "rootfile"
                and (p := archive.inside("", attrs.get("full-path", "")))), None)
    return opf or next((name for name in archive.names if name.lower().endswith(".opf")), None)


def _book(archive: Archive) -> _Book:
    opf = _package(archive)
    book, items, guide, toc = _Book(), {}, [], ""
    for path, attrs, text in _elements(archive, opf):
        name = path[-1]
        if name == "title" and "metadata" in path and not book.title:
            book.title = markup.tidy(" ".join(text))
        elif name == "item":
            items[attrs.get("id", "")] = (archive.inside(opf, attrs.get("href", "")), attrs.get("properties", "").split(), attrs.get("media-type", ""))
        elif name == "spine":
            toc = attrs.get("toc", "")
        elif name == "itemref" and attrs.get("linear", "yes").lower() != "no":
            part, properties, _ = items.get(attrs.get("idref", ""), (None, [], ""))
            if part and "nav" not in properties:
                book.spine.append(part)
        elif name == "reference":
            guide.append((attrs.get("href", ""), attrs.get("type", "")))
    if not book.spine:
        raise BadInput(f"'{archive.name}' has no list of its pages: it is no EPUB, or broken.", "Save or download the book again, or give its text as .md or .txt.")
    for href, kind in guide:
        _mark(archive, book, opf, href, kind)
    nav = next((part for part, properties, _ in items.values() if "nav" in properties), None)
    ncx = items.get(toc, (None,))[0] or next((part for part, _, media in items.values() if media == "application/x-dtbncx+xml"), None)
    _read_nav(archive, book, nav)
    if not book.labels:
        _read_ncx(archive, book, ncx)
    return book


def _mark(archive: Archive, book: _Book, base: str, href: str, kinds: str) -> None:
    part = archive.inside(base, href)
    if part and "#" not in href:
        book.kinds.setdefault(part, set()).update(kinds.lower().removeprefix("other.").split())


def _label(archive: Archive, book: _Book, base: str, href: str, text: str, depth: int) -> None:
    part, label = archive.inside(base, href), markup.tidy(text.replace("\n", " "))
    if part and label:
        book.labels.setdefault(part, []).append((href.partition("#")[2], label, depth))


def _read_nav(archive: Archive, book: _Book, nav: str | None) -> None:
    kinds: set[str] = set()
    for path, attrs, text in _elements(archive, nav):
        if path[-1] == "nav":
            kinds = set(attrs.get("epub:type", "toc").split())
        elif path[-1] == "a" and "nav" in path and "landmarks" in kinds:
            _mark(archive, book, nav, attrs.get("href", ""), attrs.get("epub:type", ""))
        elif path[-1] == "a" and "nav" in path and "toc" in kinds:
            _label(archive, book, nav, attrs.get("href", ""), "".join(text), path.count("ol"))


def _read_ncx(archive: Archive, book: _Book, ncx: str | None) -> None:
    label = ""
    for path, attrs, text in _elements(archive, ncx):
        if path[-1] == "text" and "navlabel" in path and "navpoint" in path:
            label = "".join(text)
        elif path[-1] == "content" and "navpoint" in path:
            _label(archive, book, ncx, attrs.get("src", ""), label, path.count("navpoint"))


def _locked(archive: Archive) -> set[str]:
    """Parts whose content is encrypted: obfuscated fonts are not among them."""
    locked, method = set(), ""
    for path, attrs, _ in _elements(archive, "META-INF/encryption.xml"):
        if path[-1] == "encrypteddata":
            method = ""
        elif path[-1] == "encryptionmethod" and "keyinfo" not in path:
            method = attrs.get("algorithm", "")
        elif path[-1] == "cipherreference" and method not in _FONTS:
            locked.add(archive.inside("", attrs.get("uri", "")))
    return locked


def _story(book: _Book, pages: list[tuple[str, Page]]) -> list[Block]:
    """The blocks of the pages that are story, each page's titles in their places."""
    levels = Counter(next((b.level for b in page.blocks if b.level), 0) for _, page in pages)
    level = next((n for n, _ in levels.most_common() if n), 2)
    for part, page in pages:
        _entitle(page, book.labels.get(part, []), level)
    kept = [page for part, page in pages if _is_story(book, page, book.kinds.get(part, set()))]
    first = next((i for i, page in enumerate(kept) if any(b.level for b in page.blocks)), None)
    if first is None:  # nothing has a title: each page is a chapter, where pages are long enough
        long = [page for page in kept if _words(page.text) >= _SHORT]
        return [b for n, page in enumerate(long, 1) for b in [*([Block(f"Chapter {n}", 2)] if len(long) > 1 else []), *page.blocks]]
    kept = [page for i, page in enumerate(kept) if i >= first or _words(page.text) >= _SHORT]
    return [block for page in kept for block in page.blocks]


def _entitle(page: Page, labels: list[tuple[str, str, int]], level: int) -> None:
    """Titles from the table of contents where the text has none at the place that is meant."""
    limit = len(page.blocks)
    for anchor, label, _ in reversed(labels):
        at = page.ids.get(anchor, 0)
        limit = max(at + 1, min(limit, len(page.blocks)))
        near = [i for i in range(at, min(at + 4, limit, len(page.blocks))) if page.blocks[i].text not in ("", BREAK)][:2]
        limit = at
        if any(page.blocks[i].level for i in near) or (at and page.blocks[at - 1].level):
            continue
        same = next((i for i in near if _bare(page.blocks[i].text) == _bare(label)), None)
        if same is None and near and headings.is_label(page.blocks[near[0]].text) and len(page.blocks[near[0]].text) < 40:
            same = near[0]
        if same is not None:
            page.blocks[same] = Block(page.blocks[same].text.replace("\n", " "), level)
        else:
            page.blocks.insert(at, Block(label, level))
            page.ids = {name: i + (i > at) for name, i in page.ids.items()}


def _is_story(book: _Book, page: Page, guided: set[str]) -> bool:
    """By what the markup states, else by the heading, else by what the page looks like."""
    titles = [block.text for block in page.blocks if block.level]
    words = _words(page.text)
    stated = page.types | (guided if words < _GUIDED else set())
    if stated & matter.STORY:
        return True
    if stated & matter.PAGES or (titles and all(map(matter.is_title, titles))):
        return False
    if stated & {"frontmatter", "backmatter"}:
        return any(headings.is_label(title) or re.match(r"(prologue|epilogue|chapter)\b", title, re.I) for title in titles)
    if page.linked > 0.5 and words > 3 or matter.is_list(page.text) or matter.is_rights(page.text):
        return False
    return not (words < _SHORT and book.title and _bare(book.title) in _bare(page.text) and not any(map(headings.is_label, titles)))


def _bare(text: str) -> str:
    return "".join(re.findall(r"\w+", text.lower()))


def _words(text: str) -> int:
    return len(text.split())
