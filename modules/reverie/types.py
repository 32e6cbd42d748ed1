"""The nouns that every layer shares: frozen, validated, JSON round trip."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, field_validator

Kind = Literal["txt2img", "img2img", "inpaint", "upscale"]
State = Literal["queued", "running", "succeeded", "failed", "cancelled", "quarantined"]
EventKind = Literal["queued", "started", "progress", "asset", "succeeded", "failed", "cancelled", "requeued", "note"]

FINISHED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled", "quarantined"})
MAX_SEED = 2**32 - 1
MAX_WEIGHT = 10.0  # of a LoRA, either way

# Fields of Task that came after the first pictures: not in the key while empty, so that those pictures stay theirs.
_YOUNGER = frozenset({"loras", "embeddings", "vae", "retouch", "refiner", "refine"})


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Retouch(_Frozen):
    """Which part of a start picture is painted anew, and how that is put back (`reverie.retouch` does it). All in pixels.

    `extend` is what the canvas has beyond the start picture: left, top, right, bottom. What the mask shows white, and all of
    `extend`, is new; that grows by `grow` and then fades out over `blur`. The engine sees only `box` of the canvas (left, top,
    right, bottom; it may reach past the canvas), at the task's width and height.
    """

    extend: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt, NonNegativeInt] = (0, 0, 0, 0)
    box: tuple[int, int, int, int]
    grow: int = Field(0, ge=0)
    blur: int = Field(0, ge=0)


class Task(_Frozen):
    """One picture to make (`count` of them, with seeds seed, seed+1, …). Seeds are resolved before a task is stored.

    Sizes are pixels and divisible by 8; `denoise` is 0..1 and matters where `inputs` (asset ids) has a picture.
    With `retouch` they are those of the part that is painted; the picture is as large as its start picture and what is put on.
    `loras` are (name, weight); `embeddings` are the textual inversions that the prompts name; `vae` replaces the model's.
    `refiner` is a model that draws the last `refine` (0..1) of the steps.
    `extra` holds what only some engines read, such as a file's path; it is part of the key.
    """

    kind: Kind = "txt2img"
    engine: str = "diffusers"
    prompt: str = ""
    negative: str = ""
    model: str = "pocket"
    family: str = ""
    width: int = Field(128, ge=8, le=16384)
    height: int = Field(128, ge=8, le=16384)
    steps: int = Field(20, ge=1, le=1000)
    cfg: float = Field(4.0, ge=0, le=100)
    seed: int = Field(0, ge=0, le=MAX_SEED)
    count: int = Field(1, ge=1, le=1000)
    sampler: str = ""
    denoise: float = Field(1.0, ge=0, le=1)
    inputs: tuple[str, ...] = ()
    loras: tuple[tuple[str, Annotated[float, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT)]], ...] = ()
    embeddings: tuple[str, ...] = ()
    vae: str = ""
    refiner: str = ""
    refine: float = Field(0.0, ge=0, le=1)
    retouch: Retouch | None = None
    extra: dict[str, Any] = {}

    @field_validator("width", "height")
    @classmethod
    def _divisible(cls, value: int) -> int:
        if value % 8:
            raise ValueError(f"{value} is not divisible by 8; nearest: {max(8, round(value / 8) * 8)}")
        return value

    def key(self, model_hash: str = "") -> str:
        """sha256 of the canonical JSON with the weights' hash: the same task again has the same key."""
        fields = self.model_dump(mode="json")
        fields = {name: value for name, value in fields.items() if value or name not in _YOUNGER}
        canonical = json.dumps([fields, model_hash], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def one(self, index: int) -> Task:
        """The task that makes only picture `index` of this one's `count`."""
        return self.model_copy(update={"seed": (self.seed + index) % (MAX_SEED + 1), "count": 1})


class Job(_Frozen):
    """A task on its way. `deaths` counts the sudden ends while it was running; times are seconds since the epoch."""

    id: str
    task: Task
    key: str
    session: str
    state: State = "queued"
    deaths: int = 0
    node: str = ""
    priority: int = 0
    error: str = ""
    error_class: str = ""
    created_at: float = 0.0
    finished_at: float = 0.0


class Event(_Frozen):
    """What happened to a job. `id` rises; `fraction` is 0..1; `preview` is a small JPEG in base64 or empty."""

    id: int = 0
    job: str
    session: str
    kind: EventKind
    fraction: float = 0.0
    preview: str = ""
    asset: str = ""
    error: str = ""
    note: str = ""
    at: float = 0.0


class Asset(_Frozen):
    """A picture in the library. `id` is the sha256 of the file's bytes; `path` is relative to the storage root."""

    id: str
    media: str = "image/png"
    width: int = 0
    height: int = 0
    bytes: int = 0
    path: str = ""
    job: str = ""
    index: int = 0
    recipe: dict[str, Any] = {}
    parents: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    rating: int = 0
    created_at: float = 0.0


def parse_size(text: str) -> tuple[int, int]:
    """`'1344x768'` → (1344, 768) in pixels. ValueError if it is not WxH."""
    match = re.fullmatch(r"\s*(\d{1,5})\s*[x×X*]\s*(\d{1,5})\s*", text)
    if not match:
        raise ValueError(f"'{text}' is not a size; write it as 512x512")
    return int(match[1]), int(match[2])


def validation_sentence(error) -> str:
    """A pydantic ValidationError as one sentence: `steps: Input should be greater than or equal to 1 (got 0)`."""
    parts = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "input"
        message = item["msg"].removeprefix("Value error, ")
        parts.append(f"{where}: {message} (got {item['input']!r})")
    return "; ".join(parts)
