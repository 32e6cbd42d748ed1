"""What was chosen in cell 2: one settings file, `storage/choices.json`. Tokens are never in it, and nothing in it reaches a shell.

    load, save        our own file, written whole or not at all; an older one (settings.json) is read when there is none yet
    changed           one field at a time, checked
    export, import_   the same as a text that can be given away; what comes from elsewhere is checked more strictly
    with_parameters   the same choices as papermill's parameters
    wanted            everything that is to be here before the start, as links
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from reverie import media
from reverie import settings as settings_module
from reverie.errors import BadInput
from reverie.host.choices import inside, launch_options, pasted
from reverie.host.resources import FOLDERS, Link

FORMAT = 2  # 1 was settings.json: engine and model alone
MAX_BYTES = 1 << 20
MAX_ITEMS, MAX_TEXT = 500, 100_000
STALE_S = 60
_writing = threading.Lock()  # the staged file is named after the process alone
_ID, _LINK = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", r"https?://[^\s\x00-\x1f\x7f]{1,2000}"

Identifier = Annotated[str, StringConstraints(pattern=rf"^{_ID}\z", max_length=100)]
Item = Annotated[str, StringConstraints(pattern=rf"^({_ID}|{_LINK})\z", max_length=2100)]
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*\z", max_length=500)]
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*\z", max_length=MAX_TEXT)]


def _items(**how: Any):
    return Field((), max_length=MAX_ITEMS, **how)


def _known_kind(kind: str) -> str:
    if kind and kind not in FOLDERS:
        raise ValueError(f"the kinds are {', '.join(FOLDERS)}")
    return kind


def _options(text: str) -> str:
    try:
        launch_options.words(text)
    except BadInput as error:
        raise ValueError(str(error)) from None
    return text


class Pick(BaseModel):
    """One version of a model on CivitAI, and which of its files; sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = Field(gt=0, lt=2**53)
    file: int = Field(0, ge=0, lt=2**53)
    title: Line = ""
    kind: Annotated[str, AfterValidator(_known_kind)] = ""
    base: Line = ""
    name: Line = ""
    size: int = Field(0, ge=0, lt=2**53)

    @property
    def url(self) -> str:
        return f"https://civitai.com/api/download/models/{self.version}" + (f"?fileId={self.file}" if self.file else "")


