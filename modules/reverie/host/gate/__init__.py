"""The gate: a password in front of a WebUI that has none. A server of its own; tunnels lead to it and never past it. It listens on
this machine only, but where a platform leads its address to the container's own one.

    __init__.py   starts and ends it (`Gate`)           __main__.py   the process itself
    proxy.py      passing on, streams and WebSockets     login.py      password, sessions, waiting after wrong ones (pure)
    headers.py    what passes in headers (pure)          pages.py      its two pages
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import secrets
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from reverie.errors import HostFailed
from reverie.host.gate import login
from reverie.settings import Settings, child_environment

START_S, STOP_S = 60, 10
__all__ = ["Gate"]


@dataclass
class Gate:
    """A running gate: on `port` of this machine, leading to the WebUI on `upstream_port`. `password` is shown to its owner only;
    `everywhere`: it listens to the network too, not to this machine alone."""

    port: int
    upstream_port: int
    password: str = field(repr=False)
    title: str
    everywhere: bool = False
    _made: bool = field(default=False, repr=False)
    _proof: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    _process: subprocess.Popen | None = field(default=None, repr=False)
    _stopped: bool = field(default=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def start(cls, upstream_port: int, settings: Settings, password: str | None = None, port: int = 0, title: str = "SD-Reverie", everywhere: bool = False) -> Gate:
        """A gate with this password (None: a new one) on `port` (0: any that is free).

        BadInput if the password is too short, HostFailed if the gate does not start.
        """
        made = password is None
        password = login.new_password() if made else login.usable_password(password)
        gate = cls(port, upstream_port, password, title, everywhere, made)
        gate.revive(settings)
        return gate

    def revive(self, settings: Settings) -> None:
        """Start it (again, when it died): the same port, the same password; who was logged in logs in anew."""
        log = settings.storage / "logs" / "gate.log"
        order = {
            "password": self.password, "made": self._made, "upstream": self.upstream_port, "proof": self._proof.hex(), "port": self.port,
            "title": self.title, "everywhere": self.everywhere,
        }
        with self._lock:
            if self._stopped:
                raise HostFailed(f"The gate in front of port {self.upstream_port} was stopped.", "Start a new one.")
            if self.alive:
                return
            process = _spawn(log)
            told = {}
            try:
                told = _exchange(process, order)
            finally:
                if "port" not in told:
                    _end(process)
            if "port" not in told:
                why = told.get("error", "it ended")
                raise HostFailed(f"The gate in front of port {self.upstream_port} does not start: {why}.", f"Look into {log}.")
            self.port, self._process = told["port"], process

    @property
    def url(self) -> str:
        """Its address on this machine."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def proof(self, nonce: str) -> str:
        """What `/.reverie/ping?nonce=…` answers here and nowhere else."""
        return hmac.new(self._proof, nonce.encode(), hashlib.sha256).hexdigest()

    def seen_as(self, url: str) -> None:
        """Visitors see the gate under this address; pages of it may ask the gate for things, others' may not."""
        with self._lock, contextlib.suppress(OSError, ValueError, AttributeError):
            self._process.stdin.write(json.dumps({"host": urlsplit(url).netloc}).encode() + b"\n")
            self._process.stdin.flush()

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._process is not None:
                _end(self._process)

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_) -> None:
        self.stop()


def _spawn(log: Path) -> subprocess.Popen:
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as errors:
        command, pipes = [sys.executable, "-m", "reverie.host.gate"], {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
        return subprocess.Popen(command, **pipes, env=child_environment(), start_new_session=True)


def _exchange(process: subprocess.Popen, order: dict) -> dict:
    """Tell it what to do through its standard input, and hear its port; {} if it ended or kept silent for START_S."""
    answers: list[bytes] = []

    def talk() -> None:
        with contextlib.suppress(OSError, ValueError):
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
            answers.append(process.stdout.readline())

    talking = threading.Thread(target=talk, daemon=True)
    talking.start()
    talking.join(START_S)
    return json.loads(answers[0]) if answers and answers[0].strip() else {}


def _end(process: subprocess.Popen) -> None:
    """It ends when its input does; what does not is killed."""
    with contextlib.suppress(OSError, ValueError):
        process.stdin.close()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_S)
    with contextlib.suppress(OSError, ValueError):
        process.stdout.close()
