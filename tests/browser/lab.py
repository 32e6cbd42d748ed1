"""A real JupyterLab on a loopback port, and headless Chromium looking at it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMIUM_ARGS = [
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
    "--disable-extensions", "--disable-sync", "--no-first-run", "--mute-audio",
]
START_S, STOP_S = 240, 20


@contextlib.contextmanager
def server(folder: Path, storage: Path):
    """JupyterLab serving `folder`; yields a function from a file's name to its address. Gone when this ends."""
    port, token, home = _free_port(), secrets.token_hex(16), folder / ".home"
    home.mkdir()
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("modules", "scripts")), "REVERIE_STORAGE": str(storage), "JUPYTER_CONFIG_DIR": str(home), "JUPYTER_DATA_DIR": str(home),
        "JUPYTER_RUNTIME_DIR": str(home), "IPYTHONDIR": str(home), "JUPYTERLAB_SETTINGS_DIR": str(_quiet_settings(home)), "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}", "--LabApp.news_url=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    with open(folder / "lab.log", "wb") as log:
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_until_up(process, f"http://127.0.0.1:{port}/api/status?token={token}", folder / "lab.log")
            yield lambda name: f"http://127.0.0.1:{port}/lab/tree/{name}?token={token}&reset"
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_S)


@contextlib.contextmanager
def browser():
    """Headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        try:
            yield chromium
        finally:
            chromium.close()


def copy_notebook(target: Path, parameters: str) -> Path:
    """The project's notebook with one cell of parameters above it, as papermill puts it there."""
    import nbformat

    notebook = nbformat.read(ROOT / "notebook" / "Reverie.ipynb", as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(parameters))
    nbformat.write(notebook, target)
    return target


def _quiet_settings(home: Path) -> Path:
    """No news, no update check: nothing but the whole notebook on the page, and nothing asks the network."""
    folder = home / "settings"
    said = {
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "notebook-extension/tracker": {"windowingMode": "defer"},  # a cell that is out of sight stays on the page
    }
    for name, values in said.items():
        target = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
        target.parent.mkdir(parents=True)
        target.write_text(json.dumps(values))
    return folder


def _wait_until_up(process: subprocess.Popen, address: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text('utf-8', 'replace')[-3000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_cell(page, number: int = 0) -> None:
    """Run one cell and wait until the kernel has taken it. Keys typed before the kernel is there are lost."""
    page.locator("#jp-main-statusbar").get_by_text("Idle").first.wait_for()
    cell = page.locator(".jp-Notebook .jp-CodeCell").nth(number)
    cell.scroll_into_view_if_needed()
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    cell.locator(".jp-InputPrompt").get_by_text("[").and_(cell.locator(".jp-InputPrompt:not(:has-text('[ ]'))")).wait_for()


def shot(page, what, name: str) -> None:
    """A photograph of one panel, whole, into the folder REVERIE_SHOTS; nothing without one."""
    if not os.environ.get("REVERIE_SHOTS"):
        return
    before = page.viewport_size
    page.set_viewport_size({"width": before["width"], "height": int(what.bounding_box()["height"]) + 400})
    what.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    what.screenshot(path=Path(os.environ["REVERIE_SHOTS"], f"{name}.png"), animations="disabled")
    page.set_viewport_size(before)


def photograph(page, name: str) -> None:
    """The same of the whole page."""
    if os.environ.get("REVERIE_SHOTS"):
        page.screenshot(path=Path(os.environ["REVERIE_SHOTS"], f"{name}.png"))


def readme(page, what, name: str, height: int = 860) -> None:
    """A panel as the README shows it: 1400 pixels across, at most `height` of them from its top, as JPEG."""
    if not os.environ.get("REVERIE_SHOTS"):
        return
    before = page.viewport_size
    page.set_viewport_size({"width": before["width"] + 1400 - round(what.bounding_box()["width"]), "height": height + 400})
    what.scroll_into_view_if_needed()
    page.wait_for_timeout(600)
    box = what.bounding_box()
    clip = {**box, "height": min(box["height"], height)}
    page.screenshot(path=Path(os.environ["REVERIE_SHOTS"], f"{name}.jpg"), type="jpeg", quality=86, clip=clip)
    page.set_viewport_size(before)


def not_cut(page, root: str = ".rv-choose") -> None:
    """Every tab's title and every word of a button or beside a tick is there whole, and nothing is wider than its panel."""
    cut = page.evaluate(
        """root => [...document.querySelectorAll(root)].flatMap(panel => [...panel.querySelectorAll('.lm-TabBar-tabLabel, .widget-checkbox span, .jupyter-button')])
            .filter(e => e.offsetParent && e.scrollWidth > e.clientWidth + 2 && getComputedStyle(e).display != 'inline').map(e => e.textContent)""", root,
    )
    assert not cut
    for wide, seen in page.locator(root).evaluate_all("all => all.filter(e => e.offsetParent).map(e => [e.scrollWidth, e.clientWidth])"):
        assert wide <= seen + 1
