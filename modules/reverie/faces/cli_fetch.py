"""`reverie fetch` and `reverie plan`: what a download would do, and doing it."""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

import click

from reverie.errors import BadInput, Interrupted
from reverie.faces import cli

EXAMPLES = {
    "fetch": (
        "reverie fetch sdxl-base",
        "reverie fetch https://civitai.com/models/4384 --dry-run",
        'reverie fetch "lora:https://huggingface.co/latent-consistency/lcm-lora-sdxl/resolve/main/pytorch_lora_weights.safetensors[lcm-sdxl.safetensors]"',
        "reverie fetch --file links.txt --yes --json",
    ),
    "plan": ("reverie plan sdxl-base", "reverie plan --file links.txt --json"),
}
POLL_S = 0.1


class Fetching(click.Command):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        cli.write_examples(formatter, EXAMPLES[self.name])


def fetch(links, file, dry_run, yes, way, at_once, allow_pickle, as_json) -> int:
    from reverie import settings
    from reverie.host import downloads

    here = settings.load()
    plan = downloads.prepare(read_links(links, file), here, allow_pickle)
    if dry_run:
        return tell_plan(plan, as_json)
    if not as_json:
        _tell(plan)
    plan.check_room(here.storage)
    if not (yes or as_json or _agreed(plan)):
        return 0
    return carry_out(plan, here, as_json, way=way, at_once=at_once)


def carry_out(plan, here, as_json: bool, **how: Any) -> int:
    """Do it, show how far it is and what became of it; the exit code. Interrupted after Ctrl-C, when everything has ended well."""
    from reverie.host import downloads

    stopped = threading.Event()
    webui = chosen_webui(here)
    outcome = watched(plan, as_json, stopped, lambda tell: downloads.carry_out(plan, here, tell, stopped.is_set, webui=webui, **how))
    code = tell_outcome(plan, outcome, as_json)
    if stopped.is_set():
        raise Interrupted("Stopped. What is here stays;", "the same command carries on.")
    return code


def show_plan(links, file, allow_pickle, as_json) -> int:
    from reverie import settings
    from reverie.host import downloads

    return tell_plan(downloads.prepare(read_links(links, file), settings.load(), allow_pickle), as_json)


def read_links(links: tuple[str, ...], file: str | None) -> list:
    """What was written and what the file has, parsed. BadInput if there is nothing."""
    from reverie.host import links as parser

    wanted = [link for text in links for link in parser.parse(text)]
    wanted += parser.read(Path(file).expanduser()) if file else []
    if not wanted:
        raise BadInput("Nothing was named that could be fetched.", "Give links, ids of the catalogue (reverie models lists them), or --file links.txt")
    return wanted


def chosen_webui(here) -> str:
    """The WebUI of cell 2, "" if none was chosen."""
    from reverie.host import choices

    return choices.load(here).webui


def tell_plan(plan, as_json: bool) -> int:
    from reverie.host.downloads import tables as plan_tables

    if as_json:
        click.echo(json.dumps(plan_tables.plain(plan), ensure_ascii=False, indent=2))
    else:
        _tell(plan)
    return 1 if plan.refused or plan.lacking_bytes else 0


def _tell(plan) -> None:
    from reverie.host.downloads import tables as plan_tables

    click.echo(plan_tables.text(plan))


def _agreed(plan) -> bool:
    """Asked only where somebody can answer, and where bytes would come."""
    if not plan.of("fetch", "resume") or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return True
    return click.confirm("Fetch it?", default=True)


def watched(plan, as_json: bool, stopped: threading.Event, work: Callable[[Callable], Any]):
    """The work in a thread, with progress on standard output; Ctrl-C asks it to end and waits for that."""
    answer: list[Any] = []

    def run(on_progress) -> None:
        try:
            answer.append(work(on_progress))
        except BaseException as error:
            answer.append(error)

    with _progress(plan, as_json) as on_progress:
        threading.Thread(target=run, args=(on_progress,), daemon=True).start()
        _wait(answer, stopped)
    if isinstance(answer[0], BaseException):
        raise answer[0]
    return answer[0]


def _wait(answer: list, stopped: threading.Event) -> None:
    """Until there is an answer. It sleeps and looks: Ctrl-C would cut the waiting for a thread's lock in two."""
    while not answer:
        try:
            time.sleep(POLL_S)
        except KeyboardInterrupt:
            if stopped.is_set():
                raise
            stopped.set()


