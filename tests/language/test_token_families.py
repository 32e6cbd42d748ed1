"""Tokens and prompts of the families that read sentences."""

from __future__ import annotations

import pytest

from reverie import settings
from reverie.engines import _tokenizers
from reverie.families import FAMILIES
from reverie.language import prompts, rules, scenes, tokens
from reverie.language.chapters import Chapter

ASSETS = settings.load().assets
STORY = "Emma walked in the dark forest at night. Rain fell on the tall pine trees, and Emma held a lantern."
TEXTS = ["a red house at dawn", "The Time Traveller's café — 37 lamps, naïve “quotes”\n\nand 日本語", "don't   stop", ""]


@pytest.mark.parametrize("family", [name for name, row in FAMILIES.items() if row.flow])
@pytest.mark.parametrize("text", TEXTS)
def test_the_counter_counts_what_the_models_tokenizer_makes(family, text):
    part = list(FAMILIES[family].tokenizers)[-1]
    tokenizer = _tokenizers.of(family, ASSETS)[part]
    counter = tokens.counter(None, family, ASSETS)
    assert counter.count(text) == len(tokenizer(text, add_special_tokens=False).input_ids) and not counter.estimated


def test_qwen_reads_known_words_under_their_known_numbers():
    ids = _tokenizers.of("zimage", ASSETS)["tokenizer"]("Hello world", add_special_tokens=False).input_ids
    assert ids == [9707, 1879]  # as every Qwen2 and Qwen3 has them


def test_the_chat_frame_fits_into_what_is_left_free_for_it():
    tokenizer = _tokenizers.of("zimage", ASSETS)["tokenizer"]
    framed = tokenizer.apply_chat_template([{"role": "user", "content": ""}], tokenize=False, add_generation_prompt=True, enable_thinking=True)
    assert framed == "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n"
    assert len(tokenizer(framed, add_special_tokens=False).input_ids) <= tokens.QWEN_FRAME
    assert tokenizer("<|im_start|>").input_ids == [151644]


def test_t5_ends_a_prompt_with_its_mark():
    ids = _tokenizers.of("flux", ASSETS)["tokenizer_2"]("a house", padding="max_length", max_length=8).input_ids
    assert ids[-1] == 0 and 1 in ids and ids[0] == 3


def a_shot():
    chapter = Chapter(1, "One", STORY, "one.md")
    return rules.describe(scenes.split(chapter)[0], rules.cast(rules.find_characters([chapter]), {}))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_prompts(family):
    found = prompts.compose(a_shot(), family)
    assert found.prompt and found.tokens <= found.limit


def test_families_that_read_sentences_hear_the_style_first_and_whole():
    found = prompts.compose(a_shot(), "flux", "watercolour")
    style, rest = found.prompt.split(". ", 1)
    assert style == "A loose watercolour painting with soft washes on textured paper"
    assert "forest" in rest and rest[0].isupper() and rest.endswith(".") and found.negative == ""
    assert prompts.compose(a_shot(), "sd3").negative
