"""Bytes over HTTP by aiohttp: a look at what an address gives, and the file in up to 16 ranges at once.

The event loop runs in a thread of its own, so this works inside a notebook too, where one runs already.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, Coroutine

from reverie.host.fetch import answers
from reverie.host.fetch.answers import Found
from reverie.host.fetch.outcomes import Changed, Cut, Full, Later, Stopped
from reverie.host.fetch.pieces import BLOCK, PIECE, Pieces
from reverie.host.fetch.staging import Staging
from reverie.host.resources import Address

log = logging.getLogger(__name__)
CONNECTIONS = 16
SPLIT_BYTES = 512 * 1024  # what is left of a range is not divided below this
SAVE_EVERY_S = 0.25
CONNECT_S, SILENCE_S = 15, 30
TRIES = 4  # of one connection, without a byte, before it gives up


class Ranges:
    """An HTTP client and its thread. `stop` ends whatever is under way."""

    def __init__(self, stop: threading.Event):
        self._stop = stop
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fetch-http", daemon=True)
        self._thread.start()
        self._session = asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()

    def look(self, address: Address) -> Found:
        """What is at this address, from its first bytes. Raises Refused, Later, Cut, Changed."""
        return self._run(answers.look(self._session, address))

    def bring(self, found: Found, staging: Staging, pieces: Pieces, on_bytes: Callable[[int], None]) -> None:
        """All missing pieces into `staging.part`; the control file follows four times a second. Raises Refused, Cut, Full."""
        self._run(_Transfer(self._session, found, staging, pieces, on_bytes).run())

    def close(self) -> None:
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(timeout=2)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=2)
        if not self._thread.is_alive():
            self._loop.close()

    async def _open(self):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        # Ranges are pieces of the file as it is: nothing may be unpacked on the way.
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=timeout,
            auto_decompress=False,
            trust_env=True,
            read_bufsize=512 * 1024,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity", "User-Agent": answers.USER_AGENT},
        )

    async def _end(self) -> None:
        await self._session.close()
        await self._loop.shutdown_default_executor()  # it looks names up

    def _run(self, work: Coroutine) -> Any:
        ended = threading.Event()
        future = asyncio.run_coroutine_threadsafe(_announced(work, ended), self._loop)
        while True:
            try:
                return future.result(timeout=0.1)
            except (TimeoutError, asyncio.TimeoutError):
                if future.done():
                    raise Cut("no answer in time") from None
            if self._stop.is_set():
                future.cancel()
                ended.wait(timeout=1)
                raise Stopped


async def _announced(work: Coroutine, ended: threading.Event) -> Any:
    try:
        return await work
    finally:
        ended.set()


@dataclass(eq=False)
class _Span:
    """What one connection is to bring: the bytes from `at` to `end`; both on block borders, or the end of the file."""

    at: int
    end: int

    @property
    def left(self) -> int:
        return self.end - self.at


class _Transfer:
    """One file on its way. Everything here runs in the loop's thread, so nothing needs a lock."""

    def __init__(self, session, found: Found, staging: Staging, pieces: Pieces, on_bytes: Callable[[int], None]):
        self.session, self.found, self.staging, self.pieces, self.on_bytes = session, found, staging, pieces, on_bytes
        self.spans = [_Span(*gap) for gap in pieces.missing()]
        self.active: list[_Span] = []
        self.connections = 0
        self.plain = not found.identity.ranges
        self.saved_at = 0.0

    async def run(self) -> None:
        with open(self.staging.part, "r+b", buffering=0) as self.file:
            if self.plain:
                return await self._whole()
            tasks = [asyncio.create_task(self._connection()) for _ in range(CONNECTIONS)]
            self.connections = len(tasks)
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self._save()
        if self.pieces.missing():
            raise Cut("the connections ended early")

    async def _connection(self) -> None:
        """Brings one span after another until there is none to take or to share; steps back where the server wants fewer."""
        failures = 0
        try:
            while span := self._next():
                before = span.at
                try:
                    await asyncio.sleep(0)  # until all have taken their share, so that nobody asks for more than his
                    await self._fetch(span)
                    failures = 0
                except Cut as cut:
                    failures = 1 if span.at > before else failures + 1
                    if failures >= TRIES or isinstance(cut, (Later, Changed)):
                        if isinstance(cut, Changed) or self.connections == 1:
                            raise
                        return log.info("fewer_connections why=%s left=%d", cut, self.connections - 1)
                    await asyncio.sleep(0.25 * 2**failures)
                finally:
                    self._give_back(span)
        finally:
            self.connections -= 1

    def _next(self) -> _Span | None:
        """The largest span that nobody has, or the second half of the largest that somebody is at."""
        self.spans.sort(key=lambda span: span.left)
        largest = max(self.active, key=lambda span: span.left, default=None)
        if self.spans:
            span = self.spans.pop()
        elif largest and largest.left >= 2 * SPLIT_BYTES:
            span = self._second_half(largest)
        else:
            return None
        self.active.append(span)
        return span

    def _second_half(self, span: _Span) -> _Span:
        """On a border of aria2's pieces where there is one: within a piece, aria2 carries on only at its first gap."""
        middle = span.at + span.left // 2
        on_piece, on_block = middle // PIECE * PIECE, middle // BLOCK * BLOCK
        middle = on_piece if on_piece > span.at else on_block
        other = _Span(middle, span.end)
        span.end = middle
        return other

    def _give_back(self, span: _Span) -> None:
        self.active.remove(span)
        if span.left > 0:
            # What is cut in the middle of a block is fetched again from that block's beginning.
            self.spans.append(_Span(span.at // BLOCK * BLOCK, span.end))

    async def _fetch(self, span: _Span) -> None:
        headers = {**self.found.headers, "Range": f"bytes={span.at}-{span.end - 1}", **self.found.if_range}
        async with answers.cuts(), self.session.get(self.found.link, headers=headers, allow_redirects=False) as response:
            answers.check_part(response, self.found, span.at, by_sum=bool(self.staging.sha256))
            marked = span.at
            while span.left > 0 and (data := await response.content.readany()):
                data = data[: span.left]  # another connection may have taken the second half meanwhile
                self._write(span.at, data)
                span.at += len(data)
                self.pieces.mark(marked, span.at)
                marked = span.at // BLOCK * BLOCK
                self._tell()
        if span.left > 0:
            raise Cut("the connection was cut")

    async def _whole(self) -> None:
        """From a server that cannot carry on in the middle: one connection, from the beginning."""
        at = 0
        async with answers.cuts(), self.session.get(self.found.link, headers=self.found.headers, allow_redirects=False) as response:
            answers.check_whole(response, self.found)
            while data := await response.content.readany():
                self._write(at, data)
                at += len(data)
                self.on_bytes(at)
        if 0 <= self.found.identity.size != at:
            raise Cut(f"{at} bytes came instead of {self.found.identity.size}")

    def _write(self, at: int, data: bytes) -> None:
        try:
            self.file.seek(at)
            while data:
                data = data[self.file.write(data) :]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Full("the disk is full") from None
            raise

    def _tell(self) -> None:
        if time.monotonic() - self.saved_at > SAVE_EVERY_S:
            self._save()
            self.on_bytes(self.pieces.done_bytes)

    def _save(self) -> None:
        """On a full disk the map that is there stays: it claims less, which is as true."""
        with contextlib.suppress(OSError):
            self.staging.save(self.pieces)
        self.saved_at = time.monotonic()
