"""Programs that run on: found again, stopped whole, and never left behind. All of them real ones."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from reverie.errors import BadInput, Busy, HostFailed
from reverie.host.launch import logs, processes
from reverie.settings import Settings, child_environment

PATIENCE_S = 120
SLEEPS = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(1000)"]
# It will not hear of SIGTERM; nor will its child and its grandchild, which has a session of its own.
STUBBORN = textwrap.dedent("""
    import os, signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    depth = int(sys.argv[1])
    if depth:
        subprocess.Popen([sys.executable, __file__, str(depth - 1)], start_new_session=depth == 1)
    print("ready", depth, flush=True)
    time.sleep(1000)
""")


@pytest.fixture
def settings(tmp_path):
    settings = Settings(root=tmp_path, storage=tmp_path / "storage")
    yield settings
    for record in processes.running(settings):
        processes.stop(record.name, settings, 0)


def start(settings, command, name="sleeper", **more):
    return processes.start(name, command, cwd=settings.root, log=settings.storage / "logs" / f"{name}.log", settings=settings, **more)


def wait_until(what, why="it never happened"):
    deadline = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline, why
        time.sleep(0.05)
    return found


def said(record, word):
    return wait_until(lambda: any(word in line for line in logs.tail(Path(record.log))), f"it never said {word}")


def stubborn(settings):
    script = settings.root / "stubborn.py"
    script.write_text(STUBBORN)
    record = start(settings, [sys.executable, str(script), "2"])
    for depth in range(3):
        said(record, f"ready {depth}")
    return record


def alive(pids):
    return [pid for pid in pids if processes.born(pid)]


# ---------------------------------------------------------------------------------------------------------- start and stop


def test_a_started_program_is_found_and_stopped_by_its_name(settings):
    record = start(settings, SLEEPS, about={"port": 7})
    assert record.alive and record.port == 7 and processes.running(settings) == [record]
    said(record, "here")
    assert processes.stop("sleeper", settings) is True
    assert not alive([record.pid, record.keeper]) and processes.running(settings) == [] and processes.find("sleeper", settings) is None
    assert processes.stop("sleeper", settings) is False


def test_another_program_finds_and_stops_it(settings):
    record = start(settings, SLEEPS, ends_with_parent=False)
    code = f"""
