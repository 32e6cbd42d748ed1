"""Cell 3's face: the plan as a table, then bars, Cancel, and "Try again" where something did not come. The cell returns at once."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Callable, Sequence

from reverie.errors import Cancelled, ReverieError
from reverie.faces.tally import Tally, of_file
from reverie.faces.widgets import chime, look
from reverie.host.downloads import tables as plan_tables

MOST_BARS = 12  # beside the one for all: more would push the cell's end off the page
DRAW_EVERY_S = 0.3

log = logging.getLogger("reverie.faces")


class Downloads:
    """`work` does it all in a thread; it gets this object, and says what happens through `show_plan`, `progress` and `say`.
    It returns the last line, or raises a ReverieError, which is shown beside "Try again"."""

    def __init__(self, work: Callable[[Downloads], str], line: str = "What is here already is not fetched again; what was stopped is carried on with."):
        import ipywidgets as w

        self._work = work
        self.cancel = w.Button(description="Cancel", icon="stop", tooltip="Stop; what has come stays, and is carried on with")
        self.again = w.Button(description="Try again", icon="refresh", button_style="primary", tooltip="Carry on with what is missing")
        self.sound = w.Checkbox(value=True, description="Sound when done", indent=False)
        self.plan, self.lines, self.words, self.speaker = w.HTML(), w.HTML(), w.HTML(), w.HTML()
        self.pickles = w.VBox()
        self.whole, self.files = self._bar(), w.VBox()
        self.whole_line = w.HTML()
        self.cancel.on_click(lambda _: self.stop())
        self.again.on_click(lambda _: self.start())
        for name in ("words", "plan", "files", "lines", "pickles"):
            getattr(self, name).add_class(f"rv-{name}")
        head, scheme = look.header(line, "Download")
        row = w.HBox([self.cancel, self.again, self.sound])
        row.add_class("rv-buttons")
        together = w.VBox([self.whole, self.whole_line])
        parts = [head, self.plan, together, self.files, self.lines, self.words, self.pickles, row, self.speaker]
        page = w.VBox([look.style_widget(), *parts])
        page.add_class("rv-page")
        self.widget = w.Box([page])
        self.widget.add_class("rv")
        look.follow_scheme(self.widget, scheme)
        self._stopped, self._drawing = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._tally: Tally | None = None
        self._rows: dict[str, tuple[Any, Any]] = {}
        self._drawn = 0.0
        self._busy(False)

    # ------------------------------------------------------------------------------------------------- what is clicked

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        if self.running:
            return
        self._stopped.clear()
        self._forget()
        self._busy(True)
        self._thread = threading.Thread(target=self._run, name="reverie-downloads", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self.cancel.disabled = True
        self.say("Stopping …")

    def cancelled(self) -> bool:
        return self._stopped.is_set()

    # ---------------------------------------------------------------------------------------------- what the work says

    def say(self, text: str, kind: str = "") -> None:
        self.words.value = look.status(text, kind)

    @property
    def pickles_allowed(self) -> tuple[str, ...]:
        return tuple(box.reverie_name for box in self.pickles.children if box.value)

    def show_plan(self, plan, more: Sequence[str] = ()) -> None:
        """The plan, and lines on what else will be done."""
        self.plan.value = plan_tables.html(plan) + "".join(f"<p>{look.esc(line)}</p>" for line in more)
        self._offer_pickles([row.name for row in plan.rows if row.pickle])
        self._tally = Tally(plan)
        self.whole.layout.display = "" if self._tally.sizes else "none"

    def progress(self, progress) -> None:
        """Takes fetch.Progress from any thread; draws a few times a second, and every end."""
        if self._tally is None:
            return
        self._tally.take(progress)
        now = time.monotonic()
        if progress.state in ("done", "failed") or now - self._drawn >= DRAW_EVERY_S:
            with self._drawing:
                self._drawn = now
                self._draw()

    def show_lines(self, lines: Sequence[str]) -> None:
        self.lines.value = "".join(f"<p>{look.esc(line)}</p>" for line in lines)

    # -------------------------------------------------------------------------------------------------------- inside

    def _offer_pickles(self, names: list[str]) -> None:
        import ipywidgets as w

        known = [box.reverie_name for box in self.pickles.children]
        for name in [name for name in names if name not in known]:
            box = w.Checkbox(value=False, description=f"Take {name}, which could run any program (then: Try again)", indent=False)
            box.reverie_name = name
            box.layout.width = "auto"
            self.pickles.children = (*self.pickles.children, box)

    def _run(self) -> None:
        try:
            self.say(self._work(self), "good")
            self._chime()
        except Cancelled:
            self.say("Stopped. What has come stays; Try again carries on.")
        except ReverieError as error:
            self.say(str(error), "bad")
        except Exception as error:
            log.exception("downloads")
            self.say(f"This is a bug: {type(error).__name__}: {error}. The log has the details.", "bad")
        finally:
            with self._drawing:
                self._draw()
            self._busy(False)

    def _busy(self, busy: bool) -> None:
        self.cancel.disabled = not busy
        self.again.layout.display = "none" if busy or self._thread is None or "rv-good" in self.words.value else ""
        if not busy:
            self.whole.layout.display = "none"

    def _forget(self) -> None:
        self._tally, self._rows, self._drawn = None, {}, 0.0
        for widget in (self.plan, self.lines, self.whole_line, self.speaker):
            widget.value = ""
        self.files.children = ()
        self.whole.value = 0.0

    def _draw(self) -> None:
        if self._tally is None or not self._tally.sizes:
            return
        self.whole.value = self._tally.fraction
        self.whole_line.value = look.status(self._tally.line())
        for key, progress in list(self._tally.files.items()):
            self._draw_file(key, progress)

    def _draw_file(self, key: str, progress) -> None:
        if key not in self._rows:
            if progress.state == "waiting" or len(self._rows) >= MOST_BARS and not self._make_room():
                return
            self._rows[key] = self._new_row()
            self.files.children = [box for _, _, box in self._rows.values()]
        bar, line, _ = self._rows[key]
        bar.value = self._tally.done[key] / progress.size if progress.size else 0.0
        line.value = look.status(f"{progress.title}: {of_file(progress)}", "bad" if progress.state == "failed" else "")

    def _new_row(self):
        import ipywidgets as w

        bar, line = self._bar(), w.HTML()
        return bar, line, w.VBox([line, bar])

    def _make_room(self) -> bool:
        """A file that is done gives its bar to the next one."""
        done = next((key for key in self._rows if self._tally.files[key].state == "done"), None)
        return done is not None and bool(self._rows.pop(done))

    def _chime(self) -> None:
        if self.sound.value:
            self.speaker.value = chime.html()

    @staticmethod
    def _bar():
        import ipywidgets as w

        bar = w.FloatProgress(min=0, max=1)
        bar.add_class("rv-bar")
        return bar
