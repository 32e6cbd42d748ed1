"""Whether an address leads to our gate: only the gate can answer a ping with the right proof."""

from __future__ import annotations

import ipaddress
import secrets
import time
from typing import Callable, Iterable
from urllib.parse import urljoin, urlsplit

ONE_TRY_S, PAUSE_S = 10.0, 1.5


def leads_here(
    url: str, gate, within_s: float, headers: dict[str, str] | None = None, outside: Iterable[str] = (), stopped: Callable[[], bool] = lambda: False,
) -> tuple[bool | None, str]:
    """(True, "") when the gate answered through `url`; (False, why) when it did not; (None, why) when that cannot be told,
    since this machine reaches nothing outside (none of `outside` answers). Tries again until `within_s` have passed: a new
    name needs a while to be known, and a new tunnel to be up.
    """
    deadline, heard, said = time.monotonic() + within_s, False, "it did not answer"
    while True:
        ok, answered, said = once(url, gate, headers)
        if ok:
            return True, ""
        heard = heard or answered
        if stopped() or time.monotonic() + PAUSE_S > deadline:
            break
        time.sleep(PAUSE_S)
    if not heard and not is_here(url) and not any(_answers(place) for place in outside):
        return None, "nothing outside can be reached from this machine"
    return False, said


def once(url: str, gate, headers: dict[str, str] | None = None) -> tuple[bool, bool, str]:
    """One try: (it is our gate, something answered, what was wrong)."""
    import httpx

    nonce = secrets.token_urlsafe(18)
    try:
        with _client(url) as client:
            answer = client.get(urljoin(url, ".reverie/ping"), params={"nonce": nonce}, headers=headers or {})
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return False, False, f"it did not answer ({type(error).__name__})"
    if secrets.compare_digest(answer.text.strip().encode(), gate.proof(nonce).encode()):
        return True, True, ""
    return False, True, f"something else answered there (HTTP {answer.status_code})"


def is_here(url: str) -> bool:
    """Whether the address is one of this very machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _client(url: str):
    import httpx

    return httpx.Client(timeout=ONE_TRY_S, follow_redirects=True, max_redirects=3, trust_env=not is_here(url))


def _answers(place: str) -> bool:
    import httpx

    try:
        with _client(place) as client:
            client.get(place)
        return True
    except httpx.HTTPError:
        return False
