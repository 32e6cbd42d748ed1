"""Which model is which: a name → its files, family and the values it likes. Nothing here loads a tensor.

A name is one of: a row of `configs/models.yaml`, a file in `storage/models/checkpoints` or `diffusion_models`, a folder in
`storage/models/diffusers`, or a path to either layout:

    folder   diffusers layout: `model_index.json` beside `unet/`, `vae/`, … in safetensors
    file     one `.safetensors` checkpoint in the original layout; of the larger families it may hold the denoiser alone,
             and its text encoders and VAE lie in `storage/models/text_encoders` and `vae`, as ComfyUI has them
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reverie import checkpoints
from reverie import settings as settings_module
from reverie.errors import BadInput, ModelMissing
from reverie.families import FAMILIES

PICKLES = frozenset({".ckpt", ".pt", ".pth", ".bin", ".pkl"})
CLIPS = "clip"  # the folder of storage/models where CLIPs lie

CHECKPOINTS = ("checkpoints", "diffusion_models")  # folders of storage/models where single files lie
COMPANIONS = ("text_encoders", "clip", "vae")  # … and where the parts lie that such a file lacks

_NO_ADVICE = ("pocket", "sdxl-refiner")  # one comes along, the other draws nothing alone
_KIND_OF = {"CLIPTextModel": "clip", "CLIPTextModelWithProjection": "clip", "T5EncoderModel": "t5", "Qwen3Model": "qwen3"}
_MARKS = {"sd3": "sd3"}  # in the name of that family's VAE, whose shapes are those of Flux
_OPTIONAL = {("sd3", "text_encoder_3")}  # parts that a model draws without, only less well


@dataclass(frozen=True)
class Model:
    """One model. `path` is None while it is not here; sizes are pixels, memory is gigabytes.

    `variant` names configurations in `assets/configs` that take the place of the family's. `parts` says of a single file
    where its text encoders and its VAE are: (part, file, what stands before the names of its tensors).
    """

    id: str
    title: str
    family: str
    path: Path | None = None
    layout: str = "folder"
    variant: str = ""
    parts: tuple[tuple[str, str, str], ...] = ()
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
            return _whole(model, settings)
        raise ModelMissing(f"Model '{name}' ({model.title}) is not here.", fetch_sentence(model, settings))
    path = _path_of(name, settings)
    if path is None:
        raise ModelMissing(
            f"There is no model '{name}'.",
            f"Choose one of: {', '.join(m.id for m in all(settings) if m.here) or 'none is here yet'}; or put its .safetensors file into "
            f"{settings.models / 'checkpoints'} or its diffusers folder into {settings.models / 'diffusers'}.",
        )
    return _whole(inspect(path, settings), settings)


def all(settings=None) -> list[Model]:
    """Every model of the catalogue, here or not, then the files and folders of the storage that have no row."""
    settings = settings or settings_module.load()
    models = [_catalogued(name, settings) for name in _rows()]
    known = {model.path for model in models}
    for path in _stored(settings):
        if path not in known:
            try:
                models.append(inspect(path, settings))
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


def inspect(path: Path, settings=None) -> Model:
    """The model in that folder or file, its family told by `model_index.json` or by its tensors' names."""
    path = Path(path).expanduser().absolute()
    family, variant = checkpoints.family_of(path)
    name, layout = (path.name, "folder") if path.is_dir() else (path.stem, "file")
    model = Model(id=name, title=name, family=family, path=path, layout=layout, variant=variant, **_defaults(family, variant))
    return replace(model, parts=_find_parts(model, settings or settings_module.load())) if layout == "file" else model


def fingerprint(model: Model) -> str:
    """64 hex digits that change when a weight file of the model changes."""
    if model.path is None:
        raise ModelMissing(f"Model '{model.id}' is not here.", "Fetch it first.")
    others = sorted({Path(file) for _, file, _ in model.parts} - {model.path})
    prints = [checkpoints.fingerprint(path) for path in (model.path, *others)]
    return hashlib.sha256("\n".join(prints).encode()).hexdigest() if others else prints[0]


def config_of(model: Model, part: str, assets: Path) -> dict[str, Any]:
    """The configuration of a part (unet, vae, text_encoder, …): the folder's own; of a single file, the shipped one."""
    return checkpoints.config_in(home_of(model, part, assets) / part)


