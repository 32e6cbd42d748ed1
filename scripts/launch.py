"""Cell 4: start what was chosen. A WebUI is started, waited for and shown with its log and its addresses; without one this looks at
the machine and starts the engine's worker once to see that it answers. Whatever is started here ends with the notebook."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import cells

ANSWER_S = 120
OURS = ("webui", "tunnel")  # parameters that are heard in an open notebook too; there, other names are the person's own business
HEADLESS = ("webui", "tunnel", "tunnel_order", "port", "launch_options")


def main(namespace: dict) -> None:
    """Where this runs, what it may do, and what was chosen: a WebUI, or the studio's own engine."""
    given = cells.parameters(namespace)
    with cells.plainly():
        from reverie.host import platform

        where = platform.here()
        print(f"{where.name}: {machine()}")
        for line in filter(None, (where.policy, where.notes, guarded())):
            print(line)
        choices = chosen(given)
        if choices.webui:
            return start(choices, given, where)
        name = cells.chosen(given).get("engine", "diffusers")
        print(f"engine {name}: {answers() if cells.headless() else draws(name)}; no WebUI was chosen, nothing stays running")


def guarded() -> str:
    """What is made here is copied to where the platform keeps it, before it ends the run."""
    from reverie import settings
    from reverie.host import outputs_sync

    return outputs_sync.guard(settings.load())


def chosen(given: dict):
    """Cell 2's choices, under the parameters that are about the start."""
    from reverie.host import choices

    heard = HEADLESS if cells.headless() else OURS
    return choices.with_parameters(choices.load(), {name: given[name] for name in heard if name in given})


def start(choices, given: dict, where) -> None:
    """The WebUI's panel where somebody looks, and the cell returns; else it is started and waited for."""
    from reverie import settings
    from reverie.faces.widgets import launch
    from reverie.host import webuis

    here = settings.load()
    ui = webuis.find(choices.webui)
    if cells.headless():
        launch.run_headless(ui, here, choices, choices.tunnel and "tunnel" in given, print)
    else:
        cells.show(launch.panel_for(ui, here, choices, where.policy).widget)


def machine() -> str:
    import psutil

    memory = psutil.virtual_memory()
    return f"{psutil.cpu_count()} cores, {memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GB of memory free, {card()}"


def card() -> str:
    """The NVIDIA card by name, asked of the driver's tool."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return "no NVIDIA card"
    try:
        query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, timeout=10).stdout.strip().replace("\n", "; ") or "no NVIDIA card"
    except (OSError, subprocess.TimeoutExpired):
        return "the NVIDIA driver does not answer"


def answers(within_s: float = ANSWER_S) -> str:
    """The worker process starts, and ends when its input does: the quick check, without loading a model."""
    from reverie import settings
    from reverie.errors import EngineFailed

    command = [sys.executable, "-m", "reverie.engines.worker"]
    env = {**os.environ, "PYTHONPATH": str(settings.load().root / "modules")}
    quiet = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    try:
        done = subprocess.run(command, **quiet, timeout=within_s, env=env)
    except subprocess.TimeoutExpired:
        later = "Run this cell again when the machine is less busy."
        raise EngineFailed(f"The engine's worker does not answer within {within_s} s.", later) from None
    if done.returncode:
        raise EngineFailed(f"The engine's worker does not start: {done.stderr.strip()[-300:]}.", "Run: python3 scripts/setup.py --again")
    return "its worker starts"


def draws(name: str) -> str:
    """One step of one small picture by the embedded model, through the engine itself."""
    from reverie import engines, settings
    from reverie.types import Task

    started = time.monotonic()
    engine = engines.open_engine(name, settings.load())
    try:
        task = Task(prompt="a house by the sea", model="pocket", width=64, height=64, steps=1)
        engine.run(task, [], lambda progress: None, lambda: False)
        return f"it drew on {engine.capabilities()['device']}, {time.monotonic() - started:.0f} s with loading"
    finally:
        engine.close()


if __name__ == "__main__":
    main({})
