"""EPUBs as Calibre, Sigil, Project Gutenberg and publishers make them become the chapters that a reader would name."""

import re
import time
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.errors import BadInput
from reverie.language import chapters, encodings, markup, scenes

PROSE = "It was a dark night, and the rain fell on the roofs of the town. Nobody was in the street. " * 5
CONTAINER = """<?xml version="1.0"?><container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="{}" media-type="application/oebps-package+xml"/></rootfiles></container>"""
HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"><head><title>x</title><style>p { margin: 0 }</style></head>'


def p(*texts):
    return "".join(f"<p>{text}</p>\n" for text in texts or (PROSE,))


def xhtml(body, kind=""):
    return f"{HEAD}<body{f' epub:type={chr(34)}{kind}{chr(34)}' if kind else ''}>{body}</body></html>"


def epub(path, pages, nav="", ncx="", guide="", title="The Glass Harbour", extra=(), opf="OEBPS/content.opf", container=None, linear=(), version="3.0"):
    """`pages`: href → body or bytes, in reading order; what is bytes is stored as it is, None is listed and not there."""
    items = "".join(f'<item id="i{n}" href="{href}" media-type="application/xhtml+xml"/>' for n, href in enumerate(pages))
    refs = "".join(f'<itemref idref="i{n}"{" linear=" + chr(34) + "no" + chr(34) if href in linear else ""}/>' for n, href in enumerate(pages))
    items += '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>' if nav else ""
    items += '<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>' if ncx else ""
    package = (f'<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="{version}"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
               f"<dc:title>{title}</dc:title></metadata><manifest>{items}</manifest><spine toc=\"ncx\">{refs}</spine><guide>{guide}</guide></package>")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        if container is None:
            archive.writestr("META-INF/container.xml", CONTAINER.format(opf))
        elif container:
            archive.writestr("META-INF/container.xml", container)
        archive.writestr(opf, package)
        folder = opf.rpartition("/")[0] + "/" if "/" in opf else ""
        for href, body in pages.items():
            if body is not None:
                archive.writestr(folder + href.replace("%20", " "), body if isinstance(body, bytes) else xhtml(body))
        if nav:
            archive.writestr(folder + "nav.xhtml", xhtml(nav))
        if ncx:
            archive.writestr(folder + "toc.ncx", f'<?xml version="1.0"?><ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap>{ncx}</navMap></ncx>')
        for name, data in extra:
            archive.writestr(name, data)
    return path


def points(*entries):
    return "".join(f'<navPoint id="n{i}" playOrder="{i}"><navLabel><text>{label}</text></navLabel><content src="{src}"/></navPoint>'
                   for i, (label, src) in enumerate(entries))


def toc(*entries):
    return '<nav epub:type="toc"><h1>Contents</h1><ol>' + "".join(f'<li><a href="{src}">{label}</a></li>' for label, src in entries) + "</ol></nav>"


def names(found):
    return [(c.number, c.title) for c in found]


@pytest.fixture
def book(tmp_path):
    return tmp_path / "book.epub"


def body(book, html, **more):
    """The text of a book's only chapter with this in its page."""
    return chapters.read(epub(book, {"a.xhtml": f"<h2>Chapter 1</h2>{html}"}, **more))[0].text


def test_spine_is_the_order_and_headings_are_the_titles(book):
    epub(book, {"z.xhtml": f"<h1>Chapter One</h1>{p('First. ' + PROSE)}", "a.xhtml": f"<section><h1>Chapter Two<br/>The Storm</h1>{p('Second. ' + PROSE)}</section>"})
    found = chapters.read(book)
    assert names(found) == [(1, "Chapter 1"), (2, "The Storm")]
    assert [c.text[:6] for c in found] == ["First.", "Second"] and {c.source for c in found} == {"book.epub"}


def test_sigil_book_without_headings_has_titles_from_nav(book):
    epub(book, {"Text/s1.xhtml": p(), "Text/s2.xhtml": p("THE CALM", PROSE)}, nav=toc(("The Storm", "Text/s1.xhtml"), ("The Calm", "Text/s2.xhtml")))
    found = chapters.read(book)
    assert names(found) == [(1, "The Storm"), (2, "THE CALM")]
    assert [c.text for c in found] == [PROSE.strip()] * 2


