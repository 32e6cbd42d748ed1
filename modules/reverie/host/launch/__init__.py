"""Start a WebUI and wait until it answers: on this machine only, on a port that is free, with what its card can carry.

What it says while it starts goes to `on_line`; where it ends, the error has its log's last words and what to do about them
(`configs/launch.yaml`). A tunnel with a password is another matter: reverie.host.tunnels.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import platform
import shlex
import socket
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterable

from reverie import models
from reverie.errors import Busy, Cancelled, HostFailed, ReverieError
from reverie.host import webuis
from reverie.host.choices import launch_options
from reverie.host.launch import logs, processes
from reverie.host.launch.logs import tail
from reverie.host.launch.processes import Running
from reverie.host.launch.reasons import by_code, how, last_words, reason_in
from reverie.host.webuis import WebUI
from reverie.settings import Settings

__all__ = ["Running", "find", "health", "launch", "open_way", "stop", "tail", "why_ended"]

SILENT_S = 900  # without a word in the log and without an answer: it hangs. A first start may install and fetch for minutes
TELL_S = 20  # so often somebody who waits hears of it, where the log says nothing
LOOK_S = 0.4
ANSWER_S = 5
HURRY_S = 3  # for one that is being ended already
NEAR_PORTS = 20
MOST_REFUSED = 5
ON = {"gpu": "on the card", "low_vram": "sparing the card's memory", "cpu": "on the processor"}
# Environment variables by which WebUIs can be told to listen to the network, to share themselves, or to take other options.
NOT_INHERITED = ("GRADIO_", "INVOKEAI_", "SD_", "COMMANDLINE_ARGS", "KAGGLE_KERNEL_RUN_TYPE", "WEBUI_")


def launch(
    ui: WebUI, settings: Settings, on_line: Callable[[str], None] | None = None, port: int | None = None, extra: Iterable[str] = (), *,
    on_note: Callable[[str], None] | None = None, ends_with_parent: bool = True, cancelled: Callable[[], bool] = lambda: False,
    silent_s: float = SILENT_S,
) -> Running:
    """Start this WebUI and wait for its health address; what runs already is returned as it is.

    `on_line` hears its log, `on_note` (else `on_line` too) what is to be said of it. `port`: its usual one unless it is taken.
    `extra`: more options, checked. HostFailed when it is not installed, ends, or is silent for `silent_s`; BadInput for an option
    that is not allowed; Cancelled when `cancelled()` says so (it is stopped then).
    """
    hear = on_line or (lambda line: None)
    say = on_note or hear
    there = find(ui, settings)
    if there is not None and there.ending:  # of a kernel that was restarted just now: it still answers, and not for long
        stop(ui, settings, HURRY_S)
    elif there is not None and there.alive:
        say(f"{ui.title} runs already: {there.about.get('url', '')}")
        return _wait(ui, there, settings, say, None, cancelled, silent_s)
    if not webuis.is_installed(ui, settings):
        raise HostFailed(f"{ui.title} is not installed.", f"Install it: reverie webui install {ui.id}")
    words = allowed(extra)
    _lead_to_models(ui, settings, say)
    for last in (False, True):
        try:
            record = _start(ui, settings, say, port or ui.port, words, ends_with_parent)
        except Busy:  # another notebook was quicker by a moment
            record = find(ui, settings)
            if record is None:
                raise
            say(f"{ui.title} is being started by another program: it is waited for.")
            return _wait(ui, record, settings, say, None, cancelled, silent_s)
        try:
            return _wait(ui, record, settings, say, hear, cancelled, silent_s)
        except _PortTaken as error:
            if last:
                raise
            say(f"{error.what} Once more, on another port.")
        except KeyboardInterrupt:
            stop(ui, settings)  # also what was to run on: nobody waited for it
            raise


def stop(ui: WebUI, settings: Settings, within_s: float = 20) -> bool:
    """End it with all it has started; False if it did not run."""
    return processes.stop(name_of(ui), settings, within_s)


def find(ui: WebUI, settings: Settings) -> Running | None:
    """How it was last started, alive or not; None if never, or it was stopped."""
    return processes.find(name_of(ui), settings)


def open_way(record: Running, settings: Settings, order: Iterable[str] = (), **more: Any):
    """A tunnel (reverie.host.tunnels) to what runs, by one of `order`. Its password: REVERIE_PASSWORD of the secrets, else a new one."""
    from reverie.host import secrets, tunnels

    password = secrets.token("REVERIE_PASSWORD") or None
    return tunnels.open_tunnel(record.port, settings, tuple(order) or None, password=password, title=record.about.get("title", record.name), **more)


def health(record: Running) -> str:
    """`ended`, `up`, or what it does instead: "does not answer", "answers with status 500"."""
    if not record.alive:
        return "ended"
    status = _status(record.port, str(record.about.get("health") or "/"))
    return "up" if _is_up(status) else f"answers with status {status}" if status else "does not answer"


def name_of(ui: WebUI) -> str:
    return f"webui-{ui.id}"


def log_of(ui: WebUI, settings: Settings) -> Path:
    return settings.storage / "logs" / f"{name_of(ui)}.log"


class _PortTaken(HostFailed):
    """It ended because somebody else was quicker."""


# ------------------------------------------------------------------------------------------------------------- to start


def allowed(extra: Iterable[str]) -> list[str]:
    """The options that a person added. BadInput for one that belongs to a shell, or that would open the WebUI to others."""
    return launch_options.words(shlex.join(str(word) for word in extra))


def device(settings: Settings) -> str:
    """Which of its row's arguments suit this machine: gpu, low_vram or cpu. REVERIE_DEVICE decides where it is set; an AMD card
    counts only then, since pip brings no ROCm build of torch by itself."""
    wished = settings.device.partition(":")[0]
    if wished == "cpu":
        return "cpu"
    asked = wished not in ("", "auto")
    if vram := models.vram_gb() or (amd_vram_gb() if asked else 0.0):
        return webuis.device(vram)
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return "gpu" if apple or asked else "cpu"


def amd_vram_gb(drm: Path = Path("/sys/class/drm")) -> float:
    """Memory of the largest AMD card in GiB as Linux' own driver tells it, 0 without one."""
    found = [0.0]
    for place in drm.glob("card*/device/mem_info_vram_total"):
        with contextlib.suppress(OSError, ValueError):
            found.append(int(place.read_text()) / 2**30)
    return max(found)


