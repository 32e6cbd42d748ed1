"""Extensions of the A1111 family and custom nodes of ComfyUI: rows of `configs/extensions.yaml` and the person's own in
`storage/webuis.yaml` (a list `extensions`), installed beside a WebUI. One that fails stops nothing else.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Callable, Sequence

from reverie import media
from reverie.errors import BadInput, Cancelled, HostFailed, Interrupted, NotFound, ReverieError
from reverie.host import webuis
from reverie.host.webuis import archives, bring_package, cloning, cpu_torch, requirements
from reverie.host.webuis import WebUI
from reverie.host.webuis.row import REQUIREMENT
from reverie.settings import Settings, config

RECEIPT = ".reverie-extension.json"


@dataclass(frozen=True)
class Extension:
    """One row. `webuis`, `not_in` and `builtin_in` name WebUIs by id or family."""

    id: str
    title: str = ""
    git: str = ""
    commit: str = ""
    package: str = ""
    package_sha256: str = ""
    folder: str = ""
    webuis: tuple[str, ...] = ()
    not_in: tuple[str, ...] = ()
    builtin_in: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    requirements: str = "requirements.txt"
    models: tuple[str, ...] = ()
    suggested: bool = False
    unchecked: tuple[str, ...] = ()
    note: str = ""

    def fits(self, ui: WebUI) -> bool:
        """Whether it works in this WebUI and is not built into it."""
        named = {ui.id, ui.family}
        return bool(ui.extensions) and bool(named & set(self.webuis)) and not named & {*self.not_in, *self.builtin_in}


@dataclass
class Report:
    """Ids: newly installed, there already, and what failed with its sentence."""

    installed: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def all(settings: Settings | None = None) -> list[Extension]:
    rows = [*config("extensions")["extensions"], *(_own_rows(settings) if settings else [])]
    return list({row.id: row for row in map(validate, rows)}.values())


def for_webui(ui: WebUI, settings: Settings | None = None) -> list[Extension]:
    """Those that this WebUI can have."""
    return [row for row in all(settings) if row.fits(ui)]


def install(
    ids: Sequence[str | Extension], ui: WebUI, settings: Settings, tell: Callable[[Any], None] = lambda step: None, cancelled: Callable[[], bool] = lambda: False,
) -> Report:
    """Install these (ids, or rows of which each says itself what is had) into a WebUI that is installed. Cancelled and Interrupted end
    it; everything else only that one extension."""
    rows = {one.id: one for one in ids if isinstance(one, Extension)}
    known, report = {row.id: row for row in all(settings)} | rows, Report()
    for id in dict.fromkeys(one.id if isinstance(one, Extension) else one for one in ids):
        try:
            row = known.get(id)
            if row is None:
                raise NotFound(f"There is no extension '{id}'.", f"For {ui.title} there are: {', '.join(other.id for other in for_webui(ui, settings))}.")
            _refuse_unfit(row, ui)
            (report.installed if _install(row, ui, settings, tell, cancelled) else report.there).append(id)
        except (Cancelled, Interrupted):
            raise
        except (ReverieError, OSError) as error:
            report.failed.append((id, str(error)))
    return report


def installed(ui: WebUI, settings: Settings) -> dict[str, dict[str, Any]]:
    """Folder's name → receipt of what we installed."""
    root = webuis.home(ui, settings) / ui.extensions
    return {path.parent.name: _receipt(path.parent) for path in sorted(root.glob(f"*/{RECEIPT}"))} if ui.extensions else {}


def validate(row: Any) -> Extension:
    """The row as an Extension. BadInput on the first thing that is wrong with it."""
    if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,79}", row["id"]):
        raise BadInput("A row of extensions has no usable id.", "Give it one of letters, digits, -, _ and dots.")
    where = f"Extension '{row['id']}'"
    made: dict[str, Any] = {}
    for spec in fields(Extension):
        value = row.get(spec.name, spec.default if spec.type in ("str", "bool") else [])
        right = isinstance(value, str) if spec.type == "str" else isinstance(value, bool) if spec.type == "bool" else _are_words(value)
        if not right:
            raise BadInput(f"{where}: {spec.name} is {value!r:.60}.", "Write a text, a list of words, or true and false, as its neighbours do.")
        made[spec.name] = value if spec.type in ("str", "bool") else tuple(value)
    if unknown := sorted(str(key) for key in row if key not in made):
        raise BadInput(f"{where}: '{unknown[0]}' is no field.", f"Fields are: {', '.join(made)}.")
    for name in ("folder", "requirements"):
        if made[name] and not re.fullmatch(r"[A-Za-z0-9][\w.-]*", made[name]):
            raise BadInput(f"{where}: {name} is '{made[name]}', no plain name.", "Write one name without slashes.")
    if not re.fullmatch(r"([\w][\w./-]{0,99})?", made["commit"]) or ".." in made["commit"]:
        raise BadInput(f"{where}: commit is '{made['commit'][:60]}'.", "Give a hash, a tag or a branch.")
    for word in made["requires"]:
        if not REQUIREMENT.fullmatch(word):
            raise BadInput(f"{where}: requires has '{word[:60]}', no name of a package.", "Write it like 'name==1.2'.")
    if not (made["git"] or made["package"]):
        raise BadInput(f"{where} has neither git nor package.", "Name where it is to be had.")
    if made["git"]:
        cloning.checked(made["git"])
    return Extension(**made)


