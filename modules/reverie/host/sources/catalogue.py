"""Ids of configs/models.yaml: the row's file or folder, and what a file needs beside it when it holds the denoiser alone.

Their bytes are opened by the source that the row's address belongs to.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reverie.errors import BadInput, FetchFailed
from reverie.families import FAMILIES
from reverie.host import names
from reverie.host.resources import FOLDERS, Link, Resource
from reverie.host.sources import last_part
from reverie.settings import config

_KINDS = {"models": "checkpoint", "clips": "clip", **{f"{kind}s": kind for kind in FOLDERS if kind != "clip"}}  # part of the catalogue → kind
_PLAIN_VAE = "diffusion_pytorch_model.safetensors"  # a name that every VAE has, and that says nothing of whose it is


def takes(address: str) -> bool:
    return _row(address) is not None


def resolve(link: Link) -> list[Resource]:
    part, row = _row(link.address)
    family, kind = str(row.get("family", "")), _KINDS[part]
    about = {key: row[key] for key in ("title", "licence", "note") if row.get(key)} | {"catalogue": link.address}
    if part == "models" and row.get("url") and FAMILIES[family].flow:
        kind = "diffusion_model"
    if link.kind and link.kind != kind and not (part == "models" and link.kind in ("checkpoint", "diffusion_model", "diffusers")):
        raise BadInput(f"'{link.address}' in the catalogue is of the kind {kind}, not {link.kind}.", f"Write {link.address} alone.")
    if _is_folder(link, row):
        found = _from(_folder(link, part, row))
    elif row.get("url"):
        found = [_checked(resource, row) for resource in _from(Link(link.text, row["url"], kind, link.name or _name(link.address, part, row)))]
        found += _beside(link, family) if kind == "diffusion_model" and part == "models" else []
    else:
        return []  # it came with the project
    return [replace(resource, family=family or resource.family, about={**resource.about, **about}) for resource in found]


def whole_of(link: Link) -> tuple[str, str]:
    from reverie.host import sources

    part, row = _row(link.address)
    return sources.whole_of(_folder(link, part, row)) if _is_folder(link, row) else ("", "")


def _is_folder(link: Link, row: dict[str, Any]) -> bool:
    return bool(row.get("repo")) and (not row.get("url") or link.kind == "diffusers")


def _folder(link: Link, part: str, row: dict[str, Any]) -> Link:
    return Link(link.text, f"hf:{row['repo']}", "clip" if part == "clips" else "diffusers", link.name or row["repo"].split("/")[-1])


def _row(name: str) -> tuple[str, dict[str, Any]] | None:
    rows = config("models")
    return next(((part, rows[part][name]) for part in _KINDS if name in rows.get(part, {})), None)


def _name(id: str, part: str, row: dict[str, Any]) -> str:
    """The name under which the rest of the project looks for it."""
    return str(row.get("name") or (f"{id}.safetensors" if part == "loras" else last_part(row["url"])))


def _beside(link: Link, family: str) -> list[Resource]:
    """Text encoders and VAE of a family whose single files hold the denoiser alone."""
    found = []
    for part, url in config("models").get("companions", {}).get(family, {}).items():
        name = last_part(url)
        if part == "vae" and name == _PLAIN_VAE:
            name = f"{family}_vae.safetensors"
        found += _from(Link(link.text, url, "vae" if part == "vae" else "text_encoder", name))
    return found


def _checked(resource: Resource, row: dict[str, Any]) -> Resource:
    """The resource with what the catalogue knows of it; FetchFailed where the source has another file by now."""
    for key in ("sha256", "size"):
        told, known = getattr(resource, key), row.get(key)
        if not known or key in row.get("unchecked", ()):
            continue
        if told and told != known:
            raise FetchFailed(
                f"{names.shown(resource.name)} is another file than the catalogue knows ({key} {told}, not {known}).",
                f"Somebody replaced it. If that is right, change its row in configs/models.yaml, or fetch it by its address: {row['url']}",
            )
        resource = replace(resource, **{key: known})
    return resource


def _from(link: Link) -> list[Resource]:
    from reverie.host import sources

    return sources.resolve(link)
