"""A storage folder for tests that draw for real."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def storage(folder: Path) -> Path:
    """`folder` as a storage whose `pocket` is the embedded model; in a checkout without its weights, one of the same shape
    with random weights, which draws noise just as obediently."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (ROOT / "assets/models/pocket/model_index.json").exists():
        spec = importlib.util.spec_from_file_location("small_models", ROOT / "tests/engines/small.py")
        small = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(small)
        small.pocket(folder / "models/diffusers/pocket")
    return folder
