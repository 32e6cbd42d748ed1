"""One worker process as its engine sees it: started with the first task, started again after a crash.

This side never imports torch. The two speak over the worker's standard input and output (see `_messages`, `worker`).
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable

from reverie import errors, settings
from reverie.engines import Picture, Progress, _messages
from reverie.errors import Cancelled, WorkerDied

log = logging.getLogger(__name__)

LOG_LIMIT = 4 << 20
CANCEL_WAIT_S = 2.0  # after that the step's end is no longer waited for; the worker finishes it alone
CLOSE_WAIT_S = 3.0
_EXITS = {
    "SIGKILL": "Probably the machine ran out of memory: choose a smaller size, fewer pictures at once or a smaller model.",
    "SIGTERM": "Somebody ended it: run the job again.",
}


class Remote:
    """A worker for one device. One task at a time: its engine sees to that."""

    def __init__(self, command: tuple[str, ...], options: dict[str, Any], log_file: Path):
        self.device = options["device"]
        self.log_file = log_file
        self.label = ""  # the device with its number format, once the worker has said it
        self.memory = 0  # the device's, in bytes, once the worker has said it
        self._holds: dict[str, str] = {}
        self._command = [*command, json.dumps(options)]
        self._process: subprocess.Popen | None = None
        self._messages: queue.Queue = queue.Queue()
        self._job = self._ended = 0  # the last job that was asked for, and the last that the worker has ended
        self._given_up = 0  # the last job that was left before its end, while the worker has not ended it

    @property
    def pid(self) -> int | None:
        """The worker's process id, None while there is none."""
        process = self._process
        return process.pid if process and process.poll() is None else None

    @property
    def holds(self) -> dict[str, str]:
        """Key → id of the models in its memory, the most recently used last."""
        return self._holds if self.pid is not None else {}

    def is_idle(self) -> bool:
        """False while it finishes the step of a job that was given up."""
        while self._given_up and not self._messages.empty():
            message = self._messages.get()
            if message is None:
                self._messages.put(None)
                break
            self._hear(message[0])
        return not self._given_up or self.pid is None

    def run(self, head: dict, emit: Callable, cancelled: Callable[[], bool]) -> list[Picture]:
        """The pictures of the task in `head`. Errors: see `engines.Engine`."""
        self._start()
        self._job += 1
        self._send({**head, "op": "run", "id": self._job})
        try:
            return self._follow(self._job, emit, cancelled)
        except BaseException:  # cancelled, Ctrl-C, or `emit` failed: nobody waits for the rest of the job
            self._forget(self._job)
            raise

    def empty(self) -> None:
        """Let the models go that it holds; returns when they are gone, or when that takes long."""
        process, give_up = self._process, time.monotonic() + CLOSE_WAIT_S
        if not self.holds:
            return
        try:
            _messages.write(process.stdin, {"op": "empty"})
        except (OSError, ValueError):
            return  # it is gone, and its models with it
        while self.holds and time.monotonic() < give_up:
            try:
                message = self._messages.get(timeout=0.05)
            except queue.Empty:
                continue
            if message is None:
                self._messages.put(None)
                return
            self._hear(message[0])

    def hang_up(self) -> subprocess.Popen | None:
        """Close the worker's standard input, at whose end it goes. Gives back the process, which is no longer this one's."""
        process, self._process = self._process, None
        if process is not None:
            try:
                process.stdin.close()
            except OSError:
                pass
        return process

    def _start(self) -> None:
        if self.pid is not None:
            return
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        if self.log_file.exists() and self.log_file.stat().st_size > LOG_LIMIT:
            self.log_file.unlink()
        self._messages, self._holds, self._given_up = queue.Queue(), {}, 0
        with open(self.log_file, "ab") as log_stream:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_stream,
                env=settings.child_environment(),
                # A Ctrl-C in the terminal reaches the whole group: the worker must hear of it from this side only.
                start_new_session=os.name == "posix",
            )
        reader = threading.Thread(target=_read_all, args=(self._process.stdout, self._messages), daemon=True)
        reader.start()
        log.info("worker started device=%s pid=%s log=%s", self.device, self._process.pid, self.log_file)

    def _send(self, head: dict) -> None:
        process = self._process
        try:
            if process is None:
                raise OSError("closed")
            _messages.write(process.stdin, head)
        except (OSError, ValueError):
            raise self._died() from None

    def _forget(self, job: int) -> None:
        """Tell the worker to leave off. To a job that has ended this means nothing."""
        if self.pid is None:
            return
        self._given_up = job if job > self._ended else 0
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
            self._hear(head)
            if head.get("id") == job:  # else it belongs to a job that was given up
                if head["type"] == "done":
                    return pictures
                self._take(head, blobs, pictures, emit)

    def _hear(self, head: dict) -> None:
        """What the worker says of itself."""
        if head["type"] == "hello":
            self.label, self.memory = head["device"], head.get("memory", 0)
        elif head["type"] == "holds":
            self._holds = head["models"]
        elif head["type"] in ("done", "error"):
            self._ended = head["id"]
            if self._ended >= self._given_up:
                self._given_up = 0

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
        if process is None:
            return WorkerDied("The engine was closed in the middle of the job.", "Run the job again.")
        name = _exit_of(process)
        remedy = _EXITS.get(name, f"Run the job again; if it happens again, look at {self.log_file}.")
        return WorkerDied(f"The worker process ended in the middle of the job ({name}).", remedy)


def end(process: subprocess.Popen) -> int:
    """Wait for a process that was told to go, at most 3 s, then kill it. Its exit code."""
    try:
        return process.wait(CLOSE_WAIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(CLOSE_WAIT_S)


def _exit_of(process: subprocess.Popen) -> str:
    code = end(process)
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


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
