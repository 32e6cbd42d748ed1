"""How far a download is: each file and all together, for bars and for plain lines."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Callable

from reverie.host.downloads.planning import Plan, size_text

LINE_EVERY_S, LINE_EVERY_PART = 5.0, 0.1
WORDS = {"waiting": "waits", "fetching": "", "checking": "is checked", "done": "done", "failed": "failed"}


@dataclass
class Tally:
    """Takes fetch.Progress from any thread. `files`: key → the newest of each; files whose size only the server tells count from
    when it is told."""

    plan: Plan
    files: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)

    def __post_init__(self):
        self._lock = threading.Lock()
        for row in self.plan.rows:
            if row.moves:
                self.sizes[row.resource.key], self.done[row.resource.key] = row.size, row.there

    def take(self, progress) -> None:
        with self._lock:
            self.files[progress.key] = progress
            self.sizes[progress.key] = progress.size or self.sizes.get(progress.key, 0)
            self.done[progress.key] = progress.size or progress.done_bytes if progress.state in ("done", "checking") else progress.done_bytes

    @property
    def total(self) -> int:
        return sum(self.sizes.values())

    @property
    def done_bytes(self) -> int:
        return sum(self.done.values())

    @property
    def bytes_per_s(self) -> float:
        return sum(file.bytes_per_s for file in list(self.files.values()) if file.state == "fetching")

    @property
    def fraction(self) -> float:
        return min(1.0, self.done_bytes / self.total) if self.total else 0.0

    def line(self) -> str:
        """`2.1 of 6.9 GB · 31 MB/s · 2:35 left`"""
        failed = sum(file.state == "failed" for file in list(self.files.values()))
        parts = [f"{size_text(self.done_bytes)} of {size_text(self.total)}", *speed(self.bytes_per_s, self.total - self.done_bytes)]
        return " · ".join([*parts, *[f"{failed} failed"] * bool(failed)])


def of_file(progress) -> str:
    """`45 % of 6.9 GB · 31 MB/s · 2:35 left`, `is checked`, `failed: …`"""
    if progress.state == "failed":
        return f"failed: {progress.error}" if progress.error else "failed"
    if progress.state != "fetching":
        return WORDS.get(progress.state, progress.state) + (f", {size_text(progress.size)}" if progress.state == "done" else "")
    far = f"{progress.done_bytes / progress.size:.0%} of {size_text(progress.size)}" if progress.size else size_text(progress.done_bytes)
    return " · ".join([far, *speed(progress.bytes_per_s, progress.size - progress.done_bytes if progress.size else 0)])


def speed(bytes_per_s: float, left: int) -> list[str]:
    if bytes_per_s <= 0:
        return []
    return [f"{size_text(int(bytes_per_s))}/s", *[f"{clock(left / bytes_per_s)} left"] * (left > 0)]


def clock(seconds: float) -> str:
    """`0:07`, `12:40`, `3:05:00`"""
    whole = int(seconds + 0.5)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


class Lines:
    """Plain lines for logs: at most one a file each 5 s or each tenth of it, and one for every end."""

    def __init__(self, say: Callable[[str], None], now: Callable[[], float] = time.monotonic):
        self._say, self._now, self._lock = say, now, threading.Lock()
        self._told: dict[str, tuple[float, float, str]] = {}

    def take(self, progress) -> None:
        with self._lock:
            if self._is_due(progress):
                part = progress.done_bytes / progress.size if progress.size else 0.0
                self._told[progress.key] = self._now(), part, progress.state
                self._say(f"{progress.title}: {of_file(progress)}")

    def _is_due(self, progress) -> bool:
        before = self._told.get(progress.key)
        if progress.state in ("waiting", "checking"):
            return False
        if before is None or before[2] != progress.state:
            return True
        if progress.state != "fetching":
            return False
        part = progress.done_bytes / progress.size if progress.size else 0.0
        return self._now() - before[0] >= LINE_EVERY_S or part - before[1] >= LINE_EVERY_PART
