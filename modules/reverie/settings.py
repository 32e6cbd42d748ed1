"""Where things are, and the few settings that are not part of a pipeline's Params. Environment first, then defaults."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reverie.errors import BadInput

ROOT = Path(os.environ.get("REVERIE_ROOT") or Path(__file__).resolve().parents[2])
_OUTSIDE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class Settings:
    """Folders of one installation (all paths are absolute), and what it draws on and how.

    `device`: auto, cpu, cuda:0, mps, or several with commas between; `cache_gb`: main memory for models that a worker keeps
    beside the one in use, None: half of what is left; `accelerate`: how the diffusers engine is made faster: by nothing,
    compile or openvino.
    """

    root: Path
    storage: Path
    device: str = "auto"
    cache_gb: float | None = None
    accelerate: str = ""

    @property
    def configs(self) -> Path:
        return self.root / "configs"

    @property
    def assets(self) -> Path:
        return self.root / "assets"

    @property
    def models(self) -> Path:
        return self.storage / "models"

    @property
    def outputs(self) -> Path:
        return self.storage / "outputs"

    @property
    def wildcards(self) -> list[Path]:
        """Where `__name__` in a prompt looks for `name.txt`: the user's own first."""
        return [self.storage / "wildcards", self.assets / "wildcards"]

    @property
    def database(self) -> Path:
        return self.storage / "reverie.sqlite3"


def load() -> Settings:
    """Settings from REVERIE_ROOT, REVERIE_STORAGE (default: `storage/` in the project), REVERIE_DEVICE, REVERIE_CACHE_GB
    and REVERIE_ACCELERATE."""
    storage = Path(os.environ.get("REVERIE_STORAGE") or ROOT / "storage").expanduser()
    device = os.environ.get("REVERIE_DEVICE", "").strip() or "auto"
    way = os.environ.get("REVERIE_ACCELERATE", "").strip().lower()
    return Settings(root=ROOT, storage=storage.absolute(), device=device, cache_gb=_gigabytes("REVERIE_CACHE_GB"), accelerate=way)


def _gigabytes(name: str) -> float | None:
    """The number in this environment variable, None where it is not set."""
    text = os.environ.get(name, "").strip()
    try:
        number = float(text) if text else None
    except ValueError:
        number = -1.0
    if number is not None and not 0 <= number < float("inf"):
        raise BadInput(f"{name} is '{text}', which is no number of gigabytes.", f"Set it to something like {name}=8, or unset it.")
    return number


def child_environment() -> dict[str, str]:
    """The environment of a process that computes for this one: it finds the package, and fetches nothing behind the person's back."""
    paths = [str(Path(__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, **_OUTSIDE, "PYTHONPATH": os.pathsep.join(paths)}


def secret(*names: str) -> str:
    """The first of these names that is set, in the environment or as `NAME=value` in storage/secrets.env; "" if none is.

    BadInput where others than its owner may read that file.
    """
    kept = _kept_secrets(load().storage / "secrets.env")
    found = (source.get(name, "").strip() for name in names for source in (os.environ, kept))
    return next(filter(None, found), "")


def _kept_secrets(path: Path) -> dict[str, str]:
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise BadInput(f"Others may read {path}, and it holds secrets.", f"Run: chmod 600 {path}")
        lines = path.read_text("utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}


@functools.lru_cache(maxsize=None)
def config(name: str) -> dict[str, Any]:
    """`configs/NAME.yaml` as a dict, read once."""
    import yaml

    path = ROOT / "configs" / f"{name}.yaml"
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        return yaml.load(path.read_text("utf-8"), loader) or {}
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist.", "Fetch the project again, or restore the file.") from None
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise BadInput(f"{path} is not valid YAML: {said}.", "Mend the line it names.") from None
