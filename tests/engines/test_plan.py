"""The memory plan is arithmetic: every mode, and what it says when nothing fits."""

from __future__ import annotations

import pytest

from reverie.engines import _plan
from reverie.errors import OutOfMemory

GIB = _plan.GIB
SD15 = _plan.Shape(weights=2 * GIB, largest=int(1.6 * GIB), vae_channels=256)


def plan(free_gb: float, **changes) -> _plan.Plan:
    values = dict(kind="cuda", width=512, height=512, count=1, loaded=False)
    return _plan.plan(SD15, free=int(free_gb * GIB), **{**values, **changes})


def test_with_much_memory_nothing_is_saved():
    found = plan(24)
    assert not (found.offload or found.vae_tiling or found.attention_slicing)
    assert "no memory saving" in found.note


def test_with_less_the_decoder_is_tiled_before_the_model_is_offloaded():
    modes = [plan(gb, width=1024, height=1024) for gb in (24, 7, 4)]
    assert [m.vae_tiling for m in modes] == [False, True, True]
    assert modes[-1].offload or not modes[1].offload


def test_a_card_smaller_than_model_and_work_offloads():
    assert plan(3.5).offload


def test_offloading_frees_the_weights_of_a_loaded_model():
    first = plan(3.5)
    later = plan(3.5 - 2, loaded=True)
    assert first.offload and later.offload


def test_a_processor_never_offloads():
    assert not plan(4.5, kind="cpu").offload


def test_a_loaded_model_is_not_counted_twice():
    assert plan(3.0, kind="cpu", loaded=True).needs < plan(8, kind="cpu").needs


def test_what_cannot_fit_is_refused_with_the_largest_size_that_does():
    with pytest.raises(OutOfMemory) as caught:
        plan(4, kind="cpu", width=8192, height=4096)
    width, height = (int(n) for n in caught.value.next_step.split(" is ")[1].split(";")[0].split("x"))
    assert width == pytest.approx(2 * height, rel=0.15)
    assert plan(4, kind="cpu", width=width, height=height)


def test_a_model_larger_than_the_memory_says_so():
    with pytest.raises(OutOfMemory, match="smaller model"):
        plan(1.5, kind="cpu")


def test_a_batch_is_never_larger_than_asked_or_than_fits():
    assert plan(24, count=3).batch == 3
    assert plan(24, count=1000, batch=0).batch < 1000
    assert plan(24, count=8, batch=2).batch == 2


@pytest.mark.parametrize("free", [3.5, 4, 6, 10, 40])
def test_the_note_is_one_line(free):
    note = plan(free, count=4).note
    assert note and "\n" not in note


# SDXL in half precision, its VAE in bf16: 2.57 billion numbers in the UNet, 0.82 in the text encoders, 0.08 in the VAE.
SDXL = _plan.Shape(weights=int(3.47e9 * 2), largest=int(2.57e9 * 2), vae_channels=256, vae_item=2, attends=False)


def sdxl(free_gb: float, **changes) -> _plan.Plan:
    values = dict(kind="cuda", width=1344, height=768, count=1, loaded=False)
    return _plan.plan(SDXL, free=int(free_gb * GIB), **{**values, **changes})


@pytest.mark.parametrize("free, offload, tiling", [(24, False, False), (9.3, False, False), (8, False, True), (7, True, True), (6, True, True)])
def test_a_wide_sdxl_picture_saves_no_more_than_it_must(free, offload, tiling):
    found = sdxl(free)
    assert (found.offload, found.vae_tiling, found.attention_slicing) == (offload, tiling, False)


def test_sdxl_stays_within_a_card_of_ten_gigabytes_and_within_nine():
    assert sdxl(9.3).needs < 9 * GIB and sdxl(9.3, count=16).needs < 9.3 * GIB
    assert sdxl(8).needs < 8 * GIB and sdxl(6).needs < 6 * GIB


def test_a_card_too_small_for_sdxls_largest_part_is_told_so():
    with pytest.raises(OutOfMemory, match="smaller model"):
        sdxl(4)


# Flux in bfloat16: 12 billion numbers in the transformer, 4.8 in T5; its largest matrix is a single block's first.
FLUX = _plan.Shape(
    weights=int(33.5e9), largest=int(23.8e9), leaf=21504 * 3072 * 2, channels=3072, patch=2, vae_channels=256, vae_item=2, attends=True
)


@pytest.mark.parametrize("free_gb, offload, groups", [(45, False, False), (28, True, False), (16, True, True), (6, True, True)])
def test_flux_goes_layer_by_layer_onto_a_card_that_cannot_hold_its_transformer(free_gb, offload, groups):
    found = _plan.plan(FLUX, free=free_gb * GIB, kind="cuda", width=1024, height=1024, count=1, loaded=False)
    assert (found.offload, found.groups) == (offload, groups) and found.needs < free_gb * GIB
    assert ("layer by layer" in found.note) == groups


def test_a_transformer_needs_a_quarter_of_the_places_of_a_unet_of_its_width():
    unet = _plan.Shape(weights=0, largest=0, channels=3072, attends=True)
    assert _plan.unet_bytes(FLUX, 1024, 1024) * 4 == _plan.unet_bytes(unet, 1024, 1024)
