"""Previews by a tiny autoencoder: found beside the models, in both layouts, and never worth a failed picture."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image

import small
from contract import Heard, difference, never

from reverie import models
from reverie.engines import _device, _preview, open_engine
from reverie.families import FAMILIES
from reverie.settings import Settings
from reverie.types import Task

CPU = _device.Device("cpu", "cpu", torch.float32, torch.float32, torch.float32)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny autoencoder of the real shape with random weights, as a folder."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny") / "taesd"
    AutoencoderTiny(latent_channels=4).save_pretrained(folder)
    return folder


def as_file(folder, target):
    """Its decoder in the names that ComfyUI's files have."""
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "diffusion_pytorch_model.safetensors")
    layers = {name.removeprefix("decoder.layers."): tensor for name, tensor in state.items() if name.startswith("decoder.")}
    split = [(name.split(".", 1), tensor) for name, tensor in layers.items()]
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file({f"{int(number) + 1}.{rest}": tensor.contiguous() for (number, rest), tensor in split}, target)
    return target


def test_a_decoders_file_shows_what_the_folder_shows(tiny, tmp_path):
    latent = torch.randn(1, 4, 16, 16)
    seen = []
    for path in (tiny, as_file(tiny, tmp_path / "taesd_decoder.safetensors")):
        previewer = _preview.Previewer("sd15", 4, None, _preview.load_tiny(path, 4, CPU))
        seen.append(previewer._pixels(latent))
    assert torch.allclose(*seen) and seen[0].shape == (3, 128, 128)


def test_large_latents_are_made_small_first(tiny):
    previewer = _preview.Previewer("sd15", 4, None, _preview.load_tiny(tiny, 4, CPU))
    assert previewer._pixels(torch.randn(1, 4, 192, 96)).shape == (3, 384, 192)


def test_a_broken_or_a_foreign_one_is_left_out(tiny, tmp_path):
    (tmp_path / "taesd_decoder.safetensors").write_bytes(b"nothing")
    assert _preview.load_tiny(tmp_path / "taesd_decoder.safetensors", 4, CPU) is None
    assert _preview.load_tiny(tiny, 16, CPU) is None and _preview.load_tiny(None, 4, CPU) is None


@pytest.mark.parametrize("family", [name for name, row in FAMILIES.items() if row.tiny])
def test_each_family_finds_its_own(family, tmp_path):
    house, model = Settings(root=tmp_path, storage=tmp_path / "storage"), models.Model(id="m", title="m", family=family)
    assert models.tiny_vae(model, house) is None
    file = house.models / "vae_approx" / f"{FAMILIES[family].tiny}_decoder.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    assert models.tiny_vae(model, house) == file


def test_the_engine_shows_previews_by_it_and_draws_the_same_picture(tiny, tmp_path):
    house = Settings(root=tmp_path, storage=tmp_path / "storage")
    small.small_assets(house.root)
    small.sd15(house.models / "diffusers" / "fifteen")
    seen = {}
    for name in ("without", "with"):
        if name == "with":
            (house.models / "vae_approx").mkdir()
            (house.models / "vae_approx" / "taesd").symlink_to(tiny)
        engine, heard = open_engine("diffusers", house, device="cpu", dtype="float32"), Heard()
        task = Task(prompt="a house", model="fifteen", width=64, height=64, steps=3, sampler="euler", seed=1)
        picture = engine.run(task, [], heard, never)[0].image
        engine.close()
        seen[name] = picture, Image.open(io.BytesIO(next(p.preview for p in heard.all if p.preview)))
    assert difference(seen["without"][0], seen["with"][0]) == 0
    assert difference(seen["without"][1], seen["with"][1]) > 2
