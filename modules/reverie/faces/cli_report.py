"""How a run is told on a terminal, in a pipe and to a program. Results go to standard output, progress to standard error."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

RESULTS = (("storyboard", "Storyboard"), ("epub", "Book"), ("pdf", "Comic"), ("animatic", "Short film"))
QUIET_S = 10  # in a pipe, a line of progress at most this often


def choose(as_json: bool, params):
    """The teller for this run: a context manager with `take(update)` and `end(outcome)`."""
    if as_json:
        return Silent()
    dry_run = getattr(params, "dry_run", False)
    teller = Bar if sys.stderr.isatty() and not dry_run else Lines
    return teller(dry_run, getattr(params, "count", 1))


class Silent:
    """For --json: only what went wrong, on standard error."""

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def take(self, update) -> None:
        if update.kind == "failed":
            click.echo(update.text, err=True)

    def end(self, outcome) -> None:
        pass


class Lines(Silent):
    """Plain lines: one per picture, and one now and then while a picture takes long."""

    def __init__(self, dry_run: bool = False, each: int = 1):
        self.dry_run, self._each = dry_run, each
        self._planned = self._made = 0
        self._spoke = time.monotonic()

    def take(self, update) -> None:
        handler = getattr(self, f"_{update.kind}", None)
        if handler:
            handler(update)

    def end(self, outcome) -> None:
        click.echo("\n".join(closing(outcome)))

    def say(self, text: str, err: bool = False) -> None:
        self._spoke = time.monotonic()
        click.echo(text, err=err)

    def _plan(self, update) -> None:
        self._planned = sum(row.get("count", self._each) for row in update.data or [])
        if self.dry_run:
            self.say("\n".join(shot_list(update.data or [])))

    def _note(self, update) -> None:
        self.say(update.text, err=True)

    def _failed(self, update) -> None:
        self.say(update.text, err=True)

    def _picture(self, update) -> None:
        self._made += 1
        of = f"/{self._planned}" if self._planned >= self._made else ""
        self.say(f"[{self._made}{of}] {update.path}")

    def _progress(self, update) -> None:
        if time.monotonic() - self._spoke >= QUIET_S:
            self.say(f"{update.fraction:4.0%} {update.text}".rstrip(), err=True)


class Bar(Lines):
    """A rich progress bar on standard error; pictures and notes scroll above it. Piped results go through the pipe."""

    def __enter__(self):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.percentage:3.0f}%"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
        )
        self._piped = not sys.stdout.isatty()
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=not self._piped)
        self._bar.start()
        self._task = self._bar.add_task("starting", total=1.0)
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, text: str, err: bool = False) -> None:
        if self._piped and not err:
            click.echo(text)
        else:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _progress(self, update) -> None:
        self._bar.update(self._task, completed=update.fraction, description=update.text[:60])

    def _picture(self, update) -> None:
        super()._picture(update)
        self._progress(update)


def closing(outcome) -> list[str]:
    """The last lines of a run: what there is now, where it lies, what failed."""
    summary, number = outcome.summary, len(outcome.pictures)
    failed = summary.get("failed", len(outcome.failed))
    kept = len(summary.get("pictures", ())) - number
    told = summary.get("check", {}).get("told", [])
    if not number and not failed and kept <= 0:
        return ["Dry run: nothing was drawn." if outcome.plan else "There was nothing to draw.", *told]
    seconds = f" in {summary['seconds']:.1f} s" if summary.get("seconds") else ""
    lines = [f"{number} picture{'' if number == 1 else 's'} drawn{seconds}" + (f", {kept} kept from before." if kept > 0 else ".")]
    if failed:
        lines.append(f"{failed} could not be made (see above); run it again to try only those.")
    return lines + [f"{label}: {summary[key]}" for key, label in RESULTS if summary.get(key)] + told


def shot_list(rows: list[dict[str, Any]]) -> list[str]:
    """Planned scenes as a shot list to read; other plans as one line per picture."""
    lines, chapter = [], None
    for row in rows:
        if "scene" not in row:
            lines.append("  ".join(str(value) for value in row.values() if value not in ("", None)))
            continue
        if row.get("chapter") != chapter:
            chapter = row.get("chapter")
            lines += ["", click.style(_chapter(row), bold=True)]
        lines += _shot(row)
    return lines


def _chapter(row: dict[str, Any]) -> str:
    number, title = f"Chapter {row['chapter']}", row.get("chapter_title") or ""
    return number if title.casefold() in ("", number.casefold()) else f"{number}: {title}"


def _shot(row: dict[str, Any]) -> list[str]:
    characters = row.get("characters") or []
    who = characters if isinstance(characters, str) else ", ".join(characters)
    facts = " · ".join(str(part) for part in (who, row.get("setting"), row.get("time"), row.get("mood")) if part)
    lines = ["", f"  Scene {row['scene']} ({row.get('words', 0)} words)  {facts}".rstrip()]
    named = (("action", "action"), ("prompt", "prompt"), ("not", "negative"), ("file", "filename"))
    return lines + [f"    {label:<7} {row[key]}" for label, key in named if row.get(key)]
