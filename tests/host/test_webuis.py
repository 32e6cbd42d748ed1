"""The catalogue of WebUIs: what ours says, and what somebody else's row may not."""

import pytest
import yaml

import small_webui
from reverie.errors import BadInput, NotFound
from reverie.host import webuis
from reverie.host.webuis import extensions, row as webui_row
from reverie.host.resources import FOLDERS
from reverie.settings import ROOT, Settings

WHERE = "somebody's file"


@pytest.fixture
def settings(tmp_path):
    return Settings(root=ROOT, storage=tmp_path / "storage")


def row(**changes):
    return small_webui.row(package="/packages/small.zip", **changes)


def test_the_seven_webuis_are_there_and_each_says_how_it_works(settings):
    rows = {ui.id: ui for ui in webuis.all(settings)}
    assert list(rows) == ["comfyui", "forge", "a1111", "reforge", "sdnext", "fooocus", "invokeai"]
    for ui in rows.values():
        assert ui.title and ui.note and ui.health.startswith("/") and {"gpu", "cpu", "low_vram"} == set(ui.arguments)
        assert ui.package or ui.git or ui.own_package
        assert not (ui.package and not ui.package_sha256) or "package" in ui.unchecked, "an address that nobody tried says so"
        assert set(ui.folders) <= set(FOLDERS) and "checkpoint" in ui.folders
        command = webuis.command(ui, settings, 1234)
        assert not any("$" in word for word in command)
        assert "1234" in command or "1234" in webuis.environment(ui, settings, 1234).values(), "it is told its port"
        assert not any(word.startswith("--listen=") or word == "0.0.0.0" for word in command), "it listens to this machine only"


def test_shared_environments_have_one_name(settings):
    assert webuis.venv_name(webuis.find("forge", settings)) == webuis.venv_name(webuis.find("a1111", settings)) == "python31018-venv-torch260-cu124-fa"


def test_what_is_not_there_is_said_with_what_is(settings):
    with pytest.raises(NotFound, match="no WebUI 'nothing'.*comfyui, forge"):
        webuis.find("nothing", settings)


def test_a_persons_row_adds_to_ours_or_replaces_one(settings):
    small_webui.write_rows(settings.storage, row(), row(id="forge", title="My Forge"))
    rows = {ui.id: ui for ui in webuis.all(settings)}
    assert rows["forge"].title == "My Forge" and rows["small"].package == "/packages/small.zip" and len(rows) == 8


def test_it_is_not_installed_before_it_is(settings):
    ui = webuis.find("comfyui", settings)
    assert not webuis.is_installed(ui, settings)
    home = webuis.home(ui, settings)
    home.mkdir(parents=True)
    for text in ("", "[]", "{", '{"state": "unpacked"}', '{"state": "installed", "venv": "../../etc"}', '{"state": "installed"}'):
        (home / webuis.RECEIPT).write_text(text)
        assert not webuis.is_installed(ui, settings), text


