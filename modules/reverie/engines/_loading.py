"""A model's files → diffusers pipelines that share their parts. Nothing is ever fetched from here."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from reverie import models
from reverie.engines import _device, _plan
from reverie.errors import BadInput, EngineFailed, ModelMissing
from reverie.language import tokens
from reverie.models import Model

# (family is SDXL, kind of task) → pipeline class
PIPELINES = {
    (False, "txt2img"): "StableDiffusionPipeline",
    (False, "img2img"): "StableDiffusionImg2ImgPipeline",
    (False, "inpaint"): "StableDiffusionInpaintPipeline",
    (True, "txt2img"): "StableDiffusionXLPipeline",
    (True, "img2img"): "StableDiffusionXLImg2ImgPipeline",
    (True, "inpaint"): "StableDiffusionXLInpaintPipeline",
}
KINDS = ("txt2img", "img2img", "inpaint")
_LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")


def load(model: Model, device: _device.Device, assets: Path, vae: Path | None = None):
    """The text-to-image pipeline of `model` in main memory, its parts in the device's number formats.

    `vae` is a file or a folder that takes the place of the model's own.
    """
    from diffusers.utils import logging
    from transformers.utils import logging as text_logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    text_logging.set_verbosity_error()
    try:
        given = {"vae": _vae(vae, model, device, assets)} if vae else {}
        pipe = (_from_folder if model.layout == "folder" else _from_file)(model, device, assets, given)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        if "can't allocate" in str(error):
            raise
        raise EngineFailed(
            f"Model '{model.id}' cannot be loaded: {_first_line(error)}.", f"Fetch it again, or look at {model.path}."
        ) from error
    for name, part in pipe.components.items():
        if hasattr(part, "parameters") and any(weight.is_meta for weight in part.parameters()):
            raise EngineFailed(f"Model '{model.id}' lacks weights of its {name}.", f"Fetch it again: {model.path}")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sibling(pipe, kind: str):
    """A pipeline of another kind with the same parts. (`from_pipe` would turn them into float32.)"""
    import inspect

    import diffusers

    cls = getattr(diffusers, PIPELINES["XL" in type(pipe).__name__, kind])
    if type(pipe) is cls:
        return pipe
    takes = inspect.signature(cls.__init__).parameters
    options = {"requires_safety_checker": False} if "requires_safety_checker" in takes else {}
    other = cls(**{name: part for name, part in pipe.components.items() if name in takes}, **options)
    other.set_progress_bar_config(disable=True)
    return other


def _pipeline_class(model: Model):
    import diffusers

    return getattr(diffusers, PIPELINES[model.family == "sdxl", "txt2img"])


def _options(cls) -> dict[str, Any]:
    """What a pipeline class is told to leave out: the parts that only judge or decorate."""
    import inspect

    takes = inspect.signature(cls.__init__).parameters
    options = {name: None for name in _LEFT_OUT if name in takes}
    return {**options, "requires_safety_checker": False} if "requires_safety_checker" in takes else options


def _from_folder(model: Model, device, assets: Path, given: dict[str, Any]):
    cls = _pipeline_class(model)
    dtypes = {"default": device.unet, "vae": device.vae, "text_encoder": device.text, "text_encoder_2": device.text}
    plain = list((model.path / "unet").glob("*.safetensors"))
    halves = bool(plain) and all(".fp16." in file.name for file in plain)
    return cls.from_pretrained(
        model.path,
        torch_dtype=dtypes,
        local_files_only=True,
        use_safetensors=True,
        variant="fp16" if halves else None,
        **given,
        **_options(cls),
    )


def _from_file(model: Model, device, assets: Path, given: dict[str, Any]):
    """A checkpoint in the original layout: its configuration and tokenizer lie in `assets/configs`."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    cls = _pipeline_class(model)
    config = assets / "configs" / model.family
    if not (config / "model_index.json").is_file():
        raise BadInput(
            f"Single files of family {model.family} cannot be loaded here.",
            f"Put the model's diffusers folder into storage/models/diffusers instead of {model.path.name}.",
        )
    common = dict(config=str(config), local_files_only=True)
    path = str(model.path)
    parts = {
        "unet": UNet2DConditionModel.from_single_file(path, subfolder="unet", torch_dtype=device.unet, **common),
        "tokenizer": clip_tokenizer(assets),
        **given,
    }
    if "vae" not in parts:
        parts["vae"] = AutoencoderKL.from_single_file(path, subfolder="vae", torch_dtype=device.vae, **common)
    if model.family == "sdxl":
        parts["tokenizer_2"] = clip_tokenizer(assets, pad="!")
    return cls.from_single_file(path, torch_dtype=device.text, **common, **parts, **_options(cls))


