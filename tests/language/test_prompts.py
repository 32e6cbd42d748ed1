"""Prompts fit their encoder without cutting a phrase, and speak the family's language."""

import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.errors import BadInput
from reverie.language import lexicon, pocket, prompts, rules, scenes
from reverie.language.chapters import Chapter
from reverie.settings import config

ROOT = Path(__file__).resolve().parents[2]
STYLES = list(config("styles"))
TEXT = "Emma walked in the dark forest at night. Rain fell on the tall pine trees, and Emma held a lantern. A black horse stood near Emma."


def shot_of(text=TEXT, sheet=None):
    chapter = Chapter(1, "One", text, "one.md")
    return rules.describe(scenes.split(chapter)[0], rules.cast(rules.find_characters([chapter]), sheet or {}))


@pytest.fixture(scope="module")
def drawings():
    """The module that draws the training pictures and states their captions."""
    spec = importlib.util.spec_from_file_location("pocket_scenes", ROOT / "scripts" / "pocket" / "scenes.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


phrases = st.lists(st.text("abc dé,", min_size=1, max_size=30).filter(str.strip), max_size=6).map(" ".join)


@given(action=phrases, setting=phrases, look=phrases, family=st.sampled_from(["sd15", "sdxl"]), style=st.sampled_from(STYLES),
       most=st.integers(20, 90))
@settings(max_examples=150, deadline=None)
def test_prompt_is_never_too_long_and_cuts_no_phrase(action, setting, look, family, style, most):
    base = shot_of()
    person = rules.Person("Emma", "woman", look=look)
    shot = replace(base, action=action, setting=setting, people=(person,), actor="Emma")
    prompt = prompts.compose(shot, family, style, max_tokens=most)
    assert prompts.estimate_tokens(prompt.prompt) <= most
    full = prompts.compose(shot, family, style, max_tokens=10_000)
    assert not full.dropped
    kept = prompt.prompt.split(", ")
    # Only a single phrase that alone is too long may be shortened.
    assert len(kept) == 1 or set(kept) <= set(full.prompt.split(", "))


def test_tokenizer_is_used_when_given():
    prompt = prompts.compose(shot_of(), "sdxl", count_tokens=lambda text: 3 * len(text.split()))
    assert len(prompt.prompt.split()) <= 25 and prompt.dropped


def test_subject_comes_first_and_style_late():
    prompt = prompts.compose(shot_of(), "sdxl").prompt
    assert prompt.startswith("a woman, ") and prompt.index("forest") < prompt.index("night") < prompt.index("graphic novel")


def test_least_important_phrase_goes_first():
    shot = shot_of()
    roomy, tight = prompts.compose(shot, "sdxl", max_tokens=200), prompts.compose(shot, "sdxl", max_tokens=30)
    assert tight.dropped[0] == "highly detailed background" and "forest" in tight.prompt and "graphic novel panel" in tight.prompt
    assert len(tight.prompt) < len(roomy.prompt)


def test_every_style_serves_every_family():
    for style in STYLES:
        for family in prompts.families():
            assert prompts.compose(shot_of(), family, style).prompt
    pocket_styles = {config("styles")[s]["pocket"] for s in STYLES}
    assert pocket_styles == set(config("pocket")["style"])


def test_unknown_style_and_family_say_what_there_is():
    with pytest.raises(BadInput, match="no style 'crayon'. Known are: graphic novel"):
        prompts.compose(shot_of(), "sdxl", "crayon")
    with pytest.raises(BadInput, match="family 'dalle'. Known are: pocket, sd15"):
        prompts.compose(shot_of(), "dalle")


def test_sheet_look_is_the_same_in_every_scene():
    sheet = {"Emma": rules.Person("Emma", "woman", look="a tall woman with red hair", clothes="green coat", colour="green")}
    for text in (TEXT, "Emma sat in the kitchen, eating soup."):
        assert "a tall woman with red hair wearing a green coat" in prompts.compose(shot_of(text, sheet), "sdxl").prompt
        assert "a woman in a green dress" in prompts.compose(shot_of(text, sheet), "pocket").prompt


def test_pocket_speaks_the_captions_grammar(drawings):
    for text in (TEXT, "Nobody was in the hall. The table was empty.", "Two men ran along the beach at dawn. The sun rose over three white boats.",
                 "I walked in the snow. I saw a castle. I sat down and I wept."):
        for style in ("graphic novel", "noir"):
            values = pocket.values(shot_of(text), style)
            drawn = drawings.scene_from_dict(values)
            assert ", ".join(pocket.clauses(values)) == drawings.full_caption(drawn)
            assert drawn.object in drawings.objects_at(drawn.place)[0] and 1 <= drawn.count <= 4
            assert (drawn.weather is None) == (drawn.place in drawings.INDOORS) and len(drawn.people) <= 3


def test_pocket_rules_agree_with_the_drawings(drawings):
    own = config("prompts")["pocket"]
    assert own["plurals"] == drawings.PLURALS and own["garments"] == drawings.PEOPLE and own["time_words"] == drawings.TIMES
    assert {p: own["place_words"].get(p, "in") for p in drawings.PLACES} == drawings.PLACES
    for place in drawings.PLACES:
        allowed = set(drawings.objects_at(place)[0])
        assert {o for o in drawings.OBJECTS if pocket._stands_at(o, place, own)} == allowed
        assert own["at_place"][place] in allowed
    assert {s["pocket"] for s in lexicon.words("settings").values()} == set(drawings.PLACES)
    assert set(lexicon.words("indoors")) == {k for k, s in lexicon.words("settings").items() if s["pocket"] in drawings.INDOORS}
    weathers = {own["weather"].get(w, w) for w in lexicon.words("weathers")}
    assert weathers == set(drawings.WEATHERS) and set(lexicon.words("times")) == set(drawings.TIMES)
    assert {v for v in own["shows"].values() if v} <= set(drawings.OBJECTS) and set(own["colours"]) == set(drawings.OBJECTS)


def test_pocket_uses_only_words_that_the_model_knows(drawings):
    known = set(drawings.words())
    book = [Chapter(n, "", (ROOT / "assets/samples/the-time-machine" / f"chapter_0{n}.md").read_text(), "") for n in (3, 4)]
    everyone = rules.cast(rules.find_characters(book), {})
    for shot in rules.describe_all([s for c in book for s in scenes.split(c)], everyone):
        for style in STYLES:
            prompt = prompts.compose(shot, "pocket", style).prompt
            assert set(re.findall(r"[a-z]+", prompt)) <= known
            assert len(re.findall(r"[a-z]+", prompt)) <= 60


def test_positions_vary_from_scene_to_scene():
    shot = shot_of()
    assert len({pocket.values(replace(shot, scene=n), "ink")["position"] for n in (1, 2, 3)}) == 3


def test_filename_sorts_and_describes():
    shot = replace(shot_of(), chapter=1, scene=2, actor="Emma", setting="office, old desk", action="reading the letter")
    assert prompts.filename(shot) == "chapter_01_scene_02_emma_office_reading.png"


@given(st.text(max_size=80), st.text(max_size=200), st.text(max_size=80), st.integers(0, 5000), st.integers(1, 5000))
@settings(deadline=None)
def test_filename_is_safe_whatever_the_names(actor, setting, action, chapter, scene):
    name = prompts.filename(replace(shot_of(), actor=actor, setting=setting, action=action, chapter=chapter, scene=scene))
    assert re.fullmatch(r"chapter_\d{2,}_scene_\d{2,}[a-z0-9_]*\.png", name) and len(name) <= 100
