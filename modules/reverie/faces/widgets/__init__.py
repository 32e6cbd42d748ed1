"""Cell 5's face: tabs to work in, or a plain run where nobody can click.

    look.py        colours, cards, thumbnails: HTML for people to see; scheme.py dark or light
    form.py        a pipeline's Params as a form
    run.py         one pipeline run in a thread, with Cancel
    generate.py    the Generate tab
    illustrate.py  the Illustrate tab, scenes.py its rows
    headless.py    the same without clicks
"""

from __future__ import annotations

from typing import Any

from reverie.faces.widgets.headless import run_headless

__all__ = ["run_headless", "studio_tabs"]


def studio_tabs(parameters: dict[str, Any] | None = None):
    """An `ipywidgets.Tab` with Generate and Illustrate; `parameters` fill the forms where their names fit."""
    import ipywidgets

    from reverie.faces.widgets import look
    from reverie.faces.widgets.generate import GenerateTab
    from reverie.faces.widgets.illustrate import IllustrateTab

    given = parameters or {}
    tabs = [GenerateTab(given), IllustrateTab(given)]
    tab = ipywidgets.Tab([page.widget for page in tabs], titles=[page.title for page in tabs])
    tab.add_class("rv")
    look.follow_scheme(tab, tabs[0].scheme)
    return tab
