"""DOCX files as Word and LibreOffice write them are read as they stand on the page, with all changes accepted."""

import re
import time
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.errors import BadInput
from reverie.language import book_language, chapters, scenes

PROSE = "It was a dark night, and the rain fell on the roofs of the town. Nobody was in the street. " * 5
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
RELS = ('<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" '
        'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/></Relationships>')


def style(name, ident, more=""):
    return f'<w:style w:type="paragraph" w:styleId="{ident}"><w:name w:val="{name}"/>{more}</w:style>'


STYLES = f"""<w:styles {W}>{style("Normal", "Standard")}{style("heading 1", "berschrift1", '<w:basedOn w:val="Standard"/><w:pPr><w:outlineLvl w:val="0"/></w:pPr>')}
{style("heading 2", "Titre2", '<w:pPr><w:outlineLvl w:val="1"/></w:pPr>')}{style("Title", "Titel")}{style("Kapitel", "Kapitel", '<w:pPr><w:outlineLvl w:val="0"/></w:pPr>')}
{style("Kapitel neu", "KapitelNeu", '<w:basedOn w:val="Kapitel"/>')}{style("toc 1", "Verzeichnis1")}{style("Hidden", "Versteckt", "<w:rPr><w:vanish/></w:rPr>")}
{style("Numbered", "Nummer", '<w:basedOn w:val="berschrift1"/><w:pPr><w:numPr/></w:pPr>')}</w:styles>"""


def r(text, properties=""):
    return f'<w:r w:rsidR="00A1">{f"<w:rPr>{properties}</w:rPr>" if properties else ""}<w:t xml:space="preserve">{text}</w:t></w:r>'


def para(content="", kind="", properties=""):
    inner = (f'<w:pStyle w:val="{kind}"/>' if kind else "") + properties
    return f"<w:p>{f'<w:pPr>{inner}</w:pPr>' if inner else ''}{content if content.startswith('<') or not content else r(content)}</w:p>"


