"""One order, from its address to the whole file: look, carry on or begin, move the bytes, check, name."""

from __future__ import annotations

import dataclasses
import errno
import logging
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from reverie.errors import DiskFull, FetchFailed, StoreFailed, TokenNeeded
from reverie.host import storage
from reverie.host.fetch import checks
from reverie.host.fetch.answers import Found
from reverie.host.fetch.aria2 import Aria2
from reverie.host.fetch.outcomes import Broken, Changed, Cut, Full, Later, Refused, Stopped
from reverie.host.fetch.ranges import Ranges
from reverie.host.fetch.staging import Staging
from reverie.host.resources import Address

log = logging.getLogger(__name__)
SMALL_BYTES = 1024 * 1024  # not worth aria2's round trips
SPARE_BYTES = 16 * 1024 * 1024  # of the disk, for everything else that is written meanwhile
LONGEST_WAIT_S = 300
LONGEST_PAUSE_S = 15
WAITS_AS_TOLD = 8
TRIES = 4  # at least, however long each one took
ABANDONED = 2  # attempts of aria2 in a row without a byte, though the server gives the file


@dataclass(frozen=True)
class Order:
    """One file to fetch. `address` tells where its bytes are right now, and is asked again when that is no longer good. `name` is
    the file name that it will have (its ending says what may be in it), `title` what people are told; `size` in bytes and
    `sha256` in lower case, where known."""

    key: str
    address: Callable[[], Address]
    size: int = 0
    sha256: str = ""
    title: str = ""
    name: str = ""


@dataclass(frozen=True)
class Tools:
    """What the orders of one run share. `aria2()` starts it at its first use, and raises Broken where that fails."""

    http: Ranges
    aria2: Callable[[], Aria2]
    room: Room
    way: str
    patience_s: float
    stop: threading.Event

    def check_stop(self) -> None:
        if self.stop.is_set():
            raise Stopped


