"""How one way from outside is opened. Each gives an address and what has to be ended again, or says why it cannot be had.

Every one of them gets a gate, and leads to the gate's port: there is no way to say another.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any, Callable

from reverie.errors import ReverieError, TunnelFailed
from reverie.host.launch import processes
from reverie.host.platform import Platform
from reverie.host.tunnels import reach, tools
from reverie.settings import Settings

ADDRESS_S, CHECK_S = 40.0, 45.0
LOOK_S, STOP_S = 0.2, 5.0
EVAL_S = 15  # for the browser that has the notebook open
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")


@dataclass
class Way:
    """What a way of opening needs to know, and what it may ask."""

    row: dict[str, Any]
    gate: Any
    settings: Settings
    where: Platform
    note: Callable[[str], None]
    stopped: Callable[[], bool]


@dataclass
class Link:
    """An open way: `url` with a slash at its end (or a path of the notebook server's own page), `process` the name it runs under
    ("": nothing runs). `answers` is True when a request through it came to the gate, None where that cannot be told; one that is
    not `checkable` opens in its owner's browser only."""

    url: str
    settings: Settings = field(repr=False)
    process: str = ""
    mark: str = ""
    log: str = ""
    secret: str = field(default="", repr=False)
    answers: bool | None = None
    checkable: bool = True

    @property
    def alive(self) -> bool:
        if not self.process:
            return True
        record = processes.find(self.process, self.settings)
        return record is not None and record.mark == self.mark and record.alive

    def close(self) -> None:
        if self.process:
            processes.stop(self.process, self.settings, within_s=STOP_S)
            _scrub(Path(self.log), self.secret)


def open_way(way: Way) -> Link:
    """A link that leads to the gate, as far as that can be told. TunnelFailed with the reason as its `what`, else."""
    link = WAYS[way.row["way"]](way)
    if link.answers is None and link.checkable:
        try:
            link.answers = _check(way, link)
        except BaseException:
            link.close()
            raise
    return link


def is_public(row: dict[str, Any], where: Platform) -> bool:
    """Whether people beyond the notebook's owner can reach what this row opens."""
    return row.get("public", True) and not (row["way"] == "platform" and reach.is_here(_of_platform(where, 1)))


def _check(way: Way, link: Link) -> bool | None:
    """Through the address itself: True, None where it cannot be told, TunnelFailed where something is wrong."""
    from reverie.settings import config

    within = float(way.row.get("check_s", CHECK_S))
    outside = way.row.get("outside") or config("tunnels")["outside"]
    dead = lambda: way.stopped() or not link.alive
    ok, why = reach.leads_here(link.url, way.gate, within, way.row.get("headers"), outside, dead)
    if ok is False:
        raise TunnelFailed(f"{link.url} was opened, but {why if link.alive else 'its program ended'}")
    return ok


# ------------------------------------------------------------------------------------------------ without a program


def _colab(way: Way) -> Link:
    """Colab tells the address of a port to the browser that has the notebook open, and to nobody else: so it cannot be checked from here."""
    if way.where.id != "colab":
        raise TunnelFailed("this is not Colab")
    from google.colab import output

    try:
        url = output.eval_js(f"google.colab.kernel.proxyPort({int(way.gate.port)})", timeout_sec=EVAL_S)
    except Exception as error:  # whatever a page that is not there makes of it
        raise TunnelFailed(f"the notebook's page did not answer ({type(error).__name__})") from None
    if not str(url).startswith("https://"):
        raise TunnelFailed("the notebook's page gave no address")
    return Link(_slashed(str(url)), way.settings, checkable=False)


def _jupyter(way: Way) -> Link:
    """The notebook server that runs this kernel passes a port on, if jupyter-server-proxy is installed beside it."""
    server = _own_server()
    if server is None:
        raise TunnelFailed("this does not run in a notebook of a Jupyter server")
    token = os.environ.get("JUPYTERHUB_API_TOKEN") or server.get("token") or ""
    path = f"{server.get('base_url', '/').rstrip('/')}/proxy/{way.gate.port}/"
    inner = f"{server['url'].rstrip('/')}/proxy/{way.gate.port}/" if server.get("url") else f"http://127.0.0.1:{server['port']}{path}"
    ok, answered, why = reach.once(inner, way.gate, {"Authorization": f"token {token}"} if token else {})
    if not ok:
        raise TunnelFailed(f"the notebook server has no jupyter-server-proxy ({why})" if answered else f"the notebook server at {inner}: {why}")
    public = os.environ.get("JUPYTERHUB_PUBLIC_URL", "").rstrip("/")
    return Link(f"{public}/proxy/{way.gate.port}/" if public else path, way.settings, answers=True)


def _own_server() -> dict[str, Any] | None:
    """The running server that this kernel is a child of."""
    if not os.environ.get("JPY_PARENT_PID"):
        return None
    try:
        import psutil
        from jupyter_server.serverapp import list_running_servers

        above = {process.pid for process in psutil.Process().parents()}
        return next((server for server in list_running_servers() if server.get("pid") in above), None)
    except Exception:  # a server of another kind, or none that may be looked at
        return None


def _platform(way: Way) -> Link:
    url = _of_platform(way.where, way.gate.port)
    if not url:
        raise TunnelFailed(f"{way.where.name} has no address of its own")
    if way.where.port not in (0, way.gate.port):
        raise TunnelFailed(f"{way.where.name} leads to port {way.where.port} only, and that one is taken")
    return Link(_slashed(url), way.settings)


def _of_platform(where: Platform, port: int) -> str:
    return Template(where.url).safe_substitute(PORT=str(port)) if where.url else ""


def _local(way: Way) -> Link:
    return Link(way.gate.url, way.settings)


# -------------------------------------------------------------------------------------------------- with a program


def _command(way: Way) -> Link:
    """Start the row's program and read its address from what it prints."""
    row = way.row
    _needs(row)
    secret = _secret(row)
    binary, command = tools.program(row, way.settings, way.note)
    name = f"tunnel-{row['id']}-{way.gate.upstream_port}"  # the same at every start: its log and record are not heaped up
    record = _start(name, command, binary, secret, way)
    link = Link("", way.settings, name, record.mark, record.log, secret)
    try:
        link.url = _slashed(_await_address(record, row, way.stopped))
        return link
    except BaseException as error:
        link.close()
        if isinstance(error, TunnelFailed) and secret:
            raise TunnelFailed(error.what.replace(secret, "…")) from None
        raise


def _needs(row: dict[str, Any]) -> None:
    if row.get("module") and importlib.util.find_spec(row["module"]) is None:
        raise TunnelFailed(f"the Python package {row['module']} is not installed")
    if row.get("files") and not any(Path(path).expanduser().exists() for path in row["files"]):
        raise TunnelFailed(f"it is not set up on this machine. {row.get('else', '')}".strip())


def _secret(row: dict[str, Any]) -> str:
    if not row.get("token"):
        return ""
    from reverie.host import secrets

    found = secrets.token(row["token"])
    if not found:
        raise TunnelFailed(f"no {row['token']} is kept")
    return found


def _start(name: str, command: list[str], binary: str, secret: str, way: Way) -> processes.Running:
    run = way.settings.storage / "run"
    filled = {"BINARY": binary, "PYTHON": sys.executable, "PORT": str(way.gate.port), "RUN": str(run)}
    arguments = [Template(str(part)).safe_substitute(filled) for part in command]
    extra = {"PYTHONPATH": processes.PACKAGES} | ({way.row["token_env"]: secret} if secret else {})
    log = way.settings.storage / "logs" / f"{name}.log"
    run.mkdir(parents=True, exist_ok=True)
    try:
        return processes.start(name, arguments, cwd=run, log=log, settings=way.settings, env=processes.environment(extra))
    except ReverieError as error:
        raise TunnelFailed(error.what.rstrip(".")) from None


def _await_address(record: processes.Running, row: dict[str, Any], stopped: Callable[[], bool]) -> str:
    pattern, ignored = re.compile(row["address"]), set(row.get("ignore", []))
    deadline = time.monotonic() + float(row.get("wait_s", ADDRESS_S))
    while True:
        ran = record.alive  # before the log is read: what it said last counts
        said = _said(Path(record.log))
        whole = said if not ran else said[: said.rfind("\n") + 1]
        found = next((match[0] for match in pattern.finditer(whole) if match[0] not in ignored), "")
        if found and ran:
            return found
        if not ran:
            raise TunnelFailed(f"its program ended: {_last_line(said)}")
        if stopped():
            raise TunnelFailed("it was given up")
        if time.monotonic() > deadline:
            raise TunnelFailed(f"its program told no address within {row.get('wait_s', ADDRESS_S):.0f} s: {_last_line(said)}")
        time.sleep(LOOK_S)


def _said(log: Path) -> str:
    try:
        return _ESCAPES.sub("", log.read_text("utf-8", errors="replace"))
    except OSError:
        return ""


def _last_line(said: str) -> str:
    lines = [" ".join(line.split()) for line in said.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"


def _scrub(log: Path, secret: str) -> None:
    """ngrok repeats a token that it does not like: it must not stay in the log."""
    from reverie import media

    if secret and secret in (said := _said(log)):
        media.write_text(log, said.replace(secret, "…"))


def _slashed(url: str) -> str:
    return url if url.endswith("/") else f"{url}/"


WAYS = {"colab": _colab, "jupyter": _jupyter, "platform": _platform, "local": _local, "command": _command}
