"""What takes the room, and what could go and why."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reverie.host import outputs_sync
from reverie.host.depot import care
from reverie.host.depot.bin import Bin
from reverie.host.depot import Depot
from reverie.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
OLD = time.time() - 100 * 86400


@pytest.fixture
def settings(tmp_path):
    return Settings(root=ROOT, storage=tmp_path / "storage")


@pytest.fixture
def lay(settings):
    def write(name, data=b"x" * 100_000, at=OLD):
        path = settings.storage / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (at, at))
        return path

    return write


def found(settings, group):
    return [item for item in care.look(settings).items if item.group == group]


def test_a_model_that_many_see_is_counted_once(settings, lay):
    with Depot(settings.storage) as depot:
        blob = depot.keep(lay("downloads/x"), "", kind="lora", name="x.safetensors")
        for at in ("models/loras/x.safetensors", "webuis/forge/models/Lora/x.safetensors", "webuis/comfyui/models/loras/x.safetensors"):
            depot.expose(blob.name, settings.storage / at, at.split("/")[1])
    lay("webuis/forge/launch.py", b"x" * 8000)
    picture = care.look(settings)
    kinds, webuis = {part.name: part for part in picture.kinds}, {part.name: part for part in picture.webuis}
    assert 100_000 <= kinds["models: loras"].bytes < 130_000
    assert webuis["forge"].shared == webuis["comfyui"].shared == blob.stat().st_blocks * 512 and webuis["forge"].bytes < 20_000
    assert picture.total == sum(part.bytes for part in picture.kinds) < 250_000


def test_a_storage_with_nothing_in_it_has_nothing_to_clear(settings):
    picture = care.look(settings)
    assert picture.items == [] and picture.free > 0


def test_duplicates_are_offered_and_stored_once_by_every_byte(settings, lay):
    a, b = lay("models/loras/a.safetensors"), lay("webuis/forge/models/Lora/b.safetensors")
    (item,) = found(settings, "duplicates")
    assert item.safe and item.action == "dedup" and set(item.paths) == {a, b}
    care.apply(settings, [item], dry_run=True)
    assert not a.is_symlink()
    (report,) = care.apply(settings, [item])
    assert a.is_symlink() and b.is_symlink() and report.freed_bytes >= 100_000 and found(settings, "duplicates") == []


def test_a_model_without_links_is_looked_at_once_more_before_it_goes(settings, lay):
    with Depot(settings.storage) as depot:
        blob = depot.keep(lay("downloads/x"), "", kind="lora", name="x.safetensors")
        item = care._item("models nothing links to", "x", "why", True, [blob], 1, "gc")
        depot.expose(blob.name, settings.storage / "models/loras/x.safetensors", "models")
        (report,) = care.apply(settings, [item])
        assert blob.exists() and "links to it" in report.skipped[0][1]
        depot.withdraw(settings.storage / "models/loras/x.safetensors")
        (report,) = care.apply(settings, [item])
        assert not blob.exists() and report.freed_bytes >= 100_000 and len(Bin(settings.storage).list()) == 1


def test_young_downloads_are_marked_and_old_ones_are_safe(settings, lay):
    lay("downloads/old.part"), lay("downloads/young.part", at=time.time()), lay("webuis/forge/models/x.safetensors.aria2")
    assert {item.title: item.safe for item in found(settings, "unfinished downloads")} == {"old": True, "young": False, "x.safetensors.aria2": False}


def test_old_outputs_are_safe_only_where_a_mark_says_that_they_are_elsewhere_too(settings, lay, tmp_path):
    one, two = lay("outputs/a/one.png"), lay("outputs/b/two.png")
    outputs_sync.sync(settings, tmp_path / "persistent")
    assert {item.paths: item.safe for item in found(settings, "old outputs")} == {(one,): True, (two,): True}
    lay("outputs/b/two.png", b"edited since")
    lay("outputs/a/new.png", at=time.time())
    assert {item.paths: item.safe for item in found(settings, "old outputs")} == {(one,): True, (two,): False}
    (tmp_path / "persistent/a/one.png").unlink()
    assert not any(item.safe for item in found(settings, "old outputs"))


def test_orphans_and_broken_links_and_what_is_made_again(settings, lay):
    lay("models/loras/x.safetensors"), lay("models/loras/x.preview.png"), lay("models/loras/gone.preview.png"), lay("models/loras/gone.civitai.info")
    lay("my notes/a.txt"), lay("cache/y/z"), lay("logs/a.log")
    os.symlink("/a/drive/that/is/away.safetensors", settings.storage / "models/loras/away.safetensors")
    assert {item.title: item.safe for item in found(settings, "orphans")} == {"gone.preview.png": True, "gone.civitai.info": True, "my notes": False}
    (broken,) = found(settings, "broken links")
    assert not broken.safe and "drive" in broken.why
    assert found(settings, "caches")[0].safe and found(settings, "logs")[0].safe


def test_what_was_picked_goes_into_the_bin_with_its_reason(settings, lay):
    path = lay("cache/y/z")
    (item,) = found(settings, "caches")
    (report,) = care.apply(settings, [item])
    (entry,) = Bin(settings.storage).list()
    assert not path.exists() and entry.why == item.why and report.run == entry.id
    assert "not there any more" in care.apply(settings, [item])[0].skipped[0][1]
    Bin(settings.storage).restore(entry.id)
    assert path.exists()


def clean(settings, *args):
    env = {**os.environ, "REVERIE_STORAGE": str(settings.storage)}
    return subprocess.run([sys.executable, ROOT / "scripts/auto-cleaner.py", *args], env=env, capture_output=True, text=True, timeout=120)


def test_the_script_looks_tells_and_puts_only_what_is_safe_into_the_bin(settings, lay):
    lay("models/loras/a.safetensors"), lay("models/loras/b.safetensors"), lay("outputs/a/old.png"), lay("cache/y/z")
    for args in ((), ("--dry-run",)):
        done = clean(settings, *args)
        assert done.returncode == 0 and "old" in done.stdout and (settings.storage / "cache/y/z").exists(), done.stderr
    done = clean(settings, "--yes")
    assert done.returncode == 0 and "left to you" in done.stdout, done.stderr
    assert not (settings.storage / "cache/y").exists() and (settings.storage / "outputs/a/old.png").exists()
    assert (settings.storage / "models/loras/a.safetensors").is_symlink() and len(Bin(settings.storage).list()) == 1
    assert "usage" in clean(settings, "--help").stdout and clean(settings, "--bogus").returncode == 2
