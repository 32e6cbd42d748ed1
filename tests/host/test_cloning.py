"""Programs of others: git and whatever hangs, asks or leaves something behind."""

import os
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest

import small_webui
from reverie.errors import BadInput, Cancelled, FetchFailed, HostFailed
from reverie.host.webuis import cloning, commands


@pytest.fixture
def silent():
    """An address that takes connections and never answers."""
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(8)
    yield f"http://127.0.0.1:{server.getsockname()[1]}/x.git"
    server.close()


@pytest.fixture
def asking():
    """An address that wants a login."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/x.git"
    server.shutdown()
    server.server_close()


def of_this(word):
    """Living processes whose command line has this in it."""
    return [process for process in psutil.process_iter(["cmdline", "status"]) if word in " ".join(process.info["cmdline"] or []) and process.info["status"] != "zombie"]


def test_an_address_that_hangs_is_given_up_and_nothing_runs_on(silent, tmp_path):
    with pytest.raises(HostFailed, match="said nothing for 2 s and was stopped"):
        cloning.clone(silent, "", tmp_path / "into", stall_s=2)
    assert not list(tmp_path.iterdir()) and not of_this(silent)


def test_a_clone_that_hangs_can_be_cancelled(silent, tmp_path):
    started = time.monotonic()
    with pytest.raises(Cancelled):
        cloning.clone(silent, "", tmp_path / "into", cancelled=lambda: time.monotonic() - started > 1)
    assert not list(tmp_path.iterdir()) and not of_this(silent)


def test_nobody_is_asked_for_a_login(asking, tmp_path):
    with pytest.raises(FetchFailed, match="wants a login"):
        cloning.clone(asking, "", tmp_path / "into")


@pytest.mark.parametrize("url", ["ext::sh -c touch% it-ran", "--upload-pack=touch it-ran", "relative/path", "", "https://x y", "file://x\nb", "fd::17"])
def test_addresses_that_run_something_are_refused(url, tmp_path):
    with pytest.raises(BadInput, match="no git address"):
        cloning.clone(url, "", tmp_path / "into")


def test_a_hash_is_had_though_the_server_gives_only_branches(tmp_path):
    bare, first = small_webui.repository(tmp_path / "made")
    subprocess.run(["git", "-C", bare, "config", "uploadpack.allowAnySHA1InWant", "false"], check=True, timeout=60)
    assert cloning.clone(f"file://{bare}", first, tmp_path / "into") == first
    assert not (tmp_path / "into" / "later.txt").exists()


def test_the_newest_of_a_branch_is_asked_and_a_hash_is_not(tmp_path, silent):
    bare, first = small_webui.repository(tmp_path / "made")
    assert len(cloning.newest(str(bare), "master")) == 40 and cloning.newest(str(bare), first) == ""
    assert cloning.newest(str(tmp_path / "nowhere"), "master") == ""


CHILD = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', '{mark}']); print('up', flush=True); time.sleep(600)"


def test_what_a_program_started_ends_with_it(tmp_path):
    mark = f"reverie-mark-{os.getpid()}"
    with pytest.raises(HostFailed, match="took longer than 4 s"):
        commands.run([sys.executable, "-c", CHILD.format(mark=mark)], within_s=4, title="a program")
    assert not of_this(mark)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system must tell a program of its parent's end")
def test_a_killed_run_leaves_no_program_at_work():
    mark = f"reverie-orphan-{os.getpid()}"
    script = f"import sys; from reverie.host.webuis import commands; commands.run([sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(600)', '{mark}'], within_s=600, on_line=lambda line: print('up', flush=True))"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "up"
    process.kill()
    process.wait(30)
    until = time.monotonic() + 60
    while of_this(mark) and time.monotonic() < until:
        time.sleep(0.1)
    assert not of_this(mark)


def test_lines_come_as_they_are_said_and_progress_lines_too():
    said = []
    code, lines = commands.run([sys.executable, "-c", "import sys; sys.stderr.write('1%\\r2%\\rdone'); sys.exit(3)"], within_s=60, on_line=said.append)
    assert code == 3 and said == lines == ["1%", "2%", "done"]


def test_a_program_that_is_not_there_is_said():
    with pytest.raises(HostFailed, match="cannot be started"):
        commands.run(["/no/such/program"], within_s=5)
