"""CivitAI: pages, API links, AIRs and ids → the chosen file of a version, asked for with the person's token; and the search.

Whether a download will be allowed is found out while resolving, by asking for the file without following where it leads: a
login, early access and disabled downloads are then known before anything starts.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any, Sequence
from urllib.parse import parse_qs, quote, urlsplit

from reverie.errors import BadInput, FetchFailed, NotFound, TokenNeeded
from reverie.host import names
from reverie.host.resources import Address, Link, Resource
from reverie.host.sources import _asking, _pages, _rows, name_of, shown, token
from reverie.host.sources._rows import Model as Model, Page, Version as Version
from reverie.settings import config

TOKEN = "CIVITAI_TOKEN"
_PATHS = {
    "version": r"/(?:api/download/models|(?:api/v1/)?model-versions)/(\d+)/?",
    "model": r"/(?:api/v1/)?models/(\d+)(?:/[^/]*)?/?",
    "hash": r"/api/v1/model-versions/by-hash/([0-9A-Za-z]+)/?",
}
_PICKS = {"type": "type", "format": "format", "size": "size", "fp": "fp"}  # parameter of a download link → part of a file's row


@dataclass(frozen=True)
class _Wanted:
    """What an address says: a model, one of its versions, or a hash, and which of its files."""

    base: str
    model: int = 0
    version: int = 0
    hash: str = ""
    file: int = 0
    picks: dict[str, str] = field(default_factory=dict)


def takes(address: str) -> bool:
    lowered = address.lower()
    if re.match(r"civitai:|urn:air:.*:civitai:", lowered):
        return True
    hosts = [*config("sources")["hubs"]["civitai"]["hosts"], urlsplit(_base()).netloc]
    return lowered.startswith(("http://", "https://")) and urlsplit(lowered).netloc in hosts


def resolve(link: Link) -> list[Resource]:
    wanted = _wanted(link.address)
    with _pages.reading("CivitAI"):
        resource = _resource(link, wanted, _version(wanted))
    open_address(resource)
    return [resource]


def open_address(resource: Resource) -> Address:
    """The signed address of the file, which may be asked without the token and must be."""
    url = resource.url
    secret = token(TOKEN) if _asking.is_of(url, _base(), config("sources")["hubs"]["civitai"]["hosts"]) else ""
    answer = _asking.ask(url, token=secret, follow="host", most=65536)
    if answer.location:
        return Address(_asking.checked(url, answer.location))
    asked_in = re.search(r"/(login|sign-?in)\b", urlsplit(answer.url).path)
    _check_guard(answer)
    if asked_in or answer.status in (401, 403) or "purchase" in answer.url:
        raise _refused(resource, answer, bool(secret))
    if answer.status == 404:
        raise FetchFailed(f"CivitAI has no such file any more: {_titled(resource)}.", f"Look at {resource.about.get('page') or url}.")
    if answer.status >= 400:
        raise FetchFailed(f"CivitAI answered with HTTP {answer.status} for {_titled(resource)}.", "Try again later.")
    if page := _pages.kind(answer):
        raise FetchFailed(f"CivitAI answered with {page} instead of {_titled(resource)}.", f"Look at {resource.about.get('page') or url}.")
    return Address(answer.url, _asking.bearer_of(secret) if _asking.same_host(answer.url, url) else {})


def search(
    query: str = "", types: Sequence[str] = (), base_models: Sequence[str] = (), sort: str = "", period: str = "", nsfw: bool = False,
    cursor: str = "", limit: int = 20,
) -> Page:
    """One page of what CivitAI has. `types` are its own or our kinds, `base_models` its own or our families; `sort` is one of
    "Highest Rated", "Most Downloaded", "Newest"; `period` AllTime, Year, Month, Week or Day."""
    known = config("sources")
    params: dict[str, Any] = {"limit": max(1, min(100, limit)), "nsfw": "true" if nsfw else "false"}
    params |= {name: value for name, value in {"query": query.strip(), "sort": sort, "period": period, "cursor": cursor}.items() if value}
    if types:
        params["types"] = list(dict.fromkeys(name for one in types for name in _typed(one, known["types"])))
    if base_models:
        params["baseModels"] = list(dict.fromkeys(name for one in base_models for name in known["families"].get(one, [one])))
    answer = _asking.cached_json(f"{_base()}/api/v1/models", token=token(TOKEN), params=params)
    data = _data(answer, "the search")
    level = 32 if nsfw else known["hubs"]["civitai"]["preview_nsfw_level"]
    with _pages.reading("CivitAI"):
        following = (data.get("metadata") or {}).get("nextCursor") or ""
        return Page(tuple(_rows.model_of(row, level) for row in data.get("items") or ()), str(following))


# --------------------------------------------------------------------------------------------------- addresses and answers


def _resource(link: Link, wanted: _Wanted, version: dict[str, Any]) -> Resource:
    file = _file(version, wanted, link.kind)
    about, model = version.get("model") or {}, version.get("modelId") or wanted.model
    kind = _kind(link, file, str(about.get("type", "")), str(about.get("name", "")))
    url = f"{wanted.base}/api/download/models/{version['id']}?fileId={file['id']}"
    early = _rows.early_access(version)
    return Resource(
        kind=kind,
        name=name_of(link, str(file.get("name") or "")),
        url=url,
        source="civitai",
        size=_rows.bytes_of(file),
        sha256=_rows.sha256_of(file),
        token=TOKEN if token(TOKEN) else "",
        family=_rows.family_of(str(version.get("baseModel", ""))),
        preview=_rows.preview_of(version),
        about={
            "title": str(about.get("name", "")),
            "version": str(version.get("name", "")),
            "base_model": str(version.get("baseModel", "")),
            "type": str(about.get("type", "")),
            "trained_words": _rows.words_of(version),
            "page": f"{wanted.base}/models/{model}?modelVersionId={version['id']}",
            "nsfw": bool(about.get("nsfw")),
            "pickled": _rows.is_pickled(file),
            "published": str(version.get("publishedAt") or ""),
            **({"early_access": early} if early else {}),
        },
    )


def _base() -> str:
    return (os.environ.get("REVERIE_CIVITAI_URL") or "https://civitai.com").rstrip("/")


def _wanted(address: str) -> _Wanted:
    if found := re.fullmatch(r"(?:civitai|urn:air:[^:]*:[^:]*:civitai):(\d+)(?:@(\d+))?(?:\.\w+)?", address, re.IGNORECASE):
        return _Wanted(_base(), int(found[1]), int(found[2] or 0))
    parts = urlsplit(address)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    # Its twin for adults knows models that the first one does not show.
    adult = parts.netloc.lower().endswith("civitai.red") and not os.environ.get("REVERIE_CIVITAI_URL")
    base = f"https://{parts.netloc.lower()}" if adult else _base()
    file = _number(query.get("fileId", "0"))
    picks = {name: query[name] for name in _PICKS if query.get(name)}
    if found := re.fullmatch(_PATHS["hash"], parts.path):
        return _Wanted(base, hash=found[1], file=file, picks=picks)
    if found := re.fullmatch(_PATHS["version"], parts.path):
        return _Wanted(base, version=_number(found[1]), file=file, picks=picks)
    if found := re.fullmatch(_PATHS["model"], parts.path):
        return _Wanted(base, _number(found[1]), _number(query.get("modelVersionId", "0")), file=file, picks=picks)
    raise BadInput(f"{shown(address)} is no model on CivitAI.", "Copy the address of the model's page, civitai.com/models/NUMBER.")


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 12:
        raise BadInput(f"'{names.shown(text)}' in a CivitAI address is no number.", "Copy the address again.")
    return int(text)


def _version(wanted: _Wanted) -> dict[str, Any]:
    """The row of a version, with `modelId` and `model` in it, however it was asked for."""
    if wanted.version or wanted.hash:
        path = f"model-versions/{wanted.version}" if wanted.version else f"model-versions/by-hash/{quote(wanted.hash)}"
        version = _data(_asking.cached_json(f"{wanted.base}/api/v1/{path}", token=token(TOKEN)), f"version {wanted.version or wanted.hash}")
        if wanted.model and version.get("modelId") not in (None, wanted.model):
            raise NotFound(f"CivitAI's version {wanted.version} is of model {version['modelId']}, not of {wanted.model}.", "Copy the address again.")
        return version
    model = _data(_asking.cached_json(f"{wanted.base}/api/v1/models/{wanted.model}", token=token(TOKEN)), f"model {wanted.model}")
    versions = [row for row in model.get("modelVersions") or () if isinstance(row, dict) and row.get("files")]
    if not versions:
        raise NotFound(f"'{model.get('name')}' on CivitAI has no version with files.", f"Look at {wanted.base}/models/{wanted.model}.")
    version = next((row for row in versions if not _rows.early_access(row)), versions[0])
    return {**version, "modelId": wanted.model, "model": {key: model.get(key) for key in ("name", "type", "nsfw")}}


def _data(answer: _asking.Answer, what: str) -> dict[str, Any]:
    if answer.status == 404:
        raise NotFound(f"CivitAI has no {what}.", "It may have been taken down; models for adults are on civitai.red.")
    _check_guard(answer)
    if answer.status in (401, 403):
        raise TokenNeeded(f"CivitAI does not show {what} ({_pages.said(answer) or f'HTTP {answer.status}'}).", _token_step(bool(token(TOKEN))))
    if answer.status >= 400:
        raise FetchFailed(f"CivitAI answered with HTTP {answer.status} for {what}: {_pages.said(answer) or 'no reason given'}.", "Try again later.")
    data = answer.json()
    if not isinstance(data, dict) or not any(key in data for key in ("id", "items")):
        raise FetchFailed(f"CivitAI's answer about {what} is not what it used to be.", f"It says: {_pages.said(answer) or 'nothing'}.")
    return data


def _check_guard(answer: _asking.Answer) -> None:
    """FetchFailed where not CivitAI answers but the guard before it, which turns away machines and whole countries."""
    if answer.status == 451 or answer.status in (401, 403) and answer.type == "text/html":
        told = _pages.kind(answer) or "a refusal"
        raise FetchFailed(f"CivitAI turns this machine away with {told} (HTTP {answer.status}).", "Try again later, or from another network.")


def _refused(resource: Resource, answer: _asking.Answer, with_token: bool) -> FetchFailed:
    why, page = _pages.said(answer), resource.about.get("page") or resource.url
    early = resource.about.get("early_access") or ""
    if "disabled" in why.lower():
        return FetchFailed(f"The creator of {_titled(resource)} has disabled its download.", "Choose another version or model.")
    if answer.status == 403 or "purchase" in answer.url or "early access" in why.lower():
        until = f" until {early[:10]}" if early[:1].isdigit() else ""
        return TokenNeeded(f"{_titled(resource)} is in early access{until}: only who paid for it may download it.", f"Wait, or get access at {page}.")
    if with_token:
        return TokenNeeded(f"CivitAI does not accept the token that is set ({why or 'HTTP 401'}).", _token_step(True))
    return TokenNeeded(f"CivitAI wants a login for {_titled(resource)}.", _token_step(False))


def _token_step(there: bool) -> str:
    return f"{'Make a new token' if there else 'Make a token'} at {config('sources')['hubs']['civitai']['tokens_page']} and set {TOKEN}."


def _titled(resource: Resource) -> str:
    return f"'{names.shown(resource.about.get('title') or resource.name)}'"


# -------------------------------------------------------------------------------------------------- versions and files


def _file(version: dict[str, Any], wanted: _Wanted, kind: str) -> dict[str, Any]:
    """The one file of a version that is meant: by id, by what the address says of it, else the best of them."""
    files = [file for file in version.get("files") or () if isinstance(file, dict) and file.get("id")]
    known, page = config("sources"), f"{wanted.base}/models/{version.get('modelId', '')}?modelVersionId={version.get('id', '')}"
    if not files:
        raise NotFound(f"Version '{version.get('name')}' on CivitAI has no files.", f"Look at {page}.")
    if wanted.file:
        chosen = [file for file in files if file["id"] == wanted.file]
    else:
        chosen = [file for file in files if all(_fits(file, name, value) for name, value in wanted.picks.items())]
        if "type" not in wanted.picks:
            chosen = [file for file in chosen if file.get("type") not in known["not_weights"]] or chosen
    if not chosen:
        there = ", ".join(f"{names.shown(str(file.get('name')))} (fileId={file['id']})" for file in files[:8])
        raise NotFound(f"Version '{version.get('name')}' on CivitAI has no file like that.", f"It has: {there}.")
    kinds = known["file_types"]
    other = {file["id"]: kind in kinds.values() and kinds.get(file.get("type")) != kind for file in chosen}
    return min(chosen, key=lambda file: (other[file["id"]], _rows.is_pickled(file), not file.get("primary")))


def _fits(file: dict[str, Any], pick: str, value: str) -> bool:
    row = file if pick == "type" else file.get("metadata") or {}
    return str(row.get(_PICKS[pick]) or "").lower() == value.lower()


def _kind(link: Link, file: dict[str, Any], type: str, title: str) -> str:
    known = config("sources")
    told = known["file_types"].get(file.get("type")) or known["types"].get(type, "")
    if told == "embedding" and type not in ("TextualInversion", "Checkpoint", "LORA"):
        told = known["types"].get(type, "embedding")
    alike = {"checkpoint", "diffusion_model"}
    if link.kind and told and link.kind != told and not {link.kind, told} <= alike:
        raise BadInput(f"'{names.shown(title)}' on CivitAI is of the kind {told}, not {link.kind}.", f"Write {told}:{names.shown(link.address)}")
    if not link.kind and not told:
        what = f"'{names.shown(title)}' on CivitAI is of the type '{names.shown(type)}', which is no model."
        raise BadInput(what, "If it is one, write its kind before the address.")
    return link.kind or told


def _typed(type: str, types: dict[str, str]) -> list[str]:
    return [name for name, kind in types.items() if kind == type] or [type]
