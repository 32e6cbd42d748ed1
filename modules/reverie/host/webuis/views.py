"""Our models in a WebUI's folders: by links, or by its own configuration where that is better; its pictures in storage/outputs.

Only what we made is ever taken away again: links of the depot (its manifest knows them) and of `.reverie-links.json`, the
paths that we added to a configuration. A file that a person put there, or changed, stays as it is.
"""

from __future__ import annotations

import json
import os
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator

from reverie import media
from reverie.errors import ReverieError, StoreFailed
from reverie.host import webuis
from reverie.host.depot.words import MODEL_ENDS
from reverie.host.resources import FOLDERS
from reverie.host.webuis import WebUI
from reverie.settings import Settings

LINKS = ".reverie-links.json"
ASK_S = 20
# Fooocus: kinds that its config.txt takes a list of folders for; the others get links.
FOOOCUS = {"checkpoint": "path_checkpoints", "lora": "path_loras"}


@dataclass
class Report:
    """`linked` are new, `there` were there already, `withdrawn` went because their model went; `refused`: a place and why not;
    `written`: configuration that was written or changed; `notes`: what a person should know."""

    linked: int = 0
    there: int = 0
    withdrawn: int = 0
    refused: list[tuple[Path, str]] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def expose_all(ui: WebUI, depot, settings: Settings) -> Report:
    """Every model that the depot keeps, or that lies in storage/models, where this WebUI looks. Doing it twice changes nothing."""
    report = prepare(ui, settings)
    if ui.view == "invokeai":
        _announce(ui, settings, report)
    linked = {kind: place for kind, place in ui.folders.items() if _by_link(ui, kind)}
    _link_kept(ui, depot, settings, linked, report)
    _link_own(ui, settings, linked, report)
    return report


def prepare(ui: WebUI, settings: Settings) -> Report:
    """The configuration that leads a WebUI to our models, and its outputs to ours; no models are needed for it."""
    report = Report()
    home = webuis.home(ui, settings)
    for place in {*ui.folders.values()} if ui.view != "invokeai" else ():
        media.folder(home / place)
    if ui.view == "extra_model_paths":
        _write_extra_paths(ui, settings, report)
    elif ui.view == "fooocus":
        _write_fooocus(ui, settings, report)
    if ui.outputs:
        _lead_outputs(ui, settings, report)
    return report


def withdraw_all(ui: WebUI, settings: Settings) -> int:
    """Take all our links out of a WebUI's folders; how many there were."""
    from reverie.host.depot import Depot

    with Depot(settings.storage) as depot:
        count = sum(depot.withdraw(row.path) for row in depot.links(ui.id))
    home = webuis.home(ui, settings)
    count += sum(_unlink_own(home, name, made) for name, made in _own_links(home).items())
    (home / LINKS).unlink(missing_ok=True)
    if ui.outputs and _is_link_to(home / ui.outputs, webuis.outputs(ui, settings)):
        os.unlink(home / ui.outputs)
    return count


# -------------------------------------------------------------------------------------------------------------------- links


def _by_link(ui: WebUI, kind: str) -> bool:
    return ui.view == "links" or ui.view == "fooocus" and kind not in FOOOCUS


def _link_kept(ui: WebUI, depot, settings: Settings, folders: dict[str, str], report: Report) -> None:
    home = webuis.home(ui, settings)
    kept = [one for one in depot.find() if one.kind in folders and ".." not in Path(one.name).parts and not os.path.isabs(one.name)]
    wanted = {home / folders[one.kind] / one.name: one.sha256 for one in kept}
    for row in depot.links(ui.id):
        if wanted.get(Path(row.path)) != row.sha256 and depot.withdraw(row.path):
            report.withdrawn += 1
    for at, sha256 in wanted.items():
        try:
            way = depot.expose(sha256, at, ui.id)
        except ReverieError as error:
            report.refused.append((at, str(error)))
            continue
        if way == "there":
            report.there += 1
        else:
            report.linked += 1


