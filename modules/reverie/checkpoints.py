"""What is in a file or a folder of weights: its header, its family, the parts in it, its fingerprint. No tensor is loaded."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import struct
from pathlib import Path
from typing import Any

from reverie.errors import BadInput
from reverie.families import FAMILIES

MAX_HEADER = 100 << 20
SAMPLES, SAMPLE_BYTES = 64, 1 << 18  # a fingerprint reads at most 16 MiB of each file, spread over its length

# Tensor names of files that are no model that can be drawn with: (substring, what it is).
_OTHERS = (
    ("lora_", "a LoRA"),
    ("control_model.", "a ControlNet"),
    ("single_stream_modulation.", "a Flux 2 model"),
    ("distilled_guidance_layer.", "a Chroma model"),
)
_INCOMPLETE = (
    ("model.diffusion_model.", "a denoiser without its text encoder"),
    ("decoder.up.", "a VAE"),
)
# How a part is told in a file: kind → the end of a tensor's name (what stands before it is the part's prefix), and the
# dimension of its shape that is the part's width.
_PARTS = {
    "clip": ("text_model.embeddings.token_embedding.weight", 1),
    "t5": ("shared.weight", 1),
    "qwen3": ("model.embed_tokens.weight", 1),
    "vae": ("decoder.conv_in.weight", 1),
}


def family_of(path: Path) -> tuple[str, str]:
    """(family, variant) of a folder in diffusers' layout or of a single file. BadInput if it is no model that is known here."""
    try:
        return _folder_family(path) if path.is_dir() else _file_family(path)
    except (ValueError, TypeError, LookupError, AttributeError):
        raise BadInput(f"'{path.name}' is not a whole model: it names or shapes its parts as no model does.", "Fetch it again.") from None


def header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: tensor name → {dtype, shape, data_offsets}. BadInput if it is none."""
    try:
        with open(path, "rb") as file:
            size = path.stat().st_size
            if size < 8:
                raise ValueError("it is empty")
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(MAX_HEADER, size):
                raise ValueError("its header is longer than the file")
            entries = json.loads(file.read(length))
        tensors = [entry for name, entry in entries.items() if name != "__metadata__"]
        if not isinstance(entries.get("__metadata__", {}), dict) or not all(map(_is_tensor, tensors)):
            raise ValueError("its header does not say what is in it")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        said = error if isinstance(error, (OSError, ValueError)) else "its header is no table of tensors"
        raise BadInput(f"{path} is not a whole safetensors file: {said}.", "Fetch it again.") from None
    if 8 + length + max((entry["data_offsets"][1] for entry in tensors), default=0) > size:
        raise BadInput(f"{path} is not a whole safetensors file: it is cut short, the download did not finish.", "Fetch it again.")
    return entries


def is_whole(path: Path) -> bool:
    """Whether that is a safetensors file with all that its header names."""
    try:
        header(path)
    except BadInput:
        return False
    return True


def _is_tensor(entry: Any) -> bool:
    """Whether an entry of a header says a tensor's shape and where it lies, with room for it (two numbers a byte at most)."""
    shape, place = (entry.get("shape"), entry.get("data_offsets")) if isinstance(entry, dict) else (None, None)
    lists = isinstance(shape, list) and isinstance(place, list)
    numbers = lists and all(isinstance(number, int) and number >= 0 for number in (*shape, *place))
    return numbers and len(place) == 2 and isinstance(entry.get("dtype"), str) and math.prod(shape) <= 2 * (place[1] - place[0])


def part_in(file: Path, kind: str, width: int) -> str | None:
    """What stands before the names of a part's tensors in a file, the part told by its kind (see `_PARTS`) and its width; None if
    it is not in there."""
    stat = file.stat()
    return _contents(file, stat.st_size, stat.st_mtime_ns).get((kind, width))


@functools.lru_cache(maxsize=256)
def _contents(file: Path, size: int, changed: int) -> dict[tuple[str, int], str]:
    try:
        entries = header(file)
    except BadInput:
        return {}
    found = {}
    for name, entry in entries.items():
        for kind, (end, dimension) in _PARTS.items():
            if name.endswith(end) and len(entry["shape"]) > dimension:
                found[kind, entry["shape"][dimension]] = name.removesuffix(end)
    return found


def config_in(folder: Path) -> dict[str, Any]:
    """The `config.json` of a part's folder. BadInput if it is missing or broken."""
    return read_json(folder / "config.json")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. BadInput if it is missing or broken."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path} is missing.", "Fetch the model again.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not valid JSON: {error}.", "Fetch the model again.") from None
    if not isinstance(found, dict):
        raise BadInput(f"{path} holds no JSON object.", "Fetch the model again.")
    return found


# --------------------------------------------------------------------------------------------------- families