def _start(ui: WebUI, settings: Settings, say, wanted: int, words: list[str], ends_with_parent: bool) -> Running:
    port = free_port(wanted)
    if port != wanted:
        say(f"Port {wanted} is taken by another program: {ui.title} gets {port}.")
    kind = device(settings)
    url = f"http://127.0.0.1:{port}"
    say(f"Starting {ui.title} at {url} ({ON[kind]}).")
    if kind == "cpu" and settings.device != "cpu" and amd_vram_gb() > 2:  # less is part of the processor
        say(f"There is an AMD card. With a ROCm build of torch in {webuis.venv(ui, settings)}, set REVERIE_DEVICE=cuda and it is used.")
    webuis.outputs(ui, settings).mkdir(parents=True, exist_ok=True)
    return processes.start(
        name_of(ui), webuis.command(ui, settings, port, kind, tuple(words)), cwd=webuis.home(ui, settings), settings=settings,
        log=log_of(ui, settings), env=_environment(ui, settings, port), ends_with_parent=ends_with_parent,
        about={"ui": ui.id, "title": ui.title, "port": port, "url": url, "health": ui.health, "device": kind},
    )


def _lead_to_models(ui: WebUI, settings: Settings, say) -> None:
    """Every model that is kept here goes where this WebUI looks for it; one that cannot is said, and no reason not to start."""
    from reverie.host.webuis import views
    from reverie.host.depot import Depot

    try:
        with Depot(settings.storage) as depot:
            report = views.expose_all(ui, depot, settings)
    except ReverieError as error:
        return say(f"Not every model is where {ui.title} looks: {error}")
    if report.linked:
        say(f"{report.linked} models are new in {ui.title}'s folders.")
    for place, why in report.refused[:MOST_REFUSED]:
        say(f"{place.name} is not in {ui.title}'s folders: {why}")


def _environment(ui: WebUI, settings: Settings, port: int) -> dict[str, str]:
    venv = webuis.venv(ui, settings)
    path = os.pathsep.join([str(webuis.venv_python(ui, settings).parent), os.environ.get("PATH", os.defpath)])
    return processes.environment({"VIRTUAL_ENV": str(venv), "PATH": path, **webuis.environment(ui, settings, port)}, without=NOT_INHERITED)


def free_port(wanted: int) -> int:
    """`wanted`, or the next one that is free, or any."""
    near = next((port for port in range(wanted, min(wanted + NEAR_PORTS, 65535) + 1) if _is_free(port)), 0)
    if near:
        return near
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return any_port.getsockname()[1]


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        trial.settimeout(1)
        if trial.connect_ex(("127.0.0.1", port)) == 0:
            return False
    with socket.socket() as trial:
        if os.name == "posix":
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a connection that has just ended is no program
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


