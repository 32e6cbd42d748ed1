"""Servers on loopback, and one way of asking them."""

from __future__ import annotations

import pytest
from file_server import FileServer
from hub_servers import Hubs

from reverie.host.fetch import Order, fetch
from reverie.host.resources import Address


@pytest.fixture
def server():
    server = FileServer()
    yield server
    server.close()


@pytest.fixture
def ask(server, tmp_path):
    """Asks for a served file in `tmp_path/downloads`, and gives what came of it."""

    def ask(path: str = "model.safetensors", **options):
        order = {name: options.pop(name) for name in ("size", "sha256", "title", "name") if name in options}
        address = options.pop("address", lambda: Address(server.sign(path)))
        options.setdefault("patience_s", 1)
        return fetch([Order("k", address, **{"name": path, **order})], tmp_path / "downloads", **options)["k"]

    return ask


@pytest.fixture
def hubs(monkeypatch):
    with Hubs() as hubs:
        for name, value in hubs.environment().items():
            monkeypatch.setenv(name, value)
        for name in ("CIVITAI_TOKEN", "HF_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield hubs