class Choices(BaseModel):
    """Everything that cell 2 asks. `webui` "" is the studio in the notebook itself; `engine` and `model` are what that draws with.
    The lists hold ids of the catalogue (configs/models.yaml) or links; `port` 0 is the WebUI's own."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    webui: Annotated[str, StringConstraints(pattern=r"^([a-z0-9][a-z0-9._-]{0,60})?\z")] = ""
    engine: Line = "diffusers"
    model: Line = "pocket"
    models: tuple[Item, ...] = _items()
    checkpoints: tuple[Item, ...] = _items()
    diffusion_models: tuple[Item, ...] = _items()
    vaes: tuple[Item, ...] = _items()
    loras: tuple[Item, ...] = _items()
    embeddings: tuple[Item, ...] = _items()
    controlnets: tuple[Item, ...] = _items()
    ipadapters: tuple[Item, ...] = _items()
    clip_visions: tuple[Item, ...] = _items()
    upscalers: tuple[Item, ...] = _items()
    text_encoders: tuple[Item, ...] = _items()
    detectors: tuple[Item, ...] = _items()
    civitai: tuple[Pick, ...] = _items()
    links: Text = ""
    extensions: tuple[Identifier, ...] = _items()
    launch_options: Annotated[str, AfterValidator(_options)] = ""
    tunnel: bool = True
    tunnel_order: tuple[Identifier, ...] = Field((), max_length=20)
    theme: Literal["dark", "light"] = "dark"
    port: int = Field(0, ge=0, le=65535)

    def with_item(self, key: str, item: Any, chosen: bool) -> Choices:
        """These choices with `item` in the list `key`, or without it."""
        rest = tuple(kept for kept in getattr(self, key) if kept != item)
        return self.model_copy(update={key: (*rest, item) if chosen else rest})


KINDS = {  # field → the kind of resource (host/resources.py) that a link in it is
    "models": "checkpoint", **{name: name.removesuffix("s") for name in Choices.model_fields if name.removesuffix("s") in FOLDERS and name != "clip"},
}
LISTS = tuple(name for name, field in Choices.model_fields.items() if field.annotation in (tuple[Item, ...], tuple[Identifier, ...]))
PARAMETERS = frozenset(Choices.model_fields)


# ------------------------------------------------------------------------------------------------------------ the file


def path(settings=None) -> Path:
    return (settings or settings_module.load()).storage / "choices.json"


def load(settings=None) -> Choices:
    """What was chosen last; the defaults where nothing was yet. BadInput in one sentence where the file cannot be used."""
    settings = settings or settings_module.load()
    try:
        data = path(settings).read_bytes()
    except FileNotFoundError:
        return _of_old_file(settings.storage / "settings.json")
    except OSError as error:
        raise BadInput(f"{path(settings)} cannot be read: {error.strerror}.", "Look at its rights, or delete it to choose anew.") from None
    return _read(data, str(path(settings)), pasted.Lifted())


def changed(choices: Choices, **fields: Any) -> tuple[Choices, list[str]]:
    """`choices` with these fields, and a word about each secret among them: those go into secrets.env. BadInput where one
    does not fit."""
    lifted = pasted.Lifted()
    clean = _checked({**choices.model_dump(mode="json"), **pasted.lift(fields, lifted)}, "This")
    _keep_secrets(lifted)
    return clean, lifted.notes


def save(choices: Choices, settings=None) -> None:
    """Write them, whole or not at all, and without secrets."""
    place = path(settings)
    with _writing:
        media.write_text(place, export(choices))
        for left in place.parent.glob(f".{place.name}.*.part"):  # of a process that was killed while it wrote
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > STALE_S:
                    left.unlink()


def export(choices: Choices) -> str:
    """The settings file as text, without secrets: what is at its default is left out."""
    data = choices.model_dump(mode="json", exclude_defaults=True)
    return json.dumps({"format": FORMAT, **pasted.lift(data, pasted.Lifted())}, indent=2, ensure_ascii=False) + "\n"


def import_(text: str | bytes, settings=None) -> tuple[Choices, list[str]]:
    """Choices from a text of somebody else's, and what is to be said of it; nothing is saved but tokens that stood in links.

    BadInput in one sentence for what cannot be used: not JSON, wrong types, too much, options for a shell, paths that lead out.
    """
    settings = settings or settings_module.load()
    lifted = pasted.Lifted()
    choices = _read(text if isinstance(text, bytes) else text.encode("utf-8", "replace"), "The settings file", lifted)
    _check_paths(choices, settings)
    _keep_secrets(lifted)
    return choices, lifted.notes


def _read(data: bytes, what: str, lifted: pasted.Lifted) -> Choices:
    if len(data) > MAX_BYTES:
        raise BadInput(f"{what} is {len(data) / 2**20:.1f} MB large.", "A settings file has a few kilobytes: choose another.")
    try:
        found = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise BadInput(f"{what} is no settings file: it is not JSON.", "Choose a file that Export has written.") from None
    if not isinstance(found, dict):
        raise BadInput(f"{what} is no settings file: it has no fields.", "Choose a file that Export has written.")
    number = found.pop("format", 1)
    if type(number) is not int or not 1 <= number <= FORMAT:
        raise BadInput(f"{what} is of format {str(number)[:20]!r}, and this version reads up to {FORMAT}.", "Update SD-Reverie, or export it again from an older one.")
    if unknown := [str(name)[:40] for name in found if name not in PARAMETERS]:
        lifted.note(f"{what} has fields that nothing here knows; they were left out: {', '.join(pasted.lift(unknown[:10], lifted))}.")
    return _checked(pasted.lift({name: value for name, value in found.items() if name in PARAMETERS}, lifted), what)


def _checked(data: dict[str, Any], what: str) -> Choices:
    try:
        return Choices.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise BadInput(f"{what} cannot be used: {_sentence(error)}.", "Mend that field, or leave it out.") from None


def _sentence(error: ValidationError) -> str:
    """The first thing that does not fit, without showing more than a little of it."""
    item = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in item["loc"]) or "its text"
    said = item["msg"].removeprefix("Value error, ").rstrip(".")
    said = "this is neither an id nor a link" if item["type"] == "string_pattern_mismatch" else said[:1].lower() + said[1:]
    shown = item["input"] if isinstance(item["input"], (str, int, float, bool)) else type(item["input"]).__name__
    return f"{where}: {said}" if "launch option" in said else f"{where}: {said} (it is {str(shown)[:40]!r})"


def _of_old_file(old: Path) -> Choices:
    """Format 1: {"engine": …, "model": …}. What cannot be read is as if nothing had been chosen."""
    with contextlib.suppress(OSError, ValueError, BadInput):
        found = json.loads(old.read_text("utf-8"))
        return _checked({name: found[name] for name in ("engine", "model") if found.get(name)}, str(old))
    return Choices()


def _keep_secrets(lifted: pasted.Lifted) -> None:
    from reverie.host import secrets

    for name, value in lifted.secrets.items():
        if secrets.token(name):
            lifted.note(f"A token that stood in a link was taken out; {name} is set already and stays as it is.")
            continue
        secrets.keep(name, value)
        lifted.note(f"A token that stood in a link was taken out and is kept as {name} in {secrets.file()}.")


def _check_paths(choices: Choices, settings) -> None:
    """What comes from elsewhere names no files of this machine but those of the project and its storage."""
    folders = (settings.storage, settings.root)
    places = [choices.model, choices.engine, *(link.address for link in own_links(choices))]
    place = next((place for place in places if inside.leads_out(place, folders)), "") or launch_options.outside(choices.launch_options, folders)
    if place:
        raise BadInput(f"The settings file leads out of the project's folders: '{place[:80]}'.", "Take that out of the file, or type it in yourself.")


# ----------------------------------------------------------------------------------------------- papermill and cell 3


def with_parameters(choices: Choices, given: dict[str, Any]) -> Choices:
    """`choices` under what papermill gives: lists also as text with commas or spaces, CivitAI versions as `version` or
    `version/file`, `tunnel` also as the name of one. BadInput names what does not fit.

    `loras` is a parameter of the studio too ("moon:0.8"): only what is a link or a row of the catalogue is meant for here.
    """
    found: dict[str, Any] = {}
    for name in PARAMETERS & set(given):
        value = given[name]
        if name == "tunnel":
            found |= _tunnel(value)
        elif name == "civitai":
            found[name] = [_pick(item) for item in several(value)]
        elif name in (*LISTS, "tunnel_order"):
            items = several(value)
            found[name] = _to_fetch(items) if name == "loras" else items
        elif name == "port":
            found[name] = int(value) if str(value).isdecimal() else value
        else:
            found[name] = str(value)
    return changed(choices, **found)[0]


def is_link(item: str) -> bool:
    return bool(re.fullmatch(_LINK, item))


def wanted(choices: Choices) -> list[Link]:
    """Everything that is to be here before the start: chosen rows, picks, own links, and the studio's model if it has a row."""
    rows = settings_module.config("models").get("models", {})
    found = [Link(item, item, KINDS[key] if is_link(item) else "") for key in KINDS for item in getattr(choices, key)]
    if choices.model in rows and not rows[choices.model].get("bundled") and choices.model not in choices.models:
        found.insert(0, Link(choices.model, choices.model))
    found += [Link(pick.title or pick.url, pick.url, pick.kind) for pick in choices.civitai]
    return found + own_links(choices)


