"""Cell 5's tabs without a browser: what is typed, what is drawn, what is said. tests/browser has the same with one."""

import json
import threading
import time

import home
import ipywidgets
import pytest
from PIL import Image

from reverie import pipelines, settings
from reverie.errors import BadInput
from reverie.faces.widgets import look, run_headless, studio_tabs
from reverie.faces.widgets.form import Form
from reverie.faces.widgets.generate import GenerateTab
from reverie.faces.widgets.illustrate import IllustrateTab, keep_uploads
from reverie.faces.widgets.run import kernel_studio
from reverie.faces.widgets.scenes import PAGE, SceneTable

STORY = "# Chapter 1: The Gate\n\nEmma stood in the garden at dawn. Rain fell.\n\n* * *\n\nAt night Emma walked through the forest.\n"
PATIENCE_S = 240


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """A storage that can draw, for this process, and its studio closed afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REVERIE_STORAGE", str(home.storage(tmp_path_factory.mktemp("widgets") / "storage")))
        kernel_studio.cache_clear()
        yield settings.load().storage
        kernel_studio().close()
        kernel_studio.cache_clear()


@pytest.fixture
def story(tmp_path):
    path = tmp_path / "tale.md"
    path.write_text(STORY)
    return path


def wait_for(what):
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def ended(runner):
    return lambda: not runner.running and not runner.draw.disabled


def scene_row(number, **more):
    return {"filename": f"scene_{number}.png", "chapter": 1 + number // 10, "scene": number % 10, "prompt": "a house", "negative": "", "composed": {"prompt": "a house", "negative": ""}, **more}


def test_the_tab_has_generate_and_illustrate():
    tab = studio_tabs({"prompt": "a house", "steps": 7, "tunnel": "unknown to both"})
    assert isinstance(tab, ipywidgets.Tab) and tab.titles == ("Generate", "Illustrate")


def test_light_is_a_choice_for_all_tabs():
    tab = studio_tabs({})
    assert "rv-light" not in tab._dom_classes
    switch = tab.children[0].children[1].children[1]
    switch.value = True
    assert "rv-light" in tab._dom_classes
    assert tab.children[1].children[1].children[1].value
    switch.value = False
    assert "rv-light" not in tab._dom_classes


@pytest.mark.parametrize("name", pipelines.names())
def test_an_untouched_form_is_the_defaults(name):
    Params = pipelines.get(name).Params
    assert Form(Params, {}, lead=next(iter(Params.model_fields))).params() == Params()


def test_given_parameters_fill_the_form():
    Params = pipelines.get("illustrate").Params
    form = Form(Params, {"chapters": 3, "steps": 20, "seed": 9, "dry_run": True, "other": 1}, lead="text", leave_out=("dry_run",))
    assert form.params() == Params(chapters="3", steps=20, seed=9, dry_run=True)


def test_a_number_the_model_decides_is_an_empty_line_that_says_so():
    form = Form(pipelines.get("generate").Params, {}, lead="prompt")
    assert (form.controls["steps"].value, form.controls["steps"].placeholder) == ("", "the model's own")
    assert form.controls["guidance"].value == ""
    assert form.controls["seed"].placeholder == "a new one each time"


def test_what_is_painted_on_or_in_lies_under_more():
    form = Form(pipelines.get("generate").Params, {"outpaint": "left 64"}, lead="prompt")
    fold = form.widget.children[-1].children[0]
    names = {name for box in fold.children for name in box._dom_classes}
    assert {"rv-field-init", "rv-field-mask", "rv-field-outpaint", "rv-field-mask-blur", "rv-field-mask-area"} <= names
    assert form.controls["mask_area"].options == ("auto", "whole", "masked") and form.controls["outpaint"].value == "left 64"
    assert (form.controls["mask_blur"].value, form.controls["strength"].value) == ("", "")
    form.controls["mask_area"].value = "masked"
    assert form.params() == pipelines.get("generate").Params(outpaint="left 64", mask_area="masked")


def test_the_dice_throws_a_seed():
    tab = GenerateTab({})
    grid = tab.form.widget.children[1]
    seed = next(box for box in grid.children if "rv-field-seed" in box._dom_classes)
    seed.children[1].children[1].click()
    assert tab.form.params().seed == int(tab.form.controls["seed"].value) >= 0


def test_what_does_not_fit_is_one_sentence_in_the_form():
    tab = GenerateTab({"prompt": "a house"})
    tab.form.controls["steps"].value = "many"
    tab.runner.draw.click()
    assert not tab.runner.running
    assert "rv-bad" in tab.runner.words.value and "many" in tab.runner.words.value


def test_texts_are_escaped(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    nasty = "<img src=x onerror=alert(1)>"
    for piece in (look.status(nasty, "bad"), look.chips([nasty]), look.card(tmp_path / "a.png", nasty), look.page_frame(nasty, nasty)):
        assert nasty not in piece


def test_a_long_table_is_shown_a_page_at_a_time():
    table, count = SceneTable(), PAGE + 10
    table.fill([scene_row(number) for number in range(count)], lambda row: [], lambda *_: None)
    scenes = lambda: [child for child in table.widget.children if "rv-scene" in child._dom_classes]  # noqa: E731
    assert len(scenes()) == PAGE and table.widget.children[-1].description == "Show 10 more of 10"
    table.widget.children[-1].click()
    assert len(scenes()) == count and len(table.names()) == count


def test_an_edited_prompt_is_saved_and_an_emptied_one_put_back():
    saved, table = [], SceneTable()
    table.fill([scene_row(1)], lambda row: [], lambda *texts: saved.append(texts))
    scene = table._shown["scene_1.png"]
    scene.prompt.value = "a green castle"
    assert saved == [("scene_1.png", "a green castle", "")] and "kept" in scene.mark.value
    scene.prompt.value = "  "
    assert scene.prompt.value == "a house"


def test_uploads_are_kept_under_their_plain_names(storage):
    one = keep_uploads([{"name": "../../etc/tale.md", "content": memoryview(b"text")}])
    assert one == storage / "uploads" / "tale.md" and one.read_bytes() == b"text"
    folder = keep_uploads([{"name": "b.md", "content": b"b"}, {"name": "a.md", "content": b"a"}])
    assert sorted(path.name for path in folder.iterdir()) == ["a.md", "b.md"]
    other = keep_uploads([{"name": "a.md", "content": b"another"}, {"name": "c.md", "content": b"c"}])
    assert sorted(path.name for path in other.iterdir()) == ["a.md", "c.md"] and (folder / "a.md").read_bytes() == b"a"
    assert keep_uploads([{"name": "a.md", "content": b"a"}, {"name": "b.md", "content": b"b"}]) == folder


def test_a_prompt_becomes_a_picture_without_holding_the_cell(storage):
    tab = GenerateTab({"prompt": "a red house", "steps": 2, "seed": 4})
    started = time.monotonic()
    tab.runner.draw.click()
    assert time.monotonic() - started < 2 and tab.runner.running and not tab.runner.cancel.disabled
    wait_for(ended(tab.runner))
    assert len(tab.gallery.children) == 1 and "seed 4" in tab.gallery.children[0].value
    assert "rv-good" in tab.runner.words.value and tab.runner.cancel.disabled


def test_cancel_ends_the_run_and_keeps_what_is_finished(storage):
    tab = GenerateTab({"prompt": "a blue house", "steps": 8, "count": 400, "seed": 4})
    tab.runner.draw.click()
    wait_for(lambda: tab.gallery.children)
    tab.runner.cancel.click()
    wait_for(ended(tab.runner))
    assert "Stopped" in tab.runner.words.value and 0 < len(tab.gallery.children) < 400


def test_an_error_of_the_run_is_said_in_the_tab(storage):
    tab = GenerateTab({"prompt": "a house", "model": "no-such-model"})
    tab.runner.draw.click()
    wait_for(ended(tab.runner))
    assert "rv-bad" in tab.runner.words.value and "no-such-model" in tab.runner.words.value


def test_scenes_are_read_edited_and_drawn(storage, story, tmp_path):
    tab = IllustrateTab({"text": str(story), "steps": 2, "out": str(tmp_path / "out")})
    tab.read.click()
    wait_for(lambda: not tab.read.disabled)
    assert "2 scenes in 1 chapter" in tab.runner.words.value
    first = tab.table._shown[tab.table.names()[0]]
    first.prompt.value = "a green castle at night"
    tab.runner.draw.click()
    wait_for(ended(tab.runner))
    assert "data:image/jpeg" in first.picture.value and "rv-frame" in tab.board.value
    from reverie import recipes

    assert recipes.read(tmp_path / "out" / tab.table.names()[0])["prompt"] == "a green castle at night"


def test_headless_draws_shows_and_remembers(storage, story, tmp_path, capsys):
    summary = run_headless({"text": str(story), "steps": 2, "out": str(tmp_path / "out"), "tunnel": "another cell's"})
    said = capsys.readouterr().out
    assert "2 scenes in 1 chapter" in said and "chapter_01_scene_01" in said and "chapter_01_scene_02" in said and "[2]" in said
    assert len(summary["pictures"]) == 2 and summary["seconds"] > 0
    assert json.loads((storage / "outputs/runs/last.json").read_text())["storyboard"] == summary["storyboard"]


def test_headless_says_what_does_not_fit(storage):
    with pytest.raises(BadInput, match="steps"):
        run_headless({"steps": "many"})


def test_no_thread_is_left_running(storage):
    kernel_studio().close()
    wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("reverie-")])
