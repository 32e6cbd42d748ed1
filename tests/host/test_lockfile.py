"""A set-up in a file, and rebuilt elsewhere: real models over loopback, a real small WebUI from git at its commit."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import small_webui
import yaml
from hub_servers import CIVITAI_TOKEN, sha256
from hypothesis import given
from hypothesis import strategies as st
from small_models import LORA, SD15, tensors

from reverie.errors import BadInput
from reverie.faces import cli
from reverie.host import choices, downloads, links, webuis
from reverie.host.downloads import lockfile
from reverie.host.webuis import extensions, packages
from reverie.host.depot import Depot
from reverie.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """`machine("one")` is a storage of its own, and where the environment points."""

    def turn_on(name: str) -> Settings:
        monkeypatch.setenv("REVERIE_STORAGE", str(tmp_path / name))
        monkeypatch.setenv("HOME", str(tmp_path))
        return Settings(root=ROOT, storage=tmp_path / name)

    return turn_on


def bring(text: str, house: Settings) -> None:
    assert downloads.carry_out(downloads.prepare(links.parse(text), house), house).good


def moved(house: Settings) -> tuple[lockfile.SetUp, list[str], str]:
    """Frozen, written, read again."""
    setup, notes = lockfile.freeze(house)
    text = lockfile.dump(setup)
    assert lockfile.read(text) == setup
    return setup, notes, text


def rebuilt(setup: lockfile.SetUp, house: Settings):
    return lockfile.restore(setup, lockfile.plan(setup, house), house)


def test_models_are_the_same_on_another_machine_and_the_second_time_nothing_moves(hubs, machine):
    one, two = tensors(*SD15), tensors(*LORA)
    version = hubs.add_model("Dream", files={"dream.safetensors": one})
    here = machine("one")
    bring(f"{hubs.civitai}/api/download/models/{version}, lora:{hubs.add_file('ink.safetensors', two)}[moon.safetensors]", here)
    choices.save(choices.Choices(loras=(f"{hubs.storage}/ink.safetensors",), theme="light"), here)
    setup, notes, text = moved(here)
    there = machine("two")
    outcome = rebuilt(setup, there)
    assert outcome.good and not notes, outcome.failed
    assert (there.models / "checkpoints/dream.safetensors").read_bytes() == one and (there.models / "loras/moon.safetensors").read_bytes() == two
    assert choices.load(there) == choices.load(here)
    again = rebuilt(setup, there)
    assert again.good and not again.fetched_bytes and len(again.skipped) == 2
    assert lockfile.freeze(there)[0].models == setup.models


def test_what_is_here_under_another_name_is_linked_without_the_network(hubs, machine):
    link = f"lora:{hubs.add_file('ink.safetensors', tensors(*LORA))}"
    here = machine("one")
    bring(link, here)
    setup, _, _ = moved(here)
    there = machine("two")
    bring(f"{link}[other.safetensors]", there)
    hubs.plain.clear()
    outcome = rebuilt(setup, there)
    assert outcome.good and not outcome.fetched_bytes and (there.models / "loras/ink.safetensors").is_file()


def test_a_local_file_is_named_by_its_sum_and_the_rest_comes(hubs, machine):
    data = tensors(*LORA)
    here = machine("one")
    bring(f"lora:{hubs.add_file('ink.safetensors', tensors(*LORA))}", here)
    (here.models / "loras/mine.safetensors").write_bytes(data)
    setup, notes, text = moved(here)
    assert "mine.safetensors" in notes[0] and sha256(data) in text
    there = machine("two")
    outcome = rebuilt(setup, there)
    assert [row.name for row in outcome.done] == ["ink.safetensors"] and "without an address" in outcome.failed[0][1]
    (there.models / "loras/mine.safetensors").write_bytes(data)
    assert rebuilt(setup, there).good


def test_a_source_with_other_bytes_now_is_said_and_nothing_of_it_stays(hubs, machine):
    one = tensors(*SD15)
    version = hubs.add_model("Dream", files={"dream.safetensors": one})
    plain = hubs.add_file("ink.safetensors", tensors(*LORA))
    here = machine("one")
    bring(f"{hubs.civitai}/api/download/models/{version}, lora:{plain}", here)
    setup, _, _ = moved(here)
    hubs.add_file("ink.safetensors", tensors(*LORA))
    there = machine("two")
    outcome = rebuilt(setup, there)
    assert [row.name for row in outcome.done] == ["dream.safetensors"] and "sum" in outcome.failed[0][1]
    assert not (there.models / "loras/ink.safetensors").exists()


def test_no_token_and_no_path_of_the_machine_is_in_it(hubs, machine, monkeypatch, tmp_path):
    monkeypatch.setenv("CIVITAI_TOKEN", CIVITAI_TOKEN)
    version = hubs.add_model("Closed", files={"closed.safetensors": tensors(*SD15)}, login=True)
    local = tmp_path / "local.safetensors"
    local.write_bytes(tensors(*LORA))
    here = machine("one")
    bring(f"{hubs.civitai}/api/download/models/{version}?token={CIVITAI_TOKEN}, lora:{local}", here)
    own = f"lora:{local}\nlora:https://example.org/a.safetensors[b.safetensors]"
    choices.save(choices.Choices(links=own, model=str(local), launch_options=f"--lora-dir {tmp_path}/x"), here)
    setup, notes, text = moved(here)
    assert str(tmp_path) not in text and CIVITAI_TOKEN not in text and "/work" not in text
    assert setup.choices["links"] == "lora:https://example.org/a.safetensors[b.safetensors]" and len(notes) == 3


# -------------------------------------------------------------------------------------------------------- a real WebUI


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return small_webui.repository(tmp_path_factory.mktemp("small"))


def node(folder) -> tuple[str, str]:
    """A repository of a custom node with two commits, and its first."""
    git = lambda *words: subprocess.run(  # noqa: E731
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=folder, env=os.environ | small_webui.QUIET, check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()
    folder.mkdir()
    git("init", "-q", "-b", "main")
    for text in ("first", "second"):
        (folder / "__init__.py").write_text(f"# {text}\n")
        git("add", "-A")
        git("commit", "-q", "-m", text)
    return str(folder), git("rev-parse", "HEAD~1")


def rows(house: Settings, bare, commit: str, node: str, node_commit: str) -> None:
    house.storage.mkdir(parents=True, exist_ok=True)
    extension = {"id": "a-node", "git": node, "commit": node_commit, "webuis": ["comfyui"]}
    told = {"webuis": [small_webui.row(git=str(bare), commit=commit)], "extensions": [extension]}
    (house.storage / "webuis.yaml").write_text(yaml.safe_dump(told))


def test_a_webui_and_its_extension_come_at_the_commits_of_the_set_up(hubs, machine, repository, tmp_path):
    bare, first = repository
    address, node_first = node(tmp_path / "node")
    here = machine("one")
    rows(here, bare, first, address, node_first)
    packages.install(webuis.find("small", here), here, extensions=("a-node",))
    choices.save(choices.Choices(webui="small", extensions=("a-node",)), here)
    bring(f"lora:{hubs.add_file('ink.safetensors', tensors(*LORA))}", here)
    setup, notes, _ = moved(here)
    assert setup.webui.commit == first and setup.extensions[0].commit == node_first and str(bare) not in lockfile.dump(setup)

    there = machine("two")
    rows(there, bare, "master", address, "main")  # without the set-up it would be the newest
    said: list[str] = []
    outcome = lockfile.restore(setup, lockfile.plan(setup, there), there, on_line=said.append)
    assert outcome.good, (outcome.failed, outcome.troubles)
    ui = webuis.find("small", there)
    assert webuis.is_installed(ui, there) and webuis.receipt(ui, there)["commit"] == first
    assert extensions.installed(ui, there)["a-node"]["commit"] == node_first
    assert (webuis.home(ui, there) / "models/loras/ink.safetensors").is_file() and any("Small WebUI" in line for line in said)
    assert choices.load(there).webui == "small"


def test_a_webui_that_is_here_at_another_commit_is_left_and_said(machine, repository, tmp_path):
    bare, first = repository
    address, node_first = node(tmp_path / "node")
    here, there = machine("one"), machine("two")
    for house, commit in ((here, first), (there, "master")):
        rows(house, bare, commit, address, node_first)
        packages.install(webuis.find("small", house), house)
    choices.save(choices.Choices(webui="small"), here)
    outcome = rebuilt(moved(here)[0], there)
    assert "another commit" in outcome.troubles[0] or "is here at commit" in outcome.troubles[0]
    assert "reverie webui uninstall small" in outcome.troubles[0]


def test_own_rows_go_along_and_a_row_that_is_there_stays(machine):
    row = {**small_webui.row(git="https://example.org/small.git"), "note": "mine"}
    node = {"id": "my-node", "title": "My node", "git": "https://example.org/node.git", "webuis": [row["id"]]}
    here, there = machine("one"), machine("two")
    here.storage.mkdir()
    (here.storage / "webuis.yaml").write_text(yaml.safe_dump({"webuis": [row, {**row, "id": "unused"}], "extensions": [node]}))
    choices.save(choices.Choices(webui="small", extensions=("my-node",)), here)
    setup, notes, text = moved(here)
    assert "unused" not in text and "take that file" not in " ".join(notes)
    outcome = rebuilt(setup, there)
    assert outcome.good and any("my-node is a row" in note for note in outcome.notes)
    assert webuis.find("small", there) == webuis.find("small", here) and choices.load(there).webui == "small"
    assert [one for one in extensions.all(there) if one.id == "my-node"] == [one for one in extensions.all(here) if one.id == "my-node"]

    (there.storage / "webuis.yaml").write_text("# my words\n" + yaml.safe_dump({"webuis": [{**row, "note": "theirs"}]}))
    outcome = rebuilt(setup, there)
    assert webuis.find("small", there).note == "theirs" and any("left as it is" in note or "left as it was" in note for note in outcome.notes)
    assert "my-node" in (there.storage / "webuis.yaml").read_text() and (there.storage / "webuis.yaml.before").read_text().startswith("# my words")


@pytest.mark.parametrize("change", [{"git": "/home/me/small"}, {"environment": {"MY_API_KEY": "abc"}}, {"arguments": {"cpu": ["--data=/home/me"]}}], ids=str)
def test_an_own_row_with_what_belongs_to_its_machine_stays_there(machine, change):
    here = machine("one")
    here.storage.mkdir()
    (here.storage / "webuis.yaml").write_text(yaml.safe_dump({"webuis": [{**small_webui.row(git="https://example.org/small.git"), **change}]}))
    choices.save(choices.Choices(webui="small"), here)
    _, notes, text = moved(here)
    assert "take that file along" in " ".join(notes) and "abc" not in text and "home/me" not in text


# ----------------------------------------------------------------------------------------------------------- bad files


LINE = {"kind": "lora", "name": "a.safetensors", "sha256": "a" * 64}
BAD = {
    "not YAML": "a: [", "not a set-up": "- 1", "a picture": "\x89PNG", "another format": "format: 99", "a program": "!!python/object/apply:os.system [ls]",
    "a name that leads out": {"models": [{**LINE, "name": "../../x.safetensors"}]}, "no sum": {"models": [{**LINE, "sha256": "a"}]},
    "no kind": {"models": [{**LINE, "kind": "../x"}]}, "a file address": {"models": [{**LINE, "url": "file:///etc/passwd"}]},
    "a login": {"models": [{**LINE, "url": "https://me:secret@x.org/a"}]}, "an odd commit": {"webui": {"id": "small", "commit": "--upload-pack=x"}},
    "an odd git": {"webui": {"id": "small", "git": "ext::sh -c x"}}, "an odd id": {"webui": {"id": "../x"}}, "an unknown field": {"hooks": ["rm"]},
    "a shell as own row": {"own_rows": {"webuis": [{"id": "small", "git": "https://x.org/a", "start": ["bash", "-c", "x"]}]}},
    "an own row from here": {"own_rows": {"webuis": [{"id": "small", "git": "file:///etc", "start": ["$PYTHON", "main.py"]}]}},
    "own rows of something else": {"own_rows": {"hooks": [{"id": "x"}]}}, "an own row that is none": {"own_rows": {"extensions": ["x"]}},
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_file_that_cannot_be_used_is_one_sentence(bad):
    with pytest.raises(BadInput) as caught:
        lockfile.read(bad if isinstance(bad, str) else json.dumps({"format": 1, **bad}))
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize("options", ["; rm -rf /", "--ckpt /etc/passwd"])
def test_choices_in_it_reach_neither_a_shell_nor_foreign_files(machine, options):
    setup = lockfile.read(json.dumps({"format": 1, "choices": {"launch_options": options}}))
    house = machine("one")
    with pytest.raises(BadInput):
        rebuilt(setup, house)
    assert not (house.storage / "choices.json").exists()


@given(st.lists(st.builds(lambda kind, stem, digest, size: lockfile.LockedModel(kind=kind, name=f"{stem}.safetensors", sha256=digest * 64, size=size),
       st.sampled_from(["lora", "vae"]), st.from_regex(r"[A-Za-z0-9äß][\w -]{0,20}x", fullmatch=True), st.sampled_from("abc"), st.integers(0, 2**52)), max_size=4))  # fmt: skip
def test_what_is_written_is_read_as_the_same(models):
    setup = lockfile.SetUp(models=tuple(models), choices={"webui": "comfyui"})
    assert lockfile.read(lockfile.dump(setup)) == setup


# ------------------------------------------------------------------------------------------------------------- commands


def test_freeze_and_restore_as_commands(hubs, machine, tmp_path, capsys):
    here = machine("one")
    bring(f"lora:{hubs.add_file('ink.safetensors', tensors(*LORA))}", here)
    file = str(tmp_path / "setup.yaml")
    assert cli.run(["freeze", file]) == 0 and "1 model files" in capsys.readouterr().out
    there = machine("two")
    assert cli.run(["restore", file, "--dry-run"]) == 0 and not (there.storage / "models/loras").exists()
    assert "1 file to fetch" in capsys.readouterr().out
    assert cli.run(["restore", file]) == 0 and (there.storage / "models/loras/ink.safetensors").is_file()
    assert cli.run(["restore", str(tmp_path / "none.yaml")]) == 2 and "There is no file" in capsys.readouterr().err


def test_freeze_writes_over_no_other_file(machine, tmp_path, capsys):
    machine("one")
    (tmp_path / "notes.yaml").write_text("- mine\n")
    assert cli.run(["freeze", str(tmp_path / "notes.yaml")]) == 2 and (tmp_path / "notes.yaml").read_text() == "- mine\n"


def test_the_depot_of_a_rebuilt_set_up_is_sound(hubs, machine):
    here = machine("one")
    bring(f"lora:{hubs.add_file('ink.safetensors', tensors(*LORA))}", here)
    setup, _, _ = moved(here)
    there = machine("two")
    rebuilt(setup, there)
    with Depot(there.storage) as depot:
        assert not depot.verify()
