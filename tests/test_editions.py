"""Scenes with pictures become an EPUB, a PDF and a film."""

import io
import re
import subprocess
import shutil
import zipfile
from xml.etree import ElementTree

import pytest
from PIL import Image

from reverie import animatic, comic, epub, film_plan, lettering, media
from reverie.errors import BadInput
from reverie.pipelines import _editions

NASTY = '<script>alert(1)</script> & "quoted" \x07'
OPF = "{http://www.idpf.org/2007/opf}"
DC = "{http://purl.org/dc/elements/1.1/}"


def row(chapter=1, scene=1, **more):
    return {
        "chapter": chapter, "chapter_title": f"Title {chapter}", "scene": scene, "words": 120, "characters": ["Emma"], "setting": "office",
        "time": "at dawn", "action": "reading", "excerpt": "She read on, and on.", **more,
    }


@pytest.fixture
def picture(tmp_path):
    def draw(width=128, height=128, name="picture", colour=(200, 90, 40)):
        path = tmp_path / f"{name}.png"
        noise = Image.effect_noise((width, height), 40).convert("RGB")
        Image.blend(noise, Image.new("RGB", (width, height), colour), 0.6).save(path)
        return path

    return draw


@pytest.fixture
def short(monkeypatch):
    """Films of less than a second, so that the tests are quick."""
    monkeypatch.setattr(film_plan, "CARD_S", 0.75)
    monkeypatch.setattr(film_plan, "SCENE_S", (0.75, 0.75))


@pytest.fixture
def tiny(short, monkeypatch):
    monkeypatch.setattr(animatic, "SIZES", ((160, 120),))


def book(tmp_path, rows, texts=None, title="A Tale"):
    return zipfile.ZipFile(epub.build(title, rows, texts or {}, tmp_path / "tale.epub"))


def film(tmp_path, rows, title="A Tale"):
    import av

    path = tmp_path / "tale.mp4"
    fractions = list(animatic.build(title, rows, path))
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] <= 1
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        return stream.codec_context.name, stream.pix_fmt, stream.width, stream.height, frames, container.duration / 1e6


# EPUB

def test_a_book_is_a_container_whose_parts_all_exist_and_are_well_formed(tmp_path, picture):
    file = book(tmp_path, [row(image=[picture()]), row(2, 1, image=[picture(64, 96, "two")])], {(1, 1): "One.\n\nTwo.", (2, 1): "Three."})
    first = file.infolist()[0]
    assert (first.filename, first.compress_type, file.read(first)) == ("mimetype", zipfile.ZIP_STORED, b"application/epub+zip")
    package = ElementTree.fromstring(file.read("book/package.opf"))
    items = {item.get("id"): item for item in package.iter(f"{OPF}item")}
    assert {f"book/{item.get('href')}" for item in items.values()} == set(file.namelist()) - {"mimetype", "META-INF/container.xml", "book/package.opf"}
    assert {part.get("idref") for part in package.iter(f"{OPF}itemref")} <= set(items)
    assert {"nav", "cover-image"} <= {item.get("properties") for item in items.values()}
    assert package.find(f".//{DC}language").text == "en" and package.find(f".//{DC}identifier").text.startswith("urn:uuid:")
    for name in file.namelist():
        if name.endswith((".xhtml", ".opf", ".xml")):
            ElementTree.fromstring(file.read(name))


def test_a_book_whose_language_cannot_be_told_says_that_it_is_not_known(tmp_path):
    file = zipfile.ZipFile(epub.build("A Tale", [row()], {}, tmp_path / "tale.epub", ""))
    assert ElementTree.fromstring(file.read("book/package.opf")).find(f".//{DC}language").text == "und"


def test_chapters_have_their_text_in_order_with_each_picture_before_its_scene(tmp_path, picture):
    rows = [row(3, 1, image=[picture()]), row(3, 2, image=[picture(name="two")])]
    page = book(tmp_path, rows, {(3, 1): "First *words*.", (3, 2): "Last words."}).read("book/chapter-001.xhtml").decode()
    parts = re.findall(r"<(?:h1|figure|p)\b", page)
    assert parts == ["<h1", "<figure", "<p", "<figure", "<p"]
    assert "First <em>words</em>." in page and 'alt="Emma reading; office; at dawn."' in page
    nav = book(tmp_path, rows).read("book/nav.xhtml").decode()
    assert '<a href="chapter-001.xhtml">Chapter 3: Title 3</a>' in nav


