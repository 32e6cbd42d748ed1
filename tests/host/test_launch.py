"""Starting a WebUI: real small servers that start slowly, die, hang, are ill, flood, and open themselves to the network."""

import dataclasses
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from launched import installed

from reverie.errors import BadInput, Cancelled, HostFailed
from reverie.host import launch
from reverie.host.launch import processes
from reverie.settings import Settings, child_environment

PATIENCE_S = 120


@pytest.fixture
def settings(tmp_path):
    settings = Settings(root=tmp_path, storage=tmp_path / "storage", device="cpu")
    yield settings
    for record in processes.running(settings):
        processes.stop(record.name, settings, 0)


def answer(port, path="/"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    return connection.getresponse().read().decode()


def free():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def gone(settings):
    return processes.running(settings) == []


def test_it_is_started_and_waited_for_and_stopped(settings):
    ui, heard = installed(settings, "serves"), []
    record = launch.launch(ui, settings, heard.append, port=free())
    assert launch.health(record) == "up" and answer(record.port).startswith("server.py")
    assert "loading" in heard and heard[0].startswith("Starting Small at http://127.0.0.1:") and "answers at" in heard[-1]
    assert record.about["device"] == "cpu" and record.about["url"] == f"http://127.0.0.1:{record.port}"
    assert launch.stop(ui, settings) and gone(settings) and launch.health(record) == "ended"
    assert not launch.stop(ui, settings)


def test_what_runs_already_is_returned_as_it_is(settings):
    ui, heard = installed(settings, "serves"), []
    record = launch.launch(ui, settings, port=free())
    assert launch.launch(ui, settings, heard.append) == record
    assert heard == [f"Small runs already: http://127.0.0.1:{record.port}"]


def test_a_taken_port_is_said_and_another_one_taken(settings):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        wanted, heard = other.getsockname()[1], []
        record = launch.launch(installed(settings, "serves"), settings, heard.append, port=wanted)
        assert record.port != wanted and launch.health(record) == "up"
        assert heard[0] == f"Port {wanted} is taken by another program: Small gets {record.port}."


def test_who_loses_the_port_meanwhile_gets_another_try(settings):
    ui, heard = installed(settings, "taken once"), []
    record = launch.launch(ui, settings, heard.append, port=free())
    assert launch.health(record) == "up" and any("Once more" in line for line in heard)


def test_five_hundreds_at_first_are_waited_out(settings):
    assert launch.health(launch.launch(installed(settings, "moody"), settings, port=free())) == "up"


def test_a_server_that_dies_is_told_with_its_last_words_and_the_remedy(settings):
    with pytest.raises(HostFailed) as failed:
        launch.launch(installed(settings, "dies"), settings, port=free())
    assert failed.value.what == "Small ended while it started (exit status 3): ModuleNotFoundError: No module named 'torch_of_old'."
    assert "reverie webui install small" in failed.value.next_step and str(launch.log_of(installed(settings, "dies"), settings)) in failed.value.next_step
    assert gone(settings)


def test_a_server_that_the_system_kills_is_told(settings):
    with pytest.raises(HostFailed, match=r"killed by signal 9\).*want of memory"):
        launch.launch(installed(settings, "quiet death"), settings, port=free())


@pytest.mark.parametrize("how, why", [("hangs", "does not answer"), ("ill", "answers with status 500")])
def test_a_server_that_hangs_or_stays_ill_is_given_up_and_ended(settings, how, why):
    with pytest.raises(HostFailed, match=f"{why}.*has not grown for 2 s.*last words: loading"):
        launch.launch(installed(settings, how), settings, port=free(), silent_s=2)
    assert gone(settings)


@pytest.mark.parametrize("how", ["chatters", "bars"])
def test_as_long_as_its_log_grows_it_is_waited_for(settings, how):
    record = launch.launch(installed(settings, how), settings, port=free(), silent_s=2)
    assert launch.health(record) == "up"


def test_a_flood_of_words_neither_fills_the_disk_nor_stops_the_start(settings):
    ui = installed(settings, "floods")
    record = launch.launch(ui, settings, port=free())
    folder = Path(record.log).parent
    assert launch.health(record) == "up" and sum(path.stat().st_size for path in folder.iterdir()) <= 2 * (16 << 20)
    assert len(launch.tail(Path(record.log), 5)) == 5


def test_one_that_listens_to_the_whole_network_is_ended(settings):
    if not launch._own_addresses():
        pytest.skip("this machine has no address but its own loop")
    with pytest.raises(HostFailed, match="listens to the whole network"):
        launch.launch(installed(settings, "open"), settings, port=free())
    assert gone(settings)


@pytest.mark.parametrize("extra", [["--share"], ["--shar"], ["--listen", "0.0.0.0"], ["--port", "80"], ["--x", "$(id)"], ["; rm"], ["--api-auth", "a:b"]])
def test_options_that_open_it_or_mean_a_shell_are_refused_before_anything_starts(settings, extra):
    with pytest.raises(BadInput):
        launch.launch(installed(settings, "serves"), settings, extra=extra)
    assert processes.find("webui-small", settings) is None


def test_good_options_reach_it_as_single_words(settings):
    record = launch.launch(installed(settings, "serves"), settings, port=free(), extra=["--lowvram", "--name", "a b"])
    assert record.command[-3:] == ["--lowvram", "--name", "a b"] and "--name a b" in answer(record.port)


def test_without_an_installation_it_says_how_to_get_one(settings):
    ui = installed(settings, "serves")
    (settings.storage / "webuis" / "small" / ".reverie.json").unlink()
    with pytest.raises(HostFailed, match="Small is not installed. Install it: reverie webui install small"):
        launch.launch(ui, settings)


def test_nobody_s_secrets_or_switches_reach_it(settings, monkeypatch):
    for name in ("HF_TOKEN", "PYTHONPATH", "GRADIO_SHARE"):
        monkeypatch.setenv(name, "leaked")
    heard = []
    launch.launch(installed(settings, "shows"), settings, heard.append, port=free())
    assert "TOKEN None MODULES None SHARE None" in heard


def test_a_start_that_is_called_off_ends(settings):
    called_off = threading.Event()
    threading.Timer(2, called_off.set).start()
    with pytest.raises(Cancelled):
        launch.launch(installed(settings, "hangs"), settings, port=free(), cancelled=called_off.is_set)
    assert gone(settings)


def test_a_start_that_somebody_else_stops_says_so(settings):
    ui = installed(settings, "hangs")

    def stop_soon():
        while not processes.running(settings):
            time.sleep(0.05)
        launch.stop(ui, settings, 0)

    stopping = threading.Thread(target=stop_soon)
    stopping.start()
    with pytest.raises(HostFailed, match="was stopped while it started|killed by signal"):
        launch.launch(ui, settings, port=free())
    stopping.join()


def test_ctrl_c_while_it_starts_ends_it_though_it_was_to_run_on(settings):
    ui = installed(settings, "hangs")
    code = f"""
from pathlib import Path
from reverie.host import launch, webuis
from reverie.settings import Settings, child_environment
settings = Settings(root=Path({str(settings.root)!r}), storage=Path({str(settings.storage)!r}), device="cpu")
ui = webuis.WebUI(id="small", title="Small", start={ui.start!r}, port={free()})
launch.launch(ui, settings, ends_with_parent=False)
"""
    command = subprocess.Popen([sys.executable, "-c", code], env=child_environment(), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + PATIENCE_S
    while not (found := processes.running(settings)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)  # it waits by now; earlier or later, the end is the same
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=PATIENCE_S)
    assert gone(settings) and not processes.born(found[0].pid)


def test_models_that_are_kept_are_where_it_looks(settings):
    ui = installed(settings, "serves", folders={"checkpoint": "models/checkpoints"})
    own = settings.models / "checkpoints" / "mine.safetensors"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"weights")
    launch.launch(ui, settings, port=free())
    assert (settings.storage / "webuis/small/models/checkpoints/mine.safetensors").read_bytes() == b"weights"


