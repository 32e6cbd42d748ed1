"""One task on a loaded model: prompts to embeddings, seeds to batches, steps to progress, latents to pictures."""

from __future__ import annotations

import contextlib
import gc
import math
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterator

from reverie import media
from reverie.engines import _accelerate, _loading, _plan, _preview, _prompts, _schedulers, _speed
from reverie.errors import BadInput, Cancelled, OutOfMemory
from reverie.families import FAMILIES
from reverie.models import Model
from reverie.types import MAX_SEED, Task

KEPT_PROMPTS = 32
_MEMORY_WORDS = ("can't allocate memory", "out of memory", "not enough memory", "alloc_cpu")


@dataclass
class Loaded:
    """A model in memory: its pipelines by kind (they share their parts), its previews and the prompts it has read."""

    model: Model
    device: Any
    shape: _plan.Shape
    pipes: dict[str, Any]
    previewer: _preview.Previewer
    own_schedule: dict[str, Any]
    prompts: OrderedDict = field(default_factory=OrderedDict)
    embeddings: dict[str, dict[int, Any]] = field(default_factory=dict)  # see `_prompts.encode`
    additions: tuple | None = ()  # what `_additions.put_on` has put on; None: it failed half-way
    offloaded: bool = False
    refiner: Loaded | None = None  # draws the last steps of this model's pictures
    groups: bool = False  # each layer comes to the card for its turn; such a model is not moved as a whole
    warming: _accelerate.Warming | None = None


@dataclass(frozen=True)
class Wanted:
    """What `load` is to load: a model of that shape, with `vae` in place of its own, `tiny` for its previews and `refiner` for
    the last steps of its pictures.

    `way` is one of `_accelerate.WAYS`; OpenVINO keeps what it converts in `cache`, under the model's `fingerprint`.
    """

    model: Model
    shape: _plan.Shape
    vae: Path | None = None
    tiny: Path | None = None
    refiner: Model | None = None
    way: str = ""
    fingerprint: str = ""
    cache: Path = Path()


def load(wanted: Wanted, device, assets: Path, plan: _plan.Plan, cancelled: Callable[[], bool]) -> Loaded:
    """The model in memory, on `device` as far as `plan` says; `cancelled` is looked at within every step from then on."""
    model, way = wanted.model, wanted.way
    pipe = _loading.load(model, device, assets, wanted.vae)
    warming = _accelerate.take_over(pipe, device, wanted.fingerprint, wanted.cache, cancelled) if way == "openvino" else None
    _speed.prepare(pipe, device)
    warming = _accelerate.compile_blocks(_loading.denoiser(pipe)) if way == "compile" else warming
    if plan.groups:
        _offload_layers(pipe, device)
    elif plan.offload:
        pipe.enable_model_cpu_offload(device=device.name)
    elif device.kind != "cpu":
        pipe.to(device.name)
    _stop_between_blocks(_loading.denoiser(pipe), cancelled)
    channels = pipe.vae.config.latent_channels
    previewer = _preview.Previewer(model.family, channels, lambda z: decode(pipe, z), _preview.load_tiny(wanted.tiny, channels, device))
    parts = model, device, wanted.shape, {"txt2img": pipe}, previewer, dict(pipe.scheduler.config)
    second = load(Wanted(wanted.refiner, wanted.shape, tiny=wanted.tiny), device, assets, plan, cancelled) if wanted.refiner else None
    return Loaded(*parts, offloaded=plan.offload, groups=plan.groups, warming=warming, refiner=second)


def _offload_layers(pipe, device) -> None:
    """Every layer waits in main memory and comes to the card for its turn, the next one while the last one still works."""
    import torch

    streams = device.kind == "cuda"
    pipe.enable_group_offload(
        onload_device=torch.device(device.name), offload_type="leaf_level", use_stream=streams, low_cpu_mem_usage=streams
    )


