"""A pipeline's Params as fields to draw, and what people typed back into Params. The command line, the notebook's widgets
and papermill all go through here, so a parameter is described once, in its Params.
"""

from __future__ import annotations

import re
import types
import typing
from dataclasses import dataclass
from typing import Any, Callable

from reverie.errors import BadInput, ReverieError


@dataclass(frozen=True)
class Field:
    """One parameter. `type` is str, int, float or bool; `choices` are suggestions or the name of a list in CHOICES;
    `widget` is "text", "textarea", "path", "seed" or "slider"; `minimum` and `maximum` are inclusive or None."""

    name: str
    type: type
    default: Any
    help: str = ""
    choices: str | tuple[str, ...] = ()
    widget: str = "text"
    advanced: bool = False
    minimum: float | None = None
    maximum: float | None = None
    flag: str = ""
    argument: bool = False

    @property
    def label(self) -> str:
        return self.name.replace("_", " ").capitalize()

    @property
    def when_unset(self) -> str:
        """What leaving it alone means, taken from the help: `the model's own` of `denoising steps; 0: the model's own`."""
        mark = "empty" if self.default == "" else f"{self.default:g}" if self.type is float and self.default is not None else str(self.default)
        found = re.search(rf"(?<![\w-]){re.escape(mark)}: ([^;]+)", self.help)
        return found[1].strip() if found else ""

    def options(self) -> list[str]:
        """The choices, looked up now if they have a name. Suggestions: another value may be given too."""
        return choices(self.choices) if isinstance(self.choices, str) else list(self.choices)


def fields(Params) -> list[Field]:
    """The fields of a pipeline's Params, in their order."""
    return [_field(name, info) for name, info in Params.model_fields.items()]


def parse(Params, values: dict[str, Any]):
    """`values` as Params. None and blank text mean the default; numbers are fine where text is wanted.

    BadInput in one sentence names every value that does not fit, and an unknown name with the nearest known one.
    """
    from pydantic import ValidationError

    from reverie.types import validation_sentence

    known = {field.name: field for field in fields(Params)}
    unknown = [name for name in values if name not in known]
    if unknown:
        raise BadInput(f"There is no parameter '{unknown[0]}'.", _nearest(unknown[0], known))
    given = {name: _plain(value, known[name]) for name, value in values.items()}
    try:
        return Params(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise BadInput(f"This does not fit: {validation_sentence(error)}.", "Change the value and try again.") from None


def only_known(Params, values: dict[str, Any]) -> dict[str, Any]:
    """Those of `values` that Params has: one set of notebook parameters serves every cell."""
    return {name: value for name, value in values.items() if name in Params.model_fields}


def choices(name: str) -> list[str]:
    """The list called `name`; empty when it cannot be read now, because a form must open all the same."""
    try:
        return CHOICES[name]()
    except (ImportError, ReverieError):
        return []


def _field(name: str, info) -> Field:
    from pydantic_core import PydanticUndefined

    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    bounds = {key: getattr(rule, key) for rule in info.metadata for key in ("ge", "gt", "le", "lt") if hasattr(rule, key)}
    named = extra.get("choices", _literal(info.annotation))
    return Field(
        name=name,
        type=_plain_type(info.annotation),
        default="" if info.default is PydanticUndefined else info.default,
        help=info.description or "",
        choices=named if isinstance(named, str) else tuple(named),
        widget=extra.get("widget", "text"),
        advanced=bool(extra.get("advanced")),
        minimum=bounds.get("ge", bounds.get("gt")),
        maximum=bounds.get("le", bounds.get("lt")),
        flag=extra.get("flag", ""),
        argument=bool(extra.get("argument")),
    )


def _plain_type(annotation) -> type:
    """str, int, float or bool of an annotation such as `int | None` or `Literal["a", "b"]`."""
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return type(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return next(_plain_type(part) for part in typing.get_args(annotation) if part is not type(None))
    return annotation if annotation in (str, int, float, bool) else str


def _literal(annotation) -> tuple[str, ...]:
    return tuple(map(str, typing.get_args(annotation))) if typing.get_origin(annotation) is typing.Literal else ()


def _plain(value: Any, field: Field) -> Any:
    """What papermill, a shell or a widget gives, as the field's type wants it; None where the default is meant."""
    if isinstance(value, (list, tuple)):
        value = " ".join(map(str, value))
    if value is None or isinstance(value, str) and not value.strip():
        return None
    if field.type is str:
        return str(value)
    return value.strip() if isinstance(value, str) else value


def _nearest(name: str, known) -> str:
    import difflib

    near = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
    return f"Did you mean '{near[0]}'?" if near else f"Known are: {', '.join(known)}."


def _models() -> list[str]:
    from reverie import models

    known = models.all()
    return [model.id for model in known if model.here] or [model.id for model in known]


def _styles() -> list[str]:
    from reverie import settings

    styles = settings.config("styles")
    return list(styles.get("styles", styles))


def _samplers() -> list[str]:
    from reverie.engines import _schedulers

    return list(_schedulers.TABLE)


def _loras() -> list[str]:
    from reverie import additions

    return additions.names("lora") or list(additions.rows("lora"))


def _vaes() -> list[str]:
    from reverie import additions

    return additions.names("vae")


def _refiners() -> list[str]:
    from reverie import models

    known = [model for model in models.all() if model.family in ("sdxl-refiner", "sdxl")]
    return [model.id for model in known if model.here] or [model.id for model in known if model.family == "sdxl-refiner"]


def _engines() -> list[str]:
    from reverie import engines

    return engines.names()


def _writers() -> list[str]:
    from reverie.language import model

    return [model.OFF, *model.names()]


CHOICES: dict[str, Callable[[], list[str]]] = {
    "models": _models, "styles": _styles, "samplers": _samplers, "loras": _loras, "vaes": _vaes,
    "refiners": _refiners,
    "engines": _engines, "writers": _writers,
}
