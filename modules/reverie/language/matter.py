"""What stands around a story in a book: covers, rights, thanks, lists and notes, by heading, by wording, by markup."""

from __future__ import annotations

import re

from reverie.language import numbers

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

_TITLE = re.compile(r"""
      (the\s)?(front\s|back\s)?cover(\s(page|image|art|design))? | (half[\s-]?)?title(\s?page)? | frontispiece | imprint | impressum | colophon
    | (un)?copyright(s|\s(page|notice|information|acknowledge?ments))?(\s©?\s?(19|20)\d\d.*)? | legal(\snotice)? | permissions? | credits | disclaimer
    | dedicat(ion|ed\sto\b.*) | widmung | (d[ée]dicace) | epigraph | (a\s)?(thank\syou|thanks)(\sto\b.*|\sfrom\b.*)? | danksagung(en)? | remerciements | agradecimientos
    | acknowledge?ments? | (table\sof\s|the\s)?contents(\spage)? | toc | inhalt(sverzeichnis)? | table\sdes\smati[èe]res | sommaire | [íi]ndice | inhoud
    | (general\s)?index(es)? | glossary(\sof\b.*)? | glossar | bibliography | works\scited | references | sources | (suggested\s|further\s)reading | errata
    | (end|foot)\s?notes? | notes?\sand\sreferences | landmarks | (list\sof\s)?(illustrations|maps|figures|plates|tables|abbreviations)
    | (a\s|the\s)?(short\s|brief\s)?foreword(\s(by|to)\b.*)? | vorwort | avant-propos | (the\s)?afterword(\s(by|to)\b.*)? | nachwort | postface
    | (the\s|an\s|general\s|editor['’]s\s)?introduction(\s(by|to)\b.*)? | (a\s)?(publisher|editor|translator|transcriber|producer|historical|historian)['’]?s?['’]?\s(note|foreword|preface|introduction|afterword)s?
    | (a\s)?notes?\s(on|about|from|to)\sthe\s(text|type|translation|author|publisher|transcription|edition|reader|editor|typeface)s?(\b.*)?
    | historical\snotes? | about\s(the|this)\s(authors?|publisher|illustrator|translator|editor|book|cover|type|text|series|e-?book).* | [üu]ber\s(den\sautor|die\sautorin)
    | about\sthe\s(author|type).* | (the\s)?author\sbio(graphy)? | biography | meet\sthe\sauthor | (also|books|novels|other\s(books|titles|works|novels)|more(\sbooks)?|titles)\s(by|from|in\sthe)\b.*
    | (by\sthe\ssame\sauthor) | (advance\s|critical\s)?praise(\sfor\b.*)? | reviews | what\s(people|readers)\sare\ssaying.* | (a\s|an\s)?(sneak\s)?(peek|preview|excerpt|sample)(\s(of|from|at)\b.*)?
    | (sneak\s(peek|preview)|bonus\s(chapter|content|material))(\b.*)? | coming\s(soon|next).* | (a\s)?read(ing|ers?)['’]?s?['’]?\s(group\s)?guide.* | (discussion\squestions|(book\sclub\s)?questions\s(for|and)\b.*)
    | newsletter.* | (join|sign\sup|connect\swith|follow|stay\sin\stouch|keep\sin\stouch)\b.*(list|newsletter|author|online|touch) | advertise?ments? | back\sads?
    | (dramatis\spersonae|list\sof\scharacters|cast\sof\scharacters|characters|(the\s)?cast) | (family|genealogical)\strees? | genealogy | maps? | (a\s)?(chronology|timeline)(\sof\b.*)?
    | (the\s)?(full\s)?project\sgutenberg\b.* | (end\s)?licen[cs]e | appendi(x|ces)(\s.{1,40})? | pronunciation(\sguide)? | newsletter | blurb
    | transcriber['’]?s?\snotes?.* | discover\syour\snext\b.* | landing\spage | series\s(page|list)
    """, re.I | re.X)

_RIGHTS = [re.compile(pattern, re.I) for pattern in (
    r"all rights reserved", r"©|\(c\)\s*(19|20)\d\d|copyright\s+(©|\(c\)|by|(19|20)?\d\d)", r"\bisbn\b", r"library of congress|british library",
    r"no part of this (book|publication|ebook|work)", r"(is a|are) works? of fiction|product of the author.s imagination",
    r"first (published|edition|printing)|published (in|by)\b", r"printed (and bound )?in", r"cover (design|art|illustration|photograph|image)",
    r"https?://|www\.", r"project gutenberg", r"without the (prior )?(written )?permission", r"moral right", r"public domain")]
_PROSE = re.compile(r"\b(this|the present) (book|novel|edition|volume|work|translation|reprint)\b|\breaders?\b|\bpublish|\bthe author\b|\bthe text\b|\beditions?\b", re.I)
_MAYBE = re.compile(r"(the |author.s |a )?(preface|to the reader|a word to the reader|preamble)(\s(by|to)\b.*)?", re.I)

_START = re.compile(r"^[ \t]*\*{3} ?START OF (?:THE|THIS) PROJECT GUTENBERG.*?\*{3}[ \t]*$", re.I | re.M | re.S)
_END = re.compile(r"^[ \t]*(?:\*{3} ?END OF (?:THE|THIS) PROJECT GUTENBERG|End of (?:the |this )?Project Gutenberg)", re.I | re.M)
_ENTRY = re.compile(rf"""(?=.{{1,90}}$)(?!.*[.!?…,;”"’]$)
    (?:(?:chapter|part|book|letter)\s+{numbers.PATTERN}.* | (?:\d{{1,3}}|[ivxlc]{{1,7}})[.:)]?(?:(?<=[\d.:)])\s+\S.*)? | .+?[\s.·…]+\d{{1,4}} | (?:prologue|epilogue).*)""", re.I | re.X)


def is_title(title: str) -> bool:
    """Whether a heading says that what follows is no part of the story ("Acknowledgements", "Also by Jane Doe")."""
    bare = re.sub(r"\s+", " ", title).strip(" *_.:–—-\t")
    return bool(bare) and len(bare) < 120 and bool(_TITLE.fullmatch(bare))


def is_doubtful(title: str, text: str) -> bool:
    """Whether a "Preface" speaks of the book itself: many novels have one that is story."""
    return bool(_MAYBE.fullmatch(title.strip())) and len(_PROSE.findall(text)) >= 2


def is_rights(text: str) -> bool:
    """Whether a page reads as rights, imprint or licence: two of their set phrases in not too many words."""
    return len(text) < 12_000 and sum(bool(sign.search(text)) for sign in _RIGHTS) >= 2 + (len(text) > 2500)


def is_list(text: str) -> bool:
    """Whether a text is a table of contents: nearly all its lines are numbered or end with a page, or all name chapters."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines or len(lines) > 400:
        return False
    entries = sum(bool(_ENTRY.fullmatch(line)) for line in lines)
    return len(lines) >= 3 and entries >= 0.7 * len(lines) or entries == len(lines) and all(line.lower().startswith("chapter ") for line in lines)


def without_licence(text: str) -> str:
    """A Project Gutenberg text without the header and the licence that stand around it."""
    if (start := _START.search(text)) and start.start() < 30_000:
        text = text[start.end():]
    end = _END.search(text)
    return text[:end.start()] if end else text
