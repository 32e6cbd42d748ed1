"""The Own links tab: any address, what is understood of it, and what is wrong with it."""

from __future__ import annotations

from reverie.errors import ReverieError
from reverie.faces.widgets import look
from reverie.faces.widgets.choose.pieces import classed, field, hint, html, page
from reverie.faces.widgets.choose.state import State

EXAMPLE = """checkpoint: https://huggingface.co/Lykon/DreamShaper/resolve/main/DreamShaper_8_pruned.safetensors
lora: https://civitai.com/models/122359?modelVersionId=135867 [detail.safetensors]
sdxl-vae"""


class LinksTab:
    title = "Own links"

    def __init__(self, state: State):
        import ipywidgets

        self.state = state
        self.text = classed(ipywidgets.Textarea(value=state.choices.links, placeholder=EXAMPLE, rows=8, continuous_update=False), "rv-links-text")
        self.found, self.words = html("", "rv-found"), html("", "rv-words")
        self.text.observe(lambda _: self._typed(), "value")
        self.widget = page(
            hint("Hugging Face, CivitAI, Google Drive, any address, a file of this machine, or an id of the catalogue. One a line, or with commas."),
            field("kind:address[name.ext]; kind and name may be left out", self.text, wide=True), self.words, self.found,
        )
        state.listen(lambda whole: self.refresh())
        self.refresh()

    def refresh(self) -> None:
        if self.text.value != self.state.choices.links:
            self.text.value = self.state.choices.links
        self._tell()

    def _typed(self) -> None:
        if self.text.value == self.state.choices.links:
            return
        try:
            notes = self.state.set(links=self.text.value)
        except ReverieError as error:
            self.words.value = look.status(str(error), "bad")
            return
        self.refresh()
        self.words.value = look.status(" ".join(notes), "good")

    def _tell(self) -> None:
        """The links as they are understood. What is wrong is said, and kept: it may be half typed."""
        from reverie.host import links

        try:
            found = links.parse(self.state.choices.links)
        except ReverieError as error:
            self.found.value = look.status(str(error), "bad")
            return
        rows = "".join(
            f"<tr><td>{look.esc(link.kind or 'told by its source')}</td><td>{look.esc(link.address)}</td><td>{look.esc(link.name)}</td></tr>" for link in found
        )
        head = "<tr><th>Kind</th><th>Address</th><th>Name</th></tr>"
        self.found.value = f'<table class="rv-links-table">{head}{rows}</table>' if rows else ""
