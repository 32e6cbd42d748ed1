"""Dedup against jdupes and rdfind on one tree, and how long an already stored model takes to be in a second WebUI. Run by hand:

    PYTHONPATH=modules python tests/bench/dedup.py [--folder /tmp] [--rounds 3] [--small]

The tree: models of 64 MB there up to three times, decoys that differ in one byte in the middle, thousands of small files, and
pairs of files with holes; about 4 GB really lie on the disk, 22 GB by their sizes. Each tool finds what is equal (nothing is changed),
turn about, in the same run; then each replaces it, on a copy of its own. As root also with an empty page cache.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OURS = """
import json, sys
from pathlib import Path
from reverie.host.depot import Depot
with Depot(Path(sys.argv[1])) as depot:
    report = depot.dedup([Path(sys.argv[2])], dry_run=sys.argv[3] == "find")
print(json.dumps([len(report.changes), report.freed_bytes, report.read_bytes, len(report.skipped)]))
"""
EXPOSE = """
import os, sys, time
from pathlib import Path
began = time.perf_counter()
from reverie.host.depot import Depot
loaded = time.perf_counter()
with Depot(Path(sys.argv[1])) as depot:
    way = depot.expose(sys.argv[2], Path(sys.argv[3]), "forge")
ended = time.perf_counter()
print((ended - began) * 1e3, (ended - loaded) * 1e3, way)
"""


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def build(top: Path, small: bool) -> None:
    rng, part = random.Random(7), 8 if small else 1
    for number in range(24 // part):
        data = rng.randbytes(64 << 20)
        for copy in range(1 + number % 3):
            write(top / f"webui-{copy}/models/big-{number}-{copy}.safetensors", data)
        if number % 4 == 0:  # the same head, tail and size
            write(top / f"webui-2/models/decoy-{number}.safetensors", data[: 29 << 20] + b"?" + data[(29 << 20) + 1 :])
    for number in range(1500 // part):
        data = rng.randbytes(rng.randrange(64 << 10, 512 << 10))
        for copy in range(1 + number % 2):
            write(top / f"webui-{copy}/embeddings/{number % 40}/small-{number}.safetensors", data)
    for number in range(3):
        seed = rng.randbytes(4 << 20)
        for copy in range(2):
            path = top / f"webui-{copy}/models/holes-{number}.safetensors"
            write(path, seed)
            with open(path, "r+b") as file:
                file.truncate((3 << 30) // part)
                file.seek((1 << 30) // part)
                file.write(seed)
    old = time.time() - 86400
    for path in top.rglob("*"):
        os.utime(path, (old, old))
    os.sync()


def commands(tree: Path, work: Path, change: bool) -> dict[str, list[str]]:
    storage = Path(tempfile.mkdtemp(dir=work)) / "storage"
    return {
        "SD-Reverie": [sys.executable, "-c", OURS, str(storage), str(tree), "link" if change else "find"],
        "jdupes": ["jdupes", "-q", "-r", *(["-L"] if change else ["-m"]), str(tree)],
        "rdfind": ["rdfind", "-dryrun", "false" if change else "true", "-makehardlinks", "true", "-outputname", "/dev/null", str(tree)],
    }


def warm(tree: Path) -> None:
    """What has no holes lies in the page cache: whoever reads holes the plain way fills the cache with zeros."""
    command = ["find", str(tree), "-type", "f", "-not", "-name", "holes-*", "-exec", "cat", "{}", "+"]
    subprocess.run(command, stdout=subprocess.DEVNULL, timeout=3600, check=True)


def timed(command: list[str]) -> tuple[float, float, str]:
    """Seconds, seconds of processors, the last line it said."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=True)
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took, busy, done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def forget_pages() -> bool:
    try:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
        return True
    except OSError:
        return False


