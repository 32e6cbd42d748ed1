"""What makes the engine fast must not change what it computes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from reverie.engines import _device, _lms, _messages, _painting, _plan, _preview, _schedulers, _speed
from reverie.errors import BadInput

import small


def unet_of(family: str) -> tuple[UNet2DConditionModel, dict]:
    config = small.configs(family, small.SMALL[family])["unet"]
    torch.manual_seed(0)
    extra = {}
    if family == "sdxl":
        extra = {"added_cond_kwargs": {"text_embeds": torch.randn(2, 64), "time_ids": torch.randn(2, 6)}}
    return UNet2DConditionModel.from_config(config).eval().requires_grad_(False), extra


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_packed_convolutions_compute_what_the_plain_ones_do_at_every_size(family):
    unet, extra = unet_of(family)
    text = torch.randn(2, 7, unet.config.cross_attention_dim)
    pictures = [torch.randn(2, 4, side, side) for side in (16, 24, 16)]
    layers = [layer for layer in unet.modules() if isinstance(layer, torch.nn.Conv2d)]
    with torch.inference_mode():
        plain = [unet(picture, 10, text, **extra).sample for picture in pictures]
        _speed.pack(unet)
        packed = [unet(picture.contiguous(memory_format=torch.channels_last), 10, text, **extra).sample for picture in pictures]
    assert all((one - other).abs().max() < 1e-4 for one, other in zip(plain, packed))
    assert not any(layer.weight.numel() for layer in layers), "the dense weights are still there"


def test_a_tiled_decoder_works_in_the_tiles_that_the_plan_counts():
    vae = AutoencoderKL.from_config(small.configs("sdxl", small.SMALL["sdxl"])["vae"])
    assert vae.tile_sample_min_size > _plan.TILE  # by itself, a tile is as large as what it was trained on
    _painting._apply(SimpleNamespace(vae=vae), _plan.Plan(vae_tiling=True))
    assert vae.use_tiling and (vae.tile_sample_min_size, vae.tile_latent_min_size) == (_plan.TILE, _plan.TILE // 8)


def test_the_number_format_is_measured_and_can_be_forced():
    assert 0.05 < _device.bf16_gain() < 100
    assert _device.choose("cpu").unet in (torch.float32, torch.bfloat16)
    assert _device.choose("cpu", "float32").unet == torch.float32
    with pytest.raises(BadInput, match="float32"):
        _device.choose("cpu", "float3")
    with pytest.raises(BadInput, match="auto, cpu"):
        _device.choose("cuda:99")


@pytest.mark.parametrize(
    "theirs, ours",
    [
        ("DPM++ 2M Karras", "dpmpp_2m_karras"),
        ("Euler a", "euler_a"),
        ("euler_ancestral", "euler_a"),
        ("UniPC", "unipc"),
        ("DPM++ 2M SDE Karras", "dpmpp_2m_sde_karras"),
        ("DDIM", "ddim"),
        ("", ""),
    ],
)
def test_other_programs_sampler_names_are_understood(theirs, ours):
    assert _schedulers.canonical(theirs) == ours


@pytest.mark.parametrize("name", _schedulers.names())
def test_every_scheduler_keeps_the_models_prediction_type(name):
    own = {**small.SD_SCHEDULE, "prediction_type": "v_prediction"}
    assert _schedulers.build(name, own).config.prediction_type == "v_prediction"


def test_lms_of_order_one_is_euler_and_its_weights_add_up_to_the_step():
    sigmas = [14.6, 9.0, 5.0, 2.0, 0.5, 0.0]
    assert _lms.coefficients(sigmas, 2, 1) == pytest.approx([sigmas[3] - sigmas[2]])
    for order in (2, 3, 4):
        assert sum(_lms.coefficients(sigmas, 3, order)) == pytest.approx(sigmas[4] - sigmas[3])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpmpp_2m"])
def test_the_preview_foresees_the_clean_latents_from_a_true_prediction(prediction, sampler):
    scheduler = _schedulers.build(sampler, {**small.SD_SCHEDULE, "prediction_type": prediction})
    scheduler.set_timesteps(10)
    clean, noise, step = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8), int(scheduler.timesteps[3])
    alpha = scheduler.alphas_cumprod[step]
    noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    output = noise if prediction == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
    given = noisy / alpha.sqrt() if sampler == "euler" else noisy
    assert torch.allclose(_preview.foreseen(scheduler, output, step, given), clean, atol=1e-3)


def test_messages_come_out_as_they_went_in(tmp_path):
    path = tmp_path / "pipe"
    with open(path, "wb") as stream:
        _messages.write(stream, {"type": "picture", "note": "größe"}, b"\x00\xff" * 9, b"")
        _messages.write(stream, {"type": "done"})
    with open(path, "rb") as stream:
        assert _messages.read(stream) == ({"type": "picture", "note": "größe"}, [b"\x00\xff" * 9, b""])
        assert _messages.read(stream) == ({"type": "done"}, [])
        assert _messages.read(stream) is None
    path.write_bytes(path.read_bytes()[:-2])
    with open(path, "rb") as stream:
        _messages.read(stream)
        assert _messages.read(stream) is None
