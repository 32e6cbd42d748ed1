"""The depot: bytes once, links that are known to be ours, and nobody's file touched."""

import hashlib
import json
import os
import sqlite3
import subprocess
import time

import pytest

from reverie.errors import BadInput, NotFound, StoreFailed
from reverie.host.depot.bin import Bin
from reverie.host.depot.dedup import Place
from reverie.host.depot import Depot

OLD = time.time() - 10 * 86400
A, B = b"a" * 200_000, b"b" * 200_000


def sha(data):
    return hashlib.sha256(data).hexdigest()


def lay(path, data, at=OLD):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (at, at))
    return path


@pytest.fixture
def storage(tmp_path):
    return tmp_path / "storage"


@pytest.fixture
def depot(storage):
    with Depot(storage) as depot:
        yield depot


def keep(depot, data=A, name="x.safetensors", **more):
    staged = lay(depot.storage / "downloads" / name, data)
    return depot.keep(staged, sha(data), **{"kind": "lora", "name": name, **more})


# ---------------------------------------------------------------------------------------------------------------- keeping


def test_what_is_kept_lies_under_its_hash_and_is_found_by_all_that_is_known(depot):
    blob = keep(depot, url="https://a/x", about={"title": "X"})
    assert blob == depot.storage / "blobs" / sha(A)[:2] / sha(A) and blob.read_bytes() == A
    assert not (depot.storage / "downloads/x.safetensors").exists()
    for given in ({}, {"url": "https://a/x"}, {"sha256": sha(A).upper()}, {"kind": "lora", "name": "x.safetensors"}):
        (kept,) = depot.find(**given)
        assert (kept.path, kept.size, kept.about) == (blob, len(A), {"title": "X"})
    assert depot.find(url="https://a/y") == [] and depot.has(sha(A)) and not depot.has(sha(B)) and not depot.has("")


def test_keeping_again_changes_nothing_and_takes_the_staged_file_away(depot):
    first = keep(depot)
    inode = first.stat().st_ino
    assert keep(depot) == first and first.stat().st_ino == inode and len(depot.find()) == 1
    assert depot.keep(depot.storage / "downloads/gone", sha(A), kind="lora", name="other.safetensors") == first
    assert {kept.name for kept in depot.find()} == {"x.safetensors", "other.safetensors"}
    assert list((depot.storage / "downloads").iterdir()) == []


def test_the_hash_is_found_out_where_it_is_not_given(depot):
    assert depot.keep(lay(depot.storage / "f", A), "", kind="vae", name="f").name == sha(A)


@pytest.mark.parametrize("wrong", ["abc", "../../etc/passwd", "g" * 64, "A" * 63])
def test_what_is_no_hash_is_refused(depot, wrong):
    with pytest.raises(BadInput, match="not a SHA-256"):
        depot.keep(lay(depot.storage / "f", A), wrong, kind="vae", name="f")
    assert (depot.storage / "f").exists()


def test_what_is_not_there_cannot_be_kept(depot):
    with pytest.raises(NotFound, match="Fetch it again"):
        depot.keep(depot.storage / "gone", sha(A), kind="lora", name="x")


def test_bytes_that_somebody_wrote_over_go_into_the_bin_when_the_right_ones_come(depot):
    blob = keep(depot)
    lay(blob, b"trained further" * 20_000, time.time() - 5000)
    keep(depot)
    assert blob.read_bytes() == A
    (entry,) = Bin(depot.storage).list()
    assert (depot.storage / "bin" / entry.id / "0").read_bytes() == b"trained further" * 20_000


# ------------------------------------------------------------------------------------------------------------------ links


def test_a_link_is_relative_inside_the_storage_so_that_it_can_move(depot, storage, tmp_path):
    keep(depot)
    at = storage / "webuis/forge/models/Lora/sub/x.safetensors"
    assert depot.expose(sha(A), at, "forge") == "symlink" and not os.path.isabs(os.readlink(at))
    depot.close()
    os.rename(storage, tmp_path / "moved")
    with Depot(tmp_path / "moved") as moved:
        assert [link.path.read_bytes() == A for link in moved.links("forge")] == [True]


