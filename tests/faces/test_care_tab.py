"""The Storage tab without a browser: what it shows, and what its buttons do."""

import os
import time
from pathlib import Path

import pytest

from reverie.faces.widgets.care import CareTab, chart
from reverie.host.depot import care
from reverie.host.depot.bin import Bin
from reverie.settings import Settings

PATIENCE_S = 120
OLD = time.time() - 100 * 86400


@pytest.fixture
def settings(tmp_path):
    return Settings(root=Path(__file__).resolve().parents[2], storage=tmp_path / "storage")


@pytest.fixture
def lay(settings):
    def write(name, data=b"x" * 100_000):
        path = settings.storage / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (OLD, OLD))
        return path

    return write


def done(tab):
    deadline = time.monotonic() + PATIENCE_S
    while tab.running:
        assert time.monotonic() < deadline, "it never ended"
        time.sleep(0.02)
    return tab


@pytest.fixture
def tab(settings, lay):
    lay("models/loras/a.safetensors"), lay("models/loras/b.safetensors"), lay("cache/y/z"), lay("outputs/o/old.png")
    tab = CareTab(settings)
    tab.look_again()
    return done(tab)


def pick(tab, group):
    for box, item in tab._picks:
        box.value = item.group == group


def test_nothing_is_measured_before_somebody_asks(settings):
    tab = CareTab(settings)
    assert tab.picture is None and tab.to_bin.disabled and tab.empty.disabled and not settings.storage.exists()


def test_it_shows_what_takes_the_room_and_why_it_could_go(tab):
    assert "models: loras" in tab.chart.value and 'role="img"' in tab.chart.value
    shown = "".join(str(getattr(child, name, "")) for row in tab.list.children for child in getattr(row, "children", (row,)) for name in ("value", "description"))
    assert "2 files that look like 1" in shown and "look first" in shown and "made again when it is needed" in shown
    assert not tab.to_bin.disabled and not tab.once.disabled and not any(box.value for box, _ in tab._picks)


def test_what_is_picked_goes_into_the_bin_and_undo_brings_it_back(tab, settings):
    pick(tab, "caches")
    tab.to_bin.click()
    done(tab)
    assert not (settings.storage / "cache/y").exists() and not tab.empty.disabled and "in the bin" in tab.words.value
    tab.undo.click()
    done(tab)
    assert (settings.storage / "cache/y/z").exists() and "put back" in tab.words.value


def test_a_dry_run_changes_nothing(tab, settings):
    tab.dry_run.value = True
    pick(tab, "caches")
    tab.to_bin.click()
    assert "Dry run" in done(tab).words.value
    tab.once.click()
    assert "would be" in done(tab).words.value
    assert (settings.storage / "cache/y/z").exists() and not (settings.storage / "models/loras/a.safetensors").is_symlink()


def test_duplicates_are_stored_once_and_undone(tab, settings):
    path = settings.storage / "models/loras/a.safetensors"
    tab.once.click()
    done(tab)
    assert path.is_symlink() and "given back" in tab.words.value and tab.once.disabled
    tab.undo.click()
    done(tab)
    assert not path.is_symlink() and "files of their own again" in tab.words.value


def test_the_bin_is_emptied_only_after_a_second_click(tab, settings):
    pick(tab, "caches")
    tab.to_bin.click()
    done(tab)
    assert tab.really.layout.display == "none"
    tab.empty.click()
    assert tab.really.layout.display == "" and len(Bin(settings.storage).list()) == 1
    tab.no.click()
    assert tab.really.layout.display == "none" and len(Bin(settings.storage).list()) == 1
    tab.empty.click(), tab.really.click()
    assert "given back" in done(tab).words.value and Bin(settings.storage).list() == []


def test_nothing_picked_is_said(tab):
    tab.to_bin.click()
    assert "Nothing is picked" in tab.words.value and not tab.running


def test_names_are_escaped(settings):
    nasty = "<img src=x onerror=alert(1)>"
    assert nasty not in chart(care.Picture(Path(nasty), 1, 1, [care.Part(nasty, 1, 1)], [care.Part(nasty, 1, 1)]))


def test_a_storage_that_cannot_be_used_is_one_sentence(settings):
    settings.storage.parent.mkdir(exist_ok=True)
    settings.storage.write_text("a file")
    tab = CareTab(settings)
    tab.look_again()
    assert "rv-bad" in done(tab).words.value and not tab.again.disabled


def test_light_is_a_choice(settings):
    tab = CareTab(settings)
    tab.scheme.value = True
    assert "rv-light" in tab.widget._dom_classes
