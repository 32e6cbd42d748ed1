"""The WebUIs that can be installed and started: rows of `configs/webuis.yaml` and of the person's own `storage/webuis.yaml`.

Where a WebUI lies: `storage/webuis/<id>/`, its environment in `storage/venvs/<name>/`.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from string import Template
from typing import Any

from reverie.errors import BadInput, NotFound
from reverie.host.webuis.row import WebUI, validate
from reverie.settings import Settings, config, load

OWN = "webuis.yaml"
RECEIPT = ".reverie.json"


def all(settings: Settings | None = None) -> list[WebUI]:
    """Every WebUI: ours in the catalogue's order, then the person's own; an own row replaces ours of the same id.

    BadInput where a row cannot be used."""
    rows = [validate(row, "configs/webuis.yaml") for row in config("webuis")["webuis"]]
    own = {ui.id: ui for ui in own_rows(settings or load())}
    return [own.pop(ui.id, ui) for ui in rows] + list(own.values())


def find(id: str, settings: Settings | None = None) -> WebUI:
    """The WebUI of this id. NotFound names those there are."""
    known = {ui.id: ui for ui in all(settings)}
    if id not in known:
        raise NotFound(f"There is no WebUI '{id}'.", f"There are: {', '.join(known)}. Add your own in storage/{OWN}.")
    return known[id]


def own_rows(settings: Settings) -> list[WebUI]:
    import yaml

    path = settings.storage / OWN
    try:
        read = yaml.safe_load(path.read_text("utf-8")) or {}
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{path} cannot be read ({' '.join(str(error).split())[:200]}).", "Mend the line it names, or remove the file.") from None
    rows = read.get("webuis") if isinstance(read, dict) else None
    if not isinstance(rows, list):
        raise BadInput(f"{path} has no list called 'webuis'.", "Begin it with 'webuis:' and one '- id: …' for each.")
    found = [validate(row, str(path)) for row in rows]
    twice = {ui.id for ui in found if [other.id for other in found].count(ui.id) > 1}
    if twice:
        raise BadInput(f"{path} has '{sorted(twice)[0]}' twice.", "Give each row an id of its own.")
    return found


# ------------------------------------------------------------------------------------------------------------ where it is


def home(ui: WebUI, settings: Settings) -> Path:
    return settings.storage / "webuis" / ui.id


def venv_name(ui: WebUI) -> str:
    """Environments of the same archive are shared: they are named after it."""
    if not ui.venv:
        return ui.id
    name = re.sub(r"[?#].*", "", ui.venv).replace("\\", "/").rstrip("/").rpartition("/")[2]
    return re.sub(r"[^\w.-]", "_", re.sub(r"(\.tar)?\.(lz4|gz|xz|bz2|tar|tgz|zip)$", "", name)) or ui.id


def venv(ui: WebUI, settings: Settings) -> Path:
    """The environment that it was installed with; before that, the one that it would get."""
    return settings.storage / "venvs" / (receipt(ui, settings).get("venv") or venv_name(ui))


def venv_python(ui: WebUI, settings: Settings) -> Path:
    """Its interpreter, whether it is there or not."""
    return interpreter(venv(ui, settings))


def interpreter(folder: Path) -> Path:
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def outputs(ui: WebUI, settings: Settings) -> Path:
    return settings.outputs / ui.id


def receipt(ui: WebUI, settings: Settings) -> dict[str, Any]:
    """What was written when it was installed: {} where it is not."""
    import json

    try:
        read = json.loads((home(ui, settings) / RECEIPT).read_text("utf-8"))
        return read if isinstance(read, dict) and isinstance(read.get("venv", ""), str) and "/" not in read.get("venv", "") else {}
    except (OSError, ValueError):
        return {}


def is_installed(ui: WebUI, settings: Settings) -> bool:
    """Whether it was installed to the end and its interpreter is still there."""
    return receipt(ui, settings).get("state") == "installed" and venv_python(ui, settings).exists()


def command(ui: WebUI, settings: Settings, port: int | None = None, device: str = "gpu", extra: tuple[str, ...] = ()) -> list[str]:
    """The argument list that starts it: to be run in `home(ui)`. `device` is gpu, cpu or low_vram; `extra` comes last."""
    words = [*ui.start, *ui.arguments.get(device, ())]
    return [_fill(word, ui, settings, port) for word in words] + [str(word) for word in extra]


def environment(ui: WebUI, settings: Settings, port: int | None = None) -> dict[str, str]:
    """What is added to the environment that it starts in."""
    return {name: _fill(value, ui, settings, port) for name, value in ui.environment.items()}


def extra_paths(ui: WebUI, settings: Settings) -> Path:
    return home(ui, settings) / "extra_model_paths.reverie.yaml"


def _fill(text: str, ui: WebUI, settings: Settings, port: int | None) -> str:
    return Template(text).substitute(
        PYTHON=venv_python(ui, settings), VENV=venv(ui, settings), HOME=home(ui, settings), PORT=port or ui.port,
        OUTPUTS=outputs(ui, settings), MODELS=settings.models, EXTRA_PATHS=extra_paths(ui, settings),
    )


def device(vram_gb: float) -> str:
    """Which of a row's arguments suit a card with that much memory; 0: there is no card."""
    return "cpu" if vram_gb <= 0 else "low_vram" if vram_gb < 8 else "gpu"


def running_python() -> str:
    """`3.11`"""
    return f"{sys.version_info.major}.{sys.version_info.minor}"
