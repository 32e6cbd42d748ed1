#!/usr/bin/env python3
"""Set up SD-Reverie on this machine. Needs Python 3.11 or later and nothing else.

    python3 scripts/setup.py                            set up: makes .venv and installs what is pinned
    python3 scripts/setup.py --run                      … and illustrate the sample text
    python3 scripts/setup.py --run -p text book.md -p chapters "1 3" -p steps 12
    python3 scripts/setup.py --test                     … and run the tests
    python3 scripts/setup.py --test -- tests/host -k platform

Called again it is done at once. Interrupted at any moment, the next call carries on.
A virtual environment that is active, or the Python of Colab or Kaggle, is used as it is: what is installed there stays.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # before anything that an older Python could not read
    sys.exit(f"SD-Reverie needs Python 3.11 or later, this is {sys.version.split()[0]}. Install a newer one and use it here: python3.12 scripts/setup.py")

import argparse
import importlib.util
import json
import os
import signal
import subprocess
from pathlib import Path

from installing import ROOT, SHORT_S, Halt, Target, ask, failed, hosted, is_done, run, say, set_up

TEST_S = 3600
ALL_TESTS = ("-q", "-n", "3", "--dist", "loadfile")  # many of them wait more than they compute
PROMPT = "SD-Reverie"  # what an active environment of ours is called; its pyvenv.cfg says so, and thereby who made it


# ------------------------------------------------------------------------------------------------ which Python to use


def in_kernel() -> bool:
    return "ipykernel" in sys.modules


def choose_target(venv: str | None, no_venv: bool) -> Target:
    """The running Python inside a kernel, on a hosted platform, in an active environment or with --no-venv; else .venv."""
    active = sys.prefix != sys.base_prefix
    if venv is None and (no_venv or active or in_kernel() or hosted()):
        return _describe(sys.executable, (sys.executable, "-m", "pip"), is_ours(Path(sys.prefix)))
    return make_venv(Path(venv).expanduser().absolute() if venv else ROOT / ".venv")


def _python_of(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


_ASK_PLACES = """
import json, os, site, sys, sysconfig
packages, scripts = sysconfig.get_path("purelib"), sysconfig.get_path("scripts")
if not os.access(packages, os.W_OK):
    packages, scripts = site.getusersitepackages(), os.path.join(site.getuserbase(), "bin")
print(json.dumps([sys.version.split()[0], packages, scripts]))
"""


def _describe(python: str, pip: tuple[str, ...], ours: bool) -> Target:
    version, packages, scripts = json.loads(ask(python, "-I", "-c", _ASK_PLACES))
    if tuple(map(int, version.split(".")[:2])) < (3, 11):
        raise Halt(f"{python} is Python {version}; SD-Reverie needs 3.11 or later. Remove that folder or give another --venv.", 2)
    return Target(python, pip, version, Path(packages), Path(scripts), ours)


def is_ours(venv: Path) -> bool:
    """Whether nobody else keeps things in this environment: it is .venv, setup.py made it, or nothing is in it yet."""
    if not venv.exists() or not any(venv.iterdir()) or venv.resolve() == (ROOT / ".venv").resolve():
        return True
    told = venv / "pyvenv.cfg"
    return told.exists() and f"prompt = {PROMPT!r}" in told.read_text("utf-8").splitlines()


def make_venv(venv: Path) -> Target:
    """The virtual environment at `venv`, made or mended if need be. Works without ensurepip where there is a pip.

    In one that is not ours only what is missing is added.
    """
    python, bare, ours = _python_of(venv), importlib.util.find_spec("ensurepip") is None, is_ours(venv)
    if venv.exists() and any(venv.iterdir()) and not (venv / "pyvenv.cfg").exists() and not (venv / "bin").exists():
        raise Halt(f"{venv} holds something else than a virtual environment. Give another folder: --venv PATH", 2)
    pip = (sys.executable, "-m", "pip", "--python", str(python)) if bare else (str(python), "-m", "pip")
    there = (venv / "pyvenv.cfg").exists() and python.exists()
    if there and (bare or _has_pip(python)):
        return _describe(str(python), pip, ours)
    minor = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if bare and importlib.util.find_spec("pip") is None:
        step = f"On Debian and Ubuntu: sudo apt install python{minor}-venv; then call this again."
        raise Halt(f"This Python has neither pip nor ensurepip. {step}")
    if there and not ours:
        say(f"Adding pip to the virtual environment {venv}")
        command = [str(python), "-m", "ensurepip"]
    else:
        say(f"Making the virtual environment {venv}")
        options = [*(["--clear", "--prompt", PROMPT] if ours else []), *(["--without-pip"] if bare else [])]
        command = [sys.executable, "-m", "venv", *options, str(venv)]
    code, lines = run(command, SHORT_S)
    if code:
        debian = f"On Debian and Ubuntu: sudo apt install python{minor}-venv."
        step = debian if ours else "Give another folder: --venv PATH."
        raise failed(f"The virtual environment {venv} could not be made ready.", lines, step)
    return _describe(str(python), pip, ours)


def _has_pip(python: Path) -> bool:
    """Whether pip is there: its folder is looked at, since starting it takes half a second."""
    packages = [*python.parents[1].glob("lib*/python3*/site-packages"), *python.parents[1].glob("Lib/site-packages")]
    return any((folder / "pip" / "__main__.py").exists() and any(folder.glob("pip-*.dist-info/RECORD")) for folder in packages)


# -------------------------------------------------------------------------------------------------- notebook and shell


def notebook() -> None:
    """What cell 1 calls: the running kernel's Python has what it needs, and `import reverie` works in it."""
    target = choose_target(None, no_venv=True)
    set_up(target)
    importlib.invalidate_caches()
    from reverie import __version__

    kind = "headless" if os.environ.get("REVERIE_HEADLESS") else "ready"
    say(f"SD-Reverie {__version__} in {ROOT}, Python {target.version}: {kind}.")


