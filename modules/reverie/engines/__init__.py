"""Engines turn a task into pictures. An engine is one module in this folder with a function `open_engine(settings, **options)`.

The protocol is small on purpose; `tests/engines/contract.py` holds every engine to it.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Protocol

from reverie.errors import BadInput
from reverie.types import Task


@dataclass(frozen=True)
class Progress:
    """One step of a task: `fraction` 0..1, `preview` a small JPEG or empty, `note` one line for people or empty."""

    fraction: float
    preview: bytes = b""
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """One finished picture: RGB pixels as a Pillow image, its seed, and what the engine adds to the recipe."""

    image: Any
    seed: int
    recipe: dict[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """`run` blocks until done and returns `task.count` pictures, in the order of their seeds.

    It calls `emit(Progress)` at least once a step and looks at `cancelled()` at least as often; when that says True it
    raises Cancelled within one step. Errors are ReverieErrors (OutOfMemory, WorkerDied, ModelMissing, EngineFailed).
    After an error the engine is usable again. `inputs` are the files of the task's input assets, in order; of a task
    with `retouch`, the part to paint and its mask, at the task's size: the studio puts what comes back into the start picture.
    `close` ends every process the engine started; calling it twice is harmless.

    `capabilities` may say `at_once`, how many tasks it does at the same time (1 if it does not). `run` may be called from any
    thread; beyond that number it waits. What happens to one task (cancelled, failed, a crash) happens to that one only.
    """

    def capabilities(self) -> dict[str, Any]: ...

    def run(
        self, task: Task, inputs: list[Path], emit: Callable[[Progress], None], cancelled: Callable[[], bool]
    ) -> list[Picture]: ...

    def close(self) -> None: ...


def names() -> list[str]:
    """Engines found in this folder: every module with `open_engine` (a module whose name starts with `_` is none)."""
    return [m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_") and m.name != "worker"]


def open_engine(name: str, settings, **options) -> Engine:
    """The engine called `name`, ready to run. BadInput if there is none of that name."""
    check_name(name)
    return importlib.import_module(f"reverie.engines.{name}").open_engine(settings, **options)


def check_name(name: str) -> None:
    """BadInput if there is no engine of that name."""
    if name not in names():
        raise BadInput(f"There is no engine '{name}'.", f"Choose one of: {', '.join(names())}.")