def test_nothing_that_a_text_says_becomes_markup(tmp_path, picture):
    rows = [row(image=[picture()], chapter_title=NASTY, action=NASTY, setting=NASTY)]
    file = book(tmp_path, rows, {(1, 1): NASTY}, title=NASTY)
    for name in file.namelist():
        if name.endswith((".xhtml", ".opf")):
            text = file.read(name).decode()
            ElementTree.fromstring(text)
            assert "<script" not in text and "\x07" not in text


def test_the_same_book_has_the_same_bytes(tmp_path, picture):
    rows = [row(image=[picture()])]
    first = epub.build("A", rows, {(1, 1): "x"}, tmp_path / "a.epub").read_bytes()
    assert epub.build("A", rows, {(1, 1): "x"}, tmp_path / "b.epub").read_bytes() == first


def test_a_book_without_a_picture_or_words_is_a_book_too(tmp_path):
    file = book(tmp_path, [row(image=[tmp_path / "gone.png"]), row(scene=2)])
    assert "book/cover.xhtml" not in file.namelist() and "book/chapter-001.xhtml" in file.namelist()


@pytest.mark.skipif(not (shutil.which("java") and shutil.which("epubcheck")), reason="epubcheck is not installed")
def test_epubcheck_finds_nothing(tmp_path, picture):
    rows = [row(image=[picture()], chapter_title="A <b> & c"), row(scene=2), row(2, 1, image=[picture(300, 200, "wide")])]
    book(tmp_path, rows, {(1, 1): "# Head\n\nOne *two*.\\\nThree & <four>.", (1, 2): "Five."}).close()
    jar = shutil.which("epubcheck")
    check = subprocess.run(["java", "-XX:TieredStopAtLevel=1", "-jar", jar, "--failonwarnings", str(tmp_path / "tale.epub")], capture_output=True, text=True, timeout=600)
    assert check.returncode == 0, check.stdout + check.stderr


# PDF

def pages_of(data: bytes) -> int:
    from PIL import PdfParser

    with PdfParser.PdfParser(buf=data) as pdf:
        return len(pdf.pages)


