"""The character sheet is proposed, edited by people, and only added to; nonsense in it is one clear sentence."""

import pytest
import yaml

from reverie import language
from reverie.errors import BadInput
from reverie.language import people, sheet

CHAPTER = """# Chapter 1

Emma walked in the garden. "Come," said Emma. Tom ran after her. "No," said Tom. Tom laughed. Emma sat on the bench."""


@pytest.fixture
def book(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "one.md").write_text(CHAPTER)
    return tmp_path / "book"


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def read(book, out, **more):
    reading = language.read(book, family="sdxl", kept=out / sheet.NAME, **more)
    return reading, sheet.keep(out, reading)


def test_sheet_is_proposed_whole_and_reads_back(book, out):
    reading, notes = read(book, out)
    assert "proposed" in notes[0]
    data = yaml.safe_load((out / sheet.NAME).read_text())
    assert set(data) == {"Emma", "Tom"}
    assert list(data["Emma"]) == ["aliases", "kind", "age", "look", "clothes", "colour", "phrase", "reference", "seed", "evidence"]
    assert data["Emma"]["phrase"] == reading.cast["Emma"].phrase and data["Emma"]["reference"] == "" and data["Emma"]["seed"] > 0
    again, notes = read(book, out)
    assert again.cast == reading.cast and again.rows == reading.rows and not notes and not again.new


def test_edit_is_used_and_never_overwritten_and_new_people_are_appended(book, out):
    read(book, out)
    path = out / sheet.NAME
    text = path.read_text().replace("phrase: " + yaml.safe_load(path.read_text())["Emma"]["phrase"], "phrase: a queen in a white gown  # mine")
    path.write_text(text)
    (book / "two.md").write_text('# Chapter 2\n\n"Well," said Anna Hale. Anna Hale stood in the hall. Anna laughed.')
    reading, notes = read(book, out)
    assert path.read_text().startswith(text.rstrip("\n")), "not a character of what a person wrote is changed"
    assert "Anna Hale" in notes[0] and list(sheet.load_sheet(path)) == ["Emma", "Tom", "Anna Hale"]
    assert any("a queen in a white gown" in row["prompt"] for row in reading.rows)


def test_whoever_left_the_text_stays_and_is_marked_and_the_mark_goes_again(book, out):
    read(book, out)
    path = out / sheet.NAME
    before = path.read_text()
    (book / "one.md").write_text(CHAPTER.replace("Tom", "Ralph"))
    read(book, out)
    assert sheet.load_sheet(path)["Tom"].unseen and not sheet.load_sheet(path)["Emma"].unseen
    (book / "one.md").write_text(CHAPTER)
    read(book, out)
    after = path.read_text()
    assert "Ralph" in after and "unseen: true" in after and not sheet.load_sheet(path)["Tom"].unseen
    assert all(line in after.splitlines() for line in before.splitlines())


@pytest.mark.parametrize("written", ["Emma: {look: a queen}\nTom: {unseen: true, look: a boy}\nOld Ben: {look: a sailor, clothes: red coat}\n",
                                     "Emma:\n    look: a queen\nTom:\n    unseen: true\n    look: a boy\nOld Ben: a sailor\n",
                                     "characters:\n  Emma: {look: a queen}\n  Tom: {look: a boy}\n  Old Ben:\n    look: a sailor # mine\n"])
def test_marks_are_put_into_sheets_as_people_write_them(book, out, written):
    path = out / sheet.NAME
    path.write_text(written)
    (book / "two.md").write_text('# Chapter 2\n\n"Well," said Anna Hale. Anna Hale stood in the hall. Anna laughed.')
    read(book, out)
    after = sheet.load_sheet(path)
    assert list(after)[:3] == ["Emma", "Tom", "Old Ben"] and "Anna Hale" in after and after["Emma"].look == "a queen"
    assert not after["Tom"].unseen and after["Old Ben"].look == "a sailor"
    text = path.read_text()
    read(book, out)
    assert path.read_text() == text


def test_sheet_in_a_form_that_cannot_grow_is_left_alone(book, out):
    path = out / sheet.NAME
    path.write_text('{Emma: {look: a queen}}')
    _, notes = read(book, out)
    assert "nothing can be added" in notes[0] and "Tom" in notes[0] and path.read_text() == '{Emma: {look: a queen}}'


