"""Cell 2's face: everything that is to be chosen, in tabs over one settings file.

    state.py      what is chosen, saved a moment after each change     pieces.py   what the tabs share
    webui.py      which WebUI, its extensions, the studio's model      picker.py   a list to tick (Models, VAE, LoRA, ControlNet)
    civitai.py    the browser, cards.py its cards                      own_links.py, tokens.py, launch_tab.py
    footer.py     what it all comes to                                 bar.py      save, export, import, reset, dark or light
"""

from __future__ import annotations

from typing import Any


def choose_tabs(given: dict[str, Any] | None = None, settings=None):
    """The whole of cell 2 as one widget; `given` are parameters that stand above what was kept; those that do not fit are told and
    left aside."""
    return Choose(given, settings).widget


class Choose:
    """`pages` by title; `widget` is what is shown."""

    def __init__(self, given: dict[str, Any] | None = None, settings=None):
        import ipywidgets

        from reverie import settings as settings_module
        from reverie.faces.widgets.choose.bar import Bar, style
        from reverie.faces.widgets.choose.footer import Footer
        from reverie.faces.widgets.choose.pieces import classed
        from reverie.faces.widgets.choose.state import State

        self.state = State(settings or settings_module.load(), given)
        self.pages = {page.title: page for page in _pages(self.state)}
        tabs = ipywidgets.Tab([page.widget for page in self.pages.values()], titles=list(self.pages))
        classed(tabs, "rv", "rv-inner")
        self.tabs, self.footer = tabs, Footer(self.state)
        tabs.observe(lambda change: change["new"] == list(self.pages).index("CivitAI") and self.pages["CivitAI"].opened(), "selected_index")
        self.widget = ipywidgets.VBox()
        classed(self.widget, "rv", "rv-choose")
        self.bar = Bar(self.state, (self.widget, tabs))
        self.widget.children = [style(), self.bar.widget, tabs, self.footer.widget]


def _pages(state) -> list:
    from reverie.faces.widgets.choose.civitai import CivitaiTab
    from reverie.faces.widgets.choose.launch_tab import LaunchTab
    from reverie.faces.widgets.choose.own_links import LinksTab
    from reverie.faces.widgets.choose.picker import Picker
    from reverie.faces.widgets.choose.tokens import TokensTab
    from reverie.faces.widgets.choose.webui import WebuiTab

    return [
        WebuiTab(state),
        Picker(state, "Models", ("models", "checkpoints", "diffusion_models", "text_encoders", "upscalers", "detectors"), "Tick what is to be here. Video models and what they need beside them are further down."),
        Picker(state, "VAE", ("vaes",), "A VAE turns what the model thinks into a picture. Most models bring their own."),
        Picker(state, "LoRA", ("loras", "embeddings"), "LoRAs and embeddings go on top of a model of the same base. The CivitAI tab has thousands."),
        Picker(state, "ControlNet", ("controlnets", "ipadapters", "clip_visions"), "What holds a pose, a depth, a line or a face while a picture is made."),
        CivitaiTab(state), LinksTab(state), TokensTab(state), LaunchTab(state),
    ]
