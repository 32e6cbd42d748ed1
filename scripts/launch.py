"""Cell 4: start what was chosen. In-process generation needs no server: this looks at the machine, starts the engine's worker
once to see that it answers, and ends it. Nothing is left running, so there is nothing to stop."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import cells

ANSWER_S = 120


def main(namespace: dict) -> None:
    """Where this runs, what it may do, and whether the engine answers: with a real small picture in an open notebook."""
    given = cells.parameters(namespace)
    with cells.plainly():
        from reverie.host import platform

        where = platform.here()
        print(f"{where.name}: {machine()}")
        for line in filter(None, (where.policy, where.notes)):
            print(line)
        name = cells.chosen(given).get("engine", "diffusers")
        print(f"engine {name}: {answers() if cells.headless() else draws(name)}; no server is configured, nothing stays running")


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
