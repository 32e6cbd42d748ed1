"""Names to models: the catalogue, the storage, paths; families read from headers; fingerprints."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from reverie import models
from reverie.errors import BadInput, ModelMissing
from reverie.settings import Settings


@pytest.fixture
def house(tmp_path) -> Settings:
    settings = Settings(root=tmp_path, storage=tmp_path / "storage")
    (settings.models / "checkpoints").mkdir(parents=True)
    (settings.models / "diffusers").mkdir()
    return settings


def write_tensors(path: Path, *names: str, fill: bytes = b"\0") -> Path:
    """A safetensors file with one float32 number under each name."""
    entries = {n: {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]} for i, n in enumerate(names)}
    head = json.dumps(entries).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(head)) + head + fill * 4 * len(names))
    return path


def write_folder(path: Path, kind: str = "StableDiffusionPipeline", width: int = 768, vae: str = "AutoencoderKL") -> Path:
    for part in ("unet", "vae", "text_encoder"):
        write_tensors(path / part / "model.safetensors", f"{part}.weight")
    (path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    (path / "unet" / "config.json").write_text(json.dumps({"cross_attention_dim": width}))
    (path / "vae" / "config.json").write_text(json.dumps({"_class_name": vae}))
    return path


SD15 = "cond_stage_model.transformer.text_model.embeddings.position_ids"
SDXL = "conditioner.embedders.1.model.ln_final.weight"


def test_a_missing_model_of_the_catalogue_says_from_where_to_where(house):
    with pytest.raises(ModelMissing) as caught:
        models.find("sd15", house)
    said = str(caught.value)
    assert "Run: reverie fetch sd15, or download https://huggingface.co/" in said
    assert str(house.models / "checkpoints") in said and "4.3 GB" in said


def test_an_unknown_name_says_which_models_are_here(house):
    write_folder(house.models / "diffusers" / "mine")
    with pytest.raises(ModelMissing, match="mine"):
        models.find("no-such", house)


def test_the_bundled_model_is_found_in_the_project(house):
    write_folder(house.root / "assets" / "models" / "pocket", width=64, vae="AutoencoderTiny")
    model = models.find("pocket", house)
    assert model.here and (model.width, model.height, model.steps, model.cfg) == (128, 128, 20, 4.0)


@pytest.mark.parametrize("where", ["diffusers/sd15", "diffusers/stable-diffusion-v1-5"])
def test_a_catalogued_model_is_found_as_a_folder(house, where):
    write_folder(house.models / where)
    model = models.find("sd15", house)
    assert model.layout == "folder" and model.path == house.models / where


def test_a_catalogued_model_is_found_as_the_file_its_address_ends_with(house):
    path = write_tensors(house.models / "checkpoints" / "v1-5-pruned-emaonly.safetensors", SD15)
    model = models.find("sd15", house)
    assert model.layout == "file" and model.path == path and model.width == 512


@pytest.mark.parametrize("name", ["mine", "mine.safetensors"])
def test_a_file_of_the_storage_is_found_with_and_without_its_ending(house, name):
    write_tensors(house.models / "checkpoints" / "mine.safetensors", SDXL)
    model = models.find(name, house)
    assert (model.family, model.width, model.layout) == ("sdxl", 1024, "file")


def test_a_path_is_a_name(house, tmp_path):
    folder = write_folder(tmp_path / "elsewhere" / "big", kind="StableDiffusionXLPipeline", width=2048)
    assert models.find(str(folder), house).family == "sdxl"


@pytest.mark.parametrize(
    "width, vae, family", [(768, "AutoencoderKL", "sd15"), (1024, "AutoencoderKL", "sd21"), (64, "AutoencoderTiny", "pocket")]
)
def test_a_folders_family_is_read_from_its_configuration(tmp_path, width, vae, family):
    assert models.inspect(write_folder(tmp_path / "m", width=width, vae=vae)).family == family


@pytest.mark.parametrize("tensor, what", [("unet.lora_up.weight", "a LoRA"), ("double_blocks.0.img", "Flux"), ("x.y", "not a model")])
def test_a_file_of_another_kind_is_refused_by_its_kind(tmp_path, tensor, what):
    with pytest.raises(BadInput, match=what):
        models.inspect(write_tensors(tmp_path / "other.safetensors", tensor))


@pytest.mark.parametrize("ending", sorted(models.PICKLES))
def test_pickles_are_refused_with_the_next_step(house, ending):
    (house.models / "checkpoints" / f"bad{ending}").write_bytes(b"\x80\x04.")
    with pytest.raises(BadInput, match="safetensors"):
        models.find(f"bad{ending}", house)


def test_a_folder_with_pickle_weights_is_refused(house):
    folder = write_folder(house.models / "diffusers" / "old")
    (folder / "unet" / "model.safetensors").rename(folder / "unet" / "model.bin")
    with pytest.raises(BadInput, match="pickle"):
        models.find("old", house)


def test_a_file_cut_short_is_refused(house):
    path = write_tensors(house.models / "checkpoints" / "half.safetensors", SD15, SDXL)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(BadInput, match="did not finish"):
        models.find("half", house)


FLUX = ("double_blocks.0.img_attn.norm.key_norm.scale", "single_blocks.0.linear1.weight", "img_in.weight")
SD3 = "joint_blocks.0.context_block.adaLN_modulation.1.bias"


def of_shape(shape=(0,), place=(0, 0), names=FLUX) -> dict:
    return {name: {"dtype": "F16", "shape": shape, "data_offsets": place} for name in names}


ODD = {
    "a list": [], "a number": 5, "deeply nested": "[" * 200_000, "no shapes": {FLUX[0]: {"dtype": "F16", "data_offsets": [0, 0]}},
    "shapes that are words": of_shape("abc"), "shapes without edges": of_shape([], [0, 2]), "shapes beyond all measure": of_shape([10**9, 10**9]), "shapes below nothing": of_shape([-1, 64]),
    "places before the file": of_shape(place=[-5, -1]), "places that are words": of_shape(place="ab"), "lists for tensors": {FLUX[0]: [1, 2]},
    "words about itself": {"__metadata__": "x", SDXL: of_shape()[FLUX[0]]}, "a block without a number": of_shape(names=(SD3, "joint_blocks.x.y")),
}  # fmt: skip


@pytest.mark.parametrize("header", ODD.values(), ids=ODD)
def test_a_file_whose_header_is_odd_is_refused_and_hides_no_other(house, header):
    head = (header if isinstance(header, str) else json.dumps(header)).encode()
    (house.models / "checkpoints" / "odd.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(2))
    write_tensors(house.models / "checkpoints" / "whole.safetensors", SD15)
    with pytest.raises(BadInput, match="is not a whole"):
        models.find("odd", house)
    assert "whole" in {m.id for m in models.all(house) if m.here}


def test_an_empty_file_is_called_empty(house):
    (house.models / "checkpoints" / "none.safetensors").write_bytes(b"")
    with pytest.raises(BadInput, match="it is empty"):
        models.find("none", house)


@pytest.mark.parametrize("index, transformer, what", [
    ("[]", "{}", "no JSON object"), ('{"_class_name": "FluxPipeline"}', "[" * 100_000, "not valid JSON"),
    ('{"_class_name": "StableDiffusion3Pipeline"}', '{"num_layers": "many"}', "not a whole model"),
])
def test_a_folder_whose_configuration_is_odd_is_refused_and_hides_no_other(house, index, transformer, what):
    folder = house.models / "diffusers" / "odd"
    (folder / "transformer").mkdir(parents=True)
    (folder / "model_index.json").write_text(index)
    (folder / "transformer" / "config.json").write_text(transformer)
    write_tensors(house.models / "checkpoints" / "whole.safetensors", SD15)
    with pytest.raises(BadInput, match=what):
        models.find("odd", house)
    assert "whole" in {m.id for m in models.all(house) if m.here}


def test_a_broken_file_does_not_hide_the_others(house):
    (house.models / "checkpoints" / "broken.safetensors").write_bytes(b"nothing")
    write_tensors(house.models / "checkpoints" / "whole.safetensors", SD15)
    assert "whole" in {m.id for m in models.all(house) if m.here}


def test_all_lists_the_catalogue_first_and_nothing_twice(house):
    write_folder(house.models / "diffusers" / "sd15")
    found = [m.id for m in models.all(house)]
    assert found[0] == "pocket" and len(found) == len(set(found)) and "sdxl-base" in found


def test_the_fingerprint_changes_with_the_weights_and_not_without(house):
    folder = write_folder(house.models / "diffusers" / "mine")
    before = models.fingerprint(models.find("mine", house))
    assert before == models.fingerprint(models.find("mine", house)) and len(before) == 64
    write_tensors(folder / "unet" / "model.safetensors", "unet.weight", fill=b"\1")
    assert models.fingerprint(models.find("mine", house)) != before


def test_the_fingerprint_does_not_depend_on_where_the_model_lies(tmp_path, house):
    one, other = write_folder(tmp_path / "one"), write_folder(tmp_path / "deep" / "two")
    assert models.fingerprint(models.inspect(one)) == models.fingerprint(models.inspect(other))


def test_advice_names_real_models_that_are_not_here_and_why(house):
    advice = models.advise(house)
    assert all(not m.here and m.family != "pocket" and "GB" in m.note for m in advice)


@pytest.mark.parametrize("vram", [0, 4, 8, 16, 48])
def test_a_refiner_which_draws_nothing_alone_is_not_advised(monkeypatch, house, vram):
    monkeypatch.setattr(models, "vram_gb", lambda: vram)
    monkeypatch.setattr(models, "all", lambda settings: [models.Model(id="r", title="r", family="sdxl-refiner", vram_gb=2, ram_gb=1)])
    assert models.advise(house) == []


def test_every_row_of_the_catalogue_is_whole():
    from reverie import settings

    for name, row in settings.config("models")["models"].items():
        model = models.Model(id=name, **{**settings.config("models")["families"][row["family"]], **row})
        assert model.width % 8 == model.height % 8 == 0 and model.licence and model.note, name
        assert model.bundled or model.repo or model.url, name
