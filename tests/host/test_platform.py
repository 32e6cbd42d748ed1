"""Platforms are told by their environment: every row by a made-up one."""

from __future__ import annotations

import pytest

import installing
from reverie import settings
from reverie.host import platform

ENVIRONMENTS = {
    "kaggle": [{"KAGGLE_KERNEL_RUN_TYPE": "Interactive"}, {"KAGGLE_URL_BASE": "https://www.kaggle.com", "COLAB_GPU": "1"}],
    "colab": [{"COLAB_RELEASE_TAG": "release-colab"}, {"COLAB_GPU": "0"}],
    "lightning": [{"LIGHTNING_CLOUD_SPACE_ID": "01abc"}],
    "paperspace": [{"PAPERSPACE_FQDN": "n1.paperspacegradient.com"}],
    "studiolab": [{"SAGEMAKER_INTERNAL_IMAGE_URI": "image"}],
    "runpod": [{"RUNPOD_POD_ID": "abc123"}],
    "vast": [{"VAST_CONTAINERLABEL": "C.1"}, {"VAST_TCP_PORT_8080": "40000"}],
    "modal": [{"MODAL_TASK_ID": "ta-1"}],
    "deepnote": [{"DEEPNOTE_PROJECT_ID": "p1"}],
    "binder": [{"BINDER_SERVICE_HOST": "10.0.0.1"}],
    "spaces": [{"SPACE_ID": "me/space", "SPACE_HOST": "me-space.hf.space"}],
    "codespaces": [{"CODESPACES": "true"}],
    "wsl": [{"WSL_DISTRO_NAME": "Ubuntu"}],
    "linux": [{}, {"CODESPACES": "false"}],
}
BY_SYSTEM = {"windows": "win32", "macos": "darwin", "linux": "linux", "local": "sunos5"}
BY_PATH = {"studiolab": "/home/studio-lab-user", "wsl": "/proc/sys/fs/binfmt_misc/WSLInterop"}


def nothing(path: str) -> bool:
    return False


@pytest.mark.parametrize("name, env", [(name, env) for name, envs in ENVIRONMENTS.items() for env in envs])
def test_a_platform_is_told_by_its_environment(name, env):
    assert platform.detect({"HOME": "/home/me", **env}, nothing).id == name


@pytest.mark.parametrize("name, system", BY_SYSTEM.items())
def test_a_bare_machine_is_told_by_its_system(name, system):
    assert platform.detect({"HOME": "/home/me"}, nothing, system).id == name


@pytest.mark.parametrize("name, path", BY_PATH.items())
def test_a_platform_is_told_by_a_path_that_only_it_has(name, path):
    assert platform.detect({"HOME": "/home/me"}, lambda asked: asked == path).id == name


def test_every_row_of_the_table_can_be_reached():
    rows = {row["id"] for row in settings.config("platforms")["platforms"]}
    assert rows == ENVIRONMENTS.keys() | BY_SYSTEM.keys()


def test_home_is_filled_in_and_what_is_not_known_stays():
    found = platform.detect({"HOME": "/home/me", "RUNPOD_POD_ID": "abc"}, nothing)
    assert found.url == "https://abc-$PORT.proxy.runpod.net"
    assert platform.detect({"HOME": "/home/me"}, nothing).root == "/home/me"


def test_this_machine_has_a_platform_with_a_writable_root():
    assert platform.here().root


def test_set_up_keeps_the_python_of_exactly_the_platforms_that_the_table_names():
    rows = settings.config("platforms")["platforms"]
    running = {name for row in rows if row.get("python") == "running" for name in row["when"]["any_env"]}
    assert set(installing.HOSTED) == running


def test_rows_have_only_known_fields():
    known = set("id name when root persistent disk_gb session_h gpu python secrets url port listen public_ui policy notes unchecked".split())
    for row in settings.config("platforms")["platforms"]:
        assert set(row.get("unchecked", ())) <= set(row) <= known, row["id"]
