"""`reverie freeze` and `reverie restore`: this set-up in a file, and the set-up of such a file here."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import click

from reverie.errors import BadInput, Interrupted, NotFound
from reverie.faces import cli, cli_fetch

EXAMPLES = {
    "freeze": ("reverie freeze", "reverie freeze my-setup.yaml"),
    "restore": ("reverie restore my-setup.yaml --dry-run", "reverie restore my-setup.yaml"),
}
FILE = "reverie-setup.yaml"


class Locking(click.Command):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        cli.write_examples(formatter, EXAMPLES[self.name])


def freeze(file: str, as_json: bool) -> None:
    from reverie import media, settings
    from reverie.host.downloads import lockfile

    path = Path(file).expanduser()
    if path.exists():
        _read(path)  # another kind of file is not written over
    setup, notes = lockfile.freeze(settings.load())
    media.write_text(path, lockfile.dump(setup))
    if as_json:
        click.echo(json.dumps({"file": str(path), "models": len(setup.models), "extensions": len(setup.extensions), "notes": notes}, ensure_ascii=False))
        return
    code = f"{setup.webui.id}, {len(setup.extensions)} extensions, " if setup.webui else ""
    click.echo(f"{path}: {code}{len(setup.models)} model files")
    for note in notes:
        click.echo(note)


def restore(file: str, dry_run: bool, way: str, as_json: bool) -> int:
    from reverie import settings
    from reverie.host.downloads import lockfile

    setup, here = _read(Path(file).expanduser()), settings.load()
    plan = lockfile.plan(setup, here)
    if dry_run:
        return cli_fetch.tell_plan(plan, as_json)
    if not as_json:
        cli_fetch.tell_plan(plan, False)
    plan.check_room(here.storage)
    stopped = threading.Event()
    say = (lambda line: None) if as_json else click.echo
    outcome = cli_fetch.watched(plan, as_json, stopped, lambda tell: lockfile.restore(setup, plan, here, tell, say, stopped.is_set, way=way))
    code = cli_fetch.tell_outcome(plan, outcome, as_json)
    if stopped.is_set():
        raise Interrupted("Stopped. What is here stays;", "the same command carries on.")
    return code


def _read(path: Path):
    from reverie.host.downloads import lockfile

    try:
        return lockfile.read(path.read_text("utf-8"))
    except FileNotFoundError:
        raise NotFound(f"There is no file {path}.", "Give one that reverie freeze has written.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read ({getattr(error, 'strerror', None) or 'it is no text'}).", "Give a file that reverie freeze has written.") from None


commands = {
    "freeze": Locking(
        "freeze", params=[click.Argument(["file"], default=FILE, metavar="[FILE]"), *cli.common_options()], callback=freeze,
        help=f"Write this set-up into FILE ({FILE}): the WebUI and its commit, its extensions and theirs, models by their sums, choices. No token is in it.",
    ),
    "restore": Locking(
        "restore",
        params=[
            click.Argument(["file"], metavar="FILE"), click.Option(["--dry-run"], is_flag=True, help="only show the plan"),
            click.Option(["--way"], type=click.Choice(["auto", "aria2", "aiohttp"]), default="auto", show_default=True, help="what fetches"),
            *cli.common_options(),
        ],
        callback=restore, help="Rebuild the set-up of FILE here. What cannot be had is said, and the rest comes.",
    ),
}
