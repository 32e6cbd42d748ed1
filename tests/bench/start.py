"""How fast the program answers: `import reverie` (limit 0.2 s) and `reverie --help` (limit 0.3 s), best and median of several.

    python tests/bench/start.py [--times 7]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {"python -c pass": ["-c", "pass"], "import reverie": ["-c", "import reverie"], "reverie --help": ["-m", "reverie.faces.cli", "--help"]}


def seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "modules")}
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment, timeout=60)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=7)
    times = parser.parse_args().times
    for name, arguments in COMMANDS.items():
        found = [seconds(arguments) for _ in range(times)]
        print(f"{name:16} best {min(found):.3f} s, median {statistics.median(found):.3f} s")


if __name__ == "__main__":
    main()
