"""The models a worker keeps: the one in use, and others as far as there is room. The least recently used goes first.

On a processor all of them simply are in memory. Of a card's models only the one in use lies on the card; the others wait in
main memory, from where they come back much faster than from the disk.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Callable

from reverie.engines import _device, _plan
from reverie.errors import OutOfMemory

log = logging.getLogger("reverie.worker")
SHARE = 0.5  # of the main memory that is left, for models that are not in use


class Memory:
    """What the cache asks of a device and does there. Bytes."""

    def __init__(self, device: _device.Device):
        self.device = device
        self.has_own = device.kind == "cuda"  # memory of its own, beside the main memory

    def free(self) -> int:
        return _device.free_bytes(self.device)

    def main(self) -> int:
        return _device.free_main_bytes()

    def release(self) -> None:
        from reverie.engines import _painting

        _painting.release(self.device)
        _device.trim()

    def move(self, loaded, where: str) -> None:
        """All parts of a model: to the `device`, into `main` memory, or there but onto the device in turn (`offload`)."""
        if loaded.refiner:
            self.move(loaded.refiner, where)
        if loaded.groups:
            return
        pipe = loaded.pipes["txt2img"]
        if where == "main" and loaded.offloaded:
            pipe.maybe_free_model_hooks()
        elif where == "main":
            pipe.to("cpu", silence_dtype_warnings=True)
        elif where == "offload":
            pipe.enable_model_cpu_offload(device=self.device.name)
            loaded.offloaded = True
        else:
            pipe.remove_all_hooks()
            pipe.to(self.device.name)
            loaded.offloaded = False
        self.release()


@dataclass
class Held:
    """A model in memory. Bytes: `weights` without, `added` of the LoRAs and embeddings on it."""

    loaded: Any
    name: str
    weights: int
    added: int = 0
    parked: bool = False  # in main memory, while it could be on the device

    @property
    def bytes(self) -> int:
        return self.weights + self.added

    @property
    def on_device(self) -> bool:
        return not self.parked and not self.loaded.offloaded


class Cache:
    """`limit` bytes for the models that are not in use (None: half of what is left, shared by `workers`); `budget` bytes for
    all that lies on the device (0: no such limit)."""

    def __init__(self, memory: Memory, limit: int | None = None, budget: int = 0, workers: int = 1):
        self._memory, self._limit, self._budget, self._share = memory, limit, budget, SHARE / workers
        self._held: OrderedDict[str, Held] = OrderedDict()

    def names(self) -> dict[str, str]:
        """Key → id of the models that are held, the last used last."""
        return {key: held.name for key, held in self._held.items()}

    def get(self, key: str) -> Held | None:
        return self._held.get(key)

    def put(self, key: str, held: Held) -> Held:
        """Keep a model that was just loaded; it is the one in use now."""
        self._held[key] = held
        return held

    def bring(self, key: str, offload: bool) -> Held:
        """The model that is in use now, where its task needs it."""
        held = self._held[key]
        self._held.move_to_end(key)
        if self._memory.has_own and (held.parked or held.loaded.offloaded != offload):
            if not (held.loaded.offloaded and offload):
                self._move(key, "offload" if offload else "device")
            held.parked = False
        return held

    def make_room(self, key: str, weights: int, plan: Callable[[int, bool], _plan.Plan]) -> tuple[_plan.Plan, list[str]]:
        """The plan of a task on the model `key` of `weights` bytes, as good as if no other model were kept, and the names of
        those that had to go for it. `plan(free, loaded)` is asked again after each; its OutOfMemory comes out when it has no
        way at all."""
        gone: list[str] = []
        if self._memory.has_own:
            self._park_others(key, gone)
            found = plan(self._free(), self._is_on_device(key))
            comes = weights if key not in self._held or found.offload and self._is_on_device(key) else 0
            while (other := self._oldest_but(key)) and not self._fits(key, comes):
                gone.append(self.drop(other))
            return found, gone
        loaded, others = key in self._held, self._bytes_beside(key)
        best = _attempt(plan, self._free() + others, loaded)
        comes = 0 if loaded else weights
        while other := self._oldest_but(key):
            found = _attempt(plan, self._free(), loaded)
            if found and best and found.modes == best.modes and self._fits(key, comes):
                return found, gone
            gone.append(self.drop(other))
        return plan(self._free(), loaded), gone

    def drop(self, key: str) -> str:
        """Let a model go; its name."""
        name = self._held.pop(key).name
        self._memory.release()
        return name

    def drop_others(self, key: str) -> list[str]:
        """Let all go but this one; their names."""
        return [self.drop(other) for other in list(self._held) if other != key]

    def _oldest_but(self, key: str) -> str | None:
        return next((other for other in self._held if other != key), None)

    def _is_on_device(self, key: str) -> bool:
        return key in self._held and self._held[key].on_device

    def _bytes_beside(self, key: str) -> int:
        return sum(held.bytes for other, held in self._held.items() if other != key)

    def _free(self) -> int:
        """On the device."""
        free = self._memory.free()
        if not self._budget:
            return free
        return min(free, self._budget - sum(held.bytes for held in self._held.values() if held.on_device))

    def _fits(self, key: str, comes: int) -> bool:
        """Whether the models beside this one may stay: they keep to their limit, and leave room for what comes into main memory,
        be it on its way to a card."""
        others, main = self._bytes_beside(key), self._memory.main()
        left = main if self._memory.has_own else main - comes
        limit = self._share * (left + others) if self._limit is None else self._limit
        return others <= limit and main - comes >= _plan.RESERVE

    def _park_others(self, key: str, gone: list[str]) -> None:
        """Whatever else lies on the device goes into main memory, or goes altogether."""
        for other in [one for one, held in self._held.items() if one != key and not held.parked]:
            while not self._can_park(key, other):
                older = next((one for one, held in self._held.items() if one != key and held.parked), other)
                gone.append(self.drop(older))
                if older == other:
                    break
            else:
                self._park(other, gone)

    def _can_park(self, key: str, other: str) -> bool:
        held = self._held[other]
        parked = sum(kept.bytes for one, kept in self._held.items() if kept.parked and one != key)
        left = self._memory.main() + (held.bytes if held.loaded.offloaded else 0)
        limit = self._share * (left + parked) if self._limit is None else self._limit
        return parked + held.bytes <= limit and left - held.bytes >= _plan.RESERVE

    def _park(self, other: str, gone: list[str]) -> None:
        name = self._held[other].name
        try:
            self._move(other, "main")
            self._held[other].parked = True
        except Exception as error:
            log.warning("model=%s cannot be kept: %s", name, error)
            self._memory.release()
            gone.append(name)

    def _move(self, key: str, where: str) -> None:
        try:
            self._memory.move(self._held[key].loaded, where)
        except BaseException:  # some of its parts are here and some there
            self._held.pop(key, None)
            raise


def _attempt(plan, free: int, loaded: bool) -> _plan.Plan | None:
    try:
        return plan(free, loaded)
    except OutOfMemory:
        return None