def own_links(choices: Choices) -> list[Link]:
    """The links that were typed in. BadInput names the line that is none."""
    from reverie.host import links

    return links.parse(choices.links)


def several(value: Any) -> list[str]:
    """A list, or text with commas or blanks between, as a list of words."""
    items = value if isinstance(value, (list, tuple)) else re.split(r"[\s,]+", str(value))
    return [str(item).strip() for item in items if str(item).strip()]


def _to_fetch(items: list[str]) -> list[str]:
    rows = settings_module.config("models").get("loras", {})
    plain = (item if is_link(item) else item.partition(":")[0] for item in items)
    return [item for item in plain if is_link(item) or item in rows]


def _tunnel(value: Any) -> dict[str, Any]:
    text = str(value).strip().lower()
    if text in ("", "0", "no", "off", "false", "none"):
        return {"tunnel": False}
    return {"tunnel": True} if text in ("1", "yes", "on", "true") else {"tunnel": True, "tunnel_order": several(text)}


def _pick(item: str) -> dict[str, int]:
    found = re.fullmatch(r"(\d{1,15})(?:/(\d{1,15}))?", item) or re.search(r"(?:modelVersionId=|download/models/)(\d{1,15})(?:\?fileId=(\d{1,15}))?", item)
    if not found:
        raise BadInput(f"'{item[:60]}' is no version of a model on CivitAI.", "Give its number, as in civitai=128713.")
    return {"version": int(found[1]), "file": int(found[2] or 0)}