def _vae(path: Path, model: Model, device, assets: Path):
    """A VAE of its own: a folder says what it is, a file has the shape of the model's."""
    import diffusers

    common = dict(torch_dtype=device.vae, local_files_only=True)
    if path.is_dir():
        cls = getattr(diffusers, models.config_in(path)["_class_name"])
        return cls.from_pretrained(path, use_safetensors=True, **common)
    home = model.path if model.layout == "folder" else assets / "configs" / model.family
    return diffusers.AutoencoderKL.from_single_file(str(path), config=str(home), subfolder="vae", **common)


def clip_tokenizer(assets: Path, pad: str = "<|endoftext|>"):
    """OpenAI's CLIP tokenizer, made of its merges."""
    from transformers import CLIPTokenizer

    path = assets / "configs" / "clip" / "merges.txt"
    try:
        vocab, merges = tokens.clip_vocabulary(path)
    except FileNotFoundError:
        raise ModelMissing(f"{path} is missing, so no prompt can be read.", "Restore the project's assets.") from None
    return CLIPTokenizer(vocab=vocab, merges=merges, pad_token=pad, model_max_length=77)


def shape_of(model: Model, device: _device.Device, assets: Path) -> _plan.Shape:
    """What the memory plan needs, read from configuration files and tensor headers; nothing is loaded."""
    home = model.path if model.layout == "folder" else assets / "configs" / model.family
    unet, vae = _config(home / "unet"), _config(home / "vae")
    counts = _elements(model)
    items = {"unet": device.unet.itemsize, "vae": device.vae.itemsize}
    sizes = {part: count * items.get(part, device.text.itemsize) for part, count in counts.items()}
    return _plan.Shape(
        weights=sum(sizes.values()),
        largest=max(sizes.values(), default=0),
        channels=unet.get("block_out_channels", [320])[0],
        vae_channels=_vae_width(vae),
        factor=_vae_factor(vae),
        item=device.unet.itemsize,
        vae_item=device.vae.itemsize,
        attends="Attn" in unet.get("down_block_types", ["CrossAttn"])[0],
    )


def _vae_width(vae: dict[str, Any]) -> int:
    widths = vae.get("decoder_block_out_channels") or vae.get("block_out_channels") or [128, 256]
    return widths[1] if len(widths) > 1 and vae.get("_class_name") != "AutoencoderTiny" else widths[0]


def _vae_factor(vae: dict[str, Any]) -> int:
    widths = vae.get("encoder_block_out_channels") or vae.get("block_out_channels") or [1] * 4
    return 2 ** (len(widths) - 1)


def _elements(model: Model) -> dict[str, int]:
    """Numbers in each part of the model, from the files' headers."""
    counts: dict[str, int] = {}
    files = [model.path] if model.layout == "file" else sorted(model.path.glob("*/*.safetensors"))
    for file in files:
        if file.parent.name in _LEFT_OUT:
            continue
        for name, entry in models.header(file).items():
            if name != "__metadata__":
                part = file.parent.name if model.layout == "folder" else _part(name)
                counts[part] = counts.get(part, 0) + math.prod(entry["shape"])
    return counts


def _part(tensor: str) -> str:
    heads = {"model.diffusion_model.": "unet", "first_stage_model.": "vae", "model_ema.": "unet"}
    return next((part for head, part in heads.items() if tensor.startswith(head)), "text_encoder")


def _config(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise EngineFailed(f"{folder / 'config.json'} cannot be read: {error}.", "Fetch the model again.") from None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")[:300]
