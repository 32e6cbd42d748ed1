"""`reverie doctor`: look over this machine. Every check is one function and one line; it says what to do, and no secrets."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click

from reverie.errors import ReverieError, Unanswered
from reverie.faces import cli
from reverie.host import storage

MIN_FREE_GB, MIN_MEMORY_GB = 2, 2
ANSWER_S = 4  # a server that is well says at once which models it has
OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, whether it is well, what was found, and what to do if it is not."""

    name: str
    ok: bool
    found: str
    next_step: str = ""


class Doctor(click.Command):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        cli.write_examples(formatter, ("reverie doctor", "reverie doctor --json"))


def check_python(settings) -> Finding:
    return Finding("python", sys.version_info >= OLDEST_PYTHON, platform.python_version(), "Install Python 3.11 or newer.")


def check_platform(settings) -> Finding:
    from reverie.host import platform as platforms

    here = platforms.here()
    found = f"{here.name} ({platform.system()} {platform.release()}, {platform.machine()}), {os.cpu_count()} cores"
    return Finding("platform", True, f"{found}. {here.policy}" if here.policy else found)


def check_torch(settings) -> Finding:
    again = "Run: python3 scripts/setup.py"
    try:
        import torch
    except ImportError as error:
        return Finding("torch", False, f"does not load ({error})", again)
    if torch.cuda.is_available():
        return Finding("torch", True, f"{torch.__version__}, {torch.cuda.get_device_name(0)}")
    wasted = shutil.which("nvidia-smi") is not None
    advice = "There is an NVIDIA card; install a CUDA build of torch to use it."
    return Finding("torch", not wasted, f"{torch.__version__}, {torch.get_num_threads()} threads on the processor", advice)


def check_bf16(settings) -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("bf16", True, "yes, on the card" if torch.cuda.is_bf16_supported() else "no; float16 is used")
    flags = _cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"}
    return Finding("bf16", True, f"yes ({', '.join(sorted(flags))})" if flags else "not in this processor; float32 is used")


def check_memory(settings) -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    free = memory.available / 2**30
    return Finding("memory", free >= MIN_MEMORY_GB, f"{free:.1f} GB free of {memory.total / 2**30:.1f} GB", "Close other programs.")


def check_disk(settings) -> Finding:
    free = storage.free(settings.storage) / 1e9
    advice = "Free some space, or set REVERIE_STORAGE to a larger disk."
    return Finding("disk", free >= MIN_FREE_GB, f"{free:.1f} GB free for {settings.storage}", advice)


def check_storage(settings) -> Finding:
    folder = storage.nearest(settings.storage)
    advice = f"{folder} cannot be written: change its permissions or set REVERIE_STORAGE."
    return Finding("storage", _can_be_written(folder), str(settings.storage), advice)


def _can_be_written(folder: Path) -> bool:
    """Tried, since for root every folder looks writable, a read-only disk too."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def check_models(settings) -> Finding:
    from reverie import models

    here = [model.id for model in models.all(settings) if model.here]
    return Finding("models", bool(here), ", ".join(here) or "none", "See what to fetch: reverie models")


def check_database(settings) -> Finding:
    """SQLite's own check, read only: a doctor does not make or migrate a database."""
    if not settings.database.exists():
        return Finding("database", True, "none yet; the first run makes it")
    try:
        with closing(sqlite3.connect(f"{settings.database.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as db:
            verdict = db.execute("PRAGMA quick_check(3)").fetchone()[0]
            pictures = db.execute("SELECT count(*) FROM assets").fetchone()[0]
    except sqlite3.Error as error:
        if not _can_be_written(settings.database.parent):  # a sound one, too, is refused there: SQLite needs files beside it
            return Finding("database", False, str(error), f"It is as it was: make {settings.database.parent} writable, or set REVERIE_STORAGE.")
        verdict, pictures = str(error), 0
    advice = f"Move {settings.database} away and run again: the pictures are kept, the history starts anew."
    return Finding("database", verdict == "ok", f"sound, {pictures} pictures" if verdict == "ok" else verdict, advice)


def check_writer(settings) -> Finding:
    """Whether every language model that is set up answers and has its model; its address is nobody's business."""
    from reverie.language import model

    found, wrong = [], None
    for name in model.configured():
        server = replace(model.server(name), seconds=ANSWER_S)
        try:
            with model.LanguageModel(server) as asked:
                asked.check()
                found.append(f"{name} answers and has {asked.name}")
        except Unanswered as error:
            found.append(error.what.rstrip("."))
            wrong = wrong or error.next_step
    return Finding("writer", not wrong, "; ".join(found) or "no language model is set up; none is needed", wrong or "")


def check_fetching(settings) -> Finding:
    from reverie.host.fetch import aria2

    program = aria2.binary()
    return Finding("fetching", True, f"aria2c ({program})" if program else "no aria2c here; the built-in way takes its place")


def check_tokens(settings) -> Finding:
    """Which are set and where they come from, never what they are."""
    from reverie.host import secrets

    found = [f"{name} from {place}" for name in secrets.NAMES if (place := secrets.where(name))]
    none = "none is set; gated models of Hugging Face want HF_TOKEN, most of CivitAI's CIVITAI_TOKEN"
    return Finding("tokens", True, "; ".join(found) or none)


def check_webuis(settings) -> Finding:
    from reverie.host import webuis
    from reverie.host.launch import processes

    here = [ui.title for ui in webuis.all(settings) if webuis.is_installed(ui, settings)]
    at_work = [each.name for each in processes.running(settings)]
    found = ", ".join(here) or "none is installed; none is needed to draw in the notebook"
    return Finding("webuis", True, found + (f"; running: {', '.join(at_work)}" if at_work else ""))


CHECKS = (
    check_python, check_platform, check_torch, check_bf16, check_memory, check_disk, check_storage, check_models, check_database,
    check_fetching, check_tokens, check_webuis, check_writer,
)


def examine(settings=None) -> list[Finding]:
    """All findings; a check that cannot be made is a finding too."""
    from reverie import settings as settings_module

    settings = settings or settings_module.load()
    return [_try(check, settings) for check in CHECKS]


def show(as_json: bool) -> int:
    findings = examine()
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False, indent=2))
    else:
        tell(findings)
    return 0 if all(finding.ok for finding in findings) else 1


def tell(findings: list[Finding]) -> None:
    for finding in findings:
        mark = click.style("ok  ", fg="green") if finding.ok else click.style("warn", fg="yellow")
        click.echo(f"{mark}  {finding.name:<9} {finding.found}" + ("" if finding.ok else f"\n{' ' * 16}{finding.next_step}"))


def _try(check, settings) -> Finding:
    name = check.__name__.removeprefix("check_")
    try:
        return check(settings)
    except ReverieError as error:
        return Finding(name, False, error.what, error.next_step)
    except Exception as error:  # a driver's RuntimeError too: what one check meets must not end the others
        said = " ".join(str(error).split())[:200] or type(error).__name__
        return Finding(name, False, f"could not be looked at ({said})", "Run: python3 scripts/setup.py")


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.partition(":")[2].split()}


command = Doctor("doctor", params=cli.common_options(), callback=show, help="Look over this machine and say what to mend.")
