"""Any other address: the beginning of the file is asked for, which tells its size, its name, and whether it is a file at all."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, unquote, urlsplit

from reverie.errors import FetchFailed, NotFound, TokenNeeded
from reverie.host import names
from reverie.host.resources import Address, Link, Resource
from reverie.host.sources import _asking, _pages, kind_of, last_part, name_of, shown
from reverie.settings import config

START_BYTES = 4096  # enough to tell a page from a file


def takes(address: str) -> bool:
    return address.lower().startswith(("http://", "https://"))


def resolve(link: Link) -> list[Resource]:
    answer = _begun(link.address)
    told = _named(answer, link.address)
    return [
        Resource(
            kind=kind_of(link, f"{urlsplit(link.address).path}/{told}"),
            name=name_of(link, told),
            url=link.address,
            source="url",
            size=answer.size,
            about={"title": told, "page": shown(link.address), "pickled": names.is_pickle(told)},
        )
    ]


def open_address(resource: Resource) -> Address:
    return Address(_begun(resource.url).url, {"Accept-Encoding": "identity"})


def _begun(url: str) -> _asking.Answer:
    """The beginning of the file at an address; a sentence for everything that is none."""
    answer = _asking.ask(url, headers={"Range": f"bytes=0-{START_BYTES - 1}"}, most=START_BYTES)
    if answer.status == 416:  # an empty file, or a server that knows no ranges and says so in this way
        answer = _asking.ask(url, most=START_BYTES)
    host = urlsplit(answer.url).hostname
    if answer.status in (401, 403, 407):
        step = "Download it in a browser and give the file's path."
        raise TokenNeeded(f"{host} does not let everyone have {shown(url)} (HTTP {answer.status}).", step)
    if answer.status in (404, 410):
        raise NotFound(f"There is nothing at {shown(url)} (HTTP {answer.status}).", "Check the address; the file may have moved.")
    if answer.status not in (200, 206):
        raise FetchFailed(f"{host} answered with HTTP {answer.status} for {shown(url)}.", "Try again later, or take another address.")
    wants_text = names.suffix_of(last_part(url)).lower() in (".json", ".txt", ".yaml", ".yml")
    if (page := _pages.kind(answer)) and not wants_text:
        raise FetchFailed(f"{shown(url)} is {page}, no model.", "Open it in a browser and copy the address of the download itself.")
    if answer.size == 0 and not answer.body:
        raise FetchFailed(f"{shown(url)} is empty.", "Check the address.")
    return answer


def _named(answer: _asking.Answer, typed: str) -> str:
    """The file's name: as the server says, as its signed address says, as the address ends; the first that looks like a model's."""
    query = parse_qs(urlsplit(answer.url).query)
    signed = (query.get("response-content-disposition") or query.get("rscd") or [""])[0]
    said = [disposition_name(answer.headers.get("content-disposition", "")), disposition_name(signed), last_part(typed), last_part(answer.url)]
    cleaned = [names.clean(name) for name in said]
    known = config("sources")["suffixes"]
    return next((name for name in cleaned if names.suffix_of(name).lower() in known), next(filter(None, cleaned), ""))


def disposition_name(header: str) -> str:
    """The file name in a Content-Disposition header: `filename*` (RFC 5987) before `filename` (RFC 6266); "" if there is none."""
    extended = re.search(r"filename\*\s*=\s*\"?([A-Za-z0-9!#$&+^_`{}~-]*)'[^']*'([^;\"\s]+)", header, re.IGNORECASE)
    if extended:
        try:
            return unquote(extended[2], encoding=extended[1] or "utf-8", errors="strict")
        except (LookupError, ValueError):
            pass  # an unknown charset, or bytes that are none of it: the plain name is left
    plain = re.search(r"filename\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^;\s]+))", header, re.IGNORECASE)
    if not plain:
        return ""
    found = re.sub(r"\\(.)", r"\1", plain[1]) if plain[1] is not None else plain[2]
    try:
        found = found.encode("latin-1").decode("utf-8")  # many send UTF-8 as it is
    except UnicodeError:
        pass
    return unquote(found) if re.search(r"%[0-9A-Fa-f]{2}", found) else found
