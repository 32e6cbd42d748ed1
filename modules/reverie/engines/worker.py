"""The process that holds the models: `python -m reverie.engines.worker`. It ends at the end of its standard input.

Reads messages (see `_messages`) from standard input, writes them to what was standard output; everything that libraries
print goes to standard error, which the engine sends to a log file.

    in    {op: run, id, task, model, fingerprint, additions, inputs, assets, cache}    {op: cancel, id}
    out   {type: hello, device}   {type: progress, id, fraction, note} + JPEG   {type: picture, id, seed, …} + RGB bytes
          {type: done, id}        {type: error, id, error, what, next_step}
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
import traceback
from pathlib import Path

from reverie.engines import _messages
from reverie.errors import Cancelled, EngineFailed, OutOfMemory, ReverieError

log = logging.getLogger("reverie.worker")


class Worker:
    """One device, at most one model in memory, one task at a time."""

    def __init__(self, out, options: dict):
        self.out = out
        self.options = options
        self.device = None
        self.loaded = None
        self.job = None
        self.cancelled_ids: set[int] = set()
        self._write_lock = threading.Lock()

    def send(self, head: dict, *blobs: bytes) -> None:
        with self._write_lock:
            _messages.write(self.out, head, *blobs)

    def cancelled(self) -> bool:
        return self.job in self.cancelled_ids

    def serve(self, messages: queue.Queue) -> None:
        """Do what comes, until the process ends."""
        while True:
            head = messages.get()
            self.job = head["id"]
            try:
                self._run(head)
                self.send({"type": "done", "id": self.job})
            except Exception as error:
                self._report(error)
            self.cancelled_ids.discard(self.job)
            self.job = None

    def _run(self, head: dict) -> None:
        from reverie.engines import _accelerate, _additions, _painting
        from reverie.types import Task

        if self.cancelled():
            raise Cancelled("Cancelled.")
        task = Task.model_validate(head["task"])
        self._open_device()
        way, said = _accelerate.way_for(self.options.get("accelerate", ""), self.device, task, head["additions"])
        plan = self._load_for(task, head, way)
        _additions.put_on(self.loaded, head["additions"])
        recipe = {"engine": "diffusers", "device": self.device.label, "model_title": self.loaded.model.title}

        def emit(fraction: float, preview: bytes, note: str) -> None:
            self.send({"type": "progress", "id": self.job, "fraction": fraction, "note": note}, preview)

        inputs = [Path(path) for path in head["inputs"]]
        for image, seed in _painting.paint(self.loaded, task, inputs, plan, emit, self.cancelled, said):
            size = {"width": image.width, "height": image.height}
            self.send({"type": "picture", "id": self.job, "seed": seed, "recipe": recipe, **size}, image.tobytes())

    def _open_device(self) -> None:
        if self.device is not None:
            return
        from reverie.engines import _device

        self.device = _device.choose(self.options.get("device", "auto"), self.options.get("dtype", "auto"))
        _device.limit_memory(self.options.get("hard_limit_gb", 0))
        self.send({"type": "hello", "device": self.device.label})

    def _load_for(self, task, head: dict, way: str):
        """Plan first, so that what cannot fit is refused before anything is allocated; then load if need be."""
        from reverie.engines import _accelerate, _device, _loading, _painting, _plan
        from reverie.models import Model

        model = Model(**{**head["model"], "path": Path(head["model"]["path"])})
        assets = Path(head["assets"])
        vae = next((addition for addition in head["additions"] if addition["kind"] == "vae"), None)
        fingerprint = (head["fingerprint"], vae and vae["fingerprint"], way)
        same = self.loaded is not None and self.loaded_print == fingerprint
        if not same:
            self._unload()
        shape = self.loaded.shape if same else _loading.shape_of(model, self.device, assets)
        free = _device.free_bytes(self.device)
        if self.options.get("memory_gb"):
            free = min(free, int(self.options["memory_gb"] * _plan.GIB))
        free -= sum(Path(addition["path"]).stat().st_size for addition in head["additions"])
        plan = _plan.plan(
            shape,
            free=free,
            kind=self.device.kind,
            width=task.width,
            height=task.height,
            count=task.count,
            loaded=same and not self.loaded.offloaded,
            batch=self.options.get("batch", 0),
        )
        if same and plan.offload and not self.loaded.offloaded:
            self._unload()
            same = False
        if not same:
            first, cache = head["fingerprint"], Path(head["cache"])
            note = f"loading {model.title}{_accelerate.loading_note(way, first, self.device, cache)}"
            self.send({"type": "progress", "id": self.job, "fraction": 0.0, "note": note}, b"")
            path = vae and Path(vae["path"])
            self.loaded = _painting.load(model, self.device, shape, assets, plan, self.cancelled, path, way, first, cache)
            self.loaded_print = fingerprint
        else:
            self.loaded.model = model
        return plan

    def _unload(self) -> None:
        from reverie.engines import _painting

        self.loaded = None
        _painting.release(self.device)

    def _report(self, error: Exception) -> None:
        from reverie.engines import _painting

        if not isinstance(error, (ReverieError,)) and _painting.is_memory_error(error):
            log.warning("out of memory: %s", error)
            error = OutOfMemory("The memory ran out.", "Choose a smaller model or size, or close other programs.")
        if not isinstance(error, ReverieError):
            log.error("job=%s %s", self.job, traceback.format_exc())
            first = (str(error).strip().splitlines() or [""])[0][:300]
            error = EngineFailed(f"The diffusers engine failed: {type(error).__name__}: {first}", "The log has more.")
        fields = {"error": type(error).__name__, "what": error.what, "next_step": error.next_step}
        error.__traceback__ = None  # its frames hold the pictures and latents of the broken run
        self.send({"type": "error", "id": self.job, **fields})


def listen(stream, worker: Worker, messages: queue.Queue) -> None:
    """Read until the parent is gone; then end at once, even in the middle of a step."""
    while True:
        try:
            message = _messages.read(stream)
        except (OSError, ValueError):
            message = None
        if message is None:
            os._exit(0)
        head, _ = message
        if head["op"] == "cancel":
            worker.cancelled_ids.add(head["id"])
        else:
            messages.put(head)


def main() -> None:
    """Take standard output for the messages, send everybody else's prints to standard error, and serve."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    messages: queue.Queue = queue.Queue()
    worker = Worker(out, json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})
    listener = threading.Thread(target=listen, args=(sys.stdin.buffer, worker, messages), daemon=True)
    listener.start()
    try:
        worker.serve(messages)
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    main()
