"""`reverie storage` in a shell."""

import json
import os
import time

import pytest

OLD = time.time() - 100 * 86400
COMMANDS = ("show", "dedup", "gc", "verify", "undo", "bin", "empty")


@pytest.fixture
def lay(reverie):
    def write(name, data=b"x" * 100_000):
        path = reverie.storage / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (OLD, OLD))
        return path

    return write


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_examples_and_json(reverie, name):
    done = reverie("storage", name, "--help")
    assert done.returncode == 0 and f"  reverie storage {name}" in done.stdout and "--json" in done.stdout
    assert ("--dry-run" in done.stdout) == (name in ("dedup", "gc", "undo", "empty"))


def test_help_of_the_group_names_them_all(reverie):
    shown = reverie("storage", "--help").stdout
    assert all(f"  {name} " in shown for name in COMMANDS) and "Examples" in shown


@pytest.mark.parametrize("name", ["show", "dedup", "gc", "verify", "bin", "empty"])
def test_an_empty_storage_is_no_error(reverie, name):
    done = reverie("storage", name)
    assert done.returncode == 0 and done.stdout.strip() and "Traceback" not in done.stderr and "No such" not in done.stdout
    assert isinstance(json.loads(reverie("storage", name, "--json").stdout), (dict, list))


def test_dedup_show_and_undo(reverie, lay):
    a, b = lay("models/loras/a.safetensors"), lay("webuis/forge/models/Lora/b.safetensors")
    assert "2 files that look like 1" in reverie("storage", "show").stdout
    assert "nothing was changed" in reverie("storage", "dedup", "--dry-run").stdout and not a.is_symlink()
    report = json.loads(reverie("storage", "dedup", "--json").stdout)
    assert report["freed_bytes"] >= 100_000 and len(report["changes"]) == 2 and a.is_symlink() and b.is_symlink()
    shown = json.loads(reverie("storage", "show", "--json").stdout)
    assert [(kept["kind"], kept["name"]) for kept in shown["kept"]] == [("lora", "a.safetensors")]
    assert "nothing was changed" in reverie("storage", "undo", "--dry-run").stdout and a.is_symlink()
    assert reverie("storage", "undo").returncode == 0 and not a.is_symlink() and b.read_bytes() == b"x" * 100_000


def test_undo_takes_back_the_newest_of_both_kinds(reverie, lay):
    a = lay("models/loras/a.safetensors")
    lay("models/loras/b.safetensors")
    reverie("storage", "dedup")
    part = lay("downloads/abc.part")
    assert "7 days" in reverie("storage", "gc").stdout and not part.exists()
    (entry,) = json.loads(reverie("storage", "bin", "--json").stdout)
    assert entry["id"] in reverie("storage", "bin").stdout
    assert "put back" in reverie("storage", "undo").stdout and part.exists() and a.is_symlink()
    assert reverie("storage", "undo").returncode == 0 and not a.is_symlink()
    done = reverie("storage", "undo")
    assert done.returncode == 2 and "nothing to undo" in done.stderr


def test_the_bin_is_emptied_only_when_somebody_says_so(reverie, lay):
    lay("downloads/abc.part")
    reverie("storage", "gc")
    done = reverie("storage", "empty")
    assert done.returncode == 2 and "--yes" in done.stderr
    assert "Would give back" in reverie("storage", "empty", "--dry-run").stdout
    assert reverie("storage", "empty", "--yes").returncode == 0
    assert "empty" in reverie("storage", "bin").stdout


def test_verify_says_which_bytes_are_wrong_by_its_exit_code(reverie, lay):
    lay("models/loras/a.safetensors"), lay("models/loras/b.safetensors")
    reverie("storage", "dedup")
    assert "all is well" in reverie("storage", "verify").stdout
    (blob,) = (reverie.storage / "blobs").glob("*/" + "?" * 64)
    blob.write_bytes(b"wrong")
    done = reverie("storage", "verify")
    assert done.returncode == 1 and "not those of its name" in done.stdout
    assert json.loads(reverie("storage", "verify", "--json").stdout)["problems"]


@pytest.mark.parametrize("args, words", [
    (["dedup", "no/such/folder"], "no/such/folder"),
    (["dedup", "--adopt", "lora"], "one folder"),
    (["dedup", ".", "--adopt", "hat"], "hat"),
    (["undo", "20200101T000000000-abcdef"], "20200101"),
    (["empty", "20200101T000000000-abcdef", "--yes"], "20200101"),
    (["bogus"], "bogus"),
])
def test_bad_input_is_one_sentence(reverie, args, words):
    done = reverie("storage", *args)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_adopting_a_folder_elsewhere(reverie, tmp_path):
    folder = tmp_path / "A1111/models/Lora"
    folder.mkdir(parents=True)
    (folder / "a.safetensors").write_bytes(b"x" * 100_000)
    os.utime(folder / "a.safetensors", (OLD, OLD))
    assert reverie("storage", "dedup", folder, "--adopt", "lora").returncode == 0
    assert (folder / "a.safetensors").is_symlink() and (folder / "a.safetensors").read_bytes() == b"x" * 100_000
