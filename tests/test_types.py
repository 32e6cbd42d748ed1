"""Tasks: frozen, checked, and the same task has the same key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reverie import errors
from reverie.types import MAX_SEED, Task, parse_size

TASKS = st.builds(
    Task, prompt=st.text(max_size=50), seed=st.integers(0, MAX_SEED), count=st.integers(1, 1000), cfg=st.floats(0, 100),
    width=st.integers(1, 200).map(lambda n: n * 8), extra=st.dictionaries(st.text(max_size=5), st.integers()),
)


@given(TASKS)
def test_json_round_trip_keeps_the_key(task):
    assert Task.model_validate_json(task.model_dump_json()).key("m") == task.key("m")


@given(TASKS, TASKS)
def test_different_tasks_and_different_weights_have_different_keys(one, two):
    assert (one.key() == two.key()) == (one == two)
    assert one.key("a") != one.key("b")


@pytest.mark.parametrize("task, key", [
    (Task(prompt="a red house", seed=7), "fffb57f8d13c30ff"),
    (Task(kind="img2img", inputs=("x",), denoise=0.4, loras=(("moon", 0.5),)), "6413cfcbf23c12b2"),
])
def test_keys_of_pictures_drawn_before_a_field_came_stay(task, key):
    assert task.key("m").startswith(key)


def test_one_of_many_has_its_own_seed_and_wraps_around():
    task = Task(seed=MAX_SEED, count=3)
    assert [task.one(i).seed for i in range(3)] == [MAX_SEED, 0, 1] and task.one(1).count == 1


@pytest.mark.parametrize("wrong", [{"width": 100}, {"steps": 0}, {"seed": -1}, {"denoise": 1.5}, {"colour": "red"}])
def test_wrong_fields_are_refused(wrong):
    with pytest.raises(ValidationError):
        Task(**wrong)


def test_sizes():
    assert parse_size("1344x768") == parse_size(" 1344 × 768 ") == (1344, 768)
    for wrong in ("", "12", "axb", "-1x5", "1x2x3"):
        with pytest.raises(ValueError):
            parse_size(wrong)


def test_errors_are_found_by_their_names_and_have_exit_codes():
    assert errors.by_name("OutOfMemory") is errors.OutOfMemory and errors.by_name("KeyError") is errors.EngineFailed
    assert (errors.BadInput("x").exit_code, errors.ModelMissing("x").exit_code, errors.Interrupted("x").exit_code) == (2, 1, 130)
