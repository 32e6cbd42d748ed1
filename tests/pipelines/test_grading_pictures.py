"""`illustrate --check`: the embedded CLIP grades drawings whose prompts are true, but for one."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from reverie import models, settings, storyboard, vision  # noqa: E402
from reverie.engines import Picture, Progress  # noqa: E402
from reverie.errors import BadInput, ModelMissing, WorkerDied  # noqa: E402
from reverie.faces import cli_report  # noqa: E402
from reverie.faces.cli_run import Outcome  # noqa: E402
from reverie.faces.widgets.illustrate import IllustrateTab  # noqa: E402
from reverie.pipelines import _check, illustrate  # noqa: E402
from reverie.studio import Studio  # noqa: E402
from scripts.pocket.draw import draw  # noqa: E402
from scripts.pocket.scenes import Scene, full_caption  # noqa: E402

CLIP = ROOT / "assets" / "models" / "pocket-clip"
SCENES = [  # as different as the small CLIP needs
    Scene("forest", "night", "clear", "house", "red", 1, "left", (), "moon", "yellow", "noir"),
    Scene("desert", "day", "clear", "horse", "brown", 2, "right", (), "sun", "yellow", "watercolour"),
    Scene("sea", "dusk", "storm", "boat", "white", 3, "middle", (), None, None, "pixel art"),
    Scene("city", "day", "rain", "tower", "green", 1, "right", (), None, None, "ink"),
    Scene("mountains", "dawn", "snow", "castle", "purple", 1, "middle", (), None, None, "wireframe"),
    Scene("library", "night", None, "table", "orange", 1, "left", (), None, None, "graphic novel"),
]
WRONG, SHOWN_INSTEAD = 2, SCENES[5]  # the sea's picture shows a library
GRADE = {"chapter", "scene", "filename", "path", "match", "sure", "rank", "of", "like", "weak"}


class TrueEngine:
    """Draws the scene that a prompt captions; the sea comes out wrong."""

    def __init__(self):
        self.captions = {full_caption(scene): SHOWN_INSTEAD if number == WRONG else scene for number, scene in enumerate(SCENES)}

    def capabilities(self):
        return {"at_once": 1}

    def run(self, task, inputs, emit, cancelled):
        emit(Progress(1.0))
        return [Picture(draw(self.captions[task.prompt], 128, task.seed), task.seed)]

    def close(self):
        pass


def open_studio(storage, **more):
    return Studio.open(replace(settings.load(), storage=storage, **more), open_engine=lambda name, settings: TrueEngine())


def run(studio, params, **more):
    updates = list(illustrate.run(studio, params.model_copy(update=more)))
    assert updates[-1].kind == "done"
    return updates


def told_story(folder):
    """Params for a text of six scenes whose prompts are captions of SCENES."""
    text = folder / "tale.md"
    text.write_text("# Chapter 1: All\n\n" + "\n\n* * *\n\n".join(f"Emma stood in the garden and counted to {n}." for n in range(len(SCENES))))
    params = illustrate.Params(text=str(text), out=str(folder / "out"), outputs="storyboard", check=True)
    for row, scene in zip(illustrate.rows(params), SCENES, strict=True):
        illustrate.save_prompt(params, row["filename"], full_caption(scene))
    return params


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder drawn and checked once: (studio, params, updates)."""
    folder = tmp_path_factory.mktemp("checked")
    params = told_story(folder)
    with open_studio(folder / "storage") as studio:
        yield studio, params, run(studio, params)


def check_of(updates):
    return updates[-1].data["check"]


def log_of(studio):
    return studio.settings.storage / "logs" / "check.log"


def test_the_weakest_is_the_picture_of_something_else(drawn):
    check = check_of(drawn[2])
    worst = next(grade for grade in check["grades"] if grade["path"] == check["weakest"][0])
    assert (check["clip"], check["error"], len(check["grades"])) == ("pocket-clip", "", len(SCENES))
    assert worst["scene"] == WRONG + 1 and worst["weak"] and worst["rank"] > 1 and worst["like"] == "chapter 1, scene 6"
    right = [grade for grade in check["grades"] if grade["scene"] != WRONG + 1]
    assert sum(grade["rank"] == 1 for grade in right) >= 3 and min(grade["sure"] for grade in right) > worst["sure"]


