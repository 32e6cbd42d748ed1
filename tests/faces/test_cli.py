"""`reverie` in a shell: help, sentences, exit codes, JSON, Ctrl-C."""

import json
import re
import signal
import sys
import time

import pytest

from reverie import pipelines
from reverie.faces import cli
from reverie.faces.cli_run import EXAMPLES, SCENE_KEYS, gather_numbers

SAMPLES = "assets/samples/the-time-machine"


def is_one_sentence(text):
    return text.count("\n") == 1 and "Traceback" not in text


def test_help_lists_every_command_with_a_line(reverie):
    done = reverie("--help")
    assert done.returncode == 0
    for name in (*pipelines.names(), *cli.OTHERS):
        assert re.search(rf"^  {name} +\S", done.stdout, re.M), name
    assert reverie().stdout == done.stdout


def test_help_loads_nothing_heavy(reverie):
    """What makes it slow would be seen here first; the time itself is a benchmark's."""
    script = (
        "import sys, contextlib, io; from reverie.faces import cli\n"
        "with contextlib.redirect_stdout(io.StringIO()): cli.run(['--help'])\n"
        "print([name for name in ('pydantic', 'torch', 'sqlalchemy', 'yaml', 'PIL', 'rich', 'reverie.studio') if name in sys.modules])"
    )
    import subprocess

    done = subprocess.run([sys.executable, "-c", script], env=reverie.env, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("command", ["generate", "illustrate", "library", "library list", "library show", "library search", "models", "doctor"])
def test_help_of_each_command_has_examples_and_json(reverie, command):
    done = reverie(*command.split(), "--help")
    assert done.returncode == 0
    assert re.search(rf"^  reverie {command.split()[0]}", done.stdout, re.M)
    assert "--json" in done.stdout


def test_examples_name_flags_that_exist():
    for name, lines in EXAMPLES.items():
        known = {f"--{field.replace('_', '-')}" for field in pipelines.get(name).Params.model_fields} | {"--json"}
        for line in lines:
            assert set(re.findall(r"--[\w-]+", line)) <= known, line


def test_every_field_is_a_flag(reverie):
    shown = reverie("illustrate", "--help").stdout
    for field in pipelines.get("illustrate").Params.model_fields:
        assert f"--{field.replace('_', '-')}" in shown


@pytest.mark.parametrize("args, code, words", [
    (["bogus"], 2, "no command 'bogus'"),
    (["generate"], 2, "prompt is empty"),
    (["generate", "a house", "--steps", "many"], 2, "steps"),
    (["generate", "a house", "--seed", "-7"], 2, "seed"),
    (["generate", "a house", "--stps", "3"], 2, "--stps"),
    (["generate", "a house", "--mask", "mask.png"], 2, "Name it with --init"),
    (["generate", "a house", "--mask-area", "half"], 2, "'masked'"),
    (["generate", "a house", "--model", "no-such-model"], 1, "no-such-model"),
    (["illustrate", "no/such/folder", "--dry-run"], 2, "no/such/folder"),
    (["illustrate", SAMPLES, "--resume", "99", "1", "--dry-run"], 2, "99"),
    (["illustrate", SAMPLES, "--chapters", "three", "--dry-run"], 2, "three"),
    (["library", "show", "nowhere.png"], 2, "nowhere.png"),
    (["library", "show", "0123456789"], 2, "0123456789"),
    (["library", "search"], 2, "WORDS"),
])
def test_bad_input_is_one_sentence_and_an_exit_code(reverie, args, code, words):
    done = reverie(*args)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr and is_one_sentence(done.stderr)


def test_debug_shows_where_an_error_came_from(reverie):
    done = reverie("generate", "a house", "--model", "no-such-model", "--debug")
    assert done.returncode != 0 and "Traceback" in done.stderr


@pytest.mark.parametrize("given, gathered", [
    ("book/ --chapters 1 3", ["book/", "--chapters", "1 3"]),
    ("--chapters 1 3 book/", ["--chapters", "1 3", "book/"]),
    ("--chapters 1-4 7 --dry-run", ["--chapters", "1-4 7", "--dry-run"]),
    ("--chapters=1 3 book/", ["--chapters=1 3", "book/"]),
    ("--resume 2 5 --chapters 2 3", ["--resume", "2 5", "--chapters", "2 3"]),
    ("--chapters", ["--chapters"]),
    ("--chapters one 3", ["--chapters", "one", "3"]),
    ("--steps 40 3", ["--steps", "40", "3"]),
    ("-- --chapters 1 3", ["--", "--chapters", "1", "3"]),
])
def test_a_text_flag_takes_the_numbers_that_follow(given, gathered):
    assert gather_numbers(given.split(), {"--chapters", "--resume"}) == gathered


def test_dry_run_reads_like_a_shot_list(reverie):
    done = reverie("illustrate", SAMPLES, "--chapters", 3, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Scene 1 ") == 1 and "Chapter 4" not in done.stdout
    assert re.search(r"prompt +\S", done.stdout) and re.search(r"file +chapter_03_scene_01_\S+\.png", done.stdout)
    assert not (reverie.storage / "outputs" / "illustrate").exists()


def test_dry_run_json_is_the_promised_list(reverie):
    done = reverie("illustrate", "--chapters", 3, 4, SAMPLES, "--dry-run", "--json")
    rows = json.loads(done.stdout)
    assert {row["chapter"] for row in rows} == {3, 4}
    assert all(tuple(row) == SCENE_KEYS for row in rows)


def test_generate_writes_a_picture_whose_recipe_reads_back(drawing, tmp_path):
    target = tmp_path / "house.png"
    done = drawing("generate", "a", "red", "house", "--seed", 5, "--steps", 2, "--out", target, "--json")
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)
    assert row["path"] == str(target) and row["prompt"] == "a red house"
    shown = json.loads(drawing("library", "show", target, "--json").stdout)
    assert (shown["prompt"], shown["seed"], shown["steps"]) == ("a red house", 5, 2)
    assert "seed        5" in drawing("library", "show", target).stdout
    listed = json.loads(drawing("library", "search", "red", "house", "--json").stdout)
    assert [entry["seed"] for entry in listed] == [5]
    assert drawing("library", "show", listed[0]["id"][:10]).returncode == 0


def test_illustrate_draws_and_a_second_run_draws_nothing(drawing, tmp_path):
    story = tmp_path / "tale.md"
    story.write_text("# Chapter 1: The Gate\n\nEmma stood in the garden at dawn. Rain fell.\n\n* * *\n\nAt night Emma walked through the forest.\n")
    done = drawing("illustrate", story, "--steps", 2, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 2 and all(len(row["images"]) == 1 for row in rows)
    again = drawing("illustrate", story, "--steps", 2, "--out", tmp_path / "out")
    assert again.returncode == 0 and "Storyboard:" in again.stdout
    assert "0 pictures drawn" in again.stdout and "2 kept from before" in again.stdout
    assert (tmp_path / "out" / "storyboard.html").exists()
    told = json.loads(drawing("illustrate", story, "--steps", 2, "--out", tmp_path / "out", "--json").stdout)
    assert [row["images"] for row in told] == [row["images"] for row in rows]


def test_ctrl_c_stops_says_what_is_kept_and_exits_130(drawing):
    running = drawing.start("generate", "a castle at night", "--seed", 11, "--steps", 8, "--count", 400)
    try:
        first = running.stdout.readline()
        assert first.startswith("[1/400]")
        running.send_signal(signal.SIGINT)
        started = time.monotonic()
        _, said = running.communicate(timeout=120)
    finally:
        running.kill()
    assert running.returncode == 130
    assert re.search(r"\d+ finished pictures? (is|are) kept", said) and "--seed 11" in said and "Traceback" not in said
    assert time.monotonic() - started < 60


def test_models_names_what_to_fetch(reverie):
    found = json.loads(reverie("models", "--json").stdout)
    assert "pocket" in [model["id"] for model in found["models"]]
    assert all(not model["here"] and model["note"] for model in found["advised"])
    assert "pocket" in reverie("models").stdout


def test_a_closed_pipe_is_no_error(reverie):
    import subprocess

    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; '{sys.executable}' -m reverie.faces.cli illustrate --dry-run | head -1"],
        env=reverie.env, capture_output=True, text=True, timeout=120,
    )
    assert "Traceback" not in done.stderr and "Broken" not in done.stderr
