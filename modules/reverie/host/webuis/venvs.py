"""Python environments of WebUIs: made here, or unpacked from an archive that was made in another place, and moved in.

An environment names its own place in its scripts and its Python's in pyvenv.cfg; `relocate` rewrites both. It counts as ready when
its interpreter was started once and the receipt was written.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from reverie import media
from reverie.errors import HostFailed
from reverie.host import webuis

CHECK_S, MAKE_S = 120, 600
_SHEBANG_MAX = 127  # letters that every Linux reads of a first line
_PYTHON = re.compile(r"python[\d.]*w?(\.exe)?$")


def receipt(folder: Path) -> dict:
    """What was written when it became ready: {} before."""
    try:
        read = json.loads((folder / webuis.RECEIPT).read_text("utf-8"))
        return read if isinstance(read, dict) else {}
    except (OSError, ValueError):
        return {}


def ready(folder: Path, **about) -> None:
    media.write_text(folder / webuis.RECEIPT, json.dumps(about, indent=2, sort_keys=True) + "\n")


def make(folder: Path, python: str, system_packages: bool) -> None:
    """A new environment at `folder`, or what a killed run began of one made whole. `system_packages`: it sees python's own
    packages (the platform's torch). HostFailed."""
    command = [python, "-m", "venv", *(["--system-site-packages"] if system_packages else [])]
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = _run([*command, str(folder)], MAKE_S)
    if done.returncode and system_packages:  # Colab's Python has no ensurepip; its own pip is seen from in there
        done = _run([*command, "--without-pip", "--clear", str(folder)], MAKE_S)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines() or ["it said nothing"]
        step = "On Debian and Ubuntu: apt install python3-venv, then call this again." if "ensurepip" in done.stdout + done.stderr else "Call this again."
        raise HostFailed(f"No environment could be made at {folder} ({said[-1][:200]}).", step)
    check(folder)


def relocate(folder: Path, final: Path, version: str = "") -> None:
    """Make the environment unpacked at `folder` one that lives at `final`. HostFailed where its Python is missing here."""
    bin_folder = next((folder / name for name in ("bin", "Scripts") if (folder / name).is_dir()), None)
    if bin_folder is None:
        raise HostFailed(f"{folder.name} holds no Python environment (no bin folder).", "Pack the folder that `python -m venv` made.")
    old = _packed_at(folder, bin_folder)
    version = _version(folder) or version
    if not _runs_itself(bin_folder):
        _give_python(folder, bin_folder, find_python(version))
    for path in sorted(bin_folder.iterdir()):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 20:
            _rewrite(path, old, str(final), bin_folder.name)
    for path in [*folder.glob("lib/python*/site-packages/*.pth"), *folder.glob("lib/python*/site-packages/*.egg-link")]:
        _replace(path, old, str(final))


def check(folder: Path) -> str:
    """Start its interpreter; the Python version. HostFailed if it does not start or is another environment's."""
    python = webuis.interpreter(folder)
    try:
        done = _run([str(python), "-c", "import sys; print(sys.prefix); print(sys.version.split()[0])"], CHECK_S)
    except OSError as error:
        raise HostFailed(f"{python} cannot be started ({error.strerror}).", "Remove the environment's folder, and install again.") from None
    lines = done.stdout.split("\n")
    if done.returncode or len(lines) < 2:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:200]
        raise HostFailed(f"{python} does not start ({said}).", "This environment was made for another system: install from git instead.")
    if os.path.realpath(lines[0]) != os.path.realpath(folder):
        raise HostFailed(f"{python} belongs to {lines[0]}, not to {folder}.", "Remove that folder, and install again.")
    return lines[1]


def find_python(version: str) -> str:
    """An interpreter of this version (`3.10`; "" any) outside of every environment. HostFailed names what to install."""
    base = getattr(sys, "_base_executable", sys.executable)
    if version in ("", webuis.running_python()):
        return base
    places = [shutil.which(f"python{version}"), f"/usr/bin/python{version}", f"/usr/local/bin/python{version}", f"/opt/homebrew/bin/python{version}"]
    for found in filter(None, places):
        if Path(found).exists() and _is_version(found, version):
            return os.path.realpath(found)
    step = f"Install Python {version} (Debian, Ubuntu: apt install python{version} python{version}-venv), then call this again."
    raise HostFailed(f"Python {version} is not on this machine.", step)


