"""A text becomes scenes, pictures and a storyboard, with an engine that draws flat colours."""

import shutil
import time
from dataclasses import replace

import pytest
from flat_engine import FlatEngine
from PIL import Image

from reverie import recipes, settings
from reverie.errors import BadInput, Busy, EngineFailed, ModelMissing
from reverie.pipelines import illustrate
from reverie.studio import Studio

STORY = """# Chapter 1: The Gate

Emma stood in the garden at dawn. Rain fell on the white statue.

* * *

At night Emma walked through the forest. A red house burned.

# Chapter 2: The Sea

{}

* * *

The boat lay in the harbour under a clear sky. Emma sat on the sand and waited for the evening.
"""


@pytest.fixture
def engine():
    return FlatEngine()


@pytest.fixture
def studio(tmp_path, engine):
    home = replace(settings.load(), storage=tmp_path / "storage")
    with Studio.open(home, open_engine=lambda name, settings: engine) as studio:
        yield studio


@pytest.fixture
def story(tmp_path):
    path = tmp_path / "my-story.md"
    path.write_text(STORY.format("The waves broke on the cliffs at noon."))
    return path


@pytest.fixture
def params(tmp_path, story):
    return illustrate.Params(text=str(story), out=str(tmp_path / "out"), outputs="storyboard")


def run(studio, params, **more):
    return list(illustrate.run(studio, params.model_copy(update=more)))


def done(updates):
    assert updates[-1].kind == "done"
    return updates[-1].data


def test_every_scene_gets_a_picture_wide_enough_with_its_recipe(studio, params, tmp_path):
    updates = run(studio, params)
    pictures = [update.path for update in updates if update.kind == "picture"]
    assert [path.name[:19] for path in pictures] == ["chapter_01_scene_01", "chapter_01_scene_02", "chapter_02_scene_01", "chapter_02_scene_02"]
    assert all(Image.open(path).width >= 512 for path in pictures)
    assert recipes.read(pictures[0])["prompt"] == updates[0].data[0]["prompt"]
    page = (tmp_path / "out" / "storyboard.html").read_text()
    assert page.count("data:image/") >= 4 and "My Story" in page


def test_second_run_makes_nothing_anew(studio, params, engine):
    run(studio, params)
    before = {path: path.stat().st_mtime_ns for path in (settings.Path(params.out)).glob("*.png")}
    summary = done(run(studio, params))
    assert summary["kept"] == 4 and len(engine.made) == 4 and len(summary["pictures"]) == 4
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_stopping_before_anything_is_drawn_leaves_nothing_waiting(studio, params):
    run(studio, params, chapters="1")
    updates = illustrate.run(studio, params)
    next(update for update in updates if "2 of 4 scenes are there already" in update.text)
    updates.close()
    assert [job.state for job in studio.store.jobs.find()] == ["succeeded"] * 2


def test_edited_prompt_is_used_and_makes_only_its_own_scene_anew(studio, params, engine):
    run(studio, params)
    row = illustrate.rows(params)[1]
    illustrate.save_prompt(params, row["filename"], "one blue boat", "fog")
    again = illustrate.rows(params)[1]
    assert (again["prompt"], again["negative"]) == ("one blue boat", "fog")
    assert done(run(studio, params))["kept"] == 3
    assert engine.made[-1].prompt == "one blue boat" and engine.made[-1].negative == "fog"
    assert done(run(studio, params))["kept"] == 4


def test_prompt_edited_by_hand_in_its_file_survives_another_style(studio, params):
    run(studio, params)
    first = illustrate.rows(params)[0]["filename"].removesuffix(".png")
    file = settings.Path(params.out) / "prompts" / f"{first}.txt"
    file.write_text("my own\nwords\n\nNegative: none of it\n")
    run(studio, params, style="ink")
    rows = illustrate.rows(params.model_copy(update={"style": "ink"}))
    assert rows[0]["prompt"] == "my own words" and rows[0]["negative"] == "none of it"
    assert "ink" in rows[1]["prompt"], "a prompt that nobody edited follows the style"


def test_changed_text_makes_only_its_own_scene_anew(studio, params, story, engine):
    run(studio, params)
    story.write_text(STORY.format("The waves broke on the cliffs at midnight, in a storm."))
    assert done(run(studio, params))["kept"] == 3 and len(engine.made) == 5


