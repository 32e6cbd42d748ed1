"""The way in from outside: a gate in front of the WebUI, and a tunnel to the gate. The rows are in `configs/tunnels.yaml`.

    __init__.py   tries one way after another, watches the one that opened, opens it again (`open_tunnel`, `Tunnel`)
    ways.py       how one way is opened         tools.py   the programs for it
    reach.py      whether an address leads to our gate     gradio_share.py   Gradio's tunnel as a program

Nothing here takes an address or a port to make public: only a WebUI's port, and in front of it stands a gate that this starts itself.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable

from reverie.errors import BadInput, Cancelled, ReverieError, TunnelFailed
from reverie.host import platform
from reverie.host.gate import Gate
from reverie.host.tunnels import reach, ways
from reverie.settings import Settings, config

log = logging.getLogger(__name__)
LOOK_S, PING_S = 3.0, 60.0  # between two looks at the program, two pings through the address
MISSES = 3  # pings in a row without an answer, and it is opened anew
RETRY_S, LONGEST_RETRY_S = 10.0, 300.0
__all__ = ["Tunnel", "open_tunnel", "rows"]


def rows(catalogue: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The ways that there are, in the order in which they are tried."""
    return (catalogue or config("tunnels"))["tunnels"]


def open_tunnel(
    port: int, settings: Settings, order: Iterable[str] | None = None, *, password: str | None = None, allow_public: bool = False,
    on_note: Callable[[str], None] | None = None, on_address: Callable[[Tunnel], None] | None = None, title: str = "SD-Reverie",
    cancelled: Callable[[], bool] = lambda: False, where: platform.Platform | None = None, catalogue: dict[str, Any] | None = None,
) -> Tunnel:
    """A password-protected way to the WebUI on `port` of this machine, by the first of `order` (ids of rows; None: all) that works.

    Without a `password` one is made (`Tunnel.password`). Where the platform's rules forbid public web interfaces, public ways are
    left out unless `allow_public` says that its user insists. `on_note(sentence)` tells what is tried and why not; `on_address(tunnel)`
    comes, from another thread, each time the address has changed, or is gone (`tunnel.up` False). BadInput for a password or an order
    that cannot be used, TunnelFailed when nothing opens, Cancelled when `cancelled()` says so; then nothing is left running.
    """
    chosen, here = _chosen(order, catalogue), where or platform.here()
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        raise BadInput(f"'{port}' is no port.", "Give the number that the WebUI listens on, such as 8188.")
    gate = _gate(port, settings, password, title, here, any(row["way"] == "platform" for row in chosen) and (here.public_ui or allow_public))
    tunnel = Tunnel(gate, settings, chosen, here, allow_public, on_note or (lambda text: None), on_address or (lambda opened: None), cancelled)
    try:
        tunnel.open()
    except BaseException:
        tunnel.close()
        raise
    return tunnel


