"""Setting up: on a bare machine, in what is there already, again, broken, without a network."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import headless
import installing
import setup

ROOT = Path(__file__).resolve().parents[1]
SETUP = ROOT / "scripts" / "setup.py"
NOWHERE = "http://127.0.0.1:9"


def call(*arguments: str, code: str = "", **env: str) -> subprocess.CompletedProcess:
    """Run setup.py, or `code` with the scripts on the path, in another process."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(SETUP.parent)!r})\n{code}"] if code else [sys.executable, str(SETUP), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **env})


@pytest.fixture(scope="module")
def venv(tmp_path_factory) -> installing.Target:
    """A real, empty virtual environment in a folder with a space in its name."""
    return setup.make_venv(tmp_path_factory.mktemp("with space") / "venv")


# ------------------------------------------------------------------------------------------------------ the command


def test_help_shows_examples():
    done = call("--help")
    assert done.returncode == 0 and "--run -p text" in done.stdout and "--test --" in done.stdout


@pytest.mark.parametrize("wrong", [("--nonsense",), ("extra",), ("-p", "steps", "3")])
def test_a_wrong_option_is_told_and_exits_2(wrong):
    assert call(*wrong).returncode == 2


def test_an_older_python_gets_one_sentence():
    code = f"import runpy; sys.version_info = (3, 10, 1); runpy.run_path({str(SETUP)!r}, run_name='__main__')"
    done = call(code=code)
    assert done.returncode == 1 and done.stderr.startswith("SD-Reverie needs Python 3.11 or later") and done.stderr.count("\n") == 1


def test_an_older_python_can_read_the_file_up_to_that_sentence():
    ast.parse(SETUP.read_text("utf-8"), feature_version=(3, 7))


def test_what_is_set_up_is_done_at_once():
    if not setup.is_done_here():
        pytest.skip("this Python was not set up by setup.py")
    done = call()
    assert done.returncode == 0 and "Setting up" not in done.stdout and "Ready" in done.stdout


# -------------------------------------------------------------------------------------------------- the environment


def test_a_new_environment_imports_reverie_from_anywhere_and_has_the_command(venv, tmp_path):
    installing.link(venv)
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ask = [venv.python, "-c", "import reverie; print(reverie.__file__)"]
    assert str(ROOT / "modules") in subprocess.run(ask, cwd=tmp_path, env=bare, capture_output=True, text=True, timeout=60).stdout
    command = subprocess.run([str(venv.scripts / "reverie"), "--help"], env=bare, capture_output=True, text=True, timeout=60)
    assert "faces/cli.py" in command.stderr and "ModuleNotFoundError" in command.stderr  # found; what it needs is not installed yet


def test_an_environment_that_is_there_is_used(venv):
    pip = Path(venv.packages) / "pip"
    before = pip.stat().st_ino
    assert setup.make_venv(Path(venv.python).parents[1]).packages == venv.packages
    assert pip.stat().st_ino == before


def test_an_environment_without_its_python_is_made_again(tmp_path):
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "pyvenv.cfg").write_text("home = /gone\n")
    assert Path(setup.make_venv(tmp_path / "venv").python).exists()


def test_an_environment_of_others_gets_a_pip_and_keeps_everything(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True, timeout=300)
    packages = next((tmp_path / "venv").glob("**/site-packages"))
    (packages / "half-1.0.dist-info").mkdir()
    config = (tmp_path / "venv" / "pyvenv.cfg").read_text()
    target = setup.make_venv(tmp_path / "venv")
    assert not target.ours and any(packages.glob("pip-*.dist-info"))
    assert (packages / "half-1.0.dist-info").exists() and (tmp_path / "venv" / "pyvenv.cfg").read_text() == config
    assert not setup.make_venv(tmp_path / "venv").ours, "not even when it has a pip"