def _folder_family(path: Path) -> tuple[str, str]:
    """(family, variant) of a folder in diffusers' layout."""
    kind = str(read_json(path / "model_index.json").get("_class_name", ""))
    for part in ("unet", "transformer", "vae", "text_encoder", "text_encoder_2"):
        folder = path / part
        if not any(folder.glob("*.safetensors")) and any(folder.glob("*.bin")):
            raise BadInput(
                f"'{path.name}' holds pickle weights ({part}/*.bin), which can run any program when they are opened.",
                "Use its .safetensors version.",
            )
    family = next((name for name, row in FAMILIES.items() if kind in row.pipelines and row.denoiser == "transformer"), "")
    if family == "flux" and not read_json(path / "transformer" / "config.json").get("guidance_embeds"):
        return family, "flux-schnell"
    if family == "sd3" and (path / "transformer" / "config.json").is_file():
        return family, _sd3_variant(int(read_json(path / "transformer" / "config.json").get("num_layers", 38)), False)
    if family:
        return family, ""
    if kind in FAMILIES["sdxl"].pipelines:
        alone = not (path / "text_encoder").is_dir()
        return ("sdxl-refiner" if alone and (path / "text_encoder_2").is_dir() else "sdxl"), ""
    if kind not in (*FAMILIES["sd15"].pipelines, "LatentConsistencyModelPipeline"):
        raise BadInput(f"'{path.name}' is a {kind or 'folder without a pipeline class'}.", f"Choose a model of: {_titles()}.")
    width = read_json(path / "unet" / "config.json").get("cross_attention_dim")
    text = path / "text_encoder" / "config.json"
    if width == 1024 or text.is_file() and read_json(text).get("hidden_act") == "gelu":  # open_clip's encoder
        return "sd21", ""
    tiny = read_json(path / "vae" / "config.json").get("_class_name") == "AutoencoderTiny"
    return ("pocket" if tiny and width != 768 else "sd15"), ""


def _file_family(path: Path) -> tuple[str, str]:
    """(family, variant) of a single file."""
    names = header(path)
    joined = "\n".join(names)
    for sign, kind in _OTHERS:
        if sign in joined:
            raise BadInput(f"'{path.name}' is {kind}, not a whole model.", f"Choose a checkpoint of: {_titles()}.")
    for family, row in FAMILIES.items():
        if any(all(sign in joined for sign in signs) for signs in row.signs):
            return family, _variant(path, family, names)
    for sign, kind in _INCOMPLETE:
        if sign in joined:
            raise BadInput(f"'{path.name}' is {kind}, not a whole model.", f"Choose a checkpoint of: {_titles()}.")
    raise BadInput(f"'{path.name}' is not a model that is known here.", f"Choose a checkpoint of: {_titles()}.")


def _variant(path: Path, family: str, names: dict[str, Any]) -> str:
    ends = {name.removeprefix("model.diffusion_model."): entry.get("shape") for name, entry in names.items()}
    if family == "flux":
        channels = ends["img_in.weight"][1] if "img_in.weight" in ends else 64
        if channels != 64:
            raise BadInput(f"'{path.name}' is a Flux model for filling or control, which is not drawn with here.", "Choose Flux dev or schnell.")
        return "" if "guidance_in.in_layer.weight" in ends else "flux-schnell"
    if family == "sd3":
        layers = 1 + max(int(name.split(".")[1]) for name in ends if name.startswith("joint_blocks."))
        return _sd3_variant(layers, any("x_block.attn2." in name for name in ends))
    return ""


def _sd3_variant(layers: int, dual: bool) -> str:
    return "" if layers > 24 else "sd35-medium" if dual else "sd3-medium"


def _titles() -> str:
    return ", ".join(row.title for name, row in FAMILIES.items() if name not in ("pocket", "sdxl-refiner"))


# ------------------------------------------------------------------------------------------------ fingerprints


def fingerprint(path: Path) -> str:
    """64 hex digits of a file or a folder: names and sizes, and at most 16 MiB of each file, spread over its length."""
    stats = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files_of(path))
    return _digest(str(path), stats)


def files_of(path: Path) -> list[Path]:
    """What tells one model from another: the file, or the weights and configurations of a folder."""
    if path.is_file():
        return [path]
    return sorted(f for f in path.rglob("*") if f.is_file() and f.suffix in (".safetensors", ".json", ".txt"))


@functools.lru_cache(maxsize=64)
def _digest(root: str, stats: tuple) -> str:
    digest = hashlib.sha256()
    for name, size, _ in stats:
        digest.update(f"{name.removeprefix(root)}\0{size}\0".encode())
        with open(name, "rb") as file:
            if size <= SAMPLES * SAMPLE_BYTES:
                digest.update(file.read())
                continue
            for index in range(SAMPLES):  # the first sample holds the header, the last the end of the file
                file.seek((size - SAMPLE_BYTES) * index // (SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()


def sha256(file: Path, tensors_only: bool = False) -> str:
    """64 hex digits of the whole of a safetensors file, or of its tensors without the header. Read once while it stays as it is."""
    stat = file.stat()
    return _sha256(file, stat.st_size, stat.st_mtime_ns, tensors_only)


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, size: int, changed: int, tensors_only: bool) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        if tensors_only:
            file.seek(8 + struct.unpack("<Q", file.read(8))[0])
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
