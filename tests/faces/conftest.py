"""The command line as people call it: another process, its own storage."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import home  # noqa: E402

COMMAND = [sys.executable, "-m", "reverie.faces.cli"]
TIMEOUT_S = 300


@dataclass(frozen=True)
class Cli:
    """Calls `reverie ARGS`; returns the finished process, its texts as str."""

    storage: Path

    @property
    def env(self):
        return os.environ | {"PYTHONPATH": str(home.ROOT / "modules"), "REVERIE_STORAGE": str(self.storage), "NO_COLOR": "1", "COLUMNS": "100"}

    def __call__(self, *args, cwd=home.ROOT):
        return subprocess.run([*COMMAND, *map(str, args)], env=self.env, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL)

    def start(self, *args):
        heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs begin deaf to Ctrl-C
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        return subprocess.Popen([*COMMAND, *map(str, args)], env=self.env, cwd=home.ROOT, text=True, preexec_fn=heard if os.name == "posix" else None, **pipes)


@pytest.fixture
def reverie(tmp_path):
    """The command with an empty storage: for what draws nothing."""
    return Cli(tmp_path / "storage")


@pytest.fixture(scope="session")
def drawing(tmp_path_factory):
    """The command with a storage that has a model, shared by the tests of this session."""
    return Cli(home.storage(tmp_path_factory.mktemp("drawing") / "storage"))
