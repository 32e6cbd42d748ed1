"""Who may pass the gate: the password, the signed sessions, and how long somebody waits who guesses. No network in here."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
import secrets
import time
import unicodedata
from dataclasses import dataclass, field
from typing import Callable

from reverie.errors import BadInput

SHORTEST, LONGEST = 8, 512  # letters of a password
SESSION_S = 3 * 24 * 3600
FREE_TRIES = 5  # wrong passwords of one client before it has to wait
LONGEST_WAIT_S = 300
ALL_TRIES, ALL_REFILL_S = 60, 10.0  # wrong passwords of all clients together; one more is given back every so many seconds
MOST_CLIENTS = 10_000  # remembered; beyond that the oldest are forgotten, and the count of all still holds
_CONSONANTS, _VOWELS = "bdfghkmnprstvz", "aeiou"


def new_password() -> str:
    """Three made-up words, easy to read out and to type on a telephone: 55 bits. At a million guesses a second half of them take
    500 years, so nobody has to be slowed down who guesses at it."""
    word = lambda: "".join(secrets.choice(_CONSONANTS) + secrets.choice(_VOWELS) for _ in range(3))
    return "-".join(word() for _ in range(3))


def usable_password(text: str) -> str:
    """`text` in one form of its letters, so that two keyboards type the same. BadInput if it is too short to guard anything."""
    plain = _one_form(text)
    if not SHORTEST <= len(plain) <= LONGEST:
        raise BadInput(f"The password has {len(plain)} letters.", f"Give one of {SHORTEST} to {LONGEST}, or none: then one is made.")
    if any(unicodedata.category(letter) == "Cc" for letter in plain):
        raise BadInput("The password has a line break or another control character in it.", "Leave it out.")
    return plain


@dataclass
class Session:
    """Signs what is put into the cookie, and tells whether a cookie is one of ours and still holds."""

    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    now: Callable[[], float] = time.time

    def new(self) -> str:
        text = f"{int(self.now()) + SESSION_S}.{secrets.token_urlsafe(12)}"
        return f"{text}.{self._sign(text)}"

    def holds(self, cookie: str) -> bool:
        text, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(self._sign(text).encode(), signature.encode("utf-8", "replace")):
            return False
        return int(text.partition(".")[0]) > self.now()

    def _sign(self, text: str) -> str:
        return hmac.new(self.key, b"session:" + text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


@dataclass
class Password:
    """The password itself. Only its digest is kept, and comparing takes as long for a near miss as for any other."""

    text: str = field(repr=False)

    def __post_init__(self):
        self._digest, self.text = _digest(self.text), ""

    def fits(self, given: str) -> bool:
        return hmac.compare_digest(self._digest, _digest(given))

    def fits_header(self, header: str) -> bool:
        """An `Authorization` header: Basic with any user name, or Bearer."""
        scheme, _, value = header.strip().partition(" ")
        if scheme.lower() == "bearer":
            return self.fits(value.strip())
        if scheme.lower() == "basic":
            try:
                pair = base64.b64decode(value.strip(), validate=True).decode("utf-8")
            except (binascii.Error, ValueError):
                return False
            return self.fits(pair.partition(":")[2])
        return False


@dataclass
class Tries:
    """How long a client has to wait before its next password is looked at. A password that comes too early is not compared at
    all, right or wrong: else waiting would cost a guesser nothing. Who has given the right one before waits for own mistakes only."""

    now: Callable[[], float] = time.monotonic
    _wrong: dict[str, tuple[int, float]] = field(default_factory=dict)  # client → wrong ones, when the next is looked at
    _known: dict[str, None] = field(default_factory=dict)  # clients that have given the right one
    _left: float = ALL_TRIES
    _at: float | None = None

    def wait_s(self, client: str) -> float:
        """Seconds until this client's next try; 0 when it may try now."""
        self._refill()
        own = self._wrong.get(_group(client), (0, 0.0))[1] - self.now()
        everybody = (1 - self._left) * ALL_REFILL_S if self._left < 1 and _group(client) not in self._known else 0.0
        return max(0.0, own, everybody)

    def failed(self, client: str) -> None:
        who = _group(client)
        number = self._wrong.pop(who, (0, 0.0))[0] + 1
        delay = 0.0 if number < FREE_TRIES else min(LONGEST_WAIT_S, 2.0 ** (number - FREE_TRIES))
        self._wrong[who] = (number, self.now() + delay)
        self._left -= 1
        while len(self._wrong) > MOST_CLIENTS:
            self._wrong.pop(next(iter(self._wrong)))

    def succeeded(self, client: str) -> None:
        who = _group(client)
        self._wrong.pop(who, None)
        self._known[who] = None
        while len(self._known) > MOST_CLIENTS:
            self._known.pop(next(iter(self._known)))

    def _refill(self) -> None:
        now = self.now()
        since = 0.0 if self._at is None else now - self._at
        self._left, self._at = min(ALL_TRIES, self._left + since / ALL_REFILL_S), now


def safe_next(text: str) -> str:
    """Where to go after the login: a path of this very server. Everything that could lead elsewhere becomes "/"."""
    ours = re.fullmatch(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*", text or "")
    return text if ours and not text.startswith("/.reverie") else "/"


def _group(client: str) -> str:
    """Whom a try counts for: an IPv4 address, or the /64 that one customer has in IPv6."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return "unknown"
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)


def _digest(text: str) -> bytes:
    return hashlib.sha256(_one_form(text[: 4 * LONGEST]).encode("utf-8", "replace")).digest()


def _one_form(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())
