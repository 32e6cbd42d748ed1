"""The engine's side of the pipe, with a worker that draws nothing: what it asks for, it also takes back."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from reverie import settings
from reverie.engines import _device, diffusers
from reverie.errors import BadInput, OutOfMemory, StoreFailed
from reverie.types import Task

WORKER = """
import json, os, queue, sys, threading, time
from reverie.engines import _messages

jobs, cancelled = queue.Queue(), set()
device = json.loads(sys.argv[1])["device"]

def say(kind, number, **more):
    _messages.write(sys.stdout.buffer, {"type": kind, "id": number, **more}, *[b""] * (kind == "progress"))

def listen():
    while message := _messages.read(sys.stdin.buffer):
        head = message[0]
        cancelled.add(head["id"]) if head["op"] == "cancel" else jobs.put((head["id"], head["task"]["prompt"]))
    os._exit(0)

threading.Thread(target=listen, daemon=True).start()
_messages.write(sys.stdout.buffer, {"type": "hello", "device": device, "memory": {"cuda:0": 8, "cuda:1": 24, "cuda:2": 8}.get(device, 0)})
while True:
    number, prompt = jobs.get()
    while prompt == "stubborn" or prompt == "endless" and number not in cancelled:
        say("progress", number, fraction=0.1, note="")
        time.sleep(0.01)
    if prompt == "large" or prompt == "too large for 8" and device != "cuda:1":
        say("error", number, error="OutOfMemory", what="Too large.", next_step="")
    say("done", number)
"""


COMMAND = (sys.executable, "-c", WORKER)


@pytest.fixture
def opened(tmp_path):
    engines = []

    def opened(device):
        engines.append(diffusers.DiffusersEngine(replace(settings.load(), storage=tmp_path), {"device": device}, COMMAND))
        return engines[-1]

    yield opened
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(opened):
    return opened("cpu")


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


def test_what_does_not_fit_on_a_card_is_tried_on_a_larger_one_and_on_no_other(opened):
    engine = opened("cuda:0,cuda:1,cuda:2")
    assert run(engine, "too large for 8") == []
    with pytest.raises(OutOfMemory, match="Too large"):
        run(engine, "large")
    assert len({worker.pid for worker in engine.workers}) == 3 or engine.workers[2].pid is None
    assert len(engine._free) == 3 and run(engine, "next") == []


def test_a_worker_that_still_ends_the_step_of_a_job_that_was_given_up_gets_no_other_while_one_is_idle(opened):
    engine = opened("cpu,cpu")

    def fail(progress):
        raise RuntimeError("nobody listens")

    with pytest.raises(RuntimeError):
        run(engine, "stubborn", fail)
    assert run(engine, "next") == run(engine, "next") == []
    assert not engine.workers[0].is_idle() and engine.workers[1].is_idle()


@pytest.mark.parametrize("wanted, cards, expected", [
    ("auto", 0, ["auto"]), ("auto", 1, ["auto"]), ("auto", 3, ["cuda:0", "cuda:1", "cuda:2"]), ("", 2, ["cuda:0", "cuda:1"]),
    ("cuda", 2, ["cuda"]), ("cuda:1, cuda:0", 4, ["cuda:1", "cuda:0"]), ("cpu,cpu", 2, ["cpu", "cpu"]),
    (" CPU ,, Cuda:3", 2, ["cpu", "cuda:3"]),
])  # fmt: skip
def test_devices_of_the_workers(wanted, cards, expected):
    assert diffusers.devices(wanted, lambda: cards) == expected


@pytest.mark.parametrize("wanted, wrong", [("nonsense", "nonsense"), ("cpu,gpu", "gpu"), ("cpu;cpu", "cpu;cpu"), ("cpu:3", "cpu:3"), ("cuda:-1", "cuda:-1")])
def test_what_is_no_device_is_refused_before_a_worker_starts(wanted, wrong):
    with pytest.raises(BadInput, match=f"'{wrong}' is no device"):
        diffusers.devices(wanted, lambda: 0)


@pytest.mark.parametrize("wanted, number", [
    (None, 3), ("", 0), ("-1", 0), ("0,2", 2), ("2, 0", 2), ("0,-1,2", 1), ("0,7,1", 1), ("1,1", 1), ("GPU-b", 1), ("GPU-a,GPU-c", 2),
    ("GPU-x,GPU-a", 0), ("MIG-1,MIG-2", 1),
])  # fmt: skip
def test_cards_that_the_environment_hides_are_not_counted(wanted, number):
    assert len(_device.visible(["GPU-aaa", "GPU-bbb", "GPU-ccc"], wanted)) == number


def test_without_a_torch_for_cards_there_are_none(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho GPU-aaa\necho GPU-bbb\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert _device.cuda_cards() == (2 if _device._built_for_cuda() else 0)
    torch = tmp_path / "torch"
    torch.mkdir()
    (torch / "__init__.py").write_text("raise RuntimeError('nobody may import this')")
    code = "from reverie.engines import _device; print(_device.cuda_cards())"
    for line, number in (("cuda: Optional[str] = '12.8'", "2"), ("cuda: Optional[str] = None", "0"), ("cuda = '12.8'", "2")):
        (torch / "version.py").write_text(line)
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])}
        assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True).stdout.strip() == number
