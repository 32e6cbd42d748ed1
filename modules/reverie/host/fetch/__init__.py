"""Files from addresses, whole and checked: several at once, each in many ranges, carried on where an earlier run stopped.

aria2c moves the bytes, or aiohttp where aria2c is not there or fails; both keep the same record of what is there, so each carries on
where the other stopped. A file is called `KEY.whole` only when its size and its sum are right and it is no error page.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterable

from reverie.errors import BadInput, Busy, Interrupted, ReverieError
from reverie.host.fetch.aria2 import Aria2
from reverie.host.fetch.bring import SMALL_BYTES, Order, Room, Tools, Work, disk_refused
from reverie.host.fetch.outcomes import Broken, Stopped
from reverie.host.fetch.ranges import Ranges
from reverie.host.fetch.staging import Staging

__all__ = ["Fetched", "Order", "Progress", "fetch", "resumable"]
log = logging.getLogger(__name__)
WAYS = ("auto", "aria2", "aiohttp")
REPORT_EVERY_S = 0.25
SPEED_OVER_S = 3.0
ANOTHER_RUN_S = 8  # an aria2c that a killed run left behind has ended by then
END_S = 4


@dataclass(frozen=True)
class Progress:
    """How far one order is. `size` is 0 as long as nobody tells it; `note` says what happened on the way that a person may want to know."""

    key: str
    title: str
    done_bytes: int
    size: int
    bytes_per_s: float
    state: str  # waiting | fetching | checking | done | failed
    error: str = ""
    note: str = ""


@dataclass(frozen=True)
class Fetched:
    path: Path
    size: int
    sha256: str


def fetch(
    orders: Iterable[Order],
    folder: Path,
    on_progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    way: str = "auto",
    at_once: int = 3,
    patience_s: float = 60,
) -> dict[str, Fetched | ReverieError]:
    """Each order's bytes as `folder/KEY.whole`, or what came in between; by key. One that fails does not stop the others.

    `on_progress` is called in this thread, at most four times a second for each order; `cancelled` is asked as often, and ends
    everything within a second: such orders have Interrupted, and what is there is carried on by the next run. `patience_s`: for how
    long a source may give nothing before it is given up.
    """
    if way not in WAYS:
        raise BadInput(f"'{way}' is no way to fetch.", f"Take one of {', '.join(WAYS)}.")
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(list({order.key: order for order in orders}.values()), folder, way, max(at_once, 1), patience_s)
    try:
        run.start(cancelled)
        run.follow(on_progress or (lambda progress: None), cancelled)
    finally:
        run.end()
    if run.bugs:
        raise run.bugs[0]
    return run.results


def resumable(folder: Path, key: str) -> int:
    """Bytes of this order that an earlier run left in `folder` and that need not be fetched again."""
    return Staging(folder, key).bytes_there()


class _Run:
    """One call of `fetch`: its threads, its tools, and what came of each order."""

    def __init__(self, orders: list[Order], folder: Path, way: str, at_once: int, patience_s: float):
        self.stop = threading.Event()
        self.at_once = min(at_once, len(orders))
        self.results: dict[str, Fetched | ReverieError] = {}
        self.bugs: list[BaseException] = []
        self._aria2: Aria2 | Broken | None = None
        self._starting = threading.Lock()
        self._http = Ranges(self.stop)
        self._tools = Tools(self._http, self._get_aria2, Room(folder), way, patience_s, self.stop)
        self.works = [Work(order, Staging(folder, order.key, order.sha256), self._tools, size=order.size) for order in orders]
        self.meters = {work.order.key: _Meter() for work in self.works}
        self._waiting: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def start(self, cancelled: Callable[[], bool]) -> None:
        for work in self._ours(cancelled):
            self._waiting.put(work)
        self._threads = [threading.Thread(target=self._work, name=f"fetch-{n}", daemon=True) for n in range(self.at_once)]
        if self._tools.way != "aiohttp" and any(not work.order.size or work.order.size >= SMALL_BYTES for work in self.works):
            self._threads.append(threading.Thread(target=self._warm_aria2, name="fetch-aria2", daemon=True))
        for thread in self._threads:
            thread.start()

    def follow(self, on_progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> None:
        """Until all threads have ended. It sleeps and looks: waiting for a lock would be cut in two by Ctrl-C."""
        reported_at = 0.0
        while any(thread.is_alive() for thread in self._threads):
            if time.monotonic() - reported_at >= REPORT_EVERY_S:
                reported_at = time.monotonic()
                self._report(on_progress)
                if cancelled():
                    break
            time.sleep(0.02)
        else:
            return self._report(on_progress)
        self.stop.set()
        for thread in self._threads:
            thread.join(timeout=2)
        for work in self.works:
            self.results.setdefault(work.order.key, _interrupted(work))
        self._report(on_progress)

    def end(self) -> None:
        """In a thread of its own: a second Ctrl-C does not leave anything running."""
        self.stop.set()
        closing = threading.Thread(target=self._close, name="fetch-end")
        closing.start()
        closing.join(timeout=END_S)

    def _close(self) -> None:
        with self._starting:
            if isinstance(self._aria2, Aria2):
                self._aria2.close()
        for thread in self._threads:
            thread.join(timeout=2)
        self._http.close()
        for work in self.works:
            work.staging.lock.release()

    def _ours(self, cancelled: Callable[[], bool]) -> list[Work]:
        """Those that nobody else is fetching. All are taken before aria2 starts, which holds them as well."""
        wanted, deadline = list(self.works), time.monotonic() + ANOTHER_RUN_S
        while wanted:
            wanted = [work for work in wanted if not work.staging.lock.take()]
            if not wanted or time.monotonic() > deadline or cancelled():
                break
            time.sleep(0.1)
        for work in wanted:
            next_step = "Wait for it, or stop it."
            self.results[work.order.key] = Busy(f"{work.name} is being fetched by another run.", next_step)
        return [work for work in self.works if work.order.key not in self.results]

    def _work(self) -> None:
        while not self.stop.is_set():
            try:
                work = self._waiting.get_nowait()
            except queue.Empty:
                return
            self.results[work.order.key] = self._result(work)

    def _result(self, work: Work) -> Fetched | ReverieError:
        try:
            return Fetched(*work.run())
        except ReverieError as error:
            return error
        except Stopped:
            return _interrupted(work)
        except OSError as error:
            return disk_refused(error, work.name)
        except Exception as bug:
            log.exception("fetch_bug key=%s", work.order.key)
            self.bugs.append(bug)
            return ReverieError(f"{work.name} could not be fetched: {type(bug).__name__}.")

    def _get_aria2(self) -> Aria2:
        with self._starting:
            if self._aria2 is None and not self.stop.is_set():
                held = [work.staging.lock.fd for work in self.works if work.staging.lock.fd >= 0]
                try:
                    self._aria2 = Aria2(self.stop, self.at_once, held)
                except Broken as broken:
                    self._aria2 = broken
            if isinstance(self._aria2, Aria2):
                return self._aria2
        raise self._aria2 or Stopped()

    def _warm_aria2(self) -> None:
        """It starts while the servers are asked for what they have."""
        with contextlib.suppress(Broken, Stopped):
            self._get_aria2()

    def _report(self, on_progress: Callable[[Progress], None]) -> None:
        for work in self.works:
            progress = self.meters[work.order.key].news(work, self.results.get(work.order.key))
            if progress:
                on_progress(progress)


def _interrupted(work: Work) -> Interrupted:
    return Interrupted(f"The download of {work.name} was stopped.", "Start it again to carry on: what is there is kept.")


class _Meter:
    """What was last told of an order, and how fast it has been going."""

    def __init__(self) -> None:
        self._last: Progress | None = None
        self._seen: deque[tuple[float, int]] = deque()

    def news(self, work: Work, result: Fetched | ReverieError | None) -> Progress | None:
        """None where nothing is new."""
        error = str(result) if isinstance(result, ReverieError) else ""
        state = "failed" if error else "done" if result else work.state
        told = Progress(work.order.key, work.name, work.done_bytes, work.size, self._speed(work, state), state, error, work.note)
        if told == self._last:
            return None
        self._last = told
        return told

    def _speed(self, work: Work, state: str) -> float:
        if state != "fetching":
            self._seen.clear()
            return 0.0
        now = time.monotonic()
        if self._seen and work.done_bytes < self._seen[-1][1]:
            self._seen.clear()  # begun anew
        self._seen.append((now, work.done_bytes))
        while now - self._seen[0][0] > SPEED_OVER_S:
            self._seen.popleft()
        (first_at, first), (last_at, last) = self._seen[0], self._seen[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else 0.0
