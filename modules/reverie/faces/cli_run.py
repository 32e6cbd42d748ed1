"""A pipeline as a command: flags from its Params, its updates as lines, a progress bar or JSON."""

from __future__ import annotations

import json
import re
from typing import Any

import click

from reverie import pipelines
from reverie.errors import Interrupted
from reverie.faces import cli, forms

METAVARS = {int: "N", float: "X", str: "TEXT"}
EXAMPLES = {
    "generate": (
        'reverie generate "a red house by the sea at dusk"',
        'reverie generate "two boats on a river, night, full moon" --seed 7 --count 4',
        'reverie generate "a castle in the snow" --size 256x256 --steps 30 --out castle.png',
        'reverie generate "the same castle at night" --init castle.png --strength 0.4 --json',
        'reverie generate "a yellow moon" --init castle.png --mask mask.png --out moon.png',
        'reverie generate "a castle in the snow" --init castle.png --outpaint "left 64, right 64" --out wide.png',
    ),
    "illustrate": (
        "reverie illustrate assets/samples/the-time-machine",
        "reverie illustrate mybook/ --chapters 1 3 --dry-run",
        "reverie illustrate mybook/ --resume 2 5 --steps 40 --guidance 8.0",
        "reverie illustrate novel.md --style watercolour --characters people.yaml --json",
        "reverie illustrate mybook/ --redraw 2 5",
        "reverie illustrate mybook/ --check",
        "reverie illustrate novel.md --writer ollama:hermes3:8b --dry-run",
    ),
}
# What `illustrate --json` promises of each scene; `images` follows for those that are drawn, `grades` for those that are checked.
SCENE_KEYS = (
    "chapter", "chapter_title", "scene", "words", "characters", "setting", "time", "mood", "action", "prompt", "negative", "filename",
    "budget", "span", "claims", "change", "edited",
)
_NUMBERS = re.compile(r"\d+(-\d+)?,?")


