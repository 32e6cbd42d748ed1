"""Programs that run on after the call that started them: each has a name, a record on disk, a log, and an end.

Each is started by a keeper (keeper.py), a small process that writes the record, takes the output, and ends the program and all
of its children when its time has come: when the one who started it is gone (however it went), or at `stop`. The record in
storage/run lets any other program find, show and stop it. A process is told by its number *and* by when it began, and by a mark
in its environment: a number that the system gave to somebody else since is left alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Callable, Iterable

import reverie
from reverie.errors import BadInput, Busy, HostFailed
from reverie.settings import Settings

MARK = "REVERIE_KEPT"  # in the environment of everything that a keeper started: which start it belongs to
PACKAGES = str(Path(reverie.__file__).resolve().parents[1])  # where a Python finds this package
START_S = 60  # for the keeper to say that the program runs
KILL_S = 10  # from SIGKILL to the end
SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIAL|AUTHKEY", re.IGNORECASE)
# Of the one who starts it, and harmful to another Python: its search path, its notebook's way to draw, its terminal's habits.
NOT_INHERITED = {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONEXECUTABLE", "VIRTUAL_ENV", "MPLBACKEND", "JPY_PARENT_PID", MARK}
_held: dict[int, subprocess.Popen] = {}  # keepers that end with this process: their pipe is open as long as it lives


@dataclass(frozen=True)
class Running:
    """One program, as its record says: `pid` 0 while it is being started; `born` tells its process from a later one of the same
    number; `ending` while its keeper ends it, `code` is its exit status once it has ended, `about` what the one who started it wants to know again."""

    name: str
    mark: str
    log: str
    command: list[str]
    keeper: int
    keeper_born: str
    pid: int = 0
    born: str = ""
    since: float = 0.0
    ends_with_parent: bool = True
    code: int | None = None
    ended: float = 0.0
    ending: bool = False
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether the program itself runs (or is just being started by a keeper that runs)."""
        return is_alive(self.pid, self.born) if self.pid else is_alive(self.keeper, self.keeper_born)

    @property
    def port(self) -> int:
        return int(self.about.get("port") or 0)


# ------------------------------------------------------------------------------------------------- one process among all


def born(pid: int) -> str:
    """When this process began, as a word that never comes twice for one number; "" if there is none or it is a zombie."""
    if sys.platform == "linux":
        try:
            state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return "" if state in "ZX" else f"{_boot()}-{rest[18]}"  # field 22: clock ticks since the machine started
        except (OSError, ValueError, IndexError):
            return ""
    import psutil

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return ""


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:13]
    except OSError:
        return "boot"


def is_alive(pid: int, since: str) -> bool:
    return bool(pid and since) and born(pid) == since


def family(record: Running) -> list:
    """Every live process (psutil.Process) that this start brought about, the keeper left out: below the keeper, below the program,
    and wherever else the mark is found in an environment."""
    import psutil

    found: dict[int, psutil.Process] = {}
    for pid, since in ((record.keeper, record.keeper_born), (record.pid, record.born)):
        if is_alive(pid, since):
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                found |= {below.pid: below for below in (process, *process.children(recursive=True))}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid not in found and process.environ().get(MARK) == record.mark:
                found[process.pid] = process
    return [process for pid, process in found.items() if pid not in (record.keeper, os.getpid()) and born(pid)]


def end(members: Callable[[], list], within_s: float) -> bool:
    """Ask all of `members()` to end (SIGTERM) and end what is left after `within_s`; it is asked again each time, so that what they
    start meanwhile goes too. True when nothing is left."""
    import psutil

    asked: set = set()
    soft, hard = time.monotonic() + within_s, time.monotonic() + within_s + KILL_S
    while left := members():
        now = time.monotonic()
        if now > hard:
            return False
        for process in left:
            with contextlib.suppress(psutil.Error, OSError):
                if now > soft:
                    process.kill()
                elif process not in asked:
                    asked.add(process)
                    process.terminate()
        time.sleep(0.1)
    return True


# -------------------------------------------------------------------------------------------------------------- records


def folder(settings: Settings) -> Path:
    return settings.storage / "run"


def record_file(name: str, settings: Settings) -> Path:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
        raise BadInput(f"'{name}' is no name for a program that runs.", "Use small letters, digits, '.', '_' and '-'.")
    return folder(settings) / f"{name}.json"


def read(path: Path) -> Running | None:
    """The record in this file; None without one, or where it is none of ours."""
    try:
        row = json.loads(path.read_text("utf-8"))
        return Running(**{key: row[key] for key in (part.name for part in fields(Running)) if key in row})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def write(path: Path, record: Running) -> None:
    from reverie import media

    media.write_text(path, json.dumps(asdict(record), indent=2) + "\n")


def find(name: str, settings: Settings) -> Running | None:
    """The last start under this name, alive or not; None if there was none, or it was stopped."""
    return read(record_file(name, settings))