from pathlib import Path
from reverie.host.launch import processes
from reverie.settings import Settings
settings = Settings(root=Path({str(settings.root)!r}), storage=Path({str(settings.storage)!r}))
print([record.pid for record in processes.running(settings)], processes.stop("sleeper", settings))
"""
    done = subprocess.run([sys.executable, "-c", code], env=child_environment(), capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.stdout.strip() == f"[{record.pid}] True", done.stderr
    assert not alive([record.pid, record.keeper])


def test_one_name_runs_once(settings):
    record = start(settings, SLEEPS)
    with pytest.raises(Busy, match=str(record.pid)):
        start(settings, SLEEPS)
    assert processes.running(settings) == [record]
    processes.stop("sleeper", settings)
    assert start(settings, SLEEPS).alive


def test_children_that_will_not_hear_are_killed_with_theirs(settings):
    record = stubborn(settings)
    pids = [process.pid for process in processes.family(record)]
    assert len(pids) == 3
    processes.stop("sleeper", settings, within_s=0.5)
    assert not alive([*pids, record.keeper])


def test_an_orphan_in_a_session_of_its_own_is_found(settings):
    parting = "import subprocess; print(subprocess.Popen(['sleep', '1000'], start_new_session=True).pid, flush=True)"
    record = start(settings, [sys.executable, "-c", f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {parting!r}]); time.sleep(1000)"])
    orphan = int(wait_until(lambda: logs.tail(Path(record.log)))[0])
    assert alive([orphan])
    processes.stop("sleeper", settings)
    assert not alive([orphan])


def test_what_a_program_leaves_behind_when_it_ends_goes_too(settings):
    record = start(settings, [sys.executable, "-c", "import subprocess, sys; print(subprocess.Popen(['sleep', '1000'], start_new_session=True).pid, flush=True); sys.exit(5)"])
    left = wait_until(lambda: processes.find("sleeper", settings) if processes.find("sleeper", settings).code is not None else None)
    assert left.code == 5 and left.ended >= left.since and not left.alive
    assert not alive([int(logs.tail(Path(record.log))[0])])


def test_a_program_that_is_not_there_is_one_sentence(settings):
    with pytest.raises(HostFailed, match="no-such-program.*No such file"):
        start(settings, ["/no-such-program"])
    assert processes.running(settings) == [] and processes.find("sleeper", settings) is None


def test_of_many_starts_at_once_one_wins(settings):
    from concurrent.futures import ThreadPoolExecutor

    def attempt(_):
        try:
            return start(settings, SLEEPS)
        except Busy:
            return None

    with ThreadPoolExecutor(6) as pool:
        won = [record for record in pool.map(attempt, range(6)) if record]
    assert len(won) == 1 and processes.running(settings) == won


def test_a_log_that_cannot_be_written_is_one_sentence_and_nothing_runs(settings):
    (settings.root / "in the way").write_text("")
    with pytest.raises(HostFailed, match="could not be started: .*in the way.*(exists|directory)"):
        processes.start("sleeper", SLEEPS, cwd=settings.root, log=settings.root / "in the way" / "x.log", settings=settings)
    assert processes.running(settings) == []


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", ".x", "x" * 70])
def test_a_name_that_is_a_path_is_refused(settings, name):
    with pytest.raises(BadInput, match="no name"):
        start(settings, SLEEPS, name=name)


# ------------------------------------------------------------------------------------------------- nothing is left running

PARENT = """
import sys, time
from pathlib import Path
from reverie.host.launch import processes
from reverie.settings import Settings
root = Path(sys.argv[1])
settings = Settings(root=root, storage=root / "storage")
processes.start("sleeper", sys.argv[3:], cwd=root, log=root / "storage/logs/sleeper.log", settings=settings, ends_with_parent=sys.argv[2] == "ends")
print("started", flush=True)
time.sleep(1000)
"""


def parent(settings, how, command):
    process = subprocess.Popen([sys.executable, "-c", PARENT, str(settings.root), how, *command], env=child_environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "started\n"
    return process, processes.find("sleeper", settings)


def test_a_parent_killed_outright_leaves_nothing(settings):
    script = settings.root / "stubborn.py"
    script.write_text(STUBBORN)
    process, record = parent(settings, "ends", [sys.executable, str(script), "2"])
    for depth in range(3):
        said(record, f"ready {depth}")
    pids = [child.pid for child in processes.family(record)]
    assert len(pids) == 3
    process.kill()
    process.communicate()
    wait_until(lambda: not alive([*pids, record.keeper]), "something is left")
    assert processes.running(settings) == []


def test_a_detached_program_runs_on_until_it_is_stopped(settings):
    process, record = parent(settings, "runs on", SLEEPS)
    process.kill()
    process.communicate()
    said(record, "here")
    time.sleep(1)  # five looks of its keeper
    assert processes.running(settings) == [record]
    processes.stop("sleeper", settings)
    assert not alive([record.pid, record.keeper])


def test_a_kernel_s_ctrl_c_does_not_reach_it(settings):
    process, record = parent(settings, "ends", SLEEPS)
    assert os.getsid(record.keeper) != os.getsid(process.pid) and os.getsid(record.pid) != os.getsid(record.keeper)
    process.kill()
    process.communicate()
    wait_until(lambda: not alive([record.pid, record.keeper]))


def test_a_program_whose_keeper_was_killed_is_still_found_and_stopped(settings):
    record = stubborn(settings)
    pids = [process.pid for process in processes.family(record)]
    os.kill(record.keeper, signal.SIGKILL)
    wait_until(lambda: not alive([record.keeper]))
    assert processes.running(settings) == [record] and sorted(process.pid for process in processes.family(record)) == sorted(pids)
    with pytest.raises(Busy):
        start(settings, SLEEPS)
    processes.stop("sleeper", settings, 0.5)
    assert not alive(pids)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody is told of a parent's death")
def test_a_program_whose_keeper_is_killed_ends_and_what_it_leaves_goes_with_the_next_start(settings):
    family = [sys.executable, "-c", "import subprocess, sys, time; subprocess.Popen(['sleep', '900'], start_new_session=True); print('ready', flush=True); time.sleep(900)"]
    record = start(settings, family)
    wait_until(lambda: len(processes.family(record)) == 2)
    pids = [process.pid for process in processes.family(record)]
    os.kill(record.keeper, signal.SIGKILL)
    wait_until(lambda: not record.alive)
    start(settings, SLEEPS)
    assert not alive(pids)


def test_its_keeper_asked_to_end_ends_it(settings):
    record = start(settings, SLEEPS)
    os.kill(record.keeper, signal.SIGTERM)
    wait_until(lambda: not alive([record.pid, record.keeper]))


# --------------------------------------------------------------------------------------------------- numbers come again


def test_a_recycled_number_is_left_alone(settings):
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    try:
        record = processes.Running(
            name="sleeper", mark="f" * 32, log="none", command=["x"], keeper=stranger.pid, keeper_born="an earlier one", pid=stranger.pid, born="an earlier one"
        )
        processes.write(processes.record_file("sleeper", settings), record)
        assert not record.alive and processes.running(settings) == []
        assert processes.stop("sleeper", settings, 0) is False
        assert stranger.poll() is None
        processes.write(processes.record_file("sleeper", settings), record)
        mine = start(settings, SLEEPS)  # and such a record is in nobody's way
        assert mine.alive and stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": 3}', '"x"'])
def test_a_damaged_record_is_no_record(settings, text):
    path = processes.record_file("sleeper", settings)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert processes.running(settings) == [] and processes.stop("sleeper", settings) is False
    assert start(settings, SLEEPS).alive


def test_a_record_of_a_later_version_is_read(settings):
    record = start(settings, SLEEPS)
    path = processes.record_file("sleeper", settings)
    path.write_text(json.dumps({**dataclasses.asdict(record), "more": 1}))
    assert processes.running(settings) == [record]


# -------------------------------------------------------------------------------------------------------- what it is given


def test_secrets_and_this_python_s_own_settings_are_not_passed_on(settings, monkeypatch):
    for name in ("HF_TOKEN", "CIVITAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "PYTHONPATH", "MPLBACKEND", "GRADIO_SHARE"):
        monkeypatch.setenv(name, "leaked")
    monkeypatch.setenv("HARMLESS", "kept")
    env = processes.environment({"MORE": "1"}, without=("GRADIO_",))
    assert "leaked" not in env.values() and env["HARMLESS"] == "kept" and env["MORE"] == "1"
    assert processes.environment(keep=["HF_TOKEN"])["HF_TOKEN"] == "leaked"
    record = start(settings, [sys.executable, "-c", "import os; print('SAW', [n for n, v in os.environ.items() if v == 'leak' + 'ed'], flush=True); import time; time.sleep(1000)"])
    said(record, "SAW")
    assert logs.tail(Path(record.log)) == ["SAW ['GRADIO_SHARE']"]
    assert "leaked" not in processes.record_file("sleeper", settings).read_text()
    assert "HF_TOKEN" not in psutil.Process(record.keeper).environ()


# --------------------------------------------------------------------------------------------------------------- its log


def test_megabytes_of_output_stay_within_bounds(tmp_path):
    log = logs.Bounded(tmp_path / "x.log", limit=1000)
    for number in range(1000):
        log.write(f"line {number}\n".encode())
    log.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2000
    assert logs.tail(tmp_path / "x.log", 3) == ["line 997", "line 998", "line 999"]
    assert len(logs.tail(tmp_path / "x.log", 90)) == 90, "what was put aside still counts"


def test_a_new_run_begins_a_new_log_and_keeps_the_last(tmp_path):
    for run in ("first", "second"):
        log = logs.Bounded(tmp_path / "x.log")
        log.write(f"{run}\n".encode())
        log.close()
    assert logs.tail(tmp_path / "x.log") == ["second"] and logs.previous(tmp_path / "x.log").read_text() == "first\n"


def test_a_follower_misses_nothing_when_the_log_is_put_aside(tmp_path):
    log, follower, heard = logs.Bounded(tmp_path / "x.log", limit=200), logs.Follower(tmp_path / "x.log"), []
    for number in range(100):
        log.write(f"line {number}\n".encode())
        heard += follower.lines()
    log.close()
    follower.close()
    assert heard == [f"line {number}" for number in range(100)]


def test_bars_and_colours_are_shown_as_on_a_terminal(tmp_path):
    (tmp_path / "x.log").write_bytes(b"\x1b[32mgreen\x1b[0m\r\n 10%\r 50%\r100%\nbad \xff\n\n")
    assert logs.tail(tmp_path / "x.log") == ["green", "100%", "bad \ufffd"]
    assert logs.tail(tmp_path / "none.log") == []
