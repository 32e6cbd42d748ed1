"""Google Drive: files that are shared with everyone. A large one comes after a page that warns of viruses; its form is filled in."""

from __future__ import annotations

import os
import re
from html import unescape
from html.parser import HTMLParser
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

from reverie.errors import BadInput, FetchFailed, NotFound, TokenNeeded
from reverie.host import names
from reverie.host.resources import Address, Link, Resource
from reverie.host.sources import _asking, _pages, kind_of, name_of, shown
from reverie.host.sources.url import START_BYTES, disposition_name
from reverie.settings import config

PAGE_BYTES = 1 << 18
_ID = r"[A-Za-z0-9_-]{8,128}"
_SHARE = "Share it as 'anyone with the link', or download it in a browser and give the file's path."


def takes(address: str) -> bool:
    lowered = address.lower()
    hosts = [*config("sources")["hubs"]["gdrive"]["hosts"], urlsplit(_base()).netloc]
    return lowered.startswith("gdrive:") or lowered.startswith(("http://", "https://")) and urlsplit(lowered).netloc in hosts


def resolve(link: Link) -> list[Resource]:
    url = f"{_base()}/uc?{urlencode(_query(link.address))}"
    answer = _file(url)
    told = names.clean(disposition_name(answer.headers.get("content-disposition", "")))
    about = {"title": told, "page": f"https://drive.google.com/file/d/{_query(link.address)['id']}/view", "pickled": names.is_pickle(told)}
    return [Resource(kind=kind_of(link, told), name=name_of(link, told), url=url, source="gdrive", size=answer.size, about=about)]


def open_address(resource: Resource) -> Address:
    return Address(_file(resource.url).url)


def _base() -> str:
    return (os.environ.get("REVERIE_GDRIVE_URL") or "https://drive.google.com").rstrip("/")


def _query(address: str) -> dict[str, str]:
    """What names the file, whichever of Drive's many forms its address has."""
    parts = urlsplit(address)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if "/folders/" in parts.path:
        raise BadInput(f"{shown(address)} is a folder on Google Drive.", "Give the links of its files, one by one.")
    found = re.fullmatch(rf"gdrive:({_ID})", address, re.IGNORECASE) or re.search(rf"/d/(?:e/)?({_ID})(?:/|$)", parts.path)
    id = found[1] if found else query.get("id", "")
    if not re.fullmatch(_ID, id):
        raise BadInput(f"{shown(address)} is no file on Google Drive.", "Copy the link that 'Share' gives: drive.google.com/file/d/…/view.")
    key = {"resourcekey": query["resourcekey"]} if re.fullmatch(r"[\w-]+", query.get("resourcekey", "")) else {}
    return {"id": id, "export": "download", **key}


def _file(url: str) -> _asking.Answer:
    """The beginning of the file itself."""
    answer = _asked(url)
    if _pages.kind(answer) and (confirmed := _confirmed(answer)):
        answer = _asked(confirmed)
    page = _pages.kind(answer)
    if "ServiceLogin" in answer.url or urlsplit(answer.url).hostname == "accounts.google.com" or answer.status in (401, 403):
        raise TokenNeeded("That file on Google Drive is not shared with everyone.", _SHARE)
    if answer.status == 404:
        raise NotFound("Google Drive has no such file.", "Check the link; it may have been deleted.")
    if b"uota exceeded" in answer.body or b"Too many users have viewed" in answer.body:
        copy = "Try again tomorrow, or make a copy in your own Drive and share that."
        raise FetchFailed("Google Drive's quota for that file is used up: too many people fetched it.", copy)
    if answer.status not in (200, 206) or page:
        raise FetchFailed(f"Google Drive answered with {page or f'HTTP {answer.status}'} instead of the file.", _SHARE)
    return answer


def _asked(url: str) -> _asking.Answer:
    answer = _asking.ask(url, headers={"Range": f"bytes=0-{START_BYTES - 1}"}, most=START_BYTES)
    if answer.type == "text/html":
        answer = _asking.ask(answer.url, most=PAGE_BYTES)
    return answer


def _confirmed(answer: _asking.Answer) -> str:
    """Where the form of the warning leads; "" if there is none."""
    form = _Form()
    form.feed(answer.body.decode("utf-8", "replace"))
    if form.action is None:
        link = re.search(r'href="(/uc\?[^"]*confirm=[^"]+)"', answer.body.decode("utf-8", "replace"))
        return urljoin(answer.url, unescape(link[1])) if link else ""
    target = urljoin(answer.url, form.action)
    return _asking.checked(answer.url, f"{target}{'&' if '?' in target else '?'}{urlencode(form.fields)}" if form.fields else target)


class _Form(HTMLParser):
    """The hidden fields of the download form."""

    def __init__(self):
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self._inside = False

    def handle_starttag(self, tag, attributes):
        said = dict(attributes)
        if tag == "form" and ("download" in (said.get("id") or "") or "/download" in (said.get("action") or "")):
            self.action, self._inside = said.get("action") or "", True
        elif tag == "input" and self._inside and said.get("type") == "hidden" and said.get("name"):
            self.fields[said["name"]] = said.get("value") or ""

    def handle_endtag(self, tag):
        self._inside = self._inside and tag != "form"
