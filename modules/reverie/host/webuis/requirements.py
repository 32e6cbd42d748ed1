"""pip in a WebUI's environment: what it asks for, without changing the torch that is there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Callable

from reverie.errors import HostFailed
from reverie.host.webuis import commands, venvs
from reverie.settings import ROOT

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROBE_S, ASK_S, INSTALL_S = 3, 120, 3 * 3600
KEPT = ("torch", "torchvision", "torchaudio", "xformers", "numpy", "pillow")  # what a platform has of these must stay
FIRM = ("torch", "torchvision", "torchaudio")
_NETWORK = re.compile(r"NewConnectionError|Name or service|Temporary failure|ConnectTimeout|Read timed out|ProxyError|Max retries|from versions: none")


def install(python: Path, wanted: list[str], cache: Path, on_line: Callable[[str], None] | None = None, cancelled: Callable[[], bool] = lambda: False) -> None:
    """pip installs `wanted` (its arguments: `-r`, file, names) under constraints that keep what is there: first all of KEPT, and
    if that cannot be, torch alone. Nothing wanted: nothing done. HostFailed with pip's last words."""
    if not wanted:
        return
    have = installed(python)
    if "pip" not in have:
        code, lines = commands.run([str(python), "-m", "ensurepip"], within_s=ASK_S, env=venvs.clean_environment(), on_line=on_line, cancelled=cancelled, title="ensurepip")
        if code:
            raise _failed(lines)
    index, keeps = _small_torch(python, wanted, have, cache) if "torch" not in have else ([], [])
    command = [str(python), "-m", "pip", "install", "--no-input", "--progress-bar", "off", *index]
    lines: list[str] = []
    for names in dict.fromkeys((KEPT, FIRM)):
        keep = [*keeps, *sorted(f"{name}=={have[name]}" for name in names if name in have)]
        constraints = cache / f"constraints-{'-'.join(names)}.txt"
        constraints.parent.mkdir(parents=True, exist_ok=True)
        constraints.write_text("\n".join(keep) + "\n", "utf-8")
        code, lines = commands.run(
            [*command, "-c", str(constraints), *wanted], within_s=INSTALL_S, env=venvs.clean_environment(), on_line=on_line, cancelled=cancelled, title="pip install"
        )
        if code == 0:
            return
    raise _failed(lines)


def installed(python: Path) -> dict[str, str]:
    """Name → version of every distribution that this interpreter sees, its platform's too."""
    names = "[[d.metadata['Name'], d.version] for d in m.distributions() if d.metadata['Name']]"
    command = [str(python), "-c", f"import importlib.metadata as m, json; print(json.dumps({names}))"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, env=venvs.clean_environment(), stdin=subprocess.DEVNULL)
        return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in json.loads(answer.stdout)}
    except (OSError, ValueError, subprocess.TimeoutExpired):
        raise HostFailed(f"{python} does not answer.", "Remove that environment's folder, and install again.") from None


def has_nvidia() -> bool:
    if Path("/proc/driver/nvidia/version").exists():
        return True
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=20, stdin=subprocess.DEVNULL).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _small_torch(python: Path, wanted: list[str], have: dict[str, str], cache: Path) -> tuple[list[str], list[str]]:
    """(an index for pip, a constraint): without an NVIDIA card torch comes from PyTorch's own index, which has the small builds and
    the torchvision that fits them, or as the version that the project is pinned to where that is small. HostFailed before
    gigabytes of CUDA are fetched for nothing."""
    if sys.platform != "linux" or has_nvidia() or not _asks_for_torch(wanted):
        return [], []
    if not os.environ.get("PIP_NO_INDEX") and _reachable(f"{CPU_INDEX}/torch/"):
        return ["--extra-index-url", CPU_INDEX], []
    pin = next((line for line in (ROOT / "configs" / "constraints.txt").read_text("utf-8").splitlines() if line.startswith("torch==")), "torch")
    for torch in (pin, "torch"):
        needs = _needs(python, torch, cache)
        if needs is not None and not any(need.startswith("nvidia") for need in needs):
            return [], [torch] if torch != "torch" else []
    step = "Allow that address, or set PIP_FIND_LINKS to a folder with a CPU wheel of torch; then call this again."
    raise HostFailed(f"PyTorch's CPU builds ({CPU_INDEX}) cannot be reached, and elsewhere there is only the CUDA build (several GB, of no use here).", step)


def _asks_for_torch(wanted: list[str]) -> bool:
    files = [Path(word) for flag, word in zip(wanted, wanted[1:]) if flag == "-r"]
    lines = [line for file in files for line in file.read_text("utf-8", errors="replace").splitlines()]
    return any(re.match(r"torch\b(?![\w-])", line.strip()) for line in [*lines, *wanted])


def _needs(python: Path, requirement: str, cache: Path) -> list[str] | None:
    """What this requirement needs itself; None where it is not to be had."""
    report = cache / "torch-report.json"
    cache.mkdir(parents=True, exist_ok=True)
    command = [str(python), "-m", "pip", "install", "--no-input", "--dry-run", "--no-deps", "--report", str(report), requirement]
    code, _ = commands.run(command, within_s=INSTALL_S, env=venvs.clean_environment(), title="pip install --dry-run")
    try:
        return json.loads(report.read_text("utf-8"))["install"][0]["metadata"].get("requires_dist", []) if code == 0 else None
    except (OSError, ValueError, LookupError):
        return None
    finally:
        report.unlink(missing_ok=True)


def _reachable(url: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_S) as answer:
            return answer.status < 400
    except (OSError, ValueError):
        return False


def _failed(lines: list[str]) -> HostFailed:
    text = "\n".join(lines)
    said = next((line for line in reversed(lines) if "ERROR" in line), lines[-1] if lines else "it said nothing")[:250].rstrip(".")
    step = "Call this again; what is finished stays."
    if "No space left" in text:
        step = "The disk is full: free some space, then call this again; what is finished stays."
    elif _NETWORK.search(text):
        step = "Check the network (or HTTPS_PROXY), then call this again; what is finished stays."
    return HostFailed(f"pip could not install what the WebUI needs ({said}).", step)
