"""Outputs in the folder that outlives the session: what is copied, what is left alone, and when."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from reverie import settings
from reverie.errors import BadInput
from reverie.host import outputs_sync
from reverie.host.outputs_sync import Guard, is_synced, sync, target
from reverie.host.platform import Platform

PATIENCE_S = 60
OLD = 1_700_000_000


@pytest.fixture
def home(tmp_path):
    home = dataclasses.replace(settings.load(), storage=tmp_path / "storage")
    home.outputs.mkdir(parents=True)
    return home


@pytest.fixture
def kept(tmp_path):
    (tmp_path / "drive").mkdir()
    return tmp_path / "drive" / "SD-Reverie" / "outputs"


def make(home, name, data=b"picture", at=OLD):
    path = home.outputs / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (at, at))
    return path


def found(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def wait_for(what):
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def test_what_is_new_is_copied_once_with_its_folders_and_time(home, kept):
    make(home, "pictures/a.png", b"a" * 1000)
    make(home, "illustrate/book/b.png", b"b")
    report = sync(home, kept)
    assert (report.copied, report.bytes, report.refused) == (2, 1001, ())
    assert found(kept) == {"pictures/a.png": b"a" * 1000, "illustrate/book/b.png": b"b"}
    assert (kept / "pictures/a.png").stat().st_mtime == OLD
    again = sync(home, kept)
    assert (again.copied, again.there) == (0, 2)


def test_what_changed_replaces_our_older_copy(home, kept):
    make(home, "a.png", b"first")
    sync(home, kept)
    make(home, "a.png", b"second", OLD + 1)
    assert sync(home, kept).copied == 1 and found(kept) == {"a.png": b"second"}


def test_what_somebody_else_put_there_is_left_alone(home, kept):
    kept.mkdir(parents=True)
    (kept / "a.png").write_bytes(b"of another session")
    (kept / "same.png").write_bytes(b"same")
    make(home, "a.png", b"mine")
    make(home, "same.png", b"same")
    report = sync(home, kept)
    assert found(kept) == {"a.png": b"of another session", "a (2).png": b"mine", "same.png": b"same"} and (report.copied, report.there) == (1, 1)
    assert sync(home, kept).copied == 0 and len(found(kept)) == 3, "not again and again"
    make(home, "a.png", b"mine, better", OLD + 1)
    sync(home, kept)
    assert found(kept)["a (2).png"] == b"mine, better" and len(found(kept)) == 3


def test_a_copy_that_its_owner_edited_is_not_written_over(home, kept):
    make(home, "a.png", b"first")
    sync(home, kept)
    (kept / "a.png").write_bytes(b"retouched on the drive")
    make(home, "a.png", b"second", OLD + 1)
    sync(home, kept)
    assert found(kept) == {"a.png": b"retouched on the drive", "a (2).png": b"second"}


def test_nothing_is_ever_deleted_there(home, kept):
    path = make(home, "a.png")
    sync(home, kept)
    path.unlink()
    sync(home, kept)
    assert found(kept) == {"a.png": b"picture"}


def test_a_copy_that_is_gone_is_made_again(home, kept):
    make(home, "a.png")
    sync(home, kept)
    (kept / "a.png").unlink()
    assert sync(home, kept).copied == 1 and found(kept) == {"a.png": b"picture"}


def test_unfinished_hidden_and_linked_files_stay(home, kept, tmp_path):
    for name in ("a.png.part", ".hidden.png", "b.tmp", ".cache/c.png"):
        make(home, name)
    (tmp_path / "secret").write_bytes(b"elsewhere")
    (home.outputs / "link.png").symlink_to(tmp_path / "secret")
    make(home, "new.png", at=time.time())
    make(home, "of_tomorrow.png", at=time.time() + 86400)
    report = sync(home, kept, settled_s=3600)
    assert (report.copied, report.waiting) == (1, 1) and list(found(kept)) == ["of_tomorrow.png"]


def test_a_webuis_own_outputs_go_into_a_folder_of_its_name(home, kept, tmp_path):
    other = tmp_path / "webui"
    other.mkdir()
    (other / "x.png").write_bytes(b"x")
    sync(home, kept, {"comfyui": other}, settled_s=0)
    assert found(kept) == {"comfyui/x.png": b"x"}


def test_a_target_that_is_full_is_said_and_what_fits_is_copied(home, kept, monkeypatch):
    """The room that must stay free is set above what the disk has."""
    import shutil

    make(home, "large.png", b"x" * 3_000_000)
    make(home, "small.png", b"x")
    monkeypatch.setattr(outputs_sync, "KEEP_FREE", shutil.disk_usage(home.storage).free + 2**40)
    report = sync(home, kept)
    assert report.copied == 0 and len(report.refused) == 2 and "no room" in report.refused[0] and "Not copied" in str(report)
    assert found(kept) == {}


def test_a_target_that_cannot_be_written_is_said(home, tmp_path):
    make(home, "a.png")
    (tmp_path / "file").write_bytes(b"")
    report = sync(home, tmp_path / "file" / "below")
    assert report.copied == 0 and len(report.refused) == 1


def test_the_cleaner_can_tell_what_has_a_copy(home, kept):
    path, other = make(home, "a.png"), make(home, "b.png")
    assert not is_synced(path, home)
    sync(home, kept)
    assert is_synced(path, home) and is_synced(other, home)
    make(home, "a.png", b"changed", OLD + 5)
    (kept / "b.png").unlink()
    assert not is_synced(path, home) and not is_synced(other, home) and not is_synced(home.storage / "elsewhere", home)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"target": 1}', '{"target": "x", "files": 3}', "\xff"])
def test_a_damaged_mark_only_costs_a_comparison(home, kept, damage):
    make(home, "a.png")
    sync(home, kept)
    (home.storage / "run" / "synced.json").write_text(damage, "latin-1")
    report = sync(home, kept)
    assert (report.copied, report.there) == (0, 1) and found(kept) == {"a.png": b"picture"}


def test_another_target_gets_everything(home, kept, tmp_path):
    make(home, "a.png")
    sync(home, kept)
    assert sync(home, tmp_path / "other").copied == 1


def test_no_half_copy_is_ever_seen_however_it_is_killed(home, kept):
    for n in range(40):
        make(home, f"{n}.png", bytes([n]) * 2_000_000)
    script = "import dataclasses, pathlib, sys\nfrom reverie import settings\nfrom reverie.host import outputs_sync\nprint('go', flush=True)\nwhile True: outputs_sync.sync(dataclasses.replace(settings.load(), storage=pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2]))"
    for wait_s in (0.0, 0.03, 0.1, 0.2):
        process = subprocess.Popen([sys.executable, "-c", script, str(home.storage), str(kept)], stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        time.sleep(wait_s)
        process.kill()
        process.wait(30)
        process.stdout.close()
        for name, data in found(kept).items() if kept.exists() else ():
            assert name.split("/")[-1].startswith(".") or data == (home.outputs / name).read_bytes(), name
    sync(home, kept)
    whole = {name: data for name, data in found(kept).items() if not name.startswith(".")}
    assert whole == found(home.outputs)


# Where to


def test_where_outputs_go_is_what_the_platform_keeps(home, tmp_path):
    drive = tmp_path / "MyDrive"
    colab = Platform(id="colab", name="Google Colab", root="/content", persistent=str(drive))
    with pytest.raises(BadInput, match="drive.mount"):
        target(home, colab)
    drive.mkdir()
    assert target(home, colab) == drive / "SD-Reverie" / "outputs"
    for where, why in (
        (Platform(id="binder", name="Binder", root="/"), "keeps nothing"),
        (Platform(id="kaggle", name="Kaggle", root="/", persistent=str(home.storage)), "already"),
        (Platform(id="linux", name="Linux", root="/", persistent=str(drive), url="http://localhost:$PORT"), "your own"),
        (Platform(id="runpod", name="RunPod", root="/", persistent=str(tmp_path / "no")), "is not there"),
    ):
        with pytest.raises(BadInput, match=why):
            target(home, where)


# When


def test_the_guard_copies_now_and_then_and_at_its_end(home, kept):
    make(home, "a.png")
    reports = []
    guard = Guard.start(home, Platform(id="x", name="X", root="/"), to=kept, every_s=0.1, on_report=reports.append)
    try:
        wait_for(lambda: found(kept) == {"a.png": b"picture"})
        make(home, "b.png")
        wait_for(lambda: "b.png" in found(kept))
        make(home, "c.png", at=time.time())
    finally:
        last = guard.stop()
    assert "c.png" in found(kept) and last is guard.last and [report.copied for report in reports][0] == 1
    assert not any(thread.name == "reverie-outputs" for thread in threading.enumerate())
    make(home, "d.png")
    guard.stop()
    assert "d.png" not in found(kept), "stopped is stopped"


def test_before_the_platforms_end_it_looks_more_often(home, kept):
    now = time.time()
    guard = Guard(home, kept, every_s=3600)
    assert guard._pause_s() == 3600
    for left, pause in ((20 * 60, 5 * 60), (15 * 60 - 1, 10 * 60 - 1), (200, 140), (30, 3600)):
        guard.ends_at = now + left
        assert pause - 5 < guard._pause_s() <= pause, left


def test_the_end_is_known_from_the_platform_and_the_sessions_start(home, kept):
    where = Platform(id="colab", name="Colab", root="/", session_h=12)
    guard = Guard.start(home, where, to=kept, since=1000.0)
    guard.stop()
    assert guard.ends_at == 1000 + 12 * 3600
    guard = Guard.start(home, dataclasses.replace(where, session_h=0), to=kept)
    guard.stop()
    assert guard.ends_at is None


SCRIPT = (
    "import dataclasses, pathlib, sys, time\nfrom reverie import settings\nfrom reverie.host.outputs_sync import Guard\nfrom reverie.host.platform import Platform\n"
    "home = dataclasses.replace(settings.load(), storage=pathlib.Path(sys.argv[1]))\n"
    "guard = Guard.start(home, Platform(id='x', name='X', root='/'), to=pathlib.Path(sys.argv[2]))\n"
    "(home.outputs / 'last.png').write_bytes(b'last')\nprint('ready', flush=True)\n"
)


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM is no message there")
@pytest.mark.parametrize("ending", ["time.sleep(600)", "import signal\nsignal.pause()"])
def test_a_platform_that_ends_the_run_leaves_time_for_a_last_copy(home, kept, ending):
    process = subprocess.Popen([sys.executable, "-c", SCRIPT + ending, str(home.storage), str(kept)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == -signal.SIGTERM, "and it ends all the same"
    process.stdout.close()
    assert found(kept) == {"last.png": b"last"}


def test_a_process_that_ends_by_itself_copies_too(home, kept):
    subprocess.run([sys.executable, "-c", SCRIPT, str(home.storage), str(kept)], stdout=subprocess.DEVNULL, check=True, timeout=PATIENCE_S)
    assert found(kept) == {"last.png": b"last"}


def test_a_drive_that_goes_away_does_not_end_the_guard(home, kept):
    make(home, "a.png")
    kept.parent.parent.rmdir()
    kept.parent.parent.write_bytes(b"a file where the drive was")
    guard = Guard.start(home, Platform(id="x", name="X", root="/"), to=kept, every_s=0.1)
    try:
        wait_for(lambda: guard.last is not None and guard.last.refused)
        kept.parent.parent.unlink()
        wait_for(lambda: kept.is_dir() and found(kept) == {"a.png": b"picture"})
    finally:
        guard.stop()
    assert json.loads((home.storage / "run" / "synced.json").read_text())["target"] == str(kept)
