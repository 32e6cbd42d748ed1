"""Chapters are read as novelists write them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.errors import BadInput
from reverie.language import chapters, encodings, numbers

PROSE = "It was a dark night, and the rain fell on the roofs of the town. Nobody was in the street."


def book(tmp_path, **files):
    for name, text in files.items():
        stem, _, suffix = name.rpartition("_")
        (tmp_path / f"{stem}.{suffix}").write_bytes(text if isinstance(text, bytes) else text.encode())
    return chapters.read(tmp_path)


def one(tmp_path, text, name="book.md"):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return chapters.read(tmp_path / name)


@pytest.mark.parametrize("heading, number, title", [
    ("# Chapter III", 3, "Chapter 3"),
    ("## 4. The Storm", 4, "The Storm"),
    ("# CHAPTER TWENTY-ONE: Home Again", 21, "Home Again"),
    ("CHAPTER ONE\n\nThe Glass Harbour", 1, "The Glass Harbour"),
    ("Chapter 7", 7, "Chapter 7"),
    ("Chapter the Last of Winter", 1, "Book"),
    ("# Chapter 2 — Snow", 2, "Snow"),
    ("**Chapter Five**", 5, "Chapter 5"),
    ("# IV", 4, "Chapter 4"),
    ("# Prologue", 0, "Prologue"),
    ("# Chapter One\n## The Letter", 1, "The Letter"),
])
def test_heading_gives_number_and_title(tmp_path, heading, number, title):
    chapter, = one(tmp_path, f"{heading}\n\n{PROSE}\n")
    assert (chapter.number, chapter.title) == (number, title)
    assert chapter.text.endswith(PROSE)


def test_title_line_is_not_taken_from_prose(tmp_path):
    chapter, = one(tmp_path, f"CHAPTER ONE\n\n{PROSE}\n\n{PROSE}")
    assert chapter.title == "Chapter 1" and chapter.text.startswith("It was")


def test_many_chapters_in_one_file_keep_their_texts_apart(tmp_path):
    found = one(tmp_path, f"# The Book\n\n## Chapter One\n\nFirst. {PROSE}\n\n## Chapter Two\n\nSecond. {PROSE}\n")
    assert [(c.number, c.text.split(".")[0]) for c in found] == [(1, "First"), (2, "Second")]


def test_plain_roman_lines_that_count_up_are_chapters(tmp_path):
    found = one(tmp_path, f"I\n\n{PROSE}\n\nII\n\n{PROSE}\n\nIII.\n\n{PROSE}\n", "book.txt")
    assert [c.number for c in found] == [1, 2, 3]


def test_headings_without_numbers_are_counted(tmp_path):
    found = one(tmp_path, f"# The Storm\n\n{PROSE}\n\n# The Calm\n\n{PROSE}\n")
    assert [(c.number, c.title) for c in found] == [(1, "The Storm"), (2, "The Calm")]


def test_numbers_come_from_file_names(tmp_path):
    for name in ("chapter_03.md", "04 - The Storm.txt", "ch-v.md", "chapter-twelve.markdown"):
        (tmp_path / name).write_text(PROSE)
    assert [(c.number, c.source) for c in chapters.read(tmp_path)] == [
        (3, "chapter_03.md"), (4, "04 - The Storm.txt"), (5, "ch-v.md"), (12, "chapter-twelve.markdown")]
    assert chapters.read(tmp_path)[1].title == "The Storm"


def test_folder_is_read_in_natural_order_without_readme_and_others(tmp_path):
    for name in ("part 10.md", "part 9.md", "README.md", "cover.png", "notes.txt"):
        (tmp_path / name).write_text(PROSE)
    assert [c.source for c in chapters.read(tmp_path)] == ["part 9.md", "part 10.md"]


def test_prologue_is_first_and_epilogue_last(tmp_path):
    found = book(tmp_path, epilogue_md=PROSE, chapter2_md=PROSE, prologue_md=PROSE, chapter1_md=PROSE)
    assert [(c.number, c.source) for c in found] == [(0, "prologue.md"), (1, "chapter1.md"), (2, "chapter2.md"), (3, "epilogue.md")]


def test_numbers_that_begin_again_are_continued(tmp_path):
    text = "".join(f"# Chapter {n}\n\n{PROSE}\n\n" for n in (1, 2, 1, 2))
    assert [c.number for c in one(tmp_path, text)] == [1, 2, 3, 4]


@pytest.mark.parametrize("heading", ["## CRAFT NOTES", "CRAFT NOTES", "craft notes:", "**Craft Notes**", "# Author's Note",
                                     "AUTHOR’S NOTES", "NOTES FOR REVISION", "### Notes for revision (draft 2)", "NOTES"])
def test_notes_are_left_out(tmp_path, heading):
    chapter, = one(tmp_path, f"# Chapter 1\n\n{PROSE}\n\n{heading}\n\nMake it colder.\n\n## 1. Pacing\n\nToo slow.\n")
    assert chapter.text == PROSE


def test_chapter_after_notes_is_read(tmp_path):
    found = one(tmp_path, f"# Chapter 1\n\n{PROSE}\n\n## CRAFT NOTES\n\nColder.\n\n# Chapter 2\n\n{PROSE}\n")
    assert [(c.number, c.text) for c in found] == [(1, PROSE), (2, PROSE)]


def test_notes_within_a_sentence_stay(tmp_path):
    chapter, = one(tmp_path, f"# Chapter 1\n\n{PROSE}\n\nHer craft notes lay on the table.\n")
    assert "craft notes lay" in chapter.text


def test_front_matter_is_skipped_but_a_scene_mark_is_not(tmp_path):
    chapter, = one(tmp_path, f"---\ntitle: X\n---\n# Chapter 1\n\n{PROSE}")
    assert chapter.text == PROSE
    assert one(tmp_path, f"---\n\n{PROSE}\n\n---\n\n{PROSE}", "b.txt")[0].text.count(PROSE) == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_are_read(tmp_path, encoding):
    text = "“It’s a café,” said Zoë — twice."
    assert one(tmp_path, text.encode(encoding))[0].text == text


def test_mixed_encodings_in_one_file_are_read(tmp_path):
    data = "“Café”".encode() + b"\n\n" + "“Café”".encode("cp1252")
    assert one(tmp_path, data)[0].text == "“Café”\n\n“Café”"


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(200), bytes(range(32)) * 30])
def test_binary_file_is_refused(tmp_path, data):
    with pytest.raises(BadInput, match="'book.md' is not a text file"):
        one(tmp_path, data)


def test_no_chapters_is_one_sentence_with_the_next_step(tmp_path):
    with pytest.raises(BadInput, match=r"No chapters in '.*'\. Put \.md or \.txt files there"):
        chapters.read(tmp_path)
    (tmp_path / "empty.md").write_text("\n \n")
    with pytest.raises(BadInput, match="No chapters"):
        chapters.read(tmp_path)


def test_missing_path_and_unknown_kind_are_refused(tmp_path):
    with pytest.raises(BadInput, match="There is no"):
        chapters.read(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="not read"):
        one(tmp_path, "x", "book.pdf")


def test_missing_chapter_says_which_exist(tmp_path):
    found = book(tmp_path, chapter3_md=PROSE, chapter4_md=PROSE)
    assert [c.number for c in chapters.pick(found, [4])] == [4]
    assert chapters.pick(found, None) == found
    with pytest.raises(BadInput, match="Chapter 7 is not in the text. It has: 3, 4."):
        chapters.pick(found, [3, 7])


@given(st.integers(1, 3999))
@settings(deadline=None)
def test_roman_numerals_read_back(n):
    signs = [(1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"),
             (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]
    rest, text = n, ""
    for value, sign in signs:
        text, rest = text + sign * (rest // value), rest % value
    assert numbers.from_roman(text) == n == numbers.parse(text.lower())


@pytest.mark.parametrize("text, n", [("one", 1), ("Twenty-Three", 23), ("forty", 40), ("one hundred and four", 104),
                                     ("third", 3), ("twenty-first", 21), ("12", 12), ("xiv.", 14)])
def test_number_words(text, n):
    assert numbers.parse(text) == n


@pytest.mark.parametrize("text", ["", "storm", "iiiii", "vx", "the"])
def test_other_words_are_no_numbers(text):
    assert numbers.parse(text) is None


@given(st.binary(max_size=400))
@settings(deadline=None)
def test_any_bytes_are_text_or_bad_input(data):
    try:
        assert isinstance(encodings.decode(data), str)
    except BadInput:
        pass
