"""Habits of old novels: papers, ranks, maiden names, single quotes, chapters without numbers. Each test is a sentence or two."""

import pytest

from reverie.language import chapters, quotes, rules, scenes
from reverie.language.chapters import Chapter

LONG = "The tide went out and the boats lay on the sand. " * 60


def cast_of(text):
    return rules.find_characters([Chapter(1, "", text, "")])


def called(cast, name):
    found = [p for p in cast.values() if name in (p.name, *p.aliases)]
    assert len(found) == 1, f"{name}: {list(cast)}"
    return found[0]


def known(cast, name):
    return any(name in (p.name, *p.aliases) for p in cast.values())


def test_first_word_of_a_sentence_and_a_place_before_a_name_are_no_part_of_it():
    cast = cast_of("Clara sat. Though Clara laughed, though nobody laughed, though it rained, Clara said nothing. Clara ran and Clara sang. Clara fell. Clara wept. "
                   "It rained in London, and in London it snowed; from London Clara wrote. “Yes,” said Clara.")
    assert not known(cast, "Though Clara") and not known(cast, "London Clara") and known(cast, "Clara")


def test_gulls_are_nobody():
    assert not known(cast_of("Clara laughed. Gulls cried. Gulls cried over her. She fed the gulls. “Come,” said Clara."), "Gulls")


def test_verb_bear_makes_nobody_a_beast():
    cast = cast_of("I could bear Joseph no more, and would bear Joseph no more. Joseph laughed. “No,” said Joseph. Joseph ran.")
    assert called(cast, "Joseph").kind == "man"


def test_old_lady_beside_somebody_does_not_age_her():
    cast = cast_of("“Come in,” said Harriet, the old lady nodding at her. Harriet laughed. Harriet ran in.")
    assert called(cast, "Harriet").age == ""


@pytest.mark.parametrize(("said", "age"), [("a young man of five and twenty", "25"), ("a man of thirty-one", "31")])
def test_ages_are_read_as_they_were_written(said, age):
    assert called(cast_of(f"Mr. Collins was {said}. Mr. Collins bowed."), "Mr. Collins").age == age


def test_age_of_long_ago_is_not_the_age():
    cast = cast_of("That is Miss Darcy, painted when she was only eight years old. Miss Darcy bowed.")
    assert called(cast, "Miss Darcy").kind == "woman"


def test_married_woman_is_one_and_two_of_one_name_are_two():
    cast = cast_of("Mina Murray wrote. Miss Murray sat. Mina laughed. Mr. Jonathan Harker bowed. Mina kissed him. Mina ran. Mrs. Harker sat. "
                   "“Yes,” said Mina Harker. “No,” said Mina. Mina wept. She stood.")
    assert called(cast, "Mina Murray") == called(cast, "Mina Harker") == called(cast, "Mrs. Harker") == called(cast, "Mina")
    twins = cast_of("John Reed laughed. “Yes,” said John Reed. John Vane ran. “No,” said John Vane.")
    assert called(twins, "John Reed") != called(twins, "John Vane")


def test_rank_goes_with_a_surname():
    cast = cast_of("Fitzwilliam Darcy bowed. Mr. Darcy laughed. Colonel Fitzwilliam ran. “Yes,” said Colonel Fitzwilliam.")
    assert called(cast, "Colonel Fitzwilliam") != called(cast, "Mr. Darcy")


def test_titles_of_the_sea_and_of_the_village_are_titles():
    cast = cast_of("“Cap’n Silver!” cried Long John Silver. Squire Trelawney bowed. John Silver laughed. Silver ran. Mr. Trelawney stood. "
                   "“Yes,” said Miss de Bourgh. Lord St. Simon sat down. Lord St. Simon wept.")
    assert called(cast, "Captain Silver") == called(cast, "Long John Silver") == called(cast, "Silver")
    assert called(cast, "Squire Trelawney") == called(cast, "Mr. Trelawney")
    assert called(cast, "Miss de Bourgh").kind == "woman" and called(cast, "Lord St. Simon").kind == "man"


def test_count_is_the_one_count_of_the_book():
    cast = cast_of("Count Orlok came. The Count laughed. The Count stood there. “Yes,” said the Count. The Count have, the Count are.")
    assert called(cast, "the Count") == called(cast, "Count Orlok") and called(cast, "the Count").kind == "man"


@pytest.mark.parametrize("told", ["My lawyer, Mr. Gray, sat down.", "Mr. Gray, my lawyer, sat down."])
def test_work_names_its_man_in_small_letters(told):
    cast = cast_of(f"{told} Emma laughed. “Yes,” said Emma. Emma stood.")
    assert called(cast, "the lawyer").name == "Mr. Gray"
    shot = rules.describe(scenes.split(Chapter(1, "", "The lawyer walked to the window, and the lawyer sat down by the fire.", ""))[0], cast)
    assert shot.characters == ["Mr. Gray"]


