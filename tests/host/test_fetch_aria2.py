"""aria2c is a private process: nobody else can talk to it or reads its secret, it ends with us, and aiohttp carries on where it fails."""

import os
import signal
import stat
import sys
from pathlib import Path

import psutil
import pytest
from fetching import child, is_right, needs_aria2, wait_for
from file_server import noise

from reverie.errors import FetchFailed
from reverie.host.fetch import aria2

pytestmark = needs_aria2
DATA = noise(6_000_000, seed=3)


def daemons(process: psutil.Process | None = None) -> list[psutil.Process]:
    children = (process or psutil.Process()).children(recursive=True)
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE and "aria2c" in child.name()]


def fake_aria2c(folder: Path, script: str) -> Path:
    folder.mkdir()
    (folder / "aria2c").write_text(f"#!{sys.executable}\n{script}\n")
    (folder / "aria2c").chmod(stat.S_IRWXU)
    return folder


def test_its_secret_is_nowhere_to_be_read_and_it_listens_on_loopback_only(server, ask):
    server.add("model.safetensors", DATA, rate=300_000)
    seen = []

    def look(progress):
        for daemon in daemons():
            if progress.done_bytes and not seen:
                places = {connection.laddr.ip for connection in daemon.net_connections() if connection.status == psutil.CONN_LISTEN}
                seen.append((daemon.cmdline(), daemon.environ(), places))

    assert is_right(ask(way="aria2", on_progress=look), DATA)
    command, environment, places = seen[0]
    assert len(command) == 2 and command[1].startswith("--conf-path=") and not Path(command[1][12:]).parent.exists()
    assert not any("secret" in f"{name}{value}".lower() for name, value in environment.items() if name not in os.environ)
    assert places <= {"127.0.0.1", "::1"}


def test_it_ends_when_we_are_killed(server, tmp_path):
    server.add("model.safetensors", DATA, rate=30_000)
    process = child(server.url("model.safetensors"), tmp_path, "aria2")
    (daemon,) = wait_for(lambda: daemons(psutil.Process(process.pid)))
    process.kill()
    process.wait()
    wait_for(lambda: not daemon.is_running() or daemon.status() == psutil.STATUS_ZOMBIE)


def test_aiohttp_carries_on_when_it_dies(server, ask):
    served = server.add("model.safetensors", DATA * 3, rate=500_000, etag='"a"')
    told = []

    def kill(progress):
        told.append(progress)
        if progress.done_bytes > 5_000_000 and daemons():
            daemons()[0].send_signal(signal.SIGKILL)

    assert is_right(ask(way="auto", on_progress=kill), DATA * 3)
    assert "aiohttp carries on" in told[-1].note and served.sent < 2 * len(DATA * 3)


def test_aiohttp_carries_on_when_it_hangs(server, ask, monkeypatch):
    served = server.add("model.safetensors", DATA * 3, rate=500_000, etag='"a"')
    monkeypatch.setattr(aria2, "ANSWER_S", 1)
    told = []

    def stop(progress):
        told.append(progress)
        if progress.done_bytes > 5_000_000 and daemons():
            daemons()[0].send_signal(signal.SIGSTOP)

    assert is_right(ask(way="auto", on_progress=stop), DATA * 3)
    assert "aiohttp carries on" in told[-1].note and served.sent < 2 * len(DATA * 3) and not daemons()


@pytest.mark.parametrize("script", ["raise SystemExit(28)", "import time; time.sleep(60)"])
def test_one_that_does_not_start_is_replaced(server, ask, tmp_path, monkeypatch, script):
    server.add("model.safetensors", DATA)
    monkeypatch.setenv("PATH", str(fake_aria2c(tmp_path / "bin", script)))
    monkeypatch.setattr(aria2, "START_S", 1)
    told = []
    assert is_right(ask(way="auto", on_progress=told.append), DATA) and "aiohttp carries on" in told[-1].note
    (tmp_path / "downloads/k.whole").unlink()
    result = ask(way="aria2")
    assert isinstance(result, FetchFailed) and "does not answer" in str(result)
    alive = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]  # of other tests
    assert not [child for child in alive if any(str(tmp_path) in word for word in child.cmdline())]


def test_the_binary_of_the_python_package_is_found_where_path_has_none(tmp_path, monkeypatch, server, ask):
    pytest.importorskip("aria2c")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Path(aria2.binary()).parts[-3:-1] == ("aria2c", "bin")
    server.add("model.safetensors", DATA)
    assert is_right(ask(way="aria2"), DATA)


def test_a_person_s_own_settings_of_aria2_play_no_part(server, ask, tmp_path, monkeypatch):
    """Neither the configuration nor the netrc of a home, nor a proxy for what is on loopback."""
    (tmp_path / ".aria2").mkdir()
    (tmp_path / ".aria2/aria2.conf").write_text("max-overall-download-limit=1K\ndir=/nonexistent\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "")
    server.add("model.safetensors", DATA)
    assert is_right(ask(way="aria2"), DATA)