def home_of(model: Model, part: str, assets: Path) -> Path:
    """The folder in which the configuration of a part lies, in a folder of the part's name."""
    if model.layout == "folder":
        return model.path
    shipped = assets / "configs"
    return next((shipped / name for name in (model.variant, model.family) if name and (shipped / name / part).is_dir()), shipped / model.family)


def advise(settings=None) -> list[Model]:
    """Real models that this machine can carry and that are not here yet, best first; `note` says why."""
    settings = settings or settings_module.load()
    vram, ram = vram_gb(), _ram_gb()
    on_card = vram >= 3.5
    have, need = (vram, lambda m: m.vram_gb) if on_card else (ram, lambda m: m.ram_gb)
    fitting = [m for m in all(settings) if not m.here and m.family not in _NO_ADVICE and need(m) <= have * 1.05]
    where = f"{vram:.0f} GB of graphics memory" if on_card else f"{ram:.0f} GB of memory and no NVIDIA card"
    # Without a card the number of steps decides; with one, the larger model draws better.
    fitting.sort(key=lambda m: -need(m) if on_card else (m.steps, need(m)))
    return [replace(m, note=f"{m.note} Needs {need(m):g} GB; this machine has {where}.") for m in fitting[:3]]


def fetch_sentence(model: Model, settings, kind: str = "diffusers") -> str:
    """What to do to have the model: the command, or which file from where into which folder; `kind` is the one for whole folders."""
    parts = [f"Run: reverie fetch {model.id}"] if (model.url or model.repo) and not model.bundled else []
    if model.url:
        size = f" ({model.size / 1e9:.1f} GB)" if model.size else ""
        whole = not FAMILIES[model.family].flow if model.family in FAMILIES else True
        parts.append(f"{'or download' if parts else 'Download'} {model.url}{size} into {settings.models / CHECKPOINTS[0 if whole else 1]}")
    if model.repo:
        folder = settings.models / kind / model.repo.split("/")[-1]
        size = f" ({model.size / 1e9:.1f} GB)" if model.size and not model.url else ""
        parts.append(f"{'or download' if parts else 'Download'} https://huggingface.co/{model.repo}{size} into {folder}")
    if model.bundled:
        parts.append(f"Restore the project's folder {model.bundled} (fetch the project again)")
    return (", ".join(parts) or f"Put it into {settings.models / 'checkpoints'}") + "."


def lacking(model: Model, settings) -> list[str]:
    """The parts that a single file needs and that are neither in it nor beside it."""
    if not model.here or model.layout == "folder" or not FAMILIES[model.family].flow:
        return []
    there = {part for part, _, _ in model.parts}
    wanted = _wanted_parts(model, settings.assets)
    return [part for part in wanted if part not in there and (model.family, part) not in _OPTIONAL]


def tiny_vae(model: Model, settings) -> Path | None:
    """The tiny autoencoder for previews of this model, a folder or a file of `storage/models/vae_approx`; None without one."""
    name = FAMILIES[model.family].tiny
    folder = settings.models / "vae_approx"
    places = [folder / name, folder / f"{name}_decoder.safetensors", folder / f"{name}.safetensors"] if name else []
    return next((path for path in places if (path / "config.json").is_file() or path.is_file()), None)


def check_size(model: Model, width: int, height: int) -> None:
    """BadInput if the model does not make pictures of that size, in pixels."""
    step = FAMILIES[model.family].multiple
    if width % step or height % step:
        near = "x".join(str(max(step, round(edge / step) * step)) for edge in (width, height))
        raise BadInput(f"{FAMILIES[model.family].title} makes sizes divisible by {step}, and {width}x{height} is not.", f"The nearest is {near}.")


def weight_bytes(model: Model) -> int:
    """Bytes of all tensors in the model's safetensors files as they lie on disk."""
    return sum(file.stat().st_size for file in checkpoints.files_of(model.path) if file.suffix == ".safetensors")


# ---------------------------------------------------------------------------------------------- rows and places


def _rows() -> dict[str, dict]:
    return settings_module.config("models").get("models", {})


def _defaults(family: str, variant: str = "") -> dict[str, Any]:
    rows = settings_module.config("models").get("families", {})
    return {**rows.get(family, {}), **rows.get(variant, {})}


