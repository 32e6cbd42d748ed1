"""How a picture was made, written into the file and read back, in three forms: our own (the whole task), A1111's infotext
and ComfyUI's graph. Reading tries them in that order; every reader returns the same plain dict (see `FIELDS`).

Infotext grammar: prompt lines; `Negative prompt: …`; a last line `Key: value, …` where a value with comma, colon or
newline is a JSON string, and a last line with under three pairs belongs to the prompt.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path, PurePath
from typing import Any

from reverie.errors import BadInput, NotFound

FIELDS = ("prompt", "negative", "model", "width", "height", "steps", "cfg", "seed", "sampler", "denoise")
OWN_KEY = "reverie"

_INFOTEXT_KEYS = {
    "Steps": ("steps", int), "Sampler": ("sampler", str), "CFG scale": ("cfg", float), "Seed": ("seed", int),
    "Model": ("model", str), "Model hash": ("model_hash", str), "Denoising strength": ("denoise", float),
    "Schedule type": ("scheduler", str),
}
_HASHED = {"Lora hashes": "lora_hashes", "TI hashes": "embedding_hashes"}
_PAIR = re.compile(r'\s*([\w][\w \-/]*):\s*("(?:\\.|[^"\\])*"|[^,]*)(?:,|$)')
_USER_COMMENT, _EXIF_IFD, _COMFY_WEBP = 0x9286, 0x8769, (0x0110, 0x010F)


def infotext(recipe: dict[str, Any]) -> str:
    """A1111's `parameters` text of a recipe."""
    pairs = {
        "Steps": recipe["steps"], "Sampler": recipe.get("sampler") or "euler", "CFG scale": recipe["cfg"], "Seed": recipe["seed"],
        "Size": f"{recipe['width']}x{recipe['height']}", "Model": _file(recipe["model"]),
    }
    if recipe.get("model_hash"):
        pairs["Model hash"] = recipe["model_hash"][:10]
    if recipe.get("kind") in ("img2img", "inpaint"):
        pairs["Denoising strength"] = recipe["denoise"]
    if recipe.get("retouch"):
        pairs["Mask blur"] = recipe["retouch"]["blur"]
    if recipe.get("vae"):
        pairs["VAE"] = _file(recipe["vae"])
        pairs |= {"VAE hash": digest[:10] for digest in recipe.get("vae_hashes", {}).values()}
    if recipe.get("refiner"):
        pairs |= {"Refiner": _file(recipe["refiner"]), "Refiner switch at": f"{1 - recipe['refine']:g}"}
    for name, field in _HASHED.items():
        if recipe.get(field):
            pairs[name] = ", ".join(f"{_file(file)}: {digest[:12]}" for file, digest in recipe[field].items())
    pairs["Version"] = recipe.get("version", "SD-Reverie")
    lines = [recipe["prompt"] + "".join(f" <lora:{_file(name)}:{weight:g}>" for name, weight in recipe.get("loras", ()))]
    if recipe.get("negative"):
        lines.append(f"Negative prompt: {recipe['negative']}")
    lines.append(", ".join(f"{name}: {_quoted(str(value))}" for name, value in pairs.items()))
    return "\n".join(lines)


def _file(name: str) -> str:
    """What other programs call a model, LoRA or VAE: its file's name without the ending; a path of this machine is nobody else's."""
    name = PurePath(name).name if PurePath(name).is_absolute() else name
    return re.sub(r"(?i)\.safetensors$", "", name)


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r'[,:\n"]', value) else value


