"""Files are whole or not there."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from reverie import media
from reverie.errors import BadInput, StoreFailed


def test_broken_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    media.write_text(target, "old")
    with pytest.raises(RuntimeError), media.staged(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_place_replaces_and_does_not_share_a_later_change(tmp_path):
    source, target = tmp_path / "s", tmp_path / "t"
    media.write_text(source, "one")
    media.place(source, target)
    media.write_text(source, "two")
    assert target.read_text() == "one"
    media.place(source, target)
    assert target.read_text() == "two"


def test_placed_copy_can_be_edited_without_touching_the_original(tmp_path):
    source, target = tmp_path / "s", tmp_path / "t"
    media.write_text(source, "one")
    media.place(source, target)
    with open(target, "r+") as file:
        file.write("two")
    assert source.read_text() == "one"


@pytest.mark.parametrize("write", [media.place, lambda source, target: media.write_bytes(target, source.read_bytes())])
def test_what_a_killed_process_left_behind_is_not_written_through(tmp_path, write):
    other, source, target = (tmp_path / name for name in ("other", "source", "target"))
    other.write_text("another picture")
    source.write_text("new")
    os.link(other, tmp_path / f".target.{os.getpid()}.part")
    write(source, target)
    assert (target.read_text(), other.read_text()) == ("new", "another picture")
    assert sorted(os.listdir(tmp_path)) == ["other", "source", "target"]


@pytest.mark.parametrize("name", ["file/below/a.txt", "folder", "full", "long" * 100])
def test_name_that_cannot_be_written_is_one_sentence(tmp_path, name):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "full" / "of").mkdir(parents=True)
    with pytest.raises(StoreFailed, match="cannot be written.*Choose another folder"):
        media.write_text(tmp_path / name, "x")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "full"]


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 1 MB; skipped where we may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, timeout=10)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", folder], check=True, timeout=10)


def test_full_disk_is_one_sentence_and_keeps_what_is_finished(small_disk):
    media.write_bytes(small_disk / "first", b"x" * 400_000)
    with pytest.raises(StoreFailed, match="The disk is full: second.*what is finished is kept"):
        media.write_bytes(small_disk / "second", b"x" * 900_000)
    assert os.listdir(small_disk) == ["first"]


def test_enlarge_is_a_whole_multiple_and_leaves_large_pictures_alone():
    assert media.enlarge(Image.new("RGB", (128, 96))).size == (512, 384)
    assert media.enlarge(Image.new("RGB", (200, 100))).size == (600, 300)
    large = Image.new("RGB", (1344, 768))
    assert media.enlarge(large) is large


def test_cut_picture_is_told_from_a_whole_one(tmp_path):
    path = tmp_path / "p.png"
    Image.effect_noise((64, 64), 50).save(path)
    assert media.open_picture(path).mode == "RGB"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(BadInput, match="whole PNG"):
        media.open_picture(path)


def test_sixteen_bits_become_eight_and_not_white(tmp_path):
    Image.fromarray(np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)).save(tmp_path / "deep.png")
    grey = np.asarray(media.open_picture(tmp_path / "deep.png"))
    assert grey.shape == (16, 16, 3) and np.abs(grey[..., 0].ravel() - np.arange(256)).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_shows_the_ground_and_not_what_lies_hidden_in_it(tmp_path, mode):
    picture = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    picture.putpixel((0, 0), (90, 90, 90, 255))
    picture.convert(mode).save(tmp_path / "p.png")
    for ground, seen in (("white", 255), ("black", 0)):
        shown = media.open_picture(tmp_path / "p.png", ground=ground)
        assert shown.mode == "RGB" and shown.getpixel((3, 3)) == (seen,) * 3 and shown.getpixel((0, 0)) == (90,) * 3


def test_picture_too_large_to_open_is_one_sentence(tmp_path, monkeypatch):
    Image.new("RGB", (64, 64)).save(tmp_path / "p.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BadInput, match="64|4096"):
        media.open_picture(tmp_path / "p.png")


def test_contact_sheet_has_a_tile_for_each(tmp_path):
    paths = [tmp_path / f"{n}.png" for n in range(5)]
    [Image.new("RGB", (64, 32), (n * 40, 0, 0)).save(path) for n, path in enumerate(paths)]
    assert media.contact_sheet(paths, columns=4, tile=64).size == (256, 128)


def test_threads_that_write_one_file_leave_it_whole(tmp_path):
    def write(letter):
        for _ in range(50):
            media.write_text(tmp_path / "one.txt", letter * 1000)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, "abcd"))
    assert (tmp_path / "one.txt").read_text() in [letter * 1000 for letter in "abcd"]
    assert [path.name for path in tmp_path.iterdir()] == ["one.txt"]
