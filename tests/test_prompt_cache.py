"""Prompt files and pictures follow their scenes, and stay what they are, wherever a run is cut short."""

import json
import os

import pytest

from reverie import prompt_cache
from reverie.pipelines.illustrate import filenames

OLD, NEW = ["one", "two", "three", "four"], ["new", "one", "two", "three", "four"]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def compared(out, texts, style="ink"):
    """Text → its row, as a reading leaves it."""
    rows = [{"filename": f"chapter_01_scene_{n:02d}.png", "chapter": 1, "scene": n, "prompt": f"{style} {text}", "negative": "",
             "span": {"chapter": 1, "scene": n, "digest": text}} for n, text in enumerate(texts, 1)]
    for row, slot in zip(rows, prompt_cache.slots(out, [row["span"] for row in rows]), strict=True):
        row["slot"] = slot
    prompt_cache.compare(out, rows)
    return dict(zip(texts, rows, strict=True))


def run(out, texts, style="ink", seeds=()):
    """What illustrate does with its folder; `texts` are the scenes, `seeds` those of redrawn ones. Gives back text → (prompt, picture)."""
    rows = list(compared(out, texts, style).values())
    for text, row in zip(texts, rows, strict=True):
        row["own_seed"] = dict(seeds).get(text, row["own_seed"])
    prompt_cache.follow(out, rows, 1, filenames)
    prompt_cache.keep(out, rows)
    for row in rows:
        picture = out / row["filename"]
        picture.exists() or picture.write_text(row["prompt"])
    return {text: (row["prompt"], (out / row["filename"]).read_text()) for text, row in zip(texts, rows, strict=True)}


def seeds_of(out):
    """Text → the seed that its scene was redrawn with."""
    entries = json.loads((out / "prompts" / ".scenes.json").read_text())
    return {entry["digest"]: entry["seed"] for entry in entries if "seed" in entry}


class Killed(BaseException):
    pass


def killed_at(monkeypatch, number, after, work):
    """Whether `work` came to its `number`-th renaming of a file and died of it, before or after the file had its name."""
    left, real = [number], os.replace

    def replace(*paths):
        left[0] -= 1
        if left[0] == 0 and not after:
            raise Killed
        real(*paths)
        if left[0] == 0:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        try:
            work()
        except Killed:
            return True
    return False


def every_death(monkeypatch, tmp_path, began, work):
    """Folders where `began(folder)` was done and then `work(folder)` until it was killed: at each renaming, before and after it."""
    for number in range(1, 100):
        for after in (False, True):
            folder = tmp_path / f"{number}-{after}"
            began(folder)
            died = killed_at(monkeypatch, number, after, lambda: work(folder))  # noqa: B023 - called at once
            yield folder
        if not died:
            return
    raise AssertionError("it never came to its end")


def test_inserted_scene_after_any_sudden_end(monkeypatch, tmp_path):
    def began(out):
        run(out, OLD)
        prompt_cache.edit(out, "chapter_01_scene_02.png", "my own two", "fog")

    deaths = 0
    for out in every_death(monkeypatch, tmp_path, began, lambda out: run(out, NEW)):
        deaths += 1
        assert run(out, NEW) == {text: ("my own two" if text == "two" else f"ink {text}", f"ink {text}") for text in NEW}
        assert prompt_cache.edits(out) == {"chapter_01_scene_03.png": {"prompt": "my own two", "negative": "fog"}}
        assert not [path for path in (*out.iterdir(), *(out / "prompts").iterdir()) if path.name.endswith((".moving", ".part"))]
        assert len(list((out / "prompts").glob("*.txt"))) == 5
    assert deaths > 20


def test_redrawn_scenes_seed_after_any_sudden_end(monkeypatch, tmp_path):
    def began(out):
        run(out, OLD)
        run(out, OLD, seeds={"two": 0, "four": 7})

    for out in every_death(monkeypatch, tmp_path, began, lambda out: run(out, NEW, seeds={"two": 9})):
        run(out, NEW)
        assert seeds_of(out) in ({"two": 0, "four": 7}, {"two": 9, "four": 7})
    assert seeds_of(out) == {"two": 9, "four": 7}


def test_edits_before_files_are_renamed_after_any_sudden_end(monkeypatch, tmp_path):
    def began(out):
        run(out, OLD)
        for text, prompt in (("two", "my own two"), ("new", "my own new")):
            prompt_cache.edit_row(out, compared(out, NEW)[text], prompt, "")

    for out in every_death(monkeypatch, tmp_path, began, lambda out: run(out, NEW)):
        run(out, NEW)
        found = run(out, NEW)
        assert {text: prompt for text, (prompt, _) in found.items() if "own" in prompt} == {"new": "my own new", "two": "my own two"}
        assert len(list((out / "prompts").glob("[!.]*"))) == 5


def test_new_style_after_any_sudden_end_is_no_edit(monkeypatch, tmp_path):
    for out in every_death(monkeypatch, tmp_path, lambda out: run(out, OLD[:2]), lambda out: run(out, OLD[:2], "noir")):
        assert prompt_cache.edits(out) == {}
        run(out, OLD[:2], "pastel")
        assert (out / "prompts" / "chapter_01_scene_02.txt").read_text().startswith("pastel two")


def test_files_whose_new_names_are_taken_stay_and_so_do_those_behind_them(out):
    run(out, OLD)
    (out / "chapter_01_scene_05.png").write_text("a person's own")
    run(out, NEW)
    assert (out / "chapter_01_scene_05.png").read_text() == "a person's own"
    assert {path.read_text() for path in out.glob("*.png")} >= {"a person's own", "ink four"}


def test_files_that_an_older_version_left_on_their_way_get_their_names_back(out):
    run(out, OLD)
    (out / "chapter_01_scene_02.png").rename(out / "...chapter_01_scene_02.png.moving.moving.moving")
    assert run(out, OLD)["two"] == ("ink two", "ink two")
    assert len(list(out.glob("*.png"))) == 4


def test_prompt_put_back_to_the_programs_own_is_no_edit(out):
    own = {"prompt": "ink one", "negative": ""}
    for began in (lambda: None, lambda: run(out, OLD), lambda: run(out, OLD, "noir")):
        began()
        prompt_cache.edit(out, "chapter_01_scene_01.png", "my own", "", own)
        assert list(prompt_cache.edits(out)) == ["chapter_01_scene_01.png"]
        prompt_cache.edit(out, "chapter_01_scene_01.png", "ink one", "", own)
        assert prompt_cache.edits(out) == {}


def test_index_of_an_older_version_is_understood(out):
    run(out, OLD)
    index = out / "prompts" / ".composed.json"
    index.write_text(json.dumps({name: digests[0] for name, digests in json.loads(index.read_text()).items()}))
    assert prompt_cache.edits(out) == {} and run(out, OLD, "noir")["one"][0] == "noir one"
    index.write_text("[]")
    assert len(prompt_cache.edits(out)) == 4
