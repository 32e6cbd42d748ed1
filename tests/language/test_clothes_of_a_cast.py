"""Everybody's clothes keep one colour that the embedded model knows, and every picture has a place for whoever is in its scene."""

import pytest

from reverie.language import lexicon, people, pocket, prompts, rules, scenes, sheet
from reverie.language.chapters import Chapter
from reverie.settings import config

TOLD = """Harriet Moss came down to the harbour in the {} that she wore for everything. "Good morning," said Harriet. Tom Reed, who
was a fisherman, laughed. Tom wore {} and had a pipe. "You are early," said Tom. Harriet sat down. Tom whistled."""
DRAWN = ("man", "woman", "child", "group")


def cast_of(text, given=None):
    given = given or {}
    return sheet.freeze(rules.cast(rules.find_characters([Chapter(1, "", text, "")]), given), given)


def shot_of(text, everyone):
    return rules.describe(scenes.split(Chapter(1, "", text, ""))[0], everyone)


def written(folder, text):
    (folder / sheet.NAME).write_text(text)
    return sheet.load_sheet(folder / sheet.NAME)


@pytest.mark.parametrize("said, drawn", [
    ("crimson dress", "red"), ("lilac gown", "purple"), ("mustard coat", "yellow"), ("navy coat", "blue"), ("bottle-green coat", "green"),
    ("long wine-coloured cloak", "red"), ("black shawl", "brown"), ("sky-blue frock", "blue"), ("grey-green overcoat", "green")])
def test_colour_of_clothes_is_the_nearest_that_the_model_knows(said, drawn):
    cast = cast_of(TOLD.format(said, f"a {said}"))
    for name in ("Harriet", "Tom"):
        person = next(p for p in cast.values() if name in p.name)
        assert (person.clothes, person.colour) == (said, drawn)
        shown = shot_of(f"{name} sat in the garden. The garden was quiet, and {name} slept.", cast)
        assert f"in {'an' if drawn == 'orange' else 'a'} {drawn} " in prompts.compose(shown, "pocket").prompt


def test_word_of_clothes_colours_no_thing():
    shot = shot_of("Emma stood in the garden. A cherry boat lay there, and a plum tree by the wine table. She held a rose lamp.", {})
    assert not any(t.colour for t in shot.things)
    assert not set(config("pocket")["clothes_synonyms"]) - set(config("pocket")["colour"])
    assert not lexicon.clothes_colours().keys() - {w.lower() for w in lexicon.clothes_colours()}


def test_sheet_takes_any_word_for_a_colour_of_clothes(tmp_path):
    cast = written(tmp_path, "Emma: {colour: lilac}\nTom: {clothes: charcoal suit}\nAnn: {phrase: a woman with red hair wearing a teal coat}\n")
    assert {p.name: p.colour for p in cast.values()} == {"Emma": "purple", "Tom": "brown", "Ann": "green"}
    assert not sheet.doubts(cast)


def test_sheet_without_colours_gives_each_another(tmp_path):
    names = ["Emma", "Tom", "Ann", "Jack", "Rose", "Will", "Kate"]
    cast = written(tmp_path, "Boss: {colour: red}\n" + "".join(f"{name}: {{look: tall}}\n" for name in names))
    assert len({p.colour for p in cast.values()}) == 8
    again = written(tmp_path, "Boss: {colour: red}\n" + "".join(f"{name}: {{look: tall}}\n" for name in names[:3]))
    assert all(cast[name] == person for name, person in again.items())


def test_eight_people_wear_eight_colours_and_the_main_ones_share_theirs_last():
    found = {f"P{i}": rules.Person(f"P{i}", ("man", "woman", "group")[i % 3], colour="blue") for i in range(9)}
    cast = rules.cast(found, {})
    colours = [p.colour for p in cast.values()]
    assert len(set(colours[:8])) == 8 and colours[8] == colours[7]
    assert "brown" not in colours[:7]  # the model draws it red when the sky is


def test_clothes_without_a_colour_are_given_a_free_one():
    found = {"A": rules.Person("A", clothes="red coat", colour="red"), "B": rules.Person("B", clothes="tweed jacket", colour="red")}
    cast = rules.cast(found, {})
    assert cast["A"].colour == "red" != cast["B"].colour


def test_somebody_without_a_name_is_not_taken_for_another_in_the_picture():
    text = "Emma walked in the field. Little people ran to her. The little people laughed, and the little people sang. Emma smiled."
    for colour in people.PALETTE:
        shot = shot_of(text, {"Emma": rules.Person("Emma", "woman", clothes=f"{colour} dress", colour=colour)})
        assert [p.kind for p in shot.people] == ["woman", "group"]
        assert shot.people[1].colour != colour


@pytest.mark.parametrize("order", [("Emma", "the Morlocks", "Tom"), ("the Morlocks", "Emma", "Tom"), ("Emma", "Tom", "the Morlocks")])
def test_group_leaves_everybody_else_a_place(order):
    known = {"Emma": rules.Person("Emma", "woman", colour="green"), "Tom": rules.Person("Tom", "man", colour="red"),
             "the Morlocks": rules.Person("the Morlocks", "group", colour="yellow")}
    base = shot_of("Emma sat in the garden.", known)
    for count, figures in ((3, 3), (2, 3), (1, 3)):
        shown = tuple(known[name] for name in order[:count])
        drawn = pocket.values(rules.replace(base, people=shown), "ink")["people"]
        assert {p.colour for p in shown} == {p["colour"] for p in drawn}
        assert len(drawn) == (figures if "the Morlocks" in order[:count] else count)


def test_who_speaks_is_there_whatever_is_supposed_in_the_speech():
    everyone = {n: rules.Person(n, "woman", colour="red") for n in ("Beatrix", "Harriet")}
    text = 'Beatrix sat in her garden. "My brother chose to keep that light," said Beatrix. "If he were well he would have lit it, or might have tried," said Harriet.'
    assert shot_of(text, everyone).characters == ["Beatrix", "Harriet"]
