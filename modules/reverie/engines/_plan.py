"""How a task fits into memory: pure arithmetic, so that a refusal costs nothing and every mode can be tested.

The figures are bytes per latent pixel (UNet) and per picture pixel (VAE), estimated with SD1.5 and SDXL shapes and
rounded up; they err towards refusing late rather than early, as running out is caught as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from reverie.errors import OutOfMemory

GIB = 1 << 30
RESERVE = 256 << 20  # for the interpreter, buffers and everybody else
TILE = 512  # pixels: the edge of a picture's parts when they are decoded one by one


@dataclass(frozen=True)
class Shape:
    """What the arithmetic needs to know of a model. `weights` in bytes as loaded; `largest` is its biggest part."""

    weights: int
    largest: int
    leaf: int = 0  # the largest single tensor
    channels: int = 320  # of the UNet's first stage, or the width of a transformer
    patch: int = 1  # latent pixels along one side that a transformer sees as one
    vae_channels: int = 128  # of the VAE's widest stage at full size
    factor: int = 8  # picture pixels per latent pixel, along one side
    item: int = 2  # bytes per number in the UNet
    vae_item: int = 4
    attends: bool = True  # attention at the first stage (SD1.5 has it, SDXL has not)


def together(one: Shape, other: Shape) -> Shape:
    """Two models that are in memory at once and work one after the other: `one`, with the weights of both."""
    most = {name: max(getattr(one, name), getattr(other, name)) for name in ("largest", "leaf", "channels")}
    return replace(one, weights=one.weights + other.weights, **most)


@dataclass(frozen=True)
class Plan:
    """The modes for one task. `batch` pictures at once; `note` says it in one line."""

    batch: int = 1
    offload: bool = False  # parts wait in main memory for their turn
    groups: bool = False  # … and so do the layers within a part
    vae_tiling: bool = False
    attention_slicing: bool = False
    needs: int = 0
    note: str = ""

    @property
    def modes(self) -> tuple:
        return self.batch, self.offload, self.groups, self.vae_tiling, self.attention_slicing


def unet_bytes(shape: Shape, width: int, height: int, sliced: bool = False) -> int:
    """Working memory of one denoising step of one picture with guidance (two rows)."""
    latents = (width // shape.factor) * (height // shape.factor) // shape.patch**2
    # About 14 tensors of the first stage's size live at the peak: the skip connections, GEGLU's eightfold width.
    per_pixel = shape.channels * shape.item * (14 if sliced or not shape.attends else 20)
    return 2 * latents * per_pixel


def vae_bytes(shape: Shape, width: int, height: int, tiled: bool = False) -> int:
    """Working memory of decoding one picture: about five tensors of the widest stage at full size."""
    pixels = min(width * height, TILE * TILE) if tiled else width * height
    return pixels * shape.vae_channels * shape.vae_item * 5 + width * height * 12 * 2


def plan(shape: Shape, *, free: int, kind: str, width: int, height: int, count: int, loaded: bool, batch: int = 0) -> Plan:
    """Modes for `count` pictures of that size with `free` bytes. OutOfMemory names the largest size that fits.

    `kind` is cpu, cuda or mps; `loaded`: the weights are already in memory and not part of `free`.
    """
    room = free - RESERVE - (0 if loaded else shape.weights)
    offload = groups = False
    least = _work(shape, width, height, tiled=True, sliced=False)
    own = free - RESERVE + (shape.weights if loaded else 0)
    if kind == "cuda" and room < least:
        offload, room = True, own - shape.largest
    if offload and shape.leaf and room < least:
        groups, room = True, own - 2 * shape.leaf  # one in use, the next one on its way
    tiled = room < _work(shape, width, height, tiled=False, sliced=False)
    sliced = tiled and room < _work(shape, width, height, tiled=True, sliced=False)
    need = _work(shape, width, height, tiled, sliced)
    if need > room:
        raise OutOfMemory(_too_large(shape, width, height, need, room, free), _remedy(shape, width, height, room))
    per_picture = unet_bytes(shape, width, height, sliced)
    fits = max(1, int((room - (need - per_picture)) // max(1, per_picture)))
    batch = min(count, fits, batch or _useful_batch(kind, width, height, shape.factor))
    modes = dict(offload=offload, groups=groups, vae_tiling=tiled, attention_slicing=sliced)
    weights = 0 if loaded else 2 * shape.leaf if groups else shape.largest if offload else shape.weights
    return Plan(batch=batch, needs=need + weights, note=_note(batch, count, free, **modes), **modes)


def _useful_batch(kind: str, width: int, height: int, factor: int) -> int:
    """On a processor more pictures at once gain nothing beyond about 4096 latent pixels and delay the first picture."""
    latents = max(1, width * height // factor**2)
    return max(1, (4096 if kind == "cpu" else 65536) // latents)


def _work(shape, width, height, tiled, sliced) -> int:
    return max(unet_bytes(shape, width, height, sliced), vae_bytes(shape, width, height, tiled))


def largest(shape: Shape, width: int, height: int, room: int) -> tuple[int, int]:
    """The largest size of the same proportions, in steps of 64 pixels, that `room` bytes can carry; (0, 0) if none."""
    for edge in range(max(width, height) // 64 * 64, 63, -64):
        scale = edge / max(width, height)
        size = max(64, round(width * scale / 64) * 64), max(64, round(height * scale / 64) * 64)
        if _work(shape, *size, tiled=True, sliced=True) <= room:
            return size
    return 0, 0


def _too_large(shape, width, height, need, room, free) -> str:
    if room <= 0:
        return f"The model needs {_gb(shape.weights + RESERVE)} and {_gb(free)} of memory are free."
    return f"{width}x{height} needs {_gb(need)} beside the model and {_gb(max(0, room))} are free."


def _remedy(shape, width, height, room) -> str:
    fitting = largest(shape, width, height, room)
    if fitting == (0, 0):
        return "Close other programs or choose a smaller model."
    return f"The largest that fits now is {fitting[0]}x{fitting[1]}; make that and upscale it."


def _note(batch: int, count: int, free: int, **modes: Any) -> str:
    named = {"offload": "offload layer by layer" if modes.get("groups") else "offload", "groups": ""}
    names = [text for name, on in modes.items() if on and (text := named.get(name, name.replace("_", " ")))]
    together = f"{batch} pictures at once" if batch > 1 else "one picture at a time" if count > 1 else ""
    saving = f"saving memory by {', '.join(names)}" if names else "no memory saving needed"
    return "; ".join(part for part in (f"{_gb(free)} free", saving, together) if part)


def _gb(count: int) -> str:
    return f"{count / GIB:.1f} GB"
