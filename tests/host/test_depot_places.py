"""A depot where links are refused, where folders may only be read, and across disks."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from reverie.host.depot import Depot

LIMITED = Path(__file__).with_name("limited.py")
OLD = time.time() - 10 * 86400


@pytest.fixture
def limited():
    """Runs one case of limited.py in a folder that others may enter, and gives back what it said."""
    folder = tempfile.mkdtemp(prefix="reverie-limited-")
    os.chmod(folder, 0o755)

    def run(what):
        done = subprocess.run([sys.executable, str(LIMITED), what, folder], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    yield run
    shutil.rmtree(folder)


def test_where_symbolic_links_are_refused_hard_links_do_as_well(limited):
    said = limited("symlink")
    assert (said["way"], said["again"], said["same file"]) == ("hardlink", "there", True)
    assert said["freed"] >= 400_000 and said["right"] and said["again freed"] == 0 and said["withdrawn"]
    assert said["problems"] == [] and said["garbage"] == 0


def test_where_no_links_are_to_be_had_a_copy_is_made_and_dedup_leaves_all_as_it_is(limited):
    said = limited("links")
    assert (said["way"], said["again"], said["same file"]) == ("copy", "there", False)
    assert said["freed"] == 0 and said["changes"] == 0 and said["right"] and said["edited copy stays"]
    assert said["problems"] == [] and said["garbage"] == 0


@pytest.mark.skipif(os.name != "posix", reason="rights of POSIX")
def test_what_may_only_be_read_is_named_and_left_as_it_is(limited):
    said = limited("readonly")
    assert "cannot be" in said["sentence"] and said["right"] and said["left"] == ["a.safetensors", "b.safetensors"]
    assert {"a.safetensors", "b.safetensors", "secret.safetensors"} <= set(said["skipped"]) and said["linked"] == said["links"] == ["open.safetensors"]
    assert "cannot be" in said["storage"]


@pytest.fixture
def other_disk(tmp_path):
    if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second disk at hand")
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


def test_models_of_another_disk_come_over_and_are_seen_there_by_links(tmp_path, other_disk):
    data = os.urandom(500_000)
    for name in ("a", "b"):
        (other_disk / f"{name}.safetensors").write_bytes(data)
        os.utime(other_disk / f"{name}.safetensors", (OLD, OLD))
    with Depot(tmp_path / "S") as depot:
        report = depot.dedup([other_disk])
        assert len(report.changes) == 2 and 0 < report.freed_bytes < 510_000  # two of them there, less one here
        assert all((other_disk / f"{name}.safetensors").is_symlink() and (other_disk / f"{name}.safetensors").read_bytes() == data for name in "ab")
        depot.undo()
        assert all(not (other_disk / f"{name}.safetensors").is_symlink() and (other_disk / f"{name}.safetensors").read_bytes() == data for name in "ab")


def test_a_download_staged_on_another_disk_is_kept_whole(tmp_path, other_disk):
    (other_disk / "x").write_bytes(b"x" * 100_000)
    with Depot(tmp_path / "S") as depot:
        blob = depot.keep(other_disk / "x", "", kind="lora", name="x.safetensors")
        assert blob.read_bytes() == b"x" * 100_000 and not (other_disk / "x").exists()
        assert depot.expose(blob.name, other_disk / "y.safetensors", "own") == "symlink" and (other_disk / "y.safetensors").read_bytes() == b"x" * 100_000
