"""Pictures by the diffusers library, in a worker process of its own: a crash there ends a job, not the notebook.

This side never imports torch. It starts `python -m reverie.engines.worker` when the first task comes, starts it again
after a crash, and speaks with it over its standard input and output (see `_messages`).
"""

from __future__ import annotations

import atexit
import dataclasses
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable

from reverie import additions, errors, models
from reverie.engines import Picture, Progress, _accelerate, _messages, _schedulers
from reverie.engines._loading import KINDS
from reverie.errors import BadInput, Cancelled, WorkerDied
from reverie.types import Task

log = logging.getLogger(__name__)

LOG_LIMIT = 4 << 20
CANCEL_WAIT_S = 2.0  # after that the step's end is no longer waited for; the worker finishes it alone
CLOSE_WAIT_S = 3.0
_OUTSIDE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
_EXITS = {
    "SIGKILL": "Probably the machine ran out of memory: choose a smaller size, fewer pictures at once or a smaller model.",
    "SIGTERM": "Somebody ended it: run the job again.",
}


def open_engine(settings, device: str = "auto", accelerate: str | None = None, **options) -> DiffusersEngine:
    """An engine on `device` (auto, cpu, cuda:0, mps). The worker starts with the first task.

    Options: `dtype` (auto, float32, bfloat16, float16), `memory_gb` (plan as if only that much were free),
    `hard_limit_gb` (the worker may not take more than that beyond its start), `batch` (pictures at once, 0: chosen).
    `accelerate` is one of `_accelerate.WAYS`, by default what the settings say. BadInput where it is none of them.
    """
    way = _accelerate.check(settings.accelerate if accelerate is None else accelerate)
    return DiffusersEngine(settings, {"device": device, "accelerate": way, **options})


