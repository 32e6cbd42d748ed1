"""What takes how much room, and what of it may go and why. Looking changes nothing; `apply` does what was picked.

Bytes are those on the disk: links are counted once, holes not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from reverie.host import storage
from reverie.host.depot import linking, upkeep
from reverie.host.depot.bin import Bin, Entry, size_of
from reverie.host.depot.dedup import Place, likely
from reverie.host.depot import BESIDE, KEPT, MODEL_ENDS, Depot, Report
from reverie.host.depot.retelling import symlinks_below
from reverie.host.resources import FOLDERS
from reverie.settings import Settings

OLD_DAYS, LOG_DAYS = 30, 7
_BESIDE_ENDS = (".civitai.info", ".preview.png", ".preview.jpg", ".preview.jpeg", ".preview.webp", ".cm-info.json", ".metadata.json")
_NAMES = {"webuis": "WebUIs", "venvs": "environments", "outputs": "outputs", "bin": "bin", "downloads": "unfinished downloads",
          "cache": "caches", "logs": "logs", "run": "logs", "inputs": "start pictures", "uploads": "uploads", "tools": "environments"}
_OURS = {*_NAMES, "blobs", "models", "wildcards"}
_OWN_FILES = ("README.md", "secrets.env")


@dataclass(frozen=True)
class Part:
    """One piece of the picture: `shared` is what a WebUI sees through links, and does not take itself."""

    name: str
    bytes: int
    files: int
    shared: int = 0


@dataclass(frozen=True)
class Item:
    """Something that could go: `why`, and whether it is `safe` to (nothing is lost that could not be had again). `action`
    is "bin" for `paths`, "dedup" for what is there twice, "gc" for blobs, which are looked at once more."""

    id: str
    group: str
    title: str
    why: str
    safe: bool
    bytes: int
    paths: tuple[Path, ...] = ()
    action: str = "bin"


@dataclass
class Picture:
    storage: Path
    total: int
    free: int
    kinds: list[Part] = field(default_factory=list)
    webuis: list[Part] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    bin: list[Entry] = field(default_factory=list)


def look(settings: Settings, old_days: float = OLD_DAYS, on_step: Callable[[str], None] = lambda what: None) -> Picture:
    """The whole picture. Duplicates are told by size and samples, which is quick; dedup itself reads every byte."""
    with Depot(settings.storage) as depot:
        on_step("measuring")
        kinds, webuis = _measure(depot)
        picture = Picture(settings.storage, sum(part.bytes for part in kinds), storage.free(settings.storage), kinds, webuis, bin=Bin(settings.storage).list())
        for what, find in _FINDERS.items():
            on_step(what)
            picture.items += find(depot, settings, old_days)
    return picture


def apply(settings: Settings, items: list[Item], dry_run: bool = False, on_progress: upkeep.OnProgress = lambda *_: None, cancelled: Callable[[], bool] = lambda: False) -> list[Report]:
    """Do what was picked: into the bin, or stored once. One report per item; what could not be done is in its `skipped`."""
    reports = []
    with Depot(settings.storage) as depot:
        for item in items:
            if cancelled():
                break
            if item.action == "dedup":
                reports.append(depot.dedup(places(settings), dry_run=dry_run, on_progress=on_progress, cancelled=cancelled))
            elif item.action == "gc":
                reports.append(upkeep.discard(depot, [path.name for path in item.paths], dry_run))
            else:
                reports.append(upkeep.put_away(depot, list(item.paths), item.why, dry_run))
    return reports


def places(settings: Settings) -> list[Place]:
    """Every folder with models: ours, those of the WebUIs by their rows, and whatever else lies in the WebUIs' folders."""
    from reverie.host import webuis

    found = [Place(settings.models)] if settings.models.is_dir() else []
    for ui in webuis.all(settings):
        home = webuis.home(ui, settings)
        found += [Place(home / folder, kind, ui.id) for kind, folder in ui.folders.items() if (home / folder).is_dir()]
    return [*found, *(Place(home, "", home.name) for home in _folders(settings.storage / "webuis"))]


# ------------------------------------------------------------------------------------------------------- how much of what