def test_calibre_book_in_pieces_has_titles_from_ncx_and_goes_on_over_pieces(book):
    pages = {"titlepage.xhtml": '<div><svg><image href="cover.jpg"/></svg></div>',
             "index_split_000.html": f'<p class="calibre1"><span class="bold">1</span></p>{p(PROSE, "End of the piece.")}',
             "index_split_001.html": p("The piece goes on.", PROSE),
             "index_split_002.html": f'<p id="calibre_toc_2" class="calibre1"></p>{p(PROSE)}'}
    epub(book, pages, version="2.0", guide='<reference type="cover" href="titlepage.xhtml"/>',
         ncx=points(("Chapter 1", "index_split_000.html"), ("Chapter 2", "index_split_002.html#calibre_toc_2")))
    found = chapters.read(book)
    assert [c.number for c in found] == [1, 2]
    assert "End of the piece.\n\nThe piece goes on." in found[0].text and "* * *" not in found[0].text


def test_many_chapters_in_one_page_are_parted_at_the_anchors(book):
    page = "".join(f'<p id="c{n}">{PROSE} {word}.</p>' for n, word in enumerate(("Alpha", "Beta", "Gamma"), 1))
    epub(book, {"all.html": page}, ncx=points(*((f"Chapter {n}", f"all.html#c{n}") for n in (1, 2, 3))))
    assert [(c.number, c.text.split()[-1]) for c in chapters.read(book)] == [(1, "Alpha."), (2, "Beta."), (3, "Gamma.")]


def test_pages_without_any_titles_are_chapters(book):
    epub(book, {"a.html": p("For Anna."), "b.html": p(), "c.html": p()})
    assert names(chapters.read(book)) == [(1, "Chapter 1"), (2, "Chapter 2")]


def test_parts_interludes_prologue_and_epilogue_keep_the_chapters_numbers(book):
    pages = {"p.html": f"<h1>Prologue</h1>{p()}", "p1.html": "<h1>Part One</h1><p>A motto.</p>", "1.html": f"<h2>1</h2>{p()}", "2.html": f"<h2>2</h2>{p()}",
             "i.html": f"<h2>Interlude</h2>{p('Between. ' + PROSE)}", "p2.html": "<h1>Part Two</h1>", "3.html": f"<h2>3</h2>{p()}", "e.html": f"<h1>Epilogue</h1>{p()}"}
    found = chapters.read(epub(book, pages))
    assert names(found) == [(0, "Prologue"), (1, "Chapter 1"), (2, "Chapter 2"), (3, "Chapter 3"), (4, "Epilogue")]
    assert found[1].text.startswith("A motto.") and "* * *\n\nBetween." in found[2].text


FRONT = {"cover.xhtml": ("cover", '<img src="c.jpg" alt="Cover"/>'), "title.xhtml": ("titlepage", "<h1>The Glass Harbour</h1><p>by Jane Doe</p>"),
         "rights.xhtml": ("copyright-page", p("© 2020 Jane Doe. " + PROSE)), "for.xhtml": ("dedication", p("For Anna, who knew.")),
         "toc.xhtml": ("toc", '<h2>Contents</h2><p><a href="1.xhtml">One</a></p>'), "fore.xhtml": ("foreword", f"<h2>Foreword</h2>{p()}")}
BACK = {"thanks.xhtml": ("acknowledgments", f"<h2>Acknowledgements</h2>{p()}"), "notes.xhtml": ("endnotes", f"<h2>Notes</h2>{p()}"),
        "about.xhtml": ("backmatter", f"<h2>About Jane Doe</h2>{p()}"), "colophon.xhtml": ("colophon", f"<h2>Colophon</h2>{p()}")}


