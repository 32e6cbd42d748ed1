"""The output folder of illustrate over many runs: what is a person's stays, what is the program's is found again."""

import builtins
import io
import shutil
import subprocess

import pytest
from PIL import Image

from reverie import media, recipes, settings
from reverie.errors import BadInput, StoreFailed
from reverie.faces.cli_run import Outcome
from reverie.language import model
from reverie.pipelines import _folder, illustrate

SCENES = ["Emma stood in the garden at dawn. Rain fell on the white statue.", "At night Emma walked through the forest. A red house burned.",
          "The boat lay in the harbour under a clear sky. Emma sat on the sand and waited for the evening."]
INSERTED = "Emma sat in the kitchen at noon and read a letter. A black cat slept on the table by the fire."


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def params(tmp_path, out):
    write(tmp_path, SCENES)
    return illustrate.Params(text=str(tmp_path / "story.md"), out=str(out), outputs="none")


def write(folder, scenes):
    (folder / "story.md").write_text("# Chapter 1: All\n\n" + "\n\n* * *\n\n".join(scenes))


def run(studio, params, **more):
    """(rows of the plan, summary)"""
    updates = list(illustrate.run(studio, params.model_copy(update=more)))
    assert updates[-1].kind == "done"
    return updates[0].data, updates[-1].data


def take(studio, path, colour="blue"):
    """A picture as `reverie generate` leaves it: with a recipe of ours, of another job."""
    recipe = {"prompt": "a better take", "model": "pocket", "width": 64, "height": 64, "steps": 2, "cfg": 5.0, "seed": 3, "key": "another"}
    return media.write_bytes(path, media.encode_png(Image.new("RGB", (64, 64), colour), recipe)).read_bytes()


def test_resumed_run_takes_along_the_scenes_before_it(studio, params, tmp_path, out):
    rows, _ = run(studio, params)
    illustrate.save_prompt(params, rows[1]["filename"], "one blue boat", "fog")
    write(tmp_path, [INSERTED, *SCENES])
    run(studio, params, resume="1 4")
    rows = illustrate.rows(params)
    assert [row["prompt"] == "one blue boat" for row in rows] == [False, False, True, False]
    assert sum(row["edited"] for row in rows) == 1 and [row["change"] for row in rows] == ["unchanged"] * 4
    assert len(list((out / "prompts").glob("*.txt"))) == 4
    assert run(studio, params)[1]["kept"] == 2, "the new scene and the edited one are drawn"


def test_resumed_run_shows_all_scenes_in_what_it_makes(studio, params, out):
    rows, _ = run(studio, params)
    (out / rows[2]["filename"]).unlink()
    _, summary = run(studio, params, resume="1 3", outputs="storyboard")
    page = (out / "storyboard.html").read_text()
    assert page.count("<article") == 3 and "not drawn yet" not in page and summary["scenes"] == 1


def test_run_closed_at_its_note_leaves_no_job_behind(studio, params):
    rows, _ = run(studio, params)
    illustrate.save_prompt(params, rows[1]["filename"], "slow", "")
    updates = illustrate.run(studio, params)
    next(update for update in updates if "are there already" in update.text)
    updates.close()
    assert {job.state for job in studio.store.jobs.find()} == {"succeeded"}


def test_folder_is_named_for_the_text_wherever_it_is_named_from(tmp_path, monkeypatch):
    book = tmp_path / "my-book" / "part"
    book.mkdir(parents=True)
    folder = settings.load().outputs / "illustrate"
    for here, text, name in ((book.parent, ".", "my-book"), (book, "..", "my-book"), (book.parent, "part/..", "my-book"), (book, "./", "part")):
        monkeypatch.chdir(here)
        assert illustrate.out_folder(illustrate.Params(text=text)) == folder / name
    titles = [tmp_path / f"{'ü' * 120}{end}.md" for end in "ab"]
    short = [illustrate.out_folder(illustrate.Params(text=str(path))).name for path in titles if path.write_text("x")]
    assert len(set(short)) == 2 and all(len(name.encode()) < 120 and name.startswith("ü" * 40) for name in short)


def test_book_that_was_made_is_no_chapter_of_itself(studio, params, tmp_path):
    folder = tmp_path / "my-book"
    folder.mkdir()
    (tmp_path / "story.md").rename(folder / "01.md")
    inside = {"text": str(folder), "out": str(folder), "outputs": "epub"}
    rows, summary = run(studio, params, **inside)
    assert summary["epub"] == str(folder / "my-book.epub")
    assert [row["filename"] for row in run(studio, params, **inside)[0]] == [row["filename"] for row in rows]
    assert len(illustrate.rows(illustrate.Params(text=summary["epub"]))) == 3, "given by its own name it is read"


