"""A depot that is killed at any of its steps: nothing is lost, and doing it again ends well."""

import subprocess
import sys
from pathlib import Path

import pytest

KILLED = Path(__file__).with_name("killed.py")


@pytest.mark.parametrize("job, at_least", [("Keeping", 12), ("Updating", 2), ("Dedup", 15), ("Undo", 8), ("Garbage", 5), ("ThroughTheBin", 10)])
def test_killed_at_any_step_nothing_is_lost(job, at_least, tmp_path):
    done = subprocess.run([sys.executable, str(KILLED), job, str(tmp_path / "top"), "10"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) >= at_least


@pytest.mark.parametrize("job", ["Keeping", "Updating"])
@pytest.mark.parametrize("without", ["symlink", "symlink,link"])
def test_nor_on_a_drive_without_links(job, without, tmp_path):
    done = subprocess.run([sys.executable, str(KILLED), job, str(tmp_path / "top"), "5", without], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
