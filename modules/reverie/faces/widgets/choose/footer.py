"""What the choice comes to, live: how much, how much of it is to be fetched, and what has no room."""

from __future__ import annotations

from reverie.faces.widgets import look
from reverie.faces.widgets.choose.pieces import html, size_text
from reverie.faces.widgets.choose.state import State
from reverie.host.choices.offers import Total


class Footer:
    def __init__(self, state: State):
        self.state = state
        self.widget = html("", "rv-footer")
        state.listen(lambda whole: self.refresh())
        self.refresh()

    def refresh(self) -> None:
        self.widget.value = told(self.state.total(), self.state.machine.memory)


def told(total: Total, memory: str) -> str:
    """The totals as HTML, read out when they change."""
    figures = [
        (f"{total.number}", "chosen"), (size_text(total.chosen) or "0 GB", "in all"), (size_text(total.to_fetch) or "0 GB", "to fetch"),
        (size_text(total.free) or "0 GB", "free here"),
    ]
    row = "".join(f"<span><b>{look.esc(figure)}</b> {words}</span>" for figure, words in figures)
    lines = []
    if total.unknown:
        lines.append(f'<p class="rv-soft">{total.unknown} of unknown size {"is" if total.unknown == 1 else "are"} not counted; cell 3 looks them up before anything moves.</p>')
    if total.lacking:
        lines.append(look.status(f"{size_text(total.lacking)} too much for this disk. Untick {_listed(total.untick)}.", "bad"))
    if total.heavy:
        lines.append(f'<p class="rv-heavy">Too large for this machine ({look.esc(memory)}): {look.esc(_listed(total.heavy))}.</p>')
    return f'<div role="status" aria-live="polite"><div class="rv-figures">{row}</div>{"".join(lines)}</div>'


def _listed(titles: tuple[str, ...], most: int = 4) -> str:
    shown = ", ".join(titles[:most])
    return f"{shown} and {len(titles) - most} more" if len(titles) > most else shown