def paint(loaded: Loaded, task: Task, inputs: list[Path], plan: _plan.Plan, emit, cancelled, remark: str = "") -> Iterator[tuple]:
    """Yield (RGB Pillow image, seed) for each picture; `emit(fraction, jpeg, note)` after each step, with `remark` in the first."""
    import torch

    pipe = _pipe(loaded, task.kind)
    for each in [pipe, *([_pipe(loaded.refiner, "img2img")] if loaded.refiner else [])]:
        _apply(each, plan)
    begin = _pictures(loaded, task, inputs)
    seeds = [(task.seed + index) % (MAX_SEED + 1) for index in range(task.count)]
    batch, halved, done = plan.batch, False, 0
    emit(0.0, b"", "; ".join(filter(None, (_first_note(loaded, pipe, task, plan), remark))))
    while done < len(seeds):
        part = seeds[done : done + batch]
        try:
            with torch.inference_mode():
                images = _batch(loaded, pipe, task, begin, part, done, emit, cancelled)
        except Exception as error:
            if not is_memory_error(error):
                raise
            release(loaded.device)
            if halved or batch == 1:
                raise OutOfMemory(
                    f"{task.width}x{task.height} ran out of memory on {loaded.device.name}.",
                    "Choose a smaller size or a smaller model, or close other programs.",
                ) from error
            batch, halved = math.ceil(batch / 2), True
            continue
        yield from zip(images, part)
        done += len(part)


def decode(pipe, latents):
    """Latents (N, C, h, w) → pixels (N, 3, H, W) in -1..1, float32."""
    import torch

    vae = pipe.vae
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    with torch.inference_mode():
        return vae.decode(latents / vae.config.scaling_factor + shift, return_dict=False)[0].float()


def is_memory_error(error: BaseException) -> bool:
    """Whether this is the device running out of memory, in one of the many words for it."""
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in _MEMORY_WORDS)


def release(device) -> None:
    """Give freed memory back."""
    gc.collect()
    if device.kind == "cuda":
        import torch

        torch.cuda.empty_cache()


# ------------------------------------------------------------------------------------------------------ one batch


def _batch(loaded: Loaded, pipe, task: Task, begin: dict, seeds: list[int], done: int, emit, cancelled) -> list:
    decoding = 1 / (task.steps + 1)  # what follows the steps counts as one more

    def tell(fraction: float, preview: bytes = b"", note: str = "") -> None:
        emit((done + len(seeds) * fraction) / task.count, preview, note)

    def after_steps(low: float, high: float):
        return lambda share, *shown: tell((low + (high - low) * share) * (1 - decoding), *shown)

    given = {name: [picture] * len(seeds) for name, picture in begin.items()}  # one for each seed's generator
    given |= _how(loaded, task)
    if loaded.refiner is None:
        latents = _denoise(loaded, pipe, task, seeds, given, after_steps(0, 1), cancelled)
    else:
        until = 1 - max(task.refine * given.get("strength", 1.0), 1.0001 / task.steps)
        noisy = _denoise(loaded, pipe, task, seeds, {**given, "denoising_end": until}, after_steps(0, until), cancelled)
        refining = _pipe(loaded.refiner, "img2img")
        given = {"image": noisy, "denoising_start": until, "num_inference_steps": task.steps, "guidance_scale": task.cfg}
        latents = _denoise(loaded.refiner, refining, task, seeds, given, after_steps(until, 1), cancelled)
    return _images(loaded, pipe, latents, lambda index: tell(1 - decoding + decoding * index / len(seeds)))


def _denoise(loaded: Loaded, pipe, task: Task, seeds: list[int], given: dict[str, Any], tell, cancelled):
    """Latents (N, C, h, w) of the pipeline's steps; `tell(share, jpeg, note)` after each."""
    import torch

    pipe.scheduler = scheduler = _scheduler(loaded, task)
    watch = _preview.Watch(scheduler)
    loaded.previewer.start()

    def after_step(pipe, step, timestep, tensors):
        if cancelled():
            raise Cancelled("Cancelled.")
        preview = loaded.previewer.jpeg(scheduler, watch.last, lambda z: _unpacked(pipe, z, task))
        tell((step + 1) / pipe.num_timesteps, preview, loaded.warming.step_note() if loaded.warming else "")
        return {}

    result = pipe(
        **{name: _times(value, len(seeds)) for name, value in _embeddings(loaded, pipe, task).items()},
        **given,
        # Drawn on the processor, so that a seed means the same noise on every device.
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        output_type="latent",
        return_dict=False,
        callback_on_step_end=after_step,
    )
    if cancelled():
        raise Cancelled("Cancelled.")
    return _unpacked(pipe, result[0], task)


