"""The Illustrate tab's scenes stay those of the run that is asked for, and a prompt is a person's only while it differs."""

import time

import pytest

from reverie import prompt_cache
from reverie.faces.widgets.illustrate import IllustrateTab
from reverie.language.chapters import SUFFIXES
from reverie.pipelines import Update, illustrate

STORY = "# Chapter 1: The Gate\n\nEmma stood in the garden at dawn. Rain fell.\n\n* * *\n\nAt night Emma walked through the forest.\n"


@pytest.fixture
def tab(tmp_path, monkeypatch):
    monkeypatch.setenv("REVERIE_STORAGE", str(tmp_path / "storage"))
    (tmp_path / "tale.md").write_text(STORY)
    tab = IllustrateTab({"text": str(tmp_path / "tale.md"), "out": str(tmp_path / "one")})
    tab.read.click()
    deadline = time.monotonic() + 240
    while tab.read.disabled:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return tab


def plan(tab):
    """What the tab hears when a run begins."""
    tab._take(Update("plan", data=illustrate.rows(tab._asked())))
    return scene(tab)


def scene(tab):
    return tab.table._shown[tab.table.names()[0]]


def test_scenes_are_those_of_the_run_and_edits_go_into_its_folder(tab, tmp_path):
    first, prompt = scene(tab), scene(tab).prompt.value
    assert plan(tab) is first, "nothing changed, so nothing flickers"
    first.prompt.value = "a green castle"
    assert plan(tab) is first
    tab.form.controls["style"].value = "ink"
    assert plan(tab).prompt.value == "a green castle" and "ink" in list(tab.table._shown.values())[1].prompt.value
    tab.form.controls["out"].value = str(tmp_path / "two")
    scene(tab).prompt.value = "a red castle"
    assert "Read the scenes again" in scene(tab).mark.value and not (tmp_path / "two").exists()
    assert plan(tab).prompt.value == prompt.replace("graphic novel", "ink")
    scene(tab).prompt.value = "a blue castle"
    assert [edit["prompt"] for folder in ("one", "two") for edit in prompt_cache.edits(tmp_path / folder).values()] == ["a green castle", "a blue castle"]


def test_prompt_that_is_put_back_or_emptied_is_the_scenes_own_again(tab, tmp_path):
    first, own = scene(tab), scene(tab).prompt.value
    for back in (own, " "):
        first.prompt.value = "a green castle"
        assert "kept" in first.mark.value and len(prompt_cache.edits(tmp_path / "one")) == 1
        first.prompt.value = back
        assert first.prompt.value == own and "own prompt again" in first.mark.value
        assert prompt_cache.edits(tmp_path / "one") == {}


def test_every_kind_of_text_may_be_uploaded(tab):
    assert tab.upload.accept.split(",") == list(SUFFIXES)