def records(settings: Settings) -> list[Running]:
    """Every start that is on record, alive or not, whoever started it."""
    return list(filter(None, (read(path) for path in sorted(folder(settings).glob("*.json")))))


def running(settings: Settings) -> list[Running]:
    """Everything that was started here and runs."""
    return [record for record in records(settings) if record.alive]


def started_here(record: Running) -> bool:
    """Whether this very process started it, and it ends with it."""
    return record.keeper in _held


# -------------------------------------------------------------------------------------------------------- start and stop


def environment(extra: dict[str, str] | None = None, keep: Iterable[str] = (), without: Iterable[str] = ()) -> dict[str, str]:
    """This process's environment for another program: no secrets but those named in `keep`, nothing that belongs to this Python
    or that begins with one of `without`; `extra` on top."""
    kept, banned = set(keep), tuple(without)
    inherited = {
        name: value for name, value in os.environ.items()
        if name in kept or not (SECRET.search(name) or name in NOT_INHERITED or banned and name.startswith(banned))
    }
    return {**inherited, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", **(extra or {})}


def start(
    name: str, command: list[str], *, cwd: Path, log: Path, settings: Settings, env: dict[str, str] | None = None,
    ends_with_parent: bool = True, about: dict[str, Any] | None = None,
) -> Running:
    """Start `command` under this name, with its output in `log`. With `ends_with_parent` it ends with this process, even when
    that is killed; else it runs until `stop`. Busy when something runs under the name, HostFailed when it cannot be started."""
    order = {
        "name": name, "mark": uuid.uuid4().hex, "command": [str(part) for part in command], "cwd": str(cwd), "log": str(log),
        "record": str(record_file(name, settings)), "env": environment() if env is None else env,
        "ends_with_parent": ends_with_parent, "about": about or {},
    }
    folder(settings).mkdir(parents=True, exist_ok=True)
    keeper = _keeper()
    said = _hand_over(keeper, order)
    if said.get("ok"):
        if ends_with_parent:
            _held[keeper.pid] = keeper
        else:
            keeper.stdin.close()
        threading.Thread(target=keeper.wait, name=f"reverie-reaper-{name}", daemon=True).start()  # or it stays as a zombie
        record = find(name, settings)
        if record is not None:
            return record
    keeper.stdin.close()
    keeper.wait(KILL_S)
    if said.get("busy"):
        raise Busy(f"'{name}' runs already (process {said['busy']}).", f"Stop it first, or use it. Its log: {log}")
    raise HostFailed(f"'{name}' could not be started: {said.get('error') or 'the process that keeps it ended at once'}.", f"Its log: {log}")


def _keeper() -> subprocess.Popen:
    """A keeper, in a session of its own: Ctrl-C and a closed terminal do not reach it."""
    env = {name: value for name, value in os.environ.items() if not SECRET.search(name) and name != MARK}
    env["PYTHONPATH"] = PACKAGES
    apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW} if os.name == "nt" else {"start_new_session": True}
    command = [sys.executable, "-m", "reverie.host.launch.keeper"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env, **apart)


def _hand_over(keeper: subprocess.Popen, order: dict) -> dict:
    """Give the keeper its order, and what it says to it. The order goes through its pipe: nobody else can read it there."""
    timer = threading.Timer(START_S, keeper.kill)
    timer.daemon = True
    timer.start()
    try:
        keeper.stdin.write(json.dumps(order).encode() + b"\n")
        keeper.stdin.flush()
        return json.loads(keeper.stdout.readline() or b"{}")
    except (OSError, ValueError):
        return {}
    finally:
        timer.cancel()
        keeper.stdout.close()


def stop(name: str, settings: Settings, within_s: float = 20) -> bool:
    """End what runs under this name with all of its children: asked first, ended after `within_s`. False if nothing ran.

    HostFailed if something is left all the same.
    """
    path = record_file(name, settings)
    record = read(path)
    if record is None:
        return False
    ran = bool(family(record)) or is_alive(record.keeper, record.keeper_born)
    gone = end(lambda: family(record), within_s)
    _leave(record)
    gone = gone and end(lambda: family(record), 0)  # what a keeper that was just starting has started
    if not gone:
        raise HostFailed(f"'{name}' does not end, not even when it is killed.", "Restart the machine, or end it with the system's own tools.")
    now = read(path)
    if now is not None and now.mark == record.mark:  # not that of a start that came meanwhile
        path.unlink(missing_ok=True)
    return ran


def _leave(record: Running) -> None:
    """Wait for the keeper, which ends by itself when there is nothing to keep; end it if it does not."""
    deadline = time.monotonic() + KILL_S
    while is_alive(record.keeper, record.keeper_born):
        if time.monotonic() > deadline:
            import psutil

            with contextlib.suppress(psutil.Error, OSError):
                psutil.Process(record.keeper).kill()
            break
        time.sleep(0.05)
    if keeper := _held.pop(record.keeper, None):
        keeper.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            keeper.wait(KILL_S)