def test_picture_of_the_users_own_is_never_replaced(studio, params, engine):
    target = settings.Path(params.out) / illustrate.rows(params)[0]["filename"]
    target.parent.mkdir(parents=True)
    Image.new("RGB", (640, 480), "green").save(target)
    before = target.read_bytes()
    assert done(run(studio, params))["kept"] == 1
    assert target.read_bytes() == before


def test_dry_run_draws_nothing_and_only_proposes_the_characters(studio, params, engine):
    updates = run(studio, params, dry_run=True)
    assert [update.kind for update in updates] == ["plan", "note", "done"] and len(updates[0].data) == 4
    assert not engine.made and {path.name for path in settings.Path(params.out).iterdir()} <= {"characters.yaml", ".reverie.lock"}


def test_chapters_and_resume_choose_scenes(params):
    def chosen(**more):
        return [(row["chapter"], row["scene"]) for row in illustrate.rows(params.model_copy(update=more))]

    assert chosen(chapters="2") == [(2, 1), (2, 2)] and chosen(chapters="1-2") == chosen()
    assert chosen(resume="1 2") == [(1, 2), (2, 1), (2, 2)] and chosen(resume="2") == [(2, 1), (2, 2)]


@pytest.mark.parametrize("change, words", [
    ({"resume": "2 9"}, "Chapter 2 has scenes 1 to 2"), ({"resume": "7 1"}, "There are chapters 1, 2"),
    ({"chapters": "5"}, "5"), ({"chapters": "one"}, "'one' in chapters is not a number"), ({"text": "/no/such/book"}, "/no/such/book"),
    ({"characters": "/no/sheet.yaml"}, "sheet.yaml"),
])
def test_bad_input_is_one_sentence(studio, params, change, words):
    with pytest.raises(BadInput, match=words):
        run(studio, params, **change)


def test_missing_model_is_told_before_anything_is_written(studio, params):
    with pytest.raises(ModelMissing):
        run(studio, params, model="sdxl-nowhere")
    assert not settings.Path(params.out).exists()


def test_several_pictures_of_a_scene(studio, params):
    summary = done(run(studio, params, count=2, chapters="1"))
    assert [settings.Path(path).stem[-3:] for path in summary["pictures"]] == ["_01", "_02"] * 2


def test_two_runs_in_one_folder_are_told_apart(studio, params):
    first = illustrate.run(studio, params)
    next(update for update in first if update.kind == "picture")
    with pytest.raises(Busy, match="Another run is drawing into"):
        run(studio, params)
    first.close()
    assert done(run(studio, params))["scenes"] == 4


def test_interrupted_run_keeps_what_is_finished_and_carries_on(studio, params, engine):
    first = illustrate.run(studio, params)
    next(update for update in first if update.kind == "picture")
    first.close()
    made = len(engine.made)
    summary = done(run(studio, params))
    assert len(summary["pictures"]) == 4 and len(engine.made) == 4 and made >= 1


def test_one_failing_scene_does_not_stop_the_others_and_all_failing_is_an_error(studio, params):
    rows = illustrate.rows(params)
    illustrate.save_prompt(params, rows[1]["filename"], "fails", "")
    summary = done(run(studio, params))
    assert summary["failed"] == 1 and len(summary["pictures"]) == 3
    for row in rows:
        illustrate.save_prompt(params, row["filename"], f"fails {row['scene']}", "")
    shutil.rmtree(settings.Path(params.out), ignore_errors=False)
    for row in rows:
        illustrate.save_prompt(params, row["filename"], f"fails {row['scene']}", "")
    started = time.monotonic()
    with pytest.raises(EngineFailed, match="It failed"):
        run(studio, params)
    assert time.monotonic() - started < 10


def test_book_comic_and_film_lie_beside_the_pictures(studio, params, tmp_path):
    summary = done(run(studio, params, outputs="", chapters="1"))
    assert {path.name for path in (tmp_path / "out").glob("my-story.*")} == {"my-story.epub", "my-story.pdf", "my-story.mp4"}
    assert summary["animatic"].endswith("my-story.mp4") and summary["captions"].endswith("captions.srt")
    again = run(studio, params, outputs="", chapters="1")
    assert not [update for update in again if update.kind == "progress"]


def test_unknown_outputs_are_told_before_anything_is_drawn(studio, params):
    with pytest.raises(BadInput, match="'gif' in outputs is unknown"):
        run(studio, params, outputs="gif")
    assert not settings.Path(params.out).exists()
