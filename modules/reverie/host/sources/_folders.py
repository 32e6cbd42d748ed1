"""Which files of a repository make one model in diffusers' layout. Pure."""

from __future__ import annotations

import re
from pathlib import PurePosixPath


def choose(paths: list[str], parts: frozenset[str] = frozenset()) -> list[str]:
    """The files that are needed of a folder with these parts ("unet", "vae", …), or of a transformers folder, which has none:
    configurations, tokenizers, and the safetensors of one precision for the whole, fp16 where all of it is there in fp16.
    Nothing where that cannot be had.

    A checkpoint beside `model_index.json` that holds everything once more is left out; so are pickles, onnx and flax.
    """
    folders = parts or {""}
    inside = [path for path in paths if path.rpartition("/")[0] in folders]
    weights = [path for path in inside if path.endswith(".safetensors")]
    weighed = {_folder(path) for path in weights}
    fp16 = bool(weighed) and {_folder(path) for path in weights if _precision(path) == "fp16"} == weighed
    kept = [path for path in weights if _precision(path) == ("fp16" if fp16 else "")]
    if not kept or {_folder(path) for path in kept} != weighed:
        return []
    texts = [path for path in inside if path.endswith((".json", ".txt", ".model", ".jinja")) and _is_needed(PurePosixPath(path).name, fp16)]
    return sorted({*kept, *texts, *(["model_index.json"] if parts else [])})


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _precision(path: str) -> str:
    """The variant in a weight's name: diffusion_pytorch_model.fp16-00001-of-00002.safetensors → fp16; the openvino and ema twins have theirs."""
    stem = re.sub(r"-\d{5}-of-\d{5}", "", PurePosixPath(path).name.removesuffix(".safetensors"))
    return stem.partition(".")[2]


def _is_needed(name: str, fp16: bool) -> bool:
    """Whether a text goes with the chosen weights: of indexes of shards only the one of that precision."""
    if ".index." in name:
        return ".safetensors." in name and (".fp16." in name) == fp16
    return not name.lower().startswith(("readme", "license"))