def test_a_link_outside_the_storage_is_absolute(depot, tmp_path):
    keep(depot)
    at = tmp_path / "elsewhere/x.safetensors"
    assert depot.expose(sha(A), at, "own") == "symlink" and os.path.isabs(os.readlink(at)) and at.read_bytes() == A


def test_a_folder_that_is_a_link_itself_gets_links_that_lead_right(depot, storage, tmp_path):
    keep(depot)
    (storage / "webuis/forge/models").mkdir(parents=True)
    (storage / "models").mkdir()
    (tmp_path / "big-disk").mkdir()
    os.symlink(tmp_path / "big-disk", storage / "webuis/forge/models/Lora")
    os.symlink(storage / "models", storage / "webuis/forge/models/ours")
    for folder in ("Lora", "ours/loras"):
        at = storage / "webuis/forge/models" / folder / "x.safetensors"
        depot.expose(sha(A), at, "forge")
        assert at.read_bytes() == A
    assert depot.expose(sha(A), storage / "models/loras/x.safetensors", "models") == "there"


def test_exposing_again_is_there_and_a_new_version_takes_our_links_place(depot, storage):
    keep(depot), keep(depot, B, "y.safetensors")
    at = storage / "models/loras/x.safetensors"
    assert (depot.expose(sha(A), at, "models"), depot.expose(sha(A), at, "models")) == ("symlink", "there")
    assert depot.expose(sha(B), at, "models") == "symlink" and at.read_bytes() == B
    assert [link.sha256 for link in depot.links()] == [sha(B)]


@pytest.mark.parametrize("theirs", ["file", "folder", "link", "dead link"])
def test_what_the_user_put_there_stays_and_a_sentence_says_so(depot, storage, theirs):
    keep(depot)
    at = storage / "models/loras/x.safetensors"
    at.parent.mkdir(parents=True)
    if theirs == "folder":
        at.mkdir()
    elif theirs == "file":
        lay(at, b"mine")
    else:
        target = lay(storage / "their.safetensors", b"mine") if theirs == "link" else storage / "nowhere"
        os.symlink(target, at)
    before = os.lstat(at)
    with pytest.raises(BadInput, match="something else"):
        depot.expose(sha(A), at, "models")
    assert os.lstat(at).st_ino == before.st_ino and not depot.withdraw(at) and os.path.lexists(at) and depot.links() == []


def test_a_file_with_the_same_bytes_becomes_a_link_and_undo_makes_it_a_file_again(depot, storage):
    keep(depot)
    at = lay(storage / "models/loras/x.safetensors", A)
    at.chmod(0o640)
    assert depot.expose(sha(A), at, "models") == "symlink" and at.read_bytes() == A
    depot.undo()
    assert not at.is_symlink() and at.read_bytes() == A and at.stat().st_mode & 0o777 == 0o640 and abs(at.stat().st_mtime - OLD) < 1


def test_withdrawing_takes_our_link_and_nothing_else(depot, storage):
    keep(depot)
    at = storage / "models/loras/x.safetensors"
    depot.expose(sha(A), at, "models")
    assert depot.withdraw(at) and not os.path.lexists(at) and depot.has(sha(A)) and not depot.withdraw(at)
    depot.expose(sha(A), at, "models")
    at.unlink()
    lay(at, b"the user's own by now")
    assert not depot.withdraw(at) and at.read_bytes() == b"the user's own by now" and depot.links() == []


def test_what_is_not_kept_cannot_be_seen(depot, storage):
    with pytest.raises(NotFound, match="Fetch"):
        depot.expose(sha(A), storage / "models/loras/x", "models")
    assert not (storage / "models").exists() and depot.links() == []


