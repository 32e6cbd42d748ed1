"""Long and difficult chapters are parted into scenes of a fair length, at letters, dates and numbered sections."""

import pytest

from reverie.language import chapters, scenes

PROSE = "The rain fell on the roofs of the town, and nobody was in the street but the old captain of the ship. " * 5


def split(text):
    return scenes.split(chapters.Chapter(1, "One", text, "one.md"))


@pytest.mark.parametrize("unit", [
    "“Where were you?” she asked.\n\n“At home.”\n\n“Alone?”\n\n",
    "The sea, the sea,\nThe open sea,\nIt grew so fresh\nthe ever free;\n\n",
    "and yes he said yes and then the flowers and the sea ",
    PROSE + "\n\n",
])
def test_chapter_of_6_000_words_without_a_mark_has_scenes_of_a_fair_length(unit):
    text = unit * (6000 // len(unit.split()))
    found = split(text)
    assert 6 <= len(found) <= 40 and all(60 <= scene.words <= 1400 for scene in found)
    assert "".join(text[scene.start:scene.end] for scene in found).split() == text.split()


def test_letters_and_entries_begin_scenes():
    openings = ["12 May 1897", "London, 3rd June.", "My dear Emma,", "Three days later", "Monday, the 4th of July", "8 August. Whitby.—The captain"]
    text = "\n\n".join(f"{opening}\n\n{PROSE}\n\n{PROSE}" for opening in openings)
    assert [scene.text.split("\n")[0] for scene in split(text)] == openings


def test_date_in_a_sentence_begins_nothing():
    text = f"{PROSE}\n\nMonday was the day they feared.\n\nMay 4 came and went and still the ship did not sail for home.\n\n{PROSE}"
    assert len(split(text)) == 1


def test_numbered_sections_of_a_chapter_are_scenes():
    assert len(split(f"1\n\n{PROSE}\n\n2\n\n{PROSE}\n\n3\n\n{PROSE}")) == 3
    assert len(split(f"{PROSE}\n\nII\n\n{PROSE}\n\nIII\n\n{PROSE}")) == 3
    assert len(split(f"{PROSE}\n\n42\n\n{PROSE}\n\n7\n\n{PROSE}")) == 1


def test_very_long_stretch_between_marks_is_parted_too():
    found = split(f"Short one.\n\n***\n\n{(PROSE + chr(10) * 2) * 40}")
    assert found[0].text == "Short one." and len(found) > 4


def test_headings_within_a_chapter_are_breaks_and_mixed_headings_keep_their_chapters(tmp_path):
    file = tmp_path / "book.md"
    file.write_text(f"# Prologue\n\n{PROSE}\n\n# 1\n\n{PROSE}\n\n### Two years later\n\n{PROSE}\n\n# 2\n\n{PROSE}\n\n# Acknowledgements\n\n{PROSE}\n\n# Epilogue\n\n{PROSE}")
    found = chapters.read(file)
    assert [(c.number, c.title) for c in found] == [(0, "Prologue"), (1, "Chapter 1"), (2, "Chapter 2"), (3, "Epilogue")]
    assert [s.text.split("\n")[0][:15] for s in scenes.split(found[1])] == ["The rain fell o", "Two years later"]


def test_gutenberg_text_has_its_chapters_alone(tmp_path):
    file = tmp_path / "pg1.txt"
    file.write_text("The Project Gutenberg eBook of X\n\nThis eBook is for the use of anyone.\n\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\nX\n\nby Jane Doe\n\nContents\n\n"
                    f" CHAPTER I. The Storm\n CHAPTER II. The Calm\n CHAPTER III. The Snow\n\n\nCHAPTER I.\nThe Storm\n\n{PROSE}\n\nCHAPTER II.\nThe Calm\n\n{PROSE}\n\n"
                    f"CHAPTER III.\nThe Snow\n\n{PROSE}\n\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\n\n{PROSE * 9}")
    assert [c.text for c in chapters.read(file)] == [PROSE.strip()] * 3


@pytest.mark.parametrize("title", ["Cover", "Acknowledgments", "About the Author", "Also by Jane Doe", "Praise for The Calm", "Table of Contents", "COPYRIGHT", "A Note on the Type",
                                   "Translator’s Note", "Reading Group Guide", "Excerpt from The Next One", "Foreword by John Doe", "Danksagung", "INDEX", "Glossary"])
def test_matter_is_known_by_its_heading(tmp_path, title):
    (tmp_path / "b.md").write_text(f"# Chapter 1\n\n{PROSE}\n\n# {title}\n\n{PROSE}")
    assert len(chapters.read(tmp_path / "b.md")) == 1 and chapters.read(tmp_path / "b.md")[0].text == PROSE.strip()


@pytest.mark.parametrize("title", ["The Cover of Night", "Thanksgiving", "The Contents of the Box", "Maps of the Dead", "An Indexed Life", "The Note", "Praise God", "The Reader"])
def test_chapter_with_such_a_word_in_its_title_stays(tmp_path, title):
    (tmp_path / "b.md").write_text(f"# The Storm\n\n{PROSE}\n\n# {title}\n\n{PROSE}")
    assert [c.title for c in chapters.read(tmp_path / "b.md")] == ["The Storm", title]
