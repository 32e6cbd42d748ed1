"""A small WebUI as it is installed: a package (zip), a shared environment (tar.lz4, packed elsewhere, so it must be moved in), a
bare git repository, and the catalogue row that names them. Made by the tests; nothing of it is fetched.

    storage = tmp_path / "storage"
    small_webui.lay(storage, tmp_path / "made")              # S/webuis.yaml names the packages
    packages.install(webuis.find("small"), settings)         # REVERIE_STORAGE or Settings(storage=storage)
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
FOLDERS = {"checkpoint": "models/checkpoints", "lora": "models/loras", "vae": "models/vae", "upscaler": "models/upscale_models"}
QUIET = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


def build(folder: Path) -> Path:
    """The WebUI's tree in `folder`."""
    for place in (*FOLDERS.values(), "custom_nodes", "output", "input"):
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / place / "put_files_here").write_text("", "utf-8")
    shutil.copy(HERE / "small_webui_server.py", folder / "main.py")
    (folder / "requirements.txt").write_text("# nothing: the server uses Python's own library\n", "utf-8")
    (folder / "start.sh").write_text("#!/bin/sh\nexec python3 main.py \"$@\"\n", "utf-8")
    (folder / "start.sh").chmod(0o755)
    return folder


def package(folder: Path, inside: str = "") -> Path:
    """`folder/small.zip`; everything lies in the folder `inside` of it where that is given."""
    tree = build(folder / "tree")
    target = folder / "small.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(tree.rglob("*")):
            archive.write(path, Path(inside) / path.relative_to(tree))
    return target


def venv(folder: Path, name: str = "small-venv") -> Path:
    """`folder/NAME.tar.lz4`: a real environment, made in a place that is gone afterwards, with a script that names that place."""
    import lz4.frame
    import tarfile

    made = folder / "made-elsewhere" / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made)], check=True, timeout=300)
    bin = made / ("Scripts" if os.name == "nt" else "bin")
    (bin / "hello").write_text(f"#!{bin / 'python'}\nimport sys\nprint(sys.prefix)\n", "utf-8")
    (bin / "hello").chmod(0o755)
    target = folder / f"{name}.tar.lz4"
    with lz4.frame.open(target, "wb") as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
        archive.add(made, "venv")
    shutil.rmtree(made.parent)
    return target


def repository(folder: Path) -> tuple[Path, str]:
    """A bare git repository with the WebUI in it, and its first commit (a second one follows)."""
    tree, bare = build(folder / "worktree"), folder / "small.git"
    git = lambda *words: subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tree, env=os.environ | QUIET, check=True, capture_output=True, text=True, timeout=120
    ).stdout.strip()
    git("init", "-q", "-b", "master")
    git("add", "-A")
    git("commit", "-q", "-m", "The small WebUI")
    first = git("rev-parse", "HEAD")
    (tree / "later.txt").write_text("of the second commit\n", "utf-8")
    git("add", "-A")
    git("commit", "-q", "-m", "One more file")
    git("clone", "-q", "--bare", str(tree), str(bare))
    shutil.rmtree(tree)
    return bare, first


def row(**changes) -> dict:
    """The catalogue's row of the small WebUI; `changes` add to it or replace."""
    start = ["$PYTHON", "main.py", "--listen", "127.0.0.1", "--port", "$PORT", "--output-directory", "$OUTPUTS"]
    return {
        "id": "small", "title": "Small WebUI", "family": "comfyui", "start": start, "arguments": {"cpu": ["--cpu"], "low_vram": ["--lowvram"]},
        "health": "/system_stats", "port": 8188, "login": "none", "folders": FOLDERS, "extensions": "custom_nodes", **changes,
    }


def write_rows(storage: Path, *rows: dict) -> Path:
    storage.mkdir(parents=True, exist_ok=True)
    path = storage / "webuis.yaml"
    path.write_text(yaml.safe_dump({"webuis": list(rows)}, sort_keys=False), "utf-8")
    return path


def lay(storage: Path, made: Path, **changes) -> dict:
    """Package and environment in `made`, and the row that names them in the storage's own catalogue."""
    made.mkdir(parents=True, exist_ok=True)
    zipped, packed = package(made), venv(made)
    own = row(package=str(zipped), package_sha256=sha256(zipped), venv=str(packed), venv_sha256=sha256(packed), **changes)
    write_rows(storage, own)
    return own


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
