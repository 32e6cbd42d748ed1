"""The `reverie` command. Its help answers at once: a command's module is loaded only when that command is called."""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path

import click

from reverie import __version__, interrupts
from reverie.errors import Interrupted, ReverieError

INTRO = """From words to pictures.

Every command has its own help with examples: reverie illustrate --help"""
EXAMPLES = (
    'reverie generate "a red house by the sea at dusk" --seed 7',
    "reverie illustrate mybook/ --chapters 1 3 --dry-run",
    "reverie doctor",
)
# Commands that are not pipelines: name → (module with `command`, or with several in `commands`; one line for the list).
OTHERS = {
    "fetch": ("reverie.faces.cli_fetch", "Bring models here: links, pages, ids of the catalogue."),
    "plan": ("reverie.faces.cli_fetch", "What fetch would do, and whether there is room."),
    "freeze": ("reverie.faces.cli_lock", "Write this set-up into a file: WebUI, extensions, models."),
    "restore": ("reverie.faces.cli_lock", "Rebuild the set-up of such a file here."),
    "library": ("reverie.faces.cli_library", "Every picture that was made, and how."),
    "models": ("reverie.faces.cli_models", "The models that are here, and what to fetch next."),
    "storage": ("reverie.faces.cli_storage", "What uses space, the same bytes once, and a bin with a way back."),
    "webui": ("reverie.faces.cli_webui", "WebUIs: install, show our models in them, start, stop."),
    "doctor": ("reverie.faces.cli_doctor", "Look over this machine and say what to mend."),
}


class Commands(click.Group):
    """Pipelines are found by their files, so a new one is a command at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*pipeline_names(), *OTHERS]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in OTHERS:
            module = importlib.import_module(OTHERS[name][0])
            return getattr(module, "commands", {}).get(name) or module.command
        if name in pipeline_names():
            from reverie.faces.cli_run import PipelineCommand

            return PipelineCommand(name)
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            rows = [(name, first_line(name)) for name in pipeline_names()] + [(name, line) for name, (_, line) in OTHERS.items()]
            formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, EXAMPLES)

    def resolve_command(self, ctx: click.Context, args: list[str]):
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            raise click.UsageError(f"There is no command '{args[0]}'. Commands are: {', '.join(self.list_commands(ctx))}.", ctx) from None


def pipeline_names() -> list[str]:
    from reverie import pipelines

    return pipelines.names()


def first_line(name: str) -> str:
    """The first line of a pipeline's docstring, read from its file: importing it would load pydantic."""
    from reverie import pipelines

    folder = Path(pipelines.__file__).parent
    file = next(path for path in (folder / f"{name}.py", folder / name / "__init__.py") if path.exists())
    with open(file, encoding="utf-8") as source:
        found = re.match(r'\s*[rR]?"""\s*([^\n"]+)', source.read(400))
    return found[1] if found else ""


def write_examples(formatter: click.HelpFormatter, examples) -> None:
    """An `Examples` section whose lines can be copied as they are."""
    if not examples:
        return
    with formatter.section("Examples"):
        for line in examples:
            formatter.write(f"{' ' * formatter.current_indent}{line}\n")


def common_options() -> list[click.Option]:
    """What every command takes. `--debug` is read from the arguments by `main`, and only named here."""
    return [
        click.Option(["--json", "as_json"], is_flag=True, help="print JSON and nothing else"),
        click.Option(["--debug"], is_flag=True, expose_value=False, help="show where an error came from"),
    ]


@click.group(
    cls=Commands, help=INTRO, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]},
    params=[click.Option(["--debug"], is_flag=True, expose_value=False, help="show where an error came from")],
)
@click.version_option(__version__, message="SD-Reverie %(version)s")
@click.pass_context
def command(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def run(argv: list[str]) -> int:
    """Run one command line; the exit code. Errors a person can act on become one sentence on standard error."""
    debug = "--debug" in argv
    try:
        result = command.main(argv, prog_name="reverie", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        return _say(_usage(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `reverie library list | head`: nobody reads on
        return 0
    except (click.Abort, KeyboardInterrupt):
        return _say("Stopped.", Interrupted.exit_code)
    except ReverieError as error:
        if debug:
            raise
        return _say(str(error), error.exit_code)
    except Exception as error:
        if debug:
            raise
        return _say(f"This is a bug: {type(error).__name__}: {error}. Run it again with --debug and report what it prints.", 1)


def main() -> None:
    interrupts.listen()
    sys.exit(run(sys.argv[1:]))


def _usage(error: click.ClickException) -> str:
    sentence = error.format_message()
    sentence += "" if sentence.endswith((".", "?")) else "."
    ctx = getattr(error, "ctx", None)
    return f"{sentence} See: {ctx.command_path} --help" if ctx else sentence


def _say(sentence: str, code: int) -> int:
    click.echo(sentence, err=True)
    return code


if __name__ == "__main__":
    main()