def test_work_in_a_list_is_nobodys_name():
    assert not known(cast_of("Emma, the curate, and Mr. Gray sat down. Emma laughed. “Yes,” said Emma. Emma stood."), "the curate")


def test_who_is_only_spoken_to_tells_the_tale():
    text = "I ran down. “Jim, come here!” said Silver. I stopped, and I saw Silver. “What, Jim!” cried Silver. I sat down. Silver laughed. "
    cast = cast_of(text * 3)
    assert [p.name for p in cast.values() if p.narrator] == ["Jim"]


def test_papers_are_told_by_their_writer():
    everyone = {name: rules.Person(name, kind) for name, kind in (("Mina Murray", "woman"), ("Dr. Seward", "man"))}
    entry = "I walked down to the river. I saw the boat and I sat on the bank. I waited for my brother."
    told = rules.describe_all([scenes.Scene(1, "", i, text, 1000 * i, 1000 * i + 900, 20) for i, text in enumerate(
        (f"Mina Murray’s Journal.\n\n{entry}", entry, f"Letter, Dr. Seward to Mina Murray.\n\n{entry}"), 1)], everyone)
    assert [shot.characters[0] for shot in told] == ["Mina Murray", "Mina Murray", "Dr. Seward"]


def test_speech_in_single_quotes_is_speech():
    text = "\n\n".join(["‘It’s the boys’ boat,’ said Emma. ‘He said “no”.’", "‘’Tis late,’ said Tom.", "'Go,' she said, 'and don't wait.'"] * 2)
    assert quotes.doubled(text).split("\n\n")[0] == "“It’s the boys’ boat,” said Emma. “He said ‘no’.”"
    assert quotes.doubled(text).split("\n\n")[2] == "“Go,” she said, “and don't wait.”"
    other = "“It’s late,” said Tom, and 'twas.\n\n" * 6
    assert quotes.doubled(other) == other


HEADS = {"titles": ("THE OLD SEA-DOG", "BLACK DOG COMES", "THE BLACK SPOT"), "numbers and titles": ("1. Of the Inn", "2. What I Heard in It", "3. The Last"),
         "words": ("Twenty-one", "Twenty-two", "Twenty-three")}


def read(tmp_path, text):
    (tmp_path / "book.txt").write_text(text, encoding="utf-8")
    return chapters.read(tmp_path / "book.txt")


@pytest.mark.parametrize("kind", ["titles", "numbers and titles"])
def test_plain_titles_part_a_book(tmp_path, kind):
    book = read(tmp_path, "".join(f"\n\n\n{head}\n\n{LONG * 6}\n\n{LONG}" for head in HEADS[kind]))
    assert [c.title for c in book] == [head.split(". ")[-1] for head in HEADS[kind]]
    assert len(read(tmp_path, "".join(f"\n\n{head}\n\nA line.\n" for head in HEADS[kind]))) == 1


def test_numbers_in_words_count_on_after_twenty_two(tmp_path):
    from reverie.language.numbers import _TENS, _UNITS
    heads = [*_UNITS[1:], *(f"{ten}-{unit}".rstrip("-") for ten in _TENS[:1] for unit in ["", *_UNITS[1:10]])]
    assert len(read(tmp_path, "".join(f"\n\n{head.capitalize()}\n\nIt rained on the pier.\n" for head in heads))) == 29


def test_wide_gaps_part_a_long_book_without_headings_but_no_chapter(tmp_path):
    part = f"{LONG}\n\n" * 10
    assert len(read(tmp_path, f"\n\n\n\n{part}" * 4)) == 4
    assert len(read(tmp_path, f"\n\n\n\n{LONG}" * 4)) == 1


def test_numbered_sections_of_one_story_leave_the_stories_their_titles(tmp_path):
    (tmp_path / "tales.md").write_text("## A Scandal\n\n### I\n\nIt rained. " + LONG + "\n\n### II\n\nIt snowed.\n\n" + "".join(
        f"## {title}\n\n{LONG}\n\n" for title in ("The League", "The Pips", "The Band")), encoding="utf-8")
    assert [c.title for c in chapters.read(tmp_path)] == ["A Scandal", "The League", "The Pips", "The Band"]


def test_long_speech_gives_a_book_no_narrator():
    everyone = {name: rules.Person(name) for name in ("Tom", "Dick", "Harry", "Will")}
    said = "“I walked and I ran and I sat down, and I saw that I was late, and so I went home and slept.” " * 4
    shot = rules.describe(scenes.split(Chapter(1, "", f"Tom laughed. {said.replace('” “', ' ')}", ""))[0], everyone)
    assert "the narrator" not in shot.characters


@pytest.mark.parametrize("word", ["Kapitel", "Chapitre", "CAPÍTULO", "Hoofdstuk", "Глава"])
def test_chapters_of_other_languages_are_chapters(tmp_path, word):
    book = read(tmp_path, "".join(f"\n\n{word} {n}\n\nAnna ging in den Garten.\n" for n in ("I", "II", "III")))
    assert [c.number for c in book] == [1, 2, 3]
