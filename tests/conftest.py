"""Every process that a test starts finds the package, and none writes into the project's own storage."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import hypothesis

ROOT = Path(__file__).resolve().parents[1]
STORAGE = tempfile.mkdtemp(prefix="reverie-tests-")
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "modules"), *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ["REVERIE_STORAGE"] = STORAGE

# How long something takes says more of the machine than of the code.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")


def pytest_unconfigure():
    shutil.rmtree(STORAGE, ignore_errors=True)
