"""LoRAs and embeddings on and off a loaded model: beside its weights and never in them, so that they leave no trace."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from reverie import checkpoints
from reverie.engines import _loading, _painting
from reverie.errors import EngineFailed

_UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, IndexError)


def put_on(loaded, additions: list[dict[str, Any]]) -> None:
    """Put exactly these LoRAs and embeddings (kind, name, path, fingerprint, weight) on the model, and others off."""
    loras, embeddings = ([one for one in additions if one["kind"] == kind] for kind in ("lora", "embedding"))
    wanted = tuple((one["kind"], one["name"], one["fingerprint"], one["weight"]) for one in loras + embeddings)
    if loaded.additions == wanted:
        return
    if loaded.additions != ():
        loaded.pipes["txt2img"].unload_lora_weights()  # the pipelines of all kinds share the parts
    loaded.prompts.clear()
    loaded.additions = None
    loaded.embeddings = {one["name"]: _rows(one) for one in embeddings}
    if loras:
        _wear(loaded, loras)
    loaded.additions = wanted


def bytes_of(additions: list[dict[str, Any]], device) -> int:
    """What they take in memory beside the model. Another VAE takes the place of the model's own, which counts with the model."""
    sizes = {"lora": device.unet.itemsize, "embedding": 4}
    return sum(_numbers(Path(one["path"])) * sizes[one["kind"]] for one in additions if one["kind"] in sizes)


def _numbers(file: Path) -> int:
    return sum(math.prod(entry["shape"]) for name, entry in checkpoints.header(file).items() if name != "__metadata__")


def _wear(loaded, loras: list[dict[str, Any]]) -> None:
    pipe = loaded.pipes["txt2img"]
    for index, lora in enumerate(loras):
        path, adapter = Path(lora["path"]), f"lora_{index}"
        try:
            pipe.load_lora_weights(
                str(path.parent),
                weight_name=path.name,
                adapter_name=adapter,
                use_safetensors=True,
                local_files_only=True,
            )
        except _UNREADABLE as error:
            if _painting.is_memory_error(error):
                raise
            raise EngineFailed(
                f"LoRA '{lora['name']}' cannot be put on model '{loaded.model.id}': {_first_line(error)}.",
                "Choose another LoRA, or fetch it again.",
            ) from error
        if not any(adapter in adapters for adapters in pipe.get_list_adapters().values()):
            raise EngineFailed(
                f"LoRA '{lora['name']}' has nothing that fits model '{loaded.model.id}'.", "Choose another LoRA."
            )
    pipe.set_adapters([f"lora_{index}" for index in range(len(loras))], [lora["weight"] for lora in loras])
    _loading.denoiser(pipe).to(loaded.device.unet)  # files come in any number format


def _rows(embedding: dict[str, Any]) -> dict[int, Any]:
    """Width of a text encoder → the embedding's rows for it, (vectors, width)."""
    from safetensors.torch import load_file

    tensors = load_file(embedding["path"]).values()
    return {tensor.shape[-1]: tensor.reshape(-1, tensor.shape[-1]).float() for tensor in tensors if tensor.ndim}


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" .:")] or [type(error).__name__]
    return " ".join(lines[: 1 + lines[0].endswith(":")])[:200].rstrip(" .,:")