def test_grades_are_plain_figures_for_every_picture(drawn):
    for grade in json.loads(json.dumps(check_of(drawn[2])["grades"])):
        assert set(grade) == GRADE and grade["of"] == len(SCENES) and 1 <= grade["rank"] <= len(SCENES)
        assert 0 <= grade["sure"] <= 1 and -1 <= grade["match"] <= 1 and Path(grade["path"]).is_file()
        assert (grade["like"] == "") == (grade["rank"] == 1)


def test_what_is_told_names_scene_file_and_next_step(drawn):
    _, params, updates = drawn
    check = check_of(updates)
    said = "\n".join(check["told"])
    assert f"chapter 1, scene {WRONG + 1}: " in said and Path(check["weakest"][0]).name in said
    assert str(Path(params.out) / "prompts") in said and "looks more like chapter 1, scene 6" in said
    assert len(check["weakest"]) == len(SCENES) // 2


def test_json_and_the_last_lines_carry_the_grades(drawn):
    outcome = Outcome()
    for update in drawn[2]:
        outcome.take(update)
    rows = outcome.rows()
    assert [row["grades"][0]["scene"] for row in rows] == [row["scene"] for row in rows]
    assert cli_report.closing(outcome)[-len(check_of(drawn[2])["told"]):] == check_of(drawn[2])["told"]


def test_the_storyboard_marks_only_the_weak(drawn):
    page = Path(drawn[2][-1].data["storyboard"]).read_text()
    weak = [grade for grade in check_of(drawn[2])["grades"] if grade["weak"]]
    assert page.count('<li class="weak">') == len(weak) < len(SCENES) / 2
    assert "weak match" not in storyboard.page("A", [{"chapter": 1, "scene": 1}])


def test_the_notebook_shows_what_was_told(drawn):
    tab = IllustrateTab({})
    assert "check" in tab.form.controls
    tab._end({"check": check_of(drawn[2])})
    assert "Checked with pocket-clip" in tab.board.value
    tab._end({"check": {"told": [], "error": "The pictures could not be checked: <no>"}})
    assert "could not be checked: &lt;no&gt;" in tab.board.value


def test_a_second_check_looks_at_nothing_and_says_the_same(drawn):
    studio, params, updates = drawn
    log_of(studio).unlink()
    again = run(studio, params)
    assert check_of(again) == check_of(updates) and again[-1].data["kept"] == len(SCENES)
    dry = run(studio, params, dry_run=True)
    assert check_of(dry)["grades"] == check_of(updates)["grades"] and dry[-1].data["pictures"] == []
    assert not log_of(studio).exists(), "a CLIP was loaded"


def test_the_command_grades_what_is_there_in_a_dry_run(drawn, tmp_path):
    args = [sys.executable, "-m", "reverie.faces.cli", "illustrate", drawn[1].text, "--out", drawn[1].out, "--dry-run", "--check"]
    env = os.environ | {"REVERIE_STORAGE": str(tmp_path)}
    rows = json.loads(subprocess.run([*args, "--json"], env=env, capture_output=True, text=True, timeout=240, check=True).stdout)
    assert [grade["path"] for row in rows for grade in row["grades"]] == [grade["path"] for grade in check_of(drawn[2])["grades"]]


def test_only_a_changed_picture_is_looked_at_again(drawn, tmp_path):
    studio, params, updates = drawn
    out = tmp_path / "out"
    shutil.copytree(params.out, out)
    before = json.loads((out / _check.CACHE).read_text())["vectors"]
    [wrong] = [grade for grade in check_of(updates)["grades"] if grade["scene"] == WRONG + 1]
    mended = out / Path(wrong["path"]).name
    draw(SCENES[WRONG], 128, 5).resize((512, 512)).save(mended)
    check = check_of(run(studio, params, out=str(out)))
    after = json.loads((out / _check.CACHE).read_text())["vectors"]
    assert len(set(after) - set(before)) == 1 and not set(before) - set(after)
    assert next(grade for grade in check["grades"] if grade["path"] == str(mended))["sure"] > 2 * wrong["sure"]