class Room:
    """The bytes that the downloads under way will still take, so that several do not count on the same free ones."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock = threading.Lock()
        self._wanted: dict[str, Callable[[], int]] = {}

    def reserve(self, key: str, name: str, wanted: Callable[[], int]) -> None:
        """`wanted` tells what is still missing of this file. Raises DiskFull."""
        with self._lock:
            self._wanted.pop(key, None)
            others = sum(left() for left in self._wanted.values())
            missing = wanted() + others + SPARE_BYTES - storage.free(self.folder)
            if missing > 0:
                raise no_room(name, missing, self.folder)
            self._wanted[key] = wanted

    def release(self, key: str) -> None:
        with self._lock:
            self._wanted.pop(key, None)


@dataclass
class Work:
    """One order under way. `done_bytes`, `size`, `state` and `note` are read by the thread that reports."""

    order: Order
    staging: Staging
    tools: Tools
    done_bytes: int = 0
    size: int = 0
    state: str = "waiting"
    note: str = ""
    _address: Address | None = field(default=None, repr=False)
    _without_aria2: bool = False
    _plain: bool = False
    _changes: int = 0
    _given_up: int = 0

    @property
    def name(self) -> str:
        return self.order.title or self.order.name or self.order.key

    def run(self) -> tuple[Path, int, str]:
        """(the whole file, its size in bytes, its sum). Raises ReverieError or Stopped."""
        try:
            if self.staging.whole.exists() and (sum_there := self._kept_sum()):
                return self.staging.whole, self.staging.whole.stat().st_size, sum_there
            return self._checked(again=True)
        finally:
            self.tools.room.release(self.order.key)

    def _kept_sum(self) -> str:
        """The sum of a file that an earlier run finished, "" (and the file goes) where it is another than expected."""
        self.state = "checking"
        self.done_bytes = self.size = self.staging.whole.stat().st_size
        found = checks.sha256(self.staging.whole, self.tools.check_stop)
        if self.order.sha256 in ("", found):
            return found
        self.staging.whole.unlink()
        return ""

    def _checked(self, again: bool) -> tuple[Path, int, str]:
        found = self._moved()
        self.state = "checking"
        self.done_bytes = self.size = size = self.staging.part.stat().st_size
        try:
            self._refuse_error_page(checks.first_bytes(self.staging.part), found.content_type)
        except FetchFailed:
            self.staging.clear()  # only here: a page that comes instead of the rest does not spoil what an earlier run brought
            raise
        total = checks.sha256(self.staging.part, self.tools.check_stop)
        if self.order.sha256 and total != self.order.sha256:
            self.staging.clear()
            if not again:
                raise FetchFailed(
                    f"{self.name} has the sum {total} instead of {self.order.sha256}, twice over.",
                    "Look whether its source offers another file now, or take it from another source.",
                )
            self._say("its sum was wrong: fetched once more from the beginning")
            return self._checked(again=False)
        self.staging.finish()
        return self.staging.whole, size, total

    def _moved(self) -> Found:
        """All bytes are there when this returns; it tries again for as long as some come at least every `patience_s`."""
        patience = _Patience(self.tools.patience_s)
        while True:
            self.tools.check_stop()
            try:
                self.state = "fetching"
                self._address = self._address or self.order.address()
                return self._attempt(patience)
            except Refused as refused:
                patience.refused(refused, self.name, self.done_bytes)
                self._address = None
            except Changed as changed:
                self._changes += 1
                self._plain = self._changes > 1  # ranges cannot be trusted here: one connection gives one file
                self._pause(patience.failed(changed, self.name, self.done_bytes), changed)
            except Cut as cut:
                self._pause(patience.failed(cut, self.name, self.done_bytes), cut)
            except Full:
                raise self._disk_full() from None

    def _attempt(self, patience: _Patience) -> Found:
        found = self.tools.http.look(self._address)
        if self._plain:
            found = dataclasses.replace(found, identity=dataclasses.replace(found.identity, ranges=False))
        self._refuse(found)
        self.size, self.done_bytes = max(found.identity.size, 0), self.staging.bytes_there()
        # What lies on the disk without being in the record is written over in its place: it needs no room again.
        lies = max(self.staging.allocated_bytes(), self.done_bytes) - self.done_bytes
        self.tools.room.reserve(self.order.key, self.name, lambda: max(self.size - self.done_bytes - lies, 0))
        pieces = self.staging.resume(found.identity)
        self.done_bytes = pieces.done_bytes
        patience.seen(self.done_bytes)
        if found.identity.size != 0 and (pieces.missing() or found.identity.size < 0):
            self._bring(found, pieces)
        return found

    def _bring(self, found: Found, pieces) -> None:
        aria2 = self.tools.aria2 if self._fits_aria2(found) else None
        if aria2 is None:
            return self.tools.http.bring(found, self.staging, pieces, self._tell)
        before = self.done_bytes
        try:
            aria2().bring(found, self.staging, pieces, self._tell)
            self._still_the_same(found)
        except Broken as broken:
            self._abandon(str(broken))
        except Changed:
            raise
        except Cut as cut:
            self._given_up = self._given_up + 1 if self.done_bytes <= before else 0
            if self._given_up < ABANDONED:
                raise
            self._abandon(str(cut))

    def _abandon(self, why: str) -> None:
        """aria2 failed for a reason of its own: its control file is ours too, so nothing that it brought is lost."""
        self.tools.check_stop()
        if self.tools.way == "aria2":
            raise FetchFailed(f"{self.name} could not be fetched by aria2: {why}.", "Try again without asking for aria2.")
        self._without_aria2 = True
        self._say(f"aiohttp carries on: {why}")
        raise Cut(why)

    def _fits_aria2(self, found: Found) -> bool:
        """It gains nothing where there is but one connection or hardly a file."""
        if not found.identity.ranges or self._without_aria2 or self.tools.way == "aiohttp":
            return False
        return self.tools.way == "aria2" or found.identity.size >= SMALL_BYTES

    def _still_the_same(self, found: Found) -> None:
        """aria2 does not look whether the file changed under its hands; a known sum does."""
        if self.order.sha256 or not found.identity.validator:
            return
        try:
            now = self.tools.http.look(Address(found.url, dict(found.headers))).identity
        except (Refused, Cut):
            return  # every byte is there, and nobody can tell
        if now != found.identity:
            self.staging.clear()
            raise Changed("the file changed at the server")

    def _disk_full(self) -> DiskFull:
        folder = self.staging.part.parent
        return no_room(self.name, max(self.size - self.done_bytes - storage.free(folder), 1), folder)

    def _refuse(self, found: Found) -> None:
        size = found.identity.size
        if size >= 0 and self.order.size and size != self.order.size:
            self._refuse_error_page(found.head, found.content_type)
            raise FetchFailed(
                f"{self.name} has {size} bytes at its source, not the {self.order.size} that were announced.",
                "Look whether the file there was replaced, and choose it again.",
            )
        self._refuse_error_page(found.head, found.content_type)

    def _refuse_error_page(self, head: bytes, content_type: str) -> None:
        page = checks.error_page(head, self.order.name, content_type)
        if page:
            raise FetchFailed(f"The source of {self.name} gave {page}.", "Open the link in a browser: it may want a login, or be gone.")

    def _tell(self, done_bytes: int) -> None:
        self.done_bytes = done_bytes

    def _say(self, note: str) -> None:
        self.note = note
        log.warning("fetch_note key=%s note=%r", self.order.key, note)

    def _pause(self, seconds: float, cut: Cut) -> None:
        log.info("fetch_cut key=%s wait_s=%.1f why=%r", self.order.key, seconds, str(cut))
        if isinstance(cut, Later) and seconds > 5:
            self._say(f"the server asks to wait {seconds:.0f} s")
        if self.tools.stop.wait(seconds):
            raise Stopped


class _Patience:
    """How long to go on trying: for as long as bytes come, and `limit_s` beyond the last one."""

    def __init__(self, limit_s: float):
        self.limit_s = limit_s
        self.most = -1
        self.seen(0)

    def seen(self, done_bytes: int) -> None:
        if done_bytes > self.most:
            self.most, self.since, self.tries, self.refusals = done_bytes, time.monotonic(), 0, 0

    def failed(self, cut: Cut, name: str, done_bytes: int) -> float:
        """The seconds to wait before the next try. Raises FetchFailed when it is enough."""
        self.seen(done_bytes)
        self.tries += 1
        told = getattr(cut, "wait_s", None)
        if told is not None and (told > LONGEST_WAIT_S or self.tries > WAITS_AS_TOLD):
            what = f"The server asks to wait {told:.0f} s before {name} can be fetched."
            raise FetchFailed(what, "Try again after that: what is there is kept.")
        if told is None and self.tries >= TRIES and time.monotonic() - self.since > self.limit_s:
            raise FetchFailed(f"{name} could not be fetched: {cut}.", "Look at the connection and try again: what is there is kept.")
        return told if told is not None else min(0.25 * 2 ** (self.tries - 1), LONGEST_PAUSE_S)

    def refused(self, refused: Refused, name: str, done_bytes: int) -> None:
        """A fresh address is asked for once; one that is refused as well means that it is not ours to have."""
        self.seen(done_bytes)
        self.refusals += 1
        if self.refusals < 2:
            return
        if refused.status in (401, 403):
            raise TokenNeeded(
                f"The source refuses {name} (status {refused.status}).",
                "It may want a login: set its token, and see on its page that you may have the file.",
            )
        raise FetchFailed(f"{name} is not there any more (status {refused.status}).", "Look whether the link opens in a browser.")


def no_room(name: str, missing_bytes: int, folder: Path) -> DiskFull:
    return DiskFull(
        f"There is no room for {name}: {size_text(missing_bytes)} are missing in {folder}.",
        "Make room and try again: what is there is kept.",
    )


def disk_refused(error: OSError, name: str) -> StoreFailed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"There is no room for {name}.", "Make room and try again: what is there is kept.")
    if error.errno == errno.EFBIG:
        what = f"The file system does not take a file as large as {name}."
        return StoreFailed(what, "Put the storage on another one (REVERIE_STORAGE).")
    return StoreFailed(f"{name} cannot be written: {error.strerror or error}.", "See that the storage folder is there and can be written.")


def size_text(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
