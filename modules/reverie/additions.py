"""What goes on top of a model: LoRAs with weights, embeddings (textual inversions) named in the prompt, another VAE, a refiner.

They lie in `storage/models/loras`, `embeddings` and `vae`, in folders of their own if one likes; the name is the file's
without its ending. Which model one is made for is read from its tensors' names and shapes; nothing here loads a tensor.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable

from reverie import checkpoints, models
from reverie import settings as settings_module
from reverie.errors import BadInput, ModelMissing
from reverie.families import FAMILIES
from reverie.models import Model
from reverie.types import MAX_WEIGHT, Task

# kind → (its folder in storage/models, its name for people)
KINDS = {"lora": ("loras", "LoRA"), "embedding": ("embeddings", "embedding"), "vae": ("vae", "VAE")}

_TAG = re.compile(r"<(?:lora|lyco):([^:<>]+)(?::([^:<>]*))?((?::[^<>]*)?)>")
_WIDTHS = {768: "sd15", 1024: "sd21", 2048: "sdxl"}  # of the prompt, as the UNet's cross-attention sees it
_DOWN = re.compile(r"lora_down|lora[._]down|lora_A")

# Tensor names that only a LoRA of a kind of model has that cannot be drawn with here: (substring, whose it is).
_FOREIGN = (
    ("diffusion_model.blocks.", "Wan"),
    ("lora_prior", "Stable Cascade"),
)
# Tensor names of relatives of LoRA that cannot be put on a model here.
_RELATIVES = (
    ("hada_w1", "a LoHa"),
    ("lokr_w1", "a LoKr"),
    ("oft_blocks", "an OFT"),
    ("oft_diag", "an OFT"),
    ("dora_scale", "a DoRA"),
    ("lora_mid", "a LoCon in Tucker form"),
)
# In a file's metadata, when its tensors do not tell: (beginning of the value, family).
_STATED = (
    ("stable-diffusion-xl", "sdxl"),
    ("sdxl", "sdxl"),
    ("stable-diffusion-v1", "sd15"),
    ("sd_v1", "sd15"),
    ("stable-diffusion-v2", "sd21"),
    ("sd_v2", "sd21"),
    ("flux", "flux"),
    ("stable-diffusion-3", "sd3"),
    ("sd3", "sd3"),
)


@dataclass(frozen=True)
class Addition:
    """One thing on top of a model. `kind` is a name in KINDS or "refiner", `path` a file or (VAE, refiner) a folder; `weight` is
    a LoRA's, or the refiner's share of the steps."""

    kind: str
    name: str
    path: Path
    weight: float = 1.0

    @property
    def fingerprint(self) -> str:
        return checkpoints.fingerprint(self.path)

    @property
    def called(self) -> str:
        return f"{KINDS.get(self.kind, ('', self.kind))[1]} '{self.name}'"


def of(task: Task, model: Model, settings=None) -> tuple[Addition, ...]:
    """Everything that `task` puts on top of `model`. BadInput or ModelMissing if one is not here or does not fit."""
    settings = settings or settings_module.load()
    wanted = [("lora", name, weight) for name, weight in task.loras]
    wanted += [("embedding", name, 1.0) for name in task.embeddings]
    wanted += [("vae", task.vae, 1.0)] if task.vae else []
    found = tuple(Addition(kind, name, find(kind, name, settings), weight) for kind, name, weight in wanted)
    if task.refiner:
        found += (Addition("refiner", task.refiner, models.find(task.refiner, settings).path, task.refine),)
    for addition in found:
        _CHECKS[addition.kind](addition, model, settings)
    return found


def find(kind: str, name: str, settings) -> Path:
    """Where the LoRA, embedding or VAE called `name` lies (a path is a name too). ModelMissing names those there are."""
    folder, title = settings.models / KINDS[kind][0], KINDS[kind][1]
    given = Path(name).expanduser()
    places = [path for path in _stored(kind, settings) if name in (path.stem, path.name, _long_name(path, folder))]
    path = next(iter(places), given if given.is_absolute() and given.exists() else None)
    if path is None and name in rows(kind):
        row = rows(kind)[name]
        raise ModelMissing(
            f"{title} '{name}' ({row['title']}) is not here.", f"Run: reverie fetch {name}, or download {row['url']} as {folder / name}.safetensors."
        )
    if path is None:
        here = ", ".join(names(kind, settings)) or "none yet"
        raise ModelMissing(
            f"There is no {title} '{name}'.", f"Put {name}.safetensors into {folder}; there are: {here}."
        )
    if path.suffix.lower() in models.PICKLES:
        raise BadInput(
            f"{title} '{path.name}' is a pickle file, which can run any program when it is opened.",
            "Use its .safetensors version, or convert it.",
        )
    return path


def names(kind: str, settings=None) -> list[str]:
    """The LoRAs, embeddings or VAEs of the storage by name."""
    return sorted({_name(path) for path in _stored(kind, settings or settings_module.load())})


def likes(names: Iterable[str]) -> dict[str, Any]:
    """Steps, cfg and sampler that these LoRAs want instead of the model's own, by the catalogue."""
    found = [rows("lora").get(name, {}) for name in names]
    return {field: row[field] for row in found for field in ("steps", "cfg", "sampler") if field in row}


