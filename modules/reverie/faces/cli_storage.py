"""`reverie storage`: what takes how much, the same bytes once, garbage, a check of every byte, and the way back."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any, Callable

import click

from reverie.faces import cli, cli_table

EXAMPLES = ("reverie storage show", "reverie storage dedup --dry-run", "reverie storage gc", "reverie storage undo")


class Storage(click.Group):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        cli.write_examples(formatter, EXAMPLES)


class Deed(click.Command):
    """A command of the storage, with its examples."""

    def __init__(self, *args, examples=(), **kwargs):
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        cli.write_examples(formatter, self.examples)


# ------------------------------------------------------------------------------------------------------------ commands


def show(old_days: float, as_json: bool) -> None:
    from reverie import settings
    from reverie.host.depot import care
    from reverie.host.depot import Depot, plain

    here = settings.load()
    picture = care.look(here, old_days)
    if as_json:
        with Depot(here.storage) as depot:
            _json({**plain(picture), "kept": [plain(kept) for kept in depot.find()]})
        return
    click.echo(f"{picture.storage}: {_size(picture.total)}, {_size(picture.free)} free\n")
    cli_table.print_table(("size", "files", "what"), [(_size(part.bytes), part.files, part.name) for part in picture.kinds])
    if picture.webuis:
        click.echo()
        rows = [(_size(part.bytes), _size(part.shared), part.name) for part in picture.webuis]
        cli_table.print_table(("its own", "by links", "WebUI"), rows)
    click.echo("\nNothing needs to go." if not picture.items else "\nWhat could go (python scripts/auto-cleaner.py puts what is safe into the bin):\n")
    if picture.items:
        rows = [(item.id, _size(item.bytes), "safe" if item.safe else "look first", item.group, f"{item.title}: {item.why}") for item in picture.items]
        cli_table.print_table(("id", "size", "", "kind", "what and why"), rows)
    if picture.bin:
        click.echo(f"\nThe bin holds {_size(sum(entry.bytes for entry in picture.bin))}. See: reverie storage bin")


def dedup(folders: tuple[str, ...], adopt: str | None, dry_run: bool, as_json: bool) -> None:
    from reverie import settings
    from reverie.errors import BadInput, NotFound
    from reverie.host.depot import care
    from reverie.host.depot import Depot
    from reverie.host.resources import FOLDERS

    here = settings.load()
    if adopt is not None and (adopt not in FOLDERS or len(folders) != 1):
        raise BadInput(f"--adopt takes one folder and one kind, not '{adopt}' for {len(folders)} folders.", f"Kinds are: {', '.join(FOLDERS)}.")
    for folder in folders:
        if not Path(folder).is_dir():
            raise NotFound(f"There is no folder {folder}.", "Name a folder with models.")
    with Depot(here.storage) as depot, _progress(as_json) as on_progress:
        if adopt is not None:
            report = depot.adopt(Path(folders[0]), adopt, "", dry_run=dry_run, on_progress=on_progress)
        else:
            report = depot.dedup([Path(folder) for folder in folders] or care.places(here), dry_run=dry_run, on_progress=on_progress)
    _tell(report, as_json, "Nothing is there twice.", "To take it back: reverie storage undo")


def gc(dry_run: bool, as_json: bool) -> None:
    with _depot() as depot:
        report = depot.gc(dry_run)
    _tell(report, as_json, "There is no garbage.", "It is in the bin. To be rid of it: reverie storage empty; to have it back: reverie storage undo")


def verify(as_json: bool) -> int:
    from reverie.host.depot import plain

    with _depot() as depot, _progress(as_json) as on_progress:
        started, blobs = time.monotonic(), list(depot.stored())
        size = sum(blob.stat().st_size for blob in blobs)
        problems = depot.verify(on_progress=on_progress)
    seconds = time.monotonic() - started
    if as_json:
        _json({"files": len(blobs), "bytes": size, "seconds": round(seconds, 3), "problems": [plain(problem) for problem in problems]})
    else:
        for problem in problems:
            click.echo(f"{problem.path}: {problem.what}. {problem.next_step}")
        speed = f", {_size(int(size / seconds))}/s" if size and seconds else ""
        click.echo(f"{_many(len(blobs), 'file')}, {_size(size)} read{speed}: " + (_many(len(problems), "problem") if problems else "all is well"))
    return 1 if any("bytes" in problem.what or "cannot be read" in problem.what for problem in problems) else 0


def undo(id: str, dry_run: bool, as_json: bool) -> None:
    """The newest of both kinds of deeds, where no id is given."""
    from reverie.errors import NotFound
    from reverie.host.depot import upkeep
    from reverie.host.depot.bin import Bin

    with _depot() as depot, _progress(as_json) as on_progress:
        entries = Bin(depot.storage).list()
        binned, run = entries[-1].id if entries else "", upkeep.last_run(depot)
        chosen = id or max(binned, run)
        if not chosen:
            raise NotFound("There is nothing to undo.", "See: reverie storage show")
        if any(entry.id.startswith(chosen) for entry in entries):
            report = _restore(Bin(depot.storage), chosen, dry_run)
        else:
            report = depot.undo(id, dry_run=dry_run, on_progress=on_progress)
    _tell(report, as_json, "Nothing was changed.", "")


def _restore(bin, id: str, dry_run: bool):
    from reverie.host.depot import Change, Report

    entry = bin.get(id)
    paths = [Path(origin) for origin in entry.origins] if dry_run else bin.restore(entry.id)
    return Report("restore", dry_run, entry.id, [Change(path, "put back") for path in paths])


def show_bin(as_json: bool) -> None:
    from reverie import settings
    from reverie.host.depot.bin import Bin
    from reverie.host.depot import plain

    entries = Bin(settings.load().storage).list()
    if as_json:
        _json([plain(entry) for entry in entries])
    elif not entries:
        click.echo("The bin is empty.")
    else:
        rows = [(entry.id, _size(entry.bytes), f"{entry.origins[0]}{_and_more(entry.origins)}: {entry.why}") for entry in entries]
        cli_table.print_table(("id", "size", "what and why"), rows)


def empty(ids: tuple[str, ...], yes: bool, dry_run: bool, as_json: bool) -> None:
    from reverie import settings
    from reverie.errors import BadInput
    from reverie.host.depot.bin import Bin

    bin = Bin(settings.load().storage)
    entries = [bin.get(id) for id in ids] or bin.list()
    size = sum(entry.bytes for entry in entries)
    if entries and not dry_run and not yes:
        if not sys.stdin.isatty():
            raise BadInput(f"This deletes {_size(size)} for good, and nobody is here to be asked.", "Say so: reverie storage empty --yes")
        click.confirm(f"Delete {_many(len(entries), 'entry', 'entries')} ({_size(size)}) for good?", abort=True)
    freed = size if dry_run else bin.empty([entry.id for entry in entries] if ids else None)
    if as_json:
        _json({"dry_run": dry_run, "entries": [entry.id for entry in entries], "freed_bytes": freed})
    else:
        click.echo(f"{'Would give' if dry_run else 'Gave'} back {_size(freed)}." if entries else "The bin is empty.")


# ------------------------------------------------------------------------------------------------------------- telling


def _depot():
    from reverie import settings
    from reverie.host.depot import Depot

    return Depot(settings.load().storage)


def _tell(report, as_json: bool, nothing: str, then: str) -> None:
    from reverie.host.depot import plain

    if as_json:
        _json(plain(report))
        return
    would = "would be " if report.dry_run else ""
    for change in report.changes:
        click.echo(f"{change.path}: {would}{change.what}{f' ({_size(abs(change.bytes))})' if change.bytes else ''}")
    for path, why in report.skipped:
        click.echo(f"{path}: left as it is, {why}")
    if not report.changes:
        click.echo(nothing)
        return
    freed = f", {_size(abs(report.freed_bytes))} {'given back' if report.freed_bytes > 0 else 'taken'}" if report.freed_bytes else ""
    click.echo(f"{_many(len(report.changes), 'file')}{freed}{' (dry run: nothing was changed)' if report.dry_run else ''}.")
    if then and not report.dry_run:
        click.echo(then)


@contextlib.contextmanager
def _progress(quiet: bool):
    """A bar on a terminal, a line every few seconds elsewhere (on standard error), nothing beside JSON."""
    if quiet:
        yield lambda *_: None
    elif sys.stderr.isatty():
        with _bar() as on_progress:
            yield on_progress
    else:
        yield _lines()


@contextlib.contextmanager
def _bar():
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def on_progress(what: str, done: int, total: int) -> None:
            if what in ("reading", "checking") and total:
                if what not in tasks:
                    tasks[what] = bar.add_task(what, total=total)
                bar.update(tasks[what], completed=done, total=total)

        yield on_progress


def _lines(every_s: float = 5.0) -> Callable[[str, int, int], None]:
    last = started = time.monotonic()

    def on_progress(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if what in ("reading", "checking") and now - last >= every_s:
            last = now
            click.echo(f"{what}: {_size(done)} of {_size(total)}, {_size(int(done / (now - started)))}/s", err=True)

    return on_progress


def _json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def _size(number: int) -> str:
    from reverie.host.downloads.planning import size_text

    return size_text(number)


def _many(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def _and_more(paths: list[str]) -> str:
    return f" and {len(paths) - 1} more" if len(paths) > 1 else ""


def _dry() -> click.Option:
    return click.Option(["--dry-run"], is_flag=True, help="say what would be done, and change nothing")


def _deed(name: str, callback, text: str, examples, *params: click.Parameter) -> Deed:
    return Deed(name, params=[*params, *cli.common_options()], callback=callback, help=text, examples=examples)


command = Storage(
    "storage",
    help="What uses space, the same bytes once, and a bin with a way back.",
    commands={
        "show": _deed(
            "show", show, "What takes how much, by kind and by WebUI, and what of it could go and why.",
            ("reverie storage show", "reverie storage show --old-days 90 --json"),
            click.Option(["--old-days"], type=click.FloatRange(0), default=30, show_default=True, help="outputs older than this count as old"),
        ),
        "dedup": _deed(
            "dedup", dedup,
            "Store equal models once and leave links in their places. FOLDERS are all model folders of SD-Reverie and its WebUIs by default.",
            ("reverie storage dedup --dry-run", "reverie storage dedup", "reverie storage dedup ~/ComfyUI/models ~/A1111/models",
             "reverie storage dedup ~/A1111/models/Lora --adopt lora"),
            click.Argument(["folders"], nargs=-1, type=click.Path()),
            click.Option(["--adopt"], metavar="KIND", help="take every model of the one folder into the depot, as this kind"), _dry(),
        ),
        "gc": _deed(
            "gc", gc, "Put models that no link leads to, and downloads nobody went on with, into the bin.",
            ("reverie storage gc --dry-run", "reverie storage gc"), _dry(),
        ),
        "verify": _deed(
            "verify", verify, "Read every stored byte and hold it against its SHA-256; look at every link. Exit code 1 where bytes are wrong.",
            ("reverie storage verify", "reverie storage verify --json"),
        ),
        "undo": _deed(
            "undo", undo, "Take the last deed back: what went into the bin, or a dedup, whose links become files again. ID is one of `bin`, or of a dedup.",
            ("reverie storage undo", "reverie storage undo --dry-run"),
            click.Argument(["id"], required=False, default=""), _dry(),
        ),
        "bin": _deed("bin", show_bin, "What lies in the bin, and why.", ("reverie storage bin", "reverie storage bin --json")),
        "empty": _deed(
            "empty", empty, "Delete what lies in the bin for good: all of it, or the entries with these IDS.",
            ("reverie storage empty --dry-run", "reverie storage empty --yes"),
            click.Argument(["ids"], nargs=-1), click.Option(["--yes"], is_flag=True, help="do not ask"), _dry(),
        ),
    },
)
