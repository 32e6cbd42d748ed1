"""A WebUI's files: which of them we installed, moving them in beside what a person put there, and taking them away again."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Iterator

from reverie import media
from reverie.host import webuis
from reverie.host.webuis import archives
from reverie.host.webuis import WebUI
from reverie.settings import Settings

LIST = ".reverie-files.json"
OURS = (webuis.RECEIPT, LIST, ".reverie-links.json", "extra_model_paths.reverie.yaml")


@dataclass
class Removed:
    """`entry` is what undo takes ("" where nothing went); `kept` the person's own, relative to the WebUI's folder."""

    entry: str = ""
    bytes: int = 0
    kept: list[str] = field(default_factory=list)


def write_list(folder: Path) -> None:
    """Path, size and time of every file below, so that later it is known whether they are still as installed."""
    found = [[path.relative_to(folder).as_posix(), *_stamp(path)] for path in files(folder) if path.name not in OURS]
    media.write_text(folder / LIST, json.dumps(found))


def files(folder: Path) -> Iterator[Path]:
    """Every file and link below; links are not followed."""
    for at, folders, names in os.walk(folder):
        yield from (Path(at) / name for name in names)
        yield from (Path(at) / name for name in folders if os.path.islink(os.path.join(at, name)))


def move_in(ready: Path, home: Path) -> None:
    """`ready` becomes `home`; where a person's files are there already, each of ours that has no namesake moves in beside them.
    The receipt comes last, so that a killed run is carried on."""
    home.parent.mkdir(parents=True, exist_ok=True)
    if not os.path.lexists(home):
        os.replace(ready, home)
        return
    with media.writing(home):
        for at, folders, _ in os.walk(ready):
            inside = home / Path(at).relative_to(ready)
            for name in folders:
                if not (Path(at) / name).is_symlink() and not os.path.lexists(inside / name):
                    (inside / name).mkdir()
        for path in list(files(ready)):
            if path.name not in OURS or path.parent != ready:
                _move(path, home / path.relative_to(ready))
        for name in (LIST, webuis.RECEIPT):
            os.replace(ready / name, home / name)
    archives.remove(ready)


def _move(path: Path, target: Path) -> None:
    """Only where nothing has that name, and every folder above it is one (not a link that a person led elsewhere to a file)."""
    if target.parent.is_dir() and not os.path.lexists(target):
        os.rename(path, target)


def take_away(ui: WebUI, settings: Settings, more: list[Path]) -> Removed:
    """What is ours in the WebUI's folder, and `more`, goes into the bin in one entry."""
    from reverie.host.webuis import views
    from reverie.host.depot.bin import Bin

    home = webuis.home(ui, settings)
    views.withdraw_all(ui, settings)
    kept: list[str] = []
    installed = _installed(home)
    above = {parent.as_posix() for name in installed for parent in PurePosixPath(name).parents}
    gone = _ours(home, home, installed, above, kept)
    entry = Bin(settings.storage).put([*([home] if gone is None else gone), *more], f"{ui.title} was uninstalled")
    return Removed(entry.id, entry.bytes, sorted(kept))


def _installed(home: Path) -> dict[str, tuple[int, int]]:
    try:
        return {path: (size, time_ns) for path, size, time_ns in json.loads((home / LIST).read_text("utf-8"))}
    except (OSError, ValueError):
        return {}


def _ours(home: Path, folder: Path, installed: dict[str, Any], above: set[str], kept: list[str]) -> list[Path] | None:
    """What is ours below `folder`, as few paths as possible; None: all of it. What is not goes into `kept`. `above` are the
    folders of what was installed: git's own in one of them, and what Python compiled there, is ours though it changed."""
    from reverie.host.webuis.extensions import RECEIPT

    if folder != home and (folder / RECEIPT).is_file() and (folder.parent / RECEIPT).parent.parent == home:
        return None  # an extension that we installed
    gone, whole = [], True
    for path in sorted(folder.iterdir()):
        name = path.relative_to(home).as_posix()
        if path.is_dir() and not path.is_symlink():
            if path.name == ".git" and name in above or path.name == "__pycache__" and folder.relative_to(home).as_posix() in above:
                gone.append(path)
                continue
            below = _ours(home, path, installed, above, kept)
            gone += [path] if below is None else below
            whole = whole and below is None
        elif (folder == home and path.name in OURS) or installed.get(name) == tuple(_stamp(path)):
            gone.append(path)
        else:
            kept.append(name)
            whole = False
    return None if whole else gone


def _stamp(path: Path) -> list[int]:
    stat = path.lstat()
    return [0, 0] if path.is_symlink() else [stat.st_size, stat.st_mtime_ns]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def asks_for_something(requirements: Path) -> bool:
    """Whether a requirements file has a line that is no comment."""
    return any(line.strip() and not line.strip().startswith("#") for line in requirements.read_text("utf-8", errors="replace").splitlines())
