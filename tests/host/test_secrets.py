"""Tokens come from where people keep them, and go into one file that only its owner may read."""

import os
import subprocess
import sys
import threading
import types

import pytest

from reverie.errors import BadInput
from reverie.host import secrets


@pytest.fixture(autouse=True)
def nothing_set(tmp_path, monkeypatch):
    for name in [*secrets.NAMES, *sum(secrets.NAMES.values(), ())]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REVERIE_STORAGE", str(tmp_path / "storage"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.setattr(secrets, "_stored", {})
    return tmp_path


def test_without_any_there_is_none():
    assert secrets.token("CIVITAI_TOKEN") == "" == secrets.where("CIVITAI_TOKEN")


def test_the_environment_goes_before_the_file(monkeypatch):
    secrets.keep("CIVITAI_TOKEN", "of-the-file")
    assert secrets.token("CIVITAI_TOKEN") == "of-the-file" and "secrets.env" in secrets.where("CIVITAI_TOKEN")
    monkeypatch.setenv("CIVITAI_API_KEY", "of-the-environment")
    assert secrets.token("CIVITAI_TOKEN") == "of-the-environment"
    assert secrets.where("CIVITAI_TOKEN") == "the environment (CIVITAI_API_KEY)"


def test_what_is_kept_is_the_owners_alone_and_leaves_the_other_lines(nothing_set):
    path = secrets.file()
    path.parent.mkdir()
    path.write_text("# mine\nOTHER=1\nHF_TOKEN=old\n")
    path.chmod(0o600)
    secrets.keep("HF_TOKEN", " new ")
    assert path.read_text() == "# mine\nOTHER=1\nHF_TOKEN=new\n"
    assert os.name != "posix" or path.stat().st_mode & 0o777 == 0o600
    secrets.keep("HF_TOKEN", "")
    assert path.read_text() == "# mine\nOTHER=1\n" and secrets.token("HF_TOKEN") == ""
    assert {each.name for each in path.parent.iterdir()} <= {"secrets.env", ".secrets.lock"}


@pytest.mark.parametrize("name, value", [("A B", "x"), ("A=B", "x"), ("HF_TOKEN", "a\nOTHER=1"), ("HF_TOKEN", 'a"b'), ("", "x")])
def test_what_cannot_stand_in_the_file_is_refused(name, value):
    with pytest.raises(BadInput):
        secrets.keep(name, value)
    assert not secrets.file().exists()


def test_the_login_of_huggingface_is_found(nothing_set):
    (nothing_set / "huggingface").mkdir()
    (nothing_set / "huggingface" / "token").write_text("hf_login\n")
    assert secrets.token("HF_TOKEN") == "hf_login"


def a_platform(monkeypatch, sign, module, **what):
    """A notebook platform with that module in it."""
    monkeypatch.setenv(sign, "1")
    parts = module.split(".")
    for number in range(len(parts)):
        name = ".".join(parts[: number + 1])
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(**(what if name == module else {"__path__": []})))


def test_colabs_secrets_are_read_by_any_of_their_names(monkeypatch):
    kept = {"HUGGINGFACE_TOKEN": "hf_of_colab"}
    a_platform(monkeypatch, "COLAB_RELEASE_TAG", "google.colab.userdata", get=kept.__getitem__)
    assert secrets.token("HF_TOKEN") == "hf_of_colab"
    assert secrets.where("HF_TOKEN") == "the secrets of Google Colab (HUGGINGFACE_TOKEN)"
    assert secrets.token("CIVITAI_TOKEN") == ""


def test_kaggles_secrets_are_read(monkeypatch):
    class Client:
        def get_secret(self, label):
            return {"CIVITAI_TOKEN": "of-kaggle"}[label]

    a_platform(monkeypatch, "KAGGLE_KERNEL_RUN_TYPE", "kaggle_secrets", UserSecretsClient=Client)
    assert secrets.token("CIVITAI_TOKEN") == "of-kaggle"


def test_a_store_that_blocks_is_given_up_and_asked_only_once(monkeypatch):
    asked = []

    def blocks(name):
        asked.append(name)
        threading.Event().wait()

    monkeypatch.setattr(secrets, "STORE_S", 0.1)
    a_platform(monkeypatch, "COLAB_GPU", "google.colab.userdata", get=blocks)
    assert secrets.token("ZROK_TOKEN") == "" == secrets.token("ZROK_TOKEN")
    assert asked == ["ZROK_TOKEN"]


def test_two_programs_that_keep_secrets_at_once_lose_nothing(nothing_set):
    script = "import sys; from reverie.host import secrets\nfor n in range(30): secrets.keep(sys.argv[1], str(n) * 50)"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    both = [subprocess.Popen([sys.executable, "-c", script, name], env=env) for name in ("ONE", "TWO")]
    assert [each.wait(60) for each in both] == [0, 0]
    assert sorted(secrets.file().read_text().splitlines()) == ["ONE=" + "29" * 50, "TWO=" + "29" * 50]
