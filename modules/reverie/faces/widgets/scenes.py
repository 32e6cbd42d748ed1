"""The scenes of the Illustrate tab: one row each, with a prompt to edit and a place for its picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

from reverie.errors import ReverieError
from reverie.faces.widgets import look

PAGE = 24  # rows shown at a time: a novel has hundreds, and every row is five widgets


class SceneRow:
    """One scene. `save(filename, prompt, negative)` is called when a text was changed and left, `redraw(row)` when another
    picture is asked for; `row` has what is shown."""

    def __init__(self, row: dict[str, Any], pictures: list[Path], save: Callable[[str, str, str], Any], redraw: Callable[[dict], Any]):
        import ipywidgets

        self.row, self._save, self._redraw, self._pictures = row, save, redraw, None
        self.picture = ipywidgets.HTML()
        self.mark = ipywidgets.HTML()
        self.prompt = ipywidgets.Textarea(value=row["prompt"], rows=3, continuous_update=False, tooltip="The prompt; yours is kept")
        self.negative = ipywidgets.Text(value=row.get("negative", ""), placeholder="what to keep out", continuous_update=False)
        for item in (self.prompt, self.negative):
            item.observe(self._changed, "value")
        self.another = ipywidgets.Button(
            description="Another picture", icon="random", tooltip="Draw this scene once more, with a new seed that stays; the others are left alone")
        self.another.add_class("rv-another")
        self.another.on_click(lambda _: self._do(lambda: self._redraw(self.row)))
        foot = ipywidgets.HBox([self.another, self.mark])
        foot.add_class("rv-scene-foot")
        texts = ipywidgets.VBox([ipywidgets.HTML(_facts(row)), self.prompt, self.negative, foot])
        texts.add_class("rv-scene-text")
        self.widget = ipywidgets.HBox([self.picture, texts])
        self.widget.add_class("rv-scene")
        self.show([path for path in pictures if path.exists()])

    def show(self, pictures: list[Path]) -> None:
        """The scene's picture, the first of several; an empty frame without one. Nothing is done when it is shown already."""
        there = [(path, path.stat().st_mtime_ns) for path in pictures]
        if there == self._pictures:
            return
        self._pictures = there
        drawn = f'<img alt="{look.esc(self.row["filename"])}" src="{look.data_uri(look.thumbnail(pictures[0]))}">' if pictures else "not drawn yet"
        more = f'<span class="rv-more-count">+{len(pictures) - 1}</span>' if len(pictures) > 1 else ""
        self.picture.value = f'<div class="rv-thumb{"" if pictures else " rv-thumb-empty"}">{drawn}{more}</div>'

    def _changed(self, _) -> None:
        own = self.row["composed"]
        if not self.prompt.value.strip():
            self.prompt.value = own["prompt"]  # a scene without a prompt cannot be drawn
            return
        shown = {"prompt": " ".join(self.prompt.value.split()), "negative": " ".join(self.negative.value.split())}
        if self._do(lambda: self._save(self.row["filename"], *shown.values())):
            self.row |= shown
            said = "the scene's own prompt again" if shown == own else "your prompt is kept; Draw uses it"
            self.mark.value = f'<span class="rv-saved">{said}</span>'

    def _do(self, what: Callable[[], Any]) -> bool:
        """Whether it could be done; if not, the scene says why."""
        self.mark.value = ""
        try:
            what()
        except ReverieError as error:
            self.mark.value = look.status(str(error), "bad")
            return False
        return True


class SceneTable:
    """All scenes, a page at a time."""

    def __init__(self):
        import ipywidgets

        self.widget = ipywidgets.VBox()
        self.widget.add_class("rv-scenes")
        self._more = ipywidgets.Button(tooltip="Show the scenes after these")
        self._more.on_click(lambda _: self._add_page())
        self._rows: list[dict[str, Any]] = []
        self._shown: dict[str, SceneRow] = {}
        self._pictures_of: Callable[[dict], list[Path]] = lambda row: []
        self._save: Callable[[str, str, str], Any] = lambda *_: None
        self._redraw: Callable[[dict], Any] = lambda row: None

    def names(self) -> list[str]:
        return [row["filename"] for row in self._rows]

    def shows(self, rows: list[dict[str, Any]]) -> bool:
        """Whether these scenes are shown, with these prompts."""
        keys = ("filename", "prompt", "negative", "composed")
        return [[row[key] for key in keys] for row in rows] == [[row[key] for key in keys] for row in self._rows]

    def fill(self, rows: list[dict[str, Any]], pictures_of: Callable[[dict], list[Path]], save: Callable[[str, str, str], Any],
             redraw: Callable[[dict], Any] = lambda row: None) -> None:
        """Show these scenes; what the three are called with: see SceneRow."""
        self._rows, self._pictures_of, self._save, self._redraw, self._shown = rows, pictures_of, save, redraw, {}
        self.widget.children = ()
        self._add_page()

    def show(self, filename: str) -> None:
        """A picture of this scene is finished."""
        shown = self._shown.get(filename)
        if shown:
            shown.show([path for path in self._pictures_of(shown.row) if path.exists()])

    def refresh(self) -> None:
        """Show every scene's picture as it is now: a run gives pictures other names as well."""
        for filename in list(self._shown):
            self.show(filename)

    def _add_page(self) -> None:
        import ipywidgets

        start = len(self._shown)
        added, chapter = [], self._rows[start - 1]["chapter"] if start else None
        for row in self._rows[start : start + PAGE]:
            if row["chapter"] != chapter:
                chapter = row["chapter"]
                added.append(ipywidgets.HTML(_chapter(row)))
            scene = self._shown[row["filename"]] = SceneRow(row, self._pictures_of(row), self._save, self._redraw)
            added.append(scene.widget)
        left = len(self._rows) - len(self._shown)
        self._more.description = f"Show {min(PAGE, left)} more of {left}"
        kept = [child for child in self.widget.children if child is not self._more]
        self.widget.children = (*kept, *added, *([self._more] if left else []))


def _chapter(row: dict[str, Any]) -> str:
    number, title = f"Chapter {row['chapter']}", row.get("chapter_title") or ""
    rest = "" if title.casefold() == number.casefold() else look.esc(title)
    return f'<h3 class="rv-chapter"><small>{look.esc(number)}</small> {rest}</h3>'


def _facts(row: dict[str, Any]) -> str:
    characters = row.get("characters") or []
    who = [characters] if isinstance(characters, str) else list(characters)
    places = [row.get(key) for key in ("setting", "time", "weather", "mood")]
    return f'<div class="rv-facts"><b>Scene {look.esc(row["scene"])}</b> {look.chips([*who, *places])}</div>'