def test_its_children_end_with_it(settings):
    ui = installed(settings, "family")
    record = launch.launch(ui, settings, port=free())
    deadline = time.monotonic() + PATIENCE_S
    while len(members := processes.family(record)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(record.pid, signal.SIGKILL)  # it crashes; who is left behind?
    while any(processes.born(pid) for pid in [record.keeper, *(process.pid for process in members)]):
        assert time.monotonic() < deadline, "something is left"
        time.sleep(0.05)
    assert launch.health(record) == "ended" and launch.find(ui, settings).code == -signal.SIGKILL


@pytest.mark.parametrize("line, word", [
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB", "--lowvram"),
    ("AssertionError: Torch not compiled with CUDA enabled", "REVERIE_DEVICE=cpu"),
    ("OSError: [Errno 28] No space left on device: '/x'", "storage show"),
    ("main.py: error: unrecognized arguments: --medvran", "launch options"),
    ("RuntimeError: operator torchvision::nms does not exist", "another torch"),
    ("ImportError: libGL.so.1: cannot open shared object file: No such file or directory", "Install it again"),
    ("safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge", "storage verify"),
    ("OSError: Cannot find empty port in range: 7860-7860", "free port"),
])
def test_known_causes_have_a_remedy(line, word):
    reason = launch.reason_in(["Loading", line, "bye"])
    assert word in reason["next"]
    assert reason["next"].format(id="x", title="X", log="l", storage="s")
    assert launch.reason_in(["Loading", "all is well"]) is None


def test_the_last_words_are_the_cause_of_a_traceback():
    lines = ["a", "Traceback (most recent call last):", '  File "x"', "ValueError: no such scheduler", "", "------"]
    assert launch.last_words(lines) == "ValueError: no such scheduler"
    assert launch.last_words(["one", "two", "three", "==="]) == "two / three"
    assert launch.last_words([]) == ""


LAUNCHES = """
import sys
from pathlib import Path
from reverie.host import launch, webuis
from reverie.settings import Settings
settings = Settings(root=Path(sys.argv[1]), storage=Path(sys.argv[2]), device="cpu")
ui = webuis.WebUI(id="small", title="Small", start=("$PYTHON", "server.py", "$PORT", sys.argv[3]), health="/ping", port=int(sys.argv[4]))
sys.stdin.readline()
print(launch.launch(ui, settings).pid, flush=True)
sys.stdin.readline()
"""


def kernel(settings, how, port):
    words = [str(settings.root), str(settings.storage), how, str(port)]
    return subprocess.Popen([sys.executable, "-c", LAUNCHES, *words], env=child_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_notebooks_that_start_it_at_once_get_the_same_one(settings):
    installed(settings, "chatters")
    port = launch.free_port(0)
    kernels = [kernel(settings, "chatters", port) for _ in range(3)]
    for each in kernels:
        each.stdin.write("go\n")
        each.stdin.flush()
    pids = {each.stdout.readline() for each in kernels}
    for each in kernels:
        each.communicate("", timeout=PATIENCE_S)
    assert len(pids) == 1 and pids != {""}


def test_after_a_kernels_restart_the_one_that_is_just_ending_is_not_taken_for_running(settings):
    ui = installed(settings, "will not end")
    first = kernel(settings, "will not end", 0)
    first.stdin.write("go\n")
    first.stdin.flush()
    pid = int(first.stdout.readline())
    first.kill()
    first.communicate(timeout=PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while not launch.find(ui, settings).ending:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert processes.born(pid)
    record = launch.launch(ui, settings)
    assert record.pid != pid and not processes.born(pid) and launch.health(record) == "up"
    launch.stop(ui, settings, 0)


def test_an_amd_cards_memory_is_what_its_driver_tells(tmp_path):
    assert launch.amd_vram_gb(tmp_path) == 0
    for name, said in (("card0", "536870912\n"), ("card1", "17163091968\n"), ("card2", "no number")):
        (tmp_path / name / "device").mkdir(parents=True)
        (tmp_path / name / "device" / "mem_info_vram_total").write_text(said)
    assert 15.9 < launch.amd_vram_gb(tmp_path) < 16


def test_the_device_is_the_persons_where_it_is_set(settings):
    assert launch.device(settings) == "cpu"
    wished = launch.device(dataclasses.replace(settings, device="cuda:0"))
    assert wished in ("gpu", "low_vram"), "whoever names a card has one, whatever can be seen of it"
