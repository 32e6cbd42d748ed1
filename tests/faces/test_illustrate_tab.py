"""The Illustrate tab's scenes stay those of the run that is asked for, and a prompt is a person's only while it differs."""

import time

import pytest
from flat_engine import FlatEngine

from reverie import prompt_cache, recipes, settings
from reverie.faces.widgets import run
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


# ------------------------------------------------------------------------- scenes that move, and another picture of one


def count_to(*numbers):
    """A text whose scenes are told apart by nothing but their place: the names of their files differ in the number alone."""
    return "# Chapter 1: The Gate\n\n" + "\n\n* * *\n\n".join(f"Emma stood in the garden at dawn and counted to {n}." for n in numbers)


def wait_for(what):
    deadline = time.monotonic() + 240
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def read(tab):
    tab.read.click()
    wait_for(lambda: not tab.read.disabled)
    return [tab.table._shown[name] for name in tab.table.names()]


def ended(tab):
    wait_for(lambda: not tab.runner.running and not tab.runner.draw.disabled and not tab.read.disabled)


@pytest.fixture
def drawing(tmp_path, monkeypatch):
    """A tab over an engine that draws at once, with three scenes drawn."""
    monkeypatch.setenv("REVERIE_STORAGE", str(tmp_path / "storage"))
    with run.KernelStudio.open(settings.load(), open_engine=lambda name, settings: FlatEngine()) as studio:
        monkeypatch.setattr(run, "kernel_studio", lambda: studio)
        (tmp_path / "tale.md").write_text(count_to(1, 2, 3))
        tab = IllustrateTab({"text": str(tmp_path / "tale.md"), "out": str(tmp_path / "out"), "outputs": "none"})
        read(tab)
        tab.runner.draw.click()
        ended(tab)
        yield tab


def drawn(tmp_path):
    """Scene → what its picture was asked for and with which seed."""
    recipe_of = {path.name[:19]: recipes.read(path) for path in sorted((tmp_path / "out").glob("*.png"))}
    return [(recipe["prompt"], recipe["seed"]) for recipe in recipe_of.values()]


def test_edit_of_a_moved_scene_is_its_own_before_and_after_the_files_were_renamed(drawing, tmp_path):
    before = drawn(tmp_path)
    (tmp_path / "tale.md").write_text(count_to("none", 1, 2, 3))
    rows = read(drawing)
    assert [row.row["was"][:19] for row in rows] == ["", *(f"chapter_01_scene_0{n}" for n in (1, 2, 3))]
    rows[2].prompt.value, rows[0].prompt.value = "a green castle", "a new house"
    assert [row.prompt.value for row in read(drawing)] == ["a new house", before[0][0], "a green castle", before[2][0]]
    rows = read(drawing)
    drawing.runner.draw.click()
    ended(drawing)
    assert [prompt for prompt, _ in drawn(tmp_path)] == ["a new house", before[0][0], "a green castle", before[2][0]]
    rows[3].prompt.value, rows[0].prompt.value = "a blue boat", "an old house"
    assert [row.prompt.value for row in read(drawing)] == ["an old house", before[0][0], "a green castle", "a blue boat"]
    assert len(list((tmp_path / "out" / "prompts").glob("[!.]*"))) == 4


def test_edit_of_a_new_scene_may_be_put_back_before_it_has_its_name(drawing, tmp_path):
    (tmp_path / "tale.md").write_text(count_to("none", 1, 2, 3))
    first = read(drawing)[0]
    own = first.prompt.value
    first.prompt.value = "a new house"
    first.prompt.value = own
    drawing.runner.draw.click()
    ended(drawing)
    assert drawn(tmp_path)[0][0] == own and prompt_cache.edits(tmp_path / "out") == {}


def test_pictures_of_moved_scenes_are_shown_where_they_belong_before_and_after_the_run(drawing, tmp_path):
    shown = [row.picture.value for row in read(drawing)]
    (tmp_path / "tale.md").write_text(count_to("none", 1, 2, 3))
    rows = read(drawing)
    pictures = [row.picture.value.split("src=")[-1] for row in rows]
    assert "not drawn yet" in rows[0].picture.value and pictures[1:] == [value.split("src=")[-1] for value in shown]
    (tmp_path / "out" / rows[1].row["filename"]).unlink()  # scene 2's picture so far, which is the third one's now
    drawing.runner.draw.click()
    ended(drawing)
    assert all("data:image" in row.picture.value for row in rows) and rows[3].picture.value.split("src=")[-1] == pictures[3]


def test_another_picture_of_one_scene_leaves_the_others_alone(drawing, tmp_path):
    rows, before = read(drawing), drawn(tmp_path)
    shown = [row.picture.value for row in rows]
    rows[1].another.click()
    ended(drawing)
    after = drawn(tmp_path)
    assert [a == b for a, b in zip(after, before, strict=True)] == [True, False, True] and after[1][0] == before[1][0]
    assert [row.picture.value == value for row, value in zip(rows, shown, strict=True)] == [True, False, True]
    assert drawing.table.names() == [row.row["filename"] for row in rows], "the table keeps all its scenes"
    drawing.runner.draw.click()
    ended(drawing)
    assert drawn(tmp_path) == after


def test_another_picture_is_of_the_scene_that_was_shown_or_of_none(drawing, tmp_path):
    rows, before = read(drawing), drawn(tmp_path)
    (tmp_path / "tale.md").write_text(count_to("none", 1, 2, 3))
    rows[1].another.click()
    ended(drawing)
    assert "text was changed" in drawing.runner.words.value and drawn(tmp_path) == before
    drawing.form.controls["count"].value = 2
    rows[1].another.click()
    assert "another number" in rows[1].mark.value
    drawing.form.controls["out"].value = str(tmp_path / "two")
    rows[1].another.click()
    assert "another folder" in rows[1].mark.value
