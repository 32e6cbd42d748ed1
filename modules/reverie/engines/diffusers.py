"""Pictures by the diffusers library, in a worker process per device: a crash there ends a job, not the notebook.

This side never imports torch. A worker starts when the first task comes to it (see `_remote`). Tasks from several threads
go to all workers at the same time: to one that has the model in memory before one that has not.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import re
import sys
import threading
from pathlib import Path
from typing import Any, Callable

from reverie import additions, models
from reverie.engines import Picture, _accelerate, _device, _remote, _schedulers
from reverie.errors import BadInput, Cancelled, OutOfMemory
from reverie.families import FAMILIES, KINDS
from reverie.types import Task

WORKER = (sys.executable, "-m", "reverie.engines.worker")


def open_engine(settings, device: str = "", accelerate: str | None = None, **options) -> DiffusersEngine:
    """An engine on `device`: auto (all NVIDIA cards, else what there is), cpu, cuda:0, mps, or several with commas between,
    one worker for each (default: the settings'). A worker starts with the first task that comes to it.

    Options: `dtype` (auto, float32, bfloat16, float16), `memory_gb` (a worker plans as if it had only that much for models
    and work), `hard_limit_gb` (a worker may not take more than that beyond its start), `batch` (pictures at once, 0: chosen),
    `cache_gb` (main memory for models that a worker keeps beside the one in use; 0: none; default: half of what is left).
    `accelerate` is one of `_accelerate.WAYS`, by default what the settings say; BadInput where it is none of them.
    """
    if options.get("cache_gb") is None:
        options["cache_gb"] = settings.cache_gb
    way = _accelerate.check(settings.accelerate if accelerate is None else accelerate)
    return DiffusersEngine(settings, {"device": device or settings.device, "accelerate": way, **options})


def devices(wanted: str, cards: Callable[[], int]) -> list[str]:
    """`'auto'` or `'cuda:0,cuda:1'` → the device of each worker. `cards()` says how many NVIDIA cards can be used.

    BadInput if one of them is no name of a device. (Whether it is here, its worker knows.)
    """
    names = [name.strip().lower() for name in wanted.split(",") if name.strip()] or ["auto"]
    for name in names:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
            raise BadInput(f"'{name}' is no device.", "Set REVERIE_DEVICE to auto, cpu, mps or cuda:0, or to several with commas between.")
    if names == ["auto"] and (number := cards()) > 1:
        return [f"cuda:{index}" for index in range(number)]
    return names


class DiffusersEngine:
    """See `engines.Engine`. As many tasks at once as it has workers; a further `run` waits until one is free."""

    def __init__(self, settings, options: dict[str, Any], command: tuple[str, ...] = WORKER):
        self._settings = settings
        names = devices(str(options.get("device", "auto")), _device.cuda_cards)
        self.workers: list[_remote.Remote] = []
        for name in names:
            own = {**options, "device": name, "workers": len(names)}
            self.workers.append(_remote.Remote(command, own, self._log_of(name)))
        self._free = list(self.workers)
        self._given_back = threading.Condition()
        atexit.register(self.close)

    def _log_of(self, device: str) -> Path:
        number = 1 + sum(worker.device == device for worker in self.workers)
        name = device.replace(":", "-") + (f"-{number}" if number > 1 else "")
        return self._settings.storage / "logs" / f"worker-{name}.log"

    @property
    def log_file(self) -> Path:
        """The first worker's log."""
        return self.workers[0].log_file

    @property
    def pid(self) -> int | None:
        """The first worker's process id, None while there is none."""
        return self.workers[0].pid

    def capabilities(self) -> dict[str, Any]:
        """What it can do. A device's number format is known once a task has run there; `loaded` says which models lie where."""
        return {
            "name": "diffusers",
            "kinds": list(KINDS),
            "families": list(FAMILIES),
            "samplers": _schedulers.names(),
            "previews": True,
            "batches": True,
            "additions": list(additions.KINDS),
            "at_once": len(self.workers),
            "device": ", ".join(worker.label or worker.device for worker in self.workers),
            "loaded": [list(worker.holds.values()) for worker in self.workers],
        }

    def run(self, task: Task, inputs: list[Path], emit: Callable, cancelled: Callable[[], bool]) -> list[Picture]:
        """The task's pictures, in the order of their seeds. Errors: see `engines.Engine`."""
        if task.kind not in KINDS:
            raise BadInput(f"The diffusers engine does not do '{task.kind}'.", f"It does: {', '.join(KINDS)}.")
        _schedulers.canonical(task.sampler)
        model = models.find(task.model, self._settings)
        head = self._ask(task, model, additions.of(task, model, self._settings), inputs)
        too_small: list[_remote.Remote] = []
        able = self.workers
        while True:
            worker = self._take(head["key"], able, cancelled)
            try:
                return self._run_on(worker, head, emit, cancelled)
            except OutOfMemory:
                too_small.append(worker)
                able = self._larger(too_small)
                if not able:
                    raise
            finally:
                self._give_back(worker)

    def close(self) -> None:
        """End the workers: their standard input closes, and they go; who does not within 3 s is killed."""
        for process in [worker.hang_up() for worker in self.workers]:
            if process is not None:
                _remote.end(process)
        atexit.unregister(self.close)

    # ------------------------------------------------------------------------------------------------ who does it

    def _take(self, key: str, able: list[_remote.Remote], cancelled: Callable[[], bool]) -> _remote.Remote:
        """A free one of the workers `able`, now the caller's alone. Waits for it; Cancelled when that is asked for meanwhile."""
        while True:
            if cancelled():
                raise Cancelled("Cancelled before it began.")
            with self._given_back:
                free = [worker for worker in able if worker in self._free]
                if free:
                    worker = min(free, key=functools.partial(self._preference, key))
                    self._free.remove(worker)
                    return worker
                self._given_back.wait(0.05)

    def _give_back(self, worker: _remote.Remote) -> None:
        with self._given_back:
            self._free.append(worker)
            self._given_back.notify_all()

    def _preference(self, key: str, worker: _remote.Remote) -> tuple:
        """The smallest goes first: who is idle, has the model, used it last, keeps the fewest others."""
        holds = worker.holds
        return not worker.is_idle(), key not in holds, key not in list(holds)[-1:], len(holds), self.workers.index(worker)

    def _larger(self, too_small: list) -> list:
        """Cards with more memory than those on which a task did not fit, or with nobody knows how much."""
        most = max(worker.memory for worker in too_small)
        others = [worker for worker in self.workers if worker not in too_small and worker.device.startswith("cuda")]
        return [worker for worker in others if not worker.memory or worker.memory > most]

    def _run_on(self, worker: _remote.Remote, head: dict, emit: Callable, cancelled: Callable[[], bool]) -> list[Picture]:
        """On this worker; where the memory that it shares with others is full of models that nobody uses now, without those."""
        try:
            return worker.run(head, emit, cancelled)
        except OutOfMemory:
            if not self._empty_beside(worker):
                raise
        return worker.run(head, emit, cancelled)

    def _empty_beside(self, worker: _remote.Remote) -> bool:
        with self._given_back:
            idle = [other for other in self._free if other.holds and not any("cuda" in one.device for one in (other, worker))]
            self._free = [other for other in self._free if other not in idle]
        for other in idle:
            other.empty()
            self._give_back(other)
        return bool(idle)

    def _ask(self, task: Task, model: models.Model, added: tuple[additions.Addition, ...], inputs: list[Path]) -> dict[str, Any]:
        own = models.fingerprint(model)
        parts = [one.fingerprint for one in added if one.kind in ("vae", "refiner")]
        return {
            "fingerprint": own,
            "key": " ".join([own, *parts]),  # of what is loaded: another VAE is another model
            "task": task.model_dump(mode="json"),
            "model": {**dataclasses.asdict(model), "path": str(model.path)},
            "additions": [{**dataclasses.asdict(one), "path": str(one.path), "fingerprint": one.fingerprint} for one in added],
            "inputs": [str(path) for path in inputs],
            "tiny": str(models.tiny_vae(model, self._settings) or ""),
            "assets": str(self._settings.assets),
            "cache": str(self._settings.storage / "cache"),
        }
