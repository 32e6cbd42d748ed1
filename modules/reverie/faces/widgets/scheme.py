"""Dark or light: one choice for all panels of a notebook. The first panel goes by what cell 2 kept; each has a switch that turns all."""

from __future__ import annotations

import weakref
from typing import Any

from reverie.errors import ReverieError

_switches: weakref.WeakSet[Any] = weakref.WeakSet()


def switch():
    """The button: on is light, and it says what a click leads to."""
    import ipywidgets

    made = ipywidgets.ToggleButton(value=_is_light(), tooltip="Dark or light, in all panels", icon="adjust")
    made.add_class("rv-scheme")
    made.observe(lambda change: _turn(change["new"]), "value")
    _switches.add(made)
    _turn(made.value)
    return made


def follow(panel, of) -> None:
    """`panel` is light while the switch `of` is on."""
    def turn(light: bool) -> None:
        (panel.add_class if light else panel.remove_class)("rv-light")

    of.observe(lambda change: turn(change["new"]), "value")
    turn(of.value)


def _turn(light: bool) -> None:
    for switch in tuple(_switches):
        switch.value, switch.description = light, "Dark" if light else "Light"


def _is_light() -> bool:
    if _switches:
        return next(iter(_switches)).value
    from reverie.host import choices

    try:
        return choices.load().theme == "light"
    except ReverieError:  # cell 2 says what is wrong with the file
        return False