def _times(value, count: int):
    """The prompt's embeddings, for each of `count` pictures."""
    return value * count if isinstance(value, list) else value.repeat(count, *[1] * (value.ndim - 1))


def _unpacked(pipe, latents, task: Task):
    """Latents as (N, C, h, w), which Flux's pipelines keep as a row of two by two patches."""
    if not hasattr(pipe, "_unpack_latents") or latents.ndim == 4:
        return latents
    return pipe._unpack_latents(latents, task.height, task.width, pipe.vae_scale_factor)


def _images(loaded: Loaded, pipe, latents, tell) -> list:
    from PIL import Image

    images = []
    for latent in latents:  # one by one: the decoder is what needs the most memory
        pixels = decode(pipe, latent[None])[0]
        loaded.previewer.learn(latent, pixels)
        array = ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
        images.append(Image.fromarray(array))
        tell(len(images))
    return images


def _how(loaded: Loaded, task: Task) -> dict[str, Any]:
    """Steps, guidance and strength: diffusers runs int(steps × strength) steps, and at least one must be left."""
    family = FAMILIES[loaded.model.family]
    # Z-Image counts guidance from 0: what others call 1 is none at all.
    how = {"num_inference_steps": task.steps, "guidance_scale": max(0.0, task.cfg - 1) if loaded.model.family == "zimage" else task.cfg}
    if task.kind == "txt2img":
        return {**how, "width": task.width, "height": task.height}
    size = {"width": task.width, "height": task.height} if task.kind == "inpaint" or family.flow else {}
    return {**how, "strength": _strength(task), **size}


def _strength(task: Task) -> float:
    """The share of the steps that is run."""
    return 1.0 if task.kind == "txt2img" else min(1.0, max(task.denoise, 1.0001 / task.steps))


def _scheduler(loaded: Loaded, task: Task):
    name = _schedulers.canonical(task.sampler or loaded.model.sampler)
    most = _schedulers.MOST_STEPS.get(name, task.steps)
    if task.steps > most:
        raise BadInput(f"The sampler '{name}' makes at most {most} steps, and {task.steps} were asked for.", "Take 4 to 8.")
    if FAMILIES[loaded.model.family].flow:
        return _schedulers.build_flow(name, loaded.own_schedule)
    if name:
        return _schedulers.build(name, loaded.own_schedule)
    import diffusers

    return getattr(diffusers, loaded.own_schedule["_class_name"]).from_config(loaded.own_schedule)


def _embeddings(loaded: Loaded, pipe, task: Task) -> dict[str, Any]:
    """The prompts as the pipeline's arguments, kept for the next picture with the same words."""
    guided = _is_guided(loaded, task)
    key = (task.prompt, task.negative if guided else None)
    if key in loaded.prompts:
        loaded.prompts.move_to_end(key)
        return loaded.prompts[key]
    found = _prompts.encode(pipe, loaded.model.family, task.prompt, task.negative, guided, loaded.embeddings)
    loaded.prompts[key] = found
    while len(loaded.prompts) > KEPT_PROMPTS:
        loaded.prompts.popitem(last=False)
    return found


def _is_guided(loaded: Loaded, task: Task) -> bool:
    """Whether each step takes a second pass, with the negative prompt."""
    return task.cfg > 1 and FAMILIES[loaded.model.family].guidance == "cfg"


# -------------------------------------------------------------------------------------------------- before the first step


def _pipe(loaded: Loaded, kind: str):
    if kind not in loaded.pipes:
        loaded.pipes[kind] = _loading.sibling(loaded.pipes["txt2img"], loaded.model.family, kind)
    return loaded.pipes[kind]