@pytest.mark.parametrize("change, words", [
    ({"chapters": "3-1"}, "'3-1' in chapters runs backwards"), ({"resume": "2 5 9"}, "'2 5 9'"), ({"resume": "one"}, "'one'"), ({"resume": "1-2-3"}, "'1-2-3'"),
])
def test_ranges_that_mean_nothing_are_told(params, change, words):
    with pytest.raises(BadInput, match=words):
        illustrate.rows(params.model_copy(update=change))


@pytest.mark.parametrize("text", ["1 2", "1-2", "1, 2", "[1, 2]"])
def test_resume_is_a_chapter_and_a_scene(params, text):
    assert [row["scene"] for row in illustrate.rows(params.model_copy(update={"resume": text}))] == [2, 3]


def test_take_put_under_a_scenes_name_is_never_replaced(studio, params, tmp_path, out):
    first = out / illustrate.rows(params)[0]["filename"]
    chosen = [take(studio, first)]
    rows, summary = run(studio, params)
    assert summary["kept"] == 1
    chosen.append(take(studio, out / rows[1]["filename"], "red"))
    rows, summary = run(studio, params, style="ink")
    assert summary["kept"] == 2 and [(out / row["filename"]).read_bytes() for row in rows[:2]] == chosen
    write(tmp_path, [INSERTED, *SCENES])
    rows, _ = run(studio, params, style="noir")
    assert [(out / row["filename"]).read_bytes() for row in rows[1:3]] == chosen
    assert recipes.read(out / rows[3]["filename"])["prompt"] == rows[3]["prompt"], "what the program drew it may draw anew"


def test_one_of_several_pictures_may_be_a_persons_own(studio, params, out):
    rows, _ = run(studio, params, count=2)
    name = illustrate.filenames(rows[0]["filename"], 2)
    chosen = take(studio, out / name[0])
    run(studio, params, count=2, style="ink")
    assert (out / name[0]).read_bytes() == chosen and "ink" in recipes.read(out / name[1])["prompt"]


def test_touched_up_picture_stays_although_it_kept_its_recipe(studio, params, out):
    rows, _ = run(studio, params)
    path = out / rows[0]["filename"]
    recipe = recipes.read(path)
    media.write_bytes(path, media.encode_png(Image.new("RGB", (512, 512), "white"), {k: v for k, v in recipe.items() if k != "source"}))
    assert run(studio, params, style="ink")[1]["kept"] == 1


def test_folder_of_an_older_version_or_without_its_prompts_is_drawn_anew(studio, params, out):
    run(studio, params)
    (out / ".placed.json").unlink()
    assert run(studio, params, style="ink")[1]["kept"] == 0
    shutil.rmtree(out / "prompts")
    assert run(studio, params, style="noir")[1]["kept"] == 0


def test_thrown_seed_is_named_where_a_stopped_run_says_how_to_carry_on(studio, params):
    updates = illustrate.run(studio, params.model_copy(update={"seed": -1}))
    outcome = Outcome()
    for update in updates:
        outcome.take(update)
        if update.kind == "picture":
            break
    updates.close()
    path, _ = outcome.pictures[0]
    said = outcome.kept()
    seed = int(said.split("--seed ")[1].split()[0])
    assert recipes.read(path)["seed"] == seed + 100_000 + 16
    assert run(studio, params, seed=seed)[1]["kept"] >= 1


@pytest.fixture
def no_room(tmp_path):
    """A real disk on which nothing more can be made; skipped where we may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=2", "tmpfs", folder], capture_output=True, timeout=10).returncode:
        pytest.skip("mounting a small disk needs root")
    (folder / "out").mkdir()
    yield folder
    subprocess.run(["umount", folder], check=True, timeout=10)


@pytest.mark.parametrize("name", ["new", "out"])
def test_full_disk_is_said_in_the_same_words_everywhere(studio, params, no_room, name):
    with pytest.raises(StoreFailed, match="The disk is full: .*Free some space"):
        run(studio, params, out=str(no_room / name))


def test_picture_is_read_once_on_its_way_into_the_folder(tmp_path, monkeypatch):
    recipe = {"prompt": "a house", "model": "pocket", "width": 64, "height": 64, "steps": 2, "cfg": 5.0, "seed": 3, "key": "k"}
    for side in (64, 600):
        source = media.write_bytes(tmp_path / f"{side}.png", media.encode_png(Image.new("RGB", (side, side)), recipe))
        opened, real = [], io.open
        with monkeypatch.context() as patch:
            for module in (io, builtins):
                patch.setattr(module, "open", lambda file, *args, **more: opened.append(str(file)) or real(file, *args, **more))
            _folder.put(source, tmp_path / "out" / "p.png")
        assert opened.count(str(source)) == 1
        assert Image.open(tmp_path / "out" / "p.png").width >= 512 and recipes.read(tmp_path / "out" / "p.png")["key"] == "k"


def test_word_for_no_writer_is_the_language_rooms_own(params, monkeypatch):
    monkeypatch.setattr(model, "OFF", "nobody")
    assert len(illustrate.rows(params.model_copy(update={"writer": "Nobody"}))) == 3
