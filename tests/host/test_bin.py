"""The bin: things come back to where they were, until it is emptied."""

import os
from pathlib import Path

import pytest

from reverie.errors import BadInput, NotFound
from reverie.host.depot.bin import Bin


@pytest.fixture
def bin(tmp_path):
    (tmp_path / "storage/outputs/old").mkdir(parents=True)
    (tmp_path / "storage/outputs/a.png").write_bytes(b"a" * 10_000)
    (tmp_path / "storage/outputs/old/b.png").write_bytes(b"b")
    os.symlink("a.png", tmp_path / "storage/outputs/link.png")
    return Bin(tmp_path / "storage")


def test_files_folders_and_links_come_back_as_they_were(bin):
    outputs = bin.storage / "outputs"
    entry = bin.put([outputs / "a.png", outputs / "old", outputs / "link.png"], "old")
    assert list(outputs.iterdir()) == [] and bin.list() == [entry] and entry.bytes >= 10_000 and entry.why == "old"
    assert set(bin.restore(entry.id)) == {outputs / "a.png", outputs / "old", outputs / "link.png"}
    assert (outputs / "old/b.png").read_bytes() == b"b" and os.readlink(outputs / "link.png") == "a.png"
    assert bin.list() == [] and list(bin.folder.iterdir()) == []


def test_restoring_overwrites_nothing_and_moves_nothing_then(bin):
    outputs = bin.storage / "outputs"
    entry = bin.put([outputs / "old", outputs / "a.png"], "old")
    (outputs / "a.png").write_bytes(b"new")
    with pytest.raises(BadInput, match="Something else"):
        bin.restore(entry.id)
    assert (outputs / "a.png").read_bytes() == b"new" and not (outputs / "old").exists() and bin.list() == [entry]
    (outputs / "a.png").unlink()
    bin.restore(entry.id[:16])
    assert (outputs / "a.png").stat().st_size == 10_000


def test_emptied_is_gone_for_good_and_the_rest_stays(bin):
    outputs = bin.storage / "outputs"
    first, second = bin.put([outputs / "a.png"], "one"), bin.put([outputs / "old"], "two")
    assert bin.empty([first.id]) >= 10_000 and bin.list() == [second]
    with pytest.raises(NotFound, match="no '"):
        bin.restore(first.id)
    bin.empty()
    assert bin.list() == [] and bin.bytes() <= 8192


def test_a_locked_folder_can_be_emptied(bin):
    (bin.storage / "outputs/old").chmod(0o500)
    bin.put([bin.storage / "outputs/old"], "old")
    bin.empty()
    assert bin.list() == []


@pytest.mark.parametrize("name", ["", "outputs/..", "bin/x"])
def test_the_storage_itself_and_the_bin_do_not_go_into_the_bin(bin, name):
    bin.folder.mkdir()
    (bin.folder / "x").write_bytes(b"x")
    with pytest.raises(BadInput):
        bin.put([bin.storage / name], "why")
    assert bin.storage.exists()


def test_what_is_not_there_is_a_sentence(bin):
    with pytest.raises(NotFound, match="not there any more"):
        bin.put([bin.storage / "nothing"], "why")


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no second disk at hand")
def test_what_lies_on_another_disk_is_copied_whole_and_back(tmp_path, bin):
    import shutil
    import tempfile

    there = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        if there.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("it is the same disk here")
        (there / "folder").mkdir()
        (there / "folder/x").write_bytes(b"x")
        (there / "file").write_bytes(b"f")
        os.utime(there / "file", (1000, 1000))
        entry = bin.put([there / "folder", there / "file"], "why")
        assert list(there.iterdir()) == []
        bin.restore(entry.id)
        assert (there / "folder/x").read_bytes() == b"x" and (there / "file").stat().st_mtime == 1000
    finally:
        shutil.rmtree(there)