def test_an_environment_that_setup_made_is_ours_wherever_it_is(venv):
    assert venv.ours and setup.make_venv(Path(venv.python).parents[1]).ours


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(setup.Halt, match="something else"):
        setup.make_venv(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_without_ensurepip_the_pip_that_is_there_serves(tmp_path):
    code = f"""
import pathlib, subprocess
sys.modules["ensurepip"] = None
import setup
target = setup.make_venv(pathlib.Path({str(tmp_path / "venv")!r}))
done = subprocess.run([*target.pip, "list", "--format=json"], capture_output=True, text=True, timeout=60)
print(target.pip[1:4], done.returncode, done.stdout)
"""
    done = call(code=code)
    assert "('-m', 'pip', '--python') 0 []" in done.stdout, done.stderr


def test_without_any_pip_the_package_to_install_is_named(tmp_path):
    code = f"""
import pathlib
sys.modules["ensurepip"] = sys.modules["pip"] = None
import setup
try:
    setup.make_venv(pathlib.Path({str(tmp_path / "venv")!r}))
except setup.Halt as halt:
    print(halt)
"""
    assert "sudo apt install python3." in call(code=code).stdout


def test_a_package_whose_installation_was_cut_off_is_forgotten(venv):
    half = venv.packages / "half-1.0.dist-info"
    half.mkdir()
    (half / "METADATA").write_text("Name: half\nVersion: 1.0\n")
    (venv.packages / "~eft").mkdir()
    installing.heal(venv)
    assert not half.exists() and not (venv.packages / "~eft").exists() and any(venv.packages.glob("pip-*.dist-info"))


def test_without_a_network_one_sentence_says_so(venv):
    dead = {"HTTPS_PROXY": NOWHERE, "HTTP_PROXY": NOWHERE, "NO_PROXY": "", "PIP_INDEX_URL": f"{NOWHERE}/simple", "PIP_RETRIES": "0"}
    bare = {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "", "PIP_NO_CACHE_DIR": "1"}
    done = call("--venv", str(Path(venv.python).parents[1]), **dead, **bare)
    assert done.returncode == 1 and "check the network" in done.stderr and "Traceback" not in done.stderr
    assert not venv.stamp.exists()


# -------------------------------------------------------------------------------------------------- what to install


def test_every_requirement_has_a_pin():
    names = {installing.name_of(r) for r in installing.wanted(("test",))}
    assert names <= installing.pins().keys()


def test_beside_others_packages_what_is_there_stays(tmp_path):
    target = replace(setup.choose_target(None, no_venv=True), ours=False)
    pinned, kept, few = installing.constraint_sets(target)
    have = installing.installed(target)
    assert f"torch=={have['torch']}" in pinned.read_text().split("\n") and f"torch=={have['torch']}" in few.read_text().split("\n")
    assert f"jinja2=={have['jinja2']}" in kept.read_text().split("\n")
    assert "diffusers==" not in kept.read_text()  # may be raised where ours needs a newer one


def test_a_stamp_of_other_versions_counts_for_nothing(venv):
    venv.stamp.write_text(json.dumps({"fingerprint": installing.fingerprint(venv), "groups": []}))
    assert installing.is_done(venv, ()) and not installing.is_done(venv, ("test",))
    assert not installing.is_done(replace(venv, version="3.99.0"), ())
    venv.stamp.write_text("{")
    assert not installing.is_done(venv, ())
    venv.stamp.unlink()


# ---------------------------------------------------------------------------------------------------- what one sees


def test_pip_s_output_becomes_one_line_a_package(venv, capsys):
    progress = installing.Progress(venv, total=3)
    for line in (
        "Requirement already satisfied: torch>=2.6 in ./lib (2.13.0)", "Collecting numpy==2.4.6 (from -c x)",
        "  Downloading numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl.metadata (6 kB)",
        "  Downloading numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl (16.6 MB)", "Collecting pillow",
        "Processing /somewhere/pillow-13.0.0-cp311-cp311-linux_x86_64.whl (from x)", "Installing collected packages: numpy, pillow",
    ):
        progress.line(line)
    lines = [line.split("  [")[0].strip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["2/3   numpy 2.4.6 16.6 MB", "3/3   pillow 13.0.0", "installing 2 packages"]


@pytest.mark.parametrize(
    "said, step", [("Max retries exceeded", "check the network"), ("[Errno 28] No space left on device", "disk is full"), ("odd", "--again")]
)
def test_a_failure_says_what_to_do_next(said, step):
    assert step in str(installing.failed("It failed.", ["Collecting x", f"ERROR: {said}"], installing.network_step([said])))


def test_a_command_that_does_not_end_is_ended():
    code, lines = installing.run([sys.executable, "-c", "import time; print('on'); time.sleep(60)"], timeout=2)
    assert code != 0 and "without an end" in lines[-1]


def test_a_python_that_does_not_answer_or_fails_is_told():
    with pytest.raises(installing.Halt, match="does not answer within 0.1 s"):
        installing.ask(sys.executable, "-c", "import time; time.sleep(60)", within_s=0.1)
    with pytest.raises(installing.Halt, match="does not start: .*nothing"):
        installing.ask(sys.executable, "-c", "raise SystemExit('nothing')")


def test_the_run_shows_cells_and_their_words_and_not_papermill_s(capsys):
    cells = headless.Cells(["1 Setup", "2 Choose"], injected=True, say=print)
    for line in ("Input Notebook:  a", "Executing Cell 1-----", "Ending Cell 1---", "Executing Cell 2-----", "hello", "Traceback (most", "Exception: x"):
        cells.line(line)
    assert [line.split("] ")[-1].strip() for line in capsys.readouterr().out.splitlines()] == ["1 Setup", "hello"]


def test_the_results_are_named_by_their_places(tmp_path, capsys):
    (tmp_path / "last.json").write_text(json.dumps({"pictures": ["/a/1.png", "/a/2.png"], "storyboard": "/a/storyboard.html", "failed": 1}))
    headless.tell_results(tmp_path / "last.json", print)
    out = capsys.readouterr().out
    assert "2 pictures, 1 failed" in out and "pictures    /a\n" in out and "storyboard  /a/storyboard.html" in out


def test_the_ci_command_is_the_one_that_everybody_uses():
    assert "python3 scripts/setup.py --test" in (ROOT / ".ci" / "run").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], timeout=30).returncode == 0


def test_ci_goes_on_without_a_network_where_only_what_is_optional_is_missing(tmp_path):
    for name, line in {"apt-get": "exit 100", "sudo": 'exec "$@"', "chromium": "exit 0", "python3": 'echo "$@"'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("bash", "dirname", "id", "timeout"):
        (tmp_path / name).symlink_to(shutil.which(name))
    command = [str(tmp_path / "bash"), str(ROOT / ".ci" / "run")]
    done = subprocess.run(command, env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.endswith("scripts/setup.py --test\n"), done.stderr
