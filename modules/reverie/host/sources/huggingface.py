"""Hugging Face: one file, or a whole folder in diffusers' layout, pinned to the commit that was there when it was asked.

A HEAD of the file with identity encoding says its LFS sha256, its size and the commit before it redirects to a signed address;
only redirects that stay on the hub are followed (a renamed repository), or those headers would be lost.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Iterable
from urllib.parse import quote, unquote, urljoin, urlsplit

from reverie.errors import BadInput, FetchFailed, NotFound, TokenNeeded
from reverie.host import names
from reverie.host.resources import Address, Link, Resource
from reverie.host.sources import _asking, _folders, _pages, kind_of, name_of, shown, token
from reverie.settings import config

TOKEN = "HF_TOKEN"
LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")  # parts that judge or decorate: the engine loads none of them
MOST_PAGES = 100
FOLDERS_OF = ("", "diffusers", "clip", "checkpoint")  # kinds that a whole folder may be asked for as

_REPO = r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+"
_FILE = re.compile(rf"/(?P<repo>(?:(?:datasets|spaces)/)?(?:{_REPO}|[A-Za-z0-9_.-]+))/(?:resolve|blob|raw)/(?P<rest>.+)")
_TREE = re.compile(rf"/(?P<repo>{_REPO})(?:/tree/(?P<rest>[^?]+?))?/?")
_SHORT = re.compile(
    rf"(?:hf:|huggingface:|urn:air:[^:]*:[^:]*:huggingface:)?(?P<repo>{_REPO})(?:@(?P<revision>[A-Za-z0-9_.-]+))?(?:/(?P<path>.+))?", re.IGNORECASE
)
_REVISION = re.compile(r"(refs/(?:pr|convert)/[^/]+|[^/]+)(?:/(.*))?")


@dataclass(frozen=True)
class _Wanted:
    """`repo` as it stands in addresses, "datasets/" included; `path` "" for the whole of it."""

    repo: str
    revision: str = "main"
    path: str = ""

    def url(self, revision: str = "") -> str:
        return f"{_base()}/{self.repo}/resolve/{quote(revision or self.revision, safe='')}/{quote(self.path)}"

    @property
    def page(self) -> str:
        return f"{_base()}/{self.repo}"

def takes(address: str) -> bool:
    lowered = address.lower()
    if lowered.startswith(("http://", "https://")):
        hosts = [*config("sources")["hubs"]["huggingface"]["hosts"], urlsplit(_base()).netloc]
        return urlsplit(lowered).netloc in hosts
    return bool(_SHORT.fullmatch(address)) and "/" in address and ".." not in address.split("/")


def resolve(link: Link) -> list[Resource]:
    wanted = _wanted(link.address)
    if wanted.path and names.suffix_of(wanted.path):
        return [_one(link, wanted)]
    with _pages.reading("Hugging Face"):
        return _whole(link, wanted)


def whole_of(link: Link) -> tuple[str, str]:
    wanted = _wanted(link.address)
    if wanted.path and names.suffix_of(wanted.path) or link.kind not in FOLDERS_OF:
        return "", ""
    return f"{_folder_kind(link)}: {_joined(wanted.page, wanted.path)}", wanted.revision


def open_address(resource: Resource) -> Address:
    """The signed address of the file; a small file has none and is read from the hub itself, with the token."""
    secret = token(TOKEN) if _asking.is_of(resource.url, _base(), config("sources")["hubs"]["huggingface"]["hosts"]) else ""
    answer = _asking.ask(resource.url, "HEAD", token=secret, follow="host")
    if answer.location:
        return Address(_asking.checked(answer.url, answer.location))
    _raise_for(answer, _wanted(resource.url), secret)
    if page := _pages.kind(answer) if not resource.name.endswith((".json", ".txt")) else "":
        raise FetchFailed(f"Hugging Face answered with {page} instead of {shown(resource.url)}.", "Try again later.")
    headers = _asking.bearer_of(secret) if _asking.same_host(answer.url, resource.url) else {}
    return Address(answer.url, {"Accept-Encoding": "identity", **headers})


# --------------------------------------------------------------------------------------------------- addresses and answers


def _base() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def _wanted(address: str) -> _Wanted:
    path = unquote(urlsplit(address).path) if "://" in address else ""
    if found := _FILE.fullmatch(path):
        return _Wanted(found["repo"], *_revised(found["rest"]))
    if found := _TREE.fullmatch(path):
        return _Wanted(found["repo"], *(_revised(found["rest"]) if found["rest"] else ()))
    if not path and (found := _SHORT.fullmatch(address)):
        return _Wanted(found["repo"], found["revision"] or "main", unquote(found["path"] or "").rstrip("/"))
    raise BadInput(f"{shown(address)} is no file and no repository on Hugging Face.", "Copy the file's address, or write hf:owner/repo/path.")


def _revised(rest: str) -> tuple[str, str]:
    """(revision, path) of what follows /resolve/ and /tree/."""
    found = _REVISION.fullmatch(rest.strip("/"))
    return found[1], found[2] or ""


def _raise_for(answer: _asking.Answer, wanted: _Wanted, secret: str) -> None:
    """The sentence for each refusal; none for an answer that is good."""
    if answer.status < 400:
        return
    code, why = answer.headers.get("x-error-code", ""), answer.headers.get("x-error-message", "") or _pages.said(answer)
    hub = config("sources")["hubs"]["huggingface"]
    new_token = f"Make a token at {hub['tokens_page']} and set {TOKEN}."
    if code == "GatedRepo" and (answer.status == 403 or secret):
        raise TokenNeeded(f"The licence of {wanted.repo} has not been accepted with this login.", f"Accept it at {wanted.page}, then try again.")
    if code == "GatedRepo":
        raise TokenNeeded(f"{wanted.repo} wants a login and its licence accepted.", f"Accept it at {wanted.page}. {new_token}")
    if code == "RepoNotFound" or answer.status == 401 and not secret:
        step = "Check its name." if secret else f"Check its name. If it is private: {new_token}"
        raise NotFound(f"There is no repository {wanted.repo} on Hugging Face, or it is private.", step)
    if answer.status == 401:
        raise TokenNeeded(f"Hugging Face does not accept the token that is set ({names.shown(why) or 'HTTP 401'}).", new_token)
    if answer.status == 403:
        what = f"The token that is set has no right to {wanted.repo} ({names.shown(why) or 'HTTP 403'})."
        raise TokenNeeded(what, f"Let it read that repository: {hub['tokens_page']}")
    if code == "RevisionNotFound":
        raise NotFound(f"{wanted.repo} has no branch or commit '{names.shown(wanted.revision)}'.", f"Look at {wanted.page}.")
    if answer.status == 404:
        what = f"file {names.shown(wanted.path)}" if wanted.path else "list of files"
        raise NotFound(f"{wanted.repo} has no {what} (at {wanted.revision}).", f"Look at {wanted.page}/tree/main.")
    raise FetchFailed(f"Hugging Face answered with HTTP {answer.status} for {wanted.repo}.", "Try again later.")


# ------------------------------------------------------------------------------------------------------------- one file


def _one(link: Link, wanted: _Wanted) -> Resource:
    secret = token(TOKEN)
    answer = _asking.ask(wanted.url(), "HEAD", token=secret, follow="host")
    _raise_for(answer, wanted, secret)
    commit = answer.headers.get("x-repo-commit", "")
    etag = answer.headers.get("x-linked-etag", "").removeprefix("W/").strip('"').lower()
    size = answer.headers.get("x-linked-size", "")
    return Resource(
        kind=kind_of(link, f"{wanted.repo}/{wanted.path}"),
        name=name_of(link, PurePosixPath(wanted.path).name),
        url=wanted.url(commit if re.fullmatch(r"[0-9a-f]{40}", commit) else ""),
        source="huggingface",
        size=int(size) if size.isdecimal() else 0 if answer.location else answer.size,
        sha256=etag if re.fullmatch(r"[0-9a-f]{64}", etag) else "",
        token=TOKEN if secret else "",
        about=_about(wanted, commit),
    )


def _about(wanted: _Wanted, commit: str) -> dict[str, Any]:
    where = {"page": wanted.page, "repo": wanted.repo, "commit": commit, "path": wanted.path}
    return {"title": wanted.repo.split("/")[-1], **where, "pickled": names.is_pickle(wanted.path)}


# -------------------------------------------------------------------------------------------------------------- a folder


def _whole(link: Link, wanted: _Wanted) -> list[Resource]:
    """The files of a repository, or of a folder in it, that make one model."""
    if link.kind not in FOLDERS_OF:
        return [_only_file(link, wanted)]
    rows, commit = _tree(wanted)
    there = {str(row["path"]): row for row in rows}
    parts = _parts(wanted, commit, there) if "model_index.json" in there else frozenset()
    chosen = _folders.choose(sorted(there), parts) if parts or link.kind in ("diffusers", "clip") else []
    name = names.check(link.name) if link.name else names.clean((wanted.path or wanted.repo).split("/")[-1])
    if not chosen:
        return [_only_file(link, wanted)]
    whole = {"whole": whole_of(link)[0], "revision": wanted.revision, "files": len(chosen)}
    found = [_of_row(_folder_kind(link), name, wanted, path, there[path], commit) for path in chosen]
    return [replace(resource, about={**resource.about, **whole}) for resource in found]


def _folder_kind(link: Link) -> str:
    return "clip" if link.kind == "clip" else "diffusers"


def _parts(wanted: _Wanted, commit: str, there: Iterable[str]) -> frozenset[str]:
    """The folders that model_index.json names (all, if it names none), without those that only judge or decorate."""
    index = _Wanted(wanted.repo, commit or wanted.revision, _joined(wanted.path, "model_index.json"))
    answer = _asking.ask(index.url(), token=token(TOKEN))
    _raise_for(answer, index, token(TOKEN))
    told = answer.json()
    rows = told.items() if isinstance(told, dict) else ()
    named = {name for name, row in rows if isinstance(row, list) and row and row[0]}
    return frozenset(named or {path.split("/")[0] for path in there if "/" in path}) - frozenset(LEFT_OUT)


def _only_file(link: Link, wanted: _Wanted) -> Resource:
    """The one model file of a repository that is no folder model; BadInput names them where there are several."""
    rows, _ = _tree(wanted)
    files = [str(row["path"]) for row in rows if str(row["path"]).endswith((".safetensors", ".gguf", ".sft"))]
    if len(files) == 1:
        return _one(link, _Wanted(wanted.repo, wanted.revision, _joined(wanted.path, files[0])))
    some = ", ".join(names.shown(file) for file in files[:6])
    listed = f"It has: {some}{' …' if len(files) > 6 else ''}." if files else "There are no safetensors in it."
    raise BadInput(f"{wanted.repo} is no folder in diffusers' layout, and not one model file.", f"{listed} Write hf:{wanted.repo}/FILE.")


def _tree(wanted: _Wanted) -> tuple[list[dict[str, Any]], str]:
    """(rows of all files below the wanted folder, their paths relative to it; the commit they were listed at)."""
    if wanted.repo.startswith(("datasets/", "spaces/")):
        raise BadInput(f"{wanted.repo} is no repository of models.", "Copy the address of one of its files.")
    secret, commit, rows = token(TOKEN), "", []
    revision, below = quote(wanted.revision, safe=""), f"{wanted.path}/" if wanted.path else ""
    url, params = f"{_base()}/api/models/{wanted.repo}/tree/{revision}", {"recursive": "true", "expand": "true"}
    for _ in range(MOST_PAGES):
        answer = _asking.cached_json(url, token=secret, params=params)
        _raise_for(answer, wanted, secret)
        listed = answer.json()
        if not isinstance(listed, list):
            raise FetchFailed(f"Hugging Face's list of the files in {wanted.repo} is not what it used to be.", "Try again later.")
        rows += [row for row in listed if isinstance(row, dict) and row.get("type") == "file" and str(row.get("path", "")).startswith(below)]
        commit = commit or answer.headers.get("x-repo-commit", "")
        found = re.search(r'<([^>]+)>;\s*rel="?next"?', answer.headers.get("link", ""))
        if not found or not _asking.same_host(following := urljoin(answer.url, found[1]), _base()):
            break
        url, params = following, {}
    if not rows:
        raise NotFound(f"{wanted.repo} has no files{f' in {names.shown(wanted.path)}' if wanted.path else ''}.", f"Look at {wanted.page}/tree/main.")
    rows = [{**row, "path": str(row["path"]).removeprefix(below)} for row in rows]
    return rows, commit or _commit(wanted, rows, secret)


def _commit(wanted: _Wanted, rows: list[dict[str, Any]], secret: str) -> str:
    """The commit that the branch is at now, as one of the files says."""
    if re.fullmatch(r"[0-9a-f]{40}", wanted.revision):
        return wanted.revision
    first = _Wanted(wanted.repo, wanted.revision, _joined(wanted.path, str(rows[0]["path"])))
    answer = _asking.ask(first.url(), "HEAD", token=secret, follow="host")
    _raise_for(answer, first, secret)
    return answer.headers.get("x-repo-commit", "")


def _of_row(kind: str, name: str, home: _Wanted, path: str, row: dict[str, Any], commit: str) -> Resource:
    wanted = _Wanted(home.repo, home.revision, _joined(home.path, path))
    lfs = row.get("lfs") if isinstance(row.get("lfs"), dict) else {}
    digest, size = str(lfs.get("oid") or "").lower(), lfs.get("size", row.get("size"))
    clean = "/".join(names.clean(part) for part in path.split("/"))
    if clean != path:
        raise FetchFailed(f"{wanted.repo} has a file whose name cannot be written here: {names.shown(path)}.", "Take another repository.")
    return Resource(
        kind=kind,
        name=f"{name}/{path}",
        url=wanted.url(commit),
        source="huggingface",
        size=size if isinstance(size, int) and size >= 0 else 0,
        sha256=digest if re.fullmatch(r"[0-9a-f]{64}", digest) else "",
        token=TOKEN if token(TOKEN) else "",
        about=_about(wanted, commit),
    )


def _joined(folder: str, path: str) -> str:
    return f"{folder}/{path}" if folder else path
