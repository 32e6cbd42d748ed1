"""A worker keeps models that it has loaded, as far as it may: nothing is loaded twice that fits, and nothing stays on them."""

from __future__ import annotations

import io
import shutil
import weakref
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

from reverie import models, settings  # noqa: E402
from reverie.engines import _additions, _cache, _device, _loading, _messages, _painting, _plan, open_engine, worker  # noqa: E402
from reverie.errors import BadInput, OutOfMemory  # noqa: E402
from reverie.settings import Settings  # noqa: E402
from reverie.types import Task  # noqa: E402

import small  # noqa: E402
from contract import Heard, difference, never  # noqa: E402

GIB = _plan.GIB


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Settings:
    root = tmp_path_factory.mktemp("house")
    settings = Settings(root=root, storage=root / "storage")
    folders, loras = settings.models / "diffusers", settings.models / "loras"
    for seed, name in enumerate("abc"):
        small.sd15(folders / name, seed=seed)
    small.lora(folders / "a", loras / "moon.safetensors", seed=1)
    small.lora(folders / "a", loras / "later" / "sun.safetensors", seed=2)
    shutil.copytree(folders / "b" / "vae", settings.models / "vae" / "soft")
    return settings


@pytest.fixture
def opened(house):
    engines = []

    def opened(**options):
        engines.append(open_engine("diffusers", house, device="cpu", dtype="float32", **options))
        return engines[-1]

    yield opened
    for engine in engines:
        engine.close()


def draw(engine, model, **changes):
    """The picture, and whether the model was loaded for it."""
    heard = Heard()
    task = Task(**{**dict(prompt="a red house", model=model, width=32, height=32, steps=2, seed=5, sampler="euler"), **changes})
    (picture,) = engine.run(task, [], heard, never)
    return picture.image, any(p.note.startswith("loading") for p in heard.all)


def loads(engine, names, **changes) -> list[bool]:
    return [draw(engine, name, **changes)[1] for name in names]


def held(engine) -> list[str]:
    return engine.capabilities()["loaded"][0]


def shape_of(house, name) -> _plan.Shape:
    return _loading.shape_of(models.find(name, house), _device.choose("cpu", "float32"), house.assets)


def needs(house, name, size=32) -> int:
    """Bytes that a picture on a model needs with nothing in memory, and so few over that no other model fits beside it."""
    shape = shape_of(house, name)
    plan = _plan.plan(shape, free=64 * GIB, kind="cpu", width=size, height=size, count=1, loaded=False)
    return plan.needs + _plan.RESERVE + 1000


def test_a_model_that_was_used_before_is_not_loaded_again(opened):
    engine = opened()
    assert loads(engine, "abab") == [True, True, False, False]
    assert held(engine) == ["a", "b"]


def test_a_third_model_takes_the_place_of_the_least_recently_used_and_says_so(opened, house):
    engine = opened(cache_gb=1.5 * shape_of(house, "a").weights / GIB)
    assert loads(engine, "abab") == [True, True, False, False]
    heard = Heard()
    engine.run(Task(prompt="a", model="c", width=32, height=32, steps=2), [], heard, never)
    assert any(p.note.startswith("a made room for") for p in heard.all) and held(engine) == ["b", "c"]
    assert loads(engine, "bca") == [False, False, True] and held(engine) == ["c", "a"]


def test_no_room_for_others_keeps_the_one_in_use(opened, house):
    engine = opened(cache_gb=0)
    assert loads(engine, "aabb") == [True, False, True, False] and held(engine) == ["b"]


def test_a_picture_that_needs_the_memory_of_kept_models_gets_it(opened, house):
    engine = opened(memory_gb=(needs(house, "b") + shape_of(house, "a").weights) / GIB)
    assert loads(engine, "ab") == [True, True] and held(engine) == ["a", "b"]
    large = (needs(house, "b", 256)) / GIB
    engine = opened(memory_gb=large)
    assert loads(engine, "ab") == [True, True] and held(engine) == ["a", "b"]
    assert draw(engine, "b", width=256, height=256)[1] is False and held(engine) == ["b"]
    with pytest.raises(OutOfMemory):
        draw(engine, "b", width=4096, height=4096)


def test_a_lora_is_counted_once_and_another_vae_as_the_one_whose_place_it_takes(opened, house):
    lora = _additions.bytes_of([{"kind": "lora", "path": house.models / "loras" / "moon.safetensors"}], _device.choose("cpu", "float32"))
    assert lora > 2000
    engine = opened(memory_gb=(needs(house, "a") + lora) / GIB)
    assert loads(engine, "aaa", loras=[("moon", 1.0)]) == [True, False, False]
    assert loads(engine, "aaa", loras=[("sun", 1.0)]) == [False, False, False]
    engine = opened(memory_gb=needs(house, "a") / GIB)
    assert loads(engine, "aa", vae="soft") == [True, False]
    with pytest.raises(OutOfMemory):
        draw(engine, "a", loras=[("moon", 1.0)])


