"""Ctrl-C that never cuts a transaction or the taking of a lock in two: there it waits for their end.

Python raises KeyboardInterrupt between any two instructions of the main thread. In the middle of a transaction that leaves a
connection nobody can use, in the middle of `Condition.wait` a lock that is released without being held; what then cancels the
run fails of that, and the person reads of a bug.
"""

from __future__ import annotations

import contextlib
import signal
import threading

_held = 0  # of the main thread alone: no other one is interrupted
_pending = False


def listen() -> None:
    """Let Ctrl-C wait for the end of `held`. Where somebody else listens (or nobody shall: a background job ignores it) nothing is
    changed. A kernel goes back to its own way of listening at the end of each cell."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


@contextlib.contextmanager
def held():
    """What is in here runs to its end; the KeyboardInterrupt that came meanwhile is raised then. Keep it short."""
    global _held, _pending
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _held += 1
    try:
        yield
    finally:
        _held -= 1
        if _pending and not _held:
            _pending = False
            raise KeyboardInterrupt


def _interrupt(number, frame) -> None:
    global _pending
    if not _held:
        raise KeyboardInterrupt
    _pending = True