def test_a_comic_has_the_pages_of_its_layout(tmp_path, picture):
    rows = [row(1 + n // 7, 1 + n % 7, image=[picture()]) for n in range(21)]
    pages = comic.layout("A Tale", rows)
    assert comic.build("A Tale", rows, tmp_path / "tale.pdf") == len(pages) == pages_of((tmp_path / "tale.pdf").read_bytes()) == 3
    panels = [item for items in pages for item in items if item.kind == "panel"]
    assert len(panels) == 21


@pytest.mark.parametrize("size", [(512, 512), (300, 900), (900, 300), (64, 64)])
def test_nothing_of_a_page_overlaps_or_leaves_it(picture, size):
    rows = [row(1 + n // 4, n, image=[picture(*size)], excerpt="word " * 60, chapter_title="title " * 50) for n in range(7)]
    for items in comic.layout("t" * 300, rows):
        boxes = [(item.x, item.y, item.x + item.width, item.y + item.height) for item in items]
        assert all(0 <= x and 0 <= y and right <= comic.PAGE[0] and bottom <= comic.PAGE[1] - comic.MARGIN for x, y, right, bottom in boxes)
        for n, a in enumerate(boxes):
            assert not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in boxes[:n])


def test_a_scene_without_its_picture_keeps_its_panel(tmp_path, picture):
    rows = [row(image=[picture()]), row(scene=2, image=[tmp_path / "gone.png"], excerpt="", action="", setting="")]
    assert comic.build("A", rows, tmp_path / "a.pdf") == 1


# film

@pytest.mark.parametrize("size, expected", [((128, 128), (576, 432)), ((96, 160), (432, 768)), ((480, 640), (432, 576)), ((320, 180), (768, 432))])
def test_a_film_is_h264_of_the_pictures_shape_and_the_planned_length(tmp_path, picture, short, size, expected):
    rows = [row(image=[picture(*size)])]
    codec, pixels, width, height, frames, seconds = film(tmp_path, rows)
    planned = film_plan.clips("A Tale", rows)[-1].end
    assert (codec, pixels, (width, height)) == ("h264", "yuv420p", expected)
    assert frames == round(planned * film_plan.FPS) and abs(seconds - planned) < 0.1
    head = (tmp_path / "tale.mp4").read_bytes()
    assert head.index(b"moov") < head.index(b"mdat"), "it can start before it is loaded whole"


def test_scenes_last_as_their_words_and_their_caption_need():
    assert film_plan.seconds_for(0, "") == 2.5
    assert film_plan.seconds_for(500, "") == 3.75
    assert film_plan.seconds_for(5000, "") == 6.0
    assert film_plan.seconds_for(10, "word " * 15) == 5.0


def test_the_camera_never_leaves_the_picture_and_moves_less_than_a_few_pixels_a_frame(picture):
    clips = [film_plan.Clip(picture(), 0.0, 3.0, move) for move in (*film_plan.MOVES.values(), film_plan.CARD_MOVE)]
    for clip in clips:
        for shape in ((512, 512), (400, 900), (900, 400)):
            views = [film_plan.view(clip, frame / 24, shape, (640, 480)) for frame in range(73)]
            assert all(left >= -1e-6 and top >= -1e-6 and right <= shape[0] + 1e-6 and bottom <= shape[1] + 1e-6 for left, top, right, bottom in views)
            assert all(abs((right - left) / (bottom - top) - 4 / 3) < 1e-6 for left, top, right, bottom in views)
            assert max(abs(a[side] - b[side]) for a, b in zip(views, views[1:]) for side in range(4)) < 20


def test_captions_have_the_films_times(picture):
    rows = [row(image=[picture()]), row(scene=2, image=[picture()], excerpt="", action="", setting=""), row(scene=3, image=[picture()], excerpt="Then.")]
    clips = film_plan.clips("A", rows)
    assert [clip.start for clip in clips[1:]] == [clip.end - film_plan.FADE_S for clip in clips[:-1]]
    times = re.findall(r"(\d\d:\d\d:\d\d,\d{3}) --> (\d\d:\d\d:\d\d,\d{3})\n(.+)", animatic.subtitles("A", rows))
    assert times == [("00:00:02,500", "00:00:04,500", "She read on, and on."), ("00:00:06,500", "00:00:08,500", "Then.")]


def test_a_scene_without_its_picture_is_not_in_the_film(tmp_path, picture):
    rows = [row(image=[tmp_path / "gone.png"]), row(2, 1, image=[picture()])]
    assert [clip.caption for clip in film_plan.clips("A", rows)] == ["Title 2", "She read on, and on."]
    assert list(animatic.build("A", rows[:1], tmp_path / "none.mp4")) == [] and not (tmp_path / "none.mp4").exists()


def test_a_film_that_is_stopped_leaves_what_was_there(tmp_path, picture, tiny):
    target = tmp_path / "tale.mp4"
    target.write_bytes(b"before")
    making = animatic.build("A", [row(image=[picture()])], target)
    next(making), next(making)
    making.close()
    assert target.read_bytes() == b"before" and sorted(path.name for path in tmp_path.iterdir()) == ["picture.png", "tale.mp4"]


@pytest.mark.parametrize("words", ["x" * 300, "שלום & مرحبا 😀 你好", "", "\x00\x07", "a\nb", "👩‍👩‍👧 é — …"])
def test_any_words_can_be_lettered(tmp_path, picture, tiny, words):
    rows = [row(image=[picture()], excerpt=words, action=words, chapter_title=words, characters=[words])]
    film(tmp_path, rows, title=words or "-")
    comic.build(words, rows, tmp_path / "a.pdf")
    book(tmp_path, rows, {(1, 1): words}, title=words)


# lettering

def test_text_fits_its_box_by_getting_smaller_then_by_being_cut():
    whole = lettering.shape("some words " * 12, 300, 200, 40, 12)
    assert not whole.cut and whole.height <= 200 and whole.width <= 300
    cut = lettering.shape("some words " * 100, 300, 100, 40, 30)
    assert cut.cut and cut.height <= 100 and cut.width <= 300 and cut.lines[-1].endswith(("…", "..."))


def test_without_installed_fonts_letters_become_plainer(monkeypatch):
    lettering._font.cache_clear(), lettering._has.cache_clear()
    monkeypatch.setattr(lettering, "FAMILIES", (("", ""),))
    assert lettering.shape("“Café” — déjà…", 900, 90, 24).lines == ('“Cafe” - deja…',)
    lettering._font.cache_clear(), lettering._has.cache_clear()


def test_the_smaller_of_jpeg_and_png_is_taken():
    assert media.smaller(Image.new("RGB", (64, 64), "red"))[1] == "png"
    data, kind = media.smaller(Image.effect_noise((256, 256), 90).convert("RGB"))
    assert kind == "jpeg" and Image.open(io.BytesIO(data)).size == (256, 256)


# all of them

def make(out, rows, kinds=_editions.KINDS, texts=None):
    updates, making = [], _editions.make(out, "tale", "A Tale", rows, texts or {(1, 1): "Words."}, kinds)
    while True:
        try:
            updates.append(next(making))
        except StopIteration as end:
            return updates, end.value


def test_everything_is_made_once_and_again_only_where_something_changed(tmp_path, picture, tiny):
    out, rows = tmp_path / "out", [row(image=[picture()])]
    updates, files = make(out, rows)
    assert {key: path.rpartition("/")[2] for key, path in files.items()} == {
        "epub": "tale.epub", "pdf": "tale.pdf", "animatic": "tale.mp4", "captions": "captions.srt"}
    assert {update.kind for update in updates} == {"progress"}
    assert make(out, rows) == ([], files)
    assert {update.text for update in make(out, rows, texts={(1, 1): "Other words."})[0]} == {"tale.epub"}
    picture(colour=(0, 0, 90))
    assert {update.text for update in make(out, rows)[0]} == {"tale.epub", "tale.pdf", "tale.mp4"}
    (out / "tale.pdf").unlink()
    assert {update.text for update in make(out, rows)[0]} == {"tale.pdf"}
    assert not list(out.glob("*.part")) and not list(out.glob(".*.part"))


def test_outputs_are_chosen_by_name():
    assert _editions.chosen("") == _editions.KINDS and _editions.chosen("none") == ()
    assert _editions.chosen("pdf, EPUB") == ("epub", "pdf")
    with pytest.raises(BadInput, match="'gif' in outputs is unknown"):
        _editions.chosen("gif")


def frames_of(path):
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [(frame.pts * stream.time_base, frame.to_ndarray(format="gray")) for frame in container.decode(stream)]


def test_each_chapter_has_a_film_and_the_whole_is_them_one_after_the_other(tmp_path, picture, tiny):
    out = tmp_path / "out"
    rows = [row(number, 1, image=[picture(name=f"{number}", colour=colour)]) for number, colour in ((1, (200, 0, 0)), (3, (0, 0, 200)))]
    updates, files = make(out, rows, ("animatic",))
    parts = [out / "films" / f"chapter_{number:02d}.mp4" for number in (1, 3)]
    assert {update.text for update in updates} == {"films/chapter_01.mp4", "films/chapter_03.mp4"}
    fractions = [update.fraction for update in updates]
    assert fractions == sorted(fractions)
    apart, whole = [frames_of(part) for part in parts], frames_of(files["animatic"])
    assert len(whole) == sum(map(len, apart)) == round(film_plan.clips("A Tale", rows)[-1].end * film_plan.FPS)
    assert [round(at * film_plan.FPS) for at, _ in whole] == list(range(len(whole)))
    assert all((one[1] == other[1]).all() for one, other in zip(whole, [*apart[0], *apart[1]], strict=True))
    assert whole[len(apart[0]) - 1][1].mean() < 40 < whole[len(apart[0]) // 2][1].mean()  # the chapter goes dark


def test_a_changed_scene_makes_only_its_chapters_film_anew(tmp_path, picture, tiny):
    out = tmp_path / "out"
    rows = [row(number, 1, image=[picture(name=f"{number}")]) for number in (1, 2, 3)]
    make(out, rows, ("animatic",))
    picture(name="2", colour=(9, 9, 9))
    updates, files = make(out, rows, ("animatic",))
    assert {update.text for update in updates} == {"films/chapter_02.mp4"}
    assert make(out, rows, ("animatic",)) == ([], files)


def test_a_chapters_film_that_is_gone_is_made_again_and_a_killed_runs_piece_goes(tmp_path, picture, tiny):
    out = tmp_path / "out"
    rows = [row(number, 1, image=[picture(name=f"{number}")]) for number in (1, 2)]
    make(out, rows, ("animatic",))
    (out / "films" / "chapter_02.mp4").unlink()
    (out / "films" / ".chapter_01.mp4.1.part").write_bytes(b"half")
    (out / ".tale.mp4.1.part").write_bytes(b"half")
    assert {update.text for update in make(out, rows, ("animatic",))[0]} == {"films/chapter_02.mp4"}
    assert sorted(path.name for path in (out / "films").iterdir()) == ["chapter_01.mp4", "chapter_02.mp4"]
    assert not list(out.glob(".*.part"))


def test_captions_of_a_later_chapter_begin_after_the_one_before(tmp_path, picture, tiny):
    rows = [row(number, 1, image=[picture(name=f"{number}")]) for number in (1, 2)]
    clips = film_plan.clips("A", rows)
    cards = [clip for clip in clips if clip.is_card]
    assert len(cards) == 2 and cards[1].start == clips[1].end and clips[3].start == cards[1].end - film_plan.FADE_S
