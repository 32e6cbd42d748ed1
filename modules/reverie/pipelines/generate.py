"""A prompt becomes pictures."""

from __future__ import annotations

import mimetypes
import secrets
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator, Literal

from pydantic import BaseModel, ConfigDict, Field

from reverie import engines, media, models, retouch, wildcards
from reverie.errors import BadInput
from reverie.pipelines import Update
from reverie.pipelines._run import error_of, follow, model_name, plain_name, sampling, words
from reverie.studio import make_task
from reverie.types import Task, parse_size

NAME, TITLE = "generate", "Generate"


class Params(BaseModel):
    """What `reverie generate` takes. Size, steps, cfg and sampler left at their defaults come from the model."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    prompt: str = Field(
        "", description="what to draw; {red|blue} and __name__ choose, <lora:name:0.8> adds a LoRA", json_schema_extra={"widget": "textarea"},
    )
    negative: str = Field("", description="what to keep out", json_schema_extra={"widget": "text"})
    model: str = Field("pocket", description="model id, folder or .safetensors file", json_schema_extra={"choices": "models"})
    size: str = Field("", description="width x height in pixels, such as 512x512; empty: the model's own")
    steps: int = Field(0, ge=0, le=200, description="denoising steps; 0: the model's own")
    guidance: float = Field(0.0, ge=0, le=30, description="cfg, how strictly the prompt is followed; 0: the model's own")
    seed: int = Field(-1, ge=-1, le=2**32 - 1, description="-1: a new one each time", json_schema_extra={"widget": "seed"})
    count: int = Field(1, ge=1, le=1000, description="how many pictures, with seeds one after the other")
    loras: str = Field(
        "", description="LoRAs with weights, such as 'moon:0.8, ink:0.5'", json_schema_extra={"choices": "loras", "advanced": True},
    )
    vae: str = Field(
        "", description="another VAE; empty: the model's own", json_schema_extra={"choices": "vaes", "advanced": True},
    )
    refiner: str = Field(
        "", description="a model that draws the last steps (SDXL): sdxl-refiner", json_schema_extra={"choices": "refiners", "advanced": True},
    )
    refine: float = Field(0.2, gt=0, lt=1, description="the refiner's share of the steps", json_schema_extra={"advanced": True})
    sampler: str = Field("", description="empty: the model's own", json_schema_extra={"choices": "samplers", "advanced": True})
    init: str = Field("", description="start from this picture (image to image)", json_schema_extra={"widget": "path", "advanced": True})
    strength: float = Field(
        0.0, ge=0, le=1, description="how much to change of it; 0: 0.5, within a mask 0.8, around it 0.9",
        json_schema_extra={"advanced": True},
    )
    mask: str = Field(
        "", description="paint only where this picture is white (inpaint)", json_schema_extra={"widget": "path", "advanced": True},
    )
    outpaint: str = Field(
        "", description="pixels to paint on around the start picture: 'left 128, right 128', 'all 64' or '256'",
        json_schema_extra={"advanced": True},
    )
    mask_grow: int = Field(4, ge=0, le=512, description="pixels by which the mask grows", json_schema_extra={"advanced": True})
    mask_blur: int = Field(
        -1, ge=-1, le=512, description="pixels over which new fades into old; -1: as it suits the model", json_schema_extra={"advanced": True},
    )
    mask_area: Literal["auto", "whole", "masked"] = Field(
        "auto", description="what the model sees: the whole picture, or only what is masked, enlarged", json_schema_extra={"advanced": True},
    )
    engine: str = Field("diffusers", description="what generates", json_schema_extra={"choices": "engines", "advanced": True})
    out: str = Field("", description="copy the pictures here: a file name or a folder", json_schema_extra={"widget": "path", "advanced": True})


STRENGTH, INPAINT_STRENGTH, OUTPAINT_STRENGTH = 0.5, 0.8, 0.9
MAX_BATCH = 4  # pictures of one job: few enough that the first ones appear soon


def run(studio, params: Params) -> Iterator[Update]:
    """Yields plan, progress and pictures, then done. Raises the first error if nothing could be made."""
    started = time.monotonic()
    tasks = plan(studio, params)
    session = studio.session(NAME, params.prompt[:80], params.model_dump())
    yield Update("plan", text=session, data=[task.model_dump(mode="json") for task in tasks])
    if tasks[0].retouch:
        size = media.open_picture(studio.input_path(tasks[0].inputs[0])).size
        yield Update("note", text=retouch.told(tasks[0], size, params.outpaint))
    jobs = [studio.submit(task, session) for task in tasks]
    pictures: dict[int, Path] = {}
    failed: list[Update] = []
    for update in follow(studio, session, jobs, lambda job: _pictures(studio, job)):
        if update.kind == "picture":
            number = (update.data["seed"] - tasks[0].seed) % 2**32  # jobs that are drawn at once end in any order
            pictures[number] = _copy_out(update.path, params, number)
            update = replace(update, path=pictures[number])
            if len(pictures) == 1:
                yield from failed
        elif update.kind == "failed":
            failed.append(update)
            if len(jobs) == 1:
                break
            if not pictures:
                continue  # what fails them all is raised below: one error, said once
        yield update
    if failed and not pictures:
        yield from (update for update in failed if update.text != failed[0].text)
        raise error_of(studio, failed[0].data)
    yield Update("done", fraction=1.0, data={
        "session": session, "pictures": [str(path) for _, path in sorted(pictures.items())], "failed": len(failed), "storyboard": None,
        "seconds": round(time.monotonic() - started, 2),
    })


def plan(studio, params: Params) -> list[Task]:
    """The tasks of these params, seeds resolved. BadInput or ModelMissing if they cannot be made."""
    if not params.prompt.strip():
        raise BadInput("The prompt is empty.", 'Say what to draw: reverie generate "a red house at night"')
    model = models.find(params.model, studio.settings)
    start = _start(studio, params, model)
    seed = params.seed if params.seed >= 0 else secrets.randbelow(2**31)
    common = dict(engine=params.engine, vae=plain_name("vae", params.vae, studio.settings), **_refined(studio, params), **start)
    engines.check_name(params.engine)
    chosen = wildcards.has(params.prompt) or wildcards.has(params.negative)
    at_once = 1 if chosen else MAX_BATCH  # with choices, every picture has a prompt of its own
    tasks = []
    for first in range(0, params.count, at_once):
        own = (seed + first) % 2**32
        said = words(studio.settings, params.prompt, params.negative, own, params.loras, model.family)
        how = sampling(model, params, said["loras"])
        tasks.append(make_task(**common, **how, **said, seed=own, count=min(at_once, params.count - first)))
    _check_out(params)
    return tasks


def _refined(studio, params: Params) -> dict[str, Any]:
    if not params.refiner:
        return {}
    return dict(refiner=model_name(params.refiner, models.find(params.refiner, studio.settings)), refine=params.refine)


def _start(studio, params: Params, model) -> dict[str, Any]:
    """What a task begins with: kind, size, inputs, strength, and what of the start picture is painted anew."""
    if params.mask or params.outpaint:
        return _retouching(studio, params, model)
    width, height = _size(params, model)
    if not params.init:
        return dict(width=width, height=height)
    inputs = (studio.take_in(Path(params.init).expanduser()),)
    return dict(kind="img2img", width=width, height=height, inputs=inputs, denoise=params.strength or STRENGTH)


def _retouching(studio, params: Params, model) -> dict[str, Any]:
    if not params.init:
        raise BadInput(f"--{'mask' if params.mask else 'outpaint'} needs a picture to start from.", "Name it with --init.")
    if params.size:
        raise BadInput("With --mask or --outpaint a picture keeps its size, so --size has no meaning.", "Leave --size out.")
    extend = retouch.parse_outpaint(params.outpaint) if params.outpaint else (0, 0, 0, 0)
    inputs = [Path(name).expanduser() for name in (params.init, params.mask) if name]
    taken = tuple(map(studio.take_in, inputs))
    size = media.open_picture(inputs[0]).size
    white = retouch.read_mask(inputs[1], size) if params.mask else None
    native = model.width, model.height
    blur = params.mask_blur if params.mask_blur >= 0 else max(8, min(64, min(native) // (8 if params.outpaint else 64)))
    extend = retouch.rounded(size, extend)
    how, (width, height) = retouch.plan(size, white, extend, params.mask_grow, blur, native, params.mask_area)
    strength = params.strength or (OUTPAINT_STRENGTH if params.outpaint else INPAINT_STRENGTH)
    return dict(kind="inpaint", width=width, height=height, inputs=taken, denoise=strength, retouch=how)


def _size(params: Params, model) -> tuple[int, int]:
    if not params.size:
        return model.width, model.height
    try:
        return parse_size(params.size)
    except ValueError as error:
        raise BadInput(f"{error}.") from None


def _pictures(studio, job) -> Iterator[Update]:
    for asset in studio.library.of_job(job.id):
        yield Update("picture", path=studio.path(asset), data={"id": asset.id, **asset.recipe})


def _copy_out(path: Path, params: Params, number: int) -> Path:
    """The picture where `out` says (a folder, or a file name that is numbered when there are several); else where it is."""
    if not params.out:
        return path
    out = Path(params.out).expanduser()
    if _is_folder(out):
        target = out / path.name
    else:
        target = out if params.count == 1 else out.with_name(f"{out.stem}_{number + 1:03d}{out.suffix}")
    media.place(path, target)
    return target.absolute()


def _check_out(params: Params) -> None:
    """BadInput or StoreFailed if the pictures could not go where `out` says: better said before they are drawn."""
    if not params.out:
        return
    out = Path(params.out).expanduser()
    known = mimetypes.MimeTypes().guess_type(out.name)[0]  # not by the system's own list, which knows even `.1`
    if _is_folder(out) and not out.is_dir() and (known or out.is_file()):
        raise BadInput(f"'{out.name}' is not a PNG file name.", "Give --out a name ending in .png, or a folder.")
    media.folder(out if _is_folder(out) else out.parent)


def _is_folder(out: Path) -> bool:
    return out.is_dir() or out.suffix.lower() != ".png"
