"""`reverie webui`: which WebUIs there are, installing and taking away, our models in their folders; start, stop and logs."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import Any

import click

from reverie.faces import cli, cli_table

EXAMPLES = ("reverie webui list", "reverie webui install comfyui --extension ComfyUI-Manager", "reverie webui start comfyui")
TELL_EVERY_S = 10


class WebUIs(click.Group):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        cli.write_examples(formatter, EXAMPLES)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands, *_running_commands()]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return self.commands.get(name) or _running_commands().get(name)


class Deed(click.Command):
    """A command with its examples."""

    def __init__(self, *args, examples=(), **kwargs):
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        cli.write_examples(formatter, self.examples)


def _running_commands() -> dict[str, click.Command]:
    from reverie.faces.cli_webui_run import commands

    return commands


def list_webuis(as_json: bool) -> None:
    from reverie import settings
    from reverie.host import webuis

    here = settings.load()
    rows = [_row(ui, here) for ui in webuis.all(here)]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    shown = [(row["id"], row["state"], row["from"], str(row["port"]), ", ".join(row["capabilities"]), row["title"]) for row in rows]
    cli_table.print_table(("id", "", "from", "port", "for", "title"), shown)


def _row(ui, here) -> dict[str, Any]:
    from reverie.host import launch, webuis

    running = launch.find(ui, here)
    receipt = webuis.receipt(ui, here)
    state = "runs" if running and running.alive else "installed" if webuis.is_installed(ui, here) else "begun" if receipt else "-"
    return {
        "id": ui.id, "title": ui.title, "state": state, "from": "your own package" if ui.own_package else "package" if ui.package else "git",
        "port": ui.port, "capabilities": list(ui.capabilities), "commit": receipt.get("commit", ""), "note": ui.note,
    }


def show(webui: str, as_json: bool) -> None:
    from reverie import settings
    from reverie.host import webuis
    from reverie.host.webuis import extensions

    here = settings.load()
    ui = webuis.find(webui, here)
    have = extensions.installed(ui, here)
    offered = [{"id": row.id, "title": row.title, "here": (row.folder or row.id) in have, "note": row.note} for row in extensions.for_webui(ui, here)]
    told = {
        **_row(ui, here), "home": str(webuis.home(ui, here)), "python": str(webuis.venv_python(ui, here)), "package": ui.package, "venv": ui.venv, "git": ui.git,
        "unchecked": list(ui.unchecked), "login": ui.login, "folders": dict(ui.folders), "extensions": offered,
    }
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False, indent=2))
        return
    for key, value in told.items():
        if value and key not in ("folders", "extensions"):
            click.echo(f"{key:<13} {', '.join(value) if isinstance(value, list) else value}")
    cli_table.print_table(("models", "go to"), list(ui.folders.items()))
    if offered:
        click.echo()
        cli_table.print_table(("extension", "", "what it does"), [(row["id"], "here" if row["here"] else "-", row["note"]) for row in offered])


def install(webui: str, way: str, extension: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """The WebUI, its environment and extensions; then our models in its folders."""
    from reverie import settings
    from reverie.host import webuis
    from reverie.host.webuis import packages, views
    from reverie.host.depot import Depot

    here = settings.load()
    ui = webuis.find(webui, here)
    if dry_run:
        _tell_plan([*packages.plan(ui, here, way), *_plan_of_extensions(ui, here, extension)], as_json)
        return
    receipt = packages.install(ui, here, (lambda step: None) if as_json else Progress(), way=way, extensions=extension)
    with Depot(here.storage) as depot:
        report = views.expose_all(ui, depot, here)
    if as_json:
        click.echo(json.dumps({**receipt, "linked": report.linked, "there": report.there}, ensure_ascii=False, indent=2))
        return
    commit = f" at {receipt['commit'][:12]}" if receipt.get("commit") else ""
    click.echo(f"{ui.title}{commit} is installed in {webuis.home(ui, here)}.")
    for id, why in receipt["failed"].items():
        click.echo(f"Extension {id} is not: {why}")
    _tell_views(report)
    click.echo(f"Start it: reverie webui start {ui.id}")


def _plan_of_extensions(ui, here, asked: tuple[str, ...]) -> list:
    """What would be done for these extensions. NotFound for one that the catalogue does not have."""
    from reverie.errors import NotFound
    from reverie.host.webuis import extensions, packages

    offered, have = {row.id: row for row in extensions.for_webui(ui, here)}, extensions.installed(ui, here)
    for id in asked:
        if id not in offered:
            raise NotFound(f"There is no extension '{id}' for {ui.title}.", f"There are: {', '.join(offered)}.")
    rows = [offered[id] for id in asked]
    return [packages.Action(f"add extension {row.id}", row.package or row.git, 0, (row.folder or row.id) in have) for row in rows]


def _tell_plan(actions, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([asdict(action) for action in actions], indent=2))
        return
    rows = [("done" if action.done else "to do", action.what, f"{action.bytes / 1e6:.0f} MB" if action.bytes else "?", action.source) for action in actions]
    cli_table.print_table(("", "what", "takes", "from"), rows)
    click.echo("Nothing was done.")


class Progress:
    """Steps as a line that is rewritten on a terminal, and as a few plain lines elsewhere."""

    def __init__(self):
        self.what, self.at, self.live = "", 0.0, sys.stderr.isatty()

    def __call__(self, step) -> None:
        now, new = time.monotonic(), step.what != self.what
        if not new and now - self.at < (0.2 if self.live else TELL_EVERY_S):
            return
        self.what, self.at = step.what, now
        share = f" {step.done / step.total:4.0%} of {step.total / 1e6:.0f} MB" if step.total else ""
        said = f": {step.line}" if step.line else ""
        text = f"{step.what}{share}{said}"[:150]
        click.echo(f"\r\033[K{text}" if self.live else text, nl=not self.live, err=True)
        if self.live and step.total and step.done >= step.total:
            click.echo(err=True)


def uninstall(webui: str, as_json: bool) -> None:
    from reverie import settings
    from reverie.host import webuis
    from reverie.host.webuis import packages

    here = settings.load()
    ui = webuis.find(webui, here)
    removed = packages.uninstall(ui, here)
    if as_json:
        click.echo(json.dumps(asdict(removed), ensure_ascii=False, indent=2))
        return
    click.echo(f"{ui.title} lies in the bin ({removed.bytes / 1e6:.0f} MB). Bring it back: reverie storage undo {removed.entry}")
    if removed.kept:
        more = f" and {len(removed.kept) - 5} more" if len(removed.kept) > 5 else ""
        click.echo(f"Yours, so it stays in {webuis.home(ui, here)}: {', '.join(removed.kept[:5])}{more}")


def link(webui: tuple[str, ...], as_json: bool) -> None:
    """Our models in the folders of these WebUIs, or of all that are installed."""
    from reverie import settings
    from reverie.host import webuis
    from reverie.host.webuis import views
    from reverie.host.depot import Depot

    here = settings.load()
    chosen = [_installed(id, here) for id in webui] or [ui for ui in webuis.all(here) if webuis.is_installed(ui, here)]
    done = {}
    with Depot(here.storage) as depot:
        for ui in chosen:
            done[ui.id] = views.expose_all(ui, depot, here)
    if as_json:
        click.echo(json.dumps({id: asdict(report) for id, report in done.items()}, default=str, ensure_ascii=False, indent=2))
    elif not done:
        click.echo("No WebUI is installed. See what there is: reverie webui list")
    for id, report in done.items() if not as_json else ():
        click.echo(f"{id}:")
        _tell_views(report)


def _installed(id: str, here):
    """The WebUI of this id. NotFound if there is none, HostFailed if it is not installed."""
    from reverie.errors import HostFailed
    from reverie.host import webuis

    ui = webuis.find(id, here)
    if not webuis.is_installed(ui, here):
        raise HostFailed(f"{ui.title} is not installed.", f"Install it: reverie webui install {ui.id}")
    return ui


def _tell_views(report) -> None:
    if report.linked or report.there or report.withdrawn:
        click.echo(f"Models: {report.linked} linked, {report.there} there already, {report.withdrawn} withdrawn.")
    for path in report.written:
        click.echo(f"Written: {path}")
    for path, why in report.refused:
        click.echo(f"Not linked: {path}: {why}")
    for note in report.notes:
        click.echo(note)


def update(webui: str, as_json: bool) -> None:
    from reverie import settings
    from reverie.host.webuis import packages

    here = settings.load()
    ui = _installed(webui, here)
    newer = packages.update(ui, here)
    if as_json:
        click.echo(json.dumps({"id": ui.id, "newer": newer}))
    elif newer:
        click.echo(f"There is a newer {ui.title}: {newer}\nGet it: reverie webui uninstall {ui.id}, then install; models, pictures and what you changed stay.")
    else:
        click.echo(f"Nothing newer of {ui.title} is known.")


_ID = click.Argument(["webui"], metavar="WEBUI")
_DEEDS = {
    "list": Deed("list", callback=list_webuis, params=cli.common_options(), help="Which WebUIs there are, and which are here.", examples=("reverie webui list", "reverie webui list --json")),
    "show": Deed("show", callback=show, params=[_ID, *cli.common_options()], help="Everything about one: where it comes from, its folders, its extensions.", examples=("reverie webui show comfyui",)),
    "install": Deed(
        "install", callback=install, help="Install a WebUI, or carry on where that was broken off.",
        params=[
            _ID, click.Option(["--way"], type=click.Choice(["auto", "package", "git"]), default="auto", show_default=True, help="from its package, or cloned"),
            click.Option(["--extension", "-e"], multiple=True, metavar="ID", help="with this extension or custom node (again for more)"),
            click.Option(["--dry-run"], is_flag=True, help="say what would be done, and do nothing"), *cli.common_options(),
        ],
        examples=("reverie webui install comfyui", "reverie webui install forge -e adetailer", "reverie webui install comfyui --way git --dry-run"),
    ),
    "uninstall": Deed("uninstall", callback=uninstall, params=[_ID, *cli.common_options()], help="Into the bin with what was installed; what is yours stays.", examples=("reverie webui uninstall comfyui",)),
    "link": Deed(
        "link", callback=link, params=[click.Argument(["webui"], nargs=-1, metavar="[WEBUI]..."), *cli.common_options()],
        help="Let WebUIs see every model that is here; all that are installed, or these.", examples=("reverie webui link", "reverie webui link forge"),
    ),
    "update": Deed("update", callback=update, params=[_ID, *cli.common_options()], help="Ask whether there is a newer one; nothing is changed.", examples=("reverie webui update comfyui",)),
}
command = WebUIs("webui", commands=_DEEDS, help="WebUIs: install, link models, start, stop.")
