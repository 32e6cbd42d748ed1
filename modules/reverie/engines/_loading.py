"""A model's files → diffusers pipelines that share their parts. Nothing is ever fetched from here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from reverie import checkpoints, models
from reverie.engines import _device, _plan, _tokenizers
from reverie.errors import BadInput, EngineFailed, first_line
from reverie.families import FAMILIES, KINDS
from reverie.models import Model

_LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")
_SCALES = (".scale_weight", ".weight_scale")  # of weights kept in 8 bits: the weight is their product


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
        pipe = _from(model)(model, device, assets, given)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        if "can't allocate" in str(error):
            raise
        raise EngineFailed(
            f"Model '{model.id}' cannot be loaded: {first_line(error)}.", f"Fetch it again, or look at {model.path}."
        ) from error
    for name, part in pipe.components.items():
        if part is not None and hasattr(part, "parameters") and any(weight.is_meta for weight in part.parameters()):
            raise EngineFailed(f"Model '{model.id}' lacks weights of its {name}.", f"Fetch it again: {model.path}")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def denoiser(pipe):
    """The part of a pipeline that works in every step."""
    return pipe.unet if getattr(pipe, "unet", None) is not None else pipe.transformer


def sibling(pipe, family: str, kind: str):
    """A pipeline of another kind with the same parts. (`from_pipe` would turn them into float32.)"""
    import inspect

    cls = _pipeline_class(family, kind)
    if type(pipe) is cls:
        return pipe
    takes = inspect.signature(cls.__init__).parameters
    own = {name: pipe.config[name] for name in ("requires_aesthetics_score", "force_zeros_for_empty_prompt") if name in takes and name in pipe.config}
    options = {"requires_safety_checker": False} if "requires_safety_checker" in takes else {}
    other = cls(**{name: part for name, part in pipe.components.items() if name in takes}, **own, **options)
    other.set_progress_bar_config(disable=True)
    return other


def _pipeline_class(family: str, kind: str = "txt2img"):
    import diffusers

    return getattr(diffusers, FAMILIES[family].pipelines[KINDS.index(kind)])


def _from(model: Model):
    if model.layout == "folder":
        return _from_folder
    return _from_parts if FAMILIES[model.family].flow else _from_file


def _options(cls) -> dict[str, Any]:
    """What a pipeline class is told to leave out: the parts that only judge or decorate."""
    import inspect

    takes = inspect.signature(cls.__init__).parameters
    options = {name: None for name in _LEFT_OUT if name in takes}
    return {**options, "requires_safety_checker": False} if "requires_safety_checker" in takes else options


def _from_folder(model: Model, device, assets: Path, given: dict[str, Any]):
    cls = _pipeline_class(model.family)
    main = model.path / FAMILIES[model.family].denoiser
    plain = list(main.glob("*.safetensors"))
    halves = bool(plain) and all(".fp16." in file.name for file in plain)
    texts = {part: device.text for part in FAMILIES[model.family].encoders}
    return cls.from_pretrained(
        model.path,
        torch_dtype={"default": device.unet, "vae": device.vae, **texts},
        local_files_only=True,
        use_safetensors=True,
        variant="fp16" if halves else None,
        **given,
        **_options(cls),
    )


def _from_file(model: Model, device, assets: Path, given: dict[str, Any]):
    """A checkpoint in the original layout that carries everything: its configuration and tokenizer lie in `assets/configs`."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    cls = _pipeline_class(model.family)
    config = assets / "configs" / model.family
    if not (config / "model_index.json").is_file():
        raise BadInput(
            f"Single files of {FAMILIES[model.family].title} cannot be loaded here.",
            f"Put the model's diffusers folder into storage/models/diffusers instead of {model.path.name}.",
        )
    common = dict(config=str(config), local_files_only=True)
    path = str(model.path)
    parts = {
        "unet": UNet2DConditionModel.from_single_file(path, subfolder="unet", torch_dtype=device.unet, **common),
        **_tokenizers.of(model.family, assets),
        **given,
    }
    if "vae" not in parts:
        parts["vae"] = AutoencoderKL.from_single_file(path, subfolder="vae", torch_dtype=device.vae, **common)
    absent = {name: None for name in ("text_encoder", "tokenizer") if name not in (*FAMILIES[model.family].encoders, *parts)}
    pipe = cls.from_single_file(path, torch_dtype=device.text, **common, **parts, **absent, **_options(cls))
    _tell_prediction(pipe, model)
    return pipe


