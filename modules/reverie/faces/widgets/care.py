"""The Care tab: what takes the room, what could go and why, a bin with a way back. Long work runs in a thread."""

from __future__ import annotations

import logging
import threading
from typing import Any, Callable

from reverie import settings as settings_module
from reverie.errors import ReverieError
from reverie.faces.widgets import look
from reverie.host.depot import care
from reverie.host.depot.bin import Bin
from reverie.host.downloads.planning import size_text

log = logging.getLogger("reverie.faces")
SHOWN = 60  # rows of a list: each is two widgets, and the largest come first
_HUES = (28, 205, 140, 265, 340, 60, 175, 310, 100, 235)
_STYLE = """<style>
.rv .rv-use { display: flex; height: 26px; border-radius: 8px; overflow: hidden; background: var(--rv-raised); margin: 4px 0 10px; }
.rv .rv-use i { display: block; min-width: 2px; height: 100%; }
.rv .rv-legend { display: flex; flex-wrap: wrap; gap: 6px 18px; font-size: 13px; color: var(--rv-ink); }
.rv .rv-legend span { display: inline-flex; gap: 7px; align-items: center; }
.rv .rv-legend i { width: 11px; height: 11px; border-radius: 3px; display: inline-block; }
.rv .rv-legend small { color: var(--rv-soft); font-size: 12.5px; font-variant-numeric: tabular-nums; }
.rv .rv-pick { gap: 1px; overflow: visible; width: 100%; padding: 7px 0; border-bottom: 1px solid var(--rv-line); }
.rv .rv-pick .widget-checkbox .widget-label-basic { font-weight: 500; }
.rv .rv-pick .widget-html { min-width: 0; height: auto; margin: 0; padding-left: 24px; font-size: 12.5px; }
.rv .rv-pick .widget-html-content { overflow-wrap: anywhere; }
.rv .rv-pick small { color: var(--rv-soft); font-size: 12.5px; }
.rv .rv-pick b { font-weight: 600; } .rv .rv-pick em { color: var(--rv-accent); font-style: normal; }
.rv .rv-page > .widget-html { height: auto; width: 100%; }
</style>"""


