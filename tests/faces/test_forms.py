"""Params become fields, and what people type becomes Params."""

from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from reverie import pipelines
from reverie.errors import BadInput
from reverie.faces import forms


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    words: str = Field("", description="what to say; empty: nothing", json_schema_extra={"widget": "textarea", "argument": True})
    kind: Literal["loud", "soft"] = "soft"
    times: int = Field(0, ge=0, le=9, description="how often; 0: as always")
    seed: int = Field(-1, ge=-1, description="-1: a new one", json_schema_extra={"widget": "seed"})
    speed: float | None = Field(None, gt=0, description="words a second", json_schema_extra={"advanced": True})
    again: bool = False


def field(name):
    return {field.name: field for field in forms.fields(Params)}[name]


def test_a_field_knows_its_type_bounds_and_place():
    assert (field("times").type, field("times").minimum, field("times").maximum) == (int, 0, 9)
    assert field("speed").type is float and field("speed").advanced and field("speed").minimum == 0
    assert field("again").type is bool
    assert field("words").widget == "textarea" and field("words").argument


def test_a_literal_becomes_its_choices():
    assert field("kind").options() == ["loud", "soft"]


def test_a_field_says_what_leaving_it_alone_means():
    assert field("times").when_unset == "as always"
    assert field("seed").when_unset == "a new one"
    assert field("words").when_unset == "nothing"
    assert field("kind").when_unset == ""


def test_a_default_that_only_looks_like_the_one_in_the_help_is_not_meant():
    from reverie.pipelines import illustrate

    seed = next(field for field in forms.fields(illustrate.Params) if field.name == "seed")
    assert seed.default == 1 and seed.when_unset == ""


def test_numbers_from_papermill_become_text_where_text_is_wanted():
    assert forms.parse(Params, {"words": 3}).words == "3"
    assert forms.parse(Params, {"words": [1, 3]}).words == "1 3"


def test_text_from_a_shell_becomes_numbers():
    parsed = forms.parse(Params, {"times": " 4 ", "speed": "0.5"})
    assert (parsed.times, parsed.speed) == (4, 0.5)


def test_an_empty_line_means_the_default():
    assert forms.parse(Params, {"times": "", "seed": " ", "speed": "", "kind": "", "words": " "}) == Params()
    assert forms.parse(Params, {"kind": None, "words": None}) == Params()


def test_all_that_does_not_fit_is_named_in_one_sentence():
    with pytest.raises(BadInput) as caught:
        forms.parse(Params, {"times": "many", "seed": -5})
    sentence = str(caught.value)
    assert "times" in sentence and "'many'" in sentence and "seed" in sentence and "-5" in sentence
    assert "\n" not in sentence


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(BadInput, match="Did you mean 'times'"):
        forms.parse(Params, {"tims": 3})


def test_only_known_leaves_other_cells_parameters_out():
    assert forms.only_known(Params, {"times": 2, "tunnel": "x"}) == {"times": 2}


@pytest.mark.parametrize("name", pipelines.names())
def test_every_pipeline_can_be_drawn(name):
    Model = pipelines.get(name).Params
    drawn = forms.fields(Model)
    assert drawn and all(field.help for field in drawn)
    assert forms.parse(Model, {field.name: field.default for field in drawn}) == Model()


@pytest.mark.parametrize("name", sorted(forms.CHOICES))
def test_every_named_list_of_choices_has_entries(name):
    assert forms.choices(name) or name == "vaes"  # none lies in the tests' storage, and the catalogue has no rows of them