# -------------------------------------------------------------------------------------------------------------- to wait


def _wait(ui: WebUI, record: Running, settings: Settings, say, hear, cancelled, silent_s: float) -> Running:
    """The record once it answers. Whoever only finds it running (`hear` None) hears no log, and does not end it."""
    begun = told = grown = time.monotonic()
    log, size = Path(record.log), None
    with contextlib.closing(logs.Follower(log)) as follower:
        while True:
            for line in follower.lines() if hear else ():
                hear(line)
                told = time.monotonic()
            if not record.alive:
                raise why_ended(ui, record, settings)
            status = _status(record.port, ui.health)
            if _is_up(status):
                _keep_private(ui, record, settings)
                if ui.view == "invokeai":  # it takes models by its own API, while it runs
                    _lead_to_models(ui, settings, say)
                if hear:
                    say(f"{ui.title} answers at {record.about['url']} after {time.time() - record.since:.0f} s.")
                return record
            now = time.monotonic()
            if _size(log) != size:
                size, grown = _size(log), now
            if cancelled():
                stop(ui, settings)
                raise Cancelled(f"{ui.title} was stopped while it started.")
            if now - grown > silent_s:
                raise _hanging(ui, record, settings, status, silent_s, bool(hear))
            if now - told > TELL_S:
                told = now
                say(f"… {ui.title} has been starting for {now - begun:.0f} s")
            time.sleep(LOOK_S)


def _size(log: Path) -> tuple[int, int]:
    try:
        stat = log.stat()
        return stat.st_size, stat.st_ino
    except OSError:
        return 0, 0


def _status(port: int, path: str) -> int:
    """The HTTP status that this machine's port answers with; 0 without an answer. Asked without any proxy of the environment."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def _is_up(status: int) -> bool:
    return 200 <= status < 400 or status in (401, 403)  # it wants a login: then it is there


def _keep_private(ui: WebUI, record: Running, settings: Settings) -> None:
    """End what listens to more than this machine: there is no password in front of that."""
    for address in _own_addresses():
        with socket.socket() as trial:
            trial.settimeout(1)
            if trial.connect_ex((address, record.port)) == 0:
                stop(ui, settings)
                raise HostFailed(
                    f"{ui.title} listens to the whole network ({address}:{record.port}), and it was stopped: nothing of it asks for a password.",
                    "Take what makes it listen out of its row or its own settings. A tunnel reaches it without that.",
                )


def _own_addresses() -> list[str]:
    """This machine's address as others see it. Nothing is sent: a datagram socket only looks up the way."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect(("192.0.2.1", 9))
        address = way.getsockname()[0]
        return [] if address.startswith(("127.", "0.")) else [address]
    return []


# ---------------------------------------------------------------------------------------------------------- what went wrong


def why_ended(ui: WebUI, record: Running, settings: Settings, when: str = "while it started") -> HostFailed:
    """Why it is gone, by the last of its log, as an error to raise or to show."""
    deadline = time.monotonic() + processes.KILL_S
    while processes.is_alive(record.keeper, record.keeper_born) and time.monotonic() < deadline:
        time.sleep(0.05)  # it writes down how it ended
    now = processes.find(record.name, settings)
    if now is None:
        return HostFailed(f"{ui.title} was stopped {when}.", "Start it again when you want it.")
    lines = tail(Path(record.log), 120)
    what = f"{ui.title} ended {when}{how(now.code)}: {last_words(lines) or 'it said nothing'}"
    reason = reason_in(lines)
    known = {"id": ui.id, "title": ui.title, "log": record.log, "storage": settings.storage}
    next_step = reason["next"].format(**known) if reason else by_code(now.code)
    return (_PortTaken if reason and reason.get("again") else HostFailed)(what.rstrip(".") + ".", f"{next_step} (Its log: {record.log})".strip())


def _hanging(ui: WebUI, record: Running, settings: Settings, status: int, silent_s: float, ours: bool) -> HostFailed:
    if ours:
        stop(ui, settings)
    said = f"answers with status {status}" if status else "does not answer"
    last = last_words(tail(Path(record.log), 120)) or "nothing"
    what = f"{ui.title} {said} at {record.about['url']}{ui.health}, and its log has not grown for {silent_s:.0f} s. Its last words: {last.rstrip('.')}."
    return HostFailed(what, f"{'It was stopped. ' if ours else ''}(Its log: {record.log})")