def from_prompt(prompt: str) -> tuple[str, dict[str, float]]:
    """`<lora:moon:0.8>`, as the A1111 family writes it, out of a prompt: (the prompt without, name → weight)."""
    if not _TAG.search(prompt):
        return prompt, {}
    found: dict[str, float] = {}
    for tag in _TAG.finditer(prompt):
        if tag[3]:
            raise BadInput(f"{tag[0]} has two weights.", f"Write one: <lora:{tag[1]}:0.8>")
        found[tag[1].strip()] = _weight(tag[2] or "1", tag[0])
    plain = re.sub(r"[ \t]{2,}", " ", _TAG.sub("", prompt))
    return re.sub(r"(?:[ \t]*,){2,}", ",", plain).strip(" ,"), found


def from_list(text: str) -> dict[str, float]:
    """`'moon:0.8, ink'` → name → weight; without a weight it is 1."""
    found = {}
    for item in filter(None, (part.strip() for part in re.split(r"[,\n]", text))):
        name, colon, weight = item.rpartition(":")
        found[name.strip() if colon else item] = _weight(weight if colon else "1", item)
    return found


def named_in(text: str, settings=None) -> tuple[str, ...]:
    """The embeddings whose names are words of `text`; one that is called `embedding:name` must be there."""
    settings = settings or settings_module.load()
    known = names("embedding", settings)
    for name in re.findall(r"\bembedding:([\w.\-/]*\w)", text):
        if name.lower() not in {one.lower() for one in known}:
            find("embedding", name, settings)
    return tuple(name for name in known if re.search(word(name), text))


def word(name: str) -> str:
    """A pattern for an embedding's name as a word of its own, with or without ComfyUI's `embedding:` before it."""
    return rf"(?i:(?:\bembedding:|(?<![\w\-])){re.escape(name)}(?![\w\-]))"


def fingerprint(model: Model, added: Iterable[Addition]) -> str:
    """64 hex digits of the model and all that is on top of it; the model's own when nothing is."""
    prints = [addition.fingerprint for addition in added]
    own = models.fingerprint(model)
    return hashlib.sha256("\n".join([own, *prints]).encode()).hexdigest() if prints else own


def hashes(added: Iterable[Addition]) -> dict[str, Any]:
    """What a recipe says of the files: `lora_hashes`, `embedding_hashes`, `vae_hashes`, each name → sha256, and `refiner_hash`.

    A LoRA's is over its tensors alone, without the header, as CivitAI (AutoV3) and the A1111 family count it.
    """
    found: dict[str, Any] = {}
    for addition in added:
        if addition.kind == "refiner":
            found["refiner_hash"] = addition.fingerprint
        elif addition.path.is_file():
            digest = checkpoints.sha256(addition.path, tensors_only=addition.kind == "lora")
            found.setdefault(f"{addition.kind}_hashes", {})[addition.name] = digest
    return found


# ------------------------------------------------------------------------------------------------------- whose it is


def _check_lora(lora: Addition, model: Model, settings) -> None:
    entries = checkpoints.header(lora.path)
    joined = "\n".join(entries)
    for sign, title in _RELATIVES:
        if sign in joined:
            raise BadInput(
                f"{lora.called} is {title}, which cannot be put on a model here.",
                "Take a plain LoRA of it, if there is one.",
            )
    for sign, title in _FOREIGN:
        if sign in joined:
            raise _not_for(lora, title, model)
    if not _DOWN.search(joined):
        raise BadInput(
            f"{lora.called} is not a LoRA.", f"Look at what {lora.path} is, and put it into the folder of its kind."
        )
    signed = {name for name, row in FAMILIES.items() if any(sign in joined for sign in row.lora_signs)}
    if signed or FAMILIES[model.family].flow:
        _check_transformer_lora(lora, model, settings, signed, entries)
        return
    width = _width(entries, r"attn2.*to_k")
    if width:
        if width != models.config_of(model, "unet", settings.assets).get("cross_attention_dim"):
            raise _not_for(lora, _title(_WIDTHS.get(width, "")) or f"models with prompts {width} numbers wide", model)
        return
    family = "sdxl" if re.search(r"lora_te2|text_encoder_2\.", joined) else _stated(entries.get("__metadata__", {}))
    if family and family != model.family.removesuffix("-refiner"):
        raise _not_for(lora, _title(family), model)


def _check_transformer_lora(lora: Addition, model: Model, settings, signed: set[str], entries: dict[str, Any]) -> None:
    """`signed`: the families whose names its tensors have. Flux and SD3 share some; then its width tells."""
    if model.family not in signed:
        stated = _stated(entries.get("__metadata__", {})) or _WIDTHS.get(_width(entries, r"attn2.*to_k"), "")
        raise _not_for(lora, " or ".join(_title(name) for name in sorted(signed)) or _title(stated) or "another kind of model", model)
    main = models.config_of(model, "transformer", settings.assets)
    own = main.get("dim") or main["num_attention_heads"] * main["attention_head_dim"]
    width = _width(entries, r"attn.*to_[qk]\b|attn_qkv|attn\.qkv|attention.*to_[qk]")
    if width and width != own:
        raise _not_for(lora, f"models {width} numbers wide", model)


