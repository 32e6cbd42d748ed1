"""How fast files come, and what a kill costs, against a loopback server that gives each connection 2 MB/s.

    python tests/bench/fetch.py [--size-mb 200] [--kills 20] [--only speed|kills]

Speed: raw `aria2c` with our flags, our two ways (each in a Python that runs already, as a notebook's does; what its first fetch took with
its imports is said too), and one plain connection; all in turn, the best of each: aria2 is to reach 0.95 of raw aria2c, aiohttp 0.85, both
six times one connection. Kills: SIGKILL of the process and of all it started
at a random moment, again and again, until the file is there; it is to be right, and at most 20 % of what was there fetched twice.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "modules"), str(ROOT / "tests/host")]
RATE = 2_000_000

CHILD = """
import sys
from pathlib import Path
from reverie.host.fetch import Order, fetch
from reverie.host.resources import Address
url, folder, way, sha256 = sys.argv[1:]
print(fetch([Order("k", lambda: Address(url), sha256=sha256, name="m.safetensors")], Path(folder), way=way)["k"])
"""
AGAIN_AND_AGAIN = """
import shutil, sys, time
from pathlib import Path
from reverie.host.fetch import Order, fetch
from reverie.host.resources import Address
url, folder, way, sha256 = sys.argv[1:]
while sys.stdin.readline():
    shutil.rmtree(folder, ignore_errors=True)
    started = time.perf_counter()
    fetch([Order("k", lambda: Address(url), sha256=sha256, name="m.safetensors")], Path(folder), way=way)
    print(time.perf_counter() - started, flush=True)
"""


def ours(served: dict, folder: Path, way: str) -> list[str]:
    return [sys.executable, "-c", CHILD, served["url"], str(folder), way, served["sha256"]]


def raw_aria2c(served: dict, folder: Path) -> list[str]:
    from reverie.host.fetch.aria2 import FLAGS, binary

    return [binary(), *(f"--{name}={value}" for name, value in FLAGS.items()), "--quiet", f"--dir={folder}", "--out=k.whole", served["url"]]


def one_connection(served: dict, folder: Path) -> list[str]:
    code = "import sys, urllib.request as r; r.urlretrieve(sys.argv[1], sys.argv[2])"
    return [sys.executable, "-c", code, served["url"], str(folder / "k.whole")]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "modules")}


def seconds(command: list[str], folder: Path, sha256: str) -> float:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment(), timeout=600)
    taken = time.perf_counter() - started
    assert digest(folder / "k.whole") == sha256
    return taken


def digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Ours:
    """A Python of its own that fetches the file each time it is told to."""

    def __init__(self, served: dict, folder: Path, way: str):
        command = [sys.executable, "-c", AGAIN_AND_AGAIN, served["url"], str(folder), way, served["sha256"]]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
        self.whole, self.sha256 = folder / "k.whole", served["sha256"]

    def seconds(self) -> float:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        taken = float(self.process.stdout.readline())
        assert digest(self.whole) == self.sha256
        return taken

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=30)


def speed(served: dict, folder: Path, times: int) -> None:
    aria2, aiohttp = (Ours(served, folder, way) for way in ("aria2", "aiohttp"))
    ways = {
        "raw aria2c": lambda: seconds(raw_aria2c(served, folder), folder, served["sha256"]),
        "our aria2": aria2.seconds,
        "our aiohttp": aiohttp.seconds,
    }
    taken = {name: [] for name in ways}
    for _ in range(times):
        for name, measure in ways.items():
            taken[name].append(measure())
    aria2.close()
    aiohttp.close()
    best = {name: min(values) for name, values in taken.items()}
    best["one connection"] = seconds(one_connection(served, folder), folder, served["sha256"])
    for name, value in best.items():
        ratios = f"{best['raw aria2c'] / value:5.2f} of raw aria2c, {best['one connection'] / value:5.1f} × one connection"
        print(f"{name:15} {value:7.2f} s   {ratios}; the first {taken.get(name, [value])[0]:.2f} s", flush=True)


def kills(served: dict, folder: Path, way: str, wanted: int) -> None:
    """A kill's cost: the bytes that were sent for it, less what the record of the staging folder gained."""
    from reverie.host.fetch import resumable

    chance, shares, total, right = random.Random(1), [], 0, 0
    while len(shares) < wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        while True:
            kept_before, sent_before = resumable(folder, "k"), sent(served)
            process = subprocess.Popen(ours(served, folder, way), stdout=subprocess.DEVNULL, env=environment())
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=chance.uniform(1.0, 6.0) if len(shares) < wanted else 600)
            if process.poll() is not None:
                break
            kill_all(process)
            there = kept_before + sent(served) - sent_before
            if there > kept_before:
                shares.append((there - resumable(folder, "k")) / there)
        total, right = total + 1, right + (digest(folder / "k.whole") == served["sha256"])
    numbers = f"mean {statistics.mean(shares):.1%}, median {statistics.median(shares):.1%}, most {max(shares):.1%}"
    print(f"{way:8} {len(shares)} kills, {right} of {total} files right; fetched twice of what was there: {numbers}", flush=True)


def sent(served: dict) -> int:
    with urllib.request.urlopen(served["counts"], timeout=10) as answer:
        return json.load(answer)["file"]


def kill_all(process: subprocess.Popen) -> None:
    import psutil

    for member in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        member.kill()
    process.wait()
    time.sleep(0.3)  # what the server still counts


def hashing(folder: Path) -> None:
    from reverie.host.fetch.checks import sha256

    path = folder.with_name("hashed")
    path.write_bytes(os.urandom(500_000_000))
    sha256(path)
    started = time.perf_counter()
    sha256(path)
    read = time.perf_counter() - started
    data = path.read_bytes()
    started = time.perf_counter()
    hashlib.sha256(data)
    print(f"sha256 of a file {0.5 / read:.2f} GB/s, of memory (the limit here) {0.5 / (time.perf_counter() - started):.2f} GB/s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=int, default=200)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--only", choices=["speed", "kills"])
    arguments = parser.parse_args()
    command = [sys.executable, str(ROOT / "tests/host/file_server.py"), "--size", str(arguments.size_mb * 1_000_000), "--rate", str(RATE)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        served = json.loads(server.stdout.readline())
        with tempfile.TemporaryDirectory(prefix="reverie-bench-") as place:
            folder = Path(place) / "downloads"
            if arguments.only != "kills":
                hashing(folder)
                speed(served, folder, arguments.times)
            for way in ("aria2", "aiohttp") if arguments.only != "speed" else ():
                kills(served, folder, way, arguments.kills)
    finally:
        server.kill()


if __name__ == "__main__":
    main()
