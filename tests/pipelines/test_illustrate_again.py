"""What a second run makes of a text that was changed in between."""

import pytest
from PIL import Image

from reverie import recipes
from reverie.errors import BadInput
from reverie.pipelines import illustrate

SCENES = ["Emma stood in the garden at dawn. Rain fell on the white statue.", "At night Emma walked through the forest. A red house burned.",
          "The boat lay in the harbour under a clear sky. Emma sat on the sand and waited for the evening."]
INSERTED = "Emma sat in the kitchen at noon and read a letter. A black cat slept on the table by the fire."


@pytest.fixture
def params(tmp_path):
    write(tmp_path, SCENES)
    return illustrate.Params(text=str(tmp_path / "story.md"), out=str(tmp_path / "out"), outputs="none")


def write(folder, scenes):
    (folder / "story.md").write_text("# Chapter 1: All\n\n" + "\n\n* * *\n\n".join(scenes))


def run(studio, params, **more):
    updates = list(illustrate.run(studio, params.model_copy(update=more)))
    assert updates[-1].kind == "done"
    return updates[0].data, [u.text for u in updates if u.kind == "note"], updates[-1].data


def test_first_run_is_all_new_and_rows_tell_their_place_in_the_text(studio, params, tmp_path):
    rows, notes, summary = run(studio, params, dry_run=True)
    assert summary["changes"] == {"new": 3, "changed": 0, "unchanged": 0, "gone": 0, "edited": 0} and not any("Since" in n for n in notes)
    text = (tmp_path / "story.md").read_text()
    body = text.split("\n\n", 1)[1]
    for row, scene in zip(rows, SCENES, strict=True):
        span = row["span"]
        assert span["file"] == "story.md" and span["chapter"] == 1 and scene == body[span["start"]:span["end"]].strip()
        assert row["budget"]["tokens"] <= row["budget"]["limit"] and row["budget"]["dropped"] == []


def test_inserted_scene_is_the_only_one_drawn_and_overwrites_nothing(studio, params, tmp_path, engine):
    before, _, _ = run(studio, params)
    seeds = {row["filename"]: recipes.read(tmp_path / "out" / row["filename"])["seed"] for row in before}
    write(tmp_path, [INSERTED, *SCENES])
    _, notes, summary = run(studio, params, dry_run=True)
    assert summary["changes"] == {"new": 1, "changed": 0, "unchanged": 3, "gone": 0, "edited": 0}
    assert any("1 new, 0 changed, 3 unchanged, 0 gone" in n for n in notes) and any("3 pictures get other file names" in n for n in notes)
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == sorted(seeds), "a dry run moves nothing"
    rows, _, summary = run(studio, params)
    assert len(engine.made) == 4 and summary["kept"] == 3
    assert [row["filename"][:19] for row in rows] == [f"chapter_01_scene_0{n}" for n in (1, 2, 3, 4)]
    for old, row in zip(before, rows[1:], strict=True):
        recipe = recipes.read(tmp_path / "out" / row["filename"])
        assert (recipe["prompt"], recipe["seed"]) == (old["prompt"], seeds[old["filename"]])
    assert len(list((tmp_path / "out").glob("*.png"))) == 4 and len(list((tmp_path / "out" / "prompts").glob("*.txt"))) == 4
    assert run(studio, params)[2]["kept"] == 4 and len(engine.made) == 4


def test_edited_prompt_and_own_picture_follow_their_scene(studio, params, tmp_path, engine):
    rows, _, _ = run(studio, params)
    illustrate.save_prompt(params, rows[1]["filename"], "one blue boat", "fog")
    Image.new("RGB", (640, 480), "green").save(tmp_path / "out" / rows[2]["filename"])
    own = (tmp_path / "out" / rows[2]["filename"]).read_bytes()
    write(tmp_path, [SCENES[0], INSERTED, *SCENES[1:]])
    dry, notes, summary = run(studio, params, dry_run=True)
    assert [row["prompt"] == "one blue boat" for row in dry] == [False, False, True, False] and summary["changes"]["edited"] == 1
    rows, _, _ = run(studio, params)
    assert rows[2]["prompt"] == "one blue boat" and recipes.read(tmp_path / "out" / rows[2]["filename"])["prompt"] == "one blue boat"
    assert (tmp_path / "out" / rows[3]["filename"]).read_bytes() == own
    rows, _, summary = run(studio, params)
    assert rows[2]["prompt"] == "one blue boat" and summary["kept"] == 4


def test_scenes_that_change_places_keep_their_pictures(studio, params, tmp_path, engine):
    run(studio, params)
    write(tmp_path, [SCENES[0], SCENES[2], SCENES[1]])
    rows, _, _ = run(studio, params)
    for row in rows:
        assert recipes.read(tmp_path / "out" / row["filename"])["prompt"] == row["prompt"]


def test_gone_scene_is_told_and_its_picture_stays(studio, params, tmp_path):
    rows, _, _ = run(studio, params)
    write(tmp_path, [SCENES[0], SCENES[2]])
    _, notes, summary = run(studio, params, dry_run=True)
    assert summary["changes"]["gone"] == 1 and any(rows[1]["filename"] in note for note in notes)
    run(studio, params)
    assert (tmp_path / "out" / rows[1]["filename"]).exists()


def test_changed_scene_and_broken_record(studio, params, tmp_path, engine):
    run(studio, params)
    write(tmp_path, [SCENES[0], SCENES[1] + " She wept.", SCENES[2]])
    rows, _, summary = run(studio, params, dry_run=True)
    assert [row["change"] for row in rows][1] == "changed" and summary["changes"]["new"] == 0
    (tmp_path / "out" / "prompts" / ".scenes.json").write_text('[{"filename": 3}, 7')
    assert run(studio, params, dry_run=True)[2]["changes"]["new"] == 3
    (tmp_path / "out" / "prompts" / ".scenes.json").write_text('[{"filename": 3}]')
    assert run(studio, params)[2]["changes"]["new"] == 3


def test_chapters_that_are_not_asked_for_are_not_gone(studio, params, tmp_path):
    (tmp_path / "story.md").write_text(f"# Chapter 1\n\n{SCENES[0]}\n\n# Chapter 2\n\n{SCENES[1]}\n")
    run(studio, params)
    assert run(studio, params, dry_run=True, chapters="2")[2]["changes"] == {"new": 0, "changed": 0, "unchanged": 1, "gone": 0, "edited": 0}
    run(studio, params, chapters="2")
    assert run(studio, params, dry_run=True)[2]["changes"]["unchanged"] == 2


def test_sheet_of_the_folder_is_proposed_used_and_never_overwritten(studio, params, tmp_path, engine):
    _, notes, _ = run(studio, params, dry_run=True)
    sheet = tmp_path / "out" / "characters.yaml"
    assert any("is proposed" in note for note in notes)
    sheet.write_text(sheet.read_text().replace("kind: woman", "kind: child"))
    edited = sheet.read_text()
    rows, _, _ = run(studio, params)
    assert sheet.read_text() == edited and all("a child in a" in row["prompt"] for row in rows)
    sheet.write_text("Emma: {colour: tartan}")
    with pytest.raises(BadInput, match="'tartan'"):
        run(studio, params)
    assert sheet.read_text() == "Emma: {colour: tartan}"


def test_folder_that_cannot_be_written_does_not_stop_a_dry_run(studio, params, tmp_path):
    (tmp_path / "file").write_text("")
    _, notes, _ = run(studio, params, dry_run=True, out=str(tmp_path / "file" / "out"))
    assert any("was not written" in note for note in notes)