def _width(entries: dict[str, Any], module: str) -> int:
    """How wide the model is, at the first module of such a name, for which this LoRA was made; 0 if it has none."""
    names = (name for name in entries if _DOWN.search(name) and re.search(module, name) and len(entries[name]["shape"]) > 1)
    return next((entries[name]["shape"][1] for name in names), 0)


def _title(family: str) -> str:
    return FAMILIES[family].title if family in FAMILIES else ""


def _stated(metadata: dict[str, Any]) -> str:
    values = [str(metadata.get(key, "")).lower() for key in ("modelspec.architecture", "ss_base_model_version")]
    return next((family for start, family in _STATED for value in values if value.startswith(start)), "")


def _check_embedding(embedding: Addition, model: Model, settings) -> None:
    if FAMILIES[model.family].flow:
        raise BadInput(f"{_title(model.family)} reads no embeddings, and the prompt names '{embedding.name}'.", "Leave that word out.")
    entries = {name: entry for name, entry in checkpoints.header(embedding.path).items() if name != "__metadata__"}
    widths = {entry["shape"][-1] for entry in entries.values() if entry["shape"]}
    parts = FAMILIES[model.family].encoders
    fitting = {models.config_of(model, part, settings.assets).get("hidden_size") for part in parts}
    if widths != fitting:
        title = (
            "SDXL" if len(widths) == 2 else _title(_WIDTHS.get(max(widths, default=0), "")) or "another kind of model"
        )
        raise _not_for(embedding, title, model)


def _check_vae(vae: Addition, model: Model, settings) -> None:
    own = models.config_of(model, "vae", settings.assets)
    if model.family == "pocket":
        raise BadInput(
            "Model 'pocket' has a decoder of its own, and no other VAE fits it.",
            "Leave the VAE out, or choose another model.",
        )
    if vae.path.is_dir():
        config = checkpoints.config_in(vae.path)
        kind = config.get("_class_name")
        other_scale = kind == own.get("_class_name") and _scale(config) != _scale(own)
        if kind not in _VAES or config.get("latent_channels") != own.get("latent_channels", 4) or other_scale:
            raise _not_for(vae, {0.18215: "SD1.5", 0.13025: "SDXL"}.get(_scale(config), "another kind of model"), model)
        return
    entries = checkpoints.header(vae.path)
    kernel = next((entry["shape"] for name, entry in entries.items() if name.endswith("decoder.conv_in.weight") and len(entry["shape"]) > 1), None)
    if kernel is None:
        raise BadInput(
            f"{vae.called} is not a VAE.", f"Look at what {vae.path} is, and put it into the folder of its kind."
        )
    family = _stated(entries.get("__metadata__", {}))
    if kernel[1] != own.get("latent_channels", 4) or family and family != model.family:
        raise _not_for(vae, _title(family) or f"models with {kernel[1]} latent channels", model)


def _check_refiner(refiner: Addition, model: Model, settings) -> None:
    own = models.find(refiner.name, settings)
    if model.family != "sdxl" or own.family not in ("sdxl", "sdxl-refiner"):
        raise BadInput(
            f"'{refiner.name}' is {_title(own.family)} and '{model.id}' {_title(model.family)}: only SDXL is refined, by SDXL.",
            "Leave the refiner out, or choose other models.",
        )


def _scale(config: dict[str, Any]) -> float:
    return config.get("scaling_factor", 0.18215)


_VAES = frozenset({"AutoencoderKL", "AutoencoderTiny"})
_CHECKS = {"lora": _check_lora, "embedding": _check_embedding, "vae": _check_vae, "refiner": _check_refiner}


def _not_for(addition: Addition, title: str, model: Model) -> BadInput:
    own = _title(model.family)
    kind = KINDS[addition.kind][1]
    return BadInput(
        f"{addition.called} is made for {title}, and model '{model.id}' is {own}.",
        f"Choose a model of its kind, or another {kind}.",
    )


# --------------------------------------------------------------------------------------------------------- places


def rows(kind: str) -> dict[str, dict]:
    """The catalogue's rows of that kind, by name."""
    return settings_module.config("models").get("loras", {}) if kind == "lora" else {}


def _stored(kind: str, settings) -> list[Path]:
    folder = settings.models / KINDS[kind][0]
    files = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in {".safetensors", *models.PICKLES} and path.is_file()
    ]
    if kind == "vae":
        folders = [path.parent for path in folder.glob("*/config.json")]
        files = [*folders, *(path for path in files if path.parent not in folders)]
    return sorted(files, key=lambda path: (path.suffix.lower() in models.PICKLES, path))


def _name(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _long_name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _weight(text: str, said: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not -MAX_WEIGHT <= value <= MAX_WEIGHT:
        raise BadInput(
            f"'{text}' is no weight of a LoRA (in: {said}).", "Write a number such as 0.8 after the name: moon:0.8"
        )
    return value