def heal(folder: Path) -> None:
    """Forget packages whose installation was cut off: pip writes RECORD last, and takes one without it for installed."""
    for packages in folder.glob("lib/python*/site-packages"):
        for left in [*(info for info in packages.glob("*.dist-info") if not (info / "RECORD").exists()), *packages.glob("~*")]:
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def clean_environment() -> dict[str, str]:
    """The running environment without what would lead another Python astray, or ask somebody something."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "CONDA_", "__PYVENV"))}
    return {**kept, "PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}


# ----------------------------------------------------------------------------------------------------------------- details


def _run(command: list[str], within_s: float) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=within_s, env=clean_environment(), stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise HostFailed(f"{command[0]} did not answer within {within_s:.0f} s.", "Call this again when the machine is less busy.") from None


def _is_version(python: str, version: str) -> bool:
    try:
        return _run([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], CHECK_S).stdout.strip() == version
    except OSError:
        return False


def _config(folder: Path) -> dict[str, str]:
    try:
        pairs = (line.partition("=") for line in (folder / "pyvenv.cfg").read_text("utf-8").splitlines() if "=" in line)
    except OSError:
        return {}
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _version(folder: Path) -> str:
    config = _config(folder)
    found = re.match(r"3\.\d+", config.get("version", config.get("version_info", "")))
    if found:
        return found[0]
    return next((match[1] for path in sorted(folder.glob("lib/python3.*")) if (match := re.fullmatch(r"python(3\.\d+)", path.name))), "")


def _packed_at(folder: Path, bin_folder: Path) -> str:
    """Where the environment lay when it was packed, as its activate script or pyvenv.cfg tells; "" if nothing does."""
    try:
        found = re.search(r"""^\s*(?:export )?VIRTUAL_ENV=['"]?([^'"\n$]+)['"]?\s*$""", (bin_folder / "activate").read_text("utf-8"), re.M)
        if found and os.path.isabs(found[1]):
            return found[1].rstrip("/")
    except (OSError, UnicodeDecodeError):
        pass
    made_by = _config(folder).get("command", "").rpartition(" ")[2]
    return made_by.rstrip("/") if os.path.isabs(made_by) else ""


def _runs_itself(bin_folder: Path) -> bool:
    """Whether it brought an interpreter (a file, no link) with all it needs, as environments that are made to be carried do."""
    home = _config(bin_folder.parent).get("home", "")
    return not (home and not os.path.isdir(home)) and any(path.is_file() and not path.is_symlink() and _PYTHON.match(path.name) and path.stat().st_size > 4096 for path in bin_folder.iterdir())


def _give_python(folder: Path, bin_folder: Path, python: str) -> None:
    real = Path(os.path.realpath(python))
    names = {"python", "python3", f"python{_version(folder) or webuis.running_python()}"}
    for name in names:
        target = bin_folder / name
        target.unlink(missing_ok=True)
        target.symlink_to(real)
    config = {**_config(folder), "home": str(real.parent), "executable": str(real)}
    config.pop("command", None)
    config.setdefault("include-system-site-packages", "false")
    media.write_text(folder / "pyvenv.cfg", "".join(f"{name} = {value}\n" for name, value in config.items()))


def _rewrite(path: Path, old: str, new: str, bin_name: str) -> None:
    """First line and names of the old place, in one script of the bin folder."""
    data = path.read_bytes()
    first, line, rest = data.partition(b"\n")
    if first.startswith(b"#!"):
        names_python = re.match(rb"#!\s*(/[^\s]*/(?:bin|Scripts)/(python[\d.]*w?))(\s.*)?$", first)
        ours = names_python and (names_python[1].startswith(old.encode() + b"/") if old else not os.path.exists(names_python[1]))
        if ours:
            _write(path, _first_line(f"{new}/{bin_name}/{names_python[2].decode()}", (names_python[3] or b"").decode()) + rest)
            data = rest
    if b"\0" not in data[:8192]:
        _replace(path, old, new)


def _first_line(python: str, arguments: str) -> bytes:
    """The line that starts `python`, in the form that also takes long paths and such with spaces."""
    if len(python) + len(arguments) + 2 <= _SHEBANG_MAX and " " not in python:
        return f"#!{python}{arguments}\n".encode()
    return f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n".encode()


def _replace(path: Path, old: str, new: str) -> None:
    """The old place's name, where it stands alone, becomes the new one's."""
    data = path.read_bytes()
    changed = re.sub(rb"(?<![\w./-])" + re.escape(old.encode()) + rb"(?![\w.-])", lambda match: new.encode(), data) if old else data
    if changed != data:
        _write(path, changed)


def _write(path: Path, data: bytes) -> None:
    mode = path.stat().st_mode
    media.write_bytes(path, data)
    os.chmod(path, mode)