def docx(path, *paragraphs, styles=STYLES, before="", extra=()):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("_rels/.rels", RELS)
        archive.writestr("word/document.xml", f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>{before}<w:document {W}><w:body>{"".join(paragraphs)}<w:sectPr><w:cols/></w:sectPr></w:body></w:document>')
        if styles:
            archive.writestr("word/styles.xml", styles)
        for name, data in extra:
            archive.writestr(name, data)
    return path


@pytest.fixture
def book(tmp_path):
    return tmp_path / "book.docx"


def text(book, *paragraphs):
    return chapters.read(docx(book, para("Chapter 1", "berschrift1"), *paragraphs))[0].text


def names(found):
    return [(c.number, c.title) for c in found]


@pytest.mark.parametrize("kind", ["berschrift1", "Kapitel", "KapitelNeu", "Titre2"])
def test_heading_styles_of_any_language_are_chapters(book, kind):
    docx(book, para("The Glass Harbour", "Titel"), para("by Jane Doe"), para("The Storm", kind), para(PROSE), para("The Calm", kind), para(PROSE))
    found = chapters.read(book)
    assert names(found) == [(1, "The Storm"), (2, "The Calm")] and all(c.text == PROSE.strip() for c in found)


def test_outline_level_title_style_and_style_ids_without_a_sheet_are_headings(book):
    level = '<w:outlineLvl w:val="0"/>'
    assert names(chapters.read(docx(book, para("One", "", level), para(PROSE), para("Two", "", level), para(PROSE)))) == [(1, "Chapter 1"), (2, "Chapter 2")]
    assert names(chapters.read(docx(book, para("Wind", "Titel"), para(PROSE), para("Snow", "Titel"), para(PROSE)))) == [(1, "Wind"), (2, "Snow")]
    assert names(chapters.read(docx(book, para("Wind", "Heading1"), para(PROSE), para("Snow", "Heading1"), para(PROSE), styles=""))) == [(1, "Wind"), (2, "Snow")]


def test_headings_numbered_by_word_and_plain_lines_are_chapters(book):
    assert names(chapters.read(docx(book, para("", "Nummer"), para(PROSE), para("", "Nummer"), para(PROSE)))) == [(1, "Chapter 1"), (2, "Chapter 2")]
    assert names(chapters.read(docx(book, para("CHAPTER ONE"), para("The Storm"), para(PROSE), para("CHAPTER TWO"), para(PROSE)))) == [(1, "The Storm"), (2, "Chapter 2")]


def test_contents_and_matter_are_left_out(book):
    field = ('<w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText> TOC \\o "1-3" </w:instrText></w:r><w:r><w:fldChar w:fldCharType="separate"/></w:r>')
    contents = (f'<w:sdt><w:sdtPr><w:docPartObj><w:docPartGallery w:val="Table of Contents"/></w:docPartObj></w:sdtPr><w:sdtContent>{para("Contents", "berschrift1")}'
                f'{para(r("Chapter 1 ... 3"))}</w:sdtContent></w:sdt>')
    bare = para(field + r("Chapter 1 3")) + para(r("Chapter 2 9")) + para('<w:r><w:fldChar w:fldCharType="end"/></w:r>')
    docx(book, para("Jane Doe"), contents, bare, para("Chapter 1", "Verzeichnis1"), para("Chapter 1", "berschrift1"), para(PROSE),
         para("Acknowledgements", "berschrift1"), para(PROSE), para("ABOUT THE AUTHOR"), para(PROSE))
    assert [(c.number, c.text) for c in chapters.read(book)] == [(1, PROSE.strip())]


MARK = "<w:rPr><w:{}/></w:rPr>"
CODE = ('<w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText> HYPERLINK "x" </w:instrText></w:r><w:r><w:fldChar w:fldCharType="separate"/></w:r>'
        f'{r("there")}<w:r><w:fldChar w:fldCharType="end"/></w:r>')


@pytest.mark.parametrize("content, seen", [
    (r("A ") + f"<w:del>{'<w:r><w:delText>very </w:delText></w:r>'}</w:del><w:ins>{r('quite ')}</w:ins>" + r("dark"), "A quite dark"),
    (f"<w:moveTo>{r('Moved here.')}</w:moveTo>" + r(" Kept.") + f"<w:moveFrom>{r('Moved here.')}</w:moveFrom>", "Moved here. Kept."),
    (r("Seen ") + r("hidden", "<w:vanish/>") + r("shown", '<w:vanish w:val="0"/>') + r("styled", '<w:rStyle w:val="Versteckt"/>'), "Seen shown"),
    (r("He went ") + CODE + "<w:fldSimple w:instr=\" PAGE \">" + r("17") + "</w:fldSimple>" + r("."), "He went there."),
    (r("one") + "<w:r><w:br/></w:r>" + r("two") + "<w:r><w:tab/></w:r>" + r("three"), "one\ntwo three"),
    (r("har") + "<w:r><w:softHyphen/></w:r>" + r("bour a") + "<w:r><w:noBreakHyphen/></w:r>" + r("b \u00ad&amp; c", "<w:i/>"), "harbour a-b & c"),
    (r("Note") + '<w:r><w:footnoteReference w:id="2"/></w:r><w:commentRangeStart w:id="0"/>' + r("d.") + '<w:r><w:commentReference w:id="0"/></w:r>', "Noted."),
    ("<w:r><w:ruby><w:rt>" + r("kan") + "</w:rt><w:rubyBase>" + r("漢") + "</w:rubyBase></w:ruby></w:r>", "漢"),
    ('<w:r><w:fldChar w:fldCharType="begin"/></w:r>' + r("lost code"), ""),
])
def test_only_what_is_seen_is_read(book, content, seen):
    assert text(book, para(content), para("Then it ended.")) == f"{seen}\n\nThen it ended.".strip()


def test_deleted_end_of_paragraph_joins_and_moved_paragraph_is_there_once(book):
    moved = para(f"<w:moveTo>{r('The moved one.')}</w:moveTo>") + para("Middle.") + para(f"<w:moveFrom>{r('The moved one.')}</w:moveFrom>", "", MARK.format("moveFrom"))
    assert text(book, moved, para(r("He went "), "", MARK.format("del")), para("home.")) == "The moved one.\n\nMiddle.\n\nHe went home."


def test_text_box_is_read_once(book):
    box = "<w:txbxContent>" + para("A sign.") + "</w:txbxContent>"
    assert text(book, para(r("He read:") + f"<w:r><mc:AlternateContent><mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback></mc:AlternateContent></w:r>")).count("A sign.") == 1


@pytest.mark.parametrize("mark, parts", [
    (para("* * *"), 2), (para("#", "", '<w:jc w:val="center"/>'), 2), (para("❦"), 2), (para('<w:r><w:sym w:font="Wingdings" w:char="F09A"/></w:r>'), 2), (para("<w:r><w:drawing/></w:r>"), 2),
    (para(), 2), (para('<w:r><w:br w:type="page"/></w:r>'), 1), (para("", "", "<w:sectPr/>"), 1), (para("…"), 1), (para("—"), 1)])
def test_marks_part_scenes_and_page_breaks_do_not(book, mark, parts):
    found = text(book, para("One."), para("Two."), para("Three."), mark, para("Four."), para("Five."))
    assert len(scenes.split(chapters.Chapter(1, "", found, ""))) == parts


@pytest.mark.parametrize("data, says", [
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "WordDocument".encode("utf-16-le"), "is an old Word document .* save it as .docx"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le"), "is locked with a password.* save it as .docx without"),
    (b"{\\rtf1 hello}", "is RTF"), (b"Once upon a time", "is broken"), (b"", "is broken")])
def test_what_is_no_docx_is_one_sentence(book, data, says):
    book.write_bytes(data)
    with pytest.raises(BadInput, match=says):
        chapters.read(book)


def test_other_zip_broken_xml_bomb_and_entities_are_one_sentence(book):
    with zipfile.ZipFile(book, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.text")
    with pytest.raises(BadInput, match="is no Word document"):
        chapters.read(book)
    with pytest.raises(BadInput, match="not sound XML"):
        chapters.read(docx(book, "<w:p><w:r>"))
    with pytest.raises(BadInput, match="declares entities"):
        chapters.read(docx(book, para("&a;"), before='<!DOCTYPE x [<!ENTITY a "lol">]>'))
    with pytest.raises(BadInput, match="far more than a book"):
        chapters.read(docx(book, extra=[]) and docx(book, para("x" * 9_000_000)))


def test_old_kinds_say_what_to_save(tmp_path):
    for name, says in (("a.doc", "save it as .docx"), ("a.pdf", "Convert it to .epub")):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(BadInput, match=says):
            chapters.read(tmp_path / name)


def test_folder_takes_any_mix_and_one_text_once(tmp_path):
    (tmp_path / "01 - Wind.md").write_text(PROSE)
    docx(tmp_path / "02 - Snow.docx", para(PROSE))
    docx(tmp_path / "01 - Wind.docx", para(PROSE))
    (tmp_path / "~$ - Snow.docx").write_bytes(b"lock")
    (tmp_path / "03 - Rain.txt").write_text(PROSE)
    assert [(c.number, c.title, c.source) for c in chapters.read(tmp_path)] == [(1, "Wind", "01 - Wind.md"), (2, "Snow", "02 - Snow.docx"), (3, "Rain", "03 - Rain.txt")]


def test_book_of_120_000_words_is_read_in_seconds(book):
    lines = [para(r(f"The {n} men walked to the harbour ") + r("and the rain fell on them, ", "<w:i/>") + r("said the captain of the ship. " * 4)) for n in range(2800)]
    docx(book, *(part for n in range(30) for part in (para(f"Chapter {n + 1}", "berschrift1"), *lines[n * 93:n * 93 + 93])))
    start = time.process_time()
    found = chapters.read(book)
    assert time.process_time() - start < 3
    assert len(found) == 30 and sum(len(c.text.split()) for c in found) > 100_000


words = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyzäöé"), min_size=2, max_size=8)
runs = st.sampled_from([lambda w: r(w + " "), lambda w: r(w + " ", "<w:b/><w:i/>"), lambda w: f"<w:ins>{r(w + ' ')}</w:ins>", lambda w: f"<w:hyperlink>{r(w + ' ')}</w:hyperlink>",
                        lambda w: r(w + " ") + "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del>", lambda w: f"<w:smartTag>{r(w + ' ')}</w:smartTag>"])


@given(st.lists(st.lists(st.tuples(runs, words), min_size=1, max_size=5), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_no_story_text_is_lost_and_order_is_kept(tmp_path_factory, paragraphs):
    path = tmp_path_factory.mktemp("any") / "any.docx"
    found = text(path, *(para("".join(run(word) for run, word in content)) for content in paragraphs))
    assert re.findall(r"\w+", found) == [word for content in paragraphs for _, word in content]


@pytest.mark.parametrize("sample, tongue", [
    (PROSE, "en"), ("Der Regen fiel auf die Dächer der Stadt, und niemand war auf der Straße. Sie ging nicht nach Hause, denn es war dunkel.", "de"),
    ("La nuit était noire et la pluie tombait sur les toits de la ville. Il n’y avait personne dans la rue.", "fr"), ("Дождь падал на крыши города.", "ru"), ("", ""), ("x y z", "")])
def test_language_of_a_book_is_guessed(sample, tongue):
    assert book_language(sample) == tongue