def test_sidecars_are_copies_so_that_notes_in_one_webui_stay_there(depot, storage):
    keep(depot, sidecars={".civitai.info": b"{}", ".preview.png": b"picture", ".json": b"notes"})
    here, there = storage / "webuis/forge/l/y.safetensors", storage / "webuis/a1111/l/x.safetensors"
    lay(there.with_name("x.json"), b"their own notes")
    for at in (here, there):
        depot.expose(sha(A), at, at.parts[-3])
    here.with_name("y.json").write_bytes(b"written by forge")
    assert there.with_name("x.json").read_bytes() == b"their own notes" and there.with_name("x.preview.png").read_bytes() == b"picture"
    depot.withdraw(here)
    assert sorted(path.name for path in here.parent.iterdir()) == ["y.json"]


@pytest.mark.parametrize("end", ["json", "../x", ".a/b", ""])
def test_a_sidecar_that_is_no_end_of_a_name_is_refused(depot, end):
    with pytest.raises(BadInput, match="not how a file's name ends"):
        keep(depot, sidecars={end: b"x"})


# ------------------------------------------------------------------------------------------------------------- the manifest


@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_a_manifest_that_is_lost_is_told_again_by_what_lies_there(storage, how):
    with Depot(storage) as depot:
        keep(depot, url="https://a/x", about={"title": "X"})
        at = storage / "webuis/forge/models/Lora/x.safetensors"
        depot.expose(sha(A), at, "forge")
    if how == "lost":
        (storage / "depot.sqlite3").unlink()
    else:
        (storage / "depot.sqlite3").write_bytes(b"no database at all" * 1000)
    with Depot(storage) as depot:
        (kept,), (link,) = depot.find(url="https://a/x"), depot.links("forge")
        assert (kept.about, link.path, link.sha256) == ({"title": "X"}, at, sha(A))
        assert depot.withdraw(at)
    assert how == "lost" or list(storage.glob("depot.sqlite3.damaged-*"))


NOTE = {"kind": "lora", "name": "x.safetensors", "url": "", "about": {}, "kept_at": 1.0}


@pytest.mark.parametrize(
    "said",
    ["[" * 100_000, "5", '["x", null]', '{"a": 1}', *(json.dumps([{**NOTE, **wrong}]) for wrong in (
        {"kind": 5}, {"name": ["x"]}, {"name": "../../../x"}, {"name": "/etc/x"}, {"name": "a\0b"}, {"name": "x" * 300}, {"name": "C:\\x"},
        {"url": {}}, {"url": "\ud800"}, {"about": [1]}, {"about": {"x": 1e999}}, {"kept_at": None}, {"kept_at": 1e999}, {"kind": "../x"},
    ))],
    ids=lambda said: said[:70],
)
def test_a_note_that_can_be_none_is_left_out_and_the_others_stay(storage, said):
    with Depot(storage) as depot:
        good, bad = keep(depot), keep(depot, B, name="b.safetensors")
        bad.with_name(bad.name + ".kept.json").write_text(said)
    (storage / "depot.sqlite3").unlink()
    with Depot(storage) as depot:
        assert [kept.path for kept in depot.find()] == [good]
        keep(depot, B, name="again.safetensors")
        assert {kept.name for kept in depot.find()} == {"x.safetensors", "again.safetensors"}


def test_a_manifest_of_a_newer_version_is_left_alone(storage):
    Depot(storage).close()
    with sqlite3.connect(storage / "depot.sqlite3") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreFailed, match="newer"):
        Depot(storage)


def test_two_at_once_wait_for_each_other(storage):
    import threading

    with Depot(storage) as one, Depot(storage) as other:
        keep(one)

        def many(depot, view):
            for number in range(30):
                depot.expose(sha(A), storage / "webuis" / view / f"{number}.safetensors", view)

        threads = [threading.Thread(target=many, args=pair) for pair in ((one, "a"), (other, "b"))]
        [thread.start() for thread in threads], [thread.join() for thread in threads]
        assert len(one.links("a")) == len(other.links("b")) == 30


# ---------------------------------------------------------------------------------------------------------------- dedup


