"""Scenes with pictures become one page."""

import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from reverie import storyboard
from reverie.errors import ReverieError

NASTY = '<script>alert(1)</script> & "quoted" \'too\' <!--slot:title-->'


def row(chapter=1, scene=1, **more):
    return {
        "chapter": chapter, "chapter_title": f"Title {chapter}", "scene": scene, "words": 120, "characters": ["Emma"], "setting": "office",
        "time": "at dawn", "mood": "calm", "action": "reading", "prompt": "a woman reading", "negative": "blur",
        "filename": f"chapter_{chapter:02d}_scene_{scene:02d}.png", "excerpt": "She read on.", **more,
    }


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGB", (128, 96), (200, 90, 40)).save(path)
    return path


def pictures_in(page):
    return re.findall(r'<img src="data:image/webp;base64,[^"]+" width="(\d+)" height="(\d+)"', page)


def test_a_page_needs_no_other_file(tmp_path, picture):
    page = storyboard.build("A Tale", [row(image=[picture])], tmp_path / "deep" / "board.html").read_text("utf-8")
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "http" not in page and "url(" not in page


def test_small_pictures_become_512_wide_and_keep_their_shape(picture):
    assert pictures_in(storyboard.page("A", [row(image=[picture])])) == [("512", "384")]


def test_large_pictures_are_embedded_no_wider_than_needed(tmp_path):
    Image.new("RGB", (4000, 2000)).save(tmp_path / "large.png")
    assert pictures_in(storyboard.page("A", [row(image=tmp_path / "large.png")])) == [("1344", "672")]


def test_all_text_is_escaped():
    texts = ("chapter_title", "setting", "time", "mood", "action", "prompt", "negative", "filename", "excerpt")
    page = storyboard.page(NASTY, [row(characters=[NASTY], **{name: NASTY for name in texts})], style=NASTY, model=NASTY)
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= len(texts)
    assert page.count("<h1>") == 1


def test_texts_of_attributes_cannot_leave_them(picture):
    page = storyboard.page("A", [row(image=[picture], action='" onload="alert(1)')])
    attributes = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            attributes.extend(name for name, _ in attrs)

    Reader().feed(page)
    assert "onload" not in attributes


def test_chapters_are_sections_in_their_order():
    page = storyboard.page("A", [row(3, 1), row(3, 2), row(4, 1)])
    assert re.findall(r'<section class="chapter" id="([^"]+)"', page) == ["chapter-3", "chapter-4"]
    assert page.count('<article class="scene">') == 3
    assert '<a href="#chapter-4">' in page


def test_a_title_that_says_only_the_number_is_not_said_twice():
    assert "<h2>Chapter 3</h2>" in storyboard.page("A", [row(3, chapter_title="Chapter 3")])


def test_counts_are_told(picture):
    page = storyboard.page("A", [row(image=[picture, picture]), row(scene=2)])
    assert "1 chapter · 2 scenes · 2 pictures · 240 words" in page


def test_a_scene_without_its_picture_is_not_drawn_yet(tmp_path):
    assert "not drawn yet" in storyboard.page("A", [row(image=[tmp_path / "gone.png"])])


def test_the_sketch_model_is_called_one():
    assert "sketch model" in storyboard.page("A", [row()], model="pocket")
    assert "sketch model" not in storyboard.page("A", [row()], model="sdxl-base")


def test_no_scenes_is_a_page_too():
    assert "no scenes yet" in storyboard.page("A", [])


def test_rows_with_little_in_them_are_fine():
    assert "Scene 1" in storyboard.page("A", [{"chapter": 1, "scene": 1, "characters": None}])


def test_an_old_page_stays_when_the_new_one_cannot_be_made(tmp_path, picture):
    target = tmp_path / "board.html"
    storyboard.build("Old", [row()], target)
    picture.write_bytes(b"not a picture")
    with pytest.raises(ReverieError):
        storyboard.build("New", [row(image=[picture])], target)
    assert "Old" in target.read_text("utf-8")
    assert [path.name for path in tmp_path.glob("*board*")] == ["board.html"]