def _link_own(ui: WebUI, settings: Settings, folders: dict[str, str], report: Report) -> None:
    """What a person put into storage/models by hand, which the depot does not know."""
    home = webuis.home(ui, settings)
    made, wanted = _own_links(home), {}
    for kind, place in folders.items():
        root = settings.models / FOLDERS[kind]
        wanted.update({f"{place}/{path.relative_to(root).as_posix()}": str(path) for path in _hand_put(root, settings)})
    for name in [name for name, source in made.items() if wanted.get(name) != source["to"]]:
        report.withdrawn += _unlink_own(home, name, made.pop(name))
    new = {name: {"to": source, "file": ""} for name, source in wanted.items() if name not in made or not os.path.lexists(home / name)}
    for name, row in list(new.items()):
        if os.path.lexists(home / name):
            report.refused.append((home / name, "There is something else already; it stays."))
            del new[name]
    if new or made != _own_links(home):
        _write_own(home, made | new)  # before the links: a killed run leaves none that nobody knows
    for name, row in new.items():
        _make(home / name, row, report)
    if any(row["file"] for row in new.values()):
        _write_own(home, made | new)
    report.there += len(wanted.keys() & made.keys() - new.keys())


def _hand_put(root: Path, settings: Settings) -> Iterator[Path]:
    """Files below that are no links into the depot, not what the depot has put beside one of its own, and nothing unfinished."""
    blobs = (settings.storage / "blobs").resolve()
    for at, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(at) / name for name in names if not name.startswith(".") and not name.endswith((".part", ".aria2"))]
        own = [path for path in paths if path.is_file() and not path.resolve().is_relative_to(blobs) and path.stat().st_nlink == 1]
        beside = tuple(f"{path.stem}." for path in set(paths) - set(own))
        yield from (path for path in own if path.suffix.lower() in MODEL_ENDS or not path.name.startswith(beside))


def _make(at: Path, row: dict[str, str], report: Report) -> None:
    try:
        media.folder(at.parent)
        try:
            os.symlink(row["to"], at)
        except OSError:  # a file system without such links
            os.link(row["to"], at)
            row["file"] = _identity(at)
        report.linked += 1
    except (OSError, NotImplementedError, StoreFailed) as error:
        report.refused.append((at, f"No link can be made there ({getattr(error, 'strerror', None) or error})."))


def _unlink_own(home: Path, name: str, row: dict[str, str]) -> int:
    """Only what is still our link."""
    at = home / name
    ours = os.path.islink(at) and os.readlink(at) == row["to"] or bool(row["file"]) and os.path.lexists(at) and _identity(at) == row["file"]
    if ours:
        at.unlink(missing_ok=True)
    return int(ours)


