"""`reverie webui` as people call it: another process, its own storage, a small WebUI."""

import json
import re
import sys
import urllib.request
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "host"))
import small_webui  # noqa: E402


@pytest.fixture
def small(reverie, tmp_path):
    """The command, with the small WebUI in its catalogue."""
    small_webui.lay(reverie.storage, tmp_path / "made")
    return reverie


def said(done):
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", ["", "list", "show", "install", "uninstall", "link", "update", "start", "stop", "logs"])
def test_help_of_each_has_examples(reverie, command):
    shown = said(reverie("webui", *command.split(), "--help"))
    assert re.search(rf"^  reverie webui {command}", shown, re.M)
    assert not command or "--json" in shown


def test_list_and_show(reverie):
    assert re.search(r"^forge +- +package +7860 .*Forge$", said(reverie("webui", "list")), re.M)
    assert re.search(r"^invokeai +- +your own package", said(reverie("webui", "list")), re.M)
    shown = said(reverie("webui", "show", "comfyui"))
    assert "ComfyUI-Manager" in shown and "models/checkpoints" in shown and "unchecked" in shown
    rows = json.loads(said(reverie("webui", "list", "--json")))
    assert [row["id"] for row in rows][:2] == ["comfyui", "forge"]


def test_a_dry_run_does_nothing(small):
    shown = said(small("webui", "install", "small", "--dry-run"))
    assert "unpack its package" in shown and "Nothing was done." in shown and not (small.storage / "webuis").exists()
    assert [row["done"] for row in json.loads(said(small("webui", "install", "small", "--dry-run", "--json")))] == [False, False]


def test_a_dry_run_names_the_extensions_and_refuses_unknown_ones(reverie):
    shown = said(reverie("webui", "install", "comfyui", "-e", "ComfyUI-Manager", "--dry-run"))
    assert re.search(r"^to do +add extension ComfyUI-Manager .*https://", shown, re.M)
    refused = reverie("webui", "install", "comfyui", "-e", "no-such", "--dry-run")
    assert refused.returncode and "no extension 'no-such'" in refused.stderr and "ComfyUI-Manager" in refused.stderr


@pytest.mark.parametrize("command", ["link", "update"])
def test_what_is_not_installed_is_neither_linked_nor_asked_for(reverie, command):
    done = reverie("webui", command, "forge")
    assert done.returncode and "is not installed. Install it: reverie webui install forge" in done.stderr


def test_install_link_start_stop_uninstall(small):
    """The whole way, with a model that is there before and one that comes after."""
    model = small.storage / "models/checkpoints/before.safetensors"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"before")
    done = small("webui", "install", "small")
    assert "is installed in" in said(done) and "1 linked" in done.stdout and "unpacking its environment" in done.stderr and "\r" not in done.stderr
    model.with_name("after.safetensors").write_bytes(b"after")
    assert "1 linked, 1 there already" in said(small("webui", "link"))
    try:
        url = json.loads(said(small("webui", "start", "small", "--detach", "--json")))["url"]
        with urllib.request.urlopen(f"{url}/models/checkpoints", timeout=30) as answer:
            assert json.load(answer) == ["after.safetensors", "before.safetensors"]
        with urllib.request.urlopen(f"{url}/system_stats", timeout=30) as answer:
            assert json.load(answer)["system"]["prefix"] == str(small.storage / "venvs/small-venv")
        assert re.search(r"^small +runs", said(small("webui", "list")), re.M)
        refused = small("webui", "uninstall", "small")
        assert refused.returncode == 1 and "is running" in refused.stderr and refused.stderr.count("\n") == 1
    finally:
        assert "is stopped" in said(small("webui", "stop", "small"))
    shown = said(small("webui", "uninstall", "small"))
    assert "reverie storage undo" in shown and model.read_bytes() == b"before"
    assert re.search(r"^small +-", said(small("webui", "list")), re.M)


@pytest.mark.parametrize("arguments, word", [(("show", "nothing"), "no WebUI 'nothing'"), (("install", "invokeai"), "Bring your own"), (("install", "sdnext", "--way", "package"), "has no package"), (("uninstall", "forge"), "is not installed")])
def test_what_cannot_be_is_one_sentence(reverie, arguments, word):
    done = reverie("webui", *arguments)
    assert done.returncode in (1, 2) and word in done.stderr and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_a_broken_catalogue_of_the_persons_is_one_sentence(reverie):
    reverie.storage.mkdir(parents=True)
    (reverie.storage / "webuis.yaml").write_text("webuis:\n- {id: x, start: [sh, -c, evil], package: /x.zip}\n")
    done = reverie("webui", "list")
    assert done.returncode == 2 and "start begins with" in done.stderr and done.stderr.count("\n") == 1
