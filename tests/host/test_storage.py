"""What lies in the storage folder, and how much room there is."""

import os

import pytest

from reverie.host import storage


@pytest.fixture
def lay(tmp_path):
    """Writes a file of that many bytes under the storage folder."""

    def write(name: str, size: int):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)

    return write


def test_use_is_counted_once_by_kind(tmp_path, lay):
    for name, size in {"outputs/pictures/a.png": 3000, "outputs/runs/last.json": 10, "models/checkpoints/m.safetensors": 5000}.items():
        lay(name, size)
    os.link(tmp_path / "outputs/pictures/a.png", tmp_path / "outputs/runs/same.png")
    assert storage.usage(tmp_path) == [("models", 1, 5000), ("pictures", 1, 3000), ("other outputs", 1, 10)]


def test_whatever_lies_there_is_in_the_sum(tmp_path, lay):
    for name, size in {"uploads/tale.md": 40, "wildcards/colour.txt": 30, "settings.json": 20, "somewhere/else.bin": 5}.items():
        lay(name, size)
    assert storage.usage(tmp_path) == [("uploads", 1, 40), ("wildcards", 1, 30), ("other", 2, 25)]


def test_a_storage_that_is_not_there_yet_is_empty_and_has_room(tmp_path):
    assert storage.usage(tmp_path / "not" / "yet") == []
    assert storage.free(tmp_path / "not" / "yet") > 0 and storage.nearest(tmp_path / "not" / "yet") == tmp_path
