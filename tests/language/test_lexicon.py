"""The words that the rules know, and the expressions made of them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from reverie.language import lexicon

ROOT = Path(__file__).resolve().parents[2]


def test_an_expression_asks_the_lexicon_for_its_words():
    opening = lexicon.pattern(r"(?i)(?P<count><counts>) <spans>s?")
    assert opening.fullmatch("Three days")["count"] == "Three" and opening.fullmatch("a few months")
    assert not opening.fullmatch("three houses")
    assert lexicon.pattern(r"(?i)(?P<count><counts>) <spans>s?") is opening


def test_every_entry_of_the_patterns_is_an_expression_of_its_own():
    for name in lexicon.words("patterns"):
        assert lexicon.pattern(f"<{name}>")


def test_a_typo_in_the_installations_styles_is_one_sentence(tmp_path):
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    with open(tmp_path / "configs" / "styles.yaml", "a", encoding="utf-8") as styles:
        styles.write("noir: {a: b\n")
    code = "from reverie.language import prompts\ntry: prompts._style('noir')\nexcept prompts.BadInput as error: print(error)"
    env = os.environ | {"REVERIE_ROOT": str(tmp_path), "PYTHONPATH": str(ROOT / "modules")}
    said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120).stdout
    assert said.startswith(f"{tmp_path / 'configs' / 'styles.yaml'} is not valid YAML") and said.count("\n") == 1
