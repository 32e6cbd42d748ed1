"""Everything that can go wrong in a way a person can act on.

    ReverieError                 one clear sentence with the next step; `exit_code` for the command line
    ├── BadInput        (2)      what the person gave cannot be used
    │   └── Interrupted (130)    the person pressed Ctrl-C; what is finished is kept
    ├── ModelMissing    (1)      a model is not here; says how to fetch it
    ├── EngineFailed    (1)      an engine could not do the task
    │   ├── OutOfMemory          the device ran out of memory
    │   ├── WorkerDied           the worker process ended (crash, kill)
    │   └── Cancelled            somebody cancelled the job
    ├── StoreFailed     (1)      the database or the disk refused (full disk, locked, damaged)
    │   ├── Busy                 another run holds this output folder or storage
    │   └── DiskFull             there is no room for what was to be written; says how much is missing
    ├── FetchFailed     (1)      a download could not be made: dead link, cut off for good, wrong bytes, an error page
    │   └── TokenNeeded          the source wants a login, or this login has no right to it
    ├── HostFailed      (1)      a WebUI could not be installed, started or reached
    │   └── TunnelFailed         no way from outside could be opened
    ├── Unanswered      (1)      a language model cannot be asked: its server is down, slow, without that model
    │   └── BadAnswer            it answered, but not what was asked for
    └── NotFound        (2)      an id, a file or a name that does not exist

Faces print `str(error)` without a traceback. Anything else that escapes is a bug and stays an ordinary exception.
"""

from __future__ import annotations


class ReverieError(Exception):
    """`what` happened, with which value; `next_step` says what to do about it."""

    exit_code = 1

    def __init__(self, what: str, next_step: str = ""):
        self.what = what
        self.next_step = next_step
        super().__init__(f"{what} {next_step}".strip())


class BadInput(ReverieError):
    exit_code = 2


class Interrupted(BadInput):
    exit_code = 130


class ModelMissing(ReverieError):
    pass


class EngineFailed(ReverieError):
    pass


class OutOfMemory(EngineFailed):
    pass


class WorkerDied(EngineFailed):
    pass


class Cancelled(EngineFailed):
    pass


class StoreFailed(ReverieError):
    pass


class Busy(StoreFailed):
    pass


class DiskFull(StoreFailed):
    pass


class FetchFailed(ReverieError):
    pass


class TokenNeeded(FetchFailed):
    pass


class HostFailed(ReverieError):
    pass


class TunnelFailed(HostFailed):
    pass


class Unanswered(ReverieError):
    pass


class BadAnswer(Unanswered):
    pass


class NotFound(ReverieError):
    exit_code = 2


def by_name(name: str) -> type[ReverieError]:
    """The error class called `name` (as stored with a failed job, or sent by a worker); EngineFailed if unknown."""
    known = {cls.__name__: cls for cls in _tree(ReverieError)}
    return known.get(name, EngineFailed)


def _tree(cls):
    yield cls
    for sub in cls.__subclasses__():
        yield from _tree(sub)


def first_line(error: BaseException) -> str:
    """What an error of a library says, cut to 300 letters: its first line, and the next where that only announces it; its class
    where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" .:")] or [type(error).__name__]
    return " ".join(lines[: 1 + lines[0].endswith(":")])[:300].rstrip(" .,:")
