"""Which platform this is, told by its environment and never by asking. The rows are in `configs/platforms.yaml`."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Callable, Mapping


@dataclass(frozen=True)
class Platform:
    """One place to run on, as its row says.

    `root` is where the project may be written, `persistent` a folder that outlives the session ("" if there is none), `disk_gb` the
    quota of `root` and `session_h` the hours after which a run is ended (0: no known limit). `python` is "running" where packages
    go into the Python that is there, else "venv". `secrets` names the platform's own store of secrets ("": none), `gpu` what card it
    usually gives. `url` is the address of port $PORT as seen from outside ("": none), `port` the only one that it leads to (0: any),
    `listen` "all" where its proxy comes to this machine's network address and not to 127.0.0.1. With `public_ui` False the rules
    forbid public web interfaces, and `policy` says so.
    """

    id: str
    name: str
    root: str
    persistent: str = ""
    disk_gb: float = 0
    session_h: float = 0
    gpu: str = ""
    python: str = "venv"
    secrets: str = ""
    url: str = ""
    port: int = 0
    listen: str = ""
    public_ui: bool = True
    policy: str = ""
    notes: str = ""


def detect(env: Mapping[str, str], exists: Callable[[str], bool], system: str = "linux", rows: list[dict] | None = None) -> Platform:
    """The first row that this environment fits; the last row ("local") fits everything.

    `system` is `sys.platform`; `exists` tells whether a path is there. Both are arguments so that nothing is looked up here.
    """
    row = next(row for row in (_rows() if rows is None else rows) if _fits(row.get("when", {}), env, exists, system))
    return Platform(**{key: _filled(value, env) for key, value in row.items() if key in Platform.__dataclass_fields__})


def here() -> Platform:
    """The platform of the running process."""
    return detect({"HOME": str(Path.home()), **os.environ}, os.path.exists, sys.platform)


def _rows() -> list[dict[str, Any]]:
    from reverie.settings import config

    return config("platforms")["platforms"]


_TESTS: dict[str, Callable[..., bool]] = {
    "any_env": lambda names, env, exists, system: any(env.get(name) for name in names),
    "env_prefix": lambda prefix, env, exists, system: any(name.startswith(prefix) for name in env),
    "env_equals": lambda pairs, env, exists, system: all(env.get(k, "").lower() == str(v).lower() for k, v in pairs.items()),
    "any_path": lambda paths, env, exists, system: any(exists(path) for path in paths),
    "system": lambda prefix, env, exists, system: system.startswith(prefix),
}


def _fits(when: dict[str, Any] | list, env: Mapping[str, str], exists: Callable[[str], bool], system: str) -> bool:
    """Every condition that a row states must hold, or every one of one of its alternatives; none stated fits always."""
    if isinstance(when, list):
        return any(_fits(alternative, env, exists, system) for alternative in when)
    return all(_TESTS[name](value, env, exists, system) for name, value in when.items())


def _filled(value: Any, env: Mapping[str, str]) -> Any:
    return Template(value).safe_substitute(env) if isinstance(value, str) else value
