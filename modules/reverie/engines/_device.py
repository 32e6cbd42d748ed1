"""Which device, which number formats, how much memory is free. Measured, not guessed from names."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reverie.errors import BadInput

GAIN = 1.3  # bf16 must be that much faster than float32 before it is taken on a processor


@dataclass(frozen=True)
class Device:
    """A device and the number formats of a model's parts on it (torch dtypes)."""

    name: str
    kind: str
    unet: Any
    vae: Any
    text: Any

    @property
    def label(self) -> str:
        return f"{self.name} {str(self.unet).removeprefix('torch.')}"


def choose(wanted: str = "auto", dtype: str = "auto") -> Device:
    """The device called `wanted` (auto: cuda, then mps, then cpu) with formats that are fast and safe there."""
    import torch

    name = _available(wanted)
    kind = name.split(":")[0]
    if dtype != "auto":
        forced = getattr(torch, dtype, None)
        if not isinstance(forced, torch.dtype):
            raise BadInput(f"There is no number format '{dtype}'.", "Choose auto, float32, bfloat16 or float16.")
        return Device(name, kind, forced, forced if kind == "cpu" else torch.float32, torch.float32)
    if kind == "cuda":  # SD's decoders overflow in float16
        vae = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
        return Device(name, kind, torch.float16, vae, torch.float16)
    if kind == "mps":
        return Device(name, kind, torch.float16, torch.float32, torch.float16)
    fast = torch.bfloat16 if bf16_gain() >= GAIN else torch.float32
    return Device(name, kind, fast, fast, torch.float32)


def _available(wanted: str) -> str:
    import torch

    cuda = torch.cuda.is_available()
    mps = hasattr(torch.backends, "mps") and torch.backends.mps.is_available()
    if wanted == "auto":
        return "cuda:0" if cuda else "mps" if mps else "cpu"
    count = torch.cuda.device_count() if cuda else 0
    known = {"cpu", *(["mps"] if mps else []), *(["cuda"] if cuda else []), *(f"cuda:{i}" for i in range(count))}
    if wanted not in known:
        raise BadInput(f"There is no device '{wanted}' here.", f"Choose one of: auto, {', '.join(sorted(known))}.")
    return "cuda:0" if wanted == "cuda" else wanted


def bf16_gain() -> float:
    """How many times faster bf16 is than float32 here: one matrix product and one convolution, under 0.3 s.

    Measured as processor time of a single thread, as a busy machine must not change the answer.
    """
    import torch

    def seconds(dtype) -> float:
        square = torch.randn(384, 384).to(dtype)
        picture = torch.randn(1, 64, 32, 32).to(dtype).contiguous(memory_format=torch.channels_last)
        kernel = torch.randn(64, 64, 3, 3).to(dtype).contiguous(memory_format=torch.channels_last)
        best = float("inf")
        for _ in range(4):  # the first round also builds the kernels
            begun = time.thread_time()
            square @ square
            torch.nn.functional.conv2d(picture, kernel, padding=1)
            best = min(best, time.thread_time() - begun)
        return best

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return seconds(torch.float32) / max(seconds(torch.bfloat16), 1e-9)
    finally:
        torch.set_num_threads(threads)


def free_bytes(device: Device) -> int:
    """Memory that can be taken now; on a processor also within the container's limit."""
    if device.kind == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device.name)
        return free + torch.cuda.memory_reserved(device.name) - torch.cuda.memory_allocated(device.name)
    import psutil

    return min(psutil.virtual_memory().available, container_room())


def container_room() -> float:
    """Bytes left under a cgroup limit (v2, then v1); infinite without one."""
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            return max(0, int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):
            continue
    return float("inf")


def let_go(tensor) -> None:
    """Give back the pages of a tensor that nobody will read again. (Linux; elsewhere they go with the whole file.)

    Weights lie in a mapping of their file, which stays as long as any of them is in use: a converted copy of one
    would otherwise leave both in memory.
    """
    if sys.platform != "linux":
        return
    begin = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    size = (tensor.data_ptr() + tensor.nbytes - begin) // mmap.PAGESIZE * mmap.PAGESIZE
    if size > 0:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(size), mmap.MADV_DONTNEED)


def limit_memory(gigabytes: float) -> None:
    """Let this process's address space grow by at most that much from now on (Unix; nothing elsewhere)."""
    if not gigabytes or os.name != "posix":
        return
    import resource

    import psutil

    ceiling = psutil.Process().memory_info().vms + int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, resource.getrlimit(resource.RLIMIT_AS)[1]))
