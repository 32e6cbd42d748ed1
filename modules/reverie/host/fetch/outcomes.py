"""What can happen while bytes are on their way, short of the file being whole. None of these leaves `fetch`: an order ends with its file
or with a ReverieError."""

from __future__ import annotations


class Cut(Exception):
    """The connection ended, or never came about, in a way that passes: try again."""


class Later(Cut):
    """The server asks to come back after `wait_s` seconds (429, 503); None where it does not say when."""

    def __init__(self, why: str, wait_s: float | None = None):
        super().__init__(why)
        self.wait_s = wait_s


class Changed(Cut):
    """What the server gives now is not what it gave before."""


class Refused(Exception):
    """The address is no longer good, or never was (`status`): ask for a fresh one."""

    def __init__(self, status: int):
        super().__init__(f"status {status}")
        self.status = status


class Broken(Exception):
    """The tool itself failed: another has to take over."""


class Stopped(Exception):
    """The person stopped it."""


class Full(Exception):
    """The disk took no more."""