def _own_links(home: Path) -> dict[str, dict[str, str]]:
    try:
        read = json.loads((home / LINKS).read_text("utf-8"))
        return {name: {"to": str(row["to"]), "file": str(row["file"])} for name, row in read.items() if ".." not in Path(name).parts and not os.path.isabs(name)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write_own(home: Path, rows: dict[str, dict[str, str]]) -> None:
    media.write_text(home / LINKS, json.dumps(rows, indent=1, sort_keys=True))


def _identity(path: Path) -> str:
    stat = path.lstat()
    return f"{stat.st_dev}:{stat.st_ino}"


# ----------------------------------------------------------------------------------------------------- its own configuration


def _write_extra_paths(ui: WebUI, settings: Settings, report: Report) -> None:
    """ComfyUI's extra_model_paths: our folders beside its own. It calls a folder by its last name: models/loras → loras."""
    import yaml

    names: dict[str, list[str]] = {}
    for kind, place in ui.folders.items():
        names.setdefault(place.rpartition("/")[2], []).append(FOLDERS[kind])
        media.folder(settings.models / FOLDERS[kind])
    rows = {"base_path": str(settings.models), **{name: "\n".join(folders) for name, folders in names.items()}}
    text = "# Written by SD-Reverie at every install and launch; your own paths belong in extra_model_paths.yaml.\n"
    _write_if_new(webuis.extra_paths(ui, settings), text + yaml.safe_dump({"reverie": rows}, sort_keys=False, allow_unicode=True, width=4096), report)


def _write_fooocus(ui: WebUI, settings: Settings, report: Report) -> None:
    """Fooocus' config.txt takes lists of folders: ours is added, whatever else stands there stays."""
    home = webuis.home(ui, settings)
    path = home / "config.txt"
    try:
        values = json.loads(path.read_text("utf-8")) if path.exists() else {}
        if not isinstance(values, dict):
            raise ValueError
    except (OSError, ValueError):
        report.notes.append(f"{path} is no JSON, so our models' folders were not added to it.")
        return
    for kind, key in FOOOCUS.items():
        if kind in ui.folders:
            before = values.get(key, [str(home / ui.folders[kind])])
            before = [before] if isinstance(before, str) else before if isinstance(before, list) else []
            ours = str(media.folder(settings.models / FOLDERS[kind]))
            values[key] = before if ours in before else [*before, ours]
    _write_if_new(path, json.dumps(values, indent=4) + "\n", report)


def _write_if_new(path: Path, text: str, report: Report) -> None:
    if not path.exists() or path.read_text("utf-8", errors="replace") != text:
        media.write_text(path, text)
        report.written.append(path)


def _announce(ui: WebUI, settings: Settings, report: Report) -> None:
    """InvokeAI has a database of models: each is announced to it while it runs, and stays where it lies."""
    from reverie.host import launch

    running = launch.find(ui, settings)
    if running is None or not running.alive:
        report.notes.append(f"{ui.title} learns of models only while it runs: start it, then do this again.")
        return
    base = str(running.about.get("url", "")).rstrip("/")
    for folder in (FOLDERS[kind] for kind in ui.folders):
        for path in sorted((settings.models / folder).rglob("*.safetensors")):
            query = urllib.parse.urlencode({"source": os.path.realpath(path), "inplace": "true"})
            request = urllib.request.Request(f"{base}/api/v2/models/install?{query}", data=b"{}", headers={"Content-Type": "application/json"}, method="POST")
            try:
                with urllib.request.urlopen(request, timeout=ASK_S):
                    report.linked += 1
            except OSError as error:
                known = getattr(error, "code", 0) == 409
                report.there += known
                if not known:
                    report.refused.append((path, f"{ui.title} did not take it ({error})."))


# ------------------------------------------------------------------------------------------------------------------ outputs


def _lead_outputs(ui: WebUI, settings: Settings, report: Report) -> None:
    """Its folder for pictures becomes a link to ours; one with pictures in it stays as it is."""
    at, ours = webuis.home(ui, settings) / ui.outputs, media.folder(webuis.outputs(ui, settings))
    if os.path.islink(at):
        if not _is_link_to(at, ours):
            report.notes.append(f"{at} leads elsewhere, so its pictures stay there.")
        return
    if at.exists():
        if any(not path.is_dir() and path.stat().st_size for path in at.rglob("*")) or not at.is_dir():
            report.notes.append(f"{at} has files in it, so it stays its own folder.")
            return
        from reverie.host.webuis import archives

        archives.remove(at)
    try:
        _lead(at, ours)
    except OSError as error:
        report.notes.append(f"{at} could not be led to {ours} ({error.strerror}).")
        media.folder(at)


def _lead(at: Path, to: Path) -> None:
    at.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.symlink(to, at, target_is_directory=True)
    except OSError:
        if os.name != "nt":
            raise
        import _winapi

        _winapi.CreateJunction(str(to), str(at))


def _is_link_to(at: Path, to: Path) -> bool:
    return os.path.islink(at) and os.path.realpath(at) == os.path.realpath(to)