@pytest.mark.parametrize("text", ["", "[]", '{"clip": "x", "scale": 1.0, "vectors": []}', '{"clip": "x", "scale": 1.0, "vectors": {"a": "AA", "b": 3}}',
                                  '{"clip": "of another CLIP", "scale": 1.0, "vectors": {"a": "AA"}}'])
def test_an_unreadable_cache_counts_as_none(tmp_path, text):
    (tmp_path / _check.CACHE).write_text(text)
    assert _check._read(tmp_path, "x")["vectors"] == {}


def test_nothing_drawn_yet_is_said_without_loading_a_clip(tmp_path):
    params = told_story(tmp_path)
    with open_studio(tmp_path / "storage") as studio:
        check = check_of(run(studio, params, dry_run=True))
        assert check["grades"] == [] and len(check["told"]) == 1 and "Nothing is drawn yet" in check["told"][0]
        assert not log_of(studio).exists()


def test_a_missing_clip_is_told_before_anything_is_drawn_with_where_to_get_it(tmp_path):
    params = told_story(tmp_path)
    with open_studio(tmp_path / "storage") as studio, pytest.raises(ModelMissing, match=r"family sd15\. Run: reverie fetch clip-vit-large-patch14, or download https://\S+ .* into .*models/clip/"):
        list(illustrate.run(studio, params.model_copy(update={"model": "sd15", "dry_run": True})))


def test_each_family_gets_a_clip_that_can_judge_it(tmp_path):
    home = replace(settings.load(), storage=tmp_path)
    assert models.clip("pocket", home).path == CLIP
    shutil.copytree(CLIP, tmp_path / "models" / "clip" / "my-clip")
    assert models.clip("sd15", home).id == "my-clip" and models.clip("pocket", home).id == "pocket-clip"
    shutil.copytree(CLIP, tmp_path / "models" / "clip" / "clip-vit-large-patch14")
    assert models.clip("sdxl", home).title == "CLIP ViT-L/14"
    (tmp_path / "models" / "clip" / "clip-vit-large-patch14" / "model.safetensors").rename(tmp_path / "pickle.bin")
    assert models.clip("sdxl", home).id == "my-clip"


def test_a_check_that_fails_leaves_pictures_and_storyboard(tmp_path):
    root = tmp_path / "root"
    (root / "assets" / "models").mkdir(parents=True)
    (root / "assets" / "models" / "pocket").symlink_to(ROOT / "assets" / "models" / "pocket")
    broken = shutil.copytree(CLIP, root / "assets" / "models" / "pocket-clip")
    (broken / "model.safetensors").write_bytes(b"cut short")
    with open_studio(tmp_path / "storage", root=root) as studio:
        updates = run(studio, told_story(tmp_path))
    [failed] = [update.text for update in updates if update.kind == "failed"]
    assert failed == check_of(updates)["error"] and "'pocket-clip' cannot be loaded" in failed and "Fetch it again" in failed
    assert len(updates[-1].data["pictures"]) == len(SCENES) and Path(updates[-1].data["storyboard"]).exists()


def lookers():
    alive = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]  # of other tests
    return [child for child in alive if "reverie.vision" in " ".join(child.cmdline())]


def test_stopping_ends_the_process_at_once(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    looking = vision.look(CLIP, ["a house"], [tmp_path / "a.png"], tmp_path / "log")
    assert next(looking) == 0.0
    [process] = lookers()
    looking.close()
    assert not process.is_running() and not lookers()


def test_a_process_that_dies_is_said(tmp_path):
    looking = vision.look(CLIP, ["a house"], [], tmp_path / "log")
    next(looking)
    lookers()[0].kill()
    with pytest.raises(WorkerDied, match="signal 9.*log"):
        list(looking)


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.png").write_text("none")
    with pytest.raises(BadInput, match="a.png"):
        list(vision.look(CLIP, [], [tmp_path / "a.png"], tmp_path / "log"))


def test_one_prompt_alone_cannot_be_ranked():
    grade = {"chapter": 1, "scene": 1, "path": "a.png", "match": 0.5, "sure": 1.0, "rank": 1, "of": 1, "like": "", "weak": False}
    assert "nothing to tell it from" in _check.tell([grade], [grade], "pocket-clip", Path("out"))[0]