@contextmanager
def _progress(plan, as_json: bool):
    """Yields what takes progress: bars on a terminal, lines elsewhere, nothing where only JSON is wanted."""
    from reverie.faces.tally import Lines

    if as_json:
        yield lambda progress: None
    elif sys.stdout.isatty():
        with _bars(plan) as take:
            yield take
    else:
        yield Lines(click.echo).take


@contextmanager
def _bars(plan):
    from rich.progress import BarColumn, Progress, TextColumn

    from reverie.faces.tally import Tally, of_file

    tally, lock = Tally(plan), threading.Lock()
    with Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}")) as bars:
        rows: dict[str, Any] = {}
        whole = bars.add_task("all", total=1.0, said="", visible=len(plan.of("fetch", "resume")) > 1)

        def take(progress) -> None:
            with lock:
                tally.take(progress)
                if progress.key not in rows:
                    rows[progress.key] = bars.add_task(progress.title.replace("[", r"\["), total=None, said="")
                said = of_file(progress).replace("[", r"\[")
                bars.update(rows[progress.key], total=progress.size or None, completed=tally.done[progress.key], said=said)
                bars.update(whole, completed=tally.fraction, said=tally.line())

        yield take


def tell_outcome(plan, outcome, as_json: bool) -> int:
    """What came, what did not and why; 1 if something is missing."""
    from reverie.host.downloads import tables as plan_tables
    from reverie.host.downloads.planning import size_text

    if as_json:
        click.echo(json.dumps({"plan": plan_tables.plain(plan), "outcome": plain(outcome)}, ensure_ascii=False, indent=2))
    else:
        for row in outcome.done:
            click.echo(f"{row.kind} {row.name}: here" + "".join(f"; {note}" for note in row.notes))
        for line in outcome.notes:
            click.echo(line)
        if outcome.fetched_bytes:
            click.echo(f"{size_text(outcome.fetched_bytes)} in {outcome.seconds:.0f} s")
        for row, why in outcome.failed:
            click.echo(f"{row.name}: {why}", err=True)
        for why in outcome.troubles:
            click.echo(why, err=True)
    return 1 if outcome.failed or outcome.troubles else 0


def plain(outcome) -> dict[str, Any]:
    rows = [{"kind": row.kind, "name": row.name, "notes": list(row.notes), "url": row.resource.url if row.resource else ""} for row in outcome.done]
    failed = [{"kind": row.kind, "name": row.name, "asked": row.asked, "error": why} for row, why in outcome.failed]
    sums = {"fetched_bytes": outcome.fetched_bytes, "seconds": round(outcome.seconds, 2), "cancelled": outcome.cancelled}
    return {"done": rows, "skipped": [f"{row.kind}/{row.name}" for row in outcome.skipped], "failed": failed, "troubles": outcome.troubles, "notes": outcome.notes, **sums}


_LINKS = click.Argument(["links"], nargs=-1, metavar="[LINKS OR IDS]...")
_FILE = click.Option(["--file"], metavar="FILE", help="a text file of links, in sections by kind if you like")
_PICKLE = click.Option(["--allow-pickle"], multiple=True, metavar="NAME", help="take this pickle file although it could run any program")

_fetch = Fetching(
    "fetch", callback=fetch, help="Bring models here: links, pages of CivitAI and Hugging Face, ids of the catalogue. Stopped, it carries on.",
    params=[
        _LINKS, _FILE,
        click.Option(["--dry-run"], is_flag=True, help="only show the plan, as reverie plan does"),
        click.Option(["--yes"], is_flag=True, help="do not ask"),
        click.Option(["--way"], type=click.Choice(["auto", "aria2", "aiohttp"]), default="auto", show_default=True, help="what fetches"),
        click.Option(["--at-once"], type=click.IntRange(1, 16), default=3, show_default=True, help="how many files at a time"),
        _PICKLE, *cli.common_options(),
    ],
)
_plan = Fetching(
    "plan", params=[_LINKS, _FILE, _PICKLE, *cli.common_options()], callback=show_plan,
    help="What fetch would do: what comes, what is here, what is refused and why, and whether there is room.",
)
commands = {"fetch": _fetch, "plan": _plan}
