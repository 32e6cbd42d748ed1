"""Which model is which: a name → its files, family and the values it likes. Nothing here loads a tensor.

A name is one of: a row of `configs/models.yaml`, a file in `storage/models/checkpoints`, a folder in
`storage/models/diffusers`, or a path to either layout:

    folder   diffusers layout: `model_index.json` beside `unet/`, `vae/`, … in safetensors
    file     one `.safetensors` checkpoint in the original (LDM) layout
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import struct
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reverie import settings as settings_module
from reverie.errors import BadInput, ModelMissing

PICKLES = frozenset({".ckpt", ".pt", ".pth", ".bin", ".pkl"})
SAMPLES, SAMPLE_BYTES = 64, 1 << 18  # a fingerprint reads at most 16 MiB of each file, spread over its length
MAX_HEADER = 100 << 20
CLIPS = "clip"  # the folder of storage/models where CLIPs lie

# Tensor names that only one kind of file has, most telling first: (substring, kind).
_SIGNS = (
    ("lora_", "a LoRA"),
    ("conditioner.embedders.1.model.", "sdxl"),
    ("cond_stage_model.transformer.", "sd15"),
    ("cond_stage_model.model.", "sd21"),
    ("double_blocks.", "a Flux model"),
    ("joint_blocks.", "an SD3 model"),
    ("control_model.", "a ControlNet"),
    ("model.diffusion_model.", "a denoiser without its text encoder"),
    ("decoder.up.", "a VAE"),
)


@dataclass(frozen=True)
class Model:
    """One model. `path` is None while it is not here; sizes are pixels, memory is gigabytes."""

    id: str
    title: str
    family: str
    path: Path | None = None
    layout: str = "folder"
    width: int = 512
    height: int = 512
    steps: int = 25
    cfg: float = 7.0
    sampler: str = ""
    vram_gb: float = 0.0
    ram_gb: float = 0.0
    note: str = ""
    licence: str = ""
    repo: str = ""
    url: str = ""
    size: int = 0
    sha256: str = ""
    bundled: str = ""

    @property
    def here(self) -> bool:
        return self.path is not None


def find(name: str, settings=None) -> Model:
    """The model called `name`, with its files. ModelMissing says where to get it; BadInput why a file is refused."""
    settings = settings or settings_module.load()
    if name in _rows():
        model = _catalogued(name, settings)
        if model.here:
            return model
        raise ModelMissing(f"Model '{name}' ({model.title}) is not here.", fetch_sentence(model, settings))
    path = _path_of(name, settings)
    if path is None:
        raise ModelMissing(
            f"There is no model '{name}'.",
            f"Choose one of: {', '.join(m.id for m in all(settings) if m.here) or 'none is here yet'}; or put its .safetensors file into "
            f"{settings.models / 'checkpoints'} or its diffusers folder into {settings.models / 'diffusers'}.",
        )
    return inspect(path)


def all(settings=None) -> list[Model]:
    """Every model of the catalogue, here or not, then the files and folders of the storage that have no row."""
    settings = settings or settings_module.load()
    models = [_catalogued(name, settings) for name in _rows()]
    known = {model.path for model in models}
    for path in _stored(settings):
        if path not in known:
            try:
                models.append(inspect(path))
            except (BadInput, ModelMissing):
                continue  # a LoRA or a broken file in the folder must not hide the models that work
    return models


def clip(family: str, settings=None) -> Model:
    """The CLIP that grades pictures of a family: the catalogue's, else a folder of `storage/models/clip` in transformers'
    CLIPModel layout. ModelMissing says where to get one: what has seen only another family's pictures is no judge of these.
    """
    settings = settings or settings_module.load()
    rows = settings_module.config("models").get("clips", {})
    listed = [_clip_of(name, family, row) for name, row in rows.items() if family in row["families"]]
    places = [(model, path) for model in listed for path in _candidates(model, settings, CLIPS)]
    places += [(None, path) for path in sorted((settings.models / CLIPS).glob("*"))]
    for model, path in places:
        if _is_clip(path):
            return replace(model or Model(id=path.name, title=path.name, family=family), path=path, layout="folder")
    advice = fetch_sentence(listed[0], settings, CLIPS) if listed else f"Put one into {settings.models / CLIPS}."
    raise ModelMissing(f"There is no CLIP here that can judge pictures of the family {family or 'unknown'}.", advice)


def inspect(path: Path) -> Model:
    """The model in that folder or file, its family told by `model_index.json` or by its tensors' names."""
    path = Path(path).expanduser().absolute()
    layout = "folder" if path.is_dir() else "file"
    family = _folder_family(path) if layout == "folder" else _file_family(path)
    name = path.name if layout == "folder" else path.stem
    return Model(id=name, title=name, family=family, path=path, layout=layout, **_defaults(family))


