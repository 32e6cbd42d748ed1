"""Everything that cell 2 chose is brought here: the models, then the WebUI with its extensions, then the models in its folders.

    plan = provision.prepare(choices, settings)
    outcome = provision.carry_out(plan, choices, settings, on_progress=…, on_line=…, cancelled=…)

Done again, only what is missing moves.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Iterable

from reverie.errors import Cancelled, Interrupted, ReverieError
from reverie.host import choices as choosing
from reverie.host import downloads
from reverie.host.downloads import Outcome
from reverie.host.downloads.planning import Plan
from reverie.settings import Settings

LINE_EVERY_S = 2.0  # pip and git say more than anybody reads


def anything(choices: choosing.Choices) -> bool:
    """Whether there is anything to bring."""
    return bool(choices.webui or choosing.wanted(choices))


def prepare(choices: choosing.Choices, settings: Settings, pickles_allowed: Iterable[str] = ()) -> Plan:
    return downloads.prepare(choosing.wanted(choices), settings, pickles_allowed)


def installation(choices: choosing.Choices, settings: Settings) -> list[str]:
    """What installing the chosen WebUI would do, a line each; why it cannot be, where that is so."""
    if not choices.webui:
        return []
    from reverie.host import webuis
    from reverie.host.webuis import packages

    try:
        ui = webuis.find(choices.webui, settings)
        return [f"{ui.title}: {action.what} ({action.source})" for action in packages.plan(ui, settings) if not action.done]
    except ReverieError as error:
        return [str(error)]


def carry_out(
    plan: Plan, choices: choosing.Choices, settings: Settings, on_progress: Callable[[Any], None] | None = None,
    on_line: Callable[[str], None] | None = None, cancelled: Callable[[], bool] = lambda: False, **how: Any,
) -> Outcome:
    """The plan, then the WebUI. A model that does not come stops no WebUI, and the other way round; all is in the outcome.

    DiskFull before anything moves; Busy while another download is at work here.
    """
    started = time.monotonic()
    outcome = downloads.carry_out(plan, settings, on_progress, cancelled, **how)
    if choices.webui and not outcome.cancelled:
        from reverie.host import webuis

        say = on_line or (lambda line: None)
        guarded(outcome, lambda: install(webuis.find(choices.webui, settings), choices.extensions, settings, outcome, say, cancelled))
    outcome.seconds = time.monotonic() - started
    return outcome


def guarded(outcome: Outcome, step: Callable[[], Any]) -> None:
    """What goes wrong in `step` is told in the outcome and stops nothing else."""
    try:
        step()
    except (Cancelled, Interrupted):
        outcome.cancelled = True
    except ReverieError as error:
        outcome.troubles.append(str(error))


def install(ui, extensions: tuple, settings: Settings, outcome: Outcome, on_line: Callable[[str], None], cancelled, **how: Any) -> dict[str, Any]:
    """The WebUI with these extensions, and all models in its folders; the receipt of what was installed."""
    from reverie.host.webuis import packages

    receipt = packages.install(ui, settings, _Steps(ui.title, on_line), cancelled, extensions=tuple(extensions), **how)
    if extensions:  # else the receipt tells of an earlier run
        outcome.troubles += [f"{name}: {why}" for name, why in receipt.get("failed", {}).items()]
    outcome.notes += downloads.show_in(ui.id, settings)
    on_line(f"{ui.title}: here")
    return receipt


class _Steps:
    """What an installation says, as lines: each step once, and within it a line now and then."""

    def __init__(self, title: str, say: Callable[[str], None]):
        self.title, self.say, self.what, self.said_at = title, say, "", 0.0

    def __call__(self, step) -> None:
        now = time.monotonic()
        if step.what == self.what and now - self.said_at < LINE_EVERY_S:
            return
        self.what, self.said_at = step.what, now
        far = f" {step.done / step.total:.0%}" if step.total else ""
        self.say(f"{self.title}: {step.what}{far}" + (f" · {step.line[:160]}" if step.line else ""))
