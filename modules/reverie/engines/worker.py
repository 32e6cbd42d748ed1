"""The process that holds the models: `python -m reverie.engines.worker`. It ends at the end of its standard input.

Reads messages (see `_messages`) from standard input, writes them to what was standard output; everything that libraries
print goes to standard error, which the engine sends to a log file.

    in    {op: run, id, key, task, model, fingerprint, additions, inputs, tiny, assets, cache}    {op: cancel, id}    {op: empty}
    out   {type: hello, device, memory}    {type: holds, models: {key: model's id}}
          {type: progress, id, fraction, note} + JPEG   {type: picture, id, seed, …} + RGB bytes
          {type: done, id}        {type: error, id, error, what, next_step}

Ids rise; `key` names what is loaded: a model, its VAE, its refiner.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import queue
import sys
import threading
import traceback
from pathlib import Path

from reverie.engines import _messages
from reverie.errors import Cancelled, EngineFailed, OutOfMemory, ReverieError, first_line
from reverie.families import FAMILIES

log = logging.getLogger("reverie.worker")
WAY_MARK = " by "  # in the key of a model in memory, before the way in which it is drawn


class Worker:
    """One device, the models that it keeps there and beside it (see `_cache`), one task at a time."""

    def __init__(self, out, options: dict):
        self.out = out
        self.options = options
        self.device = None
        self.cache = None
        self.job = 0
        self._told: dict[str, str] = {}
        self._sent = 0  # pictures of this job
        self._ended = 0
        self._cancelled: set[int] = set()
        self._ids_lock = threading.Lock()
        self._write_lock = threading.Lock()

    def send(self, head: dict, *blobs: bytes) -> None:
        with self._write_lock:
            _messages.write(self.out, head, *blobs)

    def cancel(self, job: int) -> None:
        """Leave off that job, now or when it comes. To one that has ended this means nothing."""
        with self._ids_lock:
            if job > self._ended:
                self._cancelled.add(job)

    def cancelled(self) -> bool:
        return self.job in self._cancelled

    def serve(self, messages: queue.Queue) -> None:
        """Do what comes, until the process ends."""
        while True:
            self.do(messages.get())

    def do(self, head: dict) -> None:
        """One message: a job from its beginning to its end, or all models let go."""
        if head["op"] == "empty":
            if self.cache:
                self.cache.drop_others("")
            self._tell_held()
            return
        self.job, self._sent = head["id"], 0
        try:
            self._run(head)
            end = {"type": "done", "id": self.job}
        except Exception as error:
            end = self._report(error)
        self._tell_held()
        self.send(end)
        with self._ids_lock:
            self._ended = self.job
            self._cancelled = {job for job in self._cancelled if job > self._ended}

    def _run(self, head: dict) -> None:
        from reverie.engines import _painting
        from reverie.types import Task

        if self.cancelled():
            raise Cancelled("Cancelled.")
        task = Task.model_validate(head["task"])
        self._open_device()
        self._choose_way(task, head)
        plan = self._make_room(task, head)
        try:
            return self._paint(task, head, plan)
        except Exception as error:
            full = isinstance(error, OutOfMemory) or _painting.is_memory_error(error)
            full = full and "cuda" not in str(error).lower()  # on a card lies only this model
            if not full or self._sent or not (gone := self.cache.drop_others(head["key"])):
                raise
            log.warning("job=%s memory ran out (%s); once more without %s", self.job, error, ", ".join(gone))
        _painting.release(self.device)  # what the broken run held, now that its error is gone too
        self._paint(task, head, self._make_room(task, head))

    def _open_device(self) -> None:
        if self.device is not None:
            return
        import torch

        from reverie.engines import _cache, _device, _plan

        self.device = _device.choose(self.options.get("device", "auto"), self.options.get("dtype", "auto"))
        workers = self.options.get("workers", 1)
        if self.device.kind == "cpu" and workers > 1:
            torch.set_num_threads(max(1, torch.get_num_threads() // workers))
        limit, budget = self.options.get("cache_gb"), self.options.get("memory_gb") or 0
        limit = None if limit is None else int(limit * _plan.GIB)
        self.cache = _cache.Cache(_cache.Memory(self.device), limit, int(budget * _plan.GIB), workers)
        _device.limit_memory(self.options.get("hard_limit_gb", 0))
        self.send({"type": "hello", "device": self.device.label, "memory": _device.total_bytes(self.device)})

    def _choose_way(self, task, head: dict) -> None:
        """How the job is drawn (see `_accelerate`): the same model is another one in memory when it is drawn in another way."""
        from reverie.engines import _accelerate

        flow = FAMILIES[head["model"]["family"]].flow
        head["way"], head["remark"] = _accelerate.way_for(self.options.get("accelerate", ""), self.device, task, head["additions"], flow)
        head["key"] = f"{head['key']}{WAY_MARK}{head['way']}" if head["way"] else head["key"]

    def _make_room(self, task, head: dict):
        """The plan first, so that what cannot fit is refused before anything is allocated; other models go if they are in its way."""
        from reverie.engines import _additions, _plan

        held = self.cache.get(head["key"])
        shape = held.loaded.shape if held else self._shape_of(head)
        more = _additions.bytes_of(head["additions"], self.device) - (held.added if held else 0)

        def plan(free: int, loaded: bool):
            return _plan.plan(
                shape,
                free=free - more,
                kind=self.device.kind,
                width=task.width,
                height=task.height,
                count=task.count,
                loaded=loaded,
                batch=self.options.get("batch", 0),
            )

        found, gone = self.cache.make_room(head["key"], shape.weights + max(0, more), plan)
        if gone:
            self._note(f"{', '.join(gone)} made room for {head['model']['title']}")
        return found

    def _paint(self, task, head: dict, plan) -> None:
        from reverie.engines import _additions, _painting

        held = self._hold(head, plan)
        self._tell_held()
        held.added = max(held.added, _additions.bytes_of(head["additions"], self.device))
        _additions.put_on(held.loaded, head["additions"])
        held.added = _additions.bytes_of(head["additions"], self.device)
        recipe = {"engine": "diffusers", "device": self.device.label, "model_title": held.loaded.model.title}

        def emit(fraction: float, preview: bytes, note: str) -> None:
            self.send({"type": "progress", "id": self.job, "fraction": fraction, "note": note}, preview)

        inputs = [Path(path) for path in head["inputs"]]
        for image, seed in _painting.paint(held.loaded, task, inputs, plan, emit, self.cancelled, head["remark"]):
            size = {"width": image.width, "height": image.height}
            self.send({"type": "picture", "id": self.job, "seed": seed, "recipe": recipe, **size}, image.tobytes())
            self._sent += 1

    def _hold(self, head: dict, plan):
        """The model in memory: from the cache, else from its files."""
        from reverie.engines import _accelerate, _cache, _painting

        key, model = head["key"], _model(head)
        if (held := self.cache.get(key)) and held.loaded.groups != plan.groups:
            self.cache.drop(key)  # its layers wait each for itself, or as a whole: that is decided when they are loaded
        elif held:
            held = self.cache.bring(key, plan.offload)
            held.loaded.model = model
            return held
        prepared = _accelerate.loading_note(head["way"], head["fingerprint"], self.device, Path(head["cache"]))
        self._note(f"loading {model.title}{prepared}")
        wanted = _painting.Wanted(
            model,
            self._shape_of(head),
            vae=_path_of(head, "vae"),
            tiny=Path(head["tiny"]) if head["tiny"] else None,
            refiner=_refiner(head),
            way=head["way"],
            fingerprint=head["fingerprint"],
            cache=Path(head["cache"]),
        )
        loaded = _painting.load(wanted, self._device_of(model), Path(head["assets"]), plan, self.cancelled)
        return self.cache.put(key, _cache.Held(loaded, model.id, wanted.shape.weights))

    def _shape_of(self, head: dict):
        from reverie.engines import _loading, _plan

        assets, both = Path(head["assets"]), [one for one in (_model(head), _refiner(head)) if one]
        shapes = [_loading.shape_of(model, self._device_of(model), assets) for model in both]
        return functools.reduce(_plan.together, shapes)

    def _device_of(self, model):
        """The device, in the number formats that this model is fast and safe with."""
        return self.device.of(FAMILIES[model.family].flow)

    def _note(self, text: str) -> None:
        self.send({"type": "progress", "id": self.job, "fraction": 0.0, "note": text}, b"")

    def _tell_held(self) -> None:
        """The models that are held, by the keys that the engine knows: it does not know how each job is drawn."""
        held: dict[str, str] = {}
        for key, name in (self.cache.names() if self.cache else {}).items():
            plain = key.partition(WAY_MARK)[0]
            held = {**{other: held[other] for other in held if other != plain}, plain: name}
        if list(held) != list(self._told):
            self._told = held
            self.send({"type": "holds", "models": held})

    def _report(self, error: Exception) -> dict:
        """The message that ends a job that failed."""
        from reverie.engines import _painting

        if not isinstance(error, ReverieError) and _painting.is_memory_error(error):
            log.warning("out of memory: %s", error)
            error = OutOfMemory("The memory ran out.", "Choose a smaller model or size, or close other programs.")
        if not isinstance(error, ReverieError):
            log.error("job=%s %s", self.job, traceback.format_exc())
            error = EngineFailed(f"The diffusers engine failed: {type(error).__name__}: {first_line(error)}.", "The log has more.")
        error.__traceback__ = None  # its frames hold the pictures and latents of the broken run
        return {"type": "error", "id": self.job, "error": type(error).__name__, "what": error.what, "next_step": error.next_step}


def _model(head: dict):
    from reverie.models import Model

    return Model(**{**head["model"], "path": Path(head["model"]["path"])})


def _refiner(head: dict):
    from reverie import models

    path = _path_of(head, "refiner")
    return path and models.inspect(path)


def _path_of(head: dict, kind: str) -> Path | None:
    """The file or folder of the job's addition of that kind."""
    return next((Path(one["path"]) for one in head["additions"] if one["kind"] == kind), None)


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
            worker.cancel(head["id"])
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
