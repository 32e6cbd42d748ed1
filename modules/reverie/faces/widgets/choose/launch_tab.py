"""The Launch tab: theme, port, the tunnel and in which order tunnels are tried, and the WebUI's own options."""

from __future__ import annotations

from typing import Any

from reverie import settings as settings_module
from reverie.errors import BadInput, ReverieError
from reverie.faces.widgets import look
from reverie.faces.widgets.choose.pieces import classed, field, hint, html, named, page
from reverie.faces.widgets.choose.state import State


class LaunchTab:
    title = "Launch"

    def __init__(self, state: State):
        import ipywidgets

        self.state = state
        self.theme = ipywidgets.ToggleButtons(options=[("Dark", "dark"), ("Light", "light")], value=state.choices.theme)
        self.port = ipywidgets.BoundedIntText(min=0, max=65535, value=state.choices.port, continuous_update=False)
        self.tunnel = ipywidgets.Checkbox(value=state.choices.tunnel, description="Open a way in from outside, behind a password", indent=False)
        self.options = ipywidgets.Text(value=state.choices.launch_options, placeholder="--lowvram", continuous_update=False)
        self.words, self.order = html("", "rv-words"), classed(ipywidgets.VBox(), "rv-table", "rv-order")
        for name, control in (("theme", self.theme), ("port", self.port), ("tunnel", self.tunnel), ("launch_options", self.options)):
            control.observe(lambda change, name=name: self._set(name, change["new"]), "value")
        grid = classed(ipywidgets.GridBox([field("Theme of our own panels", self.theme), field("Port", self.port, "0: the WebUI's own")]), "rv-grid", "rv-two")
        self.widget = page(
            hint("How cell 4 starts it."), grid, field("Launch options", self.options, "Added to the WebUI's command, as they are: no shell sees them.", wide=True),
            self.words, html("<h3>Tunnel</h3>", "rv-subhead"), self.tunnel, self.order,
        )
        named(self.tunnel, "Tunnel")
        state.listen(lambda whole: self.refresh())
        self._drawn: Any = None
        self.refresh()

    def refresh(self) -> None:
        chosen = self.state.choices
        for name, control in (("theme", self.theme), ("port", self.port), ("tunnel", self.tunnel), ("launch_options", self.options)):
            control.value = getattr(chosen, name)
        if self._drawn != (chosen.tunnel, chosen.tunnel_order):
            self._drawn = chosen.tunnel, chosen.tunnel_order
            self._draw_order()

    def sequence(self) -> list[str]:
        """Every tunnel in the order in which it would be shown: the chosen ones first."""
        known = list(tunnels())
        return [*self.state.choices.tunnel_order, *(id for id in known if id not in self.state.choices.tunnel_order)]

    def _draw_order(self) -> None:
        import ipywidgets

        names, chosen = tunnels(), self.state.choices.tunnel_order
        rows = []
        for number, id in enumerate(self.sequence()):
            row = names.get(id, {})
            title = str(row.get("title") or id)
            title = title[:1].upper() + title[1:]
            box = ipywidgets.Checkbox(value=id in chosen or not chosen and not row.get("only_asked"), description=title, indent=False)
            box.observe(lambda change, id=id: self._use(id, change["new"]), "value")
            first = ipywidgets.Button(icon="angle-double-up", tooltip=f"Try this first: {title}", disabled=number == 0)
            up = ipywidgets.Button(icon="angle-up", tooltip=f"Try this earlier: {title}", disabled=number == 0)
            first.on_click(lambda _, id=id: self._move(id, 0))
            up.on_click(lambda _, id=id, place=number - 1: self._move(id, place))
            note = [html(f"<small>{look.esc(row['note'])}</small>")] if row.get("note") else []
            name = classed(ipywidgets.VBox([box, *note]), "rv-row-name")
            rows.append(classed(ipywidgets.HBox([name, classed(first, "rv-remove"), classed(up, "rv-remove")]), "rv-row"))
        head = html("<small>Tried from the top until one answers; without a tick in any, all are tried.</small>")
        self.order.children = [head, *rows] if self.state.choices.tunnel and rows else []

    def _use(self, id: str, used: bool) -> None:
        usual = tuple(name for name, row in tunnels().items() if not row.get("only_asked"))
        present = self.state.choices.tunnel_order or usual
        kept = tuple(name for name in self.sequence() if (name in present and name != id) or (name == id and used))
        self._set("tunnel_order", () if kept == usual else kept)

    def _move(self, id: str, place: int) -> None:
        """To this place in the order; what is moved is used."""
        order = self.sequence()
        order.insert(place, order.pop(order.index(id)))
        chosen = self.state.choices.tunnel_order or tuple(name for name, row in tunnels().items() if not row.get("only_asked"))
        self._set("tunnel_order", tuple(name for name in order if name in chosen or name == id))

    def _set(self, name: str, value: Any) -> None:
        try:
            notes = self.state.set(**{name: value})
            self.words.value = look.status(" ".join(notes))
        except ReverieError as error:
            self.words.value = look.status(str(error), "bad")


def tunnels() -> dict[str, dict[str, Any]]:
    """The rows of configs/tunnels.yaml by id, in their order."""
    try:
        rows = settings_module.config("tunnels").get("tunnels", [])
    except BadInput:
        return {}
    return {row["id"]: row for row in rows} if isinstance(rows, list) else dict(rows)