def test_a_lora_that_changed_leaves_no_trace_on_a_model_that_was_kept(opened, house):
    engine, moon = opened(), house.models / "loras" / "moon.safetensors"
    before = draw(engine, "a")[0]
    first = draw(engine, "a", loras=[("moon", 1.0)])[0]
    expected = draw(engine, "a", loras=[("sun", 1.0)])[0]
    draw(engine, "b")
    kept = moon.read_bytes()
    moon.write_bytes((house.models / "loras" / "later" / "sun.safetensors").read_bytes())
    try:
        picture, loaded = draw(engine, "a", loras=[("moon", 1.0)])
    finally:
        moon.write_bytes(kept)
    assert not loaded and difference(picture, expected) == 0 and difference(picture, first) > 0.5
    draw(engine, "b")
    picture, loaded = draw(engine, "a")
    assert not loaded and difference(picture, before) == 0


def load_here(house):
    """Model a with a LoRA on it, in this process."""
    cpu, model = _device.choose("cpu", "float32"), models.find("a", house)
    found = _painting.load(_painting.Wanted(model, shape_of(house, "a")), cpu, house.assets, _plan.Plan(), lambda: False)
    _additions.put_on(found, [{"kind": "lora", "name": "moon", "path": house.models / "loras" / "moon.safetensors", "fingerprint": "", "weight": 1.0}])
    return found


def paint(loaded, kind="txt2img", inputs=()):
    task = Task(prompt="a red house", model="a", kind=kind, width=32, height=32, steps=2, seed=5, sampler="euler")
    return list(_painting.paint(loaded, task, list(inputs), _plan.Plan(), lambda *_: None, lambda: False))[0][0]


def test_a_model_that_was_moved_about_draws_what_it_drew(house, tmp_path):
    loaded = load_here(house)
    memory, start = _cache.Memory(loaded.device), tmp_path / "start.png"
    drawn = paint(loaded)
    drawn.save(start)
    changed = paint(loaded, "img2img", [start])
    for where in ("main", "device", "offload", "main", "offload", "device"):
        memory.move(loaded, where)
        assert loaded.offloaded == (where == "offload" or where == "main" and loaded.offloaded)
        assert difference(paint(loaded), drawn) == difference(paint(loaded, "img2img", [start]), changed) == 0
    _additions.put_on(loaded, [])
    assert difference(paint(loaded), drawn) > 0.5


def test_a_model_that_goes_leaves_the_memory(house):
    loaded = load_here(house)
    paint(loaded)
    cache, gone = _cache.Cache(_cache.Memory(loaded.device)), weakref.ref(loaded.pipes["txt2img"].unet)
    cache.put("a", _cache.Held(loaded, "a", 1000))
    del loaded
    assert gone() is not None
    assert cache.drop("a") == "a"
    assert gone() is None


def test_workers_on_a_processor_let_go_for_each_other_what_they_do_not_use(house):
    engine = open_engine("diffusers", house, device="cpu,cpu", dtype="float32", memory_gb=needs(house, "b") / GIB)
    try:
        draw(engine, "a"), draw(engine, "b")
        assert sorted(engine.capabilities()["loaded"]) == [["a"], ["b"]]
        with pytest.raises(OutOfMemory):
            draw(engine, "b", width=4096, height=4096)
        assert sorted(map(len, engine.capabilities()["loaded"])) in ([0, 0], [0, 1])
        assert draw(engine, "a")[0] and draw(engine, "b")[0]
    finally:
        engine.close()


def test_a_worker_remembers_no_cancelling_of_what_has_ended():
    small_worker = worker.Worker(io.BytesIO(), {})
    small_worker.cancel(3)
    small_worker.do({"op": "run", "id": 3})
    for job in (1, 2, 3, 4):
        small_worker.cancel(job)
    assert small_worker._cancelled == {4}


def test_a_worker_names_its_models_by_the_keys_it_was_asked_with_however_they_are_drawn():
    out, kept = io.BytesIO(), {"a": "a", "b by compile": "b", "a by compile": "a"}
    small_worker = worker.Worker(out, {})
    small_worker.cache = SimpleNamespace(names=lambda: kept)
    small_worker._tell_held()
    out.seek(0)
    assert list(_messages.read(out)[0]["models"].items()) == [("b", "b"), ("a", "a")]


def test_settings_say_devices_and_cache(monkeypatch):
    monkeypatch.setenv("REVERIE_DEVICE", "cpu, cpu")
    monkeypatch.setenv("REVERIE_CACHE_GB", "0.5")
    engine = open_engine("diffusers", settings.load())
    assert [one.device for one in engine.workers] == ["cpu", "cpu"] and settings.load().cache_gb == 0.5
    engine.close()
    monkeypatch.setenv("REVERIE_CACHE_GB", "much")
    with pytest.raises(BadInput, match="REVERIE_CACHE_GB is 'much', which is no number of gigabytes"):
        settings.load()