# ----------------------------------------------------------------------------------------------------------------- details


def _are_words(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and not [word for word in value if not isinstance(word, str)]


def _own_rows(settings: Settings) -> list[Any]:
    import yaml

    try:
        read = yaml.safe_load((settings.storage / webuis.OWN).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []  # webuis.all says what is wrong with it
    rows = read.get("extensions", []) if isinstance(read, dict) else []
    if not isinstance(rows, list):
        raise BadInput(f"'extensions' in {settings.storage / webuis.OWN} is no list.", "Write one '- id: …' for each.")
    return rows


def _refuse_unfit(row: Extension, ui: WebUI) -> None:
    if ui.id in row.builtin_in:
        raise BadInput(f"{ui.title} has {row.title} built in.", "There is nothing to install.")
    if not row.fits(ui):
        raise BadInput(f"{row.title or row.id} does not work in {ui.title}.", f"It is for: {', '.join(row.webuis) or 'none'}.")


def _receipt(folder: Path) -> dict[str, Any]:
    try:
        read = json.loads((folder / RECEIPT).read_text("utf-8"))
        return read if isinstance(read, dict) else {}
    except (OSError, ValueError):
        return {}


def _install(row: Extension, ui: WebUI, settings: Settings, tell, cancelled) -> bool:
    """False if it was there. A run that was killed after the files came goes on with pip."""
    folder = media.folder(webuis.home(ui, settings) / ui.extensions) / (row.folder or row.id)
    receipt = _receipt(folder)
    if os.path.lexists(folder) and not receipt:
        raise HostFailed(f"{folder} is there already, and is not ours.", "Move it away to have it installed, or leave it as it is.")
    if receipt.get("state") == "installed":
        return False
    if not receipt:
        receipt = _bring(row, ui, settings, folder, tell, cancelled)
    _install_requirements(row, ui, settings, folder, tell, cancelled)
    _note(folder, {**receipt, "state": "installed"})
    return True


def _bring(row: Extension, ui: WebUI, settings: Settings, folder: Path, tell, cancelled) -> dict[str, Any]:
    """Its files are made ready outside of the WebUI's folder, which loads whatever lies in there."""
    from reverie.host.webuis.packages import Step

    ready = webuis.home(ui, settings).with_name(f".{ui.id}.{row.id}.extension")
    archives.remove(ready)
    about = {"id": row.id, "state": "unpacked"}
    try:
        if row.package:
            archive, digest = bring_package.get(row.package, row.package_sha256, row.title or row.id, settings, tell, cancelled)
            archives.unpack(archive, ready, folds_case=True, cancelled=cancelled)
            bring_package.done_with(archive, settings)
            about |= {"package": row.package, "sha256": digest}
        else:
            about |= {"git": row.git, "commit": cloning.clone(row.git, row.commit, ready, lambda line: tell(Step(f"cloning {row.id}", line=line)), cancelled)}
        inner = list(ready.iterdir())
        root = inner[0] if len(inner) == 1 and inner[0].is_dir() and not inner[0].is_symlink() else ready
        _note(root, about)
        os.rename(root, folder)
    finally:
        archives.remove(ready)
    return about


def _install_requirements(row: Extension, ui: WebUI, settings: Settings, folder: Path, tell, cancelled) -> None:
    """ComfyUI's nodes have nobody else to do it; the A1111 family's launch.py runs an extension's own install.py."""
    from reverie.host.webuis import tree
    from reverie.host.webuis.packages import Step

    wanted = list(row.requires)
    file = folder / row.requirements
    if ui.family == "comfyui" and file.is_file() and tree.asks_for_something(file):
        wanted = ["-r", str(file), *wanted]
    line = lambda said: tell(Step(f"pip for {row.id}", line=said))
    if wanted:
        requirements.install(webuis.venv_python(ui, settings), wanted, settings.storage / "cache", line, cancelled)
        for said in cpu_torch.fit(webuis.venv_python(ui, settings)):
            tell(Step(said))


def _note(folder: Path, receipt: dict[str, Any]) -> None:
    media.write_text(folder / RECEIPT, json.dumps(receipt, indent=2, sort_keys=True) + "\n")
