"""The splitter loses no text, keeps the order, and breaks where a reader would."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.language import scenes
from reverie.language.chapters import Chapter

GARDEN = "He walked in the garden among the roses. The sun shone on the lawn and the bushes at noon. " * 12
CELLAR = "That night he crept down into the cellar. It was dark in the tunnel, and at midnight the cavern was silent. " * 12


def chapter(text):
    return Chapter(1, "One", text, "one.md")


pieces = st.sampled_from(["A man walked in the forest.", "“Where?” she asked.", "Night fell on the sea. ", "\n\n", "\n", "***", "* * *",
                          "---", "#", "⁂", "~~~", "\n\n\n\n", "word " * 90, " ", "x", "–", "At dawn, the river. "])


@given(st.lists(pieces, max_size=60).map("".join) | st.text(max_size=300))
@settings(max_examples=150, deadline=None)
def test_no_text_is_lost_and_order_is_kept(text):
    found = scenes.split(chapter(text))
    at = 0
    for scene in found:
        assert scene.start >= at and scene.end > scene.start
        assert not re.search(r"[^\W_]", text[at:scene.start]), "words between two scenes"
        assert scene.text == text[scene.start:scene.end].strip() and scene.words > 0
        at = scene.end
    assert not re.search(r"[^\W_]", text[at:])
    assert [s.scene for s in found] == list(range(1, len(found) + 1))
    assert re.findall(r"\w+", " ".join(s.text for s in found)) == re.findall(
        r"\w+", " ".join(text[s.start:s.end] for s in found))


@pytest.mark.parametrize("mark", ["* * *", "***", "---", "#", "⁂", "~~~", "— — —", "*   *   *", "•", "<hr>", "===", "\n\n"])
def test_marks_break_scenes(mark):
    text = f"{GARDEN}\n\nMore of it.\n\nAnd more.\n\n{mark}\n\n{CELLAR}"
    found = scenes.split(chapter(text))
    assert [s.text[:9] for s in found] == ["He walked", "That nigh"]
    assert mark.strip() == "" or all(mark not in s.text for s in found)


def test_marked_chapter_is_broken_nowhere_else():
    found = scenes.split(chapter(f"{GARDEN}\n\n{CELLAR}\n\n***\n\n{GARDEN}"))
    assert len(found) == 2


def test_dash_of_speech_and_hyphens_are_no_marks():
    assert len(scenes.split(chapter("— Who is there?\n\n—\n\n— Nobody - only me."))) == 1


def test_empty_scenes_are_dropped():
    found = scenes.split(chapter(f"***\n\n***\n\n{GARDEN}\n\n***\n\n   \n\n***\n\n{CELLAR}\n\n***\n"))
    assert [s.scene for s in found] == [1, 2]
    assert scenes.split(chapter("***\n\n* * *\n")) == []


def test_unmarked_chapter_breaks_where_place_and_time_change():
    text = "\n\n".join([GARDEN, GARDEN, CELLAR, CELLAR])
    starts = [s.text[:9] for s in scenes.split(chapter(text))]
    assert "That nigh" in starts and starts[0] == "He walked"
    joined = "".join(text[s.start:s.end] for s in scenes.split(chapter(text)))
    assert joined == text


def test_short_chapter_is_one_scene():
    assert len(scenes.split(chapter("A man walked.\n\nHe sat down.\n\nNight came."))) == 1


@pytest.mark.parametrize("unit", [GARDEN + "\n\n" + CELLAR + "\n\n", "One two. ", "a\n\n", "* * *\n\nWord.\n\n"])
def test_chapter_of_200_000_words_takes_seconds(unit):
    text = unit * (200_000 // len(unit.replace("*", "").split()))
    start = time.process_time()  # its own time: other work on the machine does not count
    found = scenes.split(chapter(text))
    assert time.process_time() - start < 5
    assert sum(s.words for s in found) == scenes.count_words(text) and len(found) > 100
    assert max(s.words for s in found) < 1500
