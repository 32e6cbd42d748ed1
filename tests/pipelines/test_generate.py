"""Prompts become pictures, with an engine that draws flat colours."""

import json
import struct
from dataclasses import replace

import pytest
from flat_engine import FlatEngine
from PIL import Image

from reverie import recipes, settings
from reverie.errors import BadInput, Cancelled, EngineFailed, ModelMissing, StoreFailed
from reverie.pipelines import generate
from reverie.pipelines._run import error_of
from reverie.studio import Studio, make_task


@pytest.fixture
def studio(tmp_path):
    home = replace(settings.load(), storage=tmp_path / "storage")
    with Studio.open(home, open_engine=lambda name, settings: FlatEngine()) as studio:
        yield studio


def run(studio, **params):
    return list(generate.run(studio, generate.Params(**{"prompt": "a", "size": "32x32", **params})))


def test_many_pictures_have_seeds_one_after_the_other(studio):
    updates = run(studio, count=10, seed=2**32 - 3)
    seeds = [recipes.read(update.path)["seed"] for update in updates if update.kind == "picture"]
    assert [seed % 2**32 for seed in seeds] == [2**32 - 3, 2**32 - 2, 2**32 - 1, 0, 1, 2, 3, 4, 5, 6]
    assert len(set(updates[-1].data["pictures"])) == 10


def test_a_refiner_is_called_as_a_model_is_by_its_name_or_whole_path(studio, tmp_path, monkeypatch):
    for place in ("storage/models/checkpoints", "elsewhere"):
        head = json.dumps({"conditioner.embedders.1.model.a": {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]}}).encode()
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "large.safetensors").write_bytes(struct.pack("<Q", len(head)) + head)
    monkeypatch.chdir(tmp_path)
    for given, called in (("large", "large"), ("large.safetensors", "large"), ("elsewhere/large.safetensors", str(tmp_path / "elsewhere/large.safetensors"))):
        (task,) = generate.plan(studio, generate.Params(prompt="a", model=given, refiner=given))
        assert task.refiner == task.model == called


@pytest.fixture
def three_at_once(tmp_path):
    home = replace(settings.load(), storage=tmp_path / "storage")
    with Studio.open(home, open_engine=lambda name, settings: FlatEngine(at_once=3)) as studio:
        yield studio


def test_pictures_are_numbered_by_their_seeds_in_whichever_order_they_are_ready(three_at_once, tmp_path):
    updates = run(three_at_once, prompt="{slow|quick}", count=6, seed=0, out=str(tmp_path / "a.png"))
    made = [recipes.read(update.path)["seed"] for update in updates if update.kind == "picture"]
    assert made != sorted(made) and sorted(made) == [0, 1, 2, 3, 4, 5]
    assert [recipes.read(tmp_path / f"a_{number:03d}.png")["seed"] for number in range(1, 7)] == [0, 1, 2, 3, 4, 5]
    assert updates[-1].data["pictures"] == [str(tmp_path / f"a_{number:03d}.png") for number in range(1, 7)]


def test_progress_of_several_pictures_at_once_is_one_bar_that_never_goes_back_and_one_preview(three_at_once):
    updates = run(three_at_once, prompt="slow", count=24, seed=1)
    fractions = [update.fraction for update in updates if update.kind in ("progress", "picture")]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    between = [update for update in updates if update.kind == "progress"]
    assert len({round(update.fraction, 3) for update in between}) > 10
    shown = [update.data for update in between if update.preview]
    assert sum(one != other for one, other in zip(shown, shown[1:])) < 6, "the preview does not jump from one picture to another"


def test_seed_of_minus_one_is_a_new_one_each_time_and_kept_in_the_recipe(studio):
    one, two = (next(u for u in run(studio) if u.kind == "picture").data["seed"] for _ in range(2))
    assert one != two


def test_out_is_a_file_a_numbered_file_or_a_folder(studio, tmp_path):
    assert run(studio, out=str(tmp_path / "a.png"))[-1].data["pictures"] == [str(tmp_path / "a.png")]
    run(studio, out=str(tmp_path / "b.png"), count=2)
    run(studio, out=str(tmp_path / "folder"), count=2)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["a.png", "b_001.png", "b_002.png"]
    assert len(list((tmp_path / "folder").glob("*.png"))) == 2
    run(studio, out=str(tmp_path / "results.v2"))
    (tmp_path / "pictures.png").mkdir()
    run(studio, out=str(tmp_path / "pictures.png"))
    assert all(len(list((tmp_path / name).glob("*.png"))) == 1 for name in ("results.v2", "pictures.png"))


@pytest.mark.parametrize("out, error, words", [
    ("a.jpg", BadInput, "'a.jpg' is not a PNG file name"), ("c.exe", BadInput, "PNG"), ("notes", BadInput, "PNG"),
    ("notes/below", StoreFailed, "cannot be written"), ("notes/a.png", StoreFailed, "cannot be written"),
])
def test_out_that_cannot_be_is_refused_before_anything_is_drawn(studio, tmp_path, out, error, words):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(error, match=words):
        next(generate.run(studio, generate.Params(prompt="a", out=str(tmp_path / out))))
    assert studio.store.jobs.find() == []