def _catalogued(name: str, settings) -> Model:
    row = _rows()[name]
    model = Model(id=name, **{**_defaults(row["family"], row.get("variant", "")), **row})
    for path in _candidates(model, settings):
        if _is_model(path):
            model = replace(model, path=path, layout="folder" if path.is_dir() else "file")
            return replace(model, parts=_find_parts(model, settings)) if model.layout == "file" else model
    return model


def _clip_of(name: str, family: str, row: dict) -> Model:
    return Model(id=name, family=family, **{key: value for key, value in row.items() if key != "families"})


def _candidates(model: Model, settings, kind: str = "diffusers"):
    folders, files = settings.models / kind, [settings.models / name for name in CHECKPOINTS]
    if model.bundled:
        yield settings.root / model.bundled
    yield folders / model.id
    if model.repo:
        yield folders / model.repo.split("/")[-1]
    for name in [model.url.split("/")[-1]] * bool(model.url) + [f"{model.id}.safetensors"]:
        yield from (folder / name for folder in files)


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
    return folders + sorted(file for name in CHECKPOINTS for file in (settings.models / name).glob("*.safetensors"))


def _path_of(name: str, settings) -> Path | None:
    if not name.strip():
        return None
    files = [settings.models / folder / file for folder in CHECKPOINTS for file in (name, f"{name}.safetensors")]
    places = [*files, settings.models / "diffusers" / name, Path(name).expanduser()]
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


# ------------------------------------------------------------------------------------------- the parts of single files


def _find_parts(model: Model, settings) -> tuple[tuple[str, str, str], ...]:
    """Where each text encoder and the VAE of a single file are: in the file itself, else in a file beside the models."""
    family = FAMILIES[model.family]
    if not family.flow:
        return ()  # those carry everything
    found = []
    for part, (kind, width) in _wanted_parts(model, settings.assets).items():
        own = checkpoints.part_in(model.path, kind, width)
        places = [model.path] if own is not None else [file for file in _beside(settings) if _suits(file, model.family, kind, width)]
        if places:
            found.append((part, str(places[0]), own if own is not None else checkpoints.part_in(places[0], kind, width)))
    return tuple(found)


def _wanted_parts(model: Model, assets: Path) -> dict[str, tuple[str, int]]:
    """part → (kind, width) as `_PARTS` tells them."""
    wanted = {}
    for part, cls in FAMILIES[model.family].encoders.items():
        config = config_of(model, part, assets)
        wanted[part] = _KIND_OF[cls], config.get("hidden_size") or config["d_model"]
    return {**wanted, "vae": ("vae", config_of(model, "vae", assets)["latent_channels"])}


def _beside(settings) -> list[Path]:
    """Files that may hold a part, the largest first: of several versions it is the most exact."""
    files = {file for name in COMPANIONS for file in (settings.models / name).rglob("*.safetensors") if file.is_file()}
    return sorted(files, key=lambda file: (-file.stat().st_size, file))


def _suits(file: Path, family: str, kind: str, width: int) -> bool:
    if kind == "vae" and any((mark in file.stem.lower()) != (family == owner) for owner, mark in _MARKS.items()):
        return False
    return checkpoints.part_in(file, kind, width) is not None


def _whole(model: Model, settings) -> Model:
    """The model; ModelMissing if a single file lacks a part and nothing beside it has it."""
    for part in lacking(model, settings):
        url = settings_module.config("models")["companions"][model.family][part]
        folder = settings.models / ("vae" if part == "vae" else "text_encoders")
        what = "VAE" if part == "vae" else f"text encoder {url.split('/')[-1].removesuffix('.safetensors')}"
        target = folder / f"{_MARKS[model.family]}_vae.safetensors" if part == "vae" and model.family in _MARKS else folder
        way = "into" if target == folder else "as"
        broken = [file.name for file in _beside(settings) if not checkpoints.is_whole(file)]
        but = f" ({', '.join(broken)} there cannot be read)" if broken else ""
        link = f"{'vae' if part == 'vae' else 'text_encoder'}:{url}" + (f"[{target.name}]" if target != folder else "")
        advice = f"Run: reverie fetch '{link}', or download it {way} {target}."
        raise ModelMissing(f"'{model.id}' has no {what} in it, and there is none beside it{but}.", advice)
    return model


def _ram_gb() -> float:
    import psutil

    return psutil.virtual_memory().total / 2**30


def vram_gb() -> float:
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
