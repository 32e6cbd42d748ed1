"""torchvision and torchaudio beside a torch for the processor, where pip could only get the builds for CUDA.

PyTorch's own index has builds that fit; PyPI's do not import beside CPU torch. On a machine without a card and without that
index this makes them importable: torchvision gets the names that it misses, torchaudio goes without its compiled part.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from reverie import media
from reverie.host.webuis import requirements, venvs

PROBE_S = 300  # the first import after an installation compiles everything
NAMES = Path(__file__).with_name("torchvision_names.py")
INSTALLED_AS = "reverie_torchvision_names"
_PROBE = """
import sysconfig
try:
    import torch
    small = not (torch.version.cuda or torch.version.hip)
except Exception:
    small = False
for name in ("torchvision", "torchaudio") if small else ():
    try:
        __import__(name)
    except ModuleNotFoundError:
        pass
    except (RuntimeError, OSError) as error:
        if "torchvision::" in str(error) or "_torchaudio" in str(error):
            print("MISFIT", name, sysconfig.get_path("purelib"), sep="\\t")
"""


def fit(python: Path) -> list[str]:
    """Look whether they import in this interpreter's environment, mend what can be mended in there, and say what was done.

    Nothing outside of the environment's own folder is touched, and nothing at all where there is a card, or torch is built for one.
    """
    if sys.platform != "linux" or requirements.has_nvidia():
        return []
    misfits, done = dict(_misfits(python)), []
    if place := misfits.get("torchvision"):
        media.write_text(place / f"{INSTALLED_AS}.py", NAMES.read_text("utf-8"))
        media.write_text(place / f"{INSTALLED_AS}.pth", f"import {INSTALLED_AS}\n")
        done.append("torchvision was built for CUDA, and torch here is not: it works, without its compiled operators (nms, roi_align and the like)")
    if place := misfits.get("torchaudio"):
        libraries = list((place / "torchaudio" / "lib").glob("*torchaudio*.so"))
        for path in libraries:
            path.rename(path.with_name(f"{path.name}.for-cuda"))
        if libraries:
            done.append("torchaudio was built for CUDA, and torch here is not: it works, without its compiled part")
    return done


def _misfits(python: Path) -> list[tuple[str, Path]]:
    """(package, the environment's site-packages) of what is installed and does not import since it was built for CUDA."""
    try:
        answer = subprocess.run(
            [str(python), "-c", _PROBE], capture_output=True, text=True, errors="replace", timeout=PROBE_S, env=venvs.clean_environment(), stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [line.split("\t") for line in answer.stdout.splitlines() if line.startswith("MISFIT\t")]
    return [(name, Path(place)) for _, name, place in rows]
