"""`reverie webui start | stop | logs`: a WebUI from the command line, in the foreground or detached."""

from __future__ import annotations

import json
import time

import click

from reverie.faces import cli

FOLLOW_S = 0.4


class Deed(click.Command):
    """A command with its examples."""

    def __init__(self, *args, examples=(), **kwargs):
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        cli.write_examples(formatter, self.examples)


def start(webui: str, port: int | None, detach: bool, tunnel: bool, options: tuple[str, ...], as_json: bool) -> None:
    """In the foreground until it ends or Ctrl-C ends it; detached until `reverie webui stop`."""
    from reverie import settings
    from reverie.errors import BadInput
    from reverie.host import choices, launch
    from reverie.host.choices import launch_options

    if detach and tunnel:
        raise BadInput("A tunnel is kept open by this command, so it cannot be detached.", "Leave --detach out, and leave this terminal open.")
    here = settings.load()
    chosen = choices.load(here)
    ui = _webui(webui, here)
    words = options or (launch_options.words(chosen.launch_options) if ui.id == chosen.webui else ())
    hear = (lambda line: None) if as_json else lambda line: click.echo(f"  {line}", err=True)
    say = (lambda line: None) if as_json else lambda line: click.echo(line, err=True)
    record = launch.launch(ui, here, hear, port or chosen.port or None, words, on_note=say, ends_with_parent=not detach)
    if as_json:
        click.echo(json.dumps({"id": ui.id, "url": record.about["url"], "pid": record.pid, "log": record.log}))
    elif detach:
        click.echo(f"{ui.title} runs at {record.about['url']} until: reverie webui stop {ui.id}")
    if not detach:
        _stay(ui, record, here, chosen if tunnel else None, hear, say)


def _stay(ui, record, here, tunnel_choices, hear, say) -> None:
    """Until it ends, or this is interrupted; whoever only found it running may leave without ending it."""
    from reverie.host import launch
    from reverie.host.launch import processes

    opened = None
    ours = processes.started_here(record)
    try:
        if tunnel_choices is not None:
            opened = launch.open_way(record, here, tunnel_choices.tunnel_order, on_note=say)
            _tell_way(opened)
        say("Ctrl-C ends it." if ours else f"It was started elsewhere and runs on when this ends. Stop it: reverie webui stop {ui.id}")
        _follow(record, hear)
        raise launch.why_ended(ui, record, here, "while it ran")
    except KeyboardInterrupt:
        say("\n" + ("Stopping …" if ours else "Left."))
    finally:
        if opened is not None:
            opened.close()
        if ours:
            launch.stop(ui, here)


def _tell_way(tunnel) -> None:
    """The address with its QR code, and the password: to a terminal, which keeps nothing."""
    import sys

    from reverie.host import qr

    click.echo(f"{tunnel.title}: {tunnel.url}{'' if tunnel.checked else ' (not checked)'}\nPassword: {tunnel.password}")
    if sys.stdout.isatty() and tunnel.url.startswith("http"):
        click.echo(qr.terminal(tunnel.url))


def stop(webui: str, every: bool, as_json: bool) -> None:
    from reverie import settings
    from reverie.host.launch import processes

    here = settings.load()
    if every:  # with what is left of one that was killed, and tunnels' programs
        records = processes.records(here)
    else:
        ui = _webui(webui, here)
        records = [record for record in _running(here) if record.about["ui"] == ui.id]
    stopped = [record for record in records if processes.stop(record.name, here)]
    if as_json:
        click.echo(json.dumps({"stopped": [record.about.get("ui") or record.name for record in stopped]}))
        return
    for record in stopped:
        click.echo(f"{record.about.get('title') or record.name} is stopped.")
    if not stopped:
        click.echo("Nothing runs." if every else f"{ui.title} does not run.")


def logs(webui: str, lines: int, follow: bool, as_json: bool) -> None:
    """What it has said; of one that has ended too."""
    from reverie import settings
    from reverie.errors import NotFound
    from reverie.host import launch

    here = settings.load()
    ui = _webui(webui, here)
    record, log = launch.find(ui, here), launch.log_of(ui, here)
    if not log.exists():
        raise NotFound(f"{ui.title} has no log: it was never started here.", f"Start it: reverie webui start {ui.id}")
    said = launch.tail(log, lines)
    click.echo(json.dumps({"log": str(log), "lines": said}, ensure_ascii=False) if as_json else "\n".join(said))
    if follow and not as_json and record is not None and record.alive:
        _follow(record, click.echo)


def _follow(record, hear) -> None:
    """What it says from now on, until it ends."""
    from pathlib import Path

    from reverie.host.launch.logs import Follower

    follower = Follower(Path(record.log))
    follower.lines()
    while record.alive:
        for line in follower.lines():
            hear(line)
        time.sleep(FOLLOW_S)
    for line in follower.lines():
        hear(line)


def _running(here) -> list:
    from reverie.host.launch import processes

    return [record for record in processes.running(here) if record.about.get("ui")]


def _webui(webui: str, here):
    """The one that is named, else the one that runs alone, else the one that was chosen in cell 2."""
    from reverie.errors import BadInput
    from reverie.host import choices, webuis

    at_work = [] if webui else _running(here)
    name = webui or (at_work[0].about["ui"] if len(at_work) == 1 else choices.load(here).webui)
    if not name:
        raise BadInput("No WebUI is named, and none was chosen.", f"Name one: {', '.join(ui.id for ui in webuis.all(here))}.")
    return webuis.find(name, here)


_NAME = click.Argument(["webui"], default="", metavar="[WEBUI]")
commands = {
    "start": Deed(
        "start", callback=start, help="Start a WebUI and wait until it answers. Options for the WebUI itself come after --.",
        params=[
            _NAME, click.Argument(["options"], nargs=-1, metavar="[-- OPTIONS]"),
            click.Option(["--port"], type=click.IntRange(1, 65535), default=None, help="another port than its usual one"),
            click.Option(["--detach"], is_flag=True, help="let it run on after this command, until it is stopped"),
            click.Option(["--tunnel/--no-tunnel"], default=False, help="open a way from outside, behind a password"),
            *cli.common_options(),
        ],
        examples=("reverie webui start comfyui", "reverie webui start forge --detach", "reverie webui start comfyui --tunnel -- --lowvram"),
    ),
    "stop": Deed(
        "stop", callback=stop, help="End a WebUI with everything it has started.",
        params=[_NAME, click.Option(["--all", "every"], is_flag=True, help="every WebUI that runs, and whatever else was started here"), *cli.common_options()],
        examples=("reverie webui stop comfyui", "reverie webui stop --all"),
    ),
    "logs": Deed(
        "logs", callback=logs, help="What a WebUI has said.",
        params=[
            _NAME, click.Option(["-n", "lines"], type=click.IntRange(1, 10_000), default=40, show_default=True, help="so many lines"),
            click.Option(["--follow", "-f"], is_flag=True, help="and what comes in until it ends"), *cli.common_options(),
        ],
        examples=("reverie webui logs comfyui", "reverie webui logs --follow"),
    ),
}