def test_equal_files_become_one_and_the_room_is_really_given_back(depot, storage):
    a, b, c = (lay(storage / "webuis" / view / "m.safetensors", os.urandom(1) + A) for view in ("x", "y", "z"))
    b.write_bytes(a.read_bytes()), os.utime(b, (OLD, OLD))
    dry = depot.dedup([storage / "webuis"], dry_run=True)
    assert not b.is_symlink() and depot.links() == [] and list(depot.stored()) == []
    report = depot.dedup([storage / "webuis"])
    assert dry.freed_bytes == report.freed_bytes == c.stat().st_blocks * 512
    assert a.is_symlink() and b.is_symlink() and not c.is_symlink() and a.read_bytes() == b.read_bytes()
    assert {link.view for link in depot.links()} == {"x", "y"}
    assert depot.dedup([storage / "webuis"]).changes == []


def test_what_belongs_to_a_program_s_own_repository_stays_a_file(depot, storage):
    """Else that program could not be updated any more. What somebody put beside is stored once, as everywhere."""
    files = []
    for ui in ("x", "y"):
        home = storage / "webuis" / ui
        files += [lay(home / "models/VAE-approx/model.pt", A), lay(home / "models/Lora/mine.safetensors", B), lay(home / "readme.txt", A)]
        git = ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-C", str(home)]
        for command in (["init", "-q"], ["add", "models/VAE-approx"], ["config", "core.fsmonitor", f"touch {storage}/ran; false"]):
            subprocess.run([*git, *command], check=True, timeout=30)
    depot.dedup([Place(storage / "webuis/x/models/VAE-approx", "vae_approx", "x"), Place(storage / "webuis")])
    assert [path.is_symlink() for path in files] == [False, True, False] * 2 and not (storage / "ran").exists()


