"""The dry run of the sample book reads like a shot list of what happens there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reverie.errors import BadInput
from reverie.language import read

SAMPLE = Path(__file__).resolve().parents[2] / "assets" / "samples" / "the-time-machine"
KEYS = ["chapter", "chapter_title", "scene", "words", "characters", "setting", "time", "mood", "action", "prompt", "negative", "filename"]


@pytest.fixture(scope="module")
def rows():
    return read(SAMPLE, family="sdxl").rows


def find(rows, chapter, *words):
    return [r for r in rows if r["chapter"] == chapter and all(w in r["prompt"] for w in words)]


def test_rows_have_the_promised_keys_in_order(rows):
    assert list(rows[0])[:12] == KEYS and json.loads(json.dumps(rows)) == rows
    assert len({r["filename"] for r in rows}) == len(rows) >= 10
    assert [r["filename"] for r in rows] == sorted(r["filename"] for r in rows)
    assert all(len(r["excerpt"]) <= 160 for r in rows)


def test_every_word_of_the_book_is_in_a_scene(rows):
    from reverie.language import chapters, scenes

    assert sum(r["words"] for r in rows) == sum(scenes.count_words(c.text) for c in chapters.read(SAMPLE))


def test_chapter_three_goes_from_laboratory_to_storm_and_statue(rows):
    first, *_, last = [r for r in rows if r["chapter"] == 3]
    assert "laboratory" in first["setting"] and "Mrs. Watchett" in first["characters"] and "lever" in first["prompt"]
    assert find(rows, 3, "day and night flashing past", "sky")
    storm = [r for r in find(rows, 3, "sphinx") if r["weather"] in ("hail", "storm", "rain")]
    assert storm and "garden" in storm[0]["setting"] and "machine" in storm[0]["action"]
    assert "purple tunics" in last["prompt"] and "garden" in last["setting"]


def test_chapter_four_goes_from_flowers_to_hall_to_sunset(rows):
    flowers, hall, sunset = find(rows, 4, "flowers", "purple tunics"), find(rows, 4, "great hall", "fruits", "tables"), find(rows, 4, "at sunset")
    assert flowers and hall and "garden" in flowers[0]["setting"]
    assert len(sunset) >= 3 and any("ruins" in r["setting"] for r in sunset) and any("hillside" in r["setting"] for r in sunset)
    order = [rows.index(r) for r in (flowers[0], hall[0], sunset[0])]
    assert order == sorted(order)


def test_narrator_of_the_sheet_is_in_every_scene(rows):
    assert all("the Time Traveller" in r["characters"] for r in rows)
    assert all("a Victorian gentleman with grey eyes wearing a brown tweed coat" in r["prompt"] for r in rows)


def test_only_wanted_chapters_are_given_and_missing_ones_named(rows):
    assert read(SAMPLE, chapters=[4], family="sdxl").rows == [r for r in rows if r["chapter"] == 4]
    with pytest.raises(BadInput, match="It has: 3, 4"):
        read(SAMPLE, chapters=[1])


def test_pocket_shows_the_storm_with_the_statue():
    rows = read(SAMPLE, chapters=[3]).rows
    assert any("white statue" in r["prompt"] and "storm" in r["prompt"] and "garden" in r["prompt"] for r in rows)
    assert all("a man in a brown coat" in r["prompt"] and r["negative"] == "" for r in rows)


def test_import_needs_no_heavy_library():
    code = ("import sys; import reverie.language, reverie.language.chapters, reverie.language.prompts; "
            "print([m for m in ('torch', 'yaml', 'numpy', 'pydantic') if m in sys.modules])")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True,
                         env={"PYTHONPATH": str(SAMPLE.parents[2] / "modules")})
    assert out.stdout.strip() == "[]"
