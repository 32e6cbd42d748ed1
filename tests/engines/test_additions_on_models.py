"""LoRAs, embeddings, another VAE and weights in prompts through the whole engine, on small models of the real kinds.

On a model they do what their numbers say; off it nothing of them stays.
"""

from __future__ import annotations

import shutil

import pytest

pytest.importorskip("torch")

from reverie.engines import open_engine  # noqa: E402
from reverie.errors import BadInput, EngineFailed, ModelMissing  # noqa: E402
from reverie.settings import Settings  # noqa: E402
from reverie.types import Task  # noqa: E402

import small  # noqa: E402
from contract import difference, never  # noqa: E402


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Settings:
    root = tmp_path_factory.mktemp("house")
    settings = Settings(root=root, storage=root / "storage")
    folders, loras = settings.models / "diffusers", settings.models / "loras"
    fifteen, large = small.sd15(folders / "fifteen"), small.sdxl(folders / "large")
    small.pocket(folders / "sketch")
    moon = small.lora(fifteen, loras / "moon.safetensors", folders / "fifteen-moon", weight=0.8, seed=1)
    small.lora(
        folders / "fifteen-moon",
        loras / "styles" / "ink.safetensors",
        folders / "fifteen-both",
        weight=-0.5,
        style="peft",
        seed=2,
    )
    small.lora(large, loras / "big.safetensors", folders / "large-big", weight=1.3, seed=3)
    (loras / "old.pt").write_bytes(b"\x80\x04.")
    (loras / "half.safetensors").write_bytes(moon.read_bytes()[:-50])
    small.embedding(fifteen, settings.models / "embeddings" / "redhouse.safetensors", "red house")
    small.embedding(large, settings.models / "embeddings" / "bigred.safetensors", "red house")
    return settings


@pytest.fixture(scope="module")
def draw(house):
    engine = open_engine("diffusers", house, device="cpu", dtype="float32")

    def draw(model: str, prompt: str = "a red house at dawn", **changes):
        values = dict(width=64, height=64, steps=2, seed=5, sampler="euler")
        return engine.run(Task(model=model, prompt=prompt, **{**values, **changes}), [], lambda progress: None, never)[
            0
        ].image

    yield draw
    engine.close()


@pytest.mark.parametrize(
    "model, loras, merged",
    [
        ("fifteen", [("moon", 0.8)], "fifteen-moon"),
        ("fifteen", [("moon", 0.8), ("ink", -0.5)], "fifteen-both"),
        ("large", [("big", 1.3)], "large-big"),
    ],
)
def test_a_lora_does_what_its_numbers_in_the_weights_would_do_and_leaves_no_trace(draw, model, loras, merged):
    before = draw(model)
    worn = draw(model, loras=loras)
    assert difference(before, worn) > 1
    assert difference(before, draw(model)) == 0
    assert difference(worn, draw(merged)) < 0.2


def test_the_weight_of_a_lora_counts_and_at_zero_it_does_nothing(draw):
    half, whole, none = (draw("fifteen", loras=[("moon", weight)]) for weight in (0.4, 0.8, 0.0))
    assert difference(half, whole) > 0.5
    assert difference(none, draw("fifteen")) < 0.1


def test_a_lora_that_fails_to_load_leaves_the_model_as_it_was(draw, house):
    from safetensors.torch import load_file, save_file

    before = draw("fifteen")
    broken = load_file(house.models / "loras" / "moon.safetensors")
    name = next(name for name in broken if "attn2_to_v.lora_up" in name)
    broken[name] = broken[name][:-3].contiguous()
    save_file(broken, house.models / "loras" / "odd.safetensors")
    with pytest.raises(EngineFailed, match="LoRA 'odd' cannot be put on model 'fifteen'"):
        draw("fifteen", loras=[("moon", 1.0), ("odd", 1.0)])
    assert difference(before, draw("fifteen")) == 0


@pytest.mark.parametrize(
    "name, error, words",
    [
        ("big", BadInput, "'big' is made for .* and model 'fifteen' is SD1.5"),
        ("old", BadInput, "pickle"),
        ("half", BadInput, "did not finish"),
        ("gone", ModelMissing, "there are: .*moon"),
    ],
)
def test_a_lora_that_does_not_fit_is_refused_before_anything_is_loaded(draw, name, error, words):
    with pytest.raises(error, match=words):
        draw("fifteen", loras=[(name, 1.0)])


@pytest.mark.parametrize("model", ["fifteen", "large"])
def test_weights_of_one_draw_what_no_weights_draw_and_others_do_not(draw, model):
    plain = draw(model, negative="blue")
    assert difference(plain, draw(model, "(a red house at dawn:1.0)", negative="(blue:1.0)")) < 0.1
    assert difference(plain, draw(model, "a (red:1.8) house at dawn", negative="blue")) > 0.01


@pytest.mark.parametrize("model", ["fifteen", "large"])
def test_a_prompt_is_read_to_its_end(draw, model):
    long = "a red house at dawn, " * 12
    assert difference(draw(model, long + "a boat, " * 20), draw(model, long + "a castle, " * 20)) > 0.01


def test_the_word_level_model_reads_weights_and_leaves_what_is_too_long_for_it(draw):
    plain, long = draw("sketch"), "a red house at dawn " * 10
    assert difference(plain, draw("sketch", "a (red:1.8) house at dawn")) > 0.01
    assert difference(draw("sketch", f"{long} boat"), draw("sketch", f"{long} castle")) == 0
    assert difference(draw("sketch", f"({long}:1.0) boat"), draw("sketch", long)) < 0.1


@pytest.mark.parametrize("model, name", [("fifteen", "redhouse"), ("large", "bigred")])
def test_an_embedding_draws_what_its_rows_mean_and_only_where_it_is_named(draw, model, name):
    before = draw(model, "a red house")
    assert difference(before, draw(model, f"a {name}", embeddings=[name])) < 0.1
    assert difference(before, draw(model, f"a {name}")) > 0.01


def test_an_embedding_of_another_family_is_refused(draw):
    with pytest.raises(BadInput, match="'bigred' is made for SDXL, and model 'fifteen' is SD1.5"):
        draw("fifteen", "a bigred", embeddings=["bigred"])


def test_another_vae_from_a_folder_and_from_a_file_decodes_the_same_latents(draw, house):
    folders, vaes = house.models / "diffusers", house.models / "vae"
    other = small.sd15(folders / "fifteen-other", seed=9)
    shutil.copytree(other / "vae", vaes / "soft")
    small.single_file(other, vaes / "sharp.safetensors", parts=("vae",))
    own, soft, sharp = draw("fifteen"), draw("fifteen", vae="soft"), draw("fifteen", vae="sharp")
    assert difference(own, soft) > 1 and difference(soft, sharp) < 0.5
    assert difference(own, draw("fifteen")) == 0
    with pytest.raises(BadInput, match="VAE 'soft' is made for SD1.5, and model 'large' is SDXL"):
        draw("large", vae="soft")


def test_a_model_with_guidance_of_its_own_needs_no_second_pass(draw, house):
    small.sd15(house.models / "diffusers" / "quick", guided=True)
    weak, strong, negative = (
        draw("quick", sampler="lcm", cfg=cfg, negative=text) for cfg, text in ((1.5, ""), (8.0, ""), (8.0, "a boat"))
    )
    assert difference(weak, strong) > 0.01
    assert difference(strong, negative) == 0
    with pytest.raises(BadInput, match="'lcm' makes at most 50 steps, and 51 were asked for"):
        draw("quick", sampler="lcm", steps=51)
