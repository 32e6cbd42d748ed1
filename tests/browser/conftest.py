"""Headless Chromium for the tests of this folder; without one they are skipped, and say so."""

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]
import lab  # noqa: E402


@pytest.fixture(scope="session")
def chromium():
    if lab.CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine (Debian: apt-get install chromium)")
    with lab.browser() as browser:
        yield browser
