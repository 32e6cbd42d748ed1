"""An engine for tests of everything above engines: pictures at once, misbehaviour on request."""

import threading
import time

from PIL import Image

from reverie.engines import Picture, Progress
from reverie.errors import Cancelled, EngineFailed, OutOfMemory


class FlatEngine:
    """Pictures of one colour that follows from the seed. `prompt` steers: 'slow', 'fails', 'bug', 'short', 'memory', 'together'
    (waits until as many are drawn as it does at once)."""

    def __init__(self, at_once=1):
        self.made, self.closed, self._at_once = [], 0, at_once
        self._turns, self._together = threading.Semaphore(at_once), threading.Barrier(at_once, timeout=60)

    def capabilities(self):
        return {"name": "flat", "kinds": ["txt2img"], "samplers": ["euler"], "at_once": self._at_once}

    def run(self, task, inputs, emit, cancelled):
        with self._turns:
            return self._run(task, emit, cancelled)

    def _run(self, task, emit, cancelled):
        if "together" in task.prompt:
            self._together.wait()
        for step in range(200 if "slow" in task.prompt else 2):
            if cancelled():
                raise Cancelled("Cancelled.")
            emit(Progress(step / 200, b"jpeg"))
            time.sleep(0.02 if "slow" in task.prompt else 0)
        if "memory" in task.prompt:
            raise OutOfMemory("The device is full.", "Try 512x512.")
        if "fails" in task.prompt:
            time.sleep(0.2)  # so that whoever follows can stop before all have failed
            raise EngineFailed("It failed.", "Try another.")
        if "bug" in task.prompt:
            raise KeyError("x")
        self.made.append(task)
        count = 0 if "short" in task.prompt else task.count
        return [Picture(Image.new("RGB", (task.width, task.height), ((task.seed + i) % 256, 0, 0)), task.seed + i) for i in range(count)]

    def close(self):
        self.closed += 1
