"""What is asked for, what can be had, and from where: the words that links, sources, plan, fetch and depot share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# kind → our own folder in storage/models. What each WebUI calls it is in configs/webuis.yaml.
FOLDERS = {
    "checkpoint": "checkpoints",
    "vae": "vae",
    "lora": "loras",
    "embedding": "embeddings",
    "controlnet": "controlnet",
    "upscaler": "upscale_models",
    "diffusion_model": "diffusion_models",
    "text_encoder": "text_encoders",
    "clip_vision": "clip_vision",
    "hypernetwork": "hypernetworks",
    "detector": "detectors",
    "sam": "sams",
    "animatediff": "animatediff_models",
    "ipadapter": "ipadapter",
    "vae_approx": "vae_approx",
    "diffusers": "diffusers",  # a whole folder; its files' names have the folder in them: "sd-turbo/unet/config.json"
    "clip": "clip",  # likewise
}


@dataclass(frozen=True)
class Link:
    """One thing that a person asked for, as parsed: `address` is a URL, a path, or an id of the catalogue; `kind` is one of
    FOLDERS or "" where nothing says it; `name` the wished file name or ""; `text` what was written, for messages."""

    text: str
    address: str
    kind: str = ""
    name: str = ""


@dataclass(frozen=True)
class Resource:
    """One file that can be had, with all that is known before it is fetched.

    `url` is the address that stays true (no signature, no token): with it the file can be resolved again. `name` is relative
    to the kind's folder; it may have "/" in it only for whole folders. `size` in bytes, 0 where the source does not tell;
    `sha256` in lower case, "" likewise. `source` names the module of `sources` that can open it. `token` is the secret that it
    needs ("" = none): CIVITAI_TOKEN, HF_TOKEN. `family` is a row of reverie.families, or "". `about` is what the source says of it
    (title, version, base model, trained words, licence, page): it is saved beside the file. `preview` is a picture's URL.
    """

    kind: str
    name: str
    url: str
    source: str
    size: int = 0
    sha256: str = ""
    token: str = ""
    family: str = ""
    preview: str = ""
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The same for the same file: names its staging files, so that a later run resumes."""
        import hashlib

        return hashlib.sha256((self.sha256 or self.url).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Address:
    """Where the bytes are to be had right now: redirects are followed, and `headers` go to that host only. It may expire."""

    url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)
