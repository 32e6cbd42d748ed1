"""A WebUI is installed from a package or a repository, carried on with after a kill, and taken away without what is the person's."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import lz4.frame
import pytest

import small_webui
from reverie.errors import BadInput, Busy, Cancelled, DiskFull, FetchFailed, HostFailed, NotFound, ReverieError
from reverie.host import webuis
from reverie.host.webuis import packages, venvs
from reverie.host.depot.bin import Bin
from reverie.settings import ROOT, Settings


@pytest.fixture
def settings(tmp_path):
    return Settings(root=ROOT, storage=tmp_path / "storage")


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Package and environment, made once; the fields of the row that name them."""
    folder = tmp_path_factory.mktemp("made")
    zipped, packed = small_webui.package(folder), small_webui.venv(folder)
    return {"package": str(zipped), "package_sha256": small_webui.sha256(zipped), "venv": str(packed), "venv_sha256": small_webui.sha256(packed)}


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    return small_webui.repository(tmp_path_factory.mktemp("repository"))


def small(settings, **changes):
    small_webui.write_rows(settings.storage, small_webui.row(**changes))
    return webuis.find("small", settings)


def everything(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def nothing_left(settings):
    hidden = [path.name for folder in ("webuis", "venvs") for path in (settings.storage / folder).glob(".*")]
    assert hidden == []


def test_a_package_and_its_environment_are_installed_and_it_starts(settings, made):
    ui = small(settings, **made)
    steps = []
    receipt = packages.install(ui, settings, steps.append)
    home = webuis.home(ui, settings)
    assert webuis.is_installed(ui, settings) and receipt["way"] == "package" and receipt["sha256"] == made["package_sha256"]
    assert (home / "main.py").is_file() and os.access(home / "start.sh", os.X_OK)
    assert {"unpacking its package", "unpacking its environment"} <= {step.what for step in steps if step.total}
    python = webuis.venv_python(ui, settings)
    command = webuis.command(ui, settings, 4321, "cpu")
    assert command[0] == str(python) and command[-1] == "--cpu" and "4321" in command and str(settings.outputs / "small") in command
    done = subprocess.run([*command, "--die", "it could"], cwd=home, capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "it could"
    nothing_left(settings)


def test_an_environment_packed_elsewhere_lives_where_it_is_now(settings, made):
    """Interpreter, scripts and activate name the new place, and nothing names the old one."""
    ui = small(settings, **made)
    packages.install(ui, settings)
    folder = webuis.venv(ui, settings)
    assert subprocess.run([folder / "bin" / "hello"], capture_output=True, text=True, timeout=60).stdout.strip() == str(folder)
    assert f'VIRTUAL_ENV="{folder}"' in (folder / "bin/activate").read_text().replace("'", '"')
    for path in [*(folder / "bin").iterdir(), folder / "pyvenv.cfg"]:
        if path.is_file() and not path.is_symlink():
            assert b"made-elsewhere" not in path.read_bytes(), path


def test_an_environment_lives_in_a_place_with_spaces_and_a_long_name(tmp_path, made):
    settings = Settings(root=ROOT, storage=tmp_path / "a place with spaces" / ("long" * 30))
    ui = small(settings, **made)
    packages.install(ui, settings)
    folder = webuis.venv(ui, settings)
    assert subprocess.run([folder / "bin" / "hello"], capture_output=True, text=True, timeout=60).stdout.strip() == str(folder)


def test_installing_again_changes_nothing(settings, made):
    ui = small(settings, **made)
    first = packages.install(ui, settings)
    before = everything(settings.storage / "webuis")
    steps = []
    assert packages.install(ui, settings, steps.append) == first
    assert everything(settings.storage / "webuis") == before and not [step for step in steps if step.total]


def test_a_package_in_one_folder_loses_that_folder(settings, made, tmp_path):
    (tmp_path / "boxed").mkdir()
    ui = small(settings, **made | {"package": str(small_webui.package(tmp_path / "boxed", "ComfyUI-1.2")), "package_sha256": ""})
    packages.install(ui, settings)
    assert (webuis.home(ui, settings) / "main.py").is_file()


def test_signs_of_another_installation_in_a_package_are_not_believed(settings, made, tmp_path):
    """As of one that was packed from an installed folder: its list of links would lead to files that are somebody's."""
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    packed = tmp_path / "packed.zip"
    shutil.copy(made["package"], packed)
    links = json.dumps({"links": [{"path": str(precious)}], str(precious): {}})
    with zipfile.ZipFile(packed, "a") as archive:
        for name, text in ((".reverie.json", '{"state": "installed", "venv": "another"}'), (".reverie-links.json", links), (".reverie-files.json", '[["main.py", 1, 1]]')):
            archive.writestr(name, text)
    ui = small(settings, **{**made, "package": str(packed), "package_sha256": ""})
    packages.install(ui, settings)
    home = webuis.home(ui, settings)
    assert webuis.receipt(ui, settings)["venv"] != "another" and "precious" not in json.dumps([p.read_text() for p in home.glob(".reverie*")])
    packages.uninstall(ui, settings)
    assert precious.read_text() == "mine" and not home.exists()


def test_a_disk_that_fills_up_in_the_middle_is_one_sentence_and_with_room_it_goes_on(made, tmp_path):
    """A small memory disk; without the right to mount one there is nothing to try this on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m", "none", str(disk)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no memory disk can be mounted here")
    try:
        settings, ballast = Settings(root=ROOT, storage=disk / "storage"), disk / "ballast"
        ui = small(settings, **made)

        def fill(step):
            if step.what == when and not ballast.exists():
                with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * 4096)

        for when in ("unpacking its package", "moving it in", "unpacking its environment", "fitting its environment to its place"):
            with pytest.raises(ReverieError) as full:
                packages.install(ui, settings, fill)
            assert "space" in str(full.value) or "free" in str(full.value), (when, str(full.value))
            assert not webuis.is_installed(ui, settings)
            ballast.unlink()
        packages.install(ui, settings)
        assert webuis.is_installed(ui, settings)
        nothing_left(settings)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True, timeout=60)


def test_a_package_of_something_else_is_refused(settings, made, tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "words")
    ui = small(settings, **made | {"package": str(tmp_path / "other.zip"), "package_sha256": ""})
    with pytest.raises(BadInput, match="has no main.py in it"):
        packages.install(ui, settings)
    assert not webuis.home(ui, settings).exists()
    nothing_left(settings)


# ------------------------------------------------------------------------------------------------------------- from a clone


def test_a_clone_at_a_pinned_commit_gets_an_environment_of_its_own(settings, repository):
    bare, first = repository
    ui = small(settings, git=str(bare), commit=first)
    lines = []
    receipt = packages.install(ui, settings, lambda step: lines.append(step.line))
    assert receipt["commit"] == first and webuis.is_installed(ui, settings)
    assert not (webuis.home(ui, settings) / "later.txt").exists(), "the second commit's file"
    assert venvs.check(webuis.venv(ui, settings)) and any(lines)
    nothing_left(settings)


def test_a_branch_says_when_something_newer_is_there(settings, repository, tmp_path):
    bare, first = repository
    ui = small(settings, git=str(bare), commit="master")
    receipt = packages.install(ui, settings)
    assert receipt["commit"] not in ("", first) and packages.update(ui, settings) == ""
    subprocess.run(["git", "-C", bare, "-c", "user.name=a", "-c", "user.email=a@b", "tag", "-f", "-a", "-m", "a tag", "v1", receipt["commit"]], check=True, timeout=60)
    assert packages.update(replace(ui, commit="v1"), settings) == "", "a tag is no newer than what it is put on"
    pinned = replace(ui, commit=first)
    assert packages.update(pinned, settings) == first


def test_a_commit_that_is_not_there_is_said(settings, repository):
    for commit in ("no-such-branch", "0" * 40):
        with pytest.raises(NotFound, match="has no commit"):
            packages.install(small(settings, git=str(repository[0]), commit=commit), settings)
    nothing_left(settings)


def test_a_repository_that_is_not_there_is_said(settings, tmp_path):
    with pytest.raises(FetchFailed, match="could not be cloned"):
        packages.install(small(settings, git=str(tmp_path / "nowhere.git")), settings)
    nothing_left(settings)


def test_hooks_of_a_repository_never_run(settings, tmp_path):
    bare, first = small_webui.repository(tmp_path / "hooked")
    proof = tmp_path / "it-ran"
    for folder in (bare / "hooks",):
        for name in ("post-checkout", "post-merge", "update"):
            (folder / name).write_text(f"#!/bin/sh\ntouch {proof}\n")
            (folder / name).chmod(0o755)
    packages.install(small(settings, git=str(bare), commit=first), settings)
    assert not proof.exists()


def test_without_the_package_it_is_cloned(settings, made, repository, tmp_path):
    import socket

    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}/small.zip"
        ui = small(settings, package=address, git=str(repository[0]), commit=repository[1])
        receipt = packages.install(ui, settings)
    assert receipt["way"] == "git"


# ---------------------------------------------------------------------------------------------------------------- what fails


def test_a_wrong_sum_is_refused_before_unpacking(settings, made):
    ui = small(settings, **made | {"package_sha256": "0" * 64})
    with pytest.raises(BadInput, match="SHA-256"):
        packages.install(ui, settings)
    assert not webuis.home(ui, settings).exists()


def test_a_cut_off_environment_is_refused_and_the_next_run_carries_on(settings, made, tmp_path):
    whole = Path(made["venv"]).read_bytes()
    packed = tmp_path / "cut.tar.lz4"
    packed.write_bytes(whole[: len(whole) // 2])
    ui = small(settings, **made | {"venv": str(packed), "venv_sha256": ""})
    with pytest.raises(BadInput, match="cut off"):
        packages.install(ui, settings)
    assert not webuis.is_installed(ui, settings)
    nothing_left(settings)
    packed.write_bytes(whole)
    steps = []
    packages.install(ui, settings, steps.append)
    assert webuis.is_installed(ui, settings) and "unpacking its package" not in {step.what for step in steps}


def test_an_environment_for_a_python_that_is_not_here_is_said(settings, made, tmp_path):
    import io
    import tarfile

    packed = tmp_path / "old.tar.lz4"
    with lz4.frame.open(packed, "wb") as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
        for name, text in (("venv/pyvenv.cfg", "home = /usr/bin\nversion = 3.4.1\n"), ("venv/bin/activate", 'VIRTUAL_ENV="/gone/venv"\n')):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    ui = small(settings, **made | {"venv": str(packed), "venv_sha256": ""})
    with pytest.raises(HostFailed, match="Python 3.4 is not on this machine.*apt install python3.4"):
        packages.install(ui, settings)
    nothing_left(settings)


def test_too_small_a_disk_is_said_before_anything_is_written(settings, made, tmp_path):
    import struct
    import zipfile

    huge = tmp_path / "huge.zip"
    with zipfile.ZipFile(huge, "w") as archive:
        for number in range(2000):
            archive.writestr(f"{number}", b"")
    raw, at = bytearray(huge.read_bytes()), 0
    while (at := raw.find(b"PK\x01\x02", at)) >= 0:
        raw[at + 24 : at + 28] = struct.pack("<I", 4_000_000_000)
        at += 4
    huge.write_bytes(raw)
    ui = small(settings, **made | {"package": str(huge), "package_sha256": ""})
    with pytest.raises(DiskFull, match="takes at least 8000"):
        packages.install(ui, settings)
    assert not (settings.storage / "webuis").exists() and not (settings.storage / "venvs").exists()


def test_what_has_no_package_says_to_bring_one(settings):
    with pytest.raises(HostFailed, match="no package of InvokeAI.*Bring your own"):
        packages.install(webuis.find("invokeai", settings), settings)


def test_cancelling_stops_and_the_next_run_finishes(settings, made):
    ui = small(settings, **made)
    asked = iter([False] * 12)
    with pytest.raises(Cancelled):
        packages.install(ui, settings, cancelled=lambda: next(asked, True))
    assert not webuis.is_installed(ui, settings)
    packages.install(ui, settings)
    assert webuis.is_installed(ui, settings)
    nothing_left(settings)


def test_two_at_once_do_not_mix(settings, made):
    ui = small(settings, **made)
    with packages.alone(settings, "webui-small"), pytest.raises(Busy):
        packages.install(ui, settings)


KILLED = """
import sys
from reverie.host import webuis
from reverie.host.webuis import packages
from reverie.settings import load
count = int(sys.argv[1])
def tell(step):
    global count
    count -= 1
    if count < 0:
        print("here", flush=True)
        import time; time.sleep(600)
packages.install(webuis.find("small"), load(), tell)
print("done", flush=True)
"""


@pytest.mark.parametrize("after", [0, 1, 2, 3, 5, 8])
def test_killed_at_any_step_the_next_run_finishes(settings, made, after):
    ui = small(settings, **made)
    env = os.environ | {"REVERIE_STORAGE": str(settings.storage), "PYTHONPATH": str(ROOT / "modules")}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(after)], env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() in ("here", "done")
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    packages.install(ui, settings)
    assert webuis.is_installed(ui, settings) and (webuis.home(ui, settings) / "main.py").is_file()
    assert venvs.check(webuis.venv(ui, settings))
    nothing_left(settings)


# ----------------------------------------------------------------------------------------------------- what the person owns


def test_uninstalling_keeps_what_the_person_put_there_and_undo_brings_the_rest_back(settings, made):
    ui = small(settings, **made)
    packages.install(ui, settings)
    home = webuis.home(ui, settings)
    before = everything(home)
    (home / "models/checkpoints/mine.safetensors").write_bytes(b"mine")
    (home / "output/picture.png").write_bytes(b"a picture")
    (home / "custom_nodes/theirs/.git").mkdir(parents=True)
    (home / "custom_nodes/theirs/.git/HEAD").write_bytes(b"ref")
    (home / "__pycache__").mkdir()
    (home / "__pycache__/main.cpython.pyc").write_bytes(b"compiled")
    time.sleep(0.01)
    (home / "start.sh").write_text("#!/bin/sh\n# changed by hand\n")
    removed = packages.uninstall(ui, settings)
    assert everything(home) == {"custom_nodes/theirs/.git/HEAD": b"ref", "models/checkpoints/mine.safetensors": b"mine", "output/picture.png": b"a picture", "start.sh": (home / "start.sh").read_bytes()}
    assert removed.kept == ["custom_nodes/theirs/.git/HEAD", "models/checkpoints/mine.safetensors", "output/picture.png", "start.sh"]
    assert not webuis.is_installed(ui, settings) and not webuis.venv(ui, settings).exists()
    Bin(settings.storage).restore(removed.entry)
    assert webuis.is_installed(ui, settings) and set(before) <= set(everything(home))
    assert venvs.check(webuis.venv(ui, settings))


def test_installed_over_a_persons_files_both_are_there(settings, made):
    ui = small(settings, **made)
    home = webuis.home(ui, settings)
    (home / "models/checkpoints").mkdir(parents=True)
    (home / "models/checkpoints/mine.safetensors").write_bytes(b"mine")
    (home / "start.sh").write_bytes(b"mine too")
    packages.install(ui, settings)
    assert (home / "models/checkpoints/mine.safetensors").read_bytes() == b"mine" and (home / "start.sh").read_bytes() == b"mine too"
    assert (home / "main.py").is_file()
    removed = packages.uninstall(ui, settings)
    assert removed.kept == ["models/checkpoints/mine.safetensors", "start.sh"]


def test_nothing_of_the_persons_means_the_whole_folder_goes(settings, made):
    ui = small(settings, **made)
    packages.install(ui, settings)
    assert packages.uninstall(ui, settings).kept == [] and not webuis.home(ui, settings).exists()
    with pytest.raises(HostFailed, match="is not installed"):
        packages.uninstall(ui, settings)


def test_an_environment_that_another_webui_uses_stays(settings, made):
    small_webui.write_rows(settings.storage, small_webui.row(**made), small_webui.row(id="second", **made))
    for id in ("small", "second"):
        packages.install(webuis.find(id, settings), settings)
    ui, second = webuis.find("small", settings), webuis.find("second", settings)
    assert webuis.venv(ui, settings) == webuis.venv(second, settings)
    packages.uninstall(ui, settings)
    assert webuis.is_installed(second, settings) and venvs.check(webuis.venv(second, settings))


def test_settings_that_it_begins_with_never_replace_the_persons(settings, made):
    ui = small(settings, **made, configs=[{"path": "config.json", "values": {"samples_format": "png"}}])
    home = webuis.home(ui, settings)
    home.mkdir(parents=True)
    (home / "config.json").write_text('{"samples_format": "webp"}')
    packages.install(ui, settings)
    assert json.loads((home / "config.json").read_text()) == {"samples_format": "webp"}
    (home / "config.json").unlink()
    packages.install(ui, settings)
    assert json.loads((home / "config.json").read_text()) == {"samples_format": "png"}


def test_the_plan_says_what_would_be_done_and_does_nothing(settings, made):
    ui = small(settings, **made)
    actions = packages.plan(ui, settings)
    assert [action.done for action in actions] == [False, False] and all(action.bytes for action in actions)
    assert not (settings.storage / "webuis").exists()
    packages.install(ui, settings)
    assert all(action.done for action in packages.plan(ui, settings))
