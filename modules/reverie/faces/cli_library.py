"""`reverie library`: list, search, show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from reverie.faces import cli, cli_table

EXAMPLES = ("reverie library list --limit 20", "reverie library search red house", "reverie library show picture.png --json")
EMPTY = 'The library is empty. Make the first picture: reverie generate "a house by the sea"'


class Library(click.Group):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        cli.write_examples(formatter, EXAMPLES)


class Reading(click.Command):
    """A command of the library, with its examples."""

    def __init__(self, *args, examples=(), **kwargs):
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        cli.write_examples(formatter, self.examples)


def list_pictures(limit: int, as_json: bool, words: tuple[str, ...] = ()) -> None:
    from reverie.studio import Studio

    with Studio.open() as studio:
        rows = [_row(studio, asset) for asset in studio.library.list(limit, " ".join(words))]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
    elif not rows:
        click.echo(f"No picture has {' and '.join(words)} in its prompt." if words else EMPTY)
    else:
        shown = [(row["id"][:8], f"{row['width']}x{row['height']}", row["model"], str(row["seed"]), row["prompt"]) for row in rows]
        cli_table.print_table(("id", "size", "model", "seed", "prompt"), shown)


def show(name: str, as_json: bool) -> None:
    recipe = _recipe(name)
    if as_json:
        click.echo(json.dumps(recipe, ensure_ascii=False, indent=2))
        return
    for key, value in recipe.items():
        if value not in ("", None, [], {}, ()):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            click.echo(f"{key:<11} {text}")


def _recipe(name: str) -> dict[str, Any]:
    """The recipe inside the file called `name`, or of the picture in the library with that id."""
    from reverie import recipes
    from reverie.studio import Studio

    path = Path(name)
    if path.exists() or path.suffix:
        return recipes.read(path)
    with Studio.open() as studio:
        asset = studio.library.get(name)
        return {"path": str(studio.path(asset)), **asset.recipe}


def _row(studio, asset) -> dict[str, Any]:
    recipe = {key: asset.recipe.get(key, "") for key in ("prompt", "negative", "model", "seed", "steps", "cfg", "sampler")}
    file = {"id": asset.id, "path": str(studio.path(asset)), "width": asset.width, "height": asset.height}
    return {**file, "created_at": asset.created_at, **recipe}


def _limit() -> click.Option:
    return click.Option(["--limit"], type=click.IntRange(1, 100000), default=50, show_default=True, help="how many, the newest first")


def _listing(name: str, text: str, params: list[click.Parameter], examples) -> Reading:
    return Reading(name, params=[*params, _limit(), *cli.common_options()], callback=list_pictures, help=text, examples=examples)


command = Library(
    "library",
    help="Every picture that was made, and how.",
    commands={
        "list": _listing("list", "The newest pictures.", [], ("reverie library list", "reverie library list --limit 5 --json")),
        "search": _listing(
            "search", "Pictures whose prompt has all of WORDS.", [click.Argument(["words"], nargs=-1, required=True)],
            ("reverie library search red house", "reverie library search moon --json"),
        ),
        "show": Reading(
            "show", params=[click.Argument(["name"], metavar="FILE"), *cli.common_options()], callback=show,
            help="How a picture was made. FILE is a picture of SD-Reverie, of an A1111-like WebUI or of ComfyUI, or an id from the list.",
            examples=("reverie library show picture.png", "reverie library show 3fa9c1d2 --json"),
        ),
    },
)
