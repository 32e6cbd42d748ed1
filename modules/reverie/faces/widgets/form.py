"""A pipeline's Params as a form. Which control a field gets follows from its description alone."""

from __future__ import annotations

import secrets
from typing import Any

from reverie.faces import forms
from reverie.faces.widgets import look


class Form:
    """Controls for `Params`. `lead` is the name of the field that stands first and wide; `leave_out` are not drawn."""

    def __init__(self, Params, values: dict[str, Any], lead: str, leave_out: tuple[str, ...] = ()):
        self.Params = Params
        self._fields = {field.name: field for field in forms.fields(Params) if field.name not in leave_out}
        given = forms.only_known(Params, values)
        self._fixed = {name: value for name, value in given.items() if name in leave_out}
        self.controls = {name: control(field, given.get(name, field.default)) for name, field in self._fields.items()}
        self.widget = self._layout(lead)

    def values(self) -> dict[str, Any]:
        return self._fixed | {name: control.value for name, control in self.controls.items()}

    def params(self, **more: Any):
        """What is typed, as Params. BadInput says what does not fit."""
        return forms.parse(self.Params, self.values() | more)

    def _layout(self, lead: str):
        import ipywidgets

        plain = [name for name, field in self._fields.items() if name != lead and not field.advanced]
        more = [name for name, field in self._fields.items() if field.advanced]
        parts = [self._boxed(lead, wide=True), _grid([self._boxed(name) for name in plain])]
        if more:
            fold = ipywidgets.Accordion([_grid([self._boxed(name) for name in more])], titles=["More"], selected_index=None)
            fold.add_class("rv-more")
            parts.append(fold)
        form = ipywidgets.VBox(parts)
        form.add_class("rv-form")
        return form

    def _boxed(self, name: str, wide: bool = False):
        import ipywidgets

        field, item = self._fields[name], self.controls[name]
        row = [item, _dice(item)] if field.widget == "seed" else [item]
        label = ipywidgets.HTML(f'<label title="{look.esc(field.help)}">{look.esc(field.label)}</label>')
        box = ipywidgets.VBox([label, ipywidgets.HBox(row)])
        box.add_class("rv-field")
        box.add_class(f"rv-field-{name.replace('_', '-')}")
        if wide or field.widget == "textarea":
            box.add_class("rv-wide")
        return box


def control(field: forms.Field, value: Any):
    """The ipywidget for one field. A number whose default means `the model's own` is an empty line that says so."""
    import ipywidgets

    if field.type is bool:
        return ipywidgets.Checkbox(value=bool(value), description=field.help, indent=False)
    common = {"description": field.label, "tooltip": field.help, "continuous_update": False}  # the description is for screen readers
    if field.widget == "textarea":
        return ipywidgets.Textarea(value=str(value), placeholder=field.help, rows=3, **(common | {"continuous_update": True}))
    if field.choices:
        options = field.options()
        return ipywidgets.Combobox(value=str(value), options=options, placeholder=field.when_unset, ensure_option=False, **common)
    if field.type is str or field.when_unset:
        shown = "" if field.when_unset and value == field.default else str(value)
        return ipywidgets.Text(value=shown, placeholder=field.when_unset or field.help, **(common | {"continuous_update": True}))
    return _number(field, value, common)


def _number(field: forms.Field, value: Any, common: dict[str, Any]):
    import ipywidgets

    kind = ipywidgets.BoundedFloatText if field.type is float else ipywidgets.BoundedIntText
    step = {"step": 0.05} if field.type is float else {}
    low = field.minimum if field.minimum is not None else -(2**53)
    high = field.maximum if field.maximum is not None else 2**53
    return kind(value=field.type(value), min=low, max=high, **step, **common)


def _grid(boxes):
    import ipywidgets

    grid = ipywidgets.GridBox(boxes)
    grid.add_class("rv-grid")
    return grid


def _dice(item):
    """A button that throws a new seed."""
    import ipywidgets

    button = ipywidgets.Button(icon="random", tooltip="Throw a new seed")
    button.add_class("rv-dice")
    button.on_click(lambda _: setattr(item, "value", str(secrets.randbelow(2**31))))
    return button