def fingerprint(model: Model) -> str:
    """64 hex digits that change when a weight file of the model changes."""
    if model.path is None:
        raise ModelMissing(f"Model '{model.id}' is not here.", "Fetch it first.")
    return print_of(model.path)


def print_of(path: Path) -> str:
    """64 hex digits of a file or a folder: names, sizes and headers, and 16 MiB spread over each file."""
    stats = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in _files(path))
    return _digest(str(path), stats)


def config_of(model: Model, part: str, assets: Path) -> dict[str, Any]:
    """The configuration of a part (unet, vae, text_encoder, …): the folder's own; of a single file, the shipped one."""
    home = model.path if model.layout == "folder" else assets / "configs" / model.family
    return config_in(home / part)


def config_in(folder: Path) -> dict[str, Any]:
    """The `config.json` of a part's folder. BadInput if it is missing or broken."""
    return _json(folder / "config.json")


def advise(settings=None) -> list[Model]:
    """Real models that this machine can carry and that are not here yet, best first; `note` says why."""
    settings = settings or settings_module.load()
    vram, ram = _vram_gb(), _ram_gb()
    on_card = vram >= 3.5
    have, need = (vram, lambda m: m.vram_gb) if on_card else (ram, lambda m: m.ram_gb)
    fitting = [m for m in all(settings) if not m.here and m.family != "pocket" and need(m) <= have * 1.05]
    where = f"{vram:.0f} GB of graphics memory" if on_card else f"{ram:.0f} GB of memory and no NVIDIA card"
    # Without a card the number of steps decides; with one, the larger model draws better.
    fitting.sort(key=lambda m: -need(m) if on_card else (m.steps, need(m)))
    return [replace(m, note=f"{m.note} Needs {need(m):g} GB; this machine has {where}.") for m in fitting[:3]]


def fetch_sentence(model: Model, settings, kind: str = "diffusers") -> str:
    """What to do to have the model: which file from where into which folder; `kind` is the one for whole folders."""
    parts = []
    if model.url:
        size = f" ({model.size / 1e9:.1f} GB)" if model.size else ""
        parts.append(f"Download {model.url}{size} into {settings.models / 'checkpoints'}")
    if model.repo:
        folder = settings.models / kind / model.repo.split("/")[-1]
        size = f" ({model.size / 1e9:.1f} GB)" if model.size and not model.url else ""
        parts.append(f"{'or download' if parts else 'Download'} https://huggingface.co/{model.repo}{size} into {folder}")
    if model.bundled:
        parts.append(f"Restore the project's folder {model.bundled} (fetch the project again)")
    return (", ".join(parts) or f"Put it into {settings.models / 'checkpoints'}") + "."


