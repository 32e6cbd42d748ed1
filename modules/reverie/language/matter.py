"""What stands around a story in a book: covers, rights, thanks, lists and notes, by heading, by wording, by markup."""

from __future__ import annotations

import re

from reverie.language import lexicon, numbers

#: Kinds of page, as EPUB's `epub:type` and guides name them, that are no part of the story.
PAGES = frozenset("""
    cover titlepage title-page halftitlepage halftitle half-title fulltitle imprint imprimatur copyright-page copyright colophon
    dedication epigraph toc toc-brief landmarks loi lot loa lov page-list index glossary bibliography acknowledgments
    acknowledgements contributors other-credits errata revision-history seriespage endnotes rearnotes footnotes notes
    foreword introduction afterword appendix other-ms praise review keywords about-the-author about-author other-books
    index-group case-study conclusion-notes""".split())
#: Kinds that are story wherever they stand.
STORY = frozenset("prologue epilogue chapter part volume z3998:prologue subchapter".split())
#: Kinds of passage that are left out wherever they stand.
PASSAGES = frozenset("""
    footnote footnotes endnote endnotes rearnote rearnotes note noteref annoref annotation backlink pagebreak page-list toc
    landmarks index glossary bibliography referrer doc-noteref doc-footnote doc-endnote doc-endnotes doc-backlink doc-pagebreak""".split())

_TITLE = "(?i)<page_titles>"
_PROSE = re.compile(r"\b(this|the present) (book|novel|edition|volume|work|translation|reprint)\b|\breaders?\b|\bpublish|\bthe author\b|\bthe text\b|\beditions?\b", re.I)
_MAYBE = re.compile(r"(the |author.s |a )?(preface|to the reader|a word to the reader|preamble)(\s(by|to)\b.*)?", re.I)

_START = re.compile(r"^[ \t]*\*{3} ?START OF (?:THE|THIS) PROJECT GUTENBERG.*?\*{3}[ \t]*$", re.I | re.M | re.S)
_END = re.compile(r"^[ \t]*(?:\*{3} ?END OF (?:THE|THIS) PROJECT GUTENBERG|End of (?:the |this )?Project Gutenberg)", re.I | re.M)
_ENTRY = (
    r"""(?i)(?=.{1,90}$)(?!.*[.!?…,;”"’]$)"""
    rf"(?:<contents_heads>\s+{numbers.PATTERN}.*|(?:\d{{1,3}}|[ivxlc]{{1,7}})[.:)]?(?:(?<=[\d.:)])\s+\S.*)?"
    r"|.+?[\s.·…]+\d{1,4}|<contents_tails>.*)")


def is_title(title: str) -> bool:
    """Whether a heading says that what follows is no part of the story ("Acknowledgements", "Also by Jane Doe")."""
    bare = re.sub(r"\s+", " ", title).strip(" *_.:–—-\t")
    return bool(bare) and len(bare) < 120 and bool(lexicon.pattern(_TITLE).fullmatch(bare))


def is_doubtful(title: str, text: str) -> bool:
    """Whether a "Preface" speaks of the book itself: many novels have one that is story."""
    return bool(_MAYBE.fullmatch(title.strip())) and len(_PROSE.findall(text)) >= 2


def is_rights(text: str) -> bool:
    """Whether a page reads as rights, imprint or licence: two of their set phrases in not too many words."""
    if len(text) >= 12_000:
        return False
    signs = lexicon.words("patterns")["rights"]
    return sum(bool(re.search(sign, text, re.I)) for sign in signs) >= 2 + (len(text) > 2500)


def is_list(text: str) -> bool:
    """Whether a text is a table of contents: nearly all its lines are numbered or end with a page, or all name chapters."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines or len(lines) > 400:
        return False
    entries = sum(bool(lexicon.pattern(_ENTRY).fullmatch(line)) for line in lines)
    return len(lines) >= 3 and entries >= 0.7 * len(lines) or entries == len(lines) and all(line.lower().startswith("chapter ") for line in lines)


def without_licence(text: str) -> str:
    """A Project Gutenberg text without the header and the licence that stand around it."""
    if (start := _START.search(text)) and start.start() < 30_000:
        text = text[start.end():]
    end = _END.search(text)
    return text[:end.start()] if end else text
