"""A tab with a list to tick: every row with its base model, size, whether this machine carries it, and whether it is here already."""

from __future__ import annotations

from typing import Any

from reverie.faces.widgets import look
from reverie.faces.widgets.choose.pieces import classed, hint, html, named, page, size_text
from reverie.faces.widgets.choose.state import State
from reverie.host.choices import offers as offers_module
from reverie.host.choices.offers import BASES, Offer

SORTS = ("Best known first", "Chosen first", "Smallest first", "Largest first", "By name")
_SORTED = {
    "Smallest first": lambda offer: offer.size or float("inf"),
    "Largest first": lambda offer: -offer.size,
    "By name": lambda offer: offer.title.casefold(),
}
KINDS = {
    "models": "Model", "checkpoints": "Video model", "diffusion_models": "Video model", "text_encoders": "Text encoder", "upscalers": "Upscaler",
    "detectors": "Detector", "vaes": "VAE", "loras": "LoRA", "embeddings": "Embedding", "controlnets": "ControlNet", "ipadapters": "IP-Adapter",
    "clip_visions": "CLIP vision",
}
_MARKS = {"fits": ("good", "fits"), "tight": ("tight", "tight"), "too large": ("heavy", "too large"), "": ("", "–")}


class Picker:
    """The lists `keys` of the choices as one table. Rows that the filter leaves out stay as they are ticked."""

    def __init__(self, state: State, title: str, keys: tuple[str, ...], line: str):
        import ipywidgets

        self.state, self.title, self.keys = state, title, keys
        self.search = classed(ipywidgets.Text(placeholder="Search", continuous_update=True), "rv-search")
        self.sort = ipywidgets.Dropdown(options=SORTS)
        self.kind = ipywidgets.Dropdown(options=["Every kind", *dict.fromkeys(KINDS[key] for key in keys)])
        self.base = classed(ipywidgets.ToggleButtons(options=["All", *BASES]), "rv-bases")
        self.empty = html("", "rv-none")
        self.table = classed(ipywidgets.VBox(), "rv-table", "rv-list")
        for control, label in ((self.search, "Search by name"), (self.sort, "Order"), (self.kind, "Kind"), (self.base, "Base model")):
            named(control, label).observe(lambda _: self.draw(), "value")
        self._rows: dict[tuple[str, str], Any] = {}
        self.boxes: dict[tuple[str, str], Any] = {}
        tools = classed(ipywidgets.HBox([self.search, *([self.kind] if len(self.kind.options) > 2 else []), self.sort]), "rv-tools")
        head = html('<div class="rv-cols rv-cols-head"><span>Base</span><span>Size</span><span>This machine</span><span>Here</span></div>')
        heading = classed(ipywidgets.HBox([html("<b>Name</b>", "rv-row-name"), head]), "rv-row", "rv-row-head")
        self.widget = page(hint(line), tools, self.base, heading, self.table, self.empty)
        state.listen(lambda whole: self.refresh())
        self.refresh()

    def shown(self) -> list[Offer]:
        """The rows that search, kind and base leave, in order."""
        words = self.search.value.casefold().split()
        found = [
            offer for offer in self._offers()
            if all(word in f"{offer.title} {offer.base} {offer.note} {offer.id}".casefold() for word in words)
            and self.base.value in ("All", _base(offer)) and self.kind.value in ("Every kind", KINDS[offer.key])
        ]
        if self.sort.value == "Chosen first":
            return sorted(found, key=lambda offer: offer.id not in getattr(self.state.choices, offer.key))
        return sorted(found, key=_SORTED[self.sort.value]) if self.sort.value in _SORTED else found

    def draw(self) -> None:
        offers = self.shown()
        self.table.children = [self._row(offer) for offer in offers]
        self.empty.value = "" if offers else "<p>Nothing here is called that. The CivitAI tab has more, and your own links take anything.</p>"

    def refresh(self) -> None:
        """Tick what is chosen; things from elsewhere get a row too."""
        asked = {(key, item) for key in self.keys for item in getattr(self.state.choices, key)}
        if asked - set(self._rows) or not self._rows:
            self.draw()
        for place, box in self.boxes.items():
            box.value = place in asked

    def _offers(self) -> list[Offer]:
        found = [offer for key in self.keys for offer in self.state.offers.get(key, [])]
        known = {(offer.key, offer.id) for offer in found}
        others = [(key, item) for key in self.keys for item in getattr(self.state.choices, key) if (key, item) not in known]
        return found + [Offer(item, key, item.rpartition("/")[2] or item, note=item) for key, item in others]

    def _row(self, offer: Offer):
        import ipywidgets

        place = offer.key, offer.id
        if place not in self._rows:
            chosen = offer.id in getattr(self.state.choices, offer.key)
            box = ipywidgets.Checkbox(value=chosen, description=offer.title, indent=False, tooltip=offer.note, disabled=not offer.fetchable)
            box.observe(lambda change: self.state.tick(offer.key, offer.id, change["new"]), "value")
            self.boxes[place] = box
            name = classed(ipywidgets.VBox([box, html(f"<small>{look.esc(self._about(offer))}</small>")]), "rv-row-name")
            self._rows[place] = classed(ipywidgets.HBox([name, html(self._columns(offer))]), "rv-row")
        return self._rows[place]

    def _about(self, offer: Offer) -> str:
        kind = KINDS[offer.key] if len(set(KINDS[key] for key in self.keys)) > 1 else ""
        return " · ".join(filter(None, (kind, offer.note, offer.licence)))

    def _columns(self, offer: Offer) -> str:
        style, words = _MARKS[offers_module.fits(offer, self.state.machine)]
        need = offer.vram_gb if self.state.machine.on_card else offer.ram_gb
        wants = f"wants {need:g} GB; there are {self.state.machine.memory}" if need else "nobody said what it wants"
        here = '<span class="rv-here">✓ here</span>' if offer.here else "<span>–</span>"
        return (
            f'<div class="rv-cols"><span>{look.esc(offer.base or "any")}</span><span>{look.esc(size_text(offer.size, offer.about) or "–")}</span>'
            f'<span class="rv-mark rv-mark-{style}" title="{look.esc(wants)}">{words}</span>{here}</div>'
        )


def _base(offer: Offer) -> str:
    return next((base for base, families in BASES.items() if offer.family in families), "")
