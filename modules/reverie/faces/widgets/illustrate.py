"""The Illustrate tab: a text, its scenes, their prompts to edit, the pictures, the storyboard."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from reverie import pipelines, settings
from reverie.errors import BadInput, ReverieError
from reverie.faces.widgets import look
from reverie.faces.widgets.form import Form
from reverie.faces.widgets.run import Runner
from reverie.faces.widgets.scenes import SceneTable
from reverie.language.chapters import SUFFIXES

MAX_INLINE_BYTES = 24 << 20  # a larger result is named, not sent into the notebook


class IllustrateTab:
    title = "Illustrate"

    def __init__(self, parameters: dict[str, Any]):
        import ipywidgets

        self.pipeline = pipelines.get("illustrate")
        self.form = Form(self.pipeline.Params, parameters, lead="text", leave_out=("dry_run", "redraw"))
        self.runner = Runner(self.pipeline, self._asked, self._take, self._end)
        self.table, self._filled, self._digests, self._wanted = SceneTable(), None, {}, ""
        self.read = ipywidgets.Button(description="Read scenes", icon="book", tooltip="Find the scenes and write their prompts")
        self.read.add_class("rv-read")
        self.read.on_click(lambda _: self._start_reading())
        self.upload = ipywidgets.FileUpload(accept=",".join(SUFFIXES), multiple=True, description="Upload a text")
        self.upload.observe(self._uploaded, "value")
        self.board = ipywidgets.HTML()
        head, self.scheme = look.header("Chapters become scenes, pictures, a storyboard, a book and a short film. Read the scenes, change what you like, draw.")
        buttons = ipywidgets.HBox([self.upload, self.read, self.runner.draw, self.runner.cancel])
        buttons.add_class("rv-buttons")
        running = ipywidgets.HBox([self.runner.preview, ipywidgets.VBox([self.runner.words, self.runner.bar])])
        running.add_class("rv-running")
        self.widget = ipywidgets.VBox([look.style_widget(), head, self.form.widget, buttons, running, self.table.widget, self.board])
        self.widget.add_class("rv-page")

    def _asked(self):
        """What the run that starts now is asked for; the form may be changed while it runs."""
        wanted, self._wanted = self._wanted, ""
        self._running = self.form.params(dry_run=False, redraw=wanted, **({"resume": ""} if wanted else {}))
        return self._running

    def _redraw(self, row: dict[str, Any]) -> None:
        """Draw another picture of this scene, and of no other. BadInput while something else is on its way."""
        self._check_folder()
        if self.runner.running or self.read.disabled:
            raise BadInput("Another run is on its way.", "Ask again when it has ended.")
        if self.form.params().count != self._filled[1]:
            raise BadInput("The form asks for another number of pictures by now.", "Read the scenes again.")
        self._wanted = f"{row['chapter']} {row['scene']}"
        self.runner.start()

    def _check_folder(self) -> None:
        if self._filled and self.pipeline.out_folder(self.form.params()) != self._filled[0]:
            raise BadInput("The form means another folder by now, and these scenes are not its own.", "Read the scenes again.")

    def _start_reading(self) -> None:
        """In a thread: a whole novel takes seconds, and the notebook stays free."""
        if self.runner.running or self.read.disabled:
            return
        self.read.disabled = True
        self.runner.say("Reading …")
        threading.Thread(target=self._read, name="reverie-read", daemon=True).start()

    def _read(self) -> None:
        try:
            params = self.form.params(dry_run=False, redraw="")
            rows = self.pipeline.rows(params, tell=self.runner.say)
            self._fill(params, rows)
            chapters = len({row["chapter"] for row in rows})
            counted = f"{len(rows)} scene{'' if len(rows) == 1 else 's'} in {chapters} chapter{'' if chapters == 1 else 's'}"
            self.runner.say(f"{counted}. Edit a prompt by typing into it.", "good")
        except ReverieError as error:
            self.runner.say(str(error), "bad")
        finally:
            self.read.disabled = False

    def _fill(self, params, rows: list[dict[str, Any]]) -> None:
        self._filled = self.pipeline.out_folder(params), params.count
        self._digests = {row["filename"]: row["span"]["digest"] for row in rows}
        by_name = {row["filename"]: row for row in rows}

        def save(filename: str, prompt: str, negative: str) -> Path:
            self._check_folder()
            return self.pipeline.save_prompt(params, filename, prompt, negative, by_name[filename])

        self.table.fill([dict(row) for row in rows], lambda row: self.pipeline.pictures(params, row), save, self._redraw)

    def _take(self, update) -> None:
        if update.kind == "plan":
            self.read.disabled = True
            self.board.value = ""
            if self._running.redraw:
                self._check_text(update.data)
            elif self._filled != (self.pipeline.out_folder(self._running), self._running.count) or not self.table.shows(update.data):
                self._fill(self._running, update.data)
        elif update.kind == "picture":
            self.table.show(update.data["filename"])

    def _check_text(self, rows: list[dict[str, Any]]) -> None:
        """BadInput, before anything is drawn, if a scene's number means another scene by now."""
        if any(self._digests.get(row["filename"]) != row["span"]["digest"] for row in rows):
            raise BadInput("The text was changed since its scenes were read.", "Read the scenes again, then ask for another picture.")

    def _end(self, summary) -> None:
        self.read.disabled = False
        self.table.refresh()
        found = {key: Path(summary[key]) for key in ("storyboard", "epub", "pdf", "animatic") if summary and summary.get(key)}
        self.board.value = look.lines("Check", _checked(summary)) + look.editions(found, MAX_INLINE_BYTES) + (self._storyboard(found["storyboard"]) if "storyboard" in found else "")

    def _storyboard(self, page: Path) -> str:
        place = f'<p class="rv-place">{look.esc(page)}</p>'
        small = page.stat().st_size <= MAX_INLINE_BYTES
        scheme = "light" if self.scheme.value else "dark"
        frame = look.page_frame(page.read_text("utf-8"), f"{page.parent.name}.html", scheme) if small else ""
        return f'<h3 class="rv-chapter">Storyboard</h3>{place}{frame}'

    def _uploaded(self, change) -> None:
        files = change["new"]
        if files:
            self.form.controls["text"].value = str(keep_uploads(files))
            self._start_reading()


def _checked(summary) -> list[str]:
    check = (summary or {}).get("check", {})
    return check.get("told") or [line for line in [check.get("error")] if line]


def keep_uploads(files) -> Path:
    """Uploaded chapters in storage/uploads: the file itself, or a folder of several. Returns where."""
    from reverie import media

    named = {Path(file["name"].replace("\\", "/")).name.lstrip(".") or "text.txt": bytes(file["content"]) for file in files}
    folder = settings.load().storage / "uploads"
    if len(named) > 1:
        digest = media.sha256("".join(f"{name}:{media.sha256(named[name])}" for name in sorted(named)).encode())
        folder /= f"{Path(min(named)).stem}-and-{len(named) - 1}-more-{digest[:8]}"
    paths = [media.write_bytes(folder / name, content) for name, content in named.items()]
    return folder if len(paths) > 1 else paths[0]
