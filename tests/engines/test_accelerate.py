"""What the option `accelerate` may change: how long a picture takes, and nothing of the picture beyond rounding."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DConditionModel

from reverie import settings as settings_module
from reverie.engines import _accelerate, _openvino, _speed, open_engine
from reverie.errors import BadInput, Cancelled, OutOfMemory
from reverie.settings import Settings
from reverie.types import Task

import small
from contract import Heard, difference, never

compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler")
openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
CPU = SimpleNamespace(name="cpu", kind="cpu")


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Settings:
    root = tmp_path_factory.mktemp("house")
    settings = Settings(root=root, storage=root / "storage")
    small.small_assets(root)
    fifteen = small.sd15(settings.models / "diffusers" / "fifteen")
    small.lora(fifteen, settings.models / "loras" / "moon.safetensors")
    small.sdxl(settings.models / "diffusers" / "large")
    return settings


@pytest.fixture(scope="module")
def plain(house):
    engine = open_engine("diffusers", house, device="cpu", dtype="float32")
    yield engine
    engine.close()


def a_task(**changes) -> Task:
    values = dict(prompt="a red house at dawn", model="fifteen", width=64, height=64, steps=2, seed=5, sampler="euler")
    return Task(**{**values, **changes})


def draw(engine, **changes):
    """The picture and all notes."""
    heard = Heard()
    picture = engine.run(a_task(**changes), [], heard, never)[0].image
    return picture, [progress.note for progress in heard.all if progress.note]


def a_unet(seed: int = 0) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    return UNet2DConditionModel.from_config(small.configs("sd15", small.SMALL["sd15"])["unet"]).eval().requires_grad_(False)


def test_an_unknown_way_is_one_sentence_that_names_the_others(house):
    with pytest.raises(BadInput, match="compile, openvino"):
        open_engine("diffusers", house, accelerate="warp")
    with pytest.raises(BadInput, match="warp"):
        open_engine("diffusers", replace(house, accelerate="warp"))


def test_the_environment_sets_it_for_every_face(monkeypatch):
    monkeypatch.setenv("REVERIE_ACCELERATE", " Compile ")
    assert settings_module.load().accelerate == "compile"
    monkeypatch.delenv("REVERIE_ACCELERATE")
    assert settings_module.load().accelerate == ""


@pytest.mark.skipif(importlib.util.find_spec("openvino") is not None, reason="openvino is installed")
def test_openvino_missing_is_one_sentence_with_the_command(house):
    with pytest.raises(BadInput) as error:
        open_engine("diffusers", house, accelerate="openvino")
    assert "pip install openvino" in error.value.next_step


def test_what_a_way_cannot_draw_is_drawn_by_torch_with_a_word():
    lora = [{"kind": "lora"}]
    for way in ("compile", "openvino"):
        assert _accelerate.way_for(way, CPU, a_task(), lora) == ("", f"not accelerated by {way}, as LoRAs change the model")
    way, why = _accelerate.way_for("openvino", CPU, a_task(width=72), [])
    assert way == "" and "72x64" in why
    way, why = _accelerate.way_for("openvino", SimpleNamespace(name="cuda:0", kind="cuda"), a_task(), [])
    assert way == "" and "cuda:0" in why
    assert _accelerate.way_for("openvino", CPU, a_task(), []) == ("openvino", "")
    assert _accelerate.way_for("", CPU, a_task(), lora) == ("", "")


def test_without_a_compiler_it_says_so_and_draws_uncompiled(tmp_path):
    code = "from reverie.engines import _accelerate as a; print(a.cannot_compile('cpu')); import sys; sys.exit(0)"
    env = {"PATH": "/nowhere", "CXX": "no-such-compiler", "HOME": str(tmp_path), "PYTHONPATH": str(small.ROOT / "modules"),
           "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300)
    assert "install g++" in done.stdout and done.stdout.count("\n") == 1


@compiler
def test_a_compiled_model_draws_the_same_and_tells_of_its_warm_up_once(house, plain):
    engine = open_engine("diffusers", house, device="cpu", dtype="float32", accelerate="compile")
    try:
        first, notes = draw(engine)
        assert difference(first, draw(plain)[0]) < 1
        assert sum("compiling the model once" in note for note in notes) == 1
        assert sum(bool(re.search(r"prepared: the first step took \d+\.\d s", note)) for note in notes) == 1
        wide, notes = draw(engine, width=128)
        assert difference(wide, draw(plain, width=128)[0]) < 1
        assert not any("compiling" in note or "prepared" in note for note in notes)
        worn, notes = draw(engine, loras=[("moon", 1.0)])
        assert difference(worn, draw(plain, loras=[("moon", 1.0)])[0]) == 0
        assert difference(worn, first) > 0 and any("as LoRAs change the model" in note for note in notes)
        assert difference(draw(engine)[0], first) == 0
    finally:
        engine.close()


@compiler
def test_compiled_blocks_take_new_sizes_without_end_and_keep_packing_and_hooks():
    unet, plain = a_unet(), a_unet()
    _speed.pack(unet)
    _accelerate.compile_blocks(unet)
    text = torch.randn(2, 77, unet.config.cross_attention_dim)
    made, called = [], []
    unet.mid_block.register_forward_pre_hook(lambda *_: called.append(1))
    with torch.inference_mode():
        for height, width in ((16, 16), (16, 24), (24, 16), (32, 16), (40, 24)):
            sample = torch.randn(2, 4, height, width)
            given = sample.contiguous(memory_format=torch.channels_last), 10, text
            assert (unet(*given).sample - plain(sample, 10, text).sample).abs().max() < 1e-4
            made.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert 0 < made[0] and made[1] == made[-1] <= _accelerate.MAX_VARIANTS
    assert len(called) == 5 and not unet.conv_in.weight.numel(), "hooks or packing are gone"


@compiler
def test_a_model_that_was_compiled_before_another_one_warms_up_again_and_says_so():
    first, second = a_unet(), a_unet(1)
    warming = _accelerate.compile_blocks(first)
    with torch.inference_mode():
        first(torch.randn(2, 4, 16, 16), 10, torch.randn(2, 77, first.config.cross_attention_dim))
    assert not warming.first_note(2, 16, 16) and warming.step_note()
    _accelerate.compile_blocks(second)
    assert "compiling the model once" in warming.first_note(2, 16, 16)


def test_a_model_that_is_too_large_to_convert_is_refused_before_it_is_tried():
    with pytest.raises(OutOfMemory, match="GB are free") as error:
        _openvino.check_room(a_unet(), free=1 << 20)
    assert "REVERIE_ACCELERATE" in error.value.next_step
    _openvino.check_room(a_unet(), free=1 << 33)


@openvino
@pytest.mark.parametrize("model", ["fifteen", "large"])
def test_openvino_draws_the_same_converts_once_and_steps_aside_for_loras_and_odd_sizes(house, plain, model):
    engine = open_engine("diffusers", house, device="cpu", dtype="float32", accelerate="openvino")
    try:
        first, notes = draw(engine, model=model)
        assert difference(first, draw(plain, model=model)[0]) < 1
        assert any("converting it for OpenVINO" in note for note in notes) and any("prepared" in note for note in notes)
        for changes in (dict(width=128), dict(count=2), dict(width=72), dict(cfg=1.0)):
            assert difference(draw(engine, model=model, **changes)[0], draw(plain, model=model, **changes)[0]) < 1
        if model == "fifteen":
            worn, notes = draw(engine, loras=[("moon", 1.0)])
            assert difference(worn, draw(plain, loras=[("moon", 1.0)])[0]) == 0
        again, notes = draw(engine, model=model)
        assert difference(again, first) == 0 and not any("converting" in note for note in notes)
    finally:
        engine.close()


@openvino
def test_the_converted_models_are_few_and_a_step_is_left_when_cancelled(tmp_path):
    cancelled = [False]
    for number in range(_openvino.KEPT_MODELS + 1):
        (tmp_path / "openvino" / f"old-{number}").mkdir(parents=True)
    shell = _openvino.shell(a_unet(), torch.float32, "f" * 64, tmp_path, lambda: cancelled[0])
    assert len(list((tmp_path / "openvino").iterdir())) == _openvino.KEPT_MODELS
    given = torch.randn(2, 4, 128, 128), torch.tensor(5), torch.randn(2, 77, shell.config.cross_attention_dim)
    small_ones = torch.randn(2, 4, 8, 8), *given[1:]
    assert (shell(*small_ones)[0] - a_unet()(*small_ones).sample).abs().max() < 1e-3
    cancelled[0] = True
    with pytest.raises(Cancelled):
        shell(*given)
    cancelled[0] = False
    assert shell(*given)[0].isfinite().all(), "the model is usable again"


@openvino
def test_openvino_comes_without_its_telemetry():
    code = "from reverie.engines import _openvino; _openvino._library(); import openvino.tools.ovc.telemetry_utils as t; print(t.tm.__name__)"
    done = subprocess.run([sys.executable, "-c", code], env=settings_module.child_environment(), capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().endswith("telemetry_stub"), done.stderr[-500:]
