"""What is chosen right now, who wants to hear of it, and its file: saved a moment after each change."""

from __future__ import annotations

import atexit
import logging
import threading
from dataclasses import replace
from typing import Any, Callable

from reverie.errors import ReverieError
from reverie.host import choices as choices_module
from reverie.host.choices import offers as offers_module
from reverie.host import storage
from reverie.host.choices import Choices

SAVE_AFTER_S = 0.4
log = logging.getLogger("reverie.faces")


class State:
    """The choices of one cell 2. `heard(whole)` of every listener is called after a change; `whole`: another file was read, so
    everything shown is to be drawn again. `say(text, kind)` shows a line."""

    def __init__(self, settings, given: dict[str, Any] | None = None):
        self.settings = settings
        self.say: Callable[[str, str], None] = lambda text, kind="": None
        self._listeners: list[Callable[[bool], None]] = []
        self._lock, self._timer = threading.RLock(), None
        self.notes: list[str] = []
        self.choices = self._first(given or {})
        self.offers = offers_module.all_offers(settings)
        self.machine = offers_module.machine(settings)
        self.free = lambda: storage.free(settings.storage)  # asked at every change: other cells write to the disk
        atexit.register(self.flush)

    def listen(self, heard: Callable[[bool], None]) -> None:
        self._listeners.append(heard)

    def tick(self, key: str, item: Any, chosen: bool) -> None:
        """Put `item` into the list `key`, or take it out."""
        with self._lock:
            if (item in getattr(self.choices, key)) != chosen:
                self._take(self.choices.with_item(key, item, chosen))

    def set(self, **fields: Any) -> list[str]:
        """Change fields; what is to be said about them. BadInput where one does not fit: nothing is changed then."""
        with self._lock:
            if all(_same(getattr(self.choices, name), value) for name, value in fields.items()):
                return []
            found, notes = choices_module.changed(self.choices, **fields)
            self._take(found)
        return notes

    def replace(self, found: Choices) -> None:
        """Other choices altogether: imported ones, or the defaults."""
        with self._lock:
            self._take(found, whole=True)

    def total(self) -> offers_module.Total:
        return offers_module.total(self.choices, self.offers, replace(self.machine, free_bytes=self.free()), self.settings)

    def flush(self) -> None:
        """Save now what waits to be saved."""
        with self._lock:
            waiting, self._timer = self._timer, None
            if waiting:
                waiting.cancel()
                self._write()

    def save(self) -> None:
        """Save in any case. A ReverieError or OSError where the disk refuses."""
        with self._lock:
            self._timer = self._timer and self._timer.cancel()
            choices_module.save(self.choices, self.settings)

    def _first(self, given: dict[str, Any]) -> Choices:
        try:
            found = choices_module.load(self.settings)
        except ReverieError as error:
            place = choices_module.path(self.settings)
            aside = place.with_name("choices.refused.json")
            place.replace(aside)
            self.notes.append(f"{error} It was put aside as {aside.name}; what follows are the defaults.")
            found = Choices()
        try:
            return choices_module.with_parameters(found, given)
        except ReverieError as error:  # in an open notebook a variable may only be called like a parameter
            self.notes.append(f"{error} It was left aside.")
            return found

    def _take(self, found: Choices, whole: bool = False) -> None:
        self.choices = found
        if self._timer:
            self._timer.cancel()
        self._timer = threading.Timer(SAVE_AFTER_S, self._saved_later)
        self._timer.daemon = True
        self._timer.start()
        for heard in list(self._listeners):
            heard(whole)

    def _saved_later(self) -> None:
        with self._lock:
            if self._timer is threading.current_thread():
                self._timer = None
                self._write()

    def _write(self) -> None:
        try:
            choices_module.save(self.choices, self.settings)
        except (ReverieError, OSError) as error:
            log.warning("choices not saved error=%s", type(error).__name__)
            self.say(f"The choices could not be saved: {error}.", "bad")


def _same(kept: Any, value: Any) -> bool:
    return kept == (tuple(value) if isinstance(value, list) else value)
