"""What the engine's option `accelerate` does: the UNet drawn by compiled blocks or by OpenVINO, for a warm-up that is told."""

from __future__ import annotations

import functools
import importlib.util
import logging
import time
import weakref
from pathlib import Path
from typing import Any

from reverie.errors import BadInput

WAYS = ("", "compile", "openvino")
MAX_VARIANTS = 16  # compiled forms of a block (widths × one row or many); what comes beyond them is drawn uncompiled
GRID = 64  # OpenVINO takes sizes in steps of that many pixels: others make the UNet cut its skip connections
_WARM = {
    "compile": "compiling the model once, about a minute; later pictures are faster",
    "openvino": "OpenVINO prepares the model for this size once, some seconds; later pictures are faster",
}
log = logging.getLogger(__name__)


def check(way: str) -> str:
    """`way` itself; BadInput if there is no such way, or its package is not there."""
    if way not in WAYS:
        raise BadInput(f"Nothing accelerates by '{way}'.", f"Set REVERIE_ACCELERATE to one of: {', '.join(WAYS[1:])}; or to nothing.")
    if way == "openvino" and importlib.util.find_spec("openvino") is None:
        raise BadInput("OpenVINO is not installed.", "Run: pip install openvino, or set REVERIE_ACCELERATE to nothing.")
    return way


def way_for(way: str, device, task, additions: list[dict[str, Any]], flow: bool = False) -> tuple[str, str]:
    """The way that this task is drawn in, and why not in the one asked for: LoRAs change the blocks, some sizes do not fit."""
    if way and any(addition["kind"] == "lora" for addition in additions):
        return "", f"not accelerated by {way}, as LoRAs change the model"
    if way == "openvino" and flow:
        return "", "not accelerated by openvino, which draws UNets only"
    if way == "openvino" and device.kind != "cpu":
        return "", f"not accelerated by openvino, which draws on the processor and not on {device.name}"
    if way == "openvino" and (task.width % GRID or task.height % GRID):
        return "", f"not accelerated by openvino, as {task.width}x{task.height} is not in steps of {GRID} pixels"
    problem = cannot_compile(device.name) if way == "compile" else ""
    return ("", f"not compiled: {problem}") if problem else (way, "")


@functools.lru_cache(maxsize=None)
def cannot_compile(device: str) -> str:
    """Why torch.compile does not work on `device`, empty if it does. It needs a C++ compiler, on a card also triton."""
    import torch

    try:
        with torch.inference_mode():
            given = torch.ones(64, device=device)
            right = torch.allclose(torch.compile(lambda x: x.sin() + x, dynamic=True)(given).cpu(), (given.sin() + given).cpu(), atol=1e-4)
        return "" if right else "torch.compile computes something else here"
    except Exception as error:  # dynamo, inductor and triton each have a tree of their own
        log.warning("torch.compile does not work on %s: %s", device, error)
        remedy = "install g++" if device == "cpu" else "install triton and a C++ compiler"
        return f"torch.compile does not work on {device}; {remedy}, the log has more"


def loading_note(way: str, fingerprint: str, device, cache: Path) -> str:
    """What is said while the model is loaded, when it has to be converted first."""
    from reverie.engines import _openvino

    new = way == "openvino" and not (_openvino.home(fingerprint, device.unet, cache) / "unet.xml").is_file()
    return "; converting it for OpenVINO once, a minute or two" if new else ""


class Warming:
    """Tells of the first step of its kind, which prepares what later steps use: before it, and after it how long it took."""

    _compiled: weakref.WeakSet[Warming] = weakref.WeakSet()

    def __init__(self, unet, way: str):
        self._way = way
        self._known: set[Any] = set()
        if way == "compile":
            self._compiled.add(self)
        self._begun = 0.0
        self._took: float | None = None
        unet.register_forward_pre_hook(self._before)
        unet.register_forward_hook(self._after, with_kwargs=True)

    @classmethod
    def forget_compiled(cls) -> None:
        """What was compiled is gone: all models that are drawn so warm up again."""
        for warming in cls._compiled:
            warming._known.clear()

    def first_note(self, rows: int, height: int, width: int) -> str:
        """For a step on `rows` latents of that size. Compiled blocks take any size, but one row is a case of its own."""
        return "" if self._kind(rows, height, width) in self._known else _WARM[self._way]

    def step_note(self) -> str:
        """Once after a first step: how long it took."""
        took, self._took = self._took, None
        return "" if took is None else f"prepared: the first step took {took:.1f} s"

    def _kind(self, rows: int, height: int, width: int):
        return rows == 1 if self._way == "compile" else (rows, height, width)

    def _before(self, unet, given) -> None:
        self._begun = time.monotonic()

    def _after(self, unet, given, named, result) -> None:
        sample = given[0] if given else named["hidden_states"]
        kind = self._kind(len(sample), *sample[0].shape[-2:])
        if kind not in self._known:
            self._known.add(kind)
            self._took = time.monotonic() - self._begun


def compile_blocks(unet) -> Warming:
    """Compile the repeated blocks only, for any size; the hooks between the larger blocks and packed convolutions stay."""
    import torch

    torch.compiler.reset()  # the forms of other models would count
    Warming.forget_compiled()
    torch._dynamo.config.recompile_limit = MAX_VARIANTS
    torch._dynamo.config.suppress_errors = True  # a block that cannot be compiled is drawn as it is
    unet.compile_repeated_blocks(dynamic=True)
    return Warming(unet, "compile")


def take_over(pipe, device, fingerprint: str, cache: Path, cancelled) -> Warming:
    """Let OpenVINO draw in place of the pipeline's UNet, whose weights are let go. The UNet must not be prepared yet."""
    from reverie.engines import _openvino

    pipe.unet = _openvino.shell(pipe.unet, device.unet, fingerprint, cache, cancelled)
    return Warming(pipe.unet, "openvino")
