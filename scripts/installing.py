"""Installing what the constraints pin, with something to see meanwhile. Standard library only; `setup.py` calls this."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
import urllib.request
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STORAGE = Path(os.environ.get("REVERIE_STORAGE") or ROOT / "storage").expanduser().absolute()
LOG = STORAGE / "logs" / "setup.log"
CONSTRAINTS = ROOT / "configs" / "constraints.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
HOSTED = ("KAGGLE_KERNEL_RUN_TYPE", "KAGGLE_URL_BASE", "COLAB_RELEASE_TAG", "COLAB_GPU")  # their Python is the platform
KEPT = {"torch", "numpy", "pillow", "ipykernel", "pydantic"}  # ours too, but what a platform has of these must stay
PROBE_S, SHORT_S, INSTALL_S, RUN_S = 3, 300, 3600, 24 * 3600
HEARTBEAT_S = 15
QUIET_PIP = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_ROOT_USER_ACTION": "ignore", "PYTHONUTF8": "1"}


class Halt(Exception):
    """One sentence for the person in front of it; notebooks show it without a traceback."""

    def __init__(self, sentence: str, code: int = 1):
        super().__init__(sentence)
        self.code = code

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@dataclass(frozen=True)
class Target:
    """The Python to install into. `ours` is False where somebody else keeps other things in it."""

    python: str
    pip: tuple[str, ...]
    version: str
    packages: Path
    scripts: Path
    ours: bool

    @property
    def stamp(self) -> Path:
        return self.packages / "reverie-setup.json"


# ------------------------------------------------------------------------------------------- commands and their output


def run(command: list[str], timeout: float, on_line=None, env: dict | None = None, beat=None) -> tuple[int, list[str]]:
    """Run a command to its end; (exit code, lines). Each line goes to the log and to `on_line`; `beat` is called now and then."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    with open(LOG, "a", encoding="utf-8") as log:
        log.write(f"\n{time.strftime('%Y-%m-%d %H:%M:%S')} $ {' '.join(map(str, command))}\n")
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8",
            errors="replace", env={**os.environ, **QUIET_PIP, **(env or {})}, cwd=ROOT,
        )
        over = threading.Event()
        timer = threading.Timer(timeout, lambda: (over.set(), process.kill()))
        timer.daemon = True
        timer.start()
        done = threading.Event()
        if beat:
            threading.Thread(target=_beat, args=(done, beat), daemon=True).start()
        try:
            for line in process.stdout:
                lines.append(line.rstrip())
                log.write(line)
                log.flush()
                if on_line:
                    on_line(line.rstrip())
            code = process.wait()
        finally:
            done.set()
            timer.cancel()
            _end(process)
    if over.is_set():
        lines.append(f"stopped after {timeout:.0f} s without an end")
    return code, lines


def ask(*command: str, within_s: float = SHORT_S) -> str:
    """What a short command prints. Halt where it does not start, fails or does not end."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=within_s)
    except subprocess.TimeoutExpired:
        later = "Call this again when the machine is less busy."
        raise Halt(f"{command[0]} does not answer within {within_s} s. {later}") from None
    if answer.returncode:
        raise Halt(f"{command[0]} does not start: {answer.stderr.strip()[-300:]}")
    return answer.stdout


def _beat(done: threading.Event, beat) -> None:
    started = time.monotonic()
    while not done.wait(HEARTBEAT_S):
        beat(time.monotonic() - started)


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def say(text: str = "") -> None:
    print(text, flush=True)


def failed(what: str, lines: list[str], next_step: str) -> Halt:
    """What failed, pip's own last words, and what to do; the whole of it lies in the log."""
    told = [line for line in lines if line.strip() and not re.match(r"Collecting|\s*Downloading|Requirement already|WARNING", line)]
    told = [line for line in told if "ERROR" in line] or told
    tail = "\n".join(f"    {line[:200]}" for line in told[-6:])
    return Halt(f"{what}\n{tail}\n{next_step} Everything it said: {LOG}")


# ----------------------------------------------------------------------------------------------------- what to install


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def hosted() -> bool:
    return any(name in os.environ for name in HOSTED)


def wanted(groups: tuple[str, ...]) -> list[str]:
    """The direct requirements. A hosted notebook brings its own front end and kernel."""
    table = project()
    found = [*table["dependencies"], *(r for group in groups for r in table["optional-dependencies"][group])]
    return [r for r in found if not (hosted() and name_of(r) in ("jupyterlab", "ipykernel"))]


def name_of(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.match(r"\s*([A-Za-z0-9._-]+)", requirement)[1]).lower()


def pins() -> dict[str, str]:
    """Name → `name==version` from the constraints file."""
    lines = (line.split("#")[0].strip() for line in CONSTRAINTS.read_text("utf-8").splitlines())
    return {name_of(line): line for line in lines if line}