class DiffusersEngine:
    """See `engines.Engine`. One task at a time; a second `run` waits for the first."""

    def __init__(self, settings, options: dict[str, Any]):
        self._settings = settings
        self._options = options
        self._process: subprocess.Popen | None = None
        self._messages: queue.Queue = queue.Queue()
        self._device = ""
        self._job = 0
        self._turn = threading.Lock()
        atexit.register(self.close)

    @property
    def log_file(self) -> Path:
        name = str(self._options.get("device", "auto")).replace(":", "-")
        return self._settings.storage / "logs" / f"worker-{name}.log"

    @property
    def pid(self) -> int | None:
        """The worker's process id, None while there is none."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def capabilities(self) -> dict[str, Any]:
        """What it can do; the device is known once a task has run."""
        return {
            "name": "diffusers",
            "kinds": list(KINDS),
            "families": ["pocket", "sd15", "sd21", "sdxl"],
            "samplers": _schedulers.names(),
            "previews": True,
            "batches": True,
            "additions": list(additions.KINDS),
            "device": self._device or self._options.get("device", "auto"),
        }

    def run(self, task: Task, inputs: list[Path], emit: Callable, cancelled: Callable[[], bool]) -> list[Picture]:
        """The task's pictures, in the order of their seeds. Errors: see `engines.Engine`."""
        if task.kind not in KINDS:
            raise BadInput(f"The diffusers engine does not do '{task.kind}'.", f"It does: {', '.join(KINDS)}.")
        _schedulers.canonical(task.sampler)
        model = models.find(task.model, self._settings)
        added = additions.of(task, model, self._settings)
        with self._turn:
            if cancelled():
                raise Cancelled("Cancelled before it began.")
            self._start()
            self._job += 1
            self._ask(task, model, added, inputs)
            try:
                return self._follow(self._job, emit, cancelled)
            except BaseException:  # cancelled, Ctrl-C, or `emit` failed: nobody waits for the rest of the job
                self._forget(self._job)
                raise

    def close(self) -> None:
        """End the worker: its standard input closes, and it goes; if not within 3 s it is killed."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.stdin.close()
        except OSError:
            pass
        try:
            process.wait(CLOSE_WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(CLOSE_WAIT_S)
        atexit.unregister(self.close)

    # ------------------------------------------------------------------------------------------------ the worker

    def _start(self) -> None:
        if self.pid is not None:
            return
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        if self.log_file.exists() and self.log_file.stat().st_size > LOG_LIMIT:
            self.log_file.unlink()
        self._messages = queue.Queue()
        with open(self.log_file, "ab") as log_stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "reverie.engines.worker", json.dumps(self._options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_stream,
                env=_environment(),
                # A Ctrl-C in the terminal reaches the whole group: the worker must hear of it from this side only.
                start_new_session=os.name == "posix",
            )
        reader = threading.Thread(target=_read_all, args=(self._process.stdout, self._messages), daemon=True)
        reader.start()
        log.info("worker started pid=%s log=%s", self._process.pid, self.log_file)

    def _ask(self, task: Task, model, added, inputs: list[Path]) -> None:
        head = {
            "op": "run",
            "id": self._job,
            "task": task.model_dump(mode="json"),
            "model": {**dataclasses.asdict(model), "path": str(model.path)},
            "fingerprint": models.fingerprint(model),
            "additions": [
                {**dataclasses.asdict(one), "path": str(one.path), "fingerprint": one.fingerprint} for one in added
            ],
            "inputs": [str(path) for path in inputs],
            "assets": str(self._settings.assets),
            "cache": str(self._settings.storage / "cache"),
        }
        self._send(head)

    def _send(self, head: dict) -> None:
        try:
            _messages.write(self._process.stdin, head)
        except (OSError, ValueError):
            raise self._died() from None

    def _forget(self, job: int) -> None:
        """Tell the worker to leave off. To a job that has ended this means nothing."""
        if self.pid is None:
            return
        try:
            self._send({"op": "cancel", "id": job})
        except WorkerDied:
            log.warning("job=%s the worker was gone already", job)

    def _follow(self, job: int, emit: Callable, cancelled: Callable[[], bool]) -> list[Picture]:
        pictures: list[Picture] = []
        give_up = None
        while True:
            if give_up is None and cancelled():
                self._send({"op": "cancel", "id": job})
                give_up = time.monotonic() + CANCEL_WAIT_S
            if give_up is not None and time.monotonic() > give_up:
                raise Cancelled("Cancelled; the worker finishes its step.")
            try:
                message = self._messages.get(timeout=0.05)
            except queue.Empty:
                continue
            if message is None:
                raise self._died()
            head, blobs = message
            if head["type"] == "hello":
                self._device = head["device"]
            elif head.get("id") == job:  # else it belongs to a job that was given up
                if head["type"] == "done":
                    return pictures
                self._take(head, blobs, pictures, emit)

    def _take(self, head: dict, blobs: list[bytes], pictures: list[Picture], emit: Callable) -> None:
        if head["type"] == "progress":
            emit(Progress(head["fraction"], blobs[0], head["note"]))
        elif head["type"] == "picture":
            from PIL import Image

            image = Image.frombytes("RGB", (head["width"], head["height"]), blobs[0])
            pictures.append(Picture(image, head["seed"], head["recipe"]))
        elif head["type"] == "error":
            next_step = head["next_step"].replace("The log has more.", f"Details: {self.log_file}")
            raise errors.by_name(head["error"])(head["what"], next_step)

    def _died(self) -> WorkerDied:
        """The error for a worker that is gone, with the signal's name or the exit code."""
        process, self._process = self._process, None
        try:
            code = process.wait(CLOSE_WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait(CLOSE_WAIT_S)
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        remedy = _EXITS.get(name, f"Run the job again; if it happens again, look at {self.log_file}.")
        return WorkerDied(f"The worker process ended in the middle of the job ({name}).", remedy)


def _environment() -> dict[str, str]:
    """Where the package is, and nothing may be fetched behind the person's back."""
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, **_OUTSIDE, "PYTHONPATH": os.pathsep.join(paths)}


def _read_all(stream, messages: queue.Queue) -> None:
    """Every message of the worker into the queue; None when it is gone."""
    while True:
        try:
            message = _messages.read(stream)
        except (OSError, ValueError) as error:
            log.warning("worker's messages broke off: %s", error)
            message = None
        messages.put(message)
        if message is None:
            return
