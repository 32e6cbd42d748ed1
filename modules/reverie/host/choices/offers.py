"""What cell 2 has to offer: the rows of configs/models.yaml, whether they are here, whether this machine carries them, and what a
choice of them comes to. Nothing is asked of the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote

from reverie import models
from reverie import settings as settings_module
from reverie.errors import BadInput
from reverie.host import storage
from reverie.host.choices import KINDS, Choices, Pick, own_links
from reverie.host.resources import FOLDERS

# Base models as people name them: what the filter offers → the families that are meant.
BASES = {
    "SD1.5": ("sd15",), "SDXL": ("sdxl", "sdxl-refiner"), "Flux": ("flux",), "SD3": ("sd3",), "Z-Image": ("zimage",),
    "Video": ("wan", "ltx", "hunyuan", "cogvideo"),
}
_NAMES = {"sd21": "SD2.1", "pocket": "Pocket", **{family: base for base, families in BASES.items() for family in families}, "wan": "Wan", "ltx": "LTX"}
SMALLEST_CARD_GB = 3.5  # cards with less graphics memory are left aside, as models.advise does
TIGHT = 1.05  # by so much a model may want more than there is, and still run with parts of it moved out


@dataclass(frozen=True)
class Machine:
    """Memory in GiB (`vram_gb` 0: no card), free disk in bytes."""

    vram_gb: float
    ram_gb: float
    free_bytes: int

    @property
    def on_card(self) -> bool:
        return self.vram_gb >= SMALLEST_CARD_GB

    @property
    def memory(self) -> str:
        return f"{self.vram_gb:.0f} GB of graphics memory" if self.on_card else f"{self.ram_gb:.0f} GB of memory and no card"


@dataclass(frozen=True)
class Offer:
    """One row. `size` in bytes (0: not known) of what is fetched, rounded where `about`; not `fetchable`: it comes along, or the person put it there; `vram_gb` and `ram_gb` 0 where nobody said."""

    id: str
    key: str
    title: str
    family: str = ""
    size: int = 0
    about: bool = False
    vram_gb: float = 0.0
    ram_gb: float = 0.0
    here: bool = False
    fetchable: bool = True
    note: str = ""
    licence: str = ""

    @property
    def base(self) -> str:
        return _NAMES.get(self.family, self.family)


@dataclass(frozen=True)
class Total:
    """What a choice comes to, in bytes. `unknown`: things whose size nobody told; `untick`: what to leave out so that the rest has
    room, largest first; `heavy`: what this machine's memory will not carry."""

    chosen: int = 0
    number: int = 0
    to_fetch: int = 0
    unknown: int = 0
    free: int = 0
    untick: tuple[str, ...] = ()
    heavy: tuple[str, ...] = ()

    @property
    def lacking(self) -> int:
        return max(0, self.to_fetch - self.free)


@dataclass(frozen=True)
class _Thing:
    title: str
    size: int
    here: bool
    heavy: bool = field(default=False)


def machine(settings=None) -> Machine:
    settings = settings or settings_module.load()
    import psutil

    return Machine(models.vram_gb(), psutil.virtual_memory().total / 2**30, storage.free(settings.storage))


def all_offers(settings=None) -> dict[str, list[Offer]]:
    """Field of Choices → what can be chosen for it, in the catalogue's order."""
    settings = settings or settings_module.load()
    found = {"models": [_of_model(model) for model in models.all(settings)]}
    return found | {key: [_of_row(key, name, row, settings) for name, row in _rows(key).items()] for key in KINDS if key != "models"}


def fits(offer: Offer, here: Machine) -> str:
    """"fits", "tight" or "too large" for this machine's card, or its memory where there is no card; "" where nobody knows."""
    have, need = (here.vram_gb, offer.vram_gb) if here.on_card else (here.ram_gb, offer.ram_gb)
    if not need:
        return ""
    return "fits" if need <= have * 0.9 else "tight" if need <= have * TIGHT else "too large"


def total(choices: Choices, offers: dict[str, list[Offer]], here: Machine, settings=None) -> Total:
    """What these choices come to on this machine. The same thing chosen twice counts once."""
    things = list(_things(choices, offers, here, settings or settings_module.load()).values())
    coming = [thing for thing in things if not thing.here]
    to_fetch = sum(thing.size for thing in coming)
    untick, left = [], to_fetch
    for thing in sorted(coming, key=lambda thing: -thing.size):
        if left <= here.free_bytes:
            break
        untick.append(thing.title)
        left -= thing.size
    lines = _typed(choices)
    return Total(
        chosen=sum(thing.size for thing in things), number=len(things) + lines, to_fetch=to_fetch,
        unknown=sum(1 for thing in coming if not thing.size) + lines, free=here.free_bytes, untick=tuple(untick),
        heavy=tuple(thing.title for thing in things if thing.heavy),
    )


def _typed(choices: Choices) -> int:
    """How many links were typed in; while one is half typed, how many lines."""
    try:
        return len(own_links(choices))
    except BadInput:
        return sum(1 for line in choices.links.splitlines() if line.strip())


def _things(choices: Choices, offers: dict[str, list[Offer]], here: Machine, settings) -> dict[str, _Thing]:
    found = {}
    for key, rows in offers.items():
        known = {offer.id: offer for offer in rows}
        for item in getattr(choices, key):
            offer = known.get(item, Offer(item, key, item.rpartition("/")[2] or item))
            found[f"{key}/{item}"] = _Thing(offer.title, offer.size, offer.here, fits(offer, here) == "too large")
    drawn = next((offer for offer in offers.get("models", ()) if offer.id == choices.model and offer.fetchable), None)
    if drawn:
        found[f"models/{drawn.id}"] = _Thing(drawn.title, drawn.size, drawn.here, fits(drawn, here) == "too large")
    return found | {f"civitai/{pick.version}/{pick.file}": _Thing(pick.title or f"CivitAI {pick.version}", pick.size, is_here(pick, settings)) for pick in choices.civitai}


def is_here(pick: Pick, settings) -> bool:
    return bool(pick.kind and pick.name) and (settings.models / FOLDERS[pick.kind] / pick.name).is_file()


def _about(name: str) -> int:
    return int(1e9 * _rows("about_gb").get(name, 0))


def _rows(key: str) -> dict[str, dict]:
    return settings_module.config("models").get(key) or {}


def _of_model(model: models.Model) -> Offer:
    size = model.size or _about(model.id)
    return Offer(
        model.id, "models", model.title, model.family, size, not model.size, model.vram_gb, model.ram_gb, model.here, bool(model.url or model.repo), model.note, model.licence
    )


def _of_row(key: str, name: str, row: dict, settings) -> Offer:
    likes = _rows("families").get(row.get("family", ""), {})
    need = {part: float(row.get(part) or likes.get(part) or 0) for part in ("vram_gb", "ram_gb")}
    size = row.get("size") or int(1e9 * row.get("about_gb", 0)) or _about(name)
    return Offer(name, key, row["title"], row.get("family", ""), size, "size" not in row, here=_lies(key, name, row, settings), note=row.get("note", ""), licence=row.get("licence", ""), **need)


def _lies(key: str, name: str, row: dict, settings) -> bool:
    """Whether the row's file is in its folder, under the name that it gets there, or under its id."""
    folder = settings.models / FOLDERS[KINDS[key]]
    names = {row.get("name") or unquote(row["url"].split("?")[0].rpartition("/")[2]), f"{name}.safetensors"}
    generic = {"pytorch_lora_weights.safetensors", "diffusion_pytorch_model.safetensors", "model.safetensors"}
    return any((folder / file).is_file() for file in names - generic)
