"""The people of a whole book come out once each, under all their names, and look as the text says."""

import re
import time

import pytest

from reverie.language import prompts, rules, scenes, sheet
from reverie.language.chapters import Chapter

FAMILY = """Mr. Bennet sat in his library. "My dear," said Mrs. Bennet, and she smiled at Mr. Bennet. Miss Bennet walked in the garden in a
red coat. "I am tired," said Miss Bennet to her mother.

Mr. Darcy bowed to Miss Bingley. Fitzwilliam Darcy was a tall, handsome man with dark hair. "Charming," said Darcy. Caroline Bingley
took his arm, and she smiled. Mr. Bingley laughed. "I am glad," said Charles Bingley.

John Thornton came in, wearing a blue cloak. "Good day," said John Thornton. John Smith followed. "Good evening," said John Smith.
John laughed. "Sit," said John.

Lizzy ran to the window. "Look!" cried Lizzy. Elizabeth Bennet was a girl of nineteen. Elizabeth laughed."""

TOLD = """My name is Philip Marsh, and I was young when it began. I walked to the churchyard. I saw the grey stones and I was afraid. I
ran. I have told this before, and I will tell it again.

William Hobbs, whom everyone called Badger, stood there, an old man with a white beard. "Hold!" said Badger. I stopped. Badger laughed,
and I laughed too. I told him that I was lost. I followed him home. My dog, Bruno, barked at him. Bruno ran ahead, and Bruno wagged his
tail. "Come, Bruno," I said. I patted Bruno.

Mrs. Joe was my sister. "Where have you been?" said Mrs. Joe. I sat by the fire. I drank my milk. I went to bed."""

CROWD = """The crowd in the market of London shouted. Dr. Hale pushed through the crowd. The Doctor lifted his hand. "Silence!" cried
Dr. Hale. Old Tom stood beside him. "They will not listen," said Tom. The grey-haired Anna Weiss, in a green cloak, held a lantern. "Let
them come," said Anna. Captain Reed drew his sword. The Captain cursed. On Monday the French came to Paris. "Oh God," said Captain Reed.
A hundred people ran. Rose stood still. "No," said Rose. O’Brien said nothing. "I will," said O’Brien.

Emma Woodhouse entered. Miss Woodhouse smiled. Mr. Woodhouse sat down. "Emma," said Mr. Woodhouse, "my dear Emma." Emma kissed him."""


def cast_of(*texts, given=None):
    book = [Chapter(i, "", text, "") for i, text in enumerate(texts, 1)]
    given = given or {}
    return sheet.freeze(rules.cast(rules.find_characters(book), given), given)


def called(cast, name):
    found = [p for p in cast.values() if name in (p.name, *p.aliases)]
    assert len(found) == 1, f"{name}: {[p.name for p in found]}"
    return found[0]


def test_one_surname_is_not_one_person():
    cast = cast_of(FAMILY)
    father, mother, daughter = (called(cast, name) for name in ("Mr. Bennet", "Mrs. Bennet", "Miss Bennet"))
    assert len({father.name, mother.name, daughter.name}) == 3
    assert (father.kind, mother.kind, daughter.kind) == ("man", "woman", "woman")
    assert called(cast, "Miss Bingley") == called(cast, "Caroline Bingley") != called(cast, "Charles Bingley") == called(cast, "Mr. Bingley")


def test_names_of_one_person_come_together():
    cast = cast_of(FAMILY)
    assert called(cast, "Darcy") == called(cast, "Mr. Darcy") == called(cast, "Fitzwilliam Darcy")
    assert called(cast, "Lizzy") == called(cast, "Elizabeth Bennet") == called(cast, "Elizabeth")
    crowd = cast_of(CROWD)
    assert called(crowd, "Emma") == called(crowd, "Emma Woodhouse") == called(crowd, "Miss Woodhouse") != called(crowd, "Mr. Woodhouse")
    assert called(crowd, "the Doctor") == called(crowd, "Dr. Hale") and called(crowd, "the Captain") == called(crowd, "Captain Reed")


def test_first_name_of_two_people_is_flagged():
    john = called(cast_of(FAMILY), "John")
    assert john.name == "John" and john.note == "could be John Thornton or John Smith"


def test_names_in_several_chapters_are_one_person():
    cast = cast_of('Emma Hale sat down. "Well," said Emma Hale.', '"No," said Emma. Emma ran.', 'Miss Hale wept. "Oh," said Miss Hale.')
    assert len(cast) == 1 and called(cast, "Emma") == called(cast, "Miss Hale")


def test_nickname_that_the_text_tells_and_narrator_and_dog():
    cast = cast_of(TOLD)
    assert called(cast, "Badger") == called(cast, "William Hobbs") and called(cast, "Badger").age == "old"
    assert called(cast, "Philip Marsh").narrator and called(cast, "Bruno").kind == "animal"
    assert "a white beard" in called(cast, "Badger").phrase and called(cast, "Bruno").phrase == "a dog"