def _tell_prediction(pipe, model: Model) -> None:
    """Models that predict velocity: the file says so in an empty tensor or its metadata, those of SD2.1 in their name."""
    names = checkpoints.header(model.path)
    stated = str(names.get("__metadata__", {}).get("modelspec.prediction_type", ""))
    if "v_pred" in names or stated.startswith("v") or model.family == "sd21" and "768" in model.path.stem:
        changes = {"prediction_type": "v_prediction"}
        changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if "ztsnr" in names else {}
        pipe.scheduler.register_to_config(**changes)


def _from_parts(model: Model, device, assets: Path, given: dict[str, Any]):
    """A file of a larger family: its text encoders and VAE are in it or beside it (`Model.parts`)."""
    import diffusers

    cls, family = _pipeline_class(model.family), FAMILIES[model.family]
    parts: dict[str, Any] = {**_tokenizers.of(model.family, assets), **given}
    scheduler = models.home_of(model, "scheduler", assets)
    parts["scheduler"] = diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(scheduler, subfolder="scheduler", local_files_only=True)
    parts["transformer"] = _converted(models.config_of(model, "transformer", assets)["_class_name"], model, "transformer", model.path, _inner(model.path), device.unet, assets)
    places = {part: (Path(file), prefix) for part, file, prefix in model.parts}
    if "vae" not in parts:
        parts["vae"] = _converted("AutoencoderKL", model, "vae", *places["vae"], device.vae, assets)
    for part, kind in family.encoders.items():
        parts[part] = _text_encoder(kind, models.config_of(model, part, assets), *places[part], device.text) if part in places else None
    return cls(**parts, **_options(cls))


def _inner(file: Path) -> str:
    """What stands before the names of the denoiser's tensors, in a file where it is not alone."""
    prefix = "model.diffusion_model."
    return prefix if any(name.startswith(prefix) for name in checkpoints.header(file)) else ""


def _converted(kind: str, model: Model, part: str, file: Path, prefix: str, dtype, assets: Path):
    """A part of diffusers' class `kind` from a file in the original layout."""
    import diffusers

    home = models.home_of(model, part, assets)
    return getattr(diffusers, kind).from_single_file(_tensors(file, prefix, dtype), config=str(home), subfolder=part, torch_dtype=dtype, local_files_only=True)


def _text_encoder(kind: str, config: dict[str, Any], file: Path, prefix: str, dtype):
    """A text encoder of transformers' class `kind`. EngineFailed if the file lacks weights of it."""
    import torch
    import transformers

    cls = getattr(transformers, kind)
    tensors = _tensors(file, prefix, dtype)
    projection = "text_projection.weight"
    if kind == "CLIPTextModelWithProjection" and projection not in tensors:
        tensors[projection] = torch.eye(config["projection_dim"], config["hidden_size"], dtype=dtype)  # as its makers fill it
    encoder, told = cls.from_pretrained(
        None, config=cls.config_class(**config), state_dict=tensors, dtype=dtype, output_loading_info=True
    )
    if told["missing_keys"]:
        raise EngineFailed(f"{file.name} lacks weights of the text encoder: {sorted(told['missing_keys'])[0]}.", f"Fetch it again: {file}")
    return encoder.eval()


def _tensors(file: Path, prefix: str, dtype) -> dict[str, Any]:
    """The tensors of a file whose names begin with `prefix`, without it; those kept in 8 bits with their scales as `dtype`."""
    from safetensors import safe_open

    with safe_open(str(file), framework="pt") as stored:
        names = [name for name in stored.keys() if name.startswith(prefix)]
        found = {name.removeprefix(prefix): stored.get_tensor(name) for name in names}
    for scale in [name for name in found if name.endswith(_SCALES)]:
        weight = f"{scale.rpartition('.')[0]}.weight"
        found[weight] = found[weight].to(dtype) * found.pop(scale).to(dtype)
    eights = [name for name, tensor in found.items() if tensor.is_floating_point() and tensor.element_size() == 1]
    return {name: tensor.to(dtype) if name in eights else tensor for name, tensor in found.items() if not _is_mark(name)}