def _apply(pipe, plan: _plan.Plan) -> None:
    """Switch the saving modes of the plan on and the others off."""
    switches = [
        (pipe.vae, "tiling", plan.vae_tiling),
        (pipe, "attention_slicing", plan.attention_slicing),
    ]
    for owner, mode, on in switches:
        switch = getattr(owner, f"{'enable' if on else 'disable'}_{mode}", None)
        if switch and (on or mode != "attention_slicing"):
            with contextlib.suppress(NotImplementedError):
                switch()
    if plan.vae_tiling and hasattr(pipe.vae, "tile_latent_min_size"):  # else a tile is as large as the VAE was trained
        shrinks = pipe.vae.tile_sample_min_size / pipe.vae.tile_latent_min_size
        pipe.vae.tile_sample_min_size, pipe.vae.tile_latent_min_size = _plan.TILE, int(_plan.TILE / shrinks)


def _pictures(loaded: Loaded, task: Task, inputs: list[Path]) -> dict[str, Any]:
    """The start picture (and mask) at the task's size. BadInput if one is missing or cannot be read."""
    if loaded.model.family == "sdxl-refiner" and task.kind == "txt2img":
        raise BadInput("The SDXL refiner goes over pictures and makes none.", "Give it one with --init, or name it with --refiner.")
    if loaded.refiner and int(task.steps * _strength(task)) < 2:
        raise BadInput("A picture in one step has no last steps to refine.", "Take more steps (or more strength), or leave the refiner out.")
    wanted = {"txt2img": 0, "img2img": 1, "inpaint": 2}[task.kind]
    if len(inputs) < wanted:
        what = "a start picture" if wanted == 1 else "a start picture and a mask (white is painted anew)"
        raise BadInput(f"{task.kind} needs {what}, and {len(inputs)} came.", "Give the picture's file.")
    names = ("image", "mask_image")[:wanted]
    return {name: _open(path, task, "L" if name == "mask_image" else "RGB") for name, path in zip(names, inputs)}


def _open(path: Path, task: Task, mode: str):
    from PIL import Image, ImageOps

    picture = media.open_picture(path, ground="black" if mode == "L" else "white").convert(mode)
    size = task.width, task.height
    return picture if picture.size == size else ImageOps.fit(picture, size, Image.Resampling.LANCZOS)


def _first_note(loaded: Loaded, pipe, task: Task, plan: _plan.Plan) -> str:
    parts = [f"{loaded.model.id} on {loaded.device.label}", plan.note]
    loras = [f"{name} {weight:g}" for kind, name, _, weight in loaded.additions if kind == "lora"]
    if loras:
        parts.append(f"with {', '.join(loras)}")
    if loaded.refiner:
        parts.append(f"the last {max(task.refine, 1 / task.steps):.0%} by {loaded.refiner.model.id}")
    if loaded.warming:
        rows = min(plan.batch, task.count) * (1 + _is_guided(loaded, task))
        parts.append(loaded.warming.first_note(rows, task.height // loaded.shape.factor, task.width // loaded.shape.factor))
    tokens, read = _prompts.count(pipe, loaded.model.family, task.prompt)
    if task.negative and FAMILIES[loaded.model.family].guidance == "embedded":
        parts.append("this model reads no negative prompt")
    if loaded.model.family == "sd3" and pipe.text_encoder_3 is None:
        parts.append("without T5, so less to the letter")
    if read < tokens:
        parts.append(f"the prompt has {tokens} tokens, the model reads the first {read}")
    return "; ".join(filter(None, parts))


def _stop_between_blocks(denoiser, cancelled: Callable[[], bool]) -> None:
    """A step can take seconds on a processor: look at the flag before every block of the UNet or transformer as well."""
    import torch

    def check(*_):
        if cancelled():
            raise Cancelled("Cancelled.")

    for part in denoiser.children():
        for block in part if isinstance(part, torch.nn.ModuleList) else [part]:
            block.register_forward_pre_hook(check)
