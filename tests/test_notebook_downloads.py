"""The real notebook under papermill, with a slow server of models: its kernel is killed in the middle of cell 3, and it is run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "host"))
import home  # noqa: E402
import setup  # noqa: E402
from hub_servers import Hubs  # noqa: E402
from test_downloads import LORA, SD15, tensors  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 600


def run(out: Path, env: dict[str, str], *parameters: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "papermill", str(ROOT / "notebook/Reverie.ipynb"), str(out), "--cwd", str(ROOT), "--no-progress-bar", *parameters]
    with open(out.with_suffix(".log"), "w") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **env})


def kernel_of(papermill: subprocess.Popen) -> psutil.Process:
    return next(child for child in psutil.Process(papermill.pid).children(recursive=True) if "ipykernel_launcher" in " ".join(child.cmdline()))


def staged_bytes(storage: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in (storage / "downloads").glob("*.part"))


def said(out: Path) -> str:
    return "".join(o.get("text", "") for cell in nbformat.read(out, as_version=4).cells for o in cell.get("outputs", []))


def test_killed_in_the_middle_of_cell_3_the_notebook_carries_on_and_draws(tmp_path):
    if not setup.is_done_here():
        pytest.skip("this Python was not set up by setup.py; cell 1 would install into it")
    storage = home.storage(tmp_path / "storage")
    (tmp_path / "tale.md").write_text("# Chapter 1\n\nA red boat lay by the sea at dawn.\n")
    one, two = tensors(*SD15, size=12_000_000), tensors(*LORA, size=2_000_000)
    with Hubs() as hubs:
        version = hubs.add_model("Dream", files={"dream.safetensors": one})
        links = f"{hubs.civitai}/api/download/models/{version}, lora:{hubs.add_file('ink.safetensors', two)}"
        given = ["-p", "text", str(tmp_path / "tale.md"), "-p", "steps", "2", "-p", "links", links]
        env = {**hubs.environment(), "REVERIE_STORAGE": str(storage), "REVERIE_HEADLESS": "1"}
        hubs.bytes_per_s = 40_000
        first = run(tmp_path / "first.ipynb", env, *given)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while staged_bytes(storage) < 3_000_000:
                assert time.monotonic() < deadline and first.poll() is None, (tmp_path / "first.log").read_text()[-2000:]
                time.sleep(0.05)
            kernel_of(first).send_signal(signal.SIGKILL)
            assert first.wait(timeout=PATIENCE_S) != 0
        finally:
            first.kill()
            first.wait()
        assert not (storage / "models/checkpoints/dream.safetensors").exists()
        there = staged_bytes(storage)

        hubs.expire()
        hubs.bytes_per_s, asked = 0, len(hubs.requests)
        second = run(tmp_path / "second.ipynb", env, *given)
        assert second.wait(timeout=PATIENCE_S) == 0, (tmp_path / "second.log").read_text()[-3000:]
        assert len(hubs.requests) > asked
    text = said(tmp_path / "second.ipynb")
    assert there >= 2_000_000 and "carry on" in text and "of it are here" in text
    assert (storage / "models/checkpoints/dream.safetensors").read_bytes() == one
    assert (storage / "models/loras/ink.safetensors").read_bytes() == two
    assert "storyboard: " in text


def test_a_link_that_leads_nowhere_ends_the_run_in_cell_3_with_its_sentence(tmp_path):
    if not setup.is_done_here():
        pytest.skip("this Python was not set up by setup.py; cell 1 would install into it")
    with Hubs() as hubs:
        env = {**hubs.environment(), "REVERIE_STORAGE": str(home.storage(tmp_path / "storage")), "REVERIE_HEADLESS": "1"}
        done = run(tmp_path / "out.ipynb", env, "-p", "links", f"lora:{hubs.storage}/none.safetensors")
        assert done.wait(timeout=PATIENCE_S) != 0
    errors = [o for cell in nbformat.read(tmp_path / "out.ipynb", as_version=4).cells for o in cell.get("outputs", []) if o.output_type == "error"]
    assert len(errors) == 1 and "none.safetensors" in errors[0].evalue and "Traceback" not in "".join(errors[0].traceback)
