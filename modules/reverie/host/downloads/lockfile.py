"""A set-up in one file: the WebUI and its commit, its extensions and theirs, the person's own rows of those, the models by SHA-256, and
what was chosen.

    freeze(settings)            → SetUp, notes       dump(setup) → YAML that people can read
    read(text)                  → SetUp              BadInput in one sentence where it cannot be used
    plan(setup, settings)       → Plan               what is here is linked, the rest comes by its address and has to have its sum
    restore(setup, plan, …)     → Outcome            models, WebUI at that commit, choices

No token and no path of the machine is in it: a model without an address is named by its sum alone.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Callable

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from reverie import __version__
from reverie.errors import BadInput, ReverieError
from reverie.host import choices as choosing
from reverie.host import downloads, links
from reverie.host.choices import launch_options
from reverie.host.downloads import own_rows, planning, provision, survey
from reverie.host.downloads.planning import Found, Plan
from reverie.host.resources import FOLDERS, Link, Resource
from reverie.settings import Settings

FORMAT = 1
MAX_BYTES, MAX_MODELS = 8 << 20, 20_000
HEAD = "# A set-up of SD-Reverie. On another machine: reverie restore THIS-FILE\n"


def _address(text: str) -> str:
    if text and (not re.fullmatch(r"https?://[^\s\x00-\x1f\x7f]{1,2000}", text) or re.match(r"https?://[^/]*@", text)):
        raise ValueError("an address begins with https:// and has no login in it")
    return text


Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}\z")]
Commit = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{7,64})?\z")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]{0,79}\z")]
Address = Annotated[str, AfterValidator(_address)]
OwnRows = Annotated[dict[str, list[dict[str, Any]]], AfterValidator(own_rows.check)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LockedModel(_Part):
    """`url` "" says that nobody knows where it came from."""

    kind: str
    name: str
    sha256: Hash
    size: int = Field(0, ge=0, lt=2**53)
    url: Address = ""

    def model_post_init(self, _: Any) -> None:
        if self.kind not in FOLDERS:
            raise ValueError(f"'{self.kind}' is no kind of model")
        if fault := planning.name_fault(self.kind, self.name):
            raise ValueError(f"the name '{self.name}' {fault}")


class LockedCode(_Part):
    """A WebUI or an extension: `way` it was had, and exactly what."""

    id: Name
    way: Annotated[str, StringConstraints(pattern=r"^(package|git)\z")] = "git"
    git: Address = ""
    commit: Commit = ""
    package: Address = ""
    sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?\z")] = ""


class SetUp(_Part):
    format: int = FORMAT
    made_with: str = __version__
    webui: LockedCode | None = None
    extensions: tuple[LockedCode, ...] = Field((), max_length=500)
    models: tuple[LockedModel, ...] = Field((), max_length=MAX_MODELS)
    own_rows: OwnRows = {}
    choices: dict[str, Any] = {}


# ------------------------------------------------------------------------------------------------------------- freeze


def freeze(settings: Settings) -> tuple[SetUp, list[str]]:
    """The set-up of this storage, and what a person should know of what is not in it, or cannot be had again elsewhere."""
    notes: list[str] = []
    chosen = _portable(choosing.load(settings), notes)
    models = _models(settings)
    lost = [model.name for model in models if not model.url]
    if lost:
        notes.append(f"Without an address, so to be brought by hand elsewhere: {', '.join(lost[:10])}{' …' if len(lost) > 10 else ''}.")
    webui, extensions = _code(chosen.webui, settings, notes) if chosen.webui else (None, ())
    own = own_rows.of(chosen.webui, {*chosen.extensions, *(one.id for one in extensions)}, settings, notes) if chosen.webui else {}
    told = {key: value for key, value in json.loads(choosing.export(chosen)).items() if key != "format"}
    return SetUp(webui=webui, extensions=extensions, models=tuple(models), own_rows=own, choices=told), notes


def dump(setup: SetUp) -> str:
    import yaml

    told = setup.model_dump(mode="json", exclude_defaults=True)
    told = {"format": setup.format, "made_with": setup.made_with, **told}
    return HEAD + yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=4096)


def _models(settings: Settings) -> list[LockedModel]:
    """What lies in storage/models: our links by what the depot knows, and files put there by hand by their sum."""
    from reverie.host.depot import MODEL_ENDS, Depot

    kinds = {folder: kind for kind, folder in FOLDERS.items()}
    with Depot(settings.storage) as depot:
        ours = {Path(row.path): row.sha256 for row in depot.links(survey.VIEW)}
        urls = {row.sha256: row.url for row in reversed(depot.find()) if row.url.startswith(("http://", "https://"))}
        found = []
        for path in sorted(settings.models.rglob("*")) if settings.models.is_dir() else ():
            place = path.relative_to(settings.models)
            if len(place.parts) < 2 or place.parts[0] not in kinds or not path.is_file() or path not in ours and path.suffix not in MODEL_ENDS:
                continue
            kind, name = kinds[place.parts[0]], Path(*place.parts[1:]).as_posix()
            if not planning.name_fault(kind, name):
                digest = ours.get(path) or depot.hash_of(path)
                found.append(LockedModel(kind=kind, name=name, sha256=digest, size=path.stat().st_size, url=urls.get(digest, "")))
    return found


def _code(id: str, settings: Settings, notes: list[str]) -> tuple[LockedCode | None, tuple[LockedCode, ...]]:
    from reverie.host import webuis
    from reverie.host.webuis import extensions

    ui = webuis.find(id, settings)
    receipt = webuis.receipt(ui, settings)
    if not receipt:
        notes.append(f"{ui.title} is chosen and not installed, so no commit of it is held.")
        return None, ()
    return _locked(id, receipt, notes), tuple(_locked(row.get("id", name), row, notes) for name, row in extensions.installed(ui, settings).items())


def _locked(id: str, receipt: dict[str, Any], notes: list[str]) -> LockedCode:
    git, package = (receipt.get(name, "") if _is_address(receipt.get(name, "")) else "" for name in ("git", "package"))
    if (receipt.get("git") or receipt.get("package")) and not (git or package):
        notes.append(f"{id} came from a place of this machine; elsewhere it is had from its catalogue's row.")
    way = receipt.get("way") or ("package" if receipt.get("package") else "git")
    return LockedCode(id=id, way=way, git=git, package=package, commit=receipt.get("commit", ""), sha256=receipt.get("sha256", ""))


def _is_address(text: str) -> bool:
    try:
        return bool(text and _address(text))
    except ValueError:
        return False


def _portable(chosen: choosing.Choices, notes: list[str]) -> choosing.Choices:
    """The choices without what means something on this machine only."""
    own = [link for link in choosing.own_links(chosen) if not _is_place(link.address)]
    fields: dict[str, Any] = {"links": "\n".join(f"{link.kind}:{link.address}".lstrip(":") + (f"[{link.name}]" if link.name else "") for link in own)}
    if _is_place(chosen.model):
        notes.append(f"The model {Path(chosen.model).name} was chosen by its path, which is left out.")
        fields["model"] = choosing.Choices().model
    if launch_options.outside(chosen.launch_options, ()):
        notes.append("The launch options name places of this machine, so they are left out.")
        fields["launch_options"] = ""
    return chosen.model_copy(update=fields)


def _is_place(address: str) -> bool:
    return links.is_local(address) or address.lower().startswith("file:")


# ------------------------------------------------------------------------------------------------------------ restore


def read(text: str) -> SetUp:
    """The set-up in a file, which may come from somewhere else. BadInput names what cannot be used."""
    import yaml

    if len(text) > MAX_BYTES:
        raise BadInput(f"The set-up is {len(text) / 2**20:.0f} MB large.", "Give a file that reverie freeze has written.")
    try:
        told = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadInput(f"The set-up is no YAML: {' '.join(str(error).split())[:160]}.", "Give a file that reverie freeze has written.") from None
    if not isinstance(told, dict) or "format" not in told:
        raise BadInput("That is no set-up of SD-Reverie: it has no format.", "Give a file that reverie freeze has written.")
    if told["format"] != FORMAT:
        raise BadInput(f"The set-up is of format {str(told['format'])[:20]!r}, and this version reads {FORMAT}.", "Update SD-Reverie.")
    try:
        return SetUp.model_validate(told)
    except ValidationError as error:
        item = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in item["loc"])
        raise BadInput(f"The set-up cannot be used: {where}: {item['msg'].removeprefix('Value error, ')}.", "Mend that line, or freeze it again.") from None


def plan(setup: SetUp, settings: Settings) -> Plan:
    """What of its models is here, comes, or cannot be had. Pickles are allowed: they are named by their sum."""
    from reverie.host.depot import Depot

    with Depot(settings.storage) as depot:
        here = {model for model in setup.models if depot.has(model.sha256) or _lies_there(model, depot, settings)}
    found = survey.in_threads(lambda model: _found(model, model in here), list(setup.models))
    resources = [resource for one in found for resource in one.resources]
    return planning.make(found, survey.look(resources, settings), {model.name for model in setup.models})


def restore(
    setup: SetUp, plan: Plan, settings: Settings, on_progress: Callable[[Any], None] | None = None,
    on_line: Callable[[str], None] | None = None, cancelled: Callable[[], bool] = lambda: False, **how: Any,
) -> downloads.Outcome:
    """Do it: models, then the WebUI and its extensions as they were, then the choices. What cannot be had stops nothing else."""
    chosen, notes = choosing.import_(json.dumps(setup.choices), settings)
    notes += own_rows.tell(setup.own_rows, settings) if setup.own_rows else []
    outcome = downloads.carry_out(plan, settings, on_progress, cancelled, **how)
    outcome.notes += notes
    if outcome.cancelled:
        return outcome
    choosing.save(chosen, settings)
    if setup.webui:
        provision.guarded(outcome, lambda: _install(setup, settings, outcome, on_line or (lambda line: None), cancelled))
    return outcome


def _found(model: LockedModel, here: bool) -> Found:
    """One model as the planner takes it, its sum being that of the set-up."""
    from reverie.host import sources

    link = Link(f"{model.kind}/{model.name}", model.url, model.kind, model.name)
    if here:
        return Found(link, (Resource(model.kind, model.name, model.url, "", model.size, model.sha256),))
    if not model.url:
        return Found(link, refusal="It was a file without an address. Bring it into its folder yourself, then restore again.")
    try:
        told = sources.resolve(Link(model.url, model.url, model.kind, "" if "/" in model.name else model.name))
    except ReverieError as error:
        return Found(link, refusal=str(error))
    fits = [one for one in told if one.sha256 in ("", model.sha256)]
    if len(fits) != 1:
        return Found(link, refusal=f"{model.url} has other bytes now than the set-up's. Take it from another source, or leave it out.")
    return Found(link, (replace(fits[0], kind=model.kind, name=model.name, sha256=model.sha256),))


def _lies_there(model: LockedModel, depot, settings: Settings) -> bool:
    path = settings.models / FOLDERS[model.kind] / model.name
    return path.is_file() and path.stat().st_size == model.size and depot.hash_of(path) == model.sha256


def _install(setup: SetUp, settings: Settings, outcome: downloads.Outcome, on_line, cancelled) -> None:
    from reverie.host import webuis
    from reverie.host.webuis import extensions

    lock = setup.webui
    ui = _pinned(webuis.find(lock.id, settings), lock)
    rows = {row.id: row for row in extensions.all(settings)}
    wanted = tuple(_pinned(rows[one.id], one) if one.id in rows else one.id for one in setup.extensions)
    receipt = provision.install(ui, wanted, settings, outcome, on_line, cancelled, way=lock.way if getattr(ui, lock.way) else "auto")
    if lock.commit and receipt.get("commit") and receipt["commit"] != lock.commit:
        outcome.troubles.append(
            f"{ui.title} is here at commit {receipt['commit'][:12]}, not {lock.commit[:12]}. To have that one: reverie webui uninstall {ui.id}, then restore again."
        )


def _pinned(row: Any, lock: LockedCode) -> Any:
    """The catalogue's row, held at what the set-up says."""
    fields = {"git": lock.git, "commit": lock.commit} if lock.way == "git" else {"package": lock.package, "package_sha256": lock.sha256}
    return replace(row, **{name: value for name, value in fields.items() if value})
