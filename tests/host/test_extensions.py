"""Extensions come with a WebUI where they work; one that fails stops nothing else."""

import json
import os
import subprocess

import pytest

import small_webui
from reverie.errors import BadInput, Cancelled
from reverie.host import webuis
from reverie.host.webuis import extensions, packages
from reverie.settings import ROOT, Settings


@pytest.fixture
def settings(tmp_path):
    return Settings(root=ROOT, storage=tmp_path / "storage")


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made-for-extensions")
    return {"package": str(small_webui.package(folder)), "venv": str(small_webui.venv(folder))}


def node(folder, requirements="", name="node"):
    """A repository with a custom node in it."""
    tree = folder / name
    tree.mkdir(parents=True)
    (tree / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    (tree / "requirements.txt").write_text(requirements)
    git = lambda *words: subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tree, env=os.environ | small_webui.QUIET, check=True, capture_output=True, timeout=60)
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "A node")
    return str(tree)


def own(settings, made, *rows):
    path = small_webui.write_rows(settings.storage, small_webui.row(**made))
    path.write_text(path.read_text() + json.dumps({"extensions": rows})[1:-1].replace('"extensions"', "extensions", 1) + "\n")
    return webuis.find("small", settings)


def test_they_are_offered_only_where_they_work(settings):
    offered = {id: {row.id for row in extensions.for_webui(webuis.find(id, settings))} for id in ("comfyui", "forge", "a1111", "fooocus", "invokeai")}
    assert "sd-webui-controlnet" in offered["a1111"] and "sd-webui-controlnet" not in offered["forge"]
    assert {"adetailer"} <= offered["forge"] & offered["a1111"] and "adetailer" not in offered["comfyui"]
    assert {"ComfyUI-Manager", "ComfyUI_IPAdapter_plus", "ComfyUI-AnimateDiff-Evolved", "ComfyUI-Frame-Interpolation", "ComfyUI-VideoHelperSuite", "ComfyUI-Impact-Pack"} <= offered["comfyui"]
    assert offered["fooocus"] == offered["invokeai"] == set()


def test_one_that_fails_stops_neither_the_others_nor_the_webui(settings, made, tmp_path):
    rows = [
        {"id": "good", "git": node(tmp_path), "webuis": ["comfyui"]},
        {"id": "gone", "git": str(tmp_path / "nowhere"), "webuis": ["comfyui"]},
        {"id": "foreign", "git": node(tmp_path, name="other"), "webuis": ["sdwebui"]},
    ]
    ui = own(settings, made, *rows)
    receipt = packages.install(ui, settings, extensions=("good", "gone", "foreign", "unheard-of"))
    assert webuis.is_installed(ui, settings) and set(receipt["failed"]) == {"gone", "foreign", "unheard-of"}
    assert "does not work in Small WebUI" in receipt["failed"]["foreign"] and "no extension" in receipt["failed"]["unheard-of"]
    folder = webuis.home(ui, settings) / "custom_nodes"
    assert (folder / "good" / "__init__.py").is_file() and not (folder / "gone").exists()
    assert list(extensions.installed(ui, settings)) == ["good"]
    assert not list((settings.storage / "webuis").glob(".*")), "nothing half made lies about"
    assert extensions.install(["good"], ui, settings).there == ["good"]


def test_a_package_works_as_well_and_loses_its_folder(settings, made, tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "node.zip", "w") as archive:
        archive.writestr("node-main/__init__.py", "")
    ui = own(settings, made, {"id": "zipped", "package": str(tmp_path / "node.zip"), "webuis": ["small"], "folder": "a-node"})
    packages.install(ui, settings)
    assert extensions.install(["zipped"], ui, settings).installed == ["zipped"]
    assert (webuis.home(ui, settings) / "custom_nodes/a-node/__init__.py").is_file()


def test_a_folder_that_the_person_put_there_stays(settings, made, tmp_path):
    ui = own(settings, made, {"id": "good", "git": node(tmp_path), "webuis": ["comfyui"]})
    packages.install(ui, settings)
    theirs = webuis.home(ui, settings) / "custom_nodes" / "good"
    theirs.mkdir()
    (theirs / "mine.py").write_text("mine")
    assert "is not ours" in extensions.install(["good"], ui, settings).failed[0][1]
    assert [path.name for path in theirs.iterdir()] == ["mine.py"]


def test_extensions_of_ours_go_with_the_webui(settings, made, tmp_path):
    ui = own(settings, made, {"id": "good", "git": node(tmp_path), "webuis": ["comfyui"]})
    packages.install(ui, settings, extensions=("good",))
    assert packages.uninstall(ui, settings).kept == [] and not webuis.home(ui, settings).exists()


def test_what_pip_cannot_do_is_told_and_tried_again(settings, made, tmp_path, monkeypatch):
    """The node's files are there, and the next run tries once more."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    ui = own(settings, made, {"id": "wants", "git": node(tmp_path, "surely-not-a-package-of-anybody==1\n"), "webuis": ["comfyui"]})
    packages.install(ui, settings)
    report = extensions.install(["wants"], ui, settings)
    assert "pip could not install" in report.failed[0][1]
    assert extensions.installed(ui, settings)["wants"]["state"] == "unpacked"
    (webuis.home(ui, settings) / "custom_nodes/wants/requirements.txt").write_text("")
    assert extensions.install(["wants"], ui, settings).installed == ["wants"]


def test_cancelling_ends_all(settings, made, tmp_path):
    ui = own(settings, made, {"id": "good", "git": node(tmp_path), "webuis": ["comfyui"]})
    packages.install(ui, settings)
    with pytest.raises(Cancelled):
        extensions.install(["good"], ui, settings, cancelled=lambda: True)
    assert not (webuis.home(ui, settings) / "custom_nodes/good").exists()


def test_a_row_held_at_a_commit_is_installed_at_that_commit(settings, made, tmp_path):
    bare, first = small_webui.repository(tmp_path / "repository")
    ui = own(settings, made)
    row = extensions.validate({"id": "held", "git": str(bare), "commit": first, "webuis": ["comfyui"]})
    assert packages.install(ui, settings, extensions=(row,))["failed"] == {}
    assert extensions.installed(ui, settings)["held"]["commit"] == first


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"id": "../x"}, "no usable id"), ({"git": "ext::sh -c x"}, "no git address"), ({"git": ""}, "neither git nor package"), ({"folder": "../../x"}, "no plain name"),
        ({"requires": ["--index-url=http://evil"]}, "no name of a package"), ({"requires": "numpy"}, "requires is"), ({"webuis": [7]}, "webuis is"), ({"commit": "--x"}, "commit is"),
        ({"shell": "x"}, "'shell' is no field"), ({"requirements": "a/b.txt"}, "no plain name"), ({"suggested": "yes"}, "suggested is"), ({"requires": ["x; rm -rf /", "-e ."]}, "no name of a package"),
    ],
)
def test_rows_from_elsewhere_are_refused_in_one_sentence(changes, word):
    with pytest.raises(BadInput, match=word):
        extensions.validate({"id": "x", "git": "https://example.org/x", "webuis": ["comfyui"]} | changes)