def fingerprint(target: Target) -> str:
    parts = [CONSTRAINTS.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), target.version.encode(), str(ROOT).encode(), target.python.encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def is_done(target: Target, groups: tuple[str, ...]) -> bool:
    with contextlib.suppress(OSError, ValueError):
        stamp = json.loads(target.stamp.read_text("utf-8"))
        return stamp["fingerprint"] == fingerprint(target) and set(groups) <= set(stamp["groups"])
    return False


def installed(target: Target) -> dict[str, str]:
    """Name → version of every distribution the target's Python sees."""
    names = "[[d.metadata['Name'], d.version] for d in m.distributions() if d.metadata['Name']]"
    answer = ask(target.python, "-c", f"import importlib.metadata as m, json; print(json.dumps({names}))")
    return {name_of(name): version for name, version in json.loads(answer)}


def constraint_sets(target: Target) -> list[Path]:
    """Constraint files to try in turn. Where others' packages lie beside ours, all of these stay: with our pins for the
    rest, without them, and at last only what must never change."""
    if target.ours:
        return [CONSTRAINTS]
    have, direct = installed(target), {name_of(r) for r in project()["dependencies"]} - KEPT
    keep = {name: f"{name}=={version}" for name, version in have.items() if name not in direct}
    pinned = {name: pin for name, pin in pins().items() if name not in have}
    files = []
    for label, lines in (("pinned", keep | pinned), ("kept", keep), ("few", {n: keep[n] for n in KEPT & set(keep)})):
        path = STORAGE / "cache" / f"constraints-{label}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines.values()) + "\n", "utf-8")
        files.append(path)
    return files


# ---------------------------------------------------------------------------------------------------------- installing


def set_up(target: Target, groups: tuple[str, ...] = (), again: bool = False) -> None:
    """Bring the target to what the constraints say. At once when it is there already; one at a time in one environment."""
    if not again and is_done(target, groups):
        return
    with alone(target.packages):
        if again or not is_done(target, groups):
            _install(target, groups)


def _install(target: Target, groups: tuple[str, ...]) -> None:
    started = time.monotonic()
    say(f"Setting up SD-Reverie for Python {target.version} in {Path(target.python).parents[1]}")
    target.stamp.unlink(missing_ok=True)
    if target.ours:
        heal(target)
    install_torch(target)
    install_rest(target, groups)
    link(target)
    check(target)
    target.stamp.write_text(json.dumps({"fingerprint": fingerprint(target), "groups": sorted(groups)}), "utf-8")
    say(f"Set up in {time.monotonic() - started:.0f} s.")


def heal(target: Target) -> None:
    """Forget packages whose installation was cut off: pip writes RECORD last, and takes one without it for installed."""
    if not any((folder / "pyvenv.cfg").exists() for folder in target.packages.parents):
        return
    for info in target.packages.glob("*.dist-info"):
        if not (info / "RECORD").exists():
            shutil.rmtree(info, ignore_errors=True)
    for left in target.packages.glob("~*"):
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def has_nvidia() -> bool:
    if Path("/proc/driver/nvidia/version").exists():
        return True
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=10).returncode == 0
    return False


def reachable(url: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_S) as answer:
            return answer.status < 400
    return False


def install_torch(target: Target) -> None:
    """torch first and alone, so that its build is chosen here and nothing can bring another one along."""
    pin, have = pins()["torch"], installed(target).get("torch", "")
    if have and (not target.ours or have.split("+")[0] == pin.split("==")[1]):
        return say(f"torch {have} is here")
    small = sys.platform == "linux" and not has_nvidia()
    say(f"torch {pin.split('==')[1]}{', the small CPU build' if small else ''}: the largest download")
    if small and reachable(f"{CPU_INDEX}/torch/"):
        if pip(target, ["--no-deps", "--index-url", CPU_INDEX, pin], total=1)[0] == 0:
            return
    if small and brings_cuda(target, pin):
        raise Halt(
            f"PyTorch's CPU builds ({CPU_INDEX}) cannot be reached, and elsewhere there is only the CUDA build (several GB, of no use here). "
            f"Allow that address, or put a CPU wheel of {pin} into a folder and set PIP_FIND_LINKS to it; then call this again."
        )
    code, lines = pip(target, ["--no-deps", pin], total=1)
    if code:
        raise failed("torch could not be installed.", lines, network_step(lines))


def brings_cuda(target: Target, pin: str) -> bool:
    """Whether the default index's torch for this machine needs NVIDIA's libraries."""
    report = STORAGE / "cache" / "torch-report.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    code, lines = run([*target.pip, "install", "--dry-run", "--no-deps", "--report", str(report), pin], INSTALL_S)
    if code:
        raise failed("torch could not be found.", lines, network_step(lines))
    needs = json.loads(report.read_text("utf-8"))["install"][0]["metadata"].get("requires_dist", [])
    report.unlink()
    return any(need.startswith("nvidia-") for need in needs)


