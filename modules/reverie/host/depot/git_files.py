"""Which files a program's own repository has: with a link in place of one of them it could not be updated any more."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

GIT_S = 60


class GitFiles:
    """`has(path)`: whether the git repository that `path` lies in, if in any, has it."""

    def __init__(self) -> None:
        self._tops: dict[Path, Path | None] = {}  # folder → its repository
        self._files: dict[Path, frozenset[str]] = {}

    def has(self, path: Path) -> bool:
        top = self._top(path.parent)
        if top is None:
            return False
        if top not in self._files:
            self._files[top] = frozenset(_files_of(top))
        return path.relative_to(top).as_posix() in self._files[top]

    def _top(self, folder: Path) -> Path | None:
        if folder not in self._tops:
            above = folder.parent if folder.parent != folder else None
            self._tops[folder] = folder if (folder / ".git").exists() else self._top(above) if above else None
        return self._tops[folder]


def _files_of(top: Path) -> list[str]:
    """Nothing that the repository's own settings name is run."""
    command = ["git", "-c", "core.fsmonitor=false", "-c", "safe.directory=*", "-C", str(top), "ls-files", "-z"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=GIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return os.fsdecode(done.stdout).split("\0") if done.returncode == 0 else []