@pytest.mark.parametrize("stated", ["types", "landmarks", "guide", "headings"])
def test_front_and_back_matter_is_left_out(book, stated):
    pages, nav, guide = {}, "", ""
    for href, (kind, html) in [*FRONT.items(), ("1.xhtml", ("chapter", f"<h2>The Storm</h2>{p()}")), ("2.xhtml", ("epilogue", f"<h2>Epilogue</h2>{p()}")), *BACK.items()]:
        pages[href] = f'<section epub:type="{kind}">{html}</section>' if stated == "types" else html
        guide += f'<reference type="{kind}" href="{href}"/>' if stated == "guide" else ""
        nav += f'<li><a epub:type="{kind}" href="{href}">x</a></li>'
    if stated == "headings":
        pages["about.xhtml"] = f"<h2>About the Author</h2>{p()}"
        pages["more.xhtml"] = f"<h2>Also by Jane Doe</h2>{p('The Other Book')}"
        pages["rights.xhtml"] = p("Copyright © 2020 Jane Doe. All rights reserved. ISBN 978-3-16-148410-0. First published in 2020.")
    epub(book, pages, guide=guide, nav=f'<nav epub:type="landmarks"><ol>{nav}</ol></nav>' if stated == "landmarks" else "")
    found = chapters.read(book)
    assert names(found) == [(1, "The Storm"), (2, "Epilogue")]
    assert [c.text for c in found] == [PROSE.strip()] * 2


def test_page_outside_the_line_of_reading_is_left_out(book):
    epub(book, {"1.html": f"<h2>Chapter 1</h2>{p()}", "pop.html": p("A note."), "2.html": f"<h2>Chapter 2</h2>{p()}"}, linear=("pop.html",))
    assert all("A note" not in c.text for c in chapters.read(book))


def test_preface_that_is_story_stays_and_one_about_the_book_goes(book):
    one = f"<h2>Chapter 1</h2>{p()}"
    assert [c.number for c in chapters.read(epub(book, {"p.html": f"<h2>Preface</h2>{p()}", "1.html": one}))] == [0, 1]
    about = p("In this edition the author wishes to tell the reader of this book how it came to be published. " + PROSE)
    assert [c.number for c in chapters.read(epub(book, {"p.html": f"<h2>Preface</h2>{about}", "1.html": one}))] == [1]


def test_gutenberg_licence_contents_and_page_numbers_are_left_out(book):
    pages = {"h-0.htm.html": '<section class="pg-boilerplate pgheader" id="pg-header"><h2>The Project Gutenberg eBook of X</h2><p>This eBook is for the use of anyone</p></section>'
                             f'<h1>THE GLASS HARBOUR</h1><p>by Jane Doe</p><table><tr><td><a href="#c1">CHAPTER I.</a></td></tr><tr><td><a href="#c2">CHAPTER II.</a></td></tr></table>'
                             f'<div class="chapter"><h2><a id="c1"></a>CHAPTER I.<br/>The Storm</h2><p>It <span class="pagenum">[Pg 3]</span>rained.</p>{p()}</div>',
             "h-1.htm.html": f'<h2 id="c2">CHAPTER II.<br/>The Calm</h2>{p()}<section class="pg-boilerplate" id="pg-footer"><p>*** END OF THE PROJECT GUTENBERG EBOOK X ***</p>'
                             f"<div>THE FULL PROJECT GUTENBERG LICENSE {PROSE}</div></section>"}
    found = chapters.read(epub(book, pages))
    assert names(found) == [(1, "The Storm"), (2, "The Calm")]
    assert found[0].text.startswith("It rained.") and found[1].text == PROSE.strip()


@pytest.mark.parametrize("mark", ["<hr/>", '<hr class="thought-break" />', "<p>* * *</p>", '<p class="center">❖</p>', "<p>&#8258;</p>", '<p><img src="o.png" alt=""/></p>',
                                  '<div class="ornament"><img src="o.png" alt="ornament"/></div>', "<p>~ * ~</p>", "<p>oOo</p>", '<p class="scenebreak">&nbsp;</p>', "<p>#</p>"])
def test_marks_part_scenes(book, mark):
    text = body(book, p("One.", "Two.", "Three.") + mark + p("Four.", "Five."))
    assert [s.text for s in scenes.split(chapters.Chapter(1, "", text, ""))] == ["One.\n\nTwo.\n\nThree.", "Four.\n\nFive."]


