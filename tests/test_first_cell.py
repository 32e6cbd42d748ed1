"""Cell 1 on an empty machine: the project is found where it is, else fetched, whole, once."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

import build_notebook
import package_release

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def package(tmp_path) -> Path:
    """Something that cell 1 takes for the project: it says where it was set up."""
    root = tmp_path / "origin" / "sd-reverie-1.0"
    for name, text in {"modules/reverie/__init__.py": "", "scripts/setup.py": "def notebook(): print('set up in', __file__)\n"}.items():
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(text)
    return root


def first_cell(folder: Path, **env: str) -> subprocess.CompletedProcess:
    """Cell 1 alone, in an empty folder, without anything of the project on the path."""
    return run(build_notebook.SETUP, folder, **env)


def run(code: str, folder: Path, **env: str) -> subprocess.CompletedProcess:
    folder.mkdir(exist_ok=True)
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("REVERIE", "PYTHONPATH", "GIT_"))}
    env = {**bare, "HOME": str(folder), "USERPROFILE": str(folder), "NO_PROXY": "127.0.0.1", **env}
    return subprocess.run([sys.executable, "-I", "-c", code], cwd=folder, env=env, capture_output=True, text=True, timeout=120)


def zipped(package: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for path in package.rglob("*.py"):
            archive.write(path, path.relative_to(package.parent))
    return target


def test_without_a_source_one_sentence_says_what_to_give(tmp_path):
    done = first_cell(tmp_path / "empty")
    assert done.returncode == 1 and "REVERIE_SOURCE" in done.stderr and done.stderr.count("\n") == 1


def test_a_folder_is_used_where_it_is(tmp_path, package):
    assert str(package / "scripts") in first_cell(tmp_path / "empty", REVERIE_SOURCE=str(package)).stdout
    assert str(package / "scripts") in first_cell(tmp_path / "empty", REVERIE_ROOT=str(package)).stdout


def test_a_checkout_above_is_found(package):
    assert str(package / "scripts") in first_cell(package / "notebook").stdout


def test_a_zip_is_extracted_once_and_found_again(tmp_path, package):
    archive = zipped(package, tmp_path / "release.zip")
    done = first_cell(tmp_path / "empty", REVERIE_SOURCE=str(archive))
    assert str(tmp_path / "empty" / "sd-reverie" / "scripts") in done.stdout, done.stderr
    archive.unlink()
    assert first_cell(tmp_path / "empty").returncode == 0


def test_a_git_address_is_cloned(tmp_path, package):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], cwd=package, check=True, timeout=60)
    done = first_cell(tmp_path / "empty", REVERIE_SOURCE=f"file://{package}")
    assert str(tmp_path / "empty" / "sd-reverie" / "scripts") in done.stdout, done.stderr


@pytest.fixture
def address(tmp_path):
    """A loopback web server of tmp_path."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_zip_is_fetched_from_its_address(tmp_path, package, address):
    zipped(package, tmp_path / "release.zip")
    done = first_cell(tmp_path / "empty", REVERIE_SOURCE=f"{address}/release.zip")
    assert "set up in" in done.stdout, done.stderr


def test_a_page_instead_of_a_zip_and_a_missing_one_are_one_sentence(tmp_path, address):
    (tmp_path / "page.zip").write_text("<html>no</html>")
    for name in ("page.zip", "none.zip"):
        done = first_cell(tmp_path / "empty", REVERIE_SOURCE=f"{address}/{name}")
        assert done.returncode == 1 and "could not be fetched" in done.stderr and done.stderr.count("\n") == 1


def test_the_package_that_the_project_builds_is_taken_whole(tmp_path, address):
    digest = package_release.build(ROOT, tmp_path / "sd-reverie.zip")
    assert package_release.build(ROOT, tmp_path / "again.zip") == digest
    package = f"{address}/sd-reverie.zip"
    tampered = first_cell(tmp_path / "empty", REVERIE_SOURCE=f"{package}#sha256={'0' * 64}")
    assert tampered.returncode == 1 and "checksum" in tampered.stderr and os.listdir(tmp_path / "empty") == []
    code = build_notebook.SETUP.removesuffix("import setup\nsetup.notebook()") + "print(_root)"
    done = run(code, tmp_path / "empty", REVERIE_SOURCE=f"{package}#sha256={digest}")
    assert done.stdout.strip() == str(tmp_path / "empty" / "sd-reverie"), done.stderr
    here = tmp_path / "empty" / "sd-reverie"
    assert sorted(path.relative_to(here).as_posix() for path in here.rglob("*") if path.is_file()) == package_release.files(ROOT)
    assert all((here / name).read_bytes() == (ROOT / name).read_bytes() for name in package_release.files(ROOT))


def test_sources_are_tried_in_turn_and_each_says_what_was_wrong(tmp_path, package, address):
    zipped(package, tmp_path / "release.zip")
    done = first_cell(tmp_path / "one", REVERIE_SOURCE=f"{address}/none.zip, {address}/release.zip")
    assert "set up in" in done.stdout, done.stderr
    done = first_cell(tmp_path / "two", REVERIE_SOURCE=f"{address}/none.zip, file://{tmp_path}/nothing")
    assert done.returncode == 1 and "404" in done.stderr and "nothing" in done.stderr and done.stderr.count("\n") == 1


def test_a_repository_on_github_is_tried_as_package_clone_and_archive():
    names: dict = {}
    exec(build_notebook.SETUP.partition("_given = ")[0], names)
    base = "https://github.com/me/dreams"
    for given in (base, f"{base}/", f"{base}.git"):
        assert names["_ways"](given) == [f"{base}/releases/latest/download/sd-reverie.zip", given, f"{base}/archive/HEAD.zip"]
    assert names["_ways"](f"{base}/raw/x.zip") == [f"{base}/raw/x.zip"]


def test_two_kernels_at_once_share_one_project(tmp_path, package):
    zipped(package, tmp_path / "release.zip")
    (tmp_path / "empty").mkdir()
    both = [threading.Thread(target=lambda: results.append(first_cell(tmp_path / "empty", REVERIE_SOURCE=str(tmp_path / "release.zip")))) for _ in "12"]
    results: list[subprocess.CompletedProcess] = []
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert [done.returncode for done in results] == [0, 0], [done.stderr for done in results]
    assert os.listdir(tmp_path / "empty") == ["sd-reverie"]


def test_something_else_of_that_name_is_left_alone(tmp_path, package):
    mine = tmp_path / "empty" / "sd-reverie" / "notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    done = first_cell(tmp_path / "empty", REVERIE_SOURCE=str(zipped(package, tmp_path / "release.zip")))
    assert done.returncode == 1 and f"move {mine.parent} away" in done.stderr and mine.read_text() == "mine"


def test_the_cell_run_twice_in_a_kernel_is_harmless(tmp_path, package):
    twice = f"code = {build_notebook.SETUP!r}\nfor _ in '12': exec(code, globals())\nimport sys; print(len(sys.path) - len(set(sys.path)))"
    done = run(twice, tmp_path / "empty", REVERIE_SOURCE=str(package))
    assert done.stdout.count("set up in") == 2 and done.stdout.strip().endswith("\n0"), done.stderr
