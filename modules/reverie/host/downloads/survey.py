"""What stands before a plan: what each link leads to, and what of that is here already. Nothing is changed here."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from pathlib import Path
from typing import Any, Callable, Sequence

from reverie import checkpoints, models
from reverie import settings as settings_module
from reverie.errors import ReverieError
from reverie.host import links
from reverie.host.downloads.planning import Found, Here, Place
from reverie.host.resources import FOLDERS, Link, Resource
from reverie.settings import Settings

VIEW = "models"  # the depot's name for our own view, storage/models
RESOLVE_AT_ONCE = 8

log = logging.getLogger("reverie.downloads")


def resolve(asked: Sequence[Link], settings: Settings) -> list[Found]:
    """What each link leads to, asked several at a time; a link that leads nowhere has its sentence, unless its file is here."""
    from reverie.host import sources
    from reverie.host.depot import Depot

    with Depot(settings.storage) as depot:
        kept, ours = depot.find(), {Path(row.path) for row in depot.links(VIEW)}

    def one(link: Link) -> Found:
        if _is_here(link, settings, ours):
            return Found(link)
        whole = _kept_folder(link, kept)
        if whole and (_is_catalogued(link) or sources.whole_of(link)[1] == whole[0].about["commit"]):
            return Found(link, whole)  # a branch may be further by now, so there its hub is asked first
        try:
            return Found(link, tuple(sources.resolve(link)))
        except ReverieError as error:
            known = whole or _known(link, kept)
            return Found(link, known, "" if known else str(error))
        except Exception as error:  # a source's answer that nobody has seen before must not stop the other links
            log.exception("link=%r", link.address)
            return Found(link, refusal=f"What the source says cannot be understood ({type(error).__name__}). Report this link.")

    return in_threads(one, list(asked))


def _is_here(link: Link, settings: Settings, ours: set[Path]) -> bool:
    """Whether that is an id of the catalogue whose model is here whole, in whatever form, or a file in its place in storage/models.
    A folder that we fetched may lack files."""
    if not link.name and links.is_local(link.address):
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # its source says what is wrong with it
            path = Path(os.path.abspath(Path(link.address).expanduser()))
            return path.is_file() and settings.models / FOLDERS.get(link.kind, "") in (path.parent, path.parent.parent)
    if link.kind or link.name or not _is_catalogued(link):
        return False
    try:
        model = models.find(link.address, settings)
    except ReverieError:
        return False
    return model.path.is_file() or not any(model.path in path.parents for path in ours)


def _is_catalogued(link: Link) -> bool:
    return link.address in settings_module.config("models").get("models", {})


def _kept_folder(link: Link, kept: Sequence[Any]) -> tuple[Resource, ...]:
    """All files of the whole folder that a link means, of the commit that came last, where the depot has every one of them."""
    from reverie.host import sources

    whole, revision = sources.whole_of(link)
    commits: dict[str, dict[str, Any]] = {}  # the newest first, as the depot gives them
    for row in kept if whole else ():
        commit = row.about.get("commit")
        if commit and row.about.get("whole") == whole and revision in (commit, row.about.get("revision")) and "/" in row.name:
            commits.setdefault(commit, {}).setdefault(row.url, row)
    rows = next((rows for rows in commits.values() if all(row.about.get("files") == len(rows) for row in rows.values())), {})
    return tuple(
        Resource(row.kind, f"{link.name}/{row.name.partition('/')[2]}" if link.name else row.name, url, "huggingface", row.size, row.sha256, about=row.about)
        for url, row in rows.items()
    )


def _known(link: Link, kept: Sequence[Any]) -> tuple[Resource, ...]:
    """The file that was once fetched from this link, for when its source does not answer. Of several files some may be missing,
    so a link to more than one is not known."""
    row = settings_module.config("models").get("loras", {}).get(link.address, {})
    address = row.get("url", link.address)
    fits = [row for row in kept if row.url and address in (row.url, row.url.partition("?")[0]) and link.kind in ("", row.kind)]
    files = {row.sha256: row for row in reversed(fits)}
    return tuple(Resource(row.kind, link.name or row.name, row.url, "", row.size, row.sha256, about=row.about) for row in files.values() if len(files) == 1)


def look(resources: Sequence[Resource], settings: Settings) -> Here:
    """What of these is here already: in the depot, in the folders, in staging; which secrets are set, and the room."""
    from reverie.host import fetch, secrets
    from reverie.host.depot import Depot

    with Depot(settings.storage) as depot:
        kept = depot.find()
        named = {r.sha256 for r in resources if r.sha256 and depot.has(r.sha256)}  # also what a killed run had no time to note
        ours = {Path(row.path): row.sha256 for row in depot.links(VIEW)}
    sizes = {(r.kind, Path(r.name).name, r.size) for r in resources if r.sha256}
    places = {(kind, name): _place(kind, path, ours, sizes) for kind, name, path in _files_near(resources, settings)}
    return Here(
        free_bytes=free_bytes(settings),
        kept=frozenset({row.sha256 for row in kept} | named),
        known={row.url: row.sha256 for row in kept if row.url},
        places=places,
        partial={resource.key: fetch.resumable(staging(settings), resource.key) for resource in resources},
        copies=0 if _takes_links(settings) else 1,
        tokens=frozenset(name for name in {r.token for r in resources if r.token} if secrets.token(name)),
    )


def _takes_links(settings: Settings) -> bool:
    """Whether a file in storage/models can be a link to the depot's: not on FAT, and not on a mounted Drive."""
    from reverie import media

    folder = media.folder(settings.storage / "run")
    source, at = folder / f".links-{os.getpid()}-{threading.get_ident()}", folder / f".linked-{os.getpid()}-{threading.get_ident()}"
    try:
        source.touch()
        for link in (os.symlink, os.link):
            with contextlib.suppress(OSError, NotImplementedError):
                link(source, at)
                return True
        return False
    finally:
        for path in (at, source):
            path.unlink(missing_ok=True)


