"""Other people's programs (git, pip) run to their end: their lines heard as they come, none asked anything, none left behind."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Mapping

from reverie.errors import Cancelled, HostFailed

KEPT_LINES = 400


def run(
    command: list[str], *, within_s: float, stall_s: float = 0, cwd: Path | None = None, env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None, cancelled: Callable[[], bool] = lambda: False, title: str = "",
) -> tuple[int, list[str]]:
    """Exit code and last lines (both outputs; a progress line that is rewritten counts as lines).

    It ends, with all that it started, when it takes longer than `within_s`, says nothing for `stall_s` (0: may be silent), or when
    `cancelled` says so: HostFailed or Cancelled. `title` names it in sentences.
    """
    title = title or Path(command[0]).name
    try:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=os.name == "posix", preexec_fn=dies_with_us(),
        )
    except OSError as error:
        raise HostFailed(f"{title} cannot be started ({error.strerror}).", f"Install {Path(command[0]).name}, then call this again.") from None
    heard: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_listen, args=(process, heard), daemon=True).start()
    lines: list[str] = []
    try:
        _follow(process, heard, lines, within_s, stall_s, on_line, cancelled, title)
        return process.wait(), lines
    finally:
        _end(process)
        process.stdout.close()


def dies_with_us() -> Callable[[], object] | None:
    """On Linux: what ends the program when this one is killed (PR_SET_PDEATHSIG); the next run must not find it at work still."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    prctl = ctypes.CDLL(None).prctl  # looked up before the fork
    return lambda: prctl(1, signal.SIGTERM)


def _listen(process: subprocess.Popen, heard: queue.Queue) -> None:
    """Everything it says, by lines; `\\r` ends one too."""
    rest = b""
    try:
        while data := process.stdout.read1(65536):
            *whole, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")
            for line in filter(None, whole):
                heard.put(line.decode("utf-8", "replace").rstrip())
    except (OSError, ValueError):
        pass  # closed: it was ended
    if rest:
        heard.put(rest.decode("utf-8", "replace"))
    heard.put(None)


def _follow(process, heard, lines, within_s, stall_s, on_line, cancelled, title) -> None:
    begun = spoke = time.monotonic()
    while True:
        if cancelled():
            raise Cancelled(f"{title} was cancelled.", "Call it again: what is finished stays.")
        try:
            line = heard.get(timeout=0.2)
        except queue.Empty:
            line = ""
            if process.poll() is not None and heard.empty() and time.monotonic() - spoke > 5:
                return  # it ended, but something that it started holds its output open
        now = time.monotonic()
        if line is None:
            return
        if line:
            spoke = now
            lines.append(line)
            del lines[:-KEPT_LINES]
            if on_line:
                on_line(line)
        if now - begun > within_s or stall_s and now - spoke > stall_s:
            why = f"took longer than {within_s:.0f} s" if now - begun > within_s else f"said nothing for {stall_s:.0f} s"
            raise HostFailed(f"{title} {why} and was stopped.", "Check the network and the address, then call this again.")


def _end(process: subprocess.Popen) -> None:
    """The whole group: a helper of its own (git-remote-https) would live on."""
    for sign in ("SIGTERM", "SIGKILL"):
        try:
            if os.name == "posix":
                os.killpg(process.pid, getattr(signal, sign))
            elif process.poll() is None:
                process.kill()
        except (ProcessLookupError, PermissionError):
            pass
        try:
            process.wait(5 if sign == "SIGTERM" else 20)
        except subprocess.TimeoutExpired:
            continue
        if os.name != "posix" or not _has_members(process.pid):
            return


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
        return True
    except (ProcessLookupError, PermissionError):
        return False
