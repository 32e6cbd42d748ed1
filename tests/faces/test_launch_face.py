"""Cell 4 with a WebUI: its panel, the headless run, the command line. The WebUI is a real small server."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from html import unescape
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "host"))  # the servers that are started there are started here too

from launched import installed  # noqa: E402

from reverie.faces.widgets import launch as face  # noqa: E402
from reverie.host import launch  # noqa: E402
from reverie.host.launch import processes  # noqa: E402
from reverie.host.choices import Choices  # noqa: E402
from reverie.settings import Settings, child_environment  # noqa: E402

PATIENCE_S = 120


@pytest.fixture
def settings(tmp_path):
    settings = Settings(root=ROOT, storage=tmp_path / "storage", device="cpu")
    yield settings
    face._panels.cache_clear()
    for record in processes.running(settings):
        processes.stop(record.name, settings, 0)


def wait_until(what):
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def free():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def panel(settings, how, catalogue=None, **chosen):
    return face.panel_for(installed(settings, how), settings, Choices(webui="small", port=free(), **{"tunnel": False, **chosen}), "Mind the rules.", catalogue)


def ways(*rows):
    """A catalogue of tunnels, none of which reaches for the internet."""
    return {"outside": ["http://127.0.0.1:9/"], "tunnels": list(rows)}


def text(widget):
    return unescape(widget.value)


# ------------------------------------------------------------------------------------------------------------- the panel


def test_the_panel_starts_it_shows_it_and_stops_it(settings):
    shown = panel(settings, "chatters")
    assert shown.start_button.description == "Restart" and not shown.stop_button.disabled
    wait_until(lambda: "runs." in text(shown.words))
    record = processes.running(settings)[0]
    assert "runs" in text(shown.light) and record.about["url"] in shown.local.value and "Copy" in shown.local.value
    wait_until(lambda: "step 7" in text(shown.log))
    shown.stop_button.click()
    wait_until(lambda: not shown.running)
    assert processes.running(settings) == [] and "Stopped." in text(shown.words) and shown.local.value == "" and "stopped" in text(shown.light)
    assert shown.start_button.description == "Start" and shown.stop_button.disabled and not shown.start_button.disabled


def test_restart_is_another_process_on_the_same_panel(settings):
    shown = panel(settings, "serves")
    wait_until(lambda: "runs." in text(shown.words))
    first = processes.running(settings)[0]
    shown.start_button.click()
    wait_until(lambda: processes.running(settings) and processes.running(settings)[0].mark != first.mark and "runs." in text(shown.words))
    assert not processes.born(first.pid)
    shown.stop()
    wait_until(lambda: not shown.running)


def test_the_cell_run_again_shows_the_same_panel(settings):
    shown = panel(settings, "serves")
    assert face.panel_for(shown.ui, settings, shown.choices) is shown
    wait_until(lambda: "runs." in text(shown.words))
    shown.stop()
    wait_until(lambda: not shown.running)
    again = panel(settings, "serves")
    assert again is not shown
    again.stop()
    wait_until(lambda: not again.running)


def test_a_stop_while_it_starts_is_heard(settings):
    shown = panel(settings, "hangs")
    wait_until(lambda: processes.running(settings))
    shown.stop()
    wait_until(lambda: not shown.running)
    assert processes.running(settings) == [] and "Stopped." in text(shown.words)


def test_what_went_wrong_is_told_with_the_log(settings):
    shown = panel(settings, "dies")
    wait_until(lambda: not shown.running)
    assert "No module named 'torch_of_old'" in text(shown.words) and "rv-bad" in shown.words.value and "Traceback" in text(shown.log)
    assert shown.start_button.description == "Start" and not shown.start_button.disabled


def test_a_crash_while_it_runs_is_seen(settings):
    shown = panel(settings, "serves")
    wait_until(lambda: "runs." in text(shown.words))
    os.kill(processes.running(settings)[0].pid, signal.SIGKILL)
    wait_until(lambda: not shown.running)
    assert "ended while it ran (killed by signal 9)" in text(shown.words) and "stopped" in text(shown.light)


def test_what_a_log_says_is_no_html(settings):
    ui = installed(settings, "serves")
    server = settings.storage / "webuis" / "small" / "server.py"
    server.write_text(server.read_text().replace('print("loading"', 'print("<script>alert(1)</script>"'))
    shown = face.panel_for(ui, settings, Choices(webui="small", port=free(), tunnel=False))
    wait_until(lambda: "alert" in shown.log.value)
    assert "<script>" not in shown.log.value
    shown.stop()
    wait_until(lambda: not shown.running)


def test_without_a_way_from_outside_it_runs_on_and_says_why(settings):
    gone = {"id": "gone", "title": "A way", "way": "command", "programs": [{"binary": "no-such-program", "command": ["$BINARY"]}]}
    shown = panel(settings, "serves", ways(gone), tunnel=True)
    wait_until(lambda: "No way from outside" in text(shown.words))
    assert "no-such-program is not installed" in text(shown.notes) and "rv-bad" in shown.words.value
    assert processes.running(settings) and "127.0.0.1" in shown.local.value and shown.card.address.value == ""
    shown.stop()
    wait_until(lambda: not shown.running)


def test_a_stop_while_a_way_is_tried_is_heard(settings):
    silent = {"id": "silent", "title": "A way", "way": "command", "programs": [{"binary": "$PYTHON", "command": ["$BINARY", "-c", "import time; time.sleep(900)"]}]}
    shown = panel(settings, "serves", ways({**silent, "address": "https://x", "wait_s": 600}), tunnel=True)
    wait_until(lambda: any(record.name.startswith("tunnel-") for record in processes.running(settings)))
    shown.stop()
    wait_until(lambda: not shown.running)
    assert processes.running(settings) == [] and "Stopped." in text(shown.words)


def test_the_way_in_is_shown_with_its_password_on_request_and_goes_with_the_stop(settings):
    local = {"id": "local", "title": "this machine only", "way": "local", "public": False}
    shown = panel(settings, "serves", ways(local), tunnel=True)
    wait_until(lambda: "runs." in text(shown.words))
    address, password = shown._tunnel.url, shown._tunnel.password
    assert address in shown.card.address.value and "checked" in shown.card.address.value and password not in shown.card.password.value
    shown.card.reveal.click()
    assert password in shown.card.password.value
    shown.stop()
    wait_until(lambda: not shown.running)
    assert shown.card.address.value == shown.card.password.value == "" and processes.running(settings) == []


# -------------------------------------------------------------------------------------------- cell 4 where nobody looks


def own_row(settings, how="serves"):
    installed(settings, how)
    row = {"id": "small", "title": "Small", "start": ["$PYTHON", "server.py", "$PORT", how], "health": "/ping", "port": free(), "own_package": True}
    (settings.storage / "webuis.yaml").write_text(yaml.safe_dump({"webuis": [row]}))


def environment(settings):
    path = os.pathsep.join([str(ROOT / "modules"), str(ROOT / "scripts")])
    return {**child_environment(), "PYTHONPATH": path, "REVERIE_STORAGE": str(settings.storage), "REVERIE_DEVICE": "cpu"}


def test_a_headless_run_starts_it_and_leaves_nothing(settings):
    own_row(settings)
    (settings.storage / "choices.json").write_text(json.dumps({"format": 2, "webui": "small"}))
    code = "import launch; launch.main({'steps': 4}); print(open(__import__('os').environ['REVERIE_STORAGE'] + '/run/webui-small.json').read())"
    env = environment(settings) | {"REVERIE_HEADLESS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0 and "Small answers at http://127.0.0.1:" in done.stdout, done.stderr
    assert '"code": null' in done.stdout, "it ran while the cells did"
    wait_until(lambda: not processes.running(settings))


def test_a_parameter_chooses_the_webui_and_a_bad_start_ends_the_run_with_one_sentence(settings):
    own_row(settings, "dies")
    env = environment(settings) | {"REVERIE_HEADLESS": "1"}
    done = subprocess.run([sys.executable, "-c", "import launch; launch.main({'webui': 'small'})"], env=env, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1 and "Small ended while it started" in done.stderr.splitlines()[-1]


# ------------------------------------------------------------------------------------------------------ the command line

REVERIE = "import sys\nfrom reverie.faces import cli, cli_webui_run\nsys.exit(cli_webui_run.commands[sys.argv[1]].main(sys.argv[2:], standalone_mode=False))"


def reverie_webui(settings, *words):
    return subprocess.run([sys.executable, "-c", REVERIE, *words], env=environment(settings), capture_output=True, text=True, timeout=PATIENCE_S)


def test_detached_it_runs_on_until_another_command_stops_it(settings):
    own_row(settings)
    done = reverie_webui(settings, "start", "small", "--detach")
    assert done.returncode == 0 and "until: reverie webui stop small" in done.stdout, done.stderr
    assert launch.health(processes.running(settings)[0]) == "up"
    assert "runs already" in reverie_webui(settings, "start", "small", "--detach").stderr
    assert reverie_webui(settings, "logs", "small").stdout.splitlines()[-1] == "loading"
    assert json.loads(reverie_webui(settings, "stop", "--json").stdout) == {"stopped": ["small"]}
    assert processes.running(settings) == []
    assert "does not run" in reverie_webui(settings, "stop", "small").stdout


def test_stop_all_finds_what_a_killed_one_left_and_tunnels_too(settings):
    ui = installed(settings, "family")
    record = launch.launch(ui, settings)
    wait_until(lambda: len(processes.family(record)) >= 3)
    tunnel = processes.start("tunnel-x", ["sleep", "900"], cwd=settings.storage, log=settings.storage / "logs" / "x.log", settings=settings)
    os.kill(record.keeper, signal.SIGKILL)
    wait_until(lambda: not record.alive)
    left = [process.pid for process in processes.family(record)]
    assert left and json.loads(reverie_webui(settings, "stop", "--all", "--json").stdout) == {"stopped": ["tunnel-x", "small"]}
    assert not [pid for pid in [*left, tunnel.pid] if processes.born(pid)]
    assert "Nothing runs" in reverie_webui(settings, "stop", "--all").stdout


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_in_the_foreground_it_ends_with_the_command(settings, how):
    own_row(settings)
    command = subprocess.Popen([sys.executable, "-c", REVERIE, "start", "small", "--json"], env=environment(settings), stdout=subprocess.PIPE, text=True)
    said = json.loads(command.stdout.readline())
    assert processes.born(said["pid"])
    command.send_signal(how)
    command.communicate(timeout=PATIENCE_S)
    wait_until(lambda: not processes.running(settings))
    assert not processes.born(said["pid"])