def _measure(depot: Depot) -> tuple[list[Part], list[Part]]:
    kinds = {kept.sha256: kept.kind for kept in depot.find()}
    sizes: dict[str, int] = defaultdict(int)
    files: dict[str, int] = defaultdict(int)
    seen: set[tuple[int, int]] = set()
    for path, stat in _every_file(depot.storage):
        if (stat.st_dev, stat.st_ino) in seen:
            continue
        seen.add((stat.st_dev, stat.st_ino))
        for name in _names(path, depot.storage, kinds):
            sizes[name] += linking.blocks(stat)
            files[name] += 1
    parts = sorted((Part(name, size, files[name]) for name, size in sizes.items() if not name.startswith("webui:")), key=lambda part: -part.bytes)
    shared: dict[str, int] = defaultdict(int)
    for view, sha256 in {(link.view, link.sha256) for link in depot.links() if link.way != "copy"}:
        with contextlib.suppress(OSError):
            shared[view] += linking.blocks(depot.blob(sha256).stat())
    names = {name.removeprefix("webui:") for name in sizes if name.startswith("webui:")} | set(shared) - {"models"}
    webuis = [Part(name, sizes.get(f"webui:{name}", 0), files.get(f"webui:{name}", 0), shared.get(name, 0)) for name in sorted(names)]
    return parts, webuis


def _names(path: Path, top: Path, kinds: dict[str, str]) -> list[str]:
    """What a file counts for: its kind, and the WebUI in whose folder it lies."""
    parts = path.relative_to(top).parts
    if parts[0] == "blobs":
        kind = kinds.get(parts[2][:64], "") if len(parts) > 2 else ""
        return [f"models: {FOLDERS.get(kind, 'of no known kind')}"]
    if parts[0] == "models":
        return [f"models: {parts[1] if len(parts) > 2 else 'of no known kind'}"]
    if parts[0] == "webuis" and len(parts) > 2:
        return ["WebUIs", f"webui:{parts[1]}"]
    if len(parts) == 1 and parts[0].startswith(("reverie.sqlite3", "depot.sqlite3")):
        return ["database"]
    return [_NAMES.get(parts[0], "other")]


