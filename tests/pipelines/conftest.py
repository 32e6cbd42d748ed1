"""A studio of its own for each test, over an engine that draws at once."""

from dataclasses import replace

import pytest
from flat_engine import FlatEngine

from reverie import settings
from reverie.studio import Studio


@pytest.fixture
def engine():
    return FlatEngine()


@pytest.fixture
def studio(tmp_path, engine):
    with Studio.open(replace(settings.load(), storage=tmp_path / "storage"), open_engine=lambda name, settings: engine) as studio:
        yield studio
