"""The engine's side of the pipe, with a worker that draws nothing: what it asks for, it also takes back."""

import os
import signal
import sys
import threading
import time
from dataclasses import replace

import pytest

from reverie import settings
from reverie.engines import diffusers
from reverie.errors import OutOfMemory, StoreFailed
from reverie.types import Task

WORKER = """
import os, queue, sys, threading, time
from reverie.engines import _messages

jobs, cancelled = queue.Queue(), set()

def say(kind, number, **more):
    _messages.write(sys.stdout.buffer, {"type": kind, "id": number, **more}, *[b""] * (kind == "progress"))

def listen():
    while message := _messages.read(sys.stdin.buffer):
        head = message[0]
        cancelled.add(head["id"]) if head["op"] == "cancel" else jobs.put((head["id"], head["task"]["prompt"]))
    os._exit(0)

threading.Thread(target=listen, daemon=True).start()
while True:
    number, prompt = jobs.get()
    while prompt == "endless" and number not in cancelled:
        say("progress", number, fraction=0.1, note="")
        time.sleep(0.01)
    if prompt == "large":
        say("error", number, error="OutOfMemory", what="Too large.", next_step="")
    say("done", number)
"""


COMMAND = (sys.executable, "-c", WORKER)


@pytest.fixture
def engine(tmp_path):
    engine = diffusers.DiffusersEngine(replace(settings.load(), storage=tmp_path), {"device": "cpu"}, COMMAND)
    yield engine
    engine.close()


def run(engine, prompt, emit=lambda progress: None):
    return engine.run(Task(prompt=prompt), [], emit, lambda: False)


@pytest.mark.parametrize("error", [RuntimeError, StoreFailed])
def test_job_whose_listener_failed_does_not_hold_up_the_next(engine, error):
    def fail(progress):
        raise error("The listener failed.")

    with pytest.raises(error):
        run(engine, "endless", fail)
    next_one = threading.Thread(target=run, args=(engine, "next"), daemon=True)
    next_one.start()
    next_one.join(60)
    assert not next_one.is_alive()


def test_error_of_the_worker_leaves_it_ready_for_the_next(engine):
    with pytest.raises(OutOfMemory, match="Too large"):
        run(engine, "large")
    pid = engine.pid
    assert run(engine, "next") == [] and engine.pid == pid


def test_worker_that_is_gone_is_started_again(engine):
    run(engine, "first")
    os.kill(engine.pid, signal.SIGKILL)
    while engine.pid:
        time.sleep(0.01)
    assert run(engine, "next") == []