def test_blank_paragraph_parts_scenes_only_where_it_is_unusual(book):
    rare = body(book, p("One.", "Two.", "Three.", "&nbsp;", "Four.", "Five."))
    always = body(book, p("One.", "&nbsp;", "Two.", "&#160;", "Three.", "<br/>", "Four."))
    assert [len(scenes.split(chapters.Chapter(1, "", text, ""))) for text in (rare, always)] == [2, 1]


@pytest.mark.parametrize("html, text", [
    ("<p>A <i>very</i>\n  <b>dark</b>\tnight</p>", "A very dark night"),
    ("<p>har&#173;bour &amp; sea &eacute;t&eacute; &mdash; &#x201C;x&#8221; &hellip;</p>", "harbour & sea été — “x” …"),
    ("<p>one<br/>two<br />\nthree</p>", "one\ntwo\nthree"),
    ("<p><ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp></ruby>字</p>", "漢字"),
    ('<p>He came<a epub:type="noteref" href="#n1">1</a>.<sup><a href="n.html#n2">[2]</a></sup></p><aside epub:type="footnote" id="n1"><p>Note.</p></aside>', "He came."),
    ('<p><img src="t.png" alt="T"/>he night <img src="x.png" alt="A long description"/> fell</p>', "The night fell"),
    ("<p>unclosed <em>here<p>next & <b>bold", "unclosed here\n\nnext & bold"),
    ("<div>bare text<div>deeper</div>after</div>", "bare text\n\ndeeper\n\nafter"),
    ("<p># 5 is not a heading</p>", "\\# 5 is not a heading"),
    ("<script>var x = '<p>no</p>';</script><p hidden>no</p><p style='display: none'>no</p><p>yes</p>", "yes"),
    ("<p>&lol; stays</p>", "&lol; stays"),
])
def test_inline_markup_leaves_the_text(book, html, text):
    assert body(book, html) == text


def test_hgroup_is_number_and_title(book):
    epub(book, {"a.html": f'<header><hgroup><h2 epub:type="ordinal">IV</h2><p epub:type="title">The Storm</p></hgroup></header>{p()}',
                "b.html": f"<hgroup><h2>V</h2><p>The Calm</p></hgroup>{p()}"})
    assert names(chapters.read(book)) == [(4, "The Storm"), (5, "The Calm")]


@pytest.mark.parametrize("encoding, declared", [("utf-8", "utf-8"), ("utf-16", "utf-16"), ("cp1252", "utf-8"), ("cp1252", "iso-8859-1"), ("cp1250", "windows-1250"), ("utf-16-le", "utf-16")])
def test_pages_in_other_encodings_are_read(book, encoding, declared):
    word = "Žofie řekla" if encoding == "cp1250" else "“Café” – é"
    if encoding == "cp1250":
        word = "Žofie tančí"
    page = xhtml(f"<h2>Chapter 1</h2><p>{word}</p>").replace('"utf-8"', f'"{declared}"').encode(encoding, "replace")
    assert chapters.read(epub(book, {"a.html": page}))[0].text == word.encode(encoding, "replace").decode(encoding)


def test_missing_and_binary_pages_and_links_out_of_the_archive_are_skipped(book):
    pages = {"1.html": f"<h2>Chapter 1</h2>{p()}", "gone.html": None, "../../../etc/passwd": None, "/etc/passwd": None, "file:///etc/passwd": None,
             "pic.html": b"\x89PNG\0\0\0" * 50, "my%20page.html": f"<h2>Chapter 2</h2>{p()}"}
    assert names(chapters.read(epub(book, pages))) == [(1, "Chapter 1"), (2, "Chapter 2")]


@pytest.mark.parametrize("container", ["", "<container/>", "not xml at all <<<", CONTAINER.format("../../outside.opf")])
def test_package_is_found_without_a_container(book, container):
    assert len(chapters.read(epub(book, {"1.html": f"<h2>Chapter 1</h2>{p()}"}, container=container))) == 1


LOCK = """<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><enc:EncryptedData xmlns:enc="http://www.w3.org/2001/04/xmlenc#">
<enc:EncryptionMethod Algorithm="{}"/><enc:CipherData><enc:CipherReference URI="{}"/></enc:CipherData></enc:EncryptedData></encryption>"""


