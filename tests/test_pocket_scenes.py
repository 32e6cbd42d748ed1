"""Scenes, captions and drawings for the embedded model."""
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts" / "pocket"))

import draw  # noqa: E402
import scenes  # noqa: E402


def some(n, seed=0):
    rng = random.Random(seed)
    return [scenes.sample_scene(rng) for _ in range(n)]


def test_values_are_the_vocabulary():
    listed = scenes.vocabulary()
    for attribute, values in (("place", scenes.PLACES), ("time", scenes.TIMES), ("weather", scenes.WEATHERS),
                              ("object", scenes.OBJECTS), ("colour", scenes.COLOURS), ("position", scenes.POSITIONS),
                              ("person", scenes.PEOPLE), ("pose", scenes.POSES), ("style", scenes.STYLES),
                              ("light_colour", scenes.LIGHT_COLOURS), ("indoors", scenes.INDOORS),
                              ("count", scenes.COUNTS)):
        assert set(values) == set(listed[attribute]), attribute


def test_captions_use_known_words_only():
    known, rng = set(scenes.words()), random.Random(1)
    for scene in some(400):
        for text in (scenes.full_caption(scene), scenes.caption(scene, rng)):
            tokens = text.replace(",", " ,").split()
            assert set(tokens) <= known
            assert len(text.split()) <= 60


def test_indoors_has_no_weather_and_no_castle():
    for scene in some(800):
        if scene.place in scenes.INDOORS:
            assert scene.weather is None and scene.object not in ("castle", "house", "tower")
        else:
            assert scene.weather is not None


def test_held_out_share_is_one_in_twenty_and_stable():
    drawn = some(4000)
    share = sum(map(scenes.held_out, drawn)) / len(drawn)
    assert .035 < share < .065
    assert scenes.held_out(drawn[0]) == scenes.held_out(replace(drawn[0], weather=None, people=()))


def test_dict_round_trip():
    for scene in some(20):
        assert scenes.scene_from_dict(scene.as_dict()) == scene


@pytest.mark.parametrize("style", scenes.STYLES)
def test_same_picture_at_every_size(style):
    for i, scene in enumerate(some(4, seed=3)):
        scene = replace(scene, style=style)
        small, again, large = draw.draw(scene, 128, i), draw.draw(scene, 128, i), draw.draw(scene, 512, i)
        assert small.mode == "RGB" and small.size == (128, 128) and large.size == (512, 512)
        a, b = np.asarray(small, float), np.asarray(large.reduce(4), float)
        assert (a == np.asarray(again)).all()
        assert np.abs(a - b).mean() < 16
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > .88


def test_aspect_gives_multiples_of_eight():
    scene = some(1)[0]
    for aspect in (.75, 1.5, 1.78):
        width, height = draw.draw(scene, 128, 0, aspect).size
        assert height == 128 and width % 8 == 0 and abs(width - 128 * aspect) <= 4


def test_every_object_place_and_style_can_be_drawn():
    base = some(1)[0]
    for place in scenes.PLACES:
        weather = None if place in scenes.INDOORS else "clear"
        for style in scenes.STYLES:
            draw.draw(replace(base, place=place, weather=weather, style=style), 64)
    for name in scenes.OBJECTS:
        for count in range(1, 5):
            draw.draw(replace(base, object=name, count=count), 64)
