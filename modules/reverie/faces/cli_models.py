"""`reverie models`: which models are here, and which real ones this machine could carry."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from reverie.faces import cli, cli_table


class Models(click.Command):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        cli.write_examples(formatter, ("reverie models", "reverie models --json"))


def show(as_json: bool) -> None:
    from reverie import additions, models, settings

    here = settings.load()
    known, advised = models.all(here), models.advise(here)
    on_top = {folder: additions.names(kind, here) for kind, (folder, _) in additions.KINDS.items()}
    if as_json:
        listed = {"models": [_plain(model) for model in known], "advised": [_plain(model) for model in advised], **on_top}
        click.echo(json.dumps(listed, ensure_ascii=False, indent=2))
        return
    rows = [(model.id, _state(model, here), model.family, f"{model.width}x{model.height}", _needs(model), model.title) for model in known]
    cli_table.print_table(("id", "", "family", "size", "needs", "title"), rows)
    for folder, names in on_top.items():
        if names:
            click.echo(f"\n{folder}: {', '.join(names)}")
    if advised:
        click.echo("\nWorth fetching for this machine:")
    for model in advised:
        click.echo(f"\n  {model.id}: {model.title}. {model.note}\n    {models.fetch_sentence(model, here)}")


def _state(model, settings) -> str:
    from reverie import models

    return ("lacks " + ", ".join(lacks) if (lacks := models.lacking(model, settings)) else "here") if model.here else "-"


def _needs(model) -> str:
    return f"{model.vram_gb:g} GB card / {model.ram_gb:g} GB RAM" if model.vram_gb else ""


def _plain(model) -> dict[str, Any]:
    return {**asdict(model), "path": str(model.path) if model.path else "", "here": model.here}


command = Models("models", params=cli.common_options(), callback=show, help="The models that are here, and what to fetch next.")
