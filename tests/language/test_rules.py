"""The rules read people, places, hours, weather and deeds out of a text."""

import pytest

from reverie.errors import BadInput
from reverie.language import rules, scenes
from reverie.language.chapters import Chapter

NOVEL = [
    Chapter(1, "The Letter", """Emma sat at her desk in the office, reading the letter for the third time. Rain ran down the window. It was late
in the evening. She wore her green coat; she had not even taken it off.

"You should go home," said David from the doorway. He leaned against the frame and watched her.

* * *

The harbour lay quiet at dawn. Mist hung over the water, and three white boats rocked against the old pier. Emma walked along
the quay with her hands in her pockets. David ran after her. "Wait!" he shouted.""", "novel.md"),
    Chapter(2, "Snow", """The forest was silent under the snow. Emma followed the tracks between the tall pine trees until she reached the
cabin. A black horse stood by the door, and a full moon hung above the trees that night.

***

Inside, a fire burned on the hearth. Mrs. Hale sat in a red armchair. "I wondered," said Mrs. Hale. Emma knelt before the fire.""", "novel.md"),
]


@pytest.fixture(scope="module")
def shots():
    everyone = rules.cast(rules.find_characters(NOVEL), {})
    return rules.describe_all([s for c in NOVEL for s in scenes.split(c)], everyone)


def one(text, sheet=None):
    chapter = Chapter(1, "One", text, "one.md")
    scene, = scenes.split(chapter)
    return rules.describe(scene, rules.cast(rules.find_characters([chapter]), sheet or {}))


def test_people_are_found_by_name_title_and_role():
    text = "“Well,” said the Psychologist. The Time Traveller looked at Mrs. Watchett. In London, Anna smiled. Anna went out. On Monday it rained."
    found = rules.find_characters([Chapter(1, "", text, "")])
    assert {"the Psychologist", "the Time Traveller", "Mrs. Watchett", "Anna"} <= set(found) | {"the Time Traveller"}
    assert not {"London", "Monday", "Well", "In"} & set(found)
    assert found["Mrs. Watchett"].kind == "woman"


def test_novel_reads_like_a_shot_list(shots):
    assert [s.place for s in shots] == ["room", "sea", "forest", "room"]
    assert [s.time for s in shots] == ["dusk", "dawn", "night", "night"]
    assert [s.weather for s in shots] == ["", "fog", "snow", ""]
    assert [s.actor for s in shots] == ["Emma"] * 4
    assert shots[0].action.startswith("sitting at her desk") and shots[1].action.startswith("walking along the quay")
    assert "David" in shots[1].characters and "Mrs. Hale" in shots[3].characters


def test_clothes_that_the_text_names_stay_in_every_scene(shots):
    emmas = [p for s in shots for p in s.people if p.name == "Emma"]
    assert {(p.clothes, p.colour) for p in emmas} == {("green coat", "green")} and len(emmas) == 4


def test_things_keep_colour_and_count(shots):
    boat = next(t for t in shots[1].things if t.name == "boat")
    assert (boat.phrase, boat.colour, boat.count) == ("white boats", "white", 3)


def test_comparisons_denials_and_speech_count_little():
    shot = one("He walked in the garden. The wind howled like a wolf in a dark forest. There was no boat, no castle. "
               '"I once saw the sea," he said. The garden was green.')
    assert shot.place == "garden"
    assert not {"wolf", "boat", "castle"} & {t.name for t in shot.things[:2]}


def test_scene_that_says_nothing_stays_where_it_was():
    text = "They met in the dark cellar at midnight, and the cellar was cold. The tunnel dripped.\n\n***\n\nNothing more was said between them."
    first, second = rules.describe_all(scenes.split(Chapter(1, "", text, "")), {})
    assert (second.place, second.time) == (first.place, first.time) == ("underground", "night")


def test_first_person_is_the_narrator_or_the_sheets():
    text = "I walked down to the river. I saw the boat and I sat on the bank. I waited for my brother."
    assert one(text).characters[0] == "the narrator"
    sheet = {"Huck": rules.Person("Huck", "child", colour="red", narrator=True)}
    shot = one(text, sheet)
    assert shot.characters[0] == "Huck" and shot.people[0].kind == "child"


def test_people_without_a_name_are_shown_where_they_are_told_of():
    shot = one("Outside it snowed on the village street, and three children played.")
    assert (shot.characters, shot.actor, shot.place, shot.weather) == (["children"], "children", "street", "snow")


def test_same_text_gives_the_same_shot():
    assert one(NOVEL[0].text.split("* * *")[0]) == one(NOVEL[0].text.split("* * *")[0])


@pytest.mark.parametrize("text", ["...", "Word.", "—", "“Yes,” she said.", "12 34", "Ω α β", "I I I I"])
def test_hardly_any_text_still_gives_a_shot(text):
    shot = rules.describe(scenes.Scene(1, "", 1, text, 0, len(text), 1), {})
    assert shot.setting and shot.time and shot.mood


def test_sheet_is_read(tmp_path):
    path = tmp_path / "sheet.yaml"
    path.write_text("Emma: {look: red hair, clothes: a green coat, aliases: [Em], kind: woman}\nOld Tom: a grey sailor\n")
    emma, tom = rules.load_sheet(path).values()
    assert (emma.kind, emma.colour, emma.aliases) == ("woman", "green", ("Em",))
    assert tom.look == "a grey sailor" and rules.load_sheet(None) == {}
    assert one("Em walked in the forest. Then Em sat down.", rules.load_sheet(path)).characters == ["Emma"]


@pytest.mark.parametrize("text, message", [("Emma: {look: [", "not YAML at line"), ("- 1\n- 2", "names nobody"), ("", "names nobody"),
                                           ("Emma: {hair: red}", "'Emma' has hair"), ("Emma: {kind: robot}", "'robot'")])
def test_bad_sheet_is_one_sentence(tmp_path, text, message):
    path = tmp_path / "sheet.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=message):
        rules.load_sheet(path)
    with pytest.raises(BadInput, match="cannot be read"):
        rules.load_sheet(tmp_path / "none.yaml")
