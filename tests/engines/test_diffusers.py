"""The diffusers engine on small models of the real architectures: SD1.5, SDXL, and the embedded model's layout."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from reverie import models
from reverie.engines import _device, _loading, _painting, _plan, _schedulers, open_engine
from reverie.errors import BadInput, Cancelled, EngineFailed, OutOfMemory, WorkerDied
from reverie.settings import Settings
from reverie.types import Task

import small
from contract import EngineContract, Heard, difference, never

QUIET = lambda progress: None


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Settings:
    """An installation whose configurations are small, with one small model of each kind in its storage."""
    root = tmp_path_factory.mktemp("house")
    settings = Settings(root=root, storage=root / "storage")
    small.small_assets(root)
    folders = settings.models / "diffusers"
    small.pocket(folders / "sketch")
    small.sd15(folders / "fifteen")
    small.sdxl(folders / "large")
    small.sd21(folders / "turbo")
    small.refiner(folders / "refiner")
    files = settings.models / "checkpoints"
    files.mkdir(parents=True)
    small.single_file(folders / "fifteen", files / "fifteen-file.safetensors")
    small.single_file(folders / "large", files / "large-file.safetensors")
    small.single_file(folders / "turbo", files / "turbo-file.safetensors")
    small.single_file(folders / "refiner", files / "refiner-file.safetensors")
    return settings


@pytest.fixture(scope="module")
def engine(house):
    engine = open_engine("diffusers", house, device="cpu")
    yield engine
    engine.close()


def a_task(**changes) -> Task:
    values = dict(prompt="a red house at dawn", model="sketch", width=64, height=64, steps=4, seed=5, sampler="euler")
    return Task(**{**values, **changes})


class TestDiffusersEngine(EngineContract):
    @pytest.fixture
    def engine(self, engine):
        return engine

    @pytest.fixture
    def task(self):
        return a_task()


@pytest.mark.parametrize("name", ["fifteen", "large", "turbo", "fifteen-file", "large-file", "turbo-file"])
def test_each_family_and_layout_draws(engine, name):
    pictures = engine.run(a_task(model=name, width=64, height=96, steps=2, count=2), [], QUIET, never)
    assert [p.image.size for p in pictures] == [(64, 96)] * 2
    assert difference(pictures[0].image, pictures[1].image) > 1


@pytest.mark.parametrize("folder, file", [("fifteen", "fifteen-file"), ("large", "large-file"), ("turbo", "turbo-file")])
def test_a_single_file_draws_what_its_folder_draws(engine, folder, file):
    (one,) = engine.run(a_task(model=folder), [], QUIET, never)
    (other,) = engine.run(a_task(model=file), [], QUIET, never)
    assert difference(one.image, other.image) < 2


@pytest.mark.parametrize("name", ["fifteen", "large", "turbo", "refiner", "refiner-file"])
def test_image_to_image_and_inpaint_of_each_family(engine, name, tmp_path):
    start, mask = tmp_path / "start.png", tmp_path / "mask.png"
    Image.new("RGB", (80, 60), (200, 40, 40)).save(start)
    Image.new("L", (64, 64), 0).save(mask)
    (changed,) = engine.run(a_task(model=name, kind="img2img", denoise=0.5), [start], QUIET, never)
    (kept,) = engine.run(a_task(model=name, kind="inpaint", denoise=1.0), [start, mask], QUIET, never)
    assert changed.image.size == kept.image.size == (64, 64)


@pytest.mark.parametrize("name", ["fifteen", "large"])
@pytest.mark.parametrize("kind, denoise", [("img2img", 0.5), ("inpaint", 0.8), ("inpaint", 1.0)])
def test_several_pictures_from_one_start_picture_are_those_of_their_seeds(engine, name, kind, denoise, tmp_path):
    start, mask = tmp_path / "start.png", tmp_path / "mask.png"
    Image.effect_noise((64, 64), 80).convert("RGB").save(start)
    Image.new("L", (64, 64), 255).save(mask)
    task = a_task(model=name, kind=kind, denoise=denoise, count=2)
    together = engine.run(task, [start, mask], QUIET, never)
    alone = [engine.run(task.one(index), [start, mask], QUIET, never)[0] for index in range(2)]
    assert all(difference(one.image, other.image) < 1.5 for one, other in zip(together, alone, strict=True))
    assert difference(together[0].image, together[1].image) > 1


def test_a_refiner_draws_the_last_steps(engine):
    heard = Heard()
    how = dict(model="large", steps=5, cfg=4.0)
    plain, refined, again, more = (
        engine.run(a_task(**how, **by), [], heard, never)[0].image
        for by in ({}, dict(refiner="refiner", refine=0.2), dict(refiner="refiner-file", refine=0.2), dict(refiner="refiner", refine=0.6))
    )
    assert any("the last 20% by refiner" in p.note for p in heard.all)
    assert difference(plain, refined) > 0.1 and difference(refined, more) > 0.1 and difference(refined, again) < 0.1
    assert difference(plain, engine.run(a_task(**how), [], QUIET, never)[0].image) == 0


def test_of_a_start_picture_as_well_a_refiner_draws_its_share_of_the_steps_that_are_run(engine, tmp_path):
    heard, start = Heard(), tmp_path / "start.png"
    Image.new("RGB", (64, 64), (20, 40, 140)).save(start)
    task = a_task(model="large", kind="img2img", steps=10, denoise=0.2, refiner="refiner", refine=0.5)
    engine.run(task, [start], heard, never)
    assert len(heard.steps) == 2 + 1  # two steps and the decoding
    with pytest.raises(BadInput, match="one step"):
        engine.run(task.model_copy(update={"denoise": 0.1}), [start], QUIET, never)


def test_a_refiner_saves_memory_as_its_model_does(house):
    large, refiner = (models.find(name, house) for name in ("large", "refiner"))
    cpu = _device.choose("cpu", "float32")
    shape = _loading.shape_of(large, cpu, house.assets)
    loaded = _painting.load(_painting.Wanted(large, shape, refiner=refiner), cpu, house.assets, _plan.Plan(), never)
    task = a_task(model="large", refiner="refiner", refine=0.5)
    list(_painting.paint(loaded, task, [], _plan.Plan(attention_slicing=True), lambda *told: None, never))
    for each in (loaded, loaded.refiner):
        kinds = {type(part.processor).__name__ for part in each.pipes["txt2img"].unet.modules() if hasattr(part, "processor")}
        assert kinds == {"SlicedAttnProcessor"}


def test_a_refiner_draws_one_step_at_least_and_says_so(engine):
    heard = Heard()
    engine.run(a_task(model="large", steps=4, refiner="refiner", refine=0.001), [], heard, never)
    assert any("the last 25% by refiner" in p.note for p in heard.all)


def test_progress_with_a_refiner_rises_to_the_end(engine):
    heard = Heard()
    engine.run(a_task(model="large", steps=5, count=2, refiner="refiner", refine=0.4), [], heard, never)
    fractions = [p.fraction for p in heard.all]
    assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(1.0) and len(set(fractions)) >= 6


@pytest.mark.parametrize("task, match", [
    (dict(model="fifteen", refiner="refiner", refine=0.2), "only SDXL is refined"),
    (dict(model="large", refiner="fifteen", refine=0.2), "only SDXL is refined"),
    (dict(model="large", refiner="refiner", refine=0.2, steps=1), "one step"),
    (dict(model="refiner"), "goes over pictures"),
])  # fmt: skip
def test_a_refiner_where_it_does_not_belong_is_refused(engine, task, match):
    with pytest.raises(BadInput, match=match):
        engine.run(a_task(**task), [], QUIET, never)


def test_denoise_so_low_that_no_step_is_left_still_makes_a_picture(engine, tmp_path):
    start = tmp_path / "start.png"
    Image.new("RGB", (64, 64), (20, 40, 140)).save(start)
    assert engine.run(a_task(kind="img2img", denoise=0.01), [start], QUIET, never)


def test_image_to_image_without_a_picture_is_refused(engine):
    with pytest.raises(BadInput, match="start picture"):
        engine.run(a_task(kind="img2img"), [], QUIET, never)


def test_a_broken_start_picture_is_refused(engine, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n not really")
    with pytest.raises(BadInput, match="not a picture that can be read"):
        engine.run(a_task(kind="img2img"), [tmp_path / "broken.png"], QUIET, never)


def test_a_kind_it_cannot_do_is_refused(engine):
    with pytest.raises(BadInput, match="txt2img"):
        engine.run(a_task(kind="upscale"), [], QUIET, never)


def test_guidance_of_one_leaves_the_negative_prompt_out(engine):
    plain, negative = (
        engine.run(a_task(cfg=1.0, negative=text), [], QUIET, never)[0].image for text in ("", "a blue boat")
    )
    assert difference(plain, negative) == 0


@pytest.mark.parametrize("sampler", _schedulers.names())
def test_every_sampler_in_the_table_draws(engine, sampler):
    assert engine.run(a_task(sampler=sampler, steps=4, width=32, height=32), [], QUIET, never)


@pytest.mark.parametrize("sampler", ["euler_a", "dpmpp_2m_sde", "lcm"])
def test_a_sampler_that_adds_noise_takes_it_from_the_seed(engine, sampler):
    one, same = (engine.run(a_task(sampler=sampler), [], QUIET, never)[0].image for _ in range(2))
    _, second = engine.run(a_task(sampler=sampler, seed=4, count=2), [], QUIET, never)
    assert difference(one, same) == 0 and difference(one, second.image) < 1.5


def test_a_worker_killed_in_the_middle_says_so_and_the_next_run_works(engine):
    engine.run(a_task(), [], QUIET, never)
    pid = engine.pid

    def kill(progress):
        if progress.fraction > 0:
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(WorkerDied, match="SIGKILL.*out of memory"):
        engine.run(a_task(steps=30), [], kill, never)
    assert engine.run(a_task(), [], QUIET, never)
    assert engine.pid != pid


def test_the_worker_ends_when_the_engine_closes(engine):
    engine.run(a_task(), [], QUIET, never)
    pid = engine.pid
    engine.close()
    assert engine.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_failing_listener_does_not_leave_the_job_running(engine):
    def fail(progress):
        raise RuntimeError("the listener failed")

    with pytest.raises(RuntimeError, match="listener"):
        engine.run(a_task(steps=1000, count=50), [], fail, never)
    begun = time.monotonic()
    engine.run(a_task(), [], QUIET, never)
    assert time.monotonic() - begun < 60  # the whole job takes several minutes


def test_two_threads_share_one_engine_and_each_gets_its_own_picture(engine):
    seeds, found = [3, 4], {}
    alone = {seed: engine.run(a_task(seed=seed), [], QUIET, never)[0].image for seed in seeds}

    def work(seed):
        found[seed] = engine.run(a_task(seed=seed), [], QUIET, never)[0].image

    threads = [threading.Thread(target=work, args=(seed,)) for seed in seeds]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(difference(found[seed], alone[seed]) == 0 for seed in seeds)


def test_a_size_beyond_memory_is_refused_before_loading_and_names_one_that_fits(house):
    engine = open_engine("diffusers", house, device="cpu", memory_gb=1.0)
    heard = Heard()
    with pytest.raises(OutOfMemory, match=r"The largest that fits now is \d+x\d+"):
        engine.run(a_task(model="fifteen", width=16384, height=16384), [], heard, never)
    assert not any("loading" in p.note for p in heard.all)
    engine.close()


def test_running_out_of_memory_in_the_middle_ends_the_job_and_not_the_worker(house, tmp_path):
    engine = open_engine("diffusers", house, device="cpu", memory_gb=64, hard_limit_gb=2.0)
    engine.run(a_task(), [], QUIET, never)
    pid = engine.pid
    start = tmp_path / "start.png"
    Image.new("RGB", (64, 64)).save(start)
    with pytest.raises(OutOfMemory, match="smaller"):  # encoding the start picture takes several GB at once
        engine.run(a_task(model="fifteen", kind="img2img", width=4096, height=4096, steps=1), [start], QUIET, never)
    assert engine.run(a_task(), [], QUIET, never)
    assert engine.pid == pid
    engine.close()


def test_a_folder_with_broken_weights_is_an_engine_failure_with_its_path(engine, house):
    broken = house.models / "diffusers" / "broken"
    shutil.copytree(house.models / "diffusers" / "sketch", broken)
    (broken / "unet" / "config.json").write_text('{"_class_name": "UNet2DConditionModel", "in_channels": 3}')
    with pytest.raises(EngineFailed, match="broken"):
        engine.run(a_task(model="broken"), [], QUIET, never)
    shutil.rmtree(broken)


def test_cancel_is_heard_while_a_step_is_still_running(engine):
    begun = time.monotonic()
    asked = []

    def cancelled():
        asked.append(time.monotonic())
        return len(asked) > 3

    with pytest.raises(Cancelled):
        engine.run(a_task(steps=1000, count=50), [], QUIET, cancelled)
    assert time.monotonic() - begun < 60  # the whole job takes several minutes


def test_bf16_draws_nearly_what_float32_draws(house):
    pictures = []
    for dtype in ("float32", "bfloat16"):
        engine = open_engine("diffusers", house, device="cpu", dtype=dtype)
        pictures.append(engine.run(a_task(steps=6), [], QUIET, never)[0].image)
        engine.close()
    assert difference(*pictures) < 6


def test_a_long_prompt_says_how_much_of_it_is_read(engine):
    heard = Heard()
    engine.run(a_task(prompt="a red house " * 40), [], heard, never)
    assert any("tokens" in p.note for p in heard.all)


def test_the_worker_writes_nothing_of_libraries_into_the_pipe_but_into_its_log(engine, house):
    engine.run(a_task(), [], QUIET, never)
    assert engine.log_file.is_file() and Path(house.storage) in engine.log_file.parents


def test_models_in_the_house_have_their_families(house):
    families = {m.id: m.family for m in models.all(house) if m.here}
    assert families == {
        "sketch": "pocket",
        "fifteen": "sd15",
        "large": "sdxl",
        "fifteen-file": "sd15",
        "large-file": "sdxl",
        "turbo": "sd21",
        "turbo-file": "sd21",
        "refiner": "sdxl-refiner",
        "refiner-file": "sdxl-refiner",
    }
