"""The bench that measures whether characters keep their colours reads figures right, and knows what a prompt asks for."""

import importlib.util
import random
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("consistency", ROOT / "tests" / "bench" / "consistency.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scenes_of(count, n, seed=3):
    from scripts.pocket import scenes

    rng = random.Random(seed)
    for _ in range(n):
        drawn = {**scenes.sample_scene(rng).as_dict(), "style": "graphic novel", "people": [vars(scenes.sample_person(rng)) for _ in range(count)]}
        yield scenes.scene_from_dict(drawn)


def test_a_prompt_is_read_back_as_the_scene_it_states(bench):
    from scripts.pocket.scenes import full_caption

    for count in range(4):
        for scene in scenes_of(count, 30):
            assert bench.asked(full_caption(scene)) == scene


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_figures_clothes_are_read(bench, count):
    from scripts.pocket import grade
    from scripts.pocket.draw import draw

    grader, hits = grade.load(), []
    for i, scene in enumerate(scenes_of(count, 24)):
        read = bench.clothes(grader, [draw(scene, 128, 5 * 10 ** 6 + i)], scene)[0]
        hits += [a == p.colour for a, p in zip(read, scene.people, strict=True)]
    assert sum(hits) / len(hits) >= 0.9


def test_what_a_reader_says_of_the_books_fits_them(bench):
    from reverie import language

    known = yaml.safe_load((ROOT / "tests/bench/consistency.yaml").read_text())
    for book in bench.BOOKS:
        truth, rows = known[book.name], language.read(book).rows
        assert [len(truth["scenes"][c]) for c in truth["scenes"]] == [sum(r["chapter"] == c for r in rows) for c in truth["scenes"]]
        assert all(1 <= len(there) <= 3 for chapter in truth["scenes"].values() for there in chapter)


def test_a_character_whom_the_picture_leaves_out_is_wrong(bench, tmp_path):
    from reverie.language.people import Person
    from scripts.pocket.draw import draw

    prompt = "one green tree on the left, a man in a red coat standing, in the field, by day, clear, graphic novel"
    draw(bench.asked(prompt), 128, 1).save(tmp_path / "drawn.png")
    row = {"chapter": 1, "scene": 1, "prompt": prompt, "images": [str(tmp_path / "drawn.png")], "characters": ["Tom"]}
    sheet = {"Tom": Person("Tom", colour="red"), "Emma": Person("Emma", "woman", colour="blue")}
    truth = {"clothes": {}, "scenes": {1: [["Tom", "Emma"]]}}
    tom, emma = bench.measured(tmp_path, [row], sheet, truth)
    assert (tom["right"], emma["right"], emma["asked"]) == (True, False, False) and "does not have it" in bench.said(emma)
    assert bench.measured(tmp_path, [row], sheet, truth | {"clothes": {"Tom": "green"}})[0]["right"] is False
