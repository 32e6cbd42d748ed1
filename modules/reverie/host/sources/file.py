"""A file of this machine, or a folder: of models in diffusers' layout, or of model files of one kind."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from reverie.errors import BadInput, FetchFailed, NotFound
from reverie.host import names
from reverie.host.links import is_local
from reverie.host.resources import Address, Link, Resource
from reverie.host.sources import kind_of, name_of

WEIGHTS = (".safetensors", ".sft", ".gguf", ".ckpt", ".pt", ".pth")
MOST_FILES = 2000


def takes(address: str) -> bool:
    try:
        return address.lower().startswith("file:") or is_local(address) or "://" not in address and Path(address).exists()
    except (OSError, ValueError):
        return False


def resolve(link: Link) -> list[Resource]:
    path = _path(link.address)
    try:
        if path.is_dir():
            return _folder(link, path)
        if not path.exists():
            raise NotFound(f"There is no file {names.shown(str(path), 200)}.", "Check the path.")
        if not path.is_file():
            raise BadInput(f"{path} is neither a file nor a folder.", "Give a model's file.")
        return [_one(path, kind_of(link, path.as_posix()), name_of(link, path.name))]
    except OSError as error:
        raise FetchFailed(f"{names.shown(str(path), 200)} cannot be read: {error.strerror or error}.", "Check who may read it.") from None


def open_address(resource: Resource) -> Address:
    path = _path(resource.url)
    if not path.is_file() or not os.access(path, os.R_OK):
        raise FetchFailed(f"{path} is gone, or may not be read.", "Put it back, or leave it out.")
    return Address(path.as_uri())


def _path(address: str) -> Path:
    try:
        if address.lower().startswith("file:"):
            parts = urlsplit(address)
            if parts.netloc not in ("", "localhost"):
                raise BadInput(f"{names.shown(address)} is a file of another machine.", "Copy it here, or give its http address.")
            address = url2pathname(parts.path)
        if "\0" in address or not address:
            raise ValueError("it is no path")
        return Path(os.path.abspath(Path(address).expanduser()))
    except (ValueError, RuntimeError) as error:  # expanduser does not know ~somebody
        raise BadInput(f"{names.shown(address)} is no path: {error}.", "Give the path of a file.") from None


def _folder(link: Link, folder: Path) -> list[Resource]:
    if (folder / "model_index.json").is_file() or link.kind in ("diffusers", "clip"):
        name = names.check(link.name or folder.name)
        files = _files(folder.rglob("*"), (".json", ".txt", ".model", ".safetensors", ".jinja"))
        found = [_one(path, link.kind if link.kind == "clip" else "diffusers", f"{name}/{path.relative_to(folder).as_posix()}") for path in files]
    else:
        if link.name:
            raise BadInput(f"{folder} has several files, and '{link.name}' would name them all.", "Leave the name out.")
        files = _files(folder.iterdir(), WEIGHTS)
        found = [_one(path, kind_of(link, path.as_posix()), names.clean(path.name)) for path in files if names.clean(path.name)]
    if not found:
        raise NotFound(f"There is no model in {folder}.", "Give a folder with .safetensors files.")
    return found


def _files(paths, suffixes: tuple[str, ...]) -> list[Path]:
    found = []
    for number, path in enumerate(paths):
        if path.suffix.lower() in suffixes and path.is_file():
            found.append(path)
        if number > MOST_FILES:
            raise BadInput(f"There are more than {MOST_FILES} files around {path}.", "Give the model's own folder.")
    return sorted(found)


def _one(path: Path, kind: str, name: str) -> Resource:
    about = {"title": path.stem, "page": str(path), "pickled": names.is_pickle(path.name)}
    return Resource(kind=kind, name=name, url=path.as_uri(), source="file", size=path.stat().st_size, about=about)
