"""What a server's answer says: what is at an address, whether an answer to a range fits, which refusals pass."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import re
import time
from dataclasses import dataclass, field
from typing import Any, Mapping
from urllib.parse import urljoin

from reverie import __version__
from reverie.errors import FetchFailed, first_line
from reverie.host.fetch.checks import HEAD_BYTES
from reverie.host.fetch.outcomes import Changed, Cut, Later, Refused
from reverie.host.fetch.staging import Identity
from reverie.host.resources import Address

USER_AGENT = f"reverie/{__version__}"
REDIRECTS = 10
_SIGNED_OUT = {400, 401, 403, 404, 410}  # what an expired signature is answered with, here or there
_PASSING = {408, 425, 500, 502, 504, 520, 521, 522, 523, 524, 529}


@dataclass(frozen=True)
class Found:
    """What an address gives. `url` is where it comes from in the end, without redirects; `headers` are for that host.
    `identity.size` is -1 where the server does not tell."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    identity: Identity
    head: bytes = field(repr=False)
    content_type: str = ""

    @property
    def link(self):
        """`url` as it is: a signature does not survive being quoted again."""
        return _link(self.url)

    @property
    def if_range(self) -> dict[str, str]:
        """Only a strong ETag is allowed there."""
        etag = self.identity.etag
        return {"If-Range": etag} if etag.startswith('"') else {}


async def look(session, address: Address) -> Found:
    """Asks for the first bytes. Redirects are followed here: headers stay with the host that they were given for."""
    url, headers = _link(address.url), dict(address.headers)
    for _ in range(REDIRECTS):
        asked = {**headers, "Range": f"bytes=0-{HEAD_BYTES - 1}"}
        async with cuts(), session.get(url, headers=asked, allow_redirects=False) as response:
            if not (300 <= response.status < 400 and response.headers.get("Location")):
                return await _found(response, url, headers)
            onward = _link(urljoin(str(url), response.headers["Location"]))
        if onward.origin() != url.origin():
            headers = {}
        url = onward
    raise FetchFailed(f"{address_host(address)} sends in circles.", "Look whether the link opens in a browser.")


async def _found(response, url, headers: dict[str, str]) -> Found:
    whole = response.status != 416
    if whole:
        judge(response)
    told = response.headers
    encoding = told.get("Content-Encoding", "identity").lower()
    if encoding not in ("", "identity"):
        raise FetchFailed(f"{url.host} gives the file only packed ({encoding}).", "Take another address of the same file.")
    _, total = content_range(told)
    ranges = response.status == 206 and total >= 0
    size = total if ranges else 0 if not whole and total == 0 else _length(told) if response.status == 200 else -1
    head = await _read(response.content) if whole and size != 0 else b""
    identity = Identity(size, told.get("ETag", ""), told.get("Last-Modified", ""), ranges)
    return Found(str(url), headers, identity, head, told.get("Content-Type", "").lower())


async def _read(content) -> bytes:
    """The first bytes, however they are cut up on the way."""
    head = b""
    while len(head) < HEAD_BYTES and (data := await content.read(HEAD_BYTES - len(head))):
        head += data
    return head


def judge(response) -> None:
    """Raises what a status other than success means."""
    status = response.status
    if status in (200, 206):
        return
    if status in (429, 503):
        raise Later(f"status {status}", retry_after(response.headers))
    if status in _PASSING:
        raise Cut(f"status {status}")
    if status in _SIGNED_OUT:
        raise Refused(status)
    raise FetchFailed(f"{response.url.host} answered with status {status}.", "Look whether the link opens in a browser.")


def check_part(response, found: Found, start: int, by_sum: bool) -> None:
    """Whether this is the asked part of the file that was found, and not of another. `by_sum`: a known sum judges the file in
    the end, so mirrors may each have an ETag of their own."""
    if 300 <= response.status < 400:
        raise Cut("the server redirects now")
    judge(response)
    told = response.headers
    at, total = content_range(told)
    if response.status != 206 or at != start or total not in (found.identity.size, -1):
        raise Changed("the server gave something else than the range asked for")
    _same_validator(told, found, by_sum)


def check_whole(response, found: Found) -> None:
    if 300 <= response.status < 400:
        raise Cut("the server redirects now")
    judge(response)
    if response.status != 200 or 0 <= found.identity.size != _length(response.headers):
        raise Changed("the server gives another file now")


def _same_validator(told: Mapping[str, str], found: Found, by_sum: bool) -> None:
    for name, before in (("ETag", found.identity.etag), ("Last-Modified", found.identity.modified)):
        now = told.get(name, "")
        if before and now:
            if before != now and not by_sum:
                raise Changed("the file changed at the server")
            return


def content_range(told: Mapping[str, str]) -> tuple[int, int]:
    """(first byte, length of the whole file), each -1 where it is not said."""
    match = re.match(r"bytes\s+(?:(\d+)-\d+|\*)/(\d+|\*)", told.get("Content-Range", ""))
    if not match:
        return -1, -1
    return int(match[1] or -1), int(match[2]) if match[2] != "*" else -1


def retry_after(told: Mapping[str, str]) -> float | None:
    """Seconds, from seconds or a date."""
    text = told.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    with contextlib.suppress(ValueError, TypeError):
        return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    return None


@contextlib.asynccontextmanager
async def cuts():
    """What the network does to a connection, as Cut: without the address, which may be a secret."""
    import aiohttp

    try:
        yield
    except aiohttp.InvalidURL:
        raise FetchFailed("The address to fetch from is no URL.", "Look at the link again.") from None
    except (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError) as error:
        raise Cut(scrubbed(error)) from None


def scrubbed(error: BaseException | str) -> str:
    """What it says, without what stands in a URL behind its host."""
    text = error if isinstance(error, str) else first_line(error)
    return re.sub(r"(https?://[^/\s'\"]+)[^\s'\"]*", r"\1/…", text)


def address_host(address: Address) -> str:
    return _link(address.url).host or "The address"


def _length(told: Mapping[str, str]) -> int:
    text = told.get("Content-Length", "")
    return int(text) if text.isdigit() else -1


def _link(url: str) -> Any:
    from yarl import URL

    try:
        link = URL(url, encoded=url.isascii() and " " not in url)
        if link.scheme in ("http", "https") and link.host and link.port:
            return link
    except ValueError:
        pass
    raise FetchFailed("The address to fetch from is no http or https URL.", "Look at the link again.")
