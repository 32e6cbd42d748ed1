"""Questions over HTTP to people's hubs: short answers, bounded waiting, and no credential that goes to another host.

One client per process. Redirects are followed by hand, since httpx would follow them to anywhere. 429 and 5xx are asked again,
as long as the server's Retry-After is bearable. Only the beginning of an answer is read: a file of 6 GB answers like a page.
"""

from __future__ import annotations

import email.utils
import functools
import ipaddress
import json
import logging
import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping
from urllib.parse import urljoin, urlsplit

from reverie.errors import FetchFailed, TokenNeeded, first_line
from reverie.host.sources import _pages, shown

CONNECT_S, ANSWER_S = 15.0, 30.0
TRIES, MOST_WAIT_S = 4, 30.0
MAX_REDIRECTS = 10
PAGE_BYTES = 32 << 20  # a page of a hundred models of CivitAI is some megabytes
FRESH_S, KEPT = 300, 48
AGAIN = frozenset({429, 500, 502, 503, 504})

_COPY = "Open it in a browser and copy the address of the file."
_log = logging.getLogger(__name__)
_kept: dict[tuple, tuple[float, Any]] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class Answer:
    """The end of a question: `url` is where the redirects led; `location` the next one if it was not followed; `body` the
    beginning of the answer. Headers' names are in lower case. `whole` is false where there is more than `body`."""

    status: int
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    location: str = field(default="", repr=False)
    whole: bool = True

    @property
    def type(self) -> str:
        return self.headers.get("content-type", "").split(";")[0].strip().lower()

    @property
    def size(self) -> int:
        """Bytes of the whole file, 0 where the answer does not tell."""
        total = self.headers.get("content-range", "").rpartition("/")[2] or self.headers.get("content-length", "")
        plain = self.headers.get("content-encoding", "identity") == "identity"
        return int(total) if total.isdecimal() and plain else 0

    def json(self) -> Any:
        """The answer as data; FetchFailed where it is none."""
        try:
            if not self.whole:
                raise ValueError("it does not end")
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise FetchFailed(f"{shown(self.url)} answered with {_pages.kind(self) or 'what is no JSON'}.", "Try again later.") from None


def ask(
    url: str, method: str = "GET", *, token: str = "", headers: Mapping[str, str] | None = None, params: Mapping[str, Any] | None = None,
    follow: str = "all", most: int = PAGE_BYTES,
) -> Answer:
    """The answer of a hub, whatever its status. FetchFailed where there is none, or where it asks to come back much later.

    `follow`: all redirects, those that stay on the "host", or "none"; `token` goes to the first host only.
    """
    if params:
        import httpx

        url = str(httpx.URL(url, params={**dict(httpx.QueryParams(urlsplit(url).query)), **params}))
    first, seen = url, 0
    while True:
        bearer = bearer_of(token) if same_host(url, first) else {}
        answer = _asked(method, url, {"Accept-Encoding": "identity", **(headers or {}), **bearer}, most)
        if not answer.location or follow == "none" or follow == "host" and not same_host(url, answer.location):
            return answer
        seen += 1
        if seen > MAX_REDIRECTS:
            raise FetchFailed(f"{shown(first)} leads in circles: {seen} redirects, and no end.", _COPY)
        url = checked(url, answer.location)


def cached_json(url: str, *, token: str = "", params: Mapping[str, Any] | None = None) -> Answer:
    """Like `ask`, for data; an answer with status 200 is kept for a few minutes."""
    key = (url, repr(sorted((params or {}).items())), hash(token))
    with _lock:
        kept = _kept.get(key)
    if kept and time.monotonic() - kept[0] < FRESH_S:
        return kept[1]
    answer = ask(url, token=token, params=params, headers={"Accept": "application/json"})
    if answer.status == 200:
        answer.json()
        with _lock:
            while len(_kept) >= KEPT:
                _kept.pop(next(iter(_kept)))
            _kept[key] = (time.monotonic(), answer)
    return answer


def forget() -> None:
    """Ask anew from now on."""
    with _lock:
        _kept.clear()


def bearer_of(token: str) -> dict[str, str]:
    if not token:
        return {}
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise TokenNeeded("The token that is set has blanks or strange letters in it.", "Copy it again from the page that made it.")
    return {"Authorization": f"Bearer {token}"}


