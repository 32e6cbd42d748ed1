"""What passes the gate in a request's and an answer's headers, and what does not. Works on headers only; no network in here."""

from __future__ import annotations

import re
from typing import Iterable
from urllib.parse import urlsplit

HOP_BY_HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding",
    "upgrade", "expect",
}
# Ours to tell: what a client says here itself is not passed on. ComfyUI answers 403 to Sec-Fetch-Site: cross-site, which every
# link from a notebook to its address is; the gate has looked at it already.
RETOLD = {"host", "origin", "cookie", "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "sec-fetch-site"}
WEBSOCKET = {"sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions", "sec-websocket-protocol", "sec-websocket-accept"}
COOKIE = "reverie_gate_"
SAFE = {"GET", "HEAD", "OPTIONS"}
_PREFIX = re.compile(r"(/[\w.~@%+-]+)+")


def upstream_request(headers, host: str, client: str, drop_authorization: bool):
    """What is asked of the WebUI at `host`: it sees a visitor of its own machine, and the true one in X-Forwarded-*."""
    from multidict import CIMultiDict

    dropped = HOP_BY_HOP | RETOLD | WEBSOCKET | _named_by_connection(headers)
    dropped |= {"authorization"} if drop_authorization else set()
    kept = CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in dropped)
    kept["Host"] = host
    if "Origin" in headers:
        kept["Origin"] = f"http://{host}"
    cookies = other_cookies(headers.getall("Cookie", []))
    if cookies:
        kept["Cookie"] = cookies
    kept["X-Forwarded-For"], kept["X-Forwarded-Proto"] = client, scheme(headers)
    kept["X-Forwarded-Host"] = public_host(headers)
    return kept


def downstream_answer(headers, host: str, prefix: str):
    """What the visitor gets of the WebUI's headers: its redirects to itself lead to the gate, and it cannot set our cookie."""
    from multidict import CIMultiDict

    dropped = HOP_BY_HOP | _named_by_connection(headers)
    kept = CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in dropped)
    if "Location" in kept:
        kept["Location"] = local_redirect(kept["Location"], host, prefix)
    cookies = kept.popall("Set-Cookie", [])
    for cookie in cookies:
        if not cookie.strip().lower().startswith(COOKIE):
            kept.add("Set-Cookie", cookie)
    return kept


def local_redirect(location: str, host: str, prefix: str) -> str:
    """A redirect of the WebUI to its own address (http://127.0.0.1:8188/x) as one of the gate's (/x). Others stay as they are."""
    parts = urlsplit(location)
    port = host.rpartition(":")[2]
    own = {host, f"localhost:{port}", f"127.0.0.1:{port}", f"0.0.0.0:{port}"}
    if parts.netloc in own or (not parts.netloc and not parts.scheme and location.startswith("/") and prefix):
        rest = parts._replace(scheme="", netloc="", path="").geturl()
        return f"{prefix}/{parts.path.lstrip('/')}{rest}"
    return location


def other_cookies(lines: Iterable[str]) -> str:
    """The cookies that are not the gate's, as one header; of gates on other ports of this machine neither."""
    pairs = (pair.strip() for line in lines for pair in line.split(";"))
    return "; ".join(pair for pair in pairs if pair and not pair.lower().startswith(COOKIE))


def own_cookies(lines: Iterable[str], name: str) -> list[str]:
    """Every value that came under `name`: a page on a neighbouring address may have put one of its own beside ours."""
    pairs = (pair.strip().partition("=") for line in lines for pair in line.split(";"))
    return [value.strip('"') for found, _, value in pairs if found == name]


def client_address(headers, peer: str | None) -> str:
    """Who asks: of X-Forwarded-For the last entry, which the tunnel itself wrote (those before it came from the client). Only
    a tunnel on this machine is believed."""
    told = ",".join(headers.getall("X-Forwarded-For", [])).rpartition(",")[2].strip()
    return told if told and peer in ("127.0.0.1", "::1") else peer or "unknown"


def scheme(headers) -> str:
    said = headers.get("X-Forwarded-Proto", "http").rpartition(",")[2].strip().lower()
    return said if said in ("http", "https") else "http"


def public_host(headers) -> str:
    """The host as the visitor's browser sees it."""
    return headers.get("X-Forwarded-Host", "").rpartition(",")[2].strip() or headers.get("Host", "")


def prefix_of(headers) -> str:
    """The path under which a notebook server passes us on (/user/me/proxy/8190), "" without one."""
    said = headers.get("X-Forwarded-Prefix") or headers.get("X-Forwarded-Context") or headers.get("X-ProxyContextPath") or ""
    said = said.rstrip("/")
    return said if _PREFIX.fullmatch(said) and ".." not in said else ""


def from_elsewhere(method: str, headers, known_hosts: Iterable[str]) -> bool:
    """Whether another site's page makes this browser ask (CSRF): only what changes something is looked at, and WebSockets, which
    no browser holds back. Programs without a browser send neither header."""
    if method in SAFE and headers.get("Upgrade", "").lower() != "websocket":
        return False
    site = headers.get("Sec-Fetch-Site", "")
    if site in ("same-origin", "none"):
        return False
    if "Origin" in headers:
        own = {host.lower() for host in (public_host(headers), headers.get("Host", ""), *known_hosts) if host}
        return urlsplit(headers["Origin"]).netloc.lower() not in own
    return bool(site)


def is_browser(headers) -> bool:
    """Whether a person is looking at this: it gets a page, a program gets a plain answer."""
    return headers.get("Sec-Fetch-Mode", "navigate") == "navigate" and "text/html" in headers.get("Accept", "")


def _named_by_connection(headers) -> set[str]:
    return {name.strip().lower() for line in headers.getall("Connection", []) for name in line.split(",") if name.strip()}