def find(tree: Path, work: Path, rounds: int) -> None:
    times: dict[str, list[tuple[float, float]]] = {}
    for turn in range(rounds):
        for name, command in commands(tree, work, change=False).items():
            warm(tree)
            seconds, busy, said = timed(command)
            times.setdefault(name, []).append((seconds, busy))
            if turn == 0:
                print(f"    {name}: {said}")
    for name, taken in times.items():
        seconds, busy = (statistics.median(column) for column in zip(*taken))
        print(f"  find, warm   {name:11s} median {seconds:6.2f} s, {busy:6.2f} s of processors; all {' '.join(f'{t:.2f}' for t, _ in taken)}", flush=True)
    for name, command in commands(tree, work, change=False).items():
        if forget_pages():
            seconds, busy, _ = timed(command)
            print(f"  find, cold   {name:11s} {seconds:6.2f} s, {busy:6.2f} s of processors", flush=True)


def replace(tree: Path, work: Path) -> None:
    for name in ("jdupes", "rdfind", "SD-Reverie"):
        copy = work / f"copy-{name}"
        subprocess.run(["cp", "-a", "--sparse=always", str(tree), str(copy)], check=True, timeout=3600)
        os.sync()
        before = used(work)
        warm(copy)
        seconds, busy, _ = timed(commands(copy, work, change=True)[name])
        os.sync()
        print(f"  replace      {name:11s} {seconds:6.2f} s, {busy:6.2f} s of processors, {(before - used(work)) / 1e9:.2f} GB given back", flush=True)
        if name == "SD-Reverie":
            compare = subprocess.run(["diff", "-r", "-q", str(tree), str(copy)], capture_output=True, text=True, timeout=3600)
            print(f"  every path still shows its bytes: {compare.returncode == 0}")
        shutil.rmtree(copy)


def used(place: Path) -> int:
    return int(subprocess.run(["du", "-s", "-B1", str(place)], capture_output=True, text=True, timeout=600, check=True).stdout.split()[0])


def expose(work: Path, times: int = 20) -> None:
    from reverie.host.depot import Depot

    storage = work / "second"
    with Depot(storage) as depot:
        for number in range(100):
            write(storage / "staged", b"%d" % number * 1000)
            depot.keep(storage / "staged", "", kind="lora", name=f"{number}.safetensors")
        with open(storage / "staged", "wb") as file:
            file.truncate(6 << 30)
        blob = depot.keep(storage / "staged", "ab" * 32, kind="checkpoint", name="big.safetensors", sidecars={".preview.png": b"x" * 200_000})
        depot.expose(blob.name, storage / "models/checkpoints/big.safetensors", "models")
    rows, free = [], used(storage)
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # an installed package is compiled once
    for number in range(times):
        at = storage / f"webuis/forge/models/Stable-diffusion/{number}/big.safetensors"
        done = subprocess.run([sys.executable, "-c", EXPOSE, str(storage), blob.name, str(at)], env=env, capture_output=True, text=True, timeout=60, check=True)
        rows.append([float(value) for value in done.stdout.split()[:2]])
    whole, opened = zip(*rows)
    model = sum(path.lstat().st_blocks * 512 for path in storage.glob("webuis/**/*.safetensors") if not path.is_symlink())
    print(f"  a stored 6 GB model into a second WebUI: with import median {statistics.median(whole):.1f} ms, most {max(whole):.1f}; "
          f"opening the depot and linking median {statistics.median(opened):.1f} ms, most {max(opened):.1f}; {model} bytes of it copied "
          f"({(used(storage) - free) / times / 1e3:.0f} kB each of preview, folders, link)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="an eighth of everything, to try the bench itself")
    given = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="reverie-dedup-", dir=given.folder))
    try:
        build(work / "tree", given.small)
        apparent = sum(path.stat().st_size for path in (work / "tree").rglob("*") if path.is_file())
        print(f"  {sum(1 for path in (work / 'tree').rglob('*') if path.is_file())} files, {apparent / 1e9:.1f} GB by size, {used(work / 'tree') / 1e9:.1f} GB on the disk", flush=True)
        find(work / "tree", work, given.rounds)
        replace(work / "tree", work)
        expose(work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