def is_done_here() -> bool:
    """Whether the running Python is set up already."""
    return is_done(choose_target(None, no_venv=True), ())


def load(name: str):
    """The script `scripts/NAME.py` as a module (their names have dashes)."""
    spec = importlib.util.spec_from_file_location(name.replace("-", "_"), ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test(target: Target, arguments: list[str]) -> int:
    """Run pytest, its output as it comes; its exit code."""
    command = [target.python, "-m", "pytest", *(arguments or ALL_TESTS)]
    try:
        return subprocess.run(command, cwd=ROOT, timeout=TEST_S, env={**os.environ, "PYTHONPATH": str(ROOT / "modules")}).returncode
    except subprocess.TimeoutExpired:
        raise Halt(f"The tests did not end within {TEST_S // 60} minutes.") from None


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage="setup.py [options]")
    parser.add_argument("--run", action="store_true", help="run the five cells headless on the sample text, or on what -p says")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter of the run, such as: -p chapters '1 3'")
    parser.add_argument("--test", action="store_true", help="run the tests; what follows -- goes to pytest")
    parser.add_argument("--venv", metavar="PATH", help="the virtual environment to make or use (default: .venv)")
    parser.add_argument("--no-venv", action="store_true", help="install into the Python that runs this")
    parser.add_argument("--again", action="store_true", help="look through everything again, even if it seems done")
    parser.add_argument("pytest", nargs="*", help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = arguments()
    given = parser.parse_args(argv)
    if given.pytest and not given.test:
        parser.error(f"'{given.pytest[0]}' is not an option; see --help")
    if given.p and not given.run:
        parser.error("-p belongs to --run")
    target = choose_target(given.venv, given.no_venv)
    set_up(target, ("test",) if given.test else (), given.again)
    if given.test:
        code = test(target, given.pytest)
        if code or not given.run:
            return code
    if given.run:
        return load("headless").run_notebook(target, given.p)
    say(f"Ready. Next:\n  {target.scripts / 'reverie'} --help\n  python3 scripts/setup.py --run\n  {target.python} -m jupyter lab notebook/Reverie.ipynb")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that pip or papermill ends too
    try:
        sys.exit(main())
    except Halt as halt:
        print(f"\n{halt}", file=sys.stderr)
        sys.exit(halt.code)
    except KeyboardInterrupt:
        print("\nStopped. What is finished stays; call this again to carry on.", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        print(f"\n{error.strerror or error}: {error.filename or ''} Mend that, then call this again.", file=sys.stderr)
        sys.exit(1)