def _every_file(top: Path):
    todo = [str(top)]
    while todo:
        with contextlib.suppress(OSError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                else:
                    with contextlib.suppress(OSError):
                        yield Path(entry.path), entry.stat(follow_symlinks=False) if os.name == "posix" else os.lstat(entry.path)


def _folders(top: Path) -> list[Path]:
    return sorted(path for path in top.iterdir() if path.is_dir() and not path.name.startswith(".")) if top.is_dir() else []


# ----------------------------------------------------------------------------------------------------------- what may go


def _item(group: str, title: str, why: str, safe: bool, paths: list[Path], size: int | None = None, action: str = "bin") -> Item:
    import hashlib

    digest = hashlib.sha256("\0".join([group, title, *map(str, paths)]).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return Item(digest, group, title, why, safe, sum(map(size_of, paths)) if size is None else size, tuple(paths), action)


def _unlinked(depot: Depot, settings: Settings, old_days: float) -> list[Item]:
    names: dict[str, list[str]] = defaultdict(list)
    for kept in depot.find():
        names[kept.sha256].append(kept.name)
    report = upkeep.gc(depot, dry_run=True)
    changes = [change for change in report.changes if change.sha256]
    return [_item("models nothing links to", ", ".join(names.get(c.sha256, [c.sha256[:12] + "…"])), c.what, True, [c.path], c.bytes, "gc") for c in changes]


def _duplicates(depot: Depot, settings: Settings, old_days: float) -> list[Item]:
    groups = likely(depot, places(settings))
    if not groups:
        return []
    size = sum(group[0].stat().st_size * (len(group) - 1) for group in groups)
    title = f"{sum(map(len, groups))} files that look like {len(groups)}"
    why = "the same size and the same samples; every byte is compared before one is stored once, and links stay in all places"
    return [_item("duplicates", title, why, True, sorted(path for group in groups for path in group), size, "dedup")]


def _unfinished(depot: Depot, settings: Settings, old_days: float) -> list[Item]:
    items, now = [], time.time()
    for name, paths in _downloads(settings.storage / "downloads").items():
        days = (now - max(path.lstat().st_mtime for path in paths)) / 86400
        safe = days >= upkeep.PARTIAL_DAYS
        why = f"not finished, last written {days:.0f} days ago" if safe else "not finished, and still young: fetching it again goes on with it"
        items.append(_item("unfinished downloads", name, why, safe, paths))
    for top in (settings.models, settings.storage / "webuis"):
        for path, _ in _every_file(top):
            if path.suffix in (".aria2", ".crdownload") or path.name.endswith((".safetensors.part", ".ckpt.part")):
                whole = path.with_suffix("")
                pair = [whole, path] if path.suffix == ".aria2" and os.path.lexists(whole) else [path]
                items.append(_item("unfinished downloads", path.name, "somebody else's download that is not finished", False, pair))
    return items


def _downloads(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        found[path.name.split(".")[0] or path.name].append(path)
    return found


def _old_outputs(depot: Depot, settings: Settings, old_days: float) -> list[Item]:
    """By folder; safe where every file of it was copied to the persistent folder as it is."""
    mark, oldest = _mark(settings), time.time() - old_days * 86400
    folders: dict[Path, list[tuple[Path, os.stat_result]]] = defaultdict(list)
    for path, stat in _every_file(settings.outputs):
        if stat.st_mtime < oldest:
            folders[path.parent].append((path, stat))
    items = []
    for folder, files in sorted(folders.items()):
        names = [(path.relative_to(settings.outputs).as_posix(), [stat.st_size, stat.st_mtime_ns]) for path, stat in files]
        safe = mark is not None and all(mark.has(name, seen) for name, seen in names)
        where = "all of it is in the persistent folder too" if safe else "it may be nowhere else"
        title = f"{folder.relative_to(settings.storage)}: {len(files)} file{'' if len(files) == 1 else 's'}"
        items.append(_item("old outputs", title, f"older than {old_days:g} days; {where}", safe, sorted(path for path, _ in files)))
    return items


def _mark(settings: Settings):
    """What the sync of outputs says it has copied; None where nothing is synced."""
    from reverie.host.outputs_sync import Mark

    place = settings.storage / "run" / "synced.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return Mark(place, Path(json.loads(place.read_text("utf-8"))["target"]))
    return None


def _caches(depot: Depot, settings: Settings, old_days: float) -> list[Item]:
    items = [_item("caches", f"cache/{path.name}", "made again when it is needed", True, [path]) for path in _any(settings.storage / "cache")]
    old = [p for p in _any(settings.storage / "logs") if p.lstat().st_mtime < time.time() - LOG_DAYS * 86400]
    return items + ([_item("logs", f"{len(old)} old logs", f"older than {LOG_DAYS} days", True, old)] if old else [])


def _any(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _orphans(depot: Depot, settings: Settings, old_days: float) -> list[Item]:
    items = []
    for top in [settings.models, *(settings.storage / "webuis").glob("*/models")]:
        for folder, _, names in os.walk(top):
            stems = {os.path.splitext(name)[0] for name in names if os.path.splitext(name)[1].lower() in MODEL_ENDS}
            for name in names:
                end = next((end for end in _BESIDE_ENDS if name.endswith(end)), "")
                if end and name.removesuffix(end) not in stems:
                    items.append(_item("orphans", name, "belongs beside a model that is not there any more", True, [Path(folder, name)]))
    for path in symlinks_below([settings.models, *(settings.storage / "webuis").glob("*/models")]):
        if not path.exists():
            ours, end = depot.blobs in Path(linking.points_to(path)).parents, linking.points_to(path)
            why = "its bytes are gone from the depot" if ours else f"{end} is not there now; a drive that is not connected looks the same"
            items.append(_item("broken links", path.name, why, ours, [path], 0))
    for path in _any(settings.storage):
        if path.name not in (*_OURS, *_OWN_FILES) and path.is_dir() and not path.name.startswith("."):
            items.append(_item("orphans", path.name, "SD-Reverie did not make it, and does not use it", False, [path]))
    for path in depot.blobs.glob(f"*/*{KEPT}") if depot.blobs.is_dir() else ():
        if not depot.has(path.name.removesuffix(KEPT)):
            rest = [path, path.with_name(path.name.removesuffix(KEPT) + BESIDE)]
            items.append(_item("orphans", path.name[:12] + "…", "notes about bytes that are not here any more", True, [p for p in rest if p.exists()]))
    return items


_FINDERS = {
    "duplicates": _duplicates, "models nothing links to": _unlinked, "unfinished downloads": _unfinished,
    "old outputs": _old_outputs, "orphans": _orphans, "caches and logs": _caches,
}