def test_dog_is_drawn_as_a_dog():
    text = "Tom walked in the garden. His dog, Bruno, barked. Bruno ran. Tom laughed."
    cast = cast_of(text)
    shot = rules.describe(scenes.split(Chapter(1, "", text, ""))[0], cast)
    assert "dog" in prompts.compose(shot, "pocket").prompt and prompts.compose(shot, "pocket").prompt.count("a man in") == 1
    assert "a dog" in prompts.compose(shot, "sdxl").prompt


def test_places_days_and_peoples_are_nobody():
    assert not {"London", "Paris", "Monday", "the French", "God", "French"} & set(cast_of(CROWD))


def test_looks_age_and_clothes_are_the_texts_with_their_place():
    cast = cast_of(FAMILY, CROWD)
    darcy, anna = called(cast, "Darcy"), called(cast, "Anna")
    assert darcy.phrase.startswith("a tall handsome man with dark hair wearing a ")
    assert anna.phrase == "a grey-haired woman wearing a green cloak" and anna.colour == "green"
    where = next(e for e in anna.evidence if e.startswith("green cloak"))
    chapter, start, end = (int(n) for n in re.search(r"chapter (\d+), paragraph 1, characters (\d+)-(\d+)", where).groups())
    assert chapter == 2 and CROWD[start:end].endswith("green cloak")
    assert called(cast, "Elizabeth").age == "19"


def test_child_of_nine_is_a_child():
    cast = cast_of('Nell, a girl of nine, ran in. "Help!" cried Nell. She wept.')
    assert (called(cast, "Nell").kind, called(cast, "Nell").phrase[:6]) == ("child", "a girl")


def test_main_people_wear_colours_that_differ_and_stay():
    cast = cast_of(CROWD)
    colours = [p.colour for p in list(cast.values())[:6] if p.kind != "animal"]
    assert len(set(colours)) == len(colours) and cast == cast_of(CROWD)


def test_phrase_has_at_most_twenty_tokens():
    text = 'Emma was a tall, slender, handsome, pale woman with long curly golden hair and large bright blue eyes. "Oh," said Emma. ' * 2
    for person in cast_of(text, FAMILY, TOLD).values():
        assert prompts.estimate_tokens(person.phrase) <= 20, person.phrase


def test_phrase_is_in_every_prompt_of_every_family():
    cast = cast_of(FAMILY)
    split = scenes.split(Chapter(1, "", FAMILY, ""))
    for shot in rules.describe_all(split, cast):
        assert 1 <= len(shot.people) <= 3
        for family in ("sdxl", "sd15"):
            prompt = prompts.compose(shot, family, max_tokens=150).prompt
            assert all(p.phrase in prompt for p in shot.people)
        pocket = prompts.compose(shot, "pocket").prompt
        assert all(f"{p.kind} in " in pocket and p.colour in pocket for p in shot.people)


def test_tale_in_quotation_marks_is_told_by_whoever_began_it():
    frame = 'I sat with them. I listened. I drank. I waited. I smoked. I looked. I saw him. I heard. "Come," said the Old Sailor. The Old Sailor began his story.'
    tale = "\n\n".join(f"“I went down to the sea on that day, and I saw the boat, and I took the oars of it and rowed alone {n}." for n in "abcd")
    cast = cast_of(frame, tale)
    teller = called(cast, "the Old Sailor")
    assert teller.quoted and not teller.narrator and cast["the narrator"].narrator
    shots = rules.describe_all([s for i, t in enumerate((frame, tale), 1) for s in scenes.split(Chapter(i, "", t, ""))], cast)
    assert shots[0].characters[0] == "the narrator" and shots[-1].characters == ["the Old Sailor"]


def test_actor_of_one_surname_is_the_one_named():
    text = 'Mr. Bennet said nothing. "Oh," said Mrs. Bennet. Mrs. Bennet sat in the red armchair by the fire. Mr. Bennet was silent. Mr. Bennet slept.'
    cast = cast_of(text)
    shot = rules.describe(scenes.split(Chapter(1, "", text, ""))[0], cast)
    assert (shot.actor, shot.action) == ("Mrs. Bennet", "sitting in the red armchair by the fire")


@pytest.mark.parametrize("text", ["", "Emma", "“", "Mr. Mr. Mr.", "THE END", "Émile Zölà said. " * 3, "The The The. A A A.", "X" * 5000, "Emma said " * 400])
def test_any_text_has_a_cast(text):
    assert isinstance(cast_of(text), dict)


def test_names_are_found_in_one_pass_of_linear_time():
    def seconds(n):
        started = time.process_time()
        people_found = cast_of("\n\n".join([FAMILY, TOLD, CROWD] * n))
        assert people_found
        return time.process_time() - started

    seconds(2)
    assert seconds(24) < 10 * seconds(6) + 0.5
