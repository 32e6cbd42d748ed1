"""Another picture of some scenes: `--redraw "2 5"` draws them with new seeds that stay, and nothing else."""

import pytest
from PIL import Image

from reverie import recipes
from reverie.errors import BadInput
from reverie.faces.cli_run import Outcome, gather_numbers
from reverie.pipelines import illustrate

SCENES = ["Emma stood in the garden at dawn. Rain fell on the white statue.", "At night Emma walked through the forest. A red house burned.",
          "The boat lay in the harbour under a clear sky. Emma sat on the sand and waited for the evening.", "A black cat slept on the table by the fire."]
INSERTED = "Emma sat in the kitchen at noon and read a letter. A black cat slept on the table by the fire."


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def params(tmp_path, out):
    write(tmp_path, SCENES)
    return illustrate.Params(text=str(tmp_path / "story.md"), out=str(out), outputs="none")


def write(folder, scenes):
    half = len(scenes) // 2
    parts = ["\n\n* * *\n\n".join(part) for part in (scenes[:half], scenes[half:])]
    (folder / "story.md").write_text(f"# Chapter 1: One\n\n{parts[0]}\n\n# Chapter 2: Two\n\n{parts[1]}\n")


def run(studio, params, **more):
    """(rows of the plan, summary)"""
    updates = list(illustrate.run(studio, params.model_copy(update=more)))
    assert updates[-1].kind == "done"
    return updates[0].data, updates[-1].data


def seeds(out):
    return {path.name[:19]: recipes.read(path)["seed"] for path in out.glob("*.png")}


def test_only_the_named_scenes_are_drawn_and_their_seeds_stay(studio, params, out, engine):
    run(studio, params)
    before = seeds(out)
    rows, summary = run(studio, params, redraw="1 2, 2 1")
    after = seeds(out)
    changed = sorted(name for name in after if after[name] != before[name])
    assert changed == ["chapter_01_scene_02", "chapter_02_scene_01"] and len(engine.made) == 6
    assert [(row["chapter"], row["scene"]) for row in rows] == [(1, 2), (2, 1)] and len(summary["pictures"]) == 2
    assert run(studio, params)[1]["kept"] == 4 and seeds(out) == after
    run(studio, params, seed=9)
    assert {name for name, seed in seeds(out).items() if seed == after[name]} == set(changed), "another --seed leaves them"
    assert studio.library.count() == 8, "the pictures before are in the library"


def test_redrawn_seed_follows_its_scene_and_its_prompt_may_change(studio, params, tmp_path, out):
    run(studio, params)
    run(studio, params, redraw="2 1")
    own = seeds(out)["chapter_02_scene_01"]
    write(tmp_path, [*SCENES[:2], INSERTED, *SCENES[2:]])
    rows, _ = run(studio, params, style="ink")
    name = next(row["filename"][:19] for row in rows if "harbour" in row["excerpt"])
    assert name == "chapter_02_scene_02" and seeds(out)[name] == own


def test_run_that_is_stopped_keeps_the_new_seed_and_says_how_to_carry_on(studio, params, out):
    rows, _ = run(studio, params)
    before = seeds(out)
    illustrate.save_prompt(params, rows[1]["filename"], "slow")
    updates, outcome = illustrate.run(studio, params.model_copy(update={"redraw": "1 2"})), Outcome()
    for update in updates:
        outcome.take(update)
        if update.kind == "progress":
            break
    updates.close()
    assert "without --redraw, carries on" in outcome.kept() and seeds(out) == before, "the picture before stays until there is another"
    new = outcome.plan[0]["own_seed"]
    assert [row["own_seed"] for row in illustrate.rows(params)] == [None, new, None, None] and new != before["chapter_01_scene_02"]


def test_picture_of_a_persons_own_is_not_replaced(studio, params, out):
    rows, _ = run(studio, params)
    own = out / rows[1]["filename"]
    Image.new("RGB", (640, 480), "green").save(own)
    kept = own.read_bytes()
    for dry_run in (True, False):
        with pytest.raises(BadInput, match=f"{own.name} is a picture of your own.*Move it"):
            run(studio, params, redraw="1 1, 1 2", dry_run=dry_run)
    assert own.read_bytes() == kept
    assert [row["own_seed"] for row in illustrate.rows(params)] == [None] * 4, "nothing is thrown for the others either"
    own.rename(out / "mine.png")
    run(studio, params, redraw="1 2")
    assert recipes.read(own)["prompt"] == rows[1]["prompt"]


def test_one_of_several_pictures_may_be_a_persons_own(studio, params, out):
    rows, _ = run(studio, params, count=2)
    first, second = (out / name for name in illustrate.filenames(rows[0]["filename"], 2))
    Image.new("RGB", (640, 480), "green").save(first)
    kept, before = first.read_bytes(), recipes.read(second)["seed"]
    run(studio, params, count=2, redraw="1 1")
    assert first.read_bytes() == kept and recipes.read(second)["seed"] != before


def test_dry_run_names_the_scenes_and_writes_nothing(studio, params, out, engine):
    run(studio, params)
    rows, _ = run(studio, params, redraw="2 2", dry_run=True)
    assert [(row["chapter"], row["scene"]) for row in rows] == [(2, 2)] and len(engine.made) == 4
    assert [row["own_seed"] for row in illustrate.rows(params)] == [None] * 4


@pytest.mark.parametrize("text", ["2 1 2 2", "2 1, 2 2", "2-1 2-2", "[2, 1, 2, 2]", "2 2;2 1,", "2 1 2 1 2 2"])
def test_scenes_are_named_by_chapter_and_number(params, text):
    assert [(row["chapter"], row["scene"]) for row in illustrate.rows(params.model_copy(update={"redraw": text}))] == [(2, 1), (2, 2)]


@pytest.mark.parametrize("text, words", [
    ("2", "'2' in redraw is no chapter and scene"), ("2 1 3", "in redraw"), ("two", "'two'"), ("1 9", "Chapter 1 has scenes 1 to 2"), ("7 1", "There are chapters 1, 2"),
])
def test_scenes_that_are_not_there_are_told(params, text, words):
    with pytest.raises(BadInput, match=words):
        illustrate.rows(params.model_copy(update={"redraw": text}))


def test_numbers_after_the_flag_belong_to_it():
    assert gather_numbers(["--redraw", "2", "5,", "3", "1", "book/"], {"--redraw"}) == ["--redraw", "2 5, 3 1", "book/"]


def test_folder_of_a_version_that_kept_no_seeds_is_understood(studio, params, out):
    run(studio, params)
    assert '"seed"' not in (out / "prompts" / ".scenes.json").read_text(), "what was never redrawn is as it always was"
    (out / ".placed.json").unlink()
    assert run(studio, params, redraw="1 1")[1]["pictures"], "nor does it know whose its pictures are"
    record = out / "prompts" / ".scenes.json"
    record.write_text(record.read_text().replace('"scene": 2', '"scene": 2,\n"seed": "many"'))
    assert [row["change"] for row in illustrate.rows(params)].count("new") == 2