def test_start_picture_makes_it_image_to_image(studio, tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "in.png")
    recipe = next(u for u in run(studio, init=str(tmp_path / "in.png"), strength=0.4) if u.kind == "picture").data
    assert (recipe["kind"], recipe["denoise"], len(recipe["inputs"])) == ("img2img", 0.4, 1)


@pytest.mark.parametrize("params, error, words", [
    ({"prompt": " "}, BadInput, "The prompt is empty"), ({"size": "big"}, BadInput, "'big' is not a size"),
    ({"size": "100x100"}, BadInput, "nearest: 96"), ({"model": "nix"}, ModelMissing, "no model 'nix'"),
    ({"engine": "nix"}, BadInput, "no engine 'nix'"), ({"init": "/no/such.png"}, BadInput, "no picture /no/such.png"),
    ({"prompt": "fails"}, EngineFailed, "It failed"), ({"loras": "nix:0.5"}, ModelMissing, "no LoRA 'nix'"),
    ({"prompt": "a <lora:nix:99>"}, BadInput, "'99' is no weight"), ({"prompt": "embedding:nix"}, ModelMissing, "no embedding 'nix'"),
    ({"vae": "nix"}, ModelMissing, "no VAE 'nix'"),
])
def test_bad_input_is_one_sentence(studio, params, error, words):
    with pytest.raises(error, match=words):
        run(studio, **params)


def test_stopping_the_iteration_cancels_what_is_left(studio):
    updates = generate.run(studio, generate.Params(prompt="slow", size="32x32", count=12))
    next(update for update in updates if update.kind == "progress")
    updates.close()
    states = [job.state for job in studio.store.jobs.find()]
    assert len(states) == 3 and states.count("cancelled") >= 2


def test_three_failures_in_a_row_end_the_run_with_one_sentence(studio):
    updates = []
    with pytest.raises(EngineFailed, match="It failed"):
        for update in generate.run(studio, generate.Params(prompt="fails", size="32x32", count=80)):
            updates.append(update)
    said = [update.text for update in updates if update.kind in ("failed", "note")]
    assert "It failed. Try another." not in said and "Cancelled." not in said, "it is raised, and that is once"
    assert sum("failed in a row" in text and "run it again" in text for text in said) == 1


def test_each_failure_is_told_where_other_pictures_were_made(studio):
    updates = run(studio, prompt="{fails|a|b}", count=5, seed=1)
    assert [update.kind for update in updates if update.kind in ("failed", "picture")].count("failed") == updates[-1].data["failed"] == 2
    assert len(updates[-1].data["pictures"]) == 3


def test_waiting_job_that_was_cancelled_is_no_failure_of_the_engine(studio):
    session = studio.session("generate")
    jobs = [studio.submit(make_task(prompt=f"slow {number}", width=16, height=16), session) for number in range(3)]
    studio.cancel(session)
    assert isinstance(error_of(studio, jobs[-1].id), Cancelled)


def test_a_prompt_with_choices_makes_pictures_with_prompts_of_their_own(studio):
    made = [u.data for u in run(studio, prompt="a {red|blue|green} house, __time__", count=12, seed=1) if u.kind == "picture"]
    assert len(made) == 12 and len({recipe["prompt"] for recipe in made}) > 4
    assert not any(sign in recipe["prompt"] for recipe in made for sign in "{|_")
    again = [u.data["prompt"] for u in run(studio, prompt="a {red|blue|green} house, __time__", count=12, seed=1) if u.kind == "picture"]
    assert again == [recipe["prompt"] for recipe in made]


def write_lora(studio, fill: bytes) -> None:
    """A LoRA whose one tensor is as wide as the prompts of `pocket`."""
    name = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"
    head = json.dumps({name: {"dtype": "F16", "shape": [1, 256], "data_offsets": [0, 512]}}).encode()
    path = studio.settings.models / "loras" / "moon.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(head)) + head + fill * 512)


def test_loras_of_prompt_and_list_go_into_task_key_and_recipe(studio):
    keys = set()
    for fill, params in ((b"\0", {"loras": "moon:0.8"}), (b"\0", {"prompt": "a <lora:moon:0.8>"}), (b"\1", {"loras": "moon:0.8"}), (b"\1", {})):
        write_lora(studio, fill)
        update = next(u for u in run(studio, seed=1, **params) if u.kind == "picture")
        recipe = recipes.read(update.path)
        assert recipe["prompt"] == "a" and recipe["loras"] == ([["moon", 0.8]] if params else [])
        assert ("Lora hashes" in Image.open(update.path).info["parameters"]) == bool(params)
        keys.add(recipe["key"])
    assert len(keys) == 3  # one for both ways to say it, one for other weights, one for none
