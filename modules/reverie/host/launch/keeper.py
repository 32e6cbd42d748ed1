"""`python -m reverie.host.launch.keeper`: keeps one program. Its order comes as one line of JSON on standard input, its answer is one line
on standard output: {"ok": true}, {"busy": process number} or {"error": sentence}.

The end of standard input is the end of the one who ordered it, however that came about: then the program and all of its
children are ended, unless it was ordered to run on. Output goes through a pipe of the keeper's into a log of bounded size.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from reverie.errors import ReverieError
from reverie.host.launch import logs, processes
from reverie.host.launch.processes import Running
from reverie.host.webuis.commands import dies_with_us

GRACE_S = 10  # for a program whose parent is gone
LOCK_S = 5  # the keeper of an earlier start may just be leaving
LOOK_S = 0.2


def main() -> int:
    order = json.loads(sys.stdin.buffer.readline() or b"null")
    if order is None:
        return 2
    from filelock import FileLock, Timeout

    record = Path(order["record"])
    lock = FileLock(record.with_suffix(".lock"))
    ending = threading.Event()
    for name in ("SIGTERM", "SIGHUP", "SIGINT", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: ending.set())
    try:
        lock.acquire(timeout=LOCK_S)
    except Timeout:
        return _say({"busy": getattr(processes.read(record), "pid", 0) or "being started"})
    try:
        return _keep(order, record, ending)
    finally:
        lock.release()


def _say(answer: dict) -> int:
    """Answer, and let go of the pipe: who asked must not wait for its end."""
    with contextlib.suppress(OSError):
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    return 0 if answer.get("ok") else 1


def _keep(order: dict, path: Path, ending: threading.Event) -> int:
    earlier = processes.read(path)
    if earlier is not None:
        if earlier.pid and earlier.alive:  # its keeper was killed; it was not
            return _say({"busy": earlier.pid})
        processes.end(lambda: processes.family(earlier), 1)  # what it left behind, where its keeper was killed too
    _adopt_orphans()
    known = {key: order[key] for key in ("name", "mark", "log", "command", "ends_with_parent", "about")}
    record = Running(**known, keeper=os.getpid(), keeper_born=processes.born(os.getpid()), since=time.time())
    try:
        processes.write(path, record)  # before there is anything to stop, so that it can be found at every moment
        log = logs.Bounded(Path(order["log"]))
        child = _open(order)
    except (OSError, ValueError, ReverieError) as error:
        path.unlink(missing_ok=True)
        what = getattr(error, "filename", None) or order["command"][0]
        return _say({"error": f"{what}: {getattr(error, 'strerror', None) or error}"})
    pump = threading.Thread(target=_pump, args=(child.stdout, log), daemon=True)
    pump.start()
    try:
        record = replace(record, pid=child.pid, born=processes.born(child.pid))
        processes.write(path, record)
        if order["ends_with_parent"]:
            threading.Thread(target=_await_parent, args=(ending,), daemon=True).start()
        _say({"ok": True})
        _watch(child, ending)
    except (OSError, ReverieError) as error:  # no room for the record: what nobody could find again must not run
        ending.set()
        _say({"error": getattr(error, "strerror", None) or str(error)})
    finally:
        _write(path, replace(record, ending=True))
        processes.end(lambda: processes.family(record), GRACE_S if ending.is_set() else 1)
    _write(path, replace(record, ending=True, code=child.wait(processes.KILL_S), ended=time.time()))
    pump.join(2)
    log.close()
    return 0


def _write(path: Path, record: Running) -> None:
    """Only over its own record: a stop takes that away, and another start may have come meanwhile."""
    now = processes.read(path)
    if now is not None and now.mark == record.mark:
        with contextlib.suppress(OSError, ReverieError):
            processes.write(path, record)


def _open(order: dict) -> subprocess.Popen:
    apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if os.name == "nt" else {"start_new_session": True}
    env = {**order["env"], processes.MARK: order["mark"]}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "bufsize": 0}
    return subprocess.Popen(order["command"], cwd=order["cwd"], env=env, **pipes, **apart, preexec_fn=dies_with_us())


def _pump(source, log: logs.Bounded) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := source.read(1 << 16):
            log.write(data)


def _await_parent(ending: threading.Event) -> None:
    with contextlib.suppress(OSError, ValueError):
        while sys.stdin.buffer.read(1 << 12):
            pass
    ending.set()


def _watch(child: subprocess.Popen, ending: threading.Event) -> None:
    while child.poll() is None and not ending.wait(LOOK_S):
        _bury(child.pid)


def _adopt_orphans() -> None:
    """Linux: what the program's children leave behind becomes a child of this process, also when it took a session of its own."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def _bury(own: int) -> None:
    """Take the exit status of adopted children, which nobody else asks for; that of our own one is left to its object."""
    if not hasattr(os, "waitid"):
        return
    with contextlib.suppress(ChildProcessError, OSError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid == own:
                return
            os.waitpid(ended.si_pid, 0)


if __name__ == "__main__":
    sys.exit(main())
