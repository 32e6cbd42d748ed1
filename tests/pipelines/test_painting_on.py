"""`reverie generate` with a mask, or with more around a picture: tasks like all others, and the start picture kept."""

import io
import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from reverie import recipes
from reverie.errors import BadInput
from reverie.pipelines import generate


@pytest.fixture
def start(tmp_path):
    """A path to a picture of 96x64 without two neighbours alike."""
    pixels = np.random.default_rng(1).integers(0, 256, (64, 96, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "start.png")
    return tmp_path / "start.png"


@pytest.fixture
def mask(tmp_path):
    image = Image.new("L", (96, 64))
    ImageDraw.Draw(image).rectangle((40, 20, 59, 39), fill=255)
    image.save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def run(studio, **params):
    updates = list(generate.run(studio, generate.Params(**{"prompt": "a", "seed": 9, **{k: str(v) if k in ("init", "mask") else v for k, v in params.items()}})))
    return updates, [np.asarray(Image.open(update.path)) for update in updates if update.kind == "picture"]


def test_more_is_painted_on_and_the_start_picture_stays_as_it_was(studio, start):
    updates, (made,) = run(studio, init=start, outpaint="right 32, top 8", mask_grow=2, mask_blur=6)
    assert made.shape == (72, 128, 3)
    assert (made[16:, :88] == np.asarray(Image.open(start))[8:, :88]).all()
    assert (made[:, 96:] == (9, 0, 0)).all() and (made[:8] == (9, 0, 0)).all()
    assert any(u.kind == "note" and "top 8, right 32" in u.text and "128x72" in u.text for u in updates)


def test_only_what_is_masked_changes(studio, start, mask):
    _, (made,) = run(studio, init=start, mask=mask, mask_grow=0, mask_blur=4)
    old = np.asarray(Image.open(start))
    changed = (made != old).any(-1)
    assert made.shape == old.shape and (made[20:40, 40:60] == (9, 0, 0)).all()
    assert changed[16:44, 36:64].any() and not changed[:16].any() and not changed[:, 64:].any()


def test_each_of_several_pictures_has_its_own_seed_and_the_same_start(studio, start, engine):
    _, made = run(studio, init=start, outpaint="left 32", count=6)
    assert [picture[0, 0, 0] for picture in made] == [9, 10, 11, 12, 13, 14]
    assert len({picture[:, 60:].tobytes() for picture in made}) == 1
    assert {(task.kind, task.denoise) for task in engine.made} == {("inpaint", 0.9)}


def test_the_recipe_names_the_start_picture_and_what_was_done_to_it(studio, start, mask):
    updates, _ = run(studio, init=start, mask=mask, outpaint="right 30", strength=0.7)
    recipe = recipes.read(next(u.path for u in updates if u.kind == "picture"))
    job = studio.store.jobs.find()[0]
    (asset,) = studio.library.of_job(job.id)
    assert studio.input_path(asset.parents[0]).read_bytes() == start.read_bytes()
    assert studio.input_path(asset.parents[1]).read_bytes() == mask.read_bytes()
    assert recipe["retouch"] == {"extend": [0, 0, 32, 0], "box": [0, 0, 128, 64], "grow": 4, "blur": 16}
    assert (recipe["kind"], recipe["denoise"], (asset.width, asset.height)) == ("inpaint", 0.7, (128, 64))
    infotext = recipes.parse_infotext(recipes.infotext(recipe))
    assert infotext["denoise"] == 0.7 and infotext["extra"]["Mask blur"] == "16"
    assert any(u.kind == "note" and "rounded up to sizes divisible by 8: right 32" in u.text for u in updates)


def test_the_same_again_is_the_same_job_and_another_border_or_mask_is_not(studio, start, mask, engine):
    first, _ = run(studio, init=start, outpaint="right 32")
    again, _ = run(studio, init=start, outpaint=" RIGHT: 32px ")
    assert first[-1].data["pictures"] == again[-1].data["pictures"] and len(engine.made) == 1
    for params in ({"outpaint": "right 40"}, {"outpaint": "right 32", "mask": mask}, {"outpaint": "right 32", "mask_blur": 3}):
        run(studio, init=start, **params)
    assert len(engine.made) == 4


def test_a_finished_picture_is_a_start_picture_like_any_other(studio, start):
    wide = next(u.path for u in run(studio, init=start, outpaint="right 32")[0] if u.kind == "picture")
    _, (wider,) = run(studio, init=wide, outpaint="right 32", seed=20)
    assert wider.shape == (64, 160, 3) and (wider[:, 128:] == (20, 0, 0)).all()
    assert (wider[:, :108] == np.asarray(Image.open(wide))[:, :108]).all()


def test_pictures_that_no_engine_could_make_keep_their_size(studio, tmp_path, mask):
    Image.new("RGB", (97, 65), (1, 200, 3)).save(tmp_path / "odd.png")
    Image.new("L", (97, 65), 255).save(tmp_path / "all.png")
    _, (made,) = run(studio, init=tmp_path / "odd.png", mask=tmp_path / "all.png")
    assert made.shape == (65, 97, 3) and (made == (9, 0, 0)).all()


def broken(path):
    path.write_bytes(b"\x89PNG\r\n not really")
    return str(path)


@pytest.mark.parametrize("params, words", [
    ({"mask": "mask.png"}, "--mask needs a picture to start from"),
    ({"outpaint": "64"}, "--outpaint needs a picture to start from"),
    ({"init": "start.png", "outpaint": "rihgt 64"}, "'rihgt 64' does not say"),
    ({"init": "start.png", "outpaint": "0"}, "puts nothing on"),
    ({"init": "start.png", "outpaint": "99999"}, "too large"),
    ({"init": "start.png", "outpaint": "64", "size": "64x64"}, "keeps its size"),
    ({"init": "start.png", "mask": "black.png"}, "Nothing in the mask black.png is white"),
    ({"init": "start.png", "mask": "square.png"}, "The mask is 50x50 and the start picture 96x64"),
    ({"init": "start.png", "mask": "broken.png"}, "broken.png is not a picture"),
    ({"init": "broken.png", "outpaint": "64"}, "broken.png is not a picture"),
    ({"init": "start.png", "mask": "nowhere.png"}, "There is no picture .*nowhere.png"),
])
def test_what_cannot_be_is_one_sentence_before_anything_is_drawn(studio, tmp_path, start, mask, params, words):
    Image.new("L", (96, 64)).save(tmp_path / "black.png")
    Image.new("L", (50, 50), 255).save(tmp_path / "square.png")
    broken(tmp_path / "broken.png")
    given = {name: str(tmp_path / value) if value.endswith(".png") else value for name, value in params.items()}
    with pytest.raises(BadInput, match=words) as caught:
        run(studio, **given)
    assert "\n" not in str(caught.value) and caught.value.next_step
    assert studio.store.jobs.find() == []


def test_a_job_that_waits_finds_its_start_picture_even_when_the_file_is_gone(studio, start):
    (task,) = generate.plan(studio, generate.Params(prompt="a", init=str(start), outpaint="all 8"))
    old = np.asarray(Image.open(start))
    start.unlink()
    session = studio.session("generate")
    job = studio.submit(type(task).model_validate(json.loads(task.model_dump_json())), session)
    assert [event.kind for event in studio.follow([job])][-1] == "succeeded"
    made = np.asarray(Image.open(io.BytesIO(studio.pictures(job)[0].read_bytes())))
    assert made.shape == (80, 112, 3) and (made[28:52, 28:84] == old[20:44, 20:76]).all()
