"""The Generate tab: a prompt, a few values, pictures as they come."""

from __future__ import annotations

from typing import Any

from reverie import pipelines, storyboard
from reverie.faces.widgets import look
from reverie.faces.widgets.form import Form
from reverie.faces.widgets.run import Runner

MAX_CARDS = 48  # older pictures leave the tab (not the library), so that a long evening stays quick


class GenerateTab:
    title = "Generate"

    def __init__(self, parameters: dict[str, Any]):
        import ipywidgets

        pipeline = pipelines.get("generate")
        self.form = Form(pipeline.Params, parameters, lead="prompt")
        self.runner = Runner(pipeline, self.form.params, self._take, self._end)
        self.gallery = ipywidgets.GridBox()
        self.gallery.add_class("rv-gallery")
        self._empty = ipywidgets.HTML('<p class="rv-empty">Pictures appear here. Try: two boats on a river, night, full moon</p>')
        head, self.scheme = look.header("A prompt becomes pictures.")
        buttons = ipywidgets.HBox([self.runner.draw, self.runner.cancel])
        buttons.add_class("rv-buttons")
        left = ipywidgets.VBox([self.form.widget, buttons, self.runner.words, self.runner.bar])
        right = ipywidgets.VBox([self._empty, self.runner.preview, self.gallery])
        left.add_class("rv-left")
        right.add_class("rv-right")
        columns = ipywidgets.Box([left, right])
        columns.add_class("rv-columns")
        self.widget = ipywidgets.VBox([look.style_widget(), head, columns])
        self.widget.add_class("rv-page")

    def _take(self, update) -> None:
        import ipywidgets

        if update.kind != "picture":
            return
        self._empty.layout.display = self.runner.preview.layout.display = "none"
        recipe = update.data
        caption = f"seed {recipe['seed']} · {recipe['width']}×{recipe['height']} · {storyboard.model_label(recipe['model'])}"
        card = ipywidgets.HTML(look.card(update.path, caption, 512))
        self.gallery.children = (card, *self.gallery.children)[:MAX_CARDS]

    def _end(self, summary) -> None:
        """Nothing more to show: the cards are there already."""
