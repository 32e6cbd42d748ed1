"""Which device, which number formats, how much memory is free. Measured, not guessed from names."""

from __future__ import annotations

import ctypes
import dataclasses
import importlib.util
import mmap
import os
import re
import shutil
import subprocess
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

    def of(self, flow: bool) -> Device:
        """The formats for models trained by flow matching: they want one for all but the VAE, and float16 is too narrow for them;
        it stays where the device has no bf16 (the VAE is in float32 then)."""
        if not flow or self.kind == "cpu":
            return dataclasses.replace(self, text=self.unet) if flow else self
        import torch

        one = torch.bfloat16 if self.unet == torch.float16 and self.vae != torch.float32 else self.unet
        return dataclasses.replace(self, unet=one, text=one)

    @property
    def label(self) -> str:
        return f"{self.name} {str(self.unet).removeprefix('torch.')}"


def choose(wanted: str = "auto", dtype: str = "auto") -> Device:
    """The device called `wanted` (auto: cuda, then mps, then cpu) with formats that are fast and safe there."""
    import torch

    name = _available(wanted)
    kind = name.split(":")[0]
    if kind == "cuda":
        torch.cuda.set_device(name)  # else what asks for "the card" would use some of the first one's memory
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


def cuda_cards() -> int:
    """How many NVIDIA cards torch will see, asked of the driver's tool, so that torch is not loaded."""
    tool = shutil.which("nvidia-smi")
    if not tool or not _built_for_cuda():
        return 0
    try:
        query = [tool, "--query-gpu=uuid", "--format=csv,noheader"]
        lines = subprocess.run(query, capture_output=True, text=True, timeout=10).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return len(visible([line for line in lines if line.startswith("GPU-")], os.environ.get("CUDA_VISIBLE_DEVICES")))


def visible(cards: list[str], wanted: str | None) -> list[str]:
    """Those of the cards (their UUIDs) that CUDA_VISIBLE_DEVICES lets through, None: all. As CUDA itself reads it: numbers or
    beginnings of UUIDs, up to the first that is no card; of a card's MIG parts only one is seen."""
    if wanted is None:
        return cards
    found: list[str] = []
    for name in map(str.strip, wanted.split(",")):
        if name.startswith("MIG-"):
            return found or [name]
        number = int(name) if name.isdigit() else len(cards)
        card = cards[number] if number < len(cards) else next((one for one in cards if name and one.startswith(name)), None)
        if card is None or card in found:
            break
        found.append(card)
    return found


def _built_for_cuda() -> bool:
    """Whether the installed torch can use NVIDIA cards at all, read from its files."""
    spec = importlib.util.find_spec("torch")
    try:
        text = Path(spec.origin).with_name("version.py").read_text("utf-8")
    except (AttributeError, TypeError, OSError):
        return False
    return bool(re.search(r"^cuda\b[^=]*=\s*['\"]", text, re.MULTILINE))


def total_bytes(device: Device) -> int:
    """The device's memory; main memory for what has none of its own."""
    if device.kind == "cuda":
        import torch

        return torch.cuda.get_device_properties(device.name).total_memory
    import psutil

    return psutil.virtual_memory().total


def free_bytes(device: Device) -> int:
    """Memory that can be taken now; on a processor also within the container's limit."""
    if device.kind == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device.name)
        return free + torch.cuda.memory_reserved(device.name) - torch.cuda.memory_allocated(device.name)
    return free_main_bytes()


def free_main_bytes() -> int:
    """Main memory that can be taken now, also within the container's limit."""
    import psutil

    return int(min(psutil.virtual_memory().available, container_room()))


def container_room() -> float:
    """Bytes left under a cgroup limit (v2, then v1); infinite without one. Files that were only read do not count as used."""
    for home, limit, used, files in (
        ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            left = int(Path(home, limit).read_text()) - int(Path(home, used).read_text())
            counts = dict(line.split() for line in Path(home, "memory.stat").read_text().splitlines())
            return max(0, left + int(counts.get(files, 0)))
        except (OSError, ValueError):
            continue
    return float("inf")


def trim() -> None:
    """Give the memory back that the allocator keeps of what was freed. (glibc; others do so themselves or not at all.)"""
    if sys.platform == "linux":
        getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)


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