class CareTab:
    """`widget` is the tab. Nothing is measured before `look_again()` or its button, so that showing it costs nothing."""

    title = "Storage"

    def __init__(self, settings=None):
        import ipywidgets

        self.settings = settings or settings_module.load()
        self.picture: care.Picture | None = None
        self._picks: list[tuple[Any, care.Item]] = []
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        head, self.scheme = look.header("What takes the room, what of it could go and why. Nothing is deleted before the bin is emptied.", "Storage")
        self.words, self.chart = ipywidgets.HTML(), ipywidgets.HTML()
        self.words.add_class("rv-words")
        self.bar = ipywidgets.FloatProgress(min=0, max=1)
        self.bar.add_class("rv-bar")
        self.bar.layout.display = "none"
        self.list = ipywidgets.VBox()
        self.dry_run = ipywidgets.Checkbox(value=False, description="Dry run: only say what would be done", indent=False)
        self._make_buttons(ipywidgets)
        rows = [head, self._row(self.again, self.stop), self.words, self.bar, self.chart, self.list, self.dry_run,
                self._row(self.to_bin, self.once, self.undo, self.empty, self.really, self.no)]
        page = ipywidgets.VBox([look.style_widget(), ipywidgets.HTML(_STYLE, layout={"display": "none"}), *rows])
        page.add_class("rv-page")
        self.widget = ipywidgets.VBox([page])
        self.widget.add_class("rv")
        look.follow_scheme(self.widget, self.scheme)
        self._show_buttons()

    def _make_buttons(self, ipywidgets) -> None:
        def button(text: str, icon: str, tooltip: str, act: Callable[[], None], style: str = ""):
            made = ipywidgets.Button(description=text, icon=icon, tooltip=tooltip, button_style=style)
            made.on_click(lambda _: act())
            return made

        self.again = button("Look again", "search", "Measure everything and look for what could go", self.look_again, "primary")
        self.stop = button("Stop", "stop", "Stop; what is done stays done", self._stopped.set)
        self.to_bin = button("Move to the bin", "trash", "What is picked goes into the bin; Undo brings it back", self.move_to_bin)
        self.once = button("Store duplicates once", "link", "Equal models become one file and links; Undo makes files of them again", self.store_once)
        self.undo = button("Undo", "undo", "Take the last deed back", self.undo_last)
        self.empty = button("Empty the bin", "times", "Delete for good what lies in the bin; asks first", self.ask_to_empty)
        self.really = button("Delete for good", "exclamation-triangle", "There is no way back", self.empty_now, "danger")
        self.no = button("Keep it", "", "Leave the bin as it is", lambda: self._ask(False))
        self._buttons = (self.again, self.to_bin, self.once, self.undo, self.empty, self.really, self.no)

    def _row(self, *buttons):
        import ipywidgets

        row = ipywidgets.HBox(list(buttons))
        row.add_class("rv-buttons")
        return row

    # ------------------------------------------------------------------------------------------------------ what is done

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def look_again(self) -> None:
        self._start(lambda: "", "Looking …")

    def move_to_bin(self) -> None:
        items = [item for box, item in self._picks if box.value and item.action != "dedup"]
        if not items:
            self.say("Nothing is picked.")
            return
        self._start(lambda: self._apply(items), "Moving …")

    def store_once(self) -> None:
        items = [item for _, item in self._picks if item.action == "dedup"]
        self._start(lambda: self._apply(items), "Comparing every byte …")

    def undo_last(self) -> None:
        self._start(self._undo, "Undoing …")

    def ask_to_empty(self) -> None:
        self._ask(True)
        self.say(f"This deletes {size_text(Bin(self.settings.storage).bytes())} for good.")

    def empty_now(self) -> None:
        self._ask(False)
        if self.dry_run.value:
            self.say(f"Dry run: {size_text(Bin(self.settings.storage).bytes())} would be given back.")
            return
        self._start(lambda: f"{size_text(Bin(self.settings.storage).empty())} given back.", "Emptying …")

    def _apply(self, items: list[care.Item]) -> str:
        dry = self.dry_run.value
        reports = care.apply(self.settings, items, dry, self._progress, self._stopped.is_set)
        freed, files = sum(report.freed_bytes for report in reports), sum(len(report.changes) for report in reports)
        left = [f"{path.name}: {why}" for report in reports for path, why in report.skipped]
        would = "would be " if dry else ""
        binned = any(report.action != "dedup" for report in reports)
        what = f"{would}in the bin" if binned else f"{would}given back"
        return " ".join([f"{'Dry run: ' * dry}{files} done, {size_text(max(freed, 0))} {what}.", *(["Left as it is: " + "; ".join(left[:5]) + "."] if left else [])])

    def _undo(self) -> str:
        from reverie.host.depot import upkeep
        from reverie.host.depot import Depot

        with Depot(self.settings.storage) as depot:
            entries, run = Bin(self.settings.storage).list(), upkeep.last_run(depot)
            if entries and entries[-1].id > run:
                if self.dry_run.value:
                    return f"Dry run: {len(entries[-1].origins)} would be put back."
                return f"{len(Bin(self.settings.storage).restore(entries[-1].id))} put back."
            report = depot.undo(run, dry_run=self.dry_run.value, on_progress=self._progress)
        left = f" {len(report.skipped)} stay links: {report.skipped[0][1]}." if report.skipped else ""
        return f"{'Dry run: ' * self.dry_run.value}{len(report.changes)} files of their own again.{left}"

    # --------------------------------------------------------------------------------------------------------- how it runs

    def say(self, text: str, kind: str = "") -> None:
        self.words.value = look.status(text, kind)

    def _start(self, work: Callable[[], str], words: str) -> None:
        if self.running:
            return
        self._stopped.clear()
        self.say(words)
        self._busy(True)
        self._thread = threading.Thread(target=self._run, args=(work,), name="reverie-care", daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], str]) -> None:
        said, kind = "", "good"
        try:
            said = work()
            self.picture = care.look(self.settings, on_step=lambda what: self.say(f"Looking: {what} …"))
            self._draw()
        except ReverieError as error:
            said, kind = str(error), "bad"
        except Exception as error:
            log.exception("tab=care")
            said, kind = f"This is a bug: {type(error).__name__}: {error}. The log has the details.", "bad"
        finally:
            self._busy(False)
            self.say(said, kind)

    def _progress(self, what: str, done: int, total: int) -> None:
        fraction = done / total if total else 0.0
        if abs(fraction - self.bar.value) >= 0.01:  # each update is a message to the browser
            self.bar.value = fraction

    def _busy(self, busy: bool) -> None:
        self.bar.value, self.bar.layout.display = 0.0, "" if busy else "none"
        self.stop.disabled = not busy
        for button in self._buttons:
            button.disabled = busy
        if not busy:
            self._show_buttons()

    def _ask(self, asking: bool) -> None:
        for button in (self.really, self.no):
            button.layout.display = "" if asking else "none"
        self.empty.layout.display = "none" if asking else ""

    def _show_buttons(self) -> None:
        self._ask(False)
        picture = self.picture
        self.to_bin.disabled = not any(item.action != "dedup" for _, item in self._picks)
        self.once.disabled = not any(item.action == "dedup" for _, item in self._picks)
        self.stop.disabled = True
        self.empty.disabled = picture is None or not picture.bin
        self.undo.disabled = picture is None
        self.empty.description = f"Empty the bin ({size_text(Bin(self.settings.storage).bytes())})" if picture and picture.bin else "Empty the bin"

    # ------------------------------------------------------------------------------------------------------------- drawing

    def _draw(self) -> None:
        import ipywidgets

        picture, rows, group = self.picture, [], ""
        self._picks = []
        ordered = sorted(picture.items, key=lambda item: (item.group, -item.bytes))
        for item in ordered[:SHOWN]:
            if item.group != group:
                group = item.group
                rows.append(ipywidgets.HTML(f'<h3 class="rv-chapter">{look.esc(group.capitalize())}</h3>'))
            box = ipywidgets.Checkbox(value=False, indent=False, disabled=item.action == "dedup", description=item.title)
            rows.append(self._pick(box, item))
            self._picks.append((box, item))
        if len(ordered) > SHOWN:
            rows.append(ipywidgets.HTML(f"<p>{len(ordered) - SHOWN} more: reverie storage show</p>"))
        self.list.children = rows or [ipywidgets.HTML('<p class="rv-empty">Nothing needs to go.</p>')]
        self.chart.value = chart(picture)

    def _pick(self, box, item: care.Item):
        import ipywidgets

        warning = "" if item.safe else " <em>look first</em>"
        places = "\n".join(map(str, item.paths[:20]))
        text = f'<div title="{look.esc(places)}"><b>{size_text(item.bytes)}</b>{warning} <small>{look.esc(item.why)}</small></div>'
        row = ipywidgets.VBox([box, ipywidgets.HTML(text)])
        row.add_class("rv-pick")
        return row


