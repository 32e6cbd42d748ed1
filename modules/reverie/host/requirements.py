"""pip in a WebUI's environment: what it asks for, without changing the torch that is there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Callable

from reverie.errors import HostFailed
from reverie.host import commands, venvs

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
    command = [str(python), "-m", "pip", "install", "--no-input", "--progress-bar", "off", *_index(have)]
    lines: list[str] = []
    for names in dict.fromkeys((KEPT, FIRM)):
        keep = sorted(f"{name}=={have[name]}" for name in names if name in have)
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


def _index(have: dict[str, str]) -> list[str]:
    """Without an NVIDIA card PyTorch's own index has the small builds, and the torchvision that fits them."""
    small = sys.platform == "linux" and not has_nvidia() and ("torch" not in have or "torchvision" not in have)
    return ["--extra-index-url", CPU_INDEX] if small and _reachable(f"{CPU_INDEX}/torch/") else []


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
