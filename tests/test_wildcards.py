"""Prompts that choose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie import settings, wildcards
from reverie.errors import BadInput

SHIPPED = settings.load().wildcards


def outcomes(text: str, folders=SHIPPED, tries: int = 300) -> set[str]:
    return {wildcards.resolve(text, seed, folders) for seed in range(tries)}


def test_one_of_several():
    assert outcomes("a {red|blue} house") == {"a red house", "a blue house"}


def test_choices_in_choices():
    assert outcomes("{a {b|c}|d}") == {"a b", "a c", "d"}


def test_an_empty_choice_leaves_no_hole():
    assert outcomes("a {red|} house, {fog|}, at night") == {"a red house, fog, at night", "a red house, at night",
                                                          "a house, fog, at night", "a house, at night"}


def test_weights_make_a_choice_more_frequent():
    made = [wildcards.resolve("{9::a|b}", seed, []) for seed in range(1000)]
    assert 850 < made.count("a") < 950


def test_several_of_a_choice_come_without_repetition():
    assert outcomes("{2$$a|b|c}") == {f"{x}, {y}" for x in "abc" for y in "abc" if x != y}
    assert outcomes("{1-2$$ and $$a|b}") == {"a", "b", "a and b", "b and a"}
    assert outcomes("{5$$a|b}") == {"a, b", "b, a"}


def test_a_line_of_a_file(tmp_path):
    (tmp_path / "animals").mkdir()
    (tmp_path / "animals" / "pets.txt").write_text("# what people keep\n\ndog\na {small|big} cat\n", "utf-8")
    assert outcomes("__animals/pets__ in the hall", [tmp_path]) == {"dog in the hall", "a small cat in the hall", "a big cat in the hall"}


def test_the_users_file_goes_before_ours(tmp_path):
    (tmp_path / "colour.txt").write_text("beige\n", "utf-8")
    assert outcomes("__colour__", [tmp_path, *SHIPPED]) == {"beige"}


def test_shipped_files_hold_words_that_pocket_knows():
    known = {word for values in settings.config("pocket").values() if isinstance(values, dict) for word in values}
    for name in ("colour", "weather", "style"):
        assert outcomes(f"__{name}__") <= known, name


def test_the_same_seed_chooses_the_same():
    text = "__colour__ {house|boat} __place__, __time__"
    assert wildcards.resolve(text, 5, SHIPPED) == wildcards.resolve(text, 5, SHIPPED)
    assert len(outcomes(text)) > 100


def test_escaped_braces_are_letters():
    assert wildcards.resolve(r"{a|a} \{x\|y\}", 0, []) == "a {x|y}"
    assert wildcards.resolve(r"a \{b\}  c, , \|", 0, []) == "a {b}  c, , |", "alone too, and nothing else is changed"


@pytest.mark.parametrize("text, said", [
    ("__nothing__", "no wildcard 'nothing'"), ("{a|b} {", "not closed"), ("a {red house", "not closed"), ("red} house", "not closed"),
])
def test_what_cannot_be_resolved_is_said(text, said):
    with pytest.raises(BadInput, match=said):
        wildcards.resolve(text, 0, SHIPPED)


def test_files_without_end_and_without_lines_are_said(tmp_path):
    (tmp_path / "a.txt").write_text("__b__ " * 9, "utf-8")
    (tmp_path / "b.txt").write_text("__a__", "utf-8")
    (tmp_path / "empty.txt").write_text("# nothing\n", "utf-8")
    with pytest.raises(BadInput, match="without end"):
        wildcards.resolve("__a__", 0, [tmp_path])
    with pytest.raises(BadInput, match="no lines"):
        wildcards.resolve("__empty__", 0, [tmp_path])


@given(st.text(alphabet="ab,_ .(:1)<", max_size=40))
def test_a_prompt_without_choices_stays_as_it_is(text):
    if not wildcards.has(text):
        assert wildcards.resolve(text, 0, []) == text


def test_a_prompt_that_is_too_long_to_choose_in_is_said_and_one_without_choices_is_not():
    with pytest.raises(BadInput, match="20,000 letters, and this one has 20,006.*Shorten it"):
        wildcards.resolve("x" * 20_001 + "{a|b}", 0, SHIPPED)
    assert wildcards.resolve("x" * 30_000, 0, SHIPPED) == "x" * 30_000
