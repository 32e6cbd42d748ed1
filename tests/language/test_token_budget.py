"""Prompts are counted by the model's own tokenizer, and say what they cost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reverie import language
from reverie.language import prompts, tokens

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "assets" / "samples" / "the-time-machine"


@pytest.mark.parametrize("text, count", [("a photo of a cat", 5), ("", 0), ("a man wearing a brown coat, sitting", 8), ("hello world!", 3), ("It’s  12\n3", 7)])
def test_clip_counts_as_openais_does(text, count):
    assert tokens.counter(None, "sdxl", ROOT / "assets").count(text) == count


def test_estimate_is_never_below_the_count():
    clip = tokens.counter(None, "sd15", ROOT / "assets")
    for row in language.read(SAMPLE, family="sdxl").rows:
        assert clip.count(row["prompt"]) <= tokens.estimate_tokens(row["prompt"]) == row["budget"]["tokens"] and row["budget"]["estimated"]


def test_counted_prompts_are_within_the_limit_and_drop_whole_clauses():
    clip = tokens.counter(None, "sdxl", ROOT / "assets")
    rows = language.read(SAMPLE, family="sdxl", max_tokens=40, count_tokens=clip.count).rows
    full = language.read(SAMPLE, family="sdxl", max_tokens=1000, count_tokens=clip.count).rows
    for row, whole in zip(rows, full, strict=True):
        budget = row["budget"]
        assert (budget["limit"], budget["estimated"]) == (40, False) and budget["tokens"] == clip.count(row["prompt"]) <= 40
        assert set(row["prompt"].split(", ")) <= set(whole["prompt"].split(", ")) and not whole["budget"]["dropped"]
        assert budget["dropped"][0] == "highly detailed background", "the least important goes first"
        assert row["prompt"].split(", ")[0] == whole["prompt"].split(", ")[0], "the subject stays"


def test_pocket_is_counted_by_its_own_tokenizer():
    home = ROOT / "assets/models/pocket"
    if not (home / "tokenizer/tokenizer.json").exists():
        pytest.skip("the embedded model is not here")
    own = tokens.counter(home, "pocket", ROOT / "assets")
    assert own.limit == 62 and own.count("one red house on the left, nobody") <= 8


def test_family_without_a_tokenizer_is_estimated(tmp_path):
    assert tokens.counter(None, "pocket", ROOT / "assets") is None and tokens.counter(None, "sdxl", tmp_path) is None
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("{broken")
    assert tokens.counter(tmp_path, "pocket", tmp_path) is None
    shot_rows = language.read(SAMPLE, chapters=[3]).rows
    assert all(row["budget"]["estimated"] and row["budget"]["tokens"] <= row["budget"]["limit"] == 62 for row in shot_rows)


def test_vocabulary_and_merges_of_a_model_folder_are_used(tmp_path):
    home = tmp_path / "tokenizer"
    home.mkdir()
    merges = (ROOT / "assets/configs/clip/merges.txt").read_text("utf-8")
    (home / "merges.txt").write_text(merges, "utf-8")
    (home / "vocab.json").write_text(json.dumps(tokens.clip_vocabulary(home / "merges.txt")[0]))
    (home / "tokenizer_config.json").write_text('{"model_max_length": 77}')
    (tmp_path / "tokenizer_2").mkdir()
    found = tokens.counter(tmp_path, "sdxl", ROOT / "nowhere")
    assert (found.count("a photo of a cat"), found.limit) == (5, 75)


def test_one_overlong_clause_keeps_its_beginning_and_says_so():
    from reverie.language import prompts as composing

    kept, dropped = composing._fit({"subject": ["word " * 100]}, {"order": ["subject"], "keep": ["subject"]}, 20, prompts.estimate_tokens)
    assert prompts.estimate_tokens(kept) <= 20 and dropped


def test_counting_loads_neither_torch_nor_transformers():
    code = ("import sys; from pathlib import Path; from reverie.language import tokens; "
            f"tokens.counter(None, 'sdxl', Path({str(ROOT / 'assets')!r})).count('a cat'); print([m for m in ('torch', 'transformers') if m in sys.modules])")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True, env={"PYTHONPATH": str(ROOT / "modules")})
    assert out.stdout.strip() == "[]"