def header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: tensor name → {dtype, shape, data_offsets}. BadInput if it is none."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(MAX_HEADER, path.stat().st_size):
                raise ValueError("its header is longer than the file")
            entries = json.loads(file.read(length))
        end = 8 + length + max((e["data_offsets"][1] for k, e in entries.items() if k != "__metadata__"), default=0)
        if end > path.stat().st_size:
            raise ValueError("it is cut short, the download did not finish")
        return entries
    except (OSError, struct.error, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is not a whole safetensors file: {error}.", "Fetch it again.") from None


def weight_bytes(model: Model) -> int:
    """Bytes of all tensors in the model's safetensors files as they lie on disk."""
    return sum(file.stat().st_size for file in _files(model.path) if file.suffix == ".safetensors")


# ---------------------------------------------------------------------------------------------- rows and places


def _rows() -> dict[str, dict]:
    return settings_module.config("models").get("models", {})


def _defaults(family: str) -> dict[str, Any]:
    return dict(settings_module.config("models").get("families", {}).get(family, {}))


def _catalogued(name: str, settings) -> Model:
    row = _rows()[name]
    model = Model(id=name, **{**_defaults(row["family"]), **row})
    for path in _candidates(model, settings):
        if _is_model(path):
            return replace(model, path=path, layout="folder" if path.is_dir() else "file")
    return model


def _clip_of(name: str, family: str, row: dict) -> Model:
    return Model(id=name, family=family, **{key: value for key, value in row.items() if key != "families"})


def _candidates(model: Model, settings, kind: str = "diffusers"):
    folders, files = settings.models / kind, settings.models / "checkpoints"
    if model.bundled:
        yield settings.root / model.bundled
    yield folders / model.id
    if model.repo:
        yield folders / model.repo.split("/")[-1]
    if model.url:
        yield files / model.url.split("/")[-1]
    yield files / f"{model.id}.safetensors"


def _is_model(path: Path) -> bool:
    return (path / "model_index.json").is_file() or (path.suffix == ".safetensors" and path.is_file())


def _is_clip(path: Path) -> bool:
    """Whether a whole CLIP, both its towers, lies in this folder in safetensors."""
    try:
        kind = json.loads((path / "config.json").read_text("utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        return False
    return kind == "clip" and any(path.glob("*.safetensors"))


def _stored(settings) -> list[Path]:
    folders = [p.parent for p in sorted((settings.models / "diffusers").glob("*/model_index.json"))]
    return folders + sorted((settings.models / "checkpoints").glob("*.safetensors"))


def _path_of(name: str, settings) -> Path | None:
    if not name.strip():
        return None
    places = [settings.models / "checkpoints" / name, settings.models / "diffusers" / name, Path(name).expanduser()]
    places.insert(1, settings.models / "checkpoints" / f"{name}.safetensors")
    for path in places:
        if path.suffix.lower() in PICKLES and path.is_file():
            raise BadInput(
                f"'{path.name}' is a pickle file, which can run any program when it is opened.",
                "Use the .safetensors version of this model (most model pages offer one), or convert it.",
            )
        if path.is_file() and path.suffix.lower() != ".safetensors":
            raise BadInput(f"'{path.name}' is not a model.", "Give a .safetensors file or a diffusers folder.")
        if path.exists() and not path.is_file() and not (path / "model_index.json").is_file():
            continue
        if path.exists():
            return path
    return None


# --------------------------------------------------------------------------------------------------- families


def _folder_family(path: Path) -> str:
    kind = str(_json(path / "model_index.json").get("_class_name", ""))
    for part in ("unet", "vae", "text_encoder"):
        folder = path / part
        if not any(folder.glob("*.safetensors")) and any(folder.glob("*.bin")):
            raise BadInput(
                f"'{path.name}' holds pickle weights ({part}/*.bin), which can run any program when they are opened.",
                "Use its .safetensors version.",
            )
    if "XL" in kind:
        return "sdxl"
    if not kind.startswith(("StableDiffusion", "LatentConsistencyModel")) or "3" in kind:
        raise BadInput(f"'{path.name}' is a {kind or 'folder without a pipeline class'}.", "Choose an SD1.5 or SDXL model.")
    width = _json(path / "unet" / "config.json").get("cross_attention_dim")
    if width == 1024:
        return "sd21"
    tiny = _json(path / "vae" / "config.json").get("_class_name") == "AutoencoderTiny"
    return "pocket" if tiny and width != 768 else "sd15"


def _file_family(path: Path) -> str:
    names = header(path)
    for sign, kind in _SIGNS:
        if any(sign in name for name in names):
            if kind in ("sdxl", "sd15", "sd21"):
                return kind
            raise BadInput(f"'{path.name}' is {kind}, not a whole SD model.", "Choose an SD1.5 or SDXL checkpoint.")
    raise BadInput(f"'{path.name}' is not a model that is known here.", "Choose an SD1.5 or SDXL checkpoint.")


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path} is missing.", "Fetch the model again.") from None
    except ValueError as error:
        raise BadInput(f"{path} is not valid JSON: {error}.", "Fetch the model again.") from None


# ------------------------------------------------------------------------------------------------ fingerprints


def _files(path: Path) -> list[Path]:
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


def _ram_gb() -> float:
    import psutil

    return psutil.virtual_memory().total / 2**30


def _vram_gb() -> float:
    """Memory of the largest NVIDIA card in GiB, 0 without one. Asks the driver's tool, so that torch is not loaded."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return 0.0
    query = [tool, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        out = subprocess.run(query, capture_output=True, text=True, timeout=5).stdout
        return max((float(line) for line in out.split()), default=0.0) / 1024
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return 0.0