def install_rest(target: Target, groups: tuple[str, ...]) -> None:
    requirements = wanted(groups)
    lines: list[str] = []
    for constraints in constraint_sets(target):
        total = len(pins()) if target.ours else 0
        code, lines = pip(target, ["-c", str(constraints), *requirements], total)
        if code == 0:
            return
    if any("externally-managed" in line for line in lines):
        raise Halt(f"The system keeps {target.python} for itself. Use an environment of the project's own: python3 scripts/setup.py")
    raise failed("The packages could not be installed.", lines, network_step(lines))


def network_step(lines: list[str]) -> str:
    text = "\n".join(lines)
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple/")
    cut_off = "from versions: none" in text and not reachable(index)  # pip keeps quiet about it when told not to try again
    if cut_off or re.search(r"NewConnectionError|Name or service|Temporary failure|ConnectTimeout|Read timed out|ProxyError|Max retries", text):
        return "There is no way to the package index: check the network (or HTTPS_PROXY), then call this again; what is finished stays."
    if "No space left" in text:
        return "The disk is full: free some space, then call this again; what is finished stays."
    return "Call this again; if it stays, python3 scripts/setup.py --again starts over."


def pip(target: Target, arguments: list[str], total: int) -> tuple[int, list[str]]:
    progress = Progress(target, total)
    return run([*target.pip, "install", "--progress-bar", "off", *arguments], INSTALL_S, progress.line, beat=progress.beat)


class Progress:
    """pip's output as one line a package: which, of how many, how large, when."""

    def __init__(self, target: Target, total: int):
        self.target, self.total, self.started = target, total, time.monotonic()
        self.seen: set[str] = set()
        self.doing, self.installing, self.before = "looking up", 0, 0

    def line(self, line: str) -> None:
        if found := re.match(r"Requirement already satisfied: ([A-Za-z0-9._-]+)", line):
            self.seen.add(name_of(found[1]))
        elif found := re.match(r"Collecting ([A-Za-z0-9._-]+)", line):
            self.doing = f"looking up {name_of(found[1])}"
        elif found := re.match(r"\s*(?:Downloading|Using cached|Processing) \S*?([^/\s]+)\.whl(?: \(([\d.]+ \w+)\)| \(.*)?$", line):
            self.wheel(*found[1].split("-")[:2], size=found[2] or "")
        elif line.startswith("Installing collected packages:"):
            self.installing, self.before = line.count(",") + 1, self.there()
            self.doing = f"installing {self.installing} package{'s' if self.installing > 1 else ''}"
            self.tell(f"        {self.doing}")

    def wheel(self, name: str, version: str, size: str) -> None:
        self.doing = f"{name_of(name)} {version.split('+')[0]}"
        if name_of(name) not in self.seen:
            self.seen.add(name_of(name))
            of = f"{len(self.seen):3d}/{self.total}" if self.total >= len(self.seen) else f"{len(self.seen):3d}"
            self.tell(f"{of:7s} {self.doing} {size}".rstrip())

    def tell(self, text: str) -> None:
        say(f"  {text}  [{time.monotonic() - self.started:.0f} s]")

    def there(self) -> int:
        return sum(1 for _ in self.target.packages.glob("*.dist-info"))

    def beat(self, seconds: float) -> None:
        self.tell(f"        {self.doing}: {self.there() - self.before} done" if self.installing else f"        … {self.doing}")


def link(target: Target) -> None:
    """Make `import reverie` and the `reverie` command work in the target, without a build."""
    target.scripts.mkdir(parents=True, exist_ok=True)
    target.packages.mkdir(parents=True, exist_ok=True)
    (target.packages / "reverie.pth").write_text(f"{ROOT / 'modules'}\n", "utf-8")
    if os.name == "nt":
        (target.scripts / "reverie.cmd").write_text(f'@"{target.python}" -m reverie.faces.cli %*\n', "utf-8")
        return
    body = "import sys\nfrom reverie.faces.cli import main\nsys.exit(main())\n"
    launcher = target.scripts / "reverie"
    launcher.write_text(f"#!/bin/sh\n'''exec' \"{target.python}\" \"$0\" \"$@\"\n' '''\n{body}", "utf-8")  # paths with spaces
    launcher.chmod(0o755)


def check(target: Target) -> None:
    """What was installed is there and torch starts."""
    missing = [name for name in map(name_of, wanted(())) if name not in installed(target)]
    if missing:
        raise Halt(f"After the installation these are missing: {', '.join(missing)}. Call this again with --again.")
    code, lines = run([target.python, "-c", "import torch, PIL, numpy; print('torch', torch.__version__)"], SHORT_S)
    if code:
        raise failed("torch is installed but does not start.", lines, "Call this again with --again.")
    say(f"  {lines[-1]} starts")


@contextlib.contextmanager
def alone(folder: Path):
    """One set-up at a time in one environment; a second one waits. (Windows has no such lock here: pip's own must do.)"""
    try:
        import fcntl
    except ImportError:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".reverie-setup.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("Another set-up is at work here; waiting for it …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