def is_of(url: str, base: str, hosts: Iterable[str]) -> bool:
    """Whether an address belongs to a hub, so that its token may be sent there: below `base`, or over https on one of its hosts."""
    return url.startswith(f"{base}/") or any(url.lower().startswith(f"https://{host}/") for host in hosts)


def same_host(one: str, other: str) -> bool:
    """Whether credentials for one may be shown to the other: scheme, host and port are the same."""
    return _origin(one) == _origin(other)


# ----------------------------------------------------------------------------------------------------------- one question


def _asked(method: str, url: str, headers: Mapping[str, str], most: int) -> Answer:
    import httpx

    for number in range(1, TRIES + 1):
        last = number == TRIES
        try:
            answer = _once(method, url, headers, most)
        except (httpx.TransportError, httpx.DecodingError) as error:
            if last or isinstance(error, (httpx.UnsupportedProtocol, httpx.ReadTimeout)):
                raise FetchFailed(f"{shown(url)} does not answer ({_why(error)}).", "Check the address and the network, and try again.") from None
            time.sleep(0.25 * 2**number)
            continue
        except (httpx.InvalidURL, httpx.HTTPError, UnicodeError, ValueError) as error:
            raise FetchFailed(f"{shown(url)} cannot be asked ({first_line(error)}).", "Check the address.") from None
        wait_s = _retry_after(answer.headers.get("retry-after", ""))
        if answer.status not in AGAIN or last and answer.status != 429:
            return answer
        if last or wait_s > MOST_WAIT_S:
            minutes = f" in {max(1, round(wait_s / 60))} minutes" if wait_s > MOST_WAIT_S else " in a while"
            what = "is asked too often" if answer.status == 429 else f"is out of service (HTTP {answer.status})"
            raise FetchFailed(f"{_host(url)} {what}.", f"Try again{minutes}; what is here is kept.")
        _log.info("again host=%s status=%s number=%s", _host(url), answer.status, number)
        time.sleep(min(MOST_WAIT_S, wait_s if wait_s >= 0 else 0.5 * 2**number))
    raise AssertionError("unreachable")


def _once(method: str, url: str, headers: Mapping[str, str], most: int) -> Answer:
    ends, body, whole = time.monotonic() + 4 * _answer_s(), bytearray(), True
    with _client().stream(method, url, headers=headers, timeout=_timeout()) as response:
        for chunk in response.iter_raw() if method != "HEAD" else ():
            body += chunk
            if len(body) > most:
                whole = False
                break
            if time.monotonic() > ends:
                raise _too_slow()
        location = response.headers.get("location", "") if response.is_redirect else ""
        where = urljoin(str(response.url), location) if location else ""
        told = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, str(response.url), told, bytes(body[:most]), where, whole)


@functools.lru_cache(maxsize=1)
def _client():
    import httpx

    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they log whole addresses, signatures included
    limits = httpx.Limits(max_connections=32, keepalive_expiry=5)
    return httpx.Client(limits=limits, headers={"User-Agent": "sd-reverie"})


def _timeout():
    import httpx

    return httpx.Timeout(_answer_s(), connect=min(CONNECT_S, _answer_s()))


def _answer_s() -> float:
    """Seconds to wait for an answer: REVERIE_ANSWER_S where the network is slow."""
    try:
        return max(0.1, float(os.environ.get("REVERIE_ANSWER_S") or ANSWER_S))
    except ValueError:
        return ANSWER_S


def _too_slow() -> Exception:
    import httpx

    return httpx.ReadTimeout("its answer takes too long")


def _why(error: Exception) -> str:
    import httpx

    if isinstance(error, httpx.TimeoutException):
        return f"no answer within {_answer_s():g} seconds"
    return first_line(error)


def checked(here: str, there: str) -> str:
    """Where a redirect leads, if it may lead there."""
    parts = urlsplit(there)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        kind = f"{parts.scheme}://" if parts.scheme.isalnum() else "strange"
        raise FetchFailed(f"{shown(here)} leads to a {kind} address, which is not followed.", _COPY)
    if _is_own(parts.hostname) and not _is_own(urlsplit(here).hostname or ""):
        raise FetchFailed(f"{shown(here)} leads to this machine itself ({parts.hostname}), which is not followed.", "Do not trust that address.")
    return there


def _is_own(host: str) -> bool:
    host = host.strip("[]").rstrip(".").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified or address.is_link_local


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(scheme, 0)


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _retry_after(text: str) -> float:
    """Seconds that a server asks to wait, as a number or a date; -1 where it asks for nothing."""
    text = text.strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return -1.0
