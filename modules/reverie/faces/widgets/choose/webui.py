"""The WebUI tab: which one, with which extensions, and what the studio in the notebook draws with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reverie.errors import ReverieError
from reverie.faces.widgets import look
from reverie.faces.widgets.choose.pieces import classed, field, hint, html, page
from reverie.faces.widgets.choose.state import State


@dataclass(frozen=True)
class Studio:
    """The choice of no WebUI at all, as a card among the others."""

    id: str = ""
    title: str = "The studio in this notebook"
    note: str = "Nothing to install or to start: cell 5 draws. It is what free Colab and Kaggle allow."
    purpose: str = ""
    own_package: bool = False
    disk_gb: float = 0


class WebuiTab:
    title = "WebUI"

    def __init__(self, state: State):
        import ipywidgets

        self.state = state
        self.cards: dict[str, Any] = {}
        self._boxes: dict[str, Any] = {}
        self.extensions: dict[str, Any] = {}
        self.extension_list = classed(ipywidgets.VBox(), "rv-table")
        self.extension_head = html("", "rv-subhead")
        grid = classed(ipywidgets.GridBox([self._card(ui) for ui in (Studio(), *webuis(state))]), "rv-cards")
        self.engine, self.model = self._studio()
        studio = classed(ipywidgets.GridBox([field("Engine", self.engine), field("Model", self.model)]), "rv-grid", "rv-studio")
        self.widget = page(
            hint("What will run. Cell 3 installs it, cell 4 starts it behind a password."), grid, self.extension_head, self.extension_list,
            html("<h3>The studio in this notebook draws with</h3>", "rv-subhead"), studio,
        )
        state.listen(lambda whole: self.refresh())
        self._shown_for = None
        self.refresh()

    def refresh(self) -> None:
        chosen = self.state.choices.webui
        for id, button in self.cards.items():
            button.description = "Chosen" if id == chosen else "Choose"
            button.icon = "check" if id == chosen else ""
            button.button_style = "primary" if id == chosen else ""
            (self._boxes[id].add_class if id == chosen else self._boxes[id].remove_class)("rv-chosen")
        if chosen != self._shown_for:
            self._shown_for = chosen
            self._draw_extensions(chosen)
        for id, box in self.extensions.items():
            box.value = id in self.state.choices.extensions
        for name, control in (("engine", self.engine), ("model", self.model)):
            value = getattr(self.state.choices, name)
            if value not in [option[1] for option in control.options]:
                control.options = (*control.options, (value, value))
            control.value = value

    def choose(self, webui: str) -> None:
        """This WebUI, with those of the chosen extensions that it can have; where it is new, with the suggested ones."""
        if webui == self.state.choices.webui:
            return
        rows = extensions(self.state, webui)
        kept = [row.id for row in rows if row.id in self.state.choices.extensions] or [row.id for row in rows if row.suggested]
        self.state.set(webui=webui, extensions=kept)

    def _card(self, ui):
        import ipywidgets

        badge = "bring your own package" if ui.own_package else ui.purpose
        here = '<span class="rv-badge rv-here">✓ here</span>' if ui.id and is_here(ui, self.state) else ""
        badges = (f'<span class="rv-badge">{look.esc(badge)}</span>' if badge else "") + here
        size = f" About {ui.disk_gb:g} GB." if ui.disk_gb else ""
        words = html(f"<h4>{look.esc(ui.title)}{badges}</h4><p>{look.esc(ui.note)}{size}</p>")
        button = ipywidgets.Button(description="Choose", tooltip=f"Choose {ui.title}")
        button.on_click(lambda _: self.choose(ui.id))
        self.cards[ui.id] = button
        self._boxes[ui.id] = classed(ipywidgets.VBox([words, button]), "rv-choice", f"rv-choice-{ui.id or 'studio'}")
        return self._boxes[ui.id]

    def _draw_extensions(self, webui: str) -> None:
        import ipywidgets

        self.extensions = {}
        rows = []
        for row in extensions(self.state, webui):
            box = ipywidgets.Checkbox(value=row.id in self.state.choices.extensions, description=row.title, indent=False, tooltip=row.note)
            box.observe(lambda change, id=row.id: self.state.tick("extensions", id, change["new"]), "value")
            self.extensions[row.id] = box
            note = html(f"<small>{look.esc(row.note)}</small>")
            rows.append(classed(ipywidgets.HBox([classed(ipywidgets.VBox([box, note]), "rv-row-name")]), "rv-row"))
        self.extension_list.children = rows
        self.extension_head.value = "<h3>Extensions that come with it</h3>" if rows else ""

    def _studio(self):
        import ipywidgets

        from reverie import engines

        engine = ipywidgets.Dropdown(options=[(name, name) for name in engines.names()])
        labels = [(f"{offer.title}{' · here' if offer.here else ''}", offer.id) for offer in self.state.offers["models"]]
        model = ipywidgets.Dropdown(options=labels)
        for name, control in (("engine", engine), ("model", model)):
            value = getattr(self.state.choices, name)
            if value not in [option[1] for option in control.options]:
                control.options = (*control.options, (value, value))
            control.value = value
            control.observe(lambda change, name=name: self.state.set(**{name: change["new"]}), "value")
        return engine, model


def webuis(state: State) -> list:
    from reverie.host import webuis as rows

    try:
        return rows.all(state.settings)
    except ReverieError as error:
        if str(error) not in state.notes:
            state.notes.append(str(error))
        return []


def is_here(ui, state: State) -> bool:
    from reverie.host import webuis as rows

    return rows.is_installed(ui, state.settings)


def extensions(state: State, webui: str) -> list:
    """The extensions that this WebUI can have, each with id, title, note and whether it is suggested."""
    from reverie.host.webuis import extensions as rows

    ui = next((ui for ui in webuis(state) if webui and ui.id == webui), None)
    try:
        return rows.for_webui(ui, state.settings) if ui else []
    except ReverieError as error:
        state.say(str(error), "bad")
        return []