def test_obfuscated_font_is_no_lock_and_drm_is_one_sentence(book):
    pages = {"1.html": f"<h2>Chapter 1</h2>{p()}"}
    epub(book, pages, extra=[("META-INF/encryption.xml", LOCK.format("http://www.idpf.org/2008/embedding", "OEBPS/font.otf"))])
    assert len(chapters.read(book)) == 1
    epub(book, pages, extra=[("META-INF/encryption.xml", LOCK.format("http://www.w3.org/2001/04/xmlenc#aes128-cbc", "OEBPS/1.html"))])
    with pytest.raises(BadInput, match=r"'book.epub' is locked by its shop \(DRM\) and cannot be read\. Give a copy without DRM"):
        chapters.read(book)


def test_broken_zip_and_no_epub_are_one_sentence(book, tmp_path):
    whole = epub(book, {"1.html": p()}).read_bytes()
    for data in (whole[:len(whole) // 2], b"", b"PK\x03\x04", b"Once upon a time"):
        book.write_bytes(data)
        with pytest.raises(BadInput, match="'book.epub' is broken or not complete. Save or download"):
            chapters.read(book)
    with zipfile.ZipFile(book, "w") as archive:
        archive.writestr("a.html", "<p>Hello</p>")
    with pytest.raises(BadInput, match="no list of its pages"):
        chapters.read(book)
    with pytest.raises(BadInput, match="no text that can be read"):
        chapters.read(epub(book, {"gone.html": None, "a.html": ""}) and epub(book, {"a.html": "<img src='x'/>"}))


def test_zip_bomb_is_refused_before_it_is_unpacked(book):
    epub(book, {"1.html": b"<p>" + bytes(1) * 30_000_000})
    start = time.process_time()
    with pytest.raises(BadInput, match="unpacks to far more than a book"):
        chapters.read(book)
    assert time.process_time() - start < 1


def test_entity_bomb_is_not_expanded(book):
    subset = '<!ENTITY a "lol">' + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi"))
    page = f'<?xml version="1.0"?><!DOCTYPE html [{subset}]><html><body><h2>Chapter 1</h2><p>Safe &i; and &nbsp;sound</p></body></html>'
    assert chapters.read(epub(book, {"1.html": page.encode()}))[0].text == "Safe &i; and sound"


@pytest.mark.parametrize("junk", ["<!--", "<![CDATA[", "<a ", "<!", "</", "&", "<p", "<!DOCTYPE [", "<b>", "<?"])
def test_broken_markup_takes_no_time_that_grows_with_its_square(junk):
    start = time.process_time()
    markup.page("<p>One</p>" + junk * 10_000)
    assert time.process_time() - start < 5


# No links in here: a page of little but links is a list of contents, and left out.
words = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyzäéñß"), min_size=2, max_size=8)
inline = st.sampled_from(["{}", "<i>{}</i>", "<b>{} </b>", "<span class='x'>{}</span>", "{}<br/>", "\n {}", "<small>{}</small>"])
paragraph = st.lists(st.tuples(inline, words).map(lambda pair: pair[0].format(pair[1])), min_size=1, max_size=6).map(" ".join)
block = st.sampled_from(["<p>{}</p>", "<div>{}</div>", "<blockquote><p>{}</p></blockquote>", "<div><p>{}</p></div>", "<ul><li>{}</li></ul>", "<hr/><p>{}", "<p>{}"])


@given(st.lists(st.lists(st.tuples(block, paragraph).map(lambda pair: pair[0].format(pair[1])), min_size=1, max_size=5), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_no_story_text_is_lost_and_order_is_kept(tmp_path_factory, pages):
    path = tmp_path_factory.mktemp("any") / "any.epub"
    epub(path, {f"{n}.html": f"<h2>Chapter {n}</h2>{''.join(page)}" for n, page in enumerate(pages, 1)}, title="0")
    found = chapters.read(path)
    for page, chapter in zip(pages, found, strict=True):
        assert re.findall(r"\w+", re.sub("<[^>]*>", " ", "".join(page))) == re.findall(r"\w+", chapter.text)


@given(st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_a_page_or_bad_input(data):
    try:
        markup.page(encodings.decode_markup(data))
    except BadInput:
        pass
