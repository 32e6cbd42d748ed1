"""The CivitAI tab: search, filter, page through, look, add. Everything is asked by threads; what is outdated is thrown away."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from reverie import settings as settings_module
from reverie.errors import ReverieError
from reverie.faces.widgets import look
from reverie.faces.widgets.choose.cards import Card
from reverie.faces.widgets.choose.pieces import classed, field, hint, html, named, page, size_text
from reverie.faces.widgets.choose.state import State

# What the filters say → what the search is asked for: our kinds and families, or CivitAI's own names
TYPES = {
    "Every type": (), "Checkpoint": ("checkpoint",), "LoRA": ("lora",), "Embedding": ("embedding",), "VAE": ("vae",), "ControlNet": ("controlnet",),
    "Upscaler": ("upscaler",), "Motion module": ("animatediff",),
}
BASES = {
    "Every base": (), "SD1.5": ("sd15",), "SDXL": ("sdxl",), "Pony": ("Pony",), "Illustrious": ("Illustrious", "NoobAI"), "Flux": ("flux",), "SD3": ("sd3",),
    "Z-Image": ("zimage",), "Wan": ("Wan Video 2.2 TI2V-5B", "Wan Video 2.2 I2V-A14B", "Wan Video 2.2 T2V-A14B", "Wan Video 14B t2v", "Wan Video 1.3B t2v"),
    "Other video": ("LTXV", "Hunyuan Video", "CogVideoX", "Mochi"),
}
SORTS = ("Highest Rated", "Most Downloaded", "Newest")
PERIODS = {"All time": "AllTime", "This year": "Year", "This month": "Month", "This week": "Week", "Today": "Day"}
PAGE, AT_ONCE, TYPING_S = 12, 6, 0.6
log = logging.getLogger("reverie.faces")


class CivitaiTab:
    title = "CivitAI"

    def __init__(self, state: State):
        import ipywidgets

        self.state = state
        self.query = classed(ipywidgets.Text(placeholder="Search CivitAI", continuous_update=True), "rv-search")
        self.type, self.base = ipywidgets.Dropdown(options=list(TYPES.items())), ipywidgets.Dropdown(options=list(BASES.items()))
        self.sort, self.period = ipywidgets.Dropdown(options=SORTS), ipywidgets.Dropdown(options=list(PERIODS.items()))
        self.nsfw = ipywidgets.Checkbox(value=False, description="Show pictures for adults too", indent=False)
        self.go = ipywidgets.Button(description="Search", icon="search", button_style="primary", tooltip="Search CivitAI")
        self.stop = classed(ipywidgets.Button(description="Cancel", icon="stop", tooltip="Forget this search"), "rv-stop")
        self.back = ipywidgets.Button(description="Back", icon="arrow-left", tooltip="The page before", disabled=True)
        self.next = ipywidgets.Button(description="Next", icon="arrow-right", tooltip="The page after", disabled=True)
        self.words = html("", "rv-words")
        self.grid = classed(ipywidgets.GridBox(), "rv-models")
        self.chosen = classed(ipywidgets.VBox(), "rv-picks")
        self.cards: list[Card] = []
        self._number, self._lock, self._timer = 0, threading.Lock(), None
        self._pool = ThreadPoolExecutor(AT_ONCE, "reverie-previews")
        self._cursors: list[str] = [""]
        self._after, self._asked = "", {}
        self._kinds = settings_module.config("sources")["types"]
        self._wire()
        first = classed(ipywidgets.HBox([self.query, self.go, self.stop]), "rv-tools")
        second = classed(ipywidgets.GridBox([field("Type", self.type), field("Base model", self.base), field("Order", self.sort), field("Of", self.period)]), "rv-grid")
        head = classed(ipywidgets.HBox([self.words, self.back, self.next]), "rv-buttons", "rv-pager")
        foot = classed(ipywidgets.HBox([self.back, self.next]), "rv-buttons", "rv-pager")
        line = "Search CivitAI, choose a version, add it. Nothing is fetched before cell 3. Some want a login: see the Tokens tab."
        self.widget = page(hint(line), first, second, self.nsfw, head, self.grid, foot, self.chosen)
        state.listen(lambda whole: self.refresh())
        self.stop.layout.display = "none"
        self.refresh()

    def _wire(self) -> None:
        named(self.query, "Search CivitAI")
        self.query.on_submit(lambda _: self.search())
        self.query.observe(lambda _: self._soon(), "value")
        for control in (self.type, self.base, self.sort, self.period, self.nsfw):
            control.observe(lambda _: self.search(), "value")
        self.go.on_click(lambda _: self.search())
        self.stop.on_click(lambda _: self.cancel())
        self.next.on_click(lambda _: self._turn(1))
        self.back.on_click(lambda _: self._turn(-1))

    # --------------------------------------------------------------------------------------------------------- asking

    def opened(self) -> None:
        """The tab is looked at: what is liked most, without being asked."""
        if not self._asked:
            self.search()

    def search(self) -> None:
        """Ask for the first page of what the fields say."""
        if self._timer:
            self._timer.cancel()
        self._cursors = [""]
        self._asked = {
            "query": self.query.value.strip(), "types": self.type.value, "base_models": self.base.value, "sort": self.sort.value,
            "period": self.period.value, "nsfw": self.nsfw.value, "limit": PAGE,
        }
        self._ask()

    def cancel(self) -> None:
        """Whatever the search still brings is thrown away."""
        with self._lock:
            self._number += 1
        self._busy(False)
        self.words.value = look.status("Stopped.")

    def _soon(self) -> None:
        """Search when the typing pauses."""
        if self._timer:
            self._timer.cancel()
        self._timer = threading.Timer(TYPING_S, self.search)
        self._timer.daemon = True
        self._timer.start()

    def _turn(self, way: int) -> None:
        if way > 0 and self._after:
            self._cursors.append(self._after)
        elif way < 0 and len(self._cursors) > 1:
            self._cursors.pop()
        else:
            return
        self._ask()

    def _ask(self) -> None:
        with self._lock:
            self._number += 1
            number = self._number
        self._busy(True)
        threading.Thread(target=self._answer, args=(number, {**self._asked, "cursor": self._cursors[-1]}), name="reverie-civitai", daemon=True).start()

    def _answer(self, number: int, asked: dict[str, Any]) -> None:
        from reverie.host.sources import civitai

        said, found = "", None
        try:
            found = civitai.search(**asked)
        except ReverieError as error:
            said = str(error)
        except Exception as error:
            log.exception("civitai search")
            said = f"This is a bug: {type(error).__name__}: {error}. The log has the details."
        with self._lock:
            if number != self._number:
                return
            self._show(found, said, number)

    def _show(self, found: Any, said: str, number: int) -> None:
        self._busy(False)
        if found is None:
            self.words.value = look.status(said, "bad")
            return
        self._after = found.cursor
        self.cards = [Card(model, self._kinds, self._add, self._is_chosen, self._is_here) for model in found.items]
        self.grid.children = [card.widget for card in self.cards]
        pages = f"Page {len(self._cursors)}" if found.cursor or len(self._cursors) > 1 else f"{len(self.cards)} found"
        self.words.value = look.status(pages if self.cards else "Nothing was found. Try other words, another type or a longer time.")
        self.back.disabled, self.next.disabled = len(self._cursors) < 2, not found.cursor
        for card in self.cards:
            card.version.observe(lambda _, card=card: self._pool.submit(self._picture, card, number), "value")
            self._pool.submit(self._picture, card, number)

    def _picture(self, card: Card, number: int) -> None:
        from reverie.host.choices import previews

        url = card.preview
        try:
            if number != self._number:
                return
            data = previews.picture(url) if url else b""
        except ReverieError:
            data = b""
        if number == self._number and url == card.preview:
            card.show_picture(data)

    def _busy(self, busy: bool) -> None:
        self.stop.layout.display = "" if busy else "none"
        self.back.disabled = self.next.disabled = True
        if busy:
            self.words.value = '<div class="rv-status" role="status"><span class="rv-spin"></span> Asking CivitAI …</div>'

    # -------------------------------------------------------------------------------------------------------- choosing

    def refresh(self) -> None:
        """The chosen ones below, and what the cards' buttons say."""
        import ipywidgets

        for card in list(self.cards):
            card.refresh()
        rows = []
        for pick in self.state.choices.civitai:
            remove = ipywidgets.Button(icon="times", tooltip=f"Take out {pick.title or pick.version}")
            remove.on_click(lambda _, pick=pick: self.state.tick("civitai", pick, False))
            facts = " · ".join(filter(None, (pick.kind, pick.base, size_text(pick.size), pick.name)))
            words = html(f"<b>{look.esc(pick.title or f'Version {pick.version}')}</b><br><small>{look.esc(facts)}</small>", "rv-row-name")
            rows.append(classed(ipywidgets.HBox([words, classed(remove, "rv-remove")]), "rv-row"))
        self.chosen.children = [html("<h3>Chosen from CivitAI</h3>", "rv-subhead"), *rows] if rows else []

    def _add(self, pick) -> None:
        there = next((kept for kept in self.state.choices.civitai if (kept.version, kept.file) == (pick.version, pick.file)), None)
        self.state.tick("civitai", there or pick, there is None)

    def _is_here(self, file: dict[str, Any]) -> bool:
        sha256 = str((file.get("hashes") or {}).get("SHA256") or "").lower()
        return len(sha256) == 64 and sha256.isalnum() and (self.state.settings.storage / "blobs" / sha256[:2] / sha256).is_file()

    def _is_chosen(self, pick) -> bool:
        return any((kept.version, kept.file) == (pick.version, pick.file) for kept in self.state.choices.civitai)
