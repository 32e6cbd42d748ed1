"""Weights, escapes, breaks and chunks of a prompt, without a model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.engines._prompts import Piece, chunks, is_plain, parse


def weighed(prompt: str) -> list[tuple[str, float]]:
    return [(piece.text, round(piece.weight, 4)) for piece in parse(prompt)]


@pytest.mark.parametrize(
    "prompt, pieces",
    [
        ("a red house", [("a red house", 1)]),
        ("a (red) house", [("a ", 1), ("red", 1.1), (" house", 1)]),
        ("a ((red)) house", [("a ", 1), ("red", 1.21), (" house", 1)]),
        ("a [red] house", [("a ", 1), ("red", 0.9091), (" house", 1)]),
        ("a (red:1.3) house", [("a ", 1), ("red", 1.3), (" house", 1)]),
        ("a (red: .5 ) house", [("a ", 1), ("red", 0.5), (" house", 1)]),
        ("(a (red:1.5) house:0.8)", [("a ", 0.8), ("red", 1.2), (" house", 0.8)]),
        ("(a [red] house)", [("a ", 1.1), ("red", 1.0), (" house", 1.1)]),
        (r"a \(red\) \[house\] \\", [(r"a (red) [house] " + "\\", 1)]),
        (r"(a \(red\):1.2)", [("a (red)", 1.2)]),
        ("at 16:9, 3:1.5", [("at 16:9, 3:1.5", 1)]),
        ("a red) house]", [("a red) house]", 1)]),
        ("a (red house", [("a ", 1), ("red house", 1.1)]),
        ("a [red (house:2)", [("a ", 1), ("red ", 0.9091), ("house", 1.8182)]),
        ("BREAKFAST, a house: BIG", [("BREAKFAST, a house: BIG", 1)]),
        ("", [("", 1)]),
    ],
)
def test_a_prompt_is_read_as_the_a1111_family_reads_it(prompt, pieces):
    assert weighed(prompt) == [(text, pytest.approx(weight, abs=1e-3)) for text, weight in pieces]


def test_break_ends_a_chunk_wherever_it_stands():
    assert [(piece.text, piece.breaks) for piece in parse("a BREAK (b)")] == [("a ", False), (" ", True), ("b", False)]
    assert [[token.id for token in chunk] for chunk in chunks(parse("ab BREAK cd"), letters, 75, -1)] == [
        [97, 98],
        [99, 100],
    ]


@given(st.text(alphabet="()[]:\\,1. aB", max_size=40))
def test_any_prompt_is_read_and_without_signs_it_is_the_same(prompt):
    pieces = parse(prompt)
    assert pieces and all(piece.weight >= 0 for piece in pieces)
    if not set(prompt) & set("()[]\\"):
        assert is_plain(prompt) and pieces == [Piece(prompt)]


def letters(text: str) -> list[int]:
    """A tokenizer with a token for each letter."""
    return [ord(letter) for letter in text.replace(" ", "")]


def test_long_prompts_are_cut_at_a_comma_near_the_end_or_where_the_chunk_is_full():
    comma = ord(",")
    with_comma = chunks([Piece("a" * 70 + "," + "b" * 10)], letters, 75, comma)
    without = chunks([Piece("," + "a" * 90)], letters, 75, comma)
    assert [len(chunk) for chunk in with_comma] == [71, 10] and with_comma[1][0].id == ord("b")
    assert [len(chunk) for chunk in without] == [75, 16]
    assert [len(chunk) for chunk in chunks([Piece("a" * 75)], letters, 75, comma)] == [75]


def test_weights_go_with_their_tokens_into_the_next_chunk():
    cut = chunks(parse("a" * 70 + "(" + "b" * 10 + ":1.5)"), letters, 75, -1)
    assert [token.weight for token in cut[1]] == [1.5] * 5 and cut[0][69].weight == 1.0


def test_an_embedding_stands_for_its_rows_and_is_never_cut():
    (chunk,) = chunks(parse("a (moon:1.2) embedding:moon moonlight"), letters, 75, -1, {"moon": 3})
    rows = [(token.embedding, token.vector, round(token.weight, 2)) for token in chunk if token.embedding]
    assert rows == [("moon", i, 1.2) for i in range(3)] + [("moon", i, 1.0) for i in range(3)]
    assert "".join(chr(token.id) for token in chunk if not token.embedding) == "amoonlight"
    first, second = chunks([Piece("a" * 73 + " moon")], letters, 75, -1, {"moon": 3})
    assert len(first) == 73 and len(second) == 3