def test_given_sheet_goes_before_the_books_and_the_folders(book, out, tmp_path):
    for path, look in ((tmp_path / "mine.yaml", "given"), (book / "characters.yaml", "beside"), (out / sheet.NAME, "kept")):
        path.write_text(f"Emma: {{look: {look}}}\n")
    looks = [language.read(book, kept=out / sheet.NAME, characters=c).cast["Emma"].look for c in (tmp_path / "mine.yaml", None)]
    (book / "characters.yaml").unlink()
    looks.append(language.read(book, kept=out / sheet.NAME).cast["Emma"].look)
    assert looks == ["given", "beside", "kept"]


def test_name_that_is_nobody_is_never_drawn(book, out):
    (out / sheet.NAME).write_text("Tom: {kind: nobody}\n")
    reading, _ = read(book, out)
    assert "Tom" not in reading.cast and all("Tom" not in row["characters"] for row in reading.rows) and "Tom" not in reading.new


def test_phrase_that_no_longer_fits_its_clothes_is_said(out, book):
    (out / sheet.NAME).write_text("Emma: {clothes: green coat, phrase: a woman wearing a red coat}\n")
    reading, _ = read(book, out)
    assert any("does not say the clothes" in note for note in reading.notes)


@pytest.mark.parametrize("text, words", [
    ("Emma: {look: [", "not YAML at line"), ("Emma:\n  look: a\n bad", "not YAML at line"), ("\x00", "not YAML"), ("[[" * 3000, "not YAML"),
    ("just words", "names nobody"), ("- 1\n- 2", "names nobody"),
    ("Emma: {look: x}\nTom: 5", "line 2, 'Tom' is a number"), ("Emma: [a]", "'Emma' is a list"),
    ("Emma: {look: [a, b]}", "the look of 'Emma' is a list"), ("Emma: {phrase: yes}", "the phrase of 'Emma' is yes or no"),
    ("Emma: {aliases: {a: b}}", "the aliases of 'Emma' are a table"), ("Emma: {aliases: [[a]]}", "the aliases of 'Emma'"),
    ("Emma: {hair: red}", "'Emma' has hair, which is not known. Known are: look"), ("Emma: {5: red}", "'Emma' has 5"),
    ("Emma: {kind: robot}", "the kind of 'Emma' is 'robot'"), ("Emma: {seed: many}", "the seed of 'Emma' is 'many'"),
    ("Emma: {seed: -1}", "the seed of 'Emma'"), ("Emma: {narrator: maybe}", "narrator or unseen of 'Emma'"),
    ("Emma: {unseen: 3}", "narrator or unseen"), ("Emma: {colour: tartan}", "'tartan', which cannot be painted. Use one of: red"),
    ("Tom: {}\nEmma: {}\nTom: {}", "line 3, 'Tom' has a name of 'Tom' \\(line 1\\)"), ("Emma: {aliases: [Em]}\nEmily: {aliases: [em]}", "line 2, 'Emily' has a name of 'Emma'"),
    ("Emma: {phrase: " + "very " * 200 + "}", "phrase of 'Emma' has at least 200 tokens, and 20 fit"),
    ("a: &a [*a]", "not YAML at line 1"), ("? [x]\n: {}", "names nobody"), ("Emma: !!python/object:os.system {}", "not YAML"),
    ("Emma: {look: 2026-01-01}", "the look of 'Emma'"),
])
def test_nonsense_is_one_sentence_and_nothing_is_lost(book, out, text, words):
    path = out / sheet.NAME
    path.write_text(text)
    with pytest.raises(BadInput, match=words) as caught:
        read(book, out)
    assert caught.value.next_step and path.read_text() == text


def test_sheet_that_is_no_text_is_one_sentence(book, out):
    (out / sheet.NAME).write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(BadInput, match="not text"):
        read(book, out)


@pytest.mark.parametrize("text", ["Emma: null", "Emma:", "Emma: {aliases: null, look: null, phrase: null, seed: null}", "No: {look: a man}", "1984: {look: a man}",
                                  "Emma: {colour: crimson}", "Emma: {color: green, aliases: Em}"])
def test_what_can_be_meant_is_taken(tmp_path, text):
    path = tmp_path / "sheet.yaml"
    path.write_text(text)
    person, = sheet.load_sheet(path).values()
    assert person.name in ("Emma", "No", "1984") and person.colour in (*people.PALETTE, *people.SPARE)
