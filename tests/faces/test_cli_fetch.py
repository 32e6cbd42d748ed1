"""`reverie fetch` and `reverie plan` in a shell: the plan, progress, JSON, sentences, exit codes, Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "host"))
from hub_servers import Hubs  # noqa: E402
from small_models import LORA, SD15, tensors  # noqa: E402

from reverie.faces import cli_fetch  # noqa: E402
from reverie.faces.tally import Lines, Tally, clock, of_file  # noqa: E402
from reverie.host.fetch import Progress  # noqa: E402

PATIENCE_S = 240


@pytest.fixture
def hubs(monkeypatch, tmp_path):
    with Hubs() as hubs:
        for name, value in {**hubs.environment(), "HOME": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        yield hubs


def test_the_plan_is_shown_then_lines_then_what_came(reverie, hubs):
    link = f"lora:{hubs.add_file('ink.safetensors', tensors(*LORA))}"
    done = reverie("fetch", link, "--yes")
    assert done.returncode == 0, done.stderr
    assert "1 file to fetch, 30.2 kB. Free:" in done.stdout and "ink.safetensors: done, 30.2 kB" in done.stdout and "lora ink.safetensors: here" in done.stdout
    assert (reverie.storage / "models/loras/ink.safetensors").is_file()
    again = reverie("fetch", link)
    assert again.returncode == 0 and "1 here already" in again.stdout


def test_plan_and_a_dry_run_say_the_same_and_move_nothing(reverie, hubs):
    link = f"lora:{hubs.add_file('ink.safetensors', tensors(*LORA))}"
    plan, dry = reverie("plan", link), reverie("fetch", link, "--dry-run")
    assert plan.returncode == dry.returncode == 0 and re.sub("Free: .*", "", plan.stdout) == re.sub("Free: .*", "", dry.stdout)
    assert not (reverie.storage / "models").exists()


def test_json_is_json_and_nothing_else(reverie, hubs):
    link = f"lora:{hubs.add_file('ink.safetensors', tensors(*LORA))}"
    assert json.loads(reverie("plan", link, "--json").stdout)["rows"][0]["action"] == "fetch"
    told = json.loads(reverie("fetch", link, "--json").stdout)
    assert [row["name"] for row in told["outcome"]["done"]] == ["ink.safetensors"] and told["plan"]["rows"][0]["action"] == "fetch"


def test_what_fails_is_a_sentence_and_the_rest_comes(reverie, hubs, tmp_path):
    (tmp_path / "links.txt").write_text(f"# LoRAs\n{hubs.add_file('ink.safetensors', tensors(*LORA))}\n{hubs.storage}/none.safetensors\n")
    done = reverie("fetch", "--file", tmp_path / "links.txt", "--yes")
    assert done.returncode == 1 and (reverie.storage / "models/loras/ink.safetensors").is_file()
    assert done.stderr.count("\n") == 1 and "none.safetensors" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("given, said", [((), "Nothing was named"), (("--file", "/no/such/links.txt"), "no file"), (("ftp://x/y",), "ftp"), (("lora:https://x.org/a.safetensors[../a.safetensors]",), "no folders")])
def test_nothing_to_fetch_and_malformed_links_are_one_sentence(reverie, given, said):
    done = reverie("fetch", *given)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


def test_an_id_of_the_catalogue_is_a_link(reverie, hubs):
    hubs.add_repo("latent-consistency/lcm-lora-sdv1-5", {"pytorch_lora_weights.safetensors": tensors(*LORA)})
    done = reverie("plan", "lcm-lora-sdv1-5", "--json")
    rows = json.loads(done.stdout)["rows"]
    assert rows[0]["kind"] == "lora" and rows[0]["name"] == "lcm-lora-sdv1-5.safetensors", done.stderr


def test_a_pickle_wants_its_name(reverie, hubs):
    link = f"embedding:{hubs.add_file('old.pt', bytes([0x80, 4]) + bytes(5000))}"
    refused = reverie("fetch", link)
    assert refused.returncode == 1 and "--allow-pickle old.pt" in refused.stderr
    assert reverie("fetch", link, "--allow-pickle", "old.pt").returncode == 0


def test_ctrl_c_keeps_what_is_there_and_the_same_command_carries_on(reverie, hubs):
    data = tensors(*SD15, size=5_000_000)
    version = hubs.add_model("Dream", files={"dream.safetensors": data})
    given = ("fetch", f"{hubs.civitai}/api/download/models/{version}", "--yes")
    hubs.bytes_per_s = 60_000
    process = reverie.start(*given)
    staged = reverie.storage / "downloads"
    deadline = time.monotonic() + PATIENCE_S
    while sum(path.stat().st_blocks for path in staged.glob("*.part")) * 512 < 600_000:
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, (out, said)
    assert "Stopped. What is here stays; the same command carries on." in said and "Traceback" not in said
    hubs.bytes_per_s = 0
    carried = reverie(*given)
    assert carried.returncode == 0 and "carry on" in carried.stdout, carried.stdout + carried.stderr
    assert (reverie.storage / "models/checkpoints/dream.safetensors").read_bytes() == data


def test_help_has_examples_whose_flags_exist(reverie):
    for name, lines in cli_fetch.EXAMPLES.items():
        shown = reverie(name, "--help").stdout
        for line in lines:
            assert line in shown and set(re.findall(r" (--[\w-]+)", line)) <= set(re.findall(r"(--[\w-]+)", shown.partition("Examples")[0]))


# ------------------------------------------------------------------------------------------------------ lines and sums


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def at(done: int, state="fetching", key="k", size=1000) -> Progress:
    return Progress(key, f"{key}.safetensors", done, size, 10.0, state)


def test_a_file_has_a_line_each_five_seconds_or_each_tenth_and_one_at_its_end():
    said, now = [], Clock()
    lines = Lines(said.append, now)
    for done in range(0, 60):  # six hundredths in 0.6 s
        now.now += 0.01
        lines.take(at(done))
    assert len(said) == 1
    lines.take(at(120))
    now.now += 5
    lines.take(at(121))
    lines.take(at(1000, "checking"))
    lines.take(at(1000, "done"))
    assert len(said) == 4 and said[-1] == "k.safetensors: done, 1.0 kB"


def test_speed_and_what_is_left_are_told():
    assert of_file(at(400)) == "40% of 1.0 kB · 10 B/s · 1:00 left" and clock(3725) == "1:02:05"


def test_the_sum_counts_what_was_there_and_sizes_that_come_late():
    from reverie.host.downloads.planning import Plan, Row
    from reverie.host.resources import Resource

    known = Resource("lora", "a", "https://x.org/a", "url", size=1000)
    unknown = Resource("lora", "b", "https://x.org/b", "url")
    rows = (Row("resume", "lora", "a", "", 1000, 300, resource=known), Row("fetch", "lora", "b", "", resource=unknown))
    tally = Tally(Plan(rows, 10**9))
    assert (tally.total, tally.done_bytes) == (1000, 300)
    tally.take(at(500, key=known.key))
    tally.take(at(100, key=unknown.key, size=3000))
    assert (tally.total, tally.done_bytes, tally.fraction) == (4000, 600, 0.15) and tally.line().startswith("600 B of 4.0 kB · 20 B/s")


def test_on_a_terminal_there_are_bars(reverie, hubs):
    """In a pseudo-terminal, as a person has it; the question is answered with Return."""
    import pty
    import subprocess

    link = f"lora:{hubs.add_file('ink[1].safetensors', tensors(*LORA, size=400_000))}"
    ours, theirs = pty.openpty()
    env = {**reverie.env, "TERM": "xterm"}
    process = subprocess.Popen([sys.executable, "-m", "reverie.faces.cli", "fetch", f"{link}[ink.safetensors]"], env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, b"\n")
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    assert process.wait(PATIENCE_S) == 0, shown.decode()
    assert b"Fetch it? [Y/n]" in shown and "━".encode() in shown and b"ink.safetensors: here" in shown
