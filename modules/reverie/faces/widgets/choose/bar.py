"""Above the tabs of cell 2: save, export, import, reset, dark or light, and what happened."""

from __future__ import annotations

from typing import Any

from reverie.errors import ReverieError
from reverie.faces.widgets import look, scheme
from reverie.faces.widgets.choose.pieces import classed, html
from reverie.faces.widgets.choose.state import State
from reverie.host import choices as choices_module

FILE = "sd-reverie-choices.json"


class Bar:
    """`roots` are the widgets that turn light with the theme."""

    def __init__(self, state: State, roots: tuple[Any, ...]):
        import ipywidgets

        self.state = state
        self.save = ipywidgets.Button(description="Save", icon="check", tooltip="Save now; every change is saved by itself as well")
        self.reset = ipywidgets.Button(description="Reset", icon="undo", tooltip="Choose nothing; asks once more")
        self.scheme = scheme.switch()
        self.upload = ipywidgets.FileUpload(accept=".json", multiple=False, description="Import", tooltip="Take the choices of an exported file")
        self.export, self.words = html("", "rv-export"), html("", "rv-words")
        self._sure = False
        self.save.on_click(lambda _: self._save())
        self.reset.on_click(lambda _: self._reset())
        self.upload.observe(lambda change: self._import(change["new"]), "value")
        self.scheme.observe(lambda change: self.state.set(theme="light" if change["new"] else "dark"), "value")
        buttons = classed(ipywidgets.HBox([self.save, self.export, self.upload, self.reset, self.scheme]), "rv-bar-buttons")
        line = classed(ipywidgets.HBox([html("<h2>Choose</h2>", "rv-title"), buttons]), "rv-bar-line")
        self.widget = classed(ipywidgets.VBox([line, self.words]), "rv-choose-bar")
        state.say = self.say
        for root in roots:
            scheme.follow(root, self.scheme)
        state.listen(lambda whole: self.refresh())
        self.refresh()
        self.say(" ".join(state.notes), "bad" if state.notes else "")

    def say(self, text: str, kind: str = "") -> None:
        self.words.value = look.status(text, kind)

    def refresh(self) -> None:
        self.scheme.value = self.state.choices.theme == "light"
        self._certain(False)
        uri = look.data_uri(choices_module.export(self.state.choices).encode(), "application/json")
        self.export.value = f'<a class="jupyter-button rv-export-link" download="{FILE}" href="{uri}" title="Save these choices as a file; tokens are not in it">Export</a>'

    def _save(self) -> None:
        try:
            self.state.save()
            self.say(f"Kept in {choices_module.path(self.state.settings)}.", "good")
        except (ReverieError, OSError) as error:
            self.say(f"The choices could not be saved: {error}.", "bad")

    def _reset(self) -> None:
        if not self._sure:
            self._certain(True)
            return
        self.state.replace(choices_module.Choices(theme=self.state.choices.theme))
        self.say("Nothing is chosen now. Tokens and downloaded files stay.")

    def _certain(self, sure: bool) -> None:
        self._sure = sure
        self.reset.description = "Really reset?" if sure else "Reset"
        self.reset.button_style = "danger" if sure else ""

    def _import(self, files: Any) -> None:
        if not files:
            return
        name, content = files[0]["name"], bytes(files[0]["content"])
        self.upload.value = ()
        try:
            found, notes = choices_module.import_(content, self.state.settings)
        except (ReverieError, OSError) as error:
            self.say(str(error), "bad")
            return
        self.state.replace(found)
        self.say(" ".join([f"Imported {name}.", *notes]), "good")


def style():
    """The style sheets of all tabs and of these, as one widget."""
    from reverie import settings

    own = (settings.load().assets / "css" / "choose.css").read_text("utf-8")
    sheet = html(f"<style>{look.style_sheet()}\n{own}</style>")
    sheet.layout.display = "none"
    return sheet
