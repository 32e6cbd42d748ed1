"""Cell 3 without a browser: the plan, the bars, Cancel, Try again, the sound; and the same as lines where nobody looks."""

from __future__ import annotations

import io
import sys
import time
import wave
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "host"), str(Path(__file__).resolve().parents[2] / "scripts")]
import setup  # noqa: E402
from hub_servers import Hubs  # noqa: E402
from small_models import LORA, SD15, tensors  # noqa: E402

from reverie import settings  # noqa: E402
from reverie.errors import FetchFailed  # noqa: E402
from reverie.faces.widgets import chime  # noqa: E402
from reverie.faces.widgets.downloads import MOST_BARS, Downloads  # noqa: E402
from reverie.host.choices import Choices  # noqa: E402

PATIENCE_S = 240
cell = setup.load("downloading-en")


@pytest.fixture
def hubs(monkeypatch, tmp_path):
    with Hubs() as hubs:
        for name, value in {**hubs.environment(), "HOME": str(tmp_path), "REVERIE_STORAGE": str(tmp_path / "storage")}.items():
            monkeypatch.setenv(name, value)
        yield hubs


@pytest.fixture
def faces():
    """Every face that cell 3 makes; none is at work when the test ends."""
    made: list[Downloads] = []
    yield made
    for face in made:
        face.stop()
        wait_for(lambda: not face.running)


def start(chosen: Choices, faces: list) -> Downloads:
    """What the cell shows for these choices, at work."""
    face = cell.face(chosen, settings.load())
    face.start()
    faces.append(face)
    return face


def wait_for(what):
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def ended(face):
    return lambda: not face.running and face.cancel.disabled


def test_the_cell_returns_at_once_shows_the_plan_and_bars_and_ends_with_a_sound(hubs, faces):
    hubs.bytes_per_s = 300_000
    link = hubs.add_file("ink.safetensors", tensors(*LORA, size=2_000_000))
    face = start(Choices(links=f"lora:{link}"), faces)
    assert face.running and not face.cancel.disabled and face.again.layout.display == "none"
    wait_for(lambda: "1 file to fetch" in face.plan.value and face.whole.value > 0)
    assert "of 2.0 MB" in face.whole_line.value and len(face.files.children) == 1
    wait_for(ended(face))
    assert "Done in" in face.words.value and "pocket" in face.words.value and face.whole.value == 1.0
    assert face.speaker.value.startswith("<audio autoplay") and face.again.layout.display == "none"


def test_muted_it_ends_without_a_sound(hubs, faces):
    face = start(Choices(links=f"lora:{hubs.add_file('ink.safetensors', tensors(*LORA))}"), faces)
    face.sound.value = False
    wait_for(ended(face))
    assert "Done in" in face.words.value and not face.speaker.value


def test_an_error_is_a_sentence_with_try_again_and_what_came_stays(hubs, faces):
    good = hubs.add_file("good.safetensors", tensors(*LORA))
    face = start(Choices(links=f"lora:{good}\nlora:{hubs.storage}/late.safetensors"), faces)
    wait_for(ended(face))
    assert "late.safetensors" in face.words.value and "rv-bad" in face.words.value and face.again.layout.display == "" and not face.speaker.value
    assert (settings.load().models / "loras/good.safetensors").is_file()
    hubs.add_file("late.safetensors", tensors(*LORA))
    face.again.click()
    wait_for(lambda: "Done in" in face.words.value)
    assert "1 here already" in face.plan.value


def test_cancel_keeps_what_is_there_and_try_again_carries_on(hubs, faces):
    hubs.bytes_per_s = 60_000
    data = tensors(*LORA, size=5_000_000)
    face = start(Choices(links=f"lora:{hubs.add_file('ink.safetensors', data)}"), faces)
    wait_for(lambda: face.whole.value > 0.1)
    face.cancel.click()
    wait_for(ended(face))
    assert "Stopped" in face.words.value
    hubs.bytes_per_s = 0
    face.again.click()
    wait_for(lambda: "Done in" in face.words.value)
    assert "carry on" in face.plan.value and (settings.load().models / "loras/ink.safetensors").read_bytes() == data


def test_a_pickle_can_be_allowed_by_its_name_there(hubs, faces):
    face = start(Choices(links=f"embedding:{hubs.add_file('old.pt', bytes([0x80, 4]) + bytes(5000))}"), faces)
    wait_for(ended(face))
    assert "pickle" in face.words.value and "old.pt" in face.pickles.children[0].description
    face.pickles.children[0].value = True
    face.again.click()
    wait_for(lambda: "Done in" in face.words.value)
    assert (settings.load().models / "embeddings/old.pt").is_file()


def test_many_files_share_a_dozen_bars(hubs, faces):
    text = "\n".join(f"lora:{hubs.add_file(f'{number}.safetensors', tensors(*LORA, size=400))}" for number in range(MOST_BARS + 5))
    face = start(Choices(links=text), faces)
    wait_for(ended(face))
    assert "Done in" in face.words.value and 0 < len(face.files.children) <= MOST_BARS


def test_names_from_a_source_are_text_and_never_markup(hubs, faces):
    version = hubs.add_model("<b>x</b>", files={"<img src=x>.safetensors": tensors(*SD15)})
    face = start(Choices(links=f"{hubs.civitai}/api/download/models/{version}"), faces)
    wait_for(ended(face))
    assert "<img" not in face.plan.value + face.words.value + "".join(box.children[0].value for box in face.files.children)


def test_where_nobody_looks_there_are_lines_and_an_error_ends_it(hubs, capsys):
    good = hubs.add_file("good.safetensors", tensors(*LORA))
    cell.bring(Choices(links=f"lora:{good}"), settings.load())
    out = capsys.readouterr().out
    assert "1 file to fetch" in out and "good.safetensors: done" in out
    with pytest.raises(FetchFailed, match="none.safetensors"):
        cell.bring(Choices(links=f"lora:{good}\nlora:{hubs.storage}/none.safetensors"), settings.load())
    assert "1 here already; 1 refused" in capsys.readouterr().out


def test_with_nothing_to_bring_nothing_is_said_or_asked(hubs, capsys):
    cell.bring(Choices(), settings.load())
    assert not capsys.readouterr().out and not hubs.requests and not (settings.load().storage / "depot.sqlite3").exists()


def test_a_webui_that_does_not_exist_is_a_sentence_and_the_models_come(hubs, capsys):
    good = hubs.add_file("good.safetensors", tensors(*LORA))
    with pytest.raises(FetchFailed, match="There is no WebUI 'nosuch'"):
        cell.bring(Choices(webui="nosuch", links=f"lora:{good}"), settings.load())
    assert (settings.load().models / "loras/good.safetensors").is_file()


def test_the_sound_is_short_small_and_a_wav():
    with wave.open(io.BytesIO(chime.wav())) as sound:
        assert 0.3 < sound.getnframes() / sound.getframerate() < 1 and sound.getsampwidth() == 1
    assert len(chime.wav()) < 10_000