def parse_infotext(text: str) -> dict[str, Any]:
    """A recipe from A1111's infotext. Unknown keys are kept under `extra`."""
    *head, last = text.strip().split("\n")
    pairs = _PAIR.findall(last)
    if len(pairs) < 3:
        head, pairs = [*head, last], []
    body = "\n".join(head)
    prompt, _, negative = body.partition("\nNegative prompt:") if not body.startswith("Negative prompt:") else ("", "", body[16:])
    recipe: dict[str, Any] = {"prompt": prompt.strip(), "negative": negative.strip()}
    extra: dict[str, str] = {}
    for name, raw in pairs:
        value = _unquoted(raw.strip())
        if name == "Size":
            width, _, height = value.partition("x")
            recipe.update(width=_number(int, width), height=_number(int, height))
        elif name in _INFOTEXT_KEYS:
            field, convert = _INFOTEXT_KEYS[name]
            recipe[field] = _number(convert, value)
        else:
            extra[name] = value
    if extra:
        recipe["extra"] = extra
    return recipe


def _unquoted(value: str) -> str:
    if value.startswith('"'):
        try:
            return str(json.loads(value))
        except ValueError:
            return value
    return value


def _number(convert, value: str):
    try:
        return convert(value)
    except ValueError:
        return value


def comfy_graph(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe as a ComfyUI graph in API format (`/prompt` takes it; dropping the picture on ComfyUI loads it)."""
    sampler, scheduler = comfy_sampler(recipe.get("sampler") or "euler")
    loras, last = {}, "1"
    for number, (name, weight) in enumerate(recipe.get("loras", ()), 20):
        both = {"strength_model": weight, "strength_clip": weight, "model": [last, 0], "clip": [last, 1]}
        loras[str(number)] = ("LoraLoader", {"lora_name": f"{_file(name)}.safetensors", **both})
        last = str(number)
    vae = {"19": ("VAELoader", {"vae_name": f"{_file(recipe['vae'])}.safetensors"})} if recipe.get("vae") else {}
    nodes = {
        "1": ("CheckpointLoaderSimple", {"ckpt_name": f"{_file(recipe['model'])}.safetensors"}),
        **loras,
        **vae,
        "2": ("CLIPTextEncode", {"text": recipe["prompt"], "clip": [last, 1]}),
        "3": ("CLIPTextEncode", {"text": recipe.get("negative", ""), "clip": [last, 1]}),
        "4": ("EmptyLatentImage", {"width": recipe["width"], "height": recipe["height"], "batch_size": 1}),
        "5": ("KSampler", {
            "seed": recipe["seed"], "steps": recipe["steps"], "cfg": recipe["cfg"], "sampler_name": sampler, "scheduler": scheduler,
            "denoise": recipe.get("denoise", 1.0), "model": [last, 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0],
        }),
        "6": ("VAEDecode", {"samples": ["5", 0], "vae": ["19", 0] if vae else ["1", 2]}),
        "7": ("SaveImage", {"filename_prefix": "reverie", "images": ["6", 0]}),
    }
    return {number: {"class_type": name, "inputs": inputs} for number, (name, inputs) in nodes.items()}


def comfy_sampler(name: str) -> tuple[str, str]:
    """`'dpmpp_2m_karras'` → ComfyUI's `('dpmpp_2m', 'karras')`; without a schedule in the name: normal."""
    base, _, schedule = name.rpartition("_")
    if schedule in ("karras", "exponential") and base:
        return base, schedule
    return {"euler_a": "euler_ancestral", "unipc": "uni_pc"}.get(name, name), "normal"


def parse_comfy(graph: dict[str, Any]) -> dict[str, Any]:
    """A recipe from a ComfyUI API graph: the first sampler and what feeds it. Empty if it has none."""
    graph = {key: node for key, node in graph.items()
             if isinstance(node, dict) and isinstance(node.get("inputs"), dict)}
    samplers = (node["inputs"] for node in graph.values() if "Sampler" in str(node.get("class_type")))
    inputs = next((inputs for inputs in samplers if "positive" in inputs), None)
    if inputs is None:
        return {}
    recipe = {
        "prompt": _upstream(graph, inputs["positive"], "text") or "", "negative": _upstream(graph, inputs.get("negative"), "text") or "",
        "model": _upstream(graph, inputs.get("model"), "ckpt_name", "unet_name"),
        "width": _upstream(graph, inputs.get("latent_image"), "width"), "height": _upstream(graph, inputs.get("latent_image"), "height"),
        "steps": inputs.get("steps"), "cfg": inputs.get("cfg"), "seed": inputs.get("seed", inputs.get("noise_seed")),
        "sampler": inputs.get("sampler_name"), "scheduler": inputs.get("scheduler"), "denoise": inputs.get("denoise"),
    }
    recipe = {name: value for name, value in recipe.items() if value is not None and not isinstance(value, list)}
    loras = list(_loras(graph, inputs.get("model")))
    return {**recipe, "loras": loras} if loras else recipe


def _loras(graph, link):
    """(name, weight) of each LoraLoader between a sampler and its model, the model's next one first."""
    found, seen = [], set()
    while isinstance(link, list) and link and str(link[0]) not in seen:
        seen.add(str(link[0]))
        node = graph.get(str(link[0]), {})
        inputs = node.get("inputs", {})
        if str(node.get("class_type", "")).startswith("LoraLoader") and isinstance(inputs.get("lora_name"), str):
            found.insert(0, (inputs["lora_name"].removesuffix(".safetensors"), inputs.get("strength_model", 1.0)))
        link = inputs.get("model")
    return found


def _upstream(graph, link, *names: str):
    """The first plain value under one of `names`, following links backwards from `link`, breadth first."""
    waiting, seen = [link], set()
    while waiting:
        link = waiting.pop(0)
        if not isinstance(link, list) or not link or str(link[0]) in seen:
            continue
        seen.add(str(link[0]))
        inputs = graph.get(str(link[0]), {}).get("inputs", {})
        for name in names:
            if name in inputs and not isinstance(inputs[name], list):
                return inputs[name]
        waiting += list(inputs.values())
    return None


def read(path: Path, data: bytes | None = None) -> dict[str, Any]:
    """The recipe in a PNG, JPEG or WebP; `source` says which form it was found in. NotFound if there is none.

    `data` is what the file holds, where it was read already.
    """
    for source, recipe in _found(_texts(path if data is None else io.BytesIO(data), path)):
        if recipe:
            return {"source": source, **recipe}
    raise NotFound(f"{path} carries no recipe.", "Only pictures made by SD-Reverie, A1111-like WebUIs or ComfyUI do.")


def _found(texts: dict[str, str]):
    if OWN_KEY in texts:
        yield "reverie", _json(texts[OWN_KEY])
    if "parameters" in texts:
        yield "a1111", parse_infotext(texts["parameters"])
    if "prompt" in texts:
        yield "comfyui", parse_comfy(_json(texts["prompt"]))


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=lambda name: None)  # NaN, which ComfyUI writes and JSON has not
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _texts(opened: Path | io.BytesIO, path: Path) -> dict[str, str]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(opened) as image:
            texts = {key: value for key, value in image.info.items() if isinstance(value, str)}
            exif = image.getexif()
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist.", "Check the path.") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(f"{path} is not a picture that can be read ({error}).", "Give a PNG, JPEG or WebP.") from None
    comment = exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT)
    if comment:
        texts.setdefault("parameters", _user_comment(comment))
    for tag in _COMFY_WEBP:
        name, _, value = str(exif.get(tag, "")).partition(":")
        if name in ("prompt", "workflow"):
            texts.setdefault(name, value)
    return texts


def _user_comment(raw: bytes | str) -> str:
    if isinstance(raw, str):
        return raw
    if raw.startswith(b"UNICODE\0"):
        body = raw[8:]
        big = body[:2] == b"\xfe\xff" or (len(body) > 1 and body[0] == 0)
        return body.decode("utf-16-be" if big else "utf-16-le", "replace").lstrip("\ufeff")
    return raw.removeprefix(b"ASCII\0\0\0").decode("utf-8", "replace")