# A row from somewhere else: what is wrong with it → a word of the sentence.
WRONG = {
    "start.shell": ({"start": ["sh", "-c", "echo $HOME"]}, "start begins with"),
    "start.bash": ({"start": ["/bin/bash", "run.sh"]}, "start begins with"),
    "start.code": ({"start": ["$PYTHON", "-c", "import os"]}, "start begins with"),
    "start.option": ({"start": ["$PYTHON", "-i", "main.py"]}, "start begins with"),
    "start.outside": ({"start": ["$PYTHON", "../../evil.py"]}, "start begins with"),
    "start.absolute": ({"start": ["$PYTHON", "/tmp/evil.py"]}, "start begins with"),
    "start.home": ({"start": ["$PYTHON", "$HOME/../evil.py"]}, "start begins with"),
    "start.module": ({"start": ["$PYTHON", "-m", "os; evil"]}, "start begins with"),
    "start.venv": ({"start": ["$VENV/../../bin/sh", "x"]}, "start begins with"),
    "start.venv shell": ({"start": ["$VENV/bin/bash", "x"]}, "start begins with"),
    "start.venv python": ({"start": ["$VENV/bin/python", "-c", "evil"]}, "start begins with"),
    "start.text": ({"start": "python main.py"}, "not a list of words"),
    "start.empty": ({"start": []}, "start begins with"),
    "start.numbers": ({"start": [["$PYTHON"], {}]}, "not a list of words"),
    "start.secret": ({"start": ["$PYTHON", "main.py", "$CIVITAI_TOKEN"]}, "$CIVITAI_TOKEN"),
    "start.lines": ({"start": ["$PYTHON", "main.py", "a\nb"]}, "line break"),
    "arguments.text": ({"arguments": "--cpu"}, "arguments is"),
    "arguments.device": ({"arguments": {"tpu": []}}, "arguments is"),
    "arguments.list": ({"arguments": {"cpu": "--cpu"}}, "not a list of words"),
    "port.text": ({"port": "8188"}, "port is '8188'"),
    "port.huge": ({"port": 99999}, "port is 99999"),
    "port.bool": ({"port": True}, "port is True"),
    "login": ({"login": "maybe"}, "login is"),
    "view": ({"view": ["links"]}, "view is"),
    "health": ({"health": "http://elsewhere/"}, "health is"),
    "health.number": ({"health": 7}, "health is 7"),
    "folders.kind": ({"folders": {"chekpoint": "models"}}, "'chekpoint'"),
    "folders.up": ({"folders": {"checkpoint": "../../../etc"}}, "not a path inside"),
    "folders.absolute": ({"folders": {"checkpoint": "/etc"}}, "not a path inside"),
    "folders.drive": ({"folders": {"checkpoint": "C:\\models"}}, "not a path inside"),
    "folders.list": ({"folders": ["models"]}, "folders is"),
    "folders.none": ({"folders": {"checkpoint": None}}, "not a path inside"),
    "outputs": ({"outputs": "../outputs"}, "not a path inside"),
    "extensions": ({"extensions": "/etc"}, "not a path inside"),
    "requirements": ({"requirements": "../../r.txt"}, "not a path inside"),
    "requirements.option": ({"requirements": "-r"}, "not a path inside"),
    "configs": ({"configs": [{"path": "../x.json", "values": {}}]}, "not a path inside"),
    "configs.script": ({"configs": [{"path": "main.py", "values": {}}]}, "no .json file"),
    "configs.list": ({"configs": {"a": 1}}, "configs is"),
    "environment": ({"environment": {"LD_PRELOAD": "/tmp/evil.so"}}, "may not set"),
    "environment.python": ({"environment": {"PYTHONSTARTUP": "/tmp/evil.py"}}, "may not set"),
    "environment.name": ({"environment": {"a b": "c"}}, "may not set"),
    "environment.list": ({"environment": ["A=1"]}, "environment is"),
    "package.ext": ({"package": "ext::sh -c evil"}, "package is"),
    "git.ext": ({"git": "ext::sh -c evil"}, "git is"),
    "git.option": ({"git": "--upload-pack=evil"}, "git is"),
    "git.login": ({"git": "https://name:secret@host/x"}, "a login in its address"),
    "commit.option": ({"commit": "--upload-pack=evil"}, "commit is"),
    "commit.number": ({"commit": 1.10}, "the number 1.1"),
    "python.number": ({"python": 3.10}, "the number 3.1"),
    "python": ({"python": "3"}, "python is"),
    "sha256": ({"package_sha256": "abc"}, "64 hex digits"),
    "title.list": ({"title": ["x"]}, "title is"),
    "title.lines": ({"title": "a\nb"}, "title is"),
    "flag": ({"own_package": "yes"}, "own_package is"),
    "unknown": ({"shell": True}, "'shell' is no field"),
    "disk": ({"disk_gb": "much"}, "disk_gb is"),
    "nowhere": ({"package": ""}, "neither package nor git"),
    "id": ({"id": "../up"}, "no usable id"),
    "id.number": ({"id": 7}, "no usable id"),
    "id.letters": ({"id": "Big Name"}, "no usable id"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_row_that_cannot_be_meant_is_refused_in_one_sentence(name):
    changes, word = WRONG[name]
    with pytest.raises(BadInput) as caught:
        webui_row.validate(row() | changes, WHERE)
    said = str(caught.value)
    assert word in said and WHERE in said and "\n" not in said and len(said) < 600 and caught.value.next_step
    assert "secret" not in said or name == "git.login" and "name:secret" not in said


@pytest.mark.parametrize("value", [None, 7, "text", [], ["id"], {}, {"id": None}, {"id": []}])
def test_rows_that_are_no_rows_are_refused(value):
    with pytest.raises(BadInput, match="no usable id"):
        webui_row.validate(value, WHERE)


@pytest.mark.parametrize("field", [name for name in webui_row.WebUI.__dataclass_fields__ if name != "id"])
@pytest.mark.parametrize("value", [None, 3.5, -1, True, [None], [[]], {"a": {"b": []}}, {1: 2}, "\0", object])
def test_no_nonsense_in_a_field_is_a_bug(field, value):
    """It is refused, or it means something; nothing else escapes."""
    try:
        made = webui_row.validate(row() | {field: value}, WHERE)
    except BadInput:
        return
    assert isinstance(made, webui_row.WebUI)


@pytest.mark.parametrize("text, word", [("webuis: [", "cannot be read"), ("- a", "no list called"), ("webuis: 7", "no list called"), ("webuis: [7]", "no usable id"), ("\x00", "cannot be read")])
def test_a_file_that_is_no_catalogue_is_said(settings, text, word):
    settings.storage.mkdir()
    (settings.storage / webuis.OWN).write_text(text)
    with pytest.raises(BadInput, match=word):
        webuis.all(settings)


def test_the_same_id_twice_is_said(settings):
    small_webui.write_rows(settings.storage, row(), row())
    with pytest.raises(BadInput, match="'small' twice"):
        webuis.all(settings)


def test_a_yaml_that_makes_objects_makes_none(settings, tmp_path):
    settings.storage.mkdir()
    (settings.storage / webuis.OWN).write_text(f"webuis: !!python/object/apply:os.system ['touch {tmp_path}/it-ran']\n")
    with pytest.raises(BadInput):
        webuis.all(settings)
    assert not (tmp_path / "it-ran").exists()


def test_the_address_of_another_port_and_options_reach_the_command_as_they_are(settings):
    ui = webui_row.validate(row(), WHERE)
    assert webuis.command(ui, settings, 9, "low_vram", ("--x", "$PORT; rm -rf /"))[-3:] == ["--lowvram", "--x", "$PORT; rm -rf /"]


def test_device_by_the_cards_memory():
    assert [webuis.device(gb) for gb in (0, 4, 8, 24)] == ["cpu", "low_vram", "gpu", "gpu"]


def test_the_rows_are_yaml_that_anybody_can_read():
    for name in ("webuis", "extensions"):
        assert isinstance(yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text("utf-8")), dict)


def test_every_extension_names_webuis_that_there_are(settings):
    rows = webuis.all(settings)
    names = {ui.id for ui in rows} | {ui.family for ui in rows}
    for extension in extensions.all(settings):
        assert set(extension.webuis) <= names and set(extension.builtin_in) <= names and set(extension.models) <= set(FOLDERS), extension.id
        assert any(extension.fits(ui) for ui in rows), extension.id