class PipelineCommand(click.Command):
    """`reverie NAME`: the first (or marked) field is the argument, every field is a flag."""

    def __init__(self, name: str):
        self.pipeline = pipelines.get(name)
        self.fields = forms.fields(self.pipeline.Params)
        self.subject = next((field for field in self.fields if field.argument), self.fields[0])
        argument = click.Argument(["words"], nargs=-1, metavar=f"[{self.subject.name.upper()}]")
        super().__init__(
            name, params=[argument, *map(_option, self.fields), *cli.common_options()], callback=self._run,
            help=f"{cli.first_line(name)}\n\n{self.subject.name.upper()}: {self.subject.help}{_default(self.subject)}.",
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        flags = {f"--{_flag(field)}" for field in self.fields if field.type is str and field.widget != "path"}
        return super().parse_args(ctx, gather_numbers(args, flags))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        hidden = {field.name for field in self.fields if field.advanced}
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        records = [(option.name in hidden, record) for option in options if (record := option.get_help_record(ctx))]
        for title, advanced in (("Options", False), ("More options", True)):
            rows = [record for is_hidden, record in records if is_hidden == advanced]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        cli.write_examples(formatter, EXAMPLES.get(self.name, getattr(self.pipeline, "EXAMPLES", ())))

    def _run(self, words: tuple[str, ...], as_json: bool, **given: Any) -> int:
        values = {name: value for name, value in given.items() if value is not None}
        if words:
            values[self.subject.name] = " ".join(words)
        return run_pipeline(self.pipeline, forms.parse(self.pipeline.Params, values), as_json)


def gather_numbers(args: list[str], flags: set[str]) -> list[str]:
    """`--chapters 1 3 book/` → `--chapters '1 3' book/`: a text flag that got a number takes the numbers after it too."""
    gathered: list[str] = []
    rest = list(args)
    while rest:
        token = rest.pop(0)
        name, equals, value = token.partition("=")
        gathered.append(token)
        if token == "--":
            return gathered + rest
        if name not in flags or not (equals or rest):
            continue
        if not equals:
            gathered.append(rest.pop(0))
        if _NUMBERS.fullmatch(value if equals else gathered[-1]):
            while rest and _NUMBERS.fullmatch(rest[0]):
                gathered[-1] += f" {rest.pop(0)}"
    return gathered


def run_pipeline(pipeline, params, as_json: bool) -> int:
    """Run it and tell how it goes; 0, or 1 when a picture could not be made."""
    from reverie.faces import cli_report
    from reverie.studio import Studio

    report = cli_report.choose(as_json, params)
    outcome = Outcome()
    with Studio.open() as studio, report:
        updates = pipeline.run(studio, params)
        try:
            for update in updates:
                outcome.take(update)
                report.take(update)
        except KeyboardInterrupt:
            updates.close()
            raise Interrupted("Stopped.", outcome.kept()) from None
    if as_json:
        click.echo(json.dumps(outcome.rows(), ensure_ascii=False, indent=2, default=str))
    else:
        report.end(outcome)
    return 1 if outcome.failed else 0


class Outcome:
    """What a run has made so far."""

    def __init__(self):
        self.plan: list[dict[str, Any]] = []
        self.pictures: list[tuple[Any, dict[str, Any]]] = []
        self.failed: list[str] = []
        self.summary: dict[str, Any] = {}

    def take(self, update) -> None:
        if update.kind == "plan":
            self.plan = list(update.data or [])  # its rows learn where their pictures lie
        elif update.kind == "picture":
            self.pictures.append((update.path, dict(update.data or {})))
        elif update.kind == "failed":
            self.failed.append(update.text)
        elif update.kind == "done":
            self.summary = dict(update.data or {})

    def kept(self) -> str:
        """What is kept and how to carry on."""
        number = len(self.pictures)
        made = f"{number} finished picture{'' if number == 1 else 's'} {'is' if number == 1 else 'are'} kept" if number else "Nothing was finished yet"
        where = f" in {self.pictures[-1][0].parent}" if number else ""
        seed = self.plan[0].get("seed") if self.plan else None
        again = "the same command" if seed is None else f"the same command with --seed {seed}"
        again += ", without --redraw," if self.plan and self.plan[0].get("redrawn") else ""
        return f"{made}{where}; {again} carries on from here."

    def rows(self) -> list[dict[str, Any]]:
        """For --json: the planned scenes with their pictures, or one row per picture."""
        if self.plan and "scene" in self.plan[0]:
            images = {row["filename"]: [path for path in row.get("image", ()) if path.exists()] for row in self.plan}
            drawn = {filename: list(map(str, paths)) for filename, paths in images.items() if paths}
            graded: dict[str, list[dict[str, Any]]] = {}
            for grade in self.summary.get("check", {}).get("grades", []):
                graded.setdefault(grade["filename"], []).append(grade)
            return [
                {key: row.get(key) for key in SCENE_KEYS}
                | {name: found[row["filename"]] for name, found in (("images", drawn), ("grades", graded)) if row["filename"] in found}
                for row in self.plan
            ]
        return [{"path": str(path), **row} for path, row in self.pictures] or self.plan


def _flag(field: forms.Field) -> str:
    return field.flag or field.name.replace("_", "-")


def _option(field: forms.Field) -> click.Option:
    """Values are checked by Params, not here, so that every face says the same sentence."""
    text = field.help + _default(field)
    if field.type is bool:
        name = f"--no-{_flag(field)}" if field.default else f"--{_flag(field)}"
        return click.Option([name, field.name], is_flag=True, flag_value=not field.default, default=None, help=text)
    metavar = "PATH" if field.widget == "path" else METAVARS[field.type]
    return click.Option([f"--{_flag(field)}", field.name], metavar=metavar, default=None, help=text)


def _default(field: forms.Field) -> str:
    said = field.default in ("", None) or field.type is bool or field.when_unset
    return "" if said else f" [{field.default}]"