@dataclass
class Tunnel:
    """An open way in. `url` is its address now (a path of the notebook's own page if it begins with "/"), `kind` and `title` say
    by what; `checked` whether a request through it reached the gate; `public` whether others than its owner can reach the login;
    `refused` what did not open, with the reason. It is watched, and opened anew when it dies or its time ends."""

    gate: Gate = field(repr=False)
    settings: Settings = field(repr=False)
    rows: list[dict[str, Any]] = field(repr=False)
    where: platform.Platform = field(repr=False)
    allow_public: bool
    on_note: Callable[[str], None] = field(repr=False)
    on_address: Callable[[Tunnel], None] = field(repr=False)
    cancelled: Callable[[], bool] = field(default=lambda: False, repr=False)
    refused: list[tuple[str, str]] = field(default_factory=list)
    up: bool = False
    row: dict[str, Any] = field(default_factory=dict, repr=False)
    link: ways.Link | None = field(default=None, repr=False)
    _ends: float = field(default=float("inf"), repr=False)
    _closing: threading.Event = field(default_factory=threading.Event, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _watcher: threading.Thread | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return self.link.url if self.link else ""

    @property
    def kind(self) -> str:
        return self.row.get("id", "")

    @property
    def title(self) -> str:
        return self.row.get("title", "")

    @property
    def note(self) -> str:
        return self.row.get("note", "")

    @property
    def checked(self) -> bool:
        return bool(self.up and self.link and self.link.answers)

    @property
    def public(self) -> bool:
        return bool(self.row) and ways.is_public(self.row, self.where)

    @property
    def password(self) -> str:
        return self.gate.password

    def open(self) -> None:
        """Try the rows until one opens, then watch it. TunnelFailed if none does."""
        if not self.where.public_ui:
            self.on_note(self.where.policy or f"{self.where.name} does not allow public web interfaces.")
        self._open_first(self.rows)
        self._watcher = threading.Thread(target=self._watch, name=f"reverie-tunnel-{self.kind}", daemon=True)
        self._watcher.start()

    def close(self) -> None:
        """End the tunnel and its gate. Nothing is left running; calling it again does no harm."""
        self._closing.set()
        if self._watcher is not None and self._watcher is not threading.current_thread():
            self._watcher.join()
        with self._lock:
            self.up, link = False, self.link
            try:
                if link is not None:
                    link.close()
            finally:
                self.gate.stop()

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    # Opening

    def _open_first(self, candidates: list[dict[str, Any]]) -> None:
        self.refused = []
        for row in candidates:
            self._go_on()
            try:
                link = self._try(row)
            except TunnelFailed as error:
                self._go_on()
                why = error.what.rstrip(".")
                self.refused.append((row["id"], why))
                self.on_note(f"{row['title']}: {why}.")
                log.info("tunnel=%s refused=%s", row["id"], why)
                continue
            self._take(row, link)
            return
        reasons = "; ".join(f"{name}: {why}" for name, why in self.refused) or "nothing was to be tried"
        raise TunnelFailed(f"No way from outside could be opened ({reasons}).", "Look at the reasons, or work on this machine's own address (local).")

    def _go_on(self) -> None:
        if self._ending():
            raise Cancelled("The tunnel was closed while it was being opened.")

    def _ending(self) -> bool:
        return self._closing.is_set() or self.cancelled()

    def _try(self, row: dict[str, Any]) -> ways.Link:
        if ways.is_public(row, self.where) and not (self.where.public_ui or self.allow_public):
            raise TunnelFailed(f"{self.where.name} does not allow public web interfaces; it is opened only if you insist")
        return ways.open_way(ways.Way(row, self.gate, self.settings, self.where, self.on_note, self._ending))

    def _take(self, row: dict[str, Any], link: ways.Link) -> None:
        hours = row.get("reopen_after_h")
        with self._lock:
            before, self.link, self.row, self.up = self.link, link, row, True
            self._ends = time.monotonic() + hours * 3600 if hours else float("inf")
        self.gate.seen_as(link.url)
        if before is not None and before.process != link.process:
            before.close()
        log.info("tunnel=%s checked=%s", row["id"], link.answers)
        if not link.answers:
            why = "nothing outside can be reached from this machine" if link.checkable else "only your own browser may open it"
            self.on_note(f"{row['title']}: opened, but not checked: {why}.")

    # Watching

    def _watch(self) -> None:
        misses, pinged, wait = 0, time.monotonic(), RETRY_S
        while not self._closing.wait(LOOK_S):
            try:
                if not self.gate.alive:
                    self.gate.revive(self.settings)
                    self.gate.seen_as(self.url)
                if self.checked and time.monotonic() - pinged > PING_S:
                    pinged, answered = time.monotonic(), self._ping()
                    misses = 0 if answered else misses + 1
                why = self._why_anew(misses)
                if why:
                    misses = 0
                    self._reopen(why)
                wait = RETRY_S
            except ReverieError as error:
                self._gone(error)
                self._closing.wait(wait)
                wait = min(LONGEST_RETRY_S, wait * 2)
            except Exception:
                log.exception("tunnel=%s", self.kind)

    def _why_anew(self, misses: int) -> str:
        if not self.up:
            return "is tried again"
        if not self.link.alive:
            return "ended"
        if time.monotonic() > self._ends:
            return "is about to end"
        return "does not answer any more" if misses >= MISSES else ""

    def _ping(self) -> bool:
        """A path of the notebook's own page cannot be tried from here; what answered once is believed as long as it runs."""
        return self.url.startswith("/") or reach.once(self.url, self.gate, self.row.get("headers"))[0]

    def _reopen(self, why: str) -> None:
        self.on_note(f"{self.title} {why}: opening it again.")
        self.link.close()  # the same program is not started twice beside itself
        before = self.url
        same = [row for row in self.rows if row["id"] == self.kind]
        self._open_first(same + [row for row in self.rows if row["id"] != self.kind])
        if self.url != before:
            self.on_note(f"The address is now {self.url}")
        self.on_address(self)

    def _gone(self, error: ReverieError) -> None:
        told, self.up = self.up, False
        self.on_note(str(error))
        if told and not self._closing.is_set():
            self.on_address(self)


def check(order: Iterable[str]) -> None:
    """BadInput where one of these is no tunnel that there is."""
    _chosen(list(order) or None, None)


def _chosen(order: Iterable[str] | None, catalogue: dict[str, Any] | None) -> list[dict[str, Any]]:
    known = {row["id"]: row for row in rows(catalogue)}
    shared = {"outside": catalogue["outside"]} if catalogue and "outside" in catalogue else {}
    if order is None:
        return [shared | row for row in known.values() if not row.get("only_asked")]
    names = [order] if isinstance(order, str) else list(order)
    for name in names:
        if name not in known:
            raise BadInput(f"There is no tunnel '{name}'.", f"Known are: {', '.join(known)}.")
    if not names:
        raise BadInput("No tunnel was named.", f"Name one or more of: {', '.join(known)}.")
    return [shared | known[name] for name in dict.fromkeys(names)]


def _gate(port: int, settings: Settings, password: str | None, title: str, where: platform.Platform, by_platform: bool) -> Gate:
    """Where the platform's own address may be tried: listening where it comes in, on the one port that it leads to if that is free."""
    wished, everywhere = (where.port, where.listen == "all") if by_platform else (0, False)
    try:
        return Gate.start(port, settings, password, wished, title, everywhere)
    except BadInput:
        raise
    except ReverieError:
        if not wished:
            raise
        return Gate.start(port, settings, password, 0, title, everywhere)