def staging(settings: Settings) -> Path:
    return settings.storage / "downloads"


def free_bytes(settings: Settings) -> int:
    """Room for downloads: what the disk has, or what is left of the platform's quota where that is less."""
    from reverie.host import platform, storage

    room, here = storage.free(settings.storage), platform.here()
    if here.disk_gb and settings.storage.is_relative_to(Path(here.root).expanduser()):
        room = min(room, max(0, int(here.disk_gb * 1e9) - sum(size for _, _, size in storage.usage(settings.storage))))
    return room


def _files_near(resources: Sequence[Resource], settings: Settings):
    """(kind, name, path) of every file in the folders where these would lie: of a whole folder's files only those."""
    tops = {(resource.kind, resource.name.split("/")[0] if "/" in resource.name else "") for resource in resources if resource.kind in FOLDERS}
    for kind, top in tops:
        home = settings.models / FOLDERS[kind]
        roots = [home] if not top else [folder for folder in home.glob("*") if folder.name.casefold().startswith(top.casefold())]
        for root in roots:
            for folder, _, names in os.walk(root):
                for name in names if top or Path(folder) == home else []:
                    path = Path(folder) / name
                    if path.exists():
                        yield kind, path.relative_to(home).as_posix(), path


def _place(kind: str, path: Path, ours: dict[Path, str], wanted: set[tuple[str, str, int]]) -> Place:
    """What lies at `path`; a file that is not ours is read through only where its bytes may be the very ones that are wanted."""
    size = path.stat().st_size
    if path in ours:
        return Place(ours[path], size)
    return Place(checkpoints.sha256(path) if {(kind, path.name, size), (kind, path.name, 0)} & wanted else "", size)


def in_threads(function: Callable[[Any], Any], items: list) -> list:
    """`function` of each item in order, by daemon threads: Ctrl-C need not wait for a server that does not answer."""
    answers: list = [None] * len(items)
    todo = iter(range(len(items)))
    turn = threading.Lock()

    def work() -> None:
        while True:
            with turn:
                index = next(todo, None)
            if index is None:
                return
            answers[index] = function(items[index])

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(RESOLVE_AT_ONCE, len(items)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
