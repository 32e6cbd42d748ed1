"""One model of CivitAI as a card: its picture, what it is, which version and file, and Add."""

from __future__ import annotations

from typing import Any, Callable

from reverie.faces.widgets import look
from reverie.faces.widgets.choose.pieces import classed, html, named, size_text
from reverie.host.choices import Pick

SITE = "https://civitai.com"


class Card:
    """`add(pick)` puts it into the choices, or takes it out if `chosen(pick)`; `kinds` says CivitAI's type → our kind; `here(file)`
    says whether these bytes are on this machine already."""

    def __init__(self, model: Any, kinds: dict[str, str], add: Callable[[Pick], None], chosen: Callable[[Pick], bool], here: Callable[[dict], bool]):
        import ipywidgets

        self.model, self._kinds, self._chosen, self._here = model, kinds, chosen, here
        self.picture, self.about = html(_frame("", ""), "rv-model-picture"), html("", "rv-model-about")
        self.versions = [version for version in model.versions if version.files]
        self.version = named(ipywidgets.Dropdown(options=[(_version_label(version), index) for index, version in enumerate(self.versions)]), "Version")
        self.file = named(ipywidgets.Dropdown(), "File")
        self.button = classed(ipywidgets.Button(tooltip=f"Add {model.title}"), "rv-add")
        self.button.on_click(lambda _: add(self.pick()))
        self.version.observe(lambda _: self._turn(), "value")
        self.file.observe(lambda _: self.refresh(), "value")
        picks = classed(ipywidgets.VBox([self.version, self.file, self.button]), "rv-model-picks")
        self.widget = classed(ipywidgets.VBox([self.picture, self.about, picks] if self.versions else [self.picture, self.about]), "rv-model")
        self._turn()

    @property
    def preview(self) -> str:
        """The address of the picture to show: the version's, else the model's."""
        return (self.versions and self.versions[self.version.value].preview) or self.model.preview

    def show_picture(self, data: bytes) -> None:
        self.picture.value = _frame(look.data_uri(data) if data else "", self.model.title)

    def pick(self) -> Pick:
        version, file = self.versions[self.version.value], self._file()
        title = self.model.title if len(self.versions) < 2 else f"{self.model.title} {version.name}"
        return Pick(
            version=version.id, file=file["id"], title=_plain(title), kind=self._kinds.get(self.model.type, ""), base=_plain(version.base_model),
            name=_plain(str(file.get("name") or "")), size=_size(file),
        )

    def refresh(self) -> None:
        if not self.versions or self.file.value is None:
            return
        chosen = self._chosen(self.pick())
        self.button.description, self.button.icon = ("Added", "check") if chosen else ("Add", "plus")
        self.button.button_style = "primary" if chosen else ""
        self.button.disabled = self.model.type not in self._kinds
        self.about.value = self._words()

    def _turn(self) -> None:
        """Another version: its files and its words."""
        if not self.versions:
            self.about.value = f"<h4>{look.esc(self.model.title)}</h4><p>It has no files to download.</p>"
            return
        files = self.versions[self.version.value].files
        self.file.options = [(_file_label(file), index) for index, file in enumerate(files)]
        self.file.value = next((index for index, file in enumerate(files) if file.get("primary")), 0)
        self.file.layout.display = "" if len(files) > 1 else "none"
        self.refresh()

    def _file(self) -> dict[str, Any]:
        return self.versions[self.version.value].files[self.file.value]

    def _words(self) -> str:
        version = self.versions[self.version.value]
        here = '<span class="rv-chip rv-here">✓ here</span>' if self._here(self._file()) else ""
        facts = look.chips([self.model.type, version.base_model]) + here
        by = f"by {self.model.creator}" if self.model.creator else ""
        told = " · ".join(filter(None, (size_text(_size(self._file())), by, f"{self.model.downloads:,} downloads")))
        early = f'<p class="rv-early">Early access{_until(version.early_access)}: only who paid for it can download it.</p>' if version.early_access else ""
        place = look.esc(f"{SITE}/models/{self.model.id}?modelVersionId={version.id}")
        words = f'<p class="rv-words-of">{look.chips(version.trained_words[:4])}</p>' if version.trained_words else ""
        other = "" if self.model.type in self._kinds else f"<p class='rv-early'>A {look.esc(self.model.type)} is no kind of model that can be kept here.</p>"
        return (
            f'<h4 title="{look.esc(self.model.title)}">{look.esc(self.model.title)}</h4><p>{facts}</p>'
            f'<p><small>{look.esc(told)} · <a href="{place}" target="_blank" rel="noopener">its page</a></small></p>{words}{early}{other}'
        )


def _frame(uri: str, title: str) -> str:
    inside = f'<img alt="{look.esc(title)}" src="{uri}">' if uri else "<span>no preview</span>" if title else '<span class="rv-spin" aria-label="loading"></span>'
    return f'<div class="rv-model-frame">{inside}</div>'


def _version_label(version: Any) -> str:
    return f"{version.name} · {version.base_model}{' · early access' if version.early_access else ''}"


def _file_label(file: dict[str, Any]) -> str:
    said = file.get("metadata") or {}
    facts = [size_text(_size(file)), said.get("fp"), said.get("size"), str(file.get("name") or "")]  # a narrow card cuts the end
    return " · ".join(str(fact) for fact in facts if fact)


def _size(file: dict[str, Any]) -> int:
    try:
        return max(0, round(float(file.get("sizeKB") or 0) * 1024))
    except (TypeError, ValueError, OverflowError):
        return 0


def _until(when: str) -> str:
    return f" until {look.esc(when[:10])}" if when[:1].isdigit() else ""


def _plain(text: str) -> str:
    """Without what a settings file refuses."""
    return "".join(letter for letter in text if letter.isprintable())[:300]
