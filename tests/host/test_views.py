"""Models that are here once are seen by every WebUI, and what a person put into a WebUI's folders stays."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import yaml

import small_webui
from reverie.host import webuis
from reverie.host.webuis import views
from reverie.host.depot import Depot
from reverie.settings import ROOT, Settings


@pytest.fixture
def settings(tmp_path):
    return Settings(root=ROOT, storage=tmp_path / "storage")


@pytest.fixture
def depot(settings):
    with Depot(settings.storage) as depot:
        yield depot


def small(settings, **changes):
    small_webui.write_rows(settings.storage, small_webui.row(package="/x.zip", **changes))
    ui = webuis.find("small", settings)
    webuis.home(ui, settings).mkdir(parents=True, exist_ok=True)
    return ui


def keep(depot, settings, kind, name, data):
    staged = settings.storage / "downloads" / "x"
    staged.parent.mkdir(parents=True, exist_ok=True)
    staged.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    depot.keep(staged, digest, kind=kind, name=name)
    return digest


def put(settings, path, data=b"by hand"):
    (settings.models / path).parent.mkdir(parents=True, exist_ok=True)
    (settings.models / path).write_bytes(data)
    return settings.models / path


def seen(ui, settings):
    home = webuis.home(ui, settings)
    return {path.relative_to(home).as_posix(): path.read_bytes() for place in set(ui.folders.values()) for path in (home / place).rglob("*") if path.is_file()}


def test_kept_models_and_those_put_by_hand_are_seen_without_a_copy(settings, depot):
    ui = small(settings)
    keep(depot, settings, "checkpoint", "kept.safetensors", b"kept")
    keep(depot, settings, "lora", "styles/one.safetensors", b"one")
    put(settings, "loras/hand.safetensors")
    report = views.expose_all(ui, depot, settings)
    assert seen(ui, settings) == {"models/checkpoints/kept.safetensors": b"kept", "models/loras/styles/one.safetensors": b"one", "models/loras/hand.safetensors": b"by hand"}
    assert report.linked == 3 and not report.refused
    assert all(os.path.islink(webuis.home(ui, settings) / name) for name in seen(ui, settings))


def test_what_lies_beside_a_model_is_the_depots_to_put_there_and_a_longer_name_is_another_model(settings, depot):
    ui = small(settings)
    digest = keep(depot, settings, "lora", "moon.safetensors", b"kept")
    depot.keep(depot.find(sha256=digest)[0].path, digest, kind="lora", name="moon.safetensors", sidecars={".civitai.info": b"{}"})
    depot.expose(digest, settings.models / "loras/moon.safetensors", "reverie")
    put(settings, "loras/moon.v2.safetensors")
    assert views.expose_all(ui, depot, settings).refused == []
    assert {Path(name).name for name in seen(ui, settings)} == {"moon.safetensors", "moon.civitai.info", "moon.v2.safetensors"}
    assert views.expose_all(ui, depot, settings).refused == []


def test_doing_it_again_changes_nothing(settings, depot):
    ui = small(settings)
    keep(depot, settings, "checkpoint", "kept.safetensors", b"kept")
    put(settings, "vae/hand.safetensors")
    views.expose_all(ui, depot, settings)
    before = {path: path.lstat().st_mtime_ns for path in webuis.home(ui, settings).rglob("*")}
    report = views.expose_all(ui, depot, settings)
    assert (report.linked, report.there, report.withdrawn) == (0, 2, 0)
    assert {path: path.lstat().st_mtime_ns for path in webuis.home(ui, settings).rglob("*")} == before


def test_what_went_is_withdrawn_and_a_persons_file_is_not(settings, depot):
    ui = small(settings)
    hand = put(settings, "loras/hand.safetensors")
    views.expose_all(ui, depot, settings)
    own = webuis.home(ui, settings) / "models/loras/own.safetensors"
    own.write_bytes(b"own")
    hand.unlink()
    assert views.expose_all(ui, depot, settings).withdrawn == 1
    assert seen(ui, settings) == {"models/loras/own.safetensors": b"own"} and not os.path.lexists(webuis.home(ui, settings) / "models/loras/hand.safetensors")


def test_a_persons_file_of_the_same_name_stays_and_is_told(settings, depot):
    ui = small(settings)
    mine = webuis.home(ui, settings) / "models/checkpoints/same.safetensors"
    also = webuis.home(ui, settings) / "models/loras/hand.safetensors"
    for path in (mine, also):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"mine, other bytes")
    keep(depot, settings, "checkpoint", "same.safetensors", b"kept")
    put(settings, "loras/hand.safetensors")
    report = views.expose_all(ui, depot, settings)
    assert {path for path, _ in report.refused} == {mine, also}
    assert mine.read_bytes() == also.read_bytes() == b"mine, other bytes"
    views.withdraw_all(ui, settings)
    assert mine.exists() and also.exists()


def test_a_link_that_the_person_put_in_place_of_ours_stays(settings, depot, tmp_path):
    ui = small(settings)
    put(settings, "loras/hand.safetensors")
    views.expose_all(ui, depot, settings)
    at = webuis.home(ui, settings) / "models/loras/hand.safetensors"
    at.unlink()
    (tmp_path / "elsewhere").write_bytes(b"elsewhere")
    at.symlink_to(tmp_path / "elsewhere")
    views.withdraw_all(ui, settings)
    assert at.read_bytes() == b"elsewhere"


def test_a_broken_note_of_links_breaks_nothing(settings, depot):
    ui = small(settings)
    put(settings, "loras/hand.safetensors")
    for text in ("{", "[]", '{"../../../outside": {"to": "x", "file": ""}}', '{"a": 7}'):
        (webuis.home(ui, settings) / views.LINKS).write_text(text)
        views.expose_all(ui, depot, settings)
        assert "models/loras/hand.safetensors" in seen(ui, settings)


def test_unfinished_and_hidden_files_are_not_shown(settings, depot):
    ui = small(settings)
    for name in ("loras/half.safetensors.part", "loras/.hidden", "loras/x.aria2"):
        put(settings, name)
    assert views.expose_all(ui, depot, settings).linked == 0


def test_comfyui_gets_our_folders_by_its_own_configuration(settings, depot):
    ui = webuis.find("comfyui", settings)
    report = views.expose_all(ui, depot, settings)
    path = webuis.extra_paths(ui, settings)
    read = yaml.safe_load(path.read_text("utf-8"))["reverie"]
    assert report.written == [path] and read["base_path"] == str(settings.models)
    assert read["checkpoints"] == "checkpoints" and read["ultralytics_bbox"] == "detectors" and read["diffusion_models"] == "diffusion_models"
    assert all((settings.models / folder).is_dir() for name, folder in read.items() if name != "base_path")
    assert str(path) in webuis.command(ui, settings)
    assert views.expose_all(ui, depot, settings).written == []


def test_fooocus_keeps_a_persons_own_paths(settings, depot):
    ui = webuis.find("fooocus", settings)
    home = webuis.home(ui, settings)
    home.mkdir(parents=True)
    (home / "config.txt").write_text(json.dumps({"path_loras": "/my/loras", "default_model": "mine"}))
    keep(depot, settings, "vae", "v.safetensors", b"v")
    views.expose_all(ui, depot, settings)
    read = json.loads((home / "config.txt").read_text())
    assert read["path_loras"] == ["/my/loras", str(settings.models / "loras")] and read["default_model"] == "mine"
    assert read["path_checkpoints"][-1] == str(settings.models / "checkpoints") and len(read["path_checkpoints"]) == 2
    assert (home / "models/vae/v.safetensors").read_bytes() == b"v"
    assert views.expose_all(ui, depot, settings).written == []
    (home / "config.txt").write_text("not JSON")
    assert "is no JSON" in views.expose_all(ui, depot, settings).notes[0] and (home / "config.txt").read_text() == "not JSON"


def test_invokeai_is_told_only_while_it_runs(settings, depot):
    assert "only while it runs" in views.expose_all(webuis.find("invokeai", settings), depot, settings).notes[0]


def test_pictures_are_led_into_our_outputs_unless_some_are_there(settings, depot):
    ui = small(settings, outputs="outputs")
    at = webuis.home(ui, settings) / "outputs"
    (at / "txt2img-images").mkdir(parents=True)
    views.expose_all(ui, depot, settings)
    (at / "new.png").write_bytes(b"new")
    assert (settings.outputs / "small" / "new.png").read_bytes() == b"new"
    assert views.expose_all(ui, depot, settings).notes == []
    views.withdraw_all(ui, settings)
    assert not os.path.lexists(at) and (settings.outputs / "small" / "new.png").exists()
    at.mkdir()
    (at / "mine.png").write_bytes(b"mine")
    assert "stays its own folder" in views.expose_all(ui, depot, settings).notes[0] and (at / "mine.png").read_bytes() == b"mine"