def test_files_that_differ_only_between_the_samples_stay_two(depot, storage):
    data = bytearray(os.urandom(3_000_000))
    a = lay(storage / "models/loras/a.safetensors", bytes(data))
    data[len(data) // 8] ^= 1
    b = lay(storage / "models/loras/b.safetensors", bytes(data))
    report = depot.dedup([storage / "models"])
    assert report.changes == [] and report.read_bytes == 2 * len(data) and not a.is_symlink() and not b.is_symlink()


def test_nothing_is_hashed_twice(depot, storage):
    for name in "ab":
        lay(storage / f"models/loras/{name}.safetensors", A)
    assert depot.dedup([storage / "models"], dry_run=True).read_bytes == 2 * len(A)
    assert depot.dedup([storage / "models"], dry_run=True).read_bytes == 0
    lay(storage / "models/loras/b.safetensors", A, OLD + 7)
    assert depot.dedup([storage / "models"], dry_run=True).read_bytes == len(A)


def test_hard_links_give_back_nothing_that_is_not_there(depot, storage, tmp_path):
    a = lay(storage / "models/loras/a.safetensors", A)
    os.link(a, storage / "models/loras/a2.safetensors")
    report = depot.dedup([storage / "models"])
    assert report.changes == [] and report.freed_bytes == 0
    lay(storage / "models/loras/b.safetensors", A)
    os.link(storage / "models/loras/b.safetensors", tmp_path / "outside")
    report = depot.dedup([storage / "models"])
    assert report.freed_bytes == 0 and len(report.changes) == 3 and (tmp_path / "outside").read_bytes() == A
    assert any("other hard links" in why for _, why in report.skipped)


def test_holes_are_not_counted_as_room(depot, storage):
    for name in "ab":
        path = lay(storage / f"models/loras/{name}.safetensors", b"x" * 4096)
        with open(path, "r+b") as file:
            file.truncate(50 << 20)
        os.utime(path, (OLD, OLD))
    report = depot.dedup([storage / "models"])
    assert report.read_bytes == 100 << 20 and 0 < report.freed_bytes < 1 << 20


def test_what_is_being_written_is_left_alone(depot, storage):
    lay(storage / "models/loras/a.safetensors", A)
    fresh = lay(storage / "models/loras/fresh.safetensors", A, time.time())
    loading = lay(storage / "models/loras/loading.safetensors", A)
    lay(storage / "models/loras/loading.safetensors.aria2", b"")
    opened = lay(storage / "models/loras/opened.safetensors", A)
    with open(opened, "r+b") as file:
        report = depot.dedup([storage / "models"])
        file.write(b"end of the training")
    why = {path.name: reason for path, reason in report.skipped}
    assert "just now" in why["fresh.safetensors"] and "not finished" in why["loading.safetensors"]
    assert not any(path.is_symlink() for path in (fresh, loading))
    if os.uname().sysname == "Linux":
        assert "open for writing" in why["opened.safetensors"] and opened.read_bytes().startswith(b"end of the training")
        assert not opened.is_symlink()


def test_our_own_folders_names_are_kept_too(depot, storage):
    lay(storage / "models/vae/v.safetensors", A), lay(storage / "webuis/forge/models/VAE/w.safetensors", A)
    depot.dedup([storage / "models", Place(storage / "webuis/forge/models/VAE", "vae", "forge")])
    assert [(kept.kind, kept.name) for kept in depot.find()] == [("vae", "v.safetensors")]


def test_adopting_takes_every_model_in_and_leaves_links(depot, tmp_path):
    folder = tmp_path / "A1111/models/Lora"
    lay(folder / "a.safetensors", A), lay(folder / "style/b.pt", B), lay(folder / "a.txt", A), lay(folder / "small.pt", b"tiny")
    report = depot.adopt(folder, "lora", "a1111")
    assert {kept.name for kept in depot.find(kind="lora")} == {"a.safetensors", "style/b.pt"} and report.freed_bytes == 0
    assert (folder / "style/b.pt").is_symlink() and not (folder / "a.txt").is_symlink()
    with pytest.raises(NotFound, match="no folder"):
        depot.adopt(tmp_path / "nowhere", "lora", "x")


def test_undo_makes_files_again_and_the_last_one_needs_no_room(depot, storage):
    paths = [lay(storage / f"webuis/{view}/m.safetensors", A) for view in "xyz"]
    report = depot.dedup([storage / "webuis"])
    paths[2].unlink()
    lay(paths[2], B)
    undone = depot.undo(report.run)
    assert [path.read_bytes() for path in paths] == [A, A, B] and not any(path.is_symlink() for path in paths)
    assert not depot.has(sha(A)) and depot.links() == [] and any(path == paths[2] for path, _ in undone.skipped)
    with pytest.raises(NotFound, match="no dedup"):
        depot.undo()


# ----------------------------------------------------------------------------------------------------------- gc and verify


def test_only_what_nothing_reaches_goes_into_the_bin(depot, storage, tmp_path):
    keep(depot, A, "a"), keep(depot, B, "b"), keep(depot, A + B, "c"), keep(depot, B + A, "d"), keep(depot, B + B, "e")
    depot.expose(sha(A), storage / "models/loras/a.safetensors", "models")
    os.symlink(depot.blob(sha(B)), lay(storage / "webuis/forge/x", b"").with_name("theirs.safetensors"))
    os.link(depot.blob(sha(A + B)), tmp_path / "hard")
    depot.expose(sha(B + A), tmp_path / "far away/d.safetensors", "own")
    assert depot.gc().changes == []  # all of it is young
    assert [change.sha256 for change in depot.gc(dry_run=True, grace_s=0).changes] == [sha(B + B)]
    report = depot.gc(grace_s=0)
    assert [change.sha256 for change in report.changes] == [sha(B + B)] and not depot.has(sha(B + B)) and depot.find(name="e") == []
    (entry,) = Bin(storage).list()
    Bin(storage).restore(entry.id)
    assert depot.find(name="e")[0].path.read_bytes() == B + B


def test_a_link_in_the_bin_keeps_its_bytes(depot, storage):
    keep(depot)
    at = storage / "models/loras/a.safetensors"
    depot.expose(sha(A), at, "models")
    entry = Bin(storage).put([at], "not wanted")
    with depot.manifest.change() as db:
        db.execute("UPDATE links SET made_at=0")
    assert depot.gc(grace_s=0).changes == []
    Bin(storage).restore(entry.id)
    assert at.read_bytes() == A
    Bin(storage).put([at], "not wanted")
    Bin(storage).empty()
    assert [change.sha256 for change in depot.gc(grace_s=0).changes] == [sha(A)]


def test_downloads_nobody_went_on_with_go_into_the_bin(depot, storage):
    lay(storage / "downloads/abc.part", b"half"), lay(storage / "downloads/abc.part.aria2", b"x"), lay(storage / "downloads/def.part", b"half", time.time())
    (change,) = depot.gc().changes
    assert "7 days" in change.what and sorted(path.name for path in (storage / "downloads").iterdir()) == ["def.part"]


def test_verify_tells_wrong_bytes_lost_links_and_unfinished_downloads(depot, storage):
    keep(depot, A, "a"), keep(depot, B, "b", url="https://a/b")
    gone, changed, dead = (storage / f"models/loras/{name}.safetensors" for name in ("gone", "changed", "dead"))
    for at in (gone, changed):
        depot.expose(sha(A), at, "models")
    depot.expose(sha(B), dead, "models")
    assert depot.verify() == []
    gone.unlink(), changed.unlink(), lay(changed, b"mine"), lay(storage / "downloads/abc.part", b"half")
    lay(depot.blob(sha(A)), b"wrong")
    seen = []
    problems = {problem.path: problem for problem in depot.verify(on_progress=lambda *step: seen.append(step))}
    assert "not those of its name" in problems[depot.blob(sha(A))].what and seen[-1][1] == seen[-1][2]
    assert "gone" in problems[gone].what and "something else" in problems[changed].what and "not finished" in problems[storage / "downloads/abc.part"].what
    depot.blob(sha(B)).unlink()
    assert "leads nowhere" in {problem.path: problem for problem in depot.verify()}[dead].what


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
def test_a_name_that_is_no_text_is_left_alone_and_named(depot, storage):
    keep(depot)
    odd = storage / "models/loras" / os.fsdecode(b"caf\xe9.safetensors")
    plain = [lay(storage / f"models/loras/{name}.safetensors", A) for name in ("m\u00fcde", "new\nline")]
    lay(odd, A)
    report = depot.dedup([storage / "models"])
    assert len(report.skipped) == 1 and "UTF-8" in report.skipped[0][1] and not odd.is_symlink() and all(path.is_symlink() for path in plain)
    with pytest.raises(BadInput, match="UTF-8"):
        depot.expose(sha(A), odd.with_name(os.fsdecode(b"\xff.safetensors")), "models")


def test_two_dedups_and_a_gc_at_once_end_well(storage):
    import subprocess
    import sys

    paths = [lay(storage / f"webuis/w{number % 4}/{number}.safetensors", bytes([number % 7]) * 100_000) for number in range(80)]
    Depot(storage).close()
    code = "import sys; from pathlib import Path; from reverie.host.depot import Depot; s = Path(sys.argv[1]); d = Depot(s); d.dedup([s / 'webuis']) if sys.argv[2] == 'dedup' else [d.gc(grace_s=0) for _ in range(5)]"
    running = [subprocess.Popen([sys.executable, "-c", code, str(storage), what], stderr=subprocess.PIPE, text=True) for what in ("dedup", "gc", "dedup")]
    assert [(process.communicate(timeout=120)[1][-800:], process.returncode) for process in running] == [("", 0)] * 3
    assert all(path.read_bytes() == bytes([number % 7]) * 100_000 for number, path in enumerate(paths))
    with Depot(storage) as depot:
        assert len(list(depot.stored())) == 7 and {link.path for link in depot.links()} == {path for path in paths if path.is_symlink()} and not [problem for problem in depot.verify() if "bytes" in problem.what]
