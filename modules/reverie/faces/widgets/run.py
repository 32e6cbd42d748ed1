"""A pipeline in a thread: the cell returns at once, so that Cancel is heard; widgets are updated as things happen."""

from __future__ import annotations

import atexit
import functools
import logging
import threading
import time
from typing import Any, Callable

from reverie.errors import Cancelled, ReverieError
from reverie.faces.widgets import look
from reverie.studio import Studio

STOPPED = "Stopped. What is finished is kept; Draw carries on."
log = logging.getLogger("reverie.faces")


class KernelStudio(Studio):
    """The studio of this notebook kernel. It stays open between runs, so that the model is loaded once, and remembers
    which session each thread opened, so that Cancel reaches it even before the run has said anything."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._opened: dict[int, str] = {}

    def session(self, *args: Any, **kwargs: Any) -> str:
        session = super().session(*args, **kwargs)
        self._opened[threading.get_ident()] = session
        return session

    def session_of(self, thread: threading.Thread) -> str:
        """The session that this thread's run opened; empty before that."""
        return self._opened.get(thread.ident or 0, "")

    def forget(self, thread: threading.Thread) -> None:
        """A thread's number may be used again by a later one."""
        self._opened.pop(thread.ident or 0, None)


@functools.cache
def kernel_studio() -> KernelStudio:
    studio = KernelStudio.open()
    atexit.register(studio.close)
    return studio


class Runner:
    """Draw and Cancel buttons, a progress bar, a preview and a line of words, for one pipeline.

    `params()` gives what to run (a ReverieError of it is shown); `on_update` gets every update in the run's thread;
    `on_end(summary or None)` comes last.
    """

    def __init__(self, pipeline, params: Callable[[], Any], on_update: Callable[[Any], None], on_end: Callable[[Any], None]):
        import ipywidgets

        self.pipeline, self._params, self._on_update, self._on_end = pipeline, params, on_update, on_end
        self.draw = ipywidgets.Button(description="Draw", icon="paint-brush", button_style="primary", tooltip="Draw it now")
        self.cancel = ipywidgets.Button(description="Cancel", icon="stop", disabled=True, tooltip="Stop; what is finished is kept")
        self.bar = ipywidgets.FloatProgress(min=0, max=1)
        self.preview = ipywidgets.Image(format="jpeg")
        self.words = ipywidgets.HTML()
        for name in ("draw", "cancel", "bar", "preview", "words"):
            getattr(self, name).add_class(f"rv-{name}")
        self.bar.layout.display = self.preview.layout.display = "none"
        self.draw.on_click(lambda _: self.start())
        self.cancel.on_click(lambda _: self.stop())
        self._thread: threading.Thread | None = None
        self._stopped, self._nothing_to_cancel = threading.Event(), False

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def say(self, text: str, kind: str = "") -> None:
        self.words.value = look.status(text, kind)

    def start(self) -> None:
        if self.running:
            return
        try:
            params = self._params()
        except ReverieError as error:
            self.say(str(error), "bad")
            return
        self._stopped.clear()
        self._nothing_to_cancel = False
        self._busy(True)
        self.say("Starting …")
        self._thread = threading.Thread(target=self._run, args=(params,), name=f"reverie-{self.pipeline.NAME}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the run to end; it says when it has."""
        if not self.running:
            return
        self._stopped.set()
        self.cancel.disabled = True
        self.say("Stopping …")
        session = kernel_studio().session_of(self._thread)
        self._nothing_to_cancel = not (session and kernel_studio().cancel(session))

    def _run(self, params) -> None:
        started, summary = time.monotonic(), None
        try:
            summary = self._follow(params)
            self.say(*self._verdict(summary, time.monotonic() - started))
        except Cancelled:
            self.say(STOPPED)
        except ReverieError as error:
            self.say(str(error), "bad")
        except Exception as error:
            log.exception("pipeline=%s", self.pipeline.NAME)
            self.say(f"This is a bug: {type(error).__name__}: {error}. The log has the details.", "bad")
        finally:
            self._busy(False)
            self._on_end(summary)

    def _follow(self, params) -> dict[str, Any] | None:
        """Run to the end; the summary, or None when it was stopped while no picture was in the making."""
        studio, thread = kernel_studio(), threading.current_thread()
        studio.forget(thread)
        updates = self.pipeline.run(studio, params)
        for update in updates:
            if self._stopped.is_set() and self._nothing_to_cancel:
                updates.close()
                return None
            self._show(update)
            self._on_update(update)
            if update.kind == "done":
                return dict(update.data or {})
        return None

    def _show(self, update) -> None:
        if update.kind in ("progress", "picture"):
            self.bar.value = update.fraction
        if update.kind == "progress":
            if update.preview:
                self.preview.value = update.preview
                self.preview.layout.display = ""
            if not self._stopped.is_set():
                self.say(f"{update.fraction:.0%}  {update.text}".rstrip())
        elif update.kind == "note":
            self.say(update.text)
        elif update.kind == "failed" and not self._stopped.is_set():
            self.say(update.text, "bad")

    def _verdict(self, summary, seconds: float) -> tuple[str, str]:
        if self._stopped.is_set() and summary is None:
            return STOPPED, ""
        if self._stopped.is_set():
            number = len((summary or {}).get("pictures", []))
            return f"Stopped. {number} finished picture{'' if number == 1 else 's'} kept; Draw carries on.", ""
        number, failed = len(summary["pictures"]), int(summary.get("failed") or 0)
        made = f"{number} picture{'' if number == 1 else 's'} in {seconds:.1f} s."
        return (f"{made} {failed} could not be made; Draw tries those again.", "bad") if failed else (made, "good")

    def _busy(self, busy: bool) -> None:
        self.draw.disabled, self.cancel.disabled = busy, not busy
        self.bar.value = 0.0
        self.bar.layout.display = "" if busy else "none"
        if not busy:
            self.preview.layout.display = "none"
            self.preview.value = b""