def chart(picture: care.Picture) -> str:
    """One bar of what takes how much, its legend, and the WebUIs: HTML."""
    total = max(1, picture.total)
    coloured = [(part, f"hsl({_HUES[n % len(_HUES)]} 52% {56 if n < len(_HUES) else 42}%)") for n, part in enumerate(picture.kinds)]
    bars = "".join(f'<i style="width:{100 * part.bytes / total:.2f}%;background:{colour}" title="{look.esc(part.name)}: {size_text(part.bytes)}"></i>' for part, colour in coloured)
    legend = "".join(f'<span><i style="background:{colour}"></i>{look.esc(part.name)} <small>{size_text(part.bytes)}, {part.files} file{"" if part.files == 1 else "s"}</small></span>' for part, colour in coloured)
    webuis = "".join(f"<span>{look.esc(part.name)} <small>{size_text(part.bytes)} of its own, {size_text(part.shared)} shared by links</small></span>" for part in picture.webuis)
    head = f"<p>{look.esc(picture.storage)}: <b>{size_text(picture.total)}</b>, {size_text(picture.free)} free</p>"
    label = "; ".join(f"{part.name} {size_text(part.bytes)}" for part in picture.kinds)
    ground = f'<div class="rv-use" role="img" aria-label="{look.esc(label)}">{bars}</div><div class="rv-legend">{legend}</div>'
    return head + ground + (f'<h3 class="rv-chapter">WebUIs</h3><div class="rv-legend">{webuis}</div>' if webuis else "")
