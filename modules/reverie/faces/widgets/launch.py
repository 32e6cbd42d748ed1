"""Cell 4's face: a WebUI started, watched and stopped; its log; its addresses, with the one from outside behind a password."""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any, Callable

from reverie.errors import Cancelled, ReverieError
from reverie.faces.widgets import address, look
from reverie.host import launch
from reverie.host.choices import Choices, launch_options
from reverie.host.webuis import WebUI
from reverie.settings import Settings

LOOK_S = 2.0  # between two looks at its health
DRAW_EVERY_S = 0.5
LOG_LINES = 200
LIGHTS = {"off": ("--rv-soft", "stopped"), "starting": ("--rv-accent", "starting"), "up": ("--rv-good", "runs"), "ill": ("--rv-bad", "")}
# Newest at the bottom and in sight: a column that is laid out from its end.
LOG_BOX = "max-height:22rem;overflow:auto;display:flex;flex-direction:column-reverse;background:var(--rv-well);border-radius:8px;padding:10px 12px"
LOG_TEXT = "flex:none;overflow:visible;margin:0;background:none;color:var(--rv-ink);font:12px/1.45 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere"
log = logging.getLogger("reverie.faces")


class LaunchPanel:
    """One WebUI: Start (or Restart), Stop, a health light, addresses, the log. Everything is done in a thread of its own, which
    ends the tunnel and the WebUI when it is told to stop; the end of the kernel ends them too."""

    def __init__(self, ui: WebUI, settings: Settings, choices: Choices, policy: str = "", catalogue: dict[str, Any] | None = None):
        """`policy` is the platform's rule to be shown; `catalogue` other ways from outside than those of `configs/tunnels.yaml`."""
        import ipywidgets as w

        self.ui, self.settings, self.choices, self.policy, self.catalogue = ui, settings, choices, policy, catalogue
        self.start_button = w.Button(description="Start", icon="play", button_style="primary")
        self.stop_button = w.Button(description="Stop", icon="stop", tooltip="End it, with everything it started and its tunnel")
        self.card = address.AddressCard()
        self.light, self.words, self.notes, self.local, self.log = (w.HTML() for _ in range(5))
        self.start_button.on_click(lambda _: self.restart() if self.running else self.start())
        self.stop_button.on_click(lambda _: self.stop())
        self._thread: threading.Thread | None = None
        self._called_off, self._again = threading.Event(), False
        self._tunnel: Any = None
        self._said: list[str] = []
        self._drawn = 0.0
        self.widget = self._page(w)
        self._busy(False)

    def _page(self, w):
        head, scheme = look.header("Runs until you press Stop, or this notebook ends.", self.ui.title)
        buttons = w.HBox([self.start_button, self.stop_button, self.light])
        buttons.add_class("rv-buttons")
        buttons.layout.align_items = "center"
        opened = w.Accordion([self.log], titles=("Log",), selected_index=0)
        opened.add_class("rv-more")
        first = w.HTML(look.status(self.policy))
        page = w.VBox([look.style_widget(), head, first, buttons, self.words, self.local, self.card.widget, self.notes, opened])
        page.add_class("rv-page")
        box = w.Box([page])
        box.add_class("rv")
        look.follow_scheme(box, scheme)
        return box

    # ------------------------------------------------------------------------------------------------- what is clicked

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        if self.running:
            return
        self._called_off.clear()
        self._again = False
        self._busy(True)
        self._thread = threading.Thread(target=self._run, name=f"reverie-launch-{self.ui.id}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask for the end; the panel says when it has come."""
        if self.running:
            self.say("Stopping …")
            self.stop_button.disabled = self.start_button.disabled = True
            self._called_off.set()

    def restart(self) -> None:
        self._again = True
        self.stop()

    # -------------------------------------------------------------------------------------------------------- its thread

    def _run(self) -> None:
        while True:
            try:
                self._once()
            except Cancelled:
                pass
            except ReverieError as error:
                self._end(str(error), "bad")
                return
            except Exception as error:
                log.exception("webui=%s", self.ui.id)
                self._end(f"This is a bug: {type(error).__name__}: {error}. The log has the details.", "bad")
                return
            if not self._again:
                self._end("Stopped.")
                return
            self._again = False
            self._called_off.clear()
            self._busy(True)

    def _once(self) -> None:
        """From the start to the stop, which raises Cancelled."""
        self._said = []
        self._lit("starting")
        self.say(f"Starting {self.ui.title} …")
        try:
            record = launch.launch(
                self.ui, self.settings, self._heard, self.choices.port or None, launch_options.words(self.choices.launch_options),
                on_note=self.say, cancelled=self._called_off.is_set,
            )
            self.local.value = address.field("On this machine", record.about["url"])
            self._lit("up")
            self._open_tunnel(record)
            self._watch(record)
        finally:
            self._close_tunnel()
            self._draw_log()
            if self._called_off.is_set():
                launch.stop(self.ui, self.settings)

    def _watch(self, record: launch.Running) -> None:
        while not self._called_off.wait(LOOK_S):
            state = launch.health(record)
            if state == "ended":
                raise launch.why_ended(self.ui, record, self.settings, "while it ran")
            self._lit("up" if state == "up" else "ill", state)
            self._draw_log()
        raise Cancelled("It was stopped.")

    def _end(self, sentence: str, kind: str = "") -> None:
        self.local.value = ""
        self._lit("off")
        self.say(sentence, kind)
        self._busy(False)

    # -------------------------------------------------------------------------------------------------------- the tunnel

    def _open_tunnel(self, record: launch.Running) -> None:
        """A way in from outside, if one is wanted; that there is none is said, and no reason to end the WebUI."""
        if not self.choices.tunnel:
            self.say(f"{self.ui.title} runs. No tunnel was asked for: it is reached from this machine only.", "good")
            return
        try:
            self._tunnel = launch.open_way(
                record, self.settings, self.choices.tunnel_order, on_note=self._note, on_address=self.card.show, cancelled=self._called_off.is_set,
                catalogue=self.catalogue,
            )
        except Cancelled:
            raise
        except ReverieError as error:
            self.say(str(error), "bad")
            return
        self.card.show(self._tunnel)
        self.say(f"{self.ui.title} runs.", "good")

    def _close_tunnel(self) -> None:
        tunnel, self._tunnel = self._tunnel, None
        self.card.show(None)
        if tunnel is not None:
            tunnel.close()
            self.card.show(None)  # it may have been opened anew, and told so, while it was closed

    # --------------------------------------------------------------------------------------------------- what is to be seen

    def say(self, sentence: str, kind: str = "") -> None:
        self.words.value = look.status(sentence, kind)

    def _note(self, sentence: str) -> None:
        self._said = [*self._said[-9:], sentence]
        self.notes.value = look.lines("The way from outside", self._said)

    def _heard(self, line: str) -> None:
        if time.monotonic() - self._drawn > DRAW_EVERY_S:
            self._draw_log()

    def _draw_log(self) -> None:
        self._drawn = time.monotonic()
        text = "\n".join(launch.tail(launch.log_of(self.ui, self.settings), LOG_LINES))
        drawn = f'<div style="{LOG_BOX}" tabindex="0"><pre style="{LOG_TEXT}">{look.esc(text)}</pre></div>' if text else ""
        if drawn != self.log.value:
            self.log.value = drawn

    def _lit(self, light: str, words: str = "") -> None:
        colour, usual = LIGHTS[light]
        shown = f'<span role="status" style="white-space:nowrap"><span style="color:var({colour})">●</span> {look.esc(usual or words)}</span>'
        if shown != self.light.value:
            self.light.value = shown

    def _busy(self, busy: bool) -> None:
        self.start_button.description, self.start_button.icon = ("Restart", "refresh") if busy else ("Start", "play")
        self.start_button.disabled, self.stop_button.disabled = False, not busy
        if not busy:
            self._lit("off")


@functools.cache
def _panels() -> dict[str, LaunchPanel]:
    """The panels of this kernel: a cell that is run again shows the one that is at work, with the tunnel and address it has."""
    return {}


def panel_for(ui: WebUI, settings: Settings, choices: Choices, policy: str = "", catalogue: dict[str, Any] | None = None) -> LaunchPanel:
    """The panel of this WebUI, started."""
    panel = _panels().get(ui.id)
    if panel is None or not panel.running:
        panel = _panels()[ui.id] = LaunchPanel(ui, settings, choices, policy, catalogue)
        panel.start()
    return panel


def run_headless(ui: WebUI, settings: Settings, choices: Choices, tunnel: bool, say: Callable[[str], None]) -> launch.Running:
    """Started and answering, told in a few lines; it ends with this process. A tunnel only where this run asks for one, and its
    password is no part of what is said: what a cell prints is kept in the notebook."""
    record = launch.launch(
        ui, settings, None, choices.port or None, launch_options.words(choices.launch_options), on_note=say,
    )
    say(f"Its log: {record.log}")
    if tunnel:
        opened = launch.open_way(record, settings, choices.tunnel_order, on_note=say)
        say(f"{opened.title}: {opened.url}{'' if opened.checked else ' (not checked)'}")
        say(f"Its password is in {keep_password(opened.password, settings)}, which only you may read.")
    return record


def keep_password(password: str, settings: Settings) -> Path:
    """A file that only its owner may read; it is written anew at each start."""
    path = settings.storage / "run" / "password.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(password + "\n")
    return path
