"""Flux, SD3.5 and Z-Image: small random models of the real architectures, through the code that loads the real ones."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import small
import small_flow
from contract import Heard, difference, never

from reverie import models
from reverie.engines import _device, _loading, open_engine
from reverie.errors import BadInput, EngineFailed, ModelMissing
from reverie.settings import Settings
from reverie.studio import Studio
from reverie.types import Task

DEVICE = _device.Device("cpu", "cpu", torch.bfloat16, torch.float32, torch.bfloat16)
QUIET = lambda progress: None
FOLDERS = ["schnell", "dev", "large", "medium", "z"]


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Settings:
    """Folders of each family, single files that hold everything, and denoisers alone with their parts beside them."""
    root = tmp_path_factory.mktemp("flow")
    settings = Settings(root=root, storage=root / "storage")
    small.small_assets(root)
    folders, files = settings.models / "diffusers", settings.models / "checkpoints"
    small_flow.flux(folders / "dev")
    small_flow.flux(folders / "schnell", variant="flux-schnell")
    small_flow.sd3(folders / "large")
    small_flow.sd3(folders / "medium", variant="sd35-medium")
    small_flow.zimage(folders / "z")
    small_flow.single_file(folders / "medium", files / "medium-file.safetensors", "sd3", tuple(small_flow.PREFIXES["sd3"]))
    small_flow.single_file(folders / "z", files / "z-file.safetensors", "zimage", tuple(small_flow.PREFIXES["zimage"]))
    alone, beside = settings.models / "diffusion_models", settings.models / "text_encoders"
    small_flow.single_file(folders / "z", alone / "z-alone.safetensors", "zimage")
    small_flow.single_file(folders / "z", beside / "some_qwen.safetensors", "zimage", ("text_encoder",))
    small_flow.single_file(folders / "z", settings.models / "vae" / "ae.safetensors", "zimage", ("vae",))
    return settings


@pytest.fixture(scope="module")
def engine(house):
    engine = open_engine("diffusers", house, device="cpu", dtype="float32")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def narrow(house):
    engine = open_engine("diffusers", house, device="cpu", dtype="bfloat16")
    yield engine
    engine.close()


def a_task(**changes) -> Task:
    values = dict(prompt="a red house at dawn", model="z", width=64, height=48, steps=2, seed=5, cfg=1.0)
    return Task(**{**values, **changes})


def draw(engine, *inputs, **changes):
    return engine.run(a_task(**changes), list(inputs), QUIET, never)[0].image


@pytest.mark.parametrize("name", FOLDERS)
def test_each_family_draws_pictures_of_their_own_seed(engine, name):
    heard = Heard()
    pictures = engine.run(a_task(model=name, count=2, steps=3), [], heard, never)
    assert [p.image.size for p in pictures] == [(64, 48)] * 2 and difference(pictures[0].image, pictures[1].image) > 1
    assert difference(pictures[1].image, draw(engine, model=name, steps=3, seed=6)) < 1.5
    preview = Image.open(io.BytesIO(next(p.preview for p in heard.all if p.preview)))
    assert preview.size == (256, 192) and np.asarray(preview).std() > 1


@pytest.mark.parametrize("name", FOLDERS)
def test_each_family_paints_over_a_picture_and_into_one(engine, name, tmp_path):
    start, mask = tmp_path / "start.png", tmp_path / "mask.png"
    Image.new("RGB", (64, 48), (200, 40, 40)).save(start)
    Image.new("L", (64, 48), 0).save(mask)
    near, far = (draw(engine, start, model=name, kind="img2img", denoise=denoise, steps=4) for denoise in (0.3, 1.0))
    assert near.size == (64, 48) and difference(near, far) > 0.5
    assert draw(engine, start, mask, model=name, kind="inpaint").size == (64, 48)


@pytest.mark.parametrize("name", FOLDERS)
def test_each_family_paints_over_pictures_in_the_format_that_cards_use(name, tmp_path, narrow):
    start, mask = tmp_path / "start.png", tmp_path / "mask.png"
    Image.effect_noise((64, 48), 50).save(start)
    Image.new("L", (64, 48), 255).save(mask)
    for how in (dict(kind="img2img", denoise=0.6), dict(kind="inpaint", denoise=0.6), dict(kind="inpaint", denoise=1.0)):
        inputs = [start, mask] if how["kind"] == "inpaint" else [start]
        pictures = narrow.run(a_task(model=name, count=2, steps=3, **how), inputs, QUIET, never)
        assert [p.image.size for p in pictures] == [(64, 48)] * 2 and all(np.asarray(p.image).std() > 1 for p in pictures)


@pytest.mark.parametrize("name", ["dev", "large", "z"])
def test_the_prompt_and_the_guidance_matter(engine, name):
    plain, other, guided = (draw(engine, model=name, **how) for how in ({}, {"prompt": "two boats"}, {"cfg": 6.0}))
    assert difference(plain, other) > 0 and difference(plain, guided) > 0


@pytest.mark.parametrize("folder, file", [("medium", "medium-file"), ("z", "z-file"), ("z", "z-alone")])
def test_a_single_file_draws_what_its_folder_draws(engine, folder, file):
    assert difference(draw(engine, model=folder), draw(engine, model=file)) < 1


def test_flux_as_a_single_file_with_eight_bit_weights_and_its_parts_beside_it(house, engine, tmp_path):
    wide = small_flow.flux(tmp_path / "wide", variant="flux-schnell", narrow=False)
    beside = house.models / "text_encoders"
    small_flow.single_file(wide, house.models / "diffusion_models" / "flux1-small.safetensors", "flux", eight_bits=True)
    small_flow.single_file(wide, beside / "clip_l.safetensors", "flux", ("text_encoder",))
    small_flow.single_file(wide, beside / "t5_eight.safetensors", "flux", ("text_encoder_2",), eight_bits=True)
    found = models.find("flux1-small", house)
    assert (found.family, found.variant, found.steps) == ("flux", "flux-schnell", 4)
    assert {part: file.split("/")[-1] for part, file, _ in found.parts} == {
        "text_encoder": "clip_l.safetensors", "text_encoder_2": "t5_eight.safetensors", "vae": "ae.safetensors",
    }  # fmt: skip
    _same_weights(_loading.load(found, DEVICE, house.assets), wide)


def _same_weights(pipe, folder) -> None:
    """The parts have the numbers of the folder, as exactly as eight bits can."""
    from safetensors.torch import load_file

    for part in ("transformer", "text_encoder", "text_encoder_2"):
        (file,) = (folder / part).glob("*.safetensors")
        loaded, expected = getattr(pipe, part).state_dict(), load_file(file)
        for name, tensor in expected.items():
            assert (loaded[name].float() - tensor.float()).abs().max() <= 0.04 * tensor.float().abs().max(), name


@pytest.mark.parametrize("name", ["dev", "medium", "z"])
def test_a_lora_does_what_its_numbers_in_the_weights_would_do_and_leaves_no_trace(house, engine, name):
    folders = house.models / "diffusers"
    small.lora(folders / name, house.models / "loras" / f"for-{name}.safetensors", folders / f"{name}-merged", weight=0.8, style="peft")
    plain, merged = draw(engine, model=name), draw(engine, model=f"{name}-merged")
    worn = draw(engine, model=name, loras=((f"for-{name}", 0.8),))
    assert difference(plain, merged) > 1 and difference(worn, merged) < 0.7
    assert difference(plain, draw(engine, model=name)) == 0


@pytest.mark.parametrize("lora, model", [("for-dev", "z"), ("for-z", "medium"), ("for-medium", "dev")])
def test_a_lora_of_another_family_is_refused(house, engine, lora, model):
    if not (house.models / "loras" / f"{lora}.safetensors").is_file():
        small.lora(house.models / "diffusers" / lora[4:], house.models / "loras" / f"{lora}.safetensors", style="peft")
    with pytest.raises(BadInput, match=f"'{lora}' is made for .*, and model '{model}' is "):
        draw(engine, model=model, loras=((lora, 1.0),))


def test_an_embedding_is_refused_where_none_is_read(house, engine):
    small.embedding(small.sd15(house.root / "fifteen"), house.models / "embeddings" / "moonlit.safetensors", "red house")
    with pytest.raises(BadInput, match="Z-Image reads no embeddings.*'moonlit'"):
        draw(engine, embeddings=("moonlit",))


def test_a_denoiser_without_its_parts_says_which_file_to_get_and_where_to_put_it(house, tmp_path):
    lonely = Settings(root=house.root, storage=tmp_path / "storage")
    folder = house.models / "diffusers" / "z"
    file = small_flow.single_file(folder, lonely.models / "diffusion_models" / "z-alone.safetensors", "zimage")
    with pytest.raises(ModelMissing, match=r"qwen_3_4b.*text_encoders"):
        models.find("z-alone", lonely)
    small_flow.single_file(folder, lonely.models / "text_encoders" / "q.safetensors", "zimage", ("text_encoder",))
    with pytest.raises(ModelMissing, match=r"no VAE.*reverie fetch .vae:.*ae\.safetensors.* into .*vae"):
        models.find("z-alone", lonely)
    assert "z-alone" in [model.id for model in models.all(lonely)] and file.is_file()


def test_a_part_that_is_there_and_cannot_be_read_is_named(house, tmp_path):
    settings = Settings(root=house.root, storage=tmp_path)
    small_flow.single_file(house.models / "diffusers" / "medium", settings.models / "diffusion_models" / "alone.safetensors", "sd3")
    (settings.models / "text_encoders" / "folder.safetensors").mkdir(parents=True)
    (settings.models / "text_encoders" / "clip_l.safetensors").write_bytes(b"half")
    (settings.models / "text_encoders" / "round.safetensors").symlink_to("round.safetensors")
    with pytest.raises(ModelMissing, match=r"none beside it \(clip_l.safetensors there cannot be read\)"):
        models.find("alone", settings)


def test_a_size_that_a_family_does_not_make_is_refused_before_anything_is_stored(house):
    with Studio.open(house) as studio:
        session = studio.session("generate")
        with pytest.raises(BadInput, match="Flux makes sizes divisible by 16, and 72x64 is not. The nearest is 64x64."):
            studio.submit(Task(model="dev", width=72, height=64), session)
        assert studio.store.jobs.find() == []


def test_another_text_encoder_beside_a_file_makes_another_picture_of_it(house, tmp_path):
    house = Settings(root=house.root, storage=tmp_path / "storage")
    small_flow.zimage(tmp_path / "one")
    small_flow.zimage(tmp_path / "two", seed=1)
    small_flow.single_file(tmp_path / "one", house.models / "diffusion_models" / "z.safetensors", "zimage")
    small_flow.single_file(tmp_path / "one", house.models / "vae" / "ae.safetensors", "zimage", ("vae",))
    prints = []
    for name in ("one", "two"):
        small_flow.single_file(tmp_path / name, house.models / "text_encoders" / "q.safetensors", "zimage", ("text_encoder",))
        prints.append(models.fingerprint(models.find("z", house)))
    assert prints[0] != prints[1]


def test_sd3_draws_without_its_largest_text_encoder(house, engine):
    parts = tuple(part for part in small_flow.PREFIXES["sd3"] if part != "text_encoder_3")
    folder, file = house.models / "diffusers" / "large", house.models / "checkpoints" / "no-t5.safetensors"
    small_flow.single_file(folder, file, "sd3", parts)
    heard = Heard()
    engine.run(a_task(model="no-t5"), [], heard, never)
    assert models.find("no-t5", house).family == "sd3" and any("without T5" in p.note for p in heard.all)


def test_a_text_encoder_with_weights_missing_is_refused(house, engine):
    from safetensors.torch import load_file, save_file

    file = house.models / "checkpoints" / "holes.safetensors"
    tensors = load_file(house.models / "checkpoints" / "z-file.safetensors")
    tensors.pop("text_encoders.qwen3_4b.transformer.model.layers.1.mlp.up_proj.weight")
    save_file(tensors, file)
    with pytest.raises(EngineFailed, match="lacks weights of the text encoder.*up_proj"):
        draw(engine, model="holes")
    file.unlink()


@pytest.mark.parametrize("name", ["dev", "medium", "z"])
def test_layers_that_come_one_by_one_draw_the_same_picture(house, name):
    from reverie.engines import _painting, _plan

    model = models.find(name, house)
    float32 = _device.Device("cpu", "cpu", torch.float32, torch.float32, torch.float32)
    shape, seen = _loading.shape_of(model, float32, house.assets), []
    for plan in (_plan.Plan(), _plan.Plan(offload=True, groups=True)):
        loaded = _painting.load(_painting.Wanted(model, shape), float32, house.assets, plan, never)
        ((image, _),) = _painting.paint(loaded, a_task(model=name), [], plan, lambda *told: None, never)
        seen.append(image)
    assert any(hasattr(layer, "_diffusers_hook") for layer in loaded.pipes["txt2img"].transformer.modules())
    assert difference(*seen) < 0.1


def test_a_sampler_of_other_families_is_refused(engine):
    with pytest.raises(BadInput, match="euler"):
        draw(engine, sampler="dpmpp_2m_karras")


@pytest.mark.parametrize("sampler", ["euler", "euler_a", "lcm"])
@pytest.mark.parametrize("name", ["dev", "medium", "z"])
def test_their_own_samplers_draw(engine, name, sampler):
    assert draw(engine, model=name, sampler=sampler).size == (64, 48)


def test_flux_says_that_it_reads_no_negative_prompt_and_z_image_reads_it(engine):
    heard = Heard()
    engine.run(a_task(model="dev", negative="a boat"), [], heard, never)
    assert any("no negative prompt" in p.note for p in heard.all)
    with_it, without = (draw(engine, cfg=4.0, negative=text) for text in ("a blue boat", ""))
    assert difference(with_it, without) > 0


def test_marks_of_weights_are_not_read_as_words(engine):
    assert difference(draw(engine, prompt="a (red:1.3) house"), draw(engine, prompt="a red house")) == 0


def test_a_prompt_longer_than_the_text_encoder_says_so(engine):
    heard = Heard()
    engine.run(a_task(prompt="a red house " * 200), [], heard, never)
    assert any("600 tokens, the model reads the first 510" in p.note for p in heard.all)


def test_the_families_are_told_from_folders_and_files(house):
    found = {model.id: (model.family, model.variant) for model in models.all(house) if model.here}
    assert found["dev"] == ("flux", "") and found["schnell"] == ("flux", "flux-schnell")
    assert found["large"] == ("sd3", "sd3-medium")  # as small as that one
    assert found["medium-file"] == ("sd3", "sd35-medium") and found["z-alone"] == ("zimage", "")


def test_sizes_that_a_family_does_not_make_are_refused_before_anything_is_queued(house):
    with Studio.open(house) as studio:
        with pytest.raises(BadInput, match="divisible by 16, and 72x48 is not. The nearest is 64x48"):
            studio.submit(a_task(model="dev", width=72), studio.session("test"))


def test_the_vae_of_sd3_is_known_by_the_name_under_which_it_is_to_be_kept(house, tmp_path):
    lonely = Settings(root=house.root, storage=tmp_path / "storage")
    folder, parts = house.models / "diffusers" / "large", ("transformer", "text_encoder", "text_encoder_2")
    small_flow.single_file(folder, lonely.models / "checkpoints" / "alone.safetensors", "sd3", parts)
    with pytest.raises(ModelMissing, match=r"no VAE.* as .*sd3_vae\.safetensors") as error:
        models.find("alone", lonely)
    target = lonely.models / error.value.next_step.rstrip(".").split(f"{lonely.models}/")[1]
    target.parent.mkdir(parents=True)
    shutil.copy(folder / "vae" / "diffusion_pytorch_model.safetensors", target)
    found = models.find("alone", lonely)
    assert dict((part, file) for part, file, _ in found.parts)["vae"] == str(target)
    _loading.load(found, DEVICE, house.assets)
