"""Packages from an address: fetched, checked, unpacked, and the archive gone afterwards."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

import small_webui
from reverie.errors import BadInput, FetchFailed, HostFailed, ReverieError
from reverie.host import webuis
from reverie.host.webuis import packages
from reverie.settings import ROOT, Settings


@pytest.fixture
def settings(tmp_path):
    return Settings(root=ROOT, storage=tmp_path / "storage")


@pytest.fixture
def served(tmp_path):
    """(a folder, its address)"""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_package_and_an_environment_from_addresses(settings, served):
    folder, address = served
    zipped, packed = small_webui.package(folder), small_webui.venv(folder)
    small_webui.write_rows(settings.storage, small_webui.row(package=f"{address}/small.zip", package_sha256=small_webui.sha256(zipped), venv=f"{address}/{packed.name}"))
    ui = webuis.find("small", settings)
    steps = []
    receipt = packages.install(ui, settings, steps.append)
    assert webuis.is_installed(ui, settings) and receipt["sha256"] == small_webui.sha256(zipped)
    assert {"fetching small.zip", "fetching small-venv.tar.lz4"} <= {step.what for step in steps}
    assert not [path for path in (settings.storage / "downloads").rglob("*") if path.is_file() and path.stat().st_size], "the archives are gone"


def test_wrong_bytes_an_error_page_and_nothing_at_all_are_told(settings, served):
    folder, address = served
    small_webui.package(folder)
    (folder / "page.zip").write_text("<!DOCTYPE html><title>Sign in</title>" + "x" * 3000)
    for name, digest in (("small.zip", "0" * 64), ("page.zip", ""), ("missing.zip", "")):
        small_webui.write_rows(settings.storage, small_webui.row(package=f"{address}/{name}", package_sha256=digest))
        with pytest.raises(ReverieError) as caught:
            packages.install(webuis.find("small", settings), settings)
        assert isinstance(caught.value, (FetchFailed, BadInput, HostFailed)), name
        assert not (settings.storage / "webuis" / "small").exists(), name


def test_a_path_that_is_not_there_is_said(settings):
    small_webui.write_rows(settings.storage, small_webui.row(package="/nowhere/small.zip"))
    with pytest.raises(BadInput, match="there is no file /nowhere/small.zip"):
        packages.install(webuis.find("small", settings), settings)
