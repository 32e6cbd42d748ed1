"""A file that has just come: is it what was asked for, and what is saved beside it. No tensor is loaded."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from reverie import checkpoints
from reverie.errors import BadInput, FetchFailed
from reverie.families import FAMILIES
from reverie.host.resources import Resource

PREVIEW_S, PREVIEW_BYTES = 20, 12 << 20
PICTURES = {b"\x89PNG\r\n\x1a\n": ".png", b"\xff\xd8\xff": ".jpeg", b"RIFF": ".webp"}

# What only a file of that kind has in its tensors' names. The first that fits is taken.
_SIGNS = (
    ("controlnet", ("control_model.", "controlnet_cond_embedding.", "lora_controlnet", "controlnet_blocks.")),
    ("lora", ("lora_down.", "lora_up.", ".lora_A.", ".lora_B.", ".hada_w1_a", ".lokr_w1")),
)
# Kinds that are told from each other; of other kinds (an IP-Adapter, a motion module) nothing is known that would be sure.
_TOLD = frozenset({"checkpoint", "diffusion_model", "lora", "vae", "controlnet", "embedding", "text_encoder"})

log = logging.getLogger("reverie.downloads")


def examine(path: Path, resource: Resource) -> tuple[Resource, tuple[str, ...]]:
    """The resource as its bytes say it is (its kind mended where it was wrong), and notes on that.

    FetchFailed where a file that calls itself safetensors is none, or is not whole.
    """
    if not resource.name.lower().endswith(".safetensors"):
        return resource, ()
    try:
        entries = checkpoints.header(path)
    except BadInput as error:
        why = error.what.partition("safetensors file: ")[2].rstrip(".") or "its header cannot be read"
        raise FetchFailed(
            f"What came for '{resource.name}' is no whole safetensors file: {why}.",
            f"Look at {resource.about.get('page') or resource.url} whether the source has it whole.",
        ) from None
    kind = _kind_of(entries) if resource.kind in _TOLD else ""
    notes: tuple[str, ...] = ()
    if kind and kind != resource.kind and not _both(kind, resource.kind):
        notes = (f"it is a {_words(kind)}, not a {_words(resource.kind)}, and went where those belong",)
        resource = replace(resource, kind=kind)
    return resource, (*notes, *_family_note(path, resource))


def _kind_of(entries: dict[str, Any]) -> str:
    names = [name for name in entries if name != "__metadata__"]
    joined = "\n".join(names)
    for kind, signs in _SIGNS:
        if any(sign in joined for sign in signs):
            return kind
    denoiser = any(name.startswith(("model.diffusion_model.", "double_blocks.", "joint_blocks.", "diffusion_model.")) for name in names)
    decoder = any(name.endswith("decoder.conv_in.weight") for name in names)
    reader = any(name.startswith(("cond_stage_model.", "conditioner.", "text_encoders.")) for name in names)
    if denoiser:
        return "checkpoint" if decoder or reader else "diffusion_model"
    if decoder and not reader:
        return "vae"
    return "embedding" if set(names) in ({"emb_params"}, {"clip_l", "clip_g"}) else ""


def _both(one: str, other: str) -> bool:
    """A denoiser alone also lies among the checkpoints for some WebUIs (Forge), and whole files among the denoisers."""
    return {one, other} == {"checkpoint", "diffusion_model"} and other == "diffusion_model"


def _words(kind: str) -> str:
    return {"lora": "LoRA", "vae": "VAE", "controlnet": "ControlNet"}.get(kind, kind.replace("_", " "))


def _family_note(path: Path, resource: Resource) -> tuple[str, ...]:
    """A word where the tensors tell of another family than the source."""
    if resource.kind not in ("checkpoint", "diffusion_model") or resource.family not in FAMILIES:
        return ()
    try:
        told = checkpoints.family_of(path)[0]
    except BadInput:
        return ()
    titles = FAMILIES[told].title, FAMILIES[resource.family].title
    return () if told == resource.family else (f"it is made for {titles[0]}; its source says {titles[1]}",)


# ------------------------------------------------------------------------------------------------------------ sidecars


def sidecars(resource: Resource) -> dict[str, bytes]:
    """What belongs beside the model, by the end of its name: what the source says of it (`.civitai.info`) and its picture
    (`.preview.png` or `.preview.jpeg`), as the WebUIs' extensions look for them. A picture that cannot be had is no error."""
    found: dict[str, bytes] = {}
    if resource.source == "civitai" and resource.about:
        found[".civitai.info"] = (json.dumps(_civitai_info(resource), ensure_ascii=False, indent=2, default=str) + "\n").encode()
    if resource.preview:
        data = _picture(resource.preview)
        ending = next((ending for magic, ending in PICTURES.items() if data.startswith(magic)), "")
        found |= {f".preview{ending}": data} if ending else {}
    return found


def _civitai_info(resource: Resource) -> dict[str, Any]:
    """What is known of the version in the words of CivitAI's API, which is what the extensions read."""
    about = resource.about
    ids = re.search(r"/models/(\d+)\?modelVersionId=(\d+)", str(about.get("page", "")))
    file = {"name": resource.name, "sizeKB": resource.size / 1024, "primary": True, "hashes": {"SHA256": resource.sha256.upper()}, "downloadUrl": resource.url}
    return {
        "id": int(ids[2]) if ids else 0, "modelId": int(ids[1]) if ids else 0, "name": about.get("version", ""), "baseModel": about.get("base_model", ""),
        "trainedWords": about.get("trained_words", []), "publishedAt": about.get("published", ""), "downloadUrl": resource.url,
        "model": {"name": about.get("title", ""), "type": about.get("type", ""), "nsfw": bool(about.get("nsfw"))},
        "files": [file], "images": [{"url": resource.preview}] if resource.preview else [],
    }


def _picture(url: str) -> bytes:
    """A small picture's bytes; none if it cannot be had soon, or is too large."""
    import httpx

    data = b""
    try:
        with httpx.stream("GET", url, timeout=PREVIEW_S, follow_redirects=True) as answer:
            answer.raise_for_status()
            for chunk in answer.iter_bytes():
                data += chunk
                if len(data) > PREVIEW_BYTES:
                    return b""
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        log.info("preview=failed error=%s", type(error).__name__)
        return b""
    return data