def _is_mark(name: str) -> bool:
    """Tensors that say how the others are kept and are no weights."""
    return name.split(".")[-1] in ("scaled_fp8", "scale_input", "input_scale", "logit_scale", "spiece_model", "comfy_quant")


def _vae(path: Path, model: Model, device, assets: Path):
    """A VAE of its own: a folder says what it is, a file has the shape of the model's."""
    import diffusers

    common = dict(torch_dtype=device.vae, local_files_only=True)
    if path.is_dir():
        cls = getattr(diffusers, checkpoints.config_in(path)["_class_name"])
        return cls.from_pretrained(path, use_safetensors=True, **common)
    home = models.home_of(model, "vae", assets)
    return diffusers.AutoencoderKL.from_single_file(str(path), config=str(home), subfolder="vae", **common)


def shape_of(model: Model, device: _device.Device, assets: Path) -> _plan.Shape:
    """What the memory plan needs, read from configuration files and tensor headers; nothing is loaded."""
    family = FAMILIES[model.family]
    main, vae = _config(model, family.denoiser, assets), _config(model, "vae", assets)
    counts, most = _elements(model)
    items = {family.denoiser: device.unet.itemsize, "vae": device.vae.itemsize}
    sizes = {part: count * items.get(part, device.text.itemsize) for part, count in counts.items()}
    return _plan.Shape(
        weights=sum(sizes.values()),
        largest=max(sizes.values(), default=0),
        leaf=most * max(device.unet.itemsize, device.text.itemsize),
        channels=_width(main),
        patch=1 if family.denoiser == "unet" else 2,  # the transformers see two by two latent pixels as one
        vae_channels=_vae_width(vae),
        factor=_vae_factor(vae),
        item=device.unet.itemsize,
        vae_item=device.vae.itemsize,
        attends="Attn" in main.get("down_block_types", ["CrossAttn"])[0],
    )


def _width(denoiser: dict[str, Any]) -> int:
    if "block_out_channels" in denoiser:
        return denoiser["block_out_channels"][0]
    return denoiser.get("dim") or denoiser.get("num_attention_heads", 24) * denoiser.get("attention_head_dim", 128)


def _vae_width(vae: dict[str, Any]) -> int:
    widths = vae.get("decoder_block_out_channels") or vae.get("block_out_channels") or [128, 256]
    return widths[1] if len(widths) > 1 and vae.get("_class_name") != "AutoencoderTiny" else widths[0]


def _vae_factor(vae: dict[str, Any]) -> int:
    widths = vae.get("encoder_block_out_channels") or vae.get("block_out_channels") or [1] * 4
    return 2 ** (len(widths) - 1)


def _elements(model: Model) -> tuple[dict[str, int], int]:
    """Numbers in each part of the model, from the files' headers, and in its largest tensor."""
    counts: dict[str, int] = {}
    most = 0
    if model.layout == "file":
        others = [(Path(file), prefix, part) for part, file, prefix in model.parts]
        files = [(model.path, "", ""), *(entry for entry in others if entry[0] != model.path)]
    else:
        files = [(file, "", file.parent.name) for file in sorted(model.path.glob("*/*.safetensors"))]
    for file, prefix, of in files:
        if of in _LEFT_OUT:
            continue
        for name, entry in checkpoints.header(file).items():
            if name != "__metadata__" and name.startswith(prefix):
                part, count = of or _part(name, model), math.prod(entry["shape"])
                counts[part], most = counts.get(part, 0) + count, max(most, count)
    return counts, most


def _part(tensor: str, model: Model) -> str:
    main = FAMILIES[model.family].denoiser
    heads = {"model.diffusion_model.": main, "first_stage_model.": "vae", "model_ema.": main}
    heads |= {prefix: part for part, file, prefix in model.parts if prefix and Path(file) == model.path}
    rest = main if FAMILIES[model.family].flow else "text_encoder"
    return next((part for head, part in heads.items() if tensor.startswith(head)), rest)


def _config(model: Model, part: str, assets: Path) -> dict[str, Any]:
    try:
        return models.config_of(model, part, assets)
    except BadInput as error:
        raise EngineFailed(error.what, "Fetch the model again.") from None
