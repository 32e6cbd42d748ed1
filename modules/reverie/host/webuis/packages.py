"""Installing a WebUI: its package or a clone, its environment, the settings it begins with; taking it away again.

Every step leaves a sign on the disk, so that a run that was killed anywhere is carried on by the next one:
`webuis/.<id>.ready` is a whole tree that only has to be moved in, `webuis/<id>/.reverie.json` says what was installed and how far,
`.reverie-files.json` which files are ours. What a person put into a WebUI's folder is never replaced and never taken away.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

from reverie import media
from reverie.errors import BadInput, Busy, Cancelled, DiskFull, FetchFailed, HostFailed
from reverie.host import storage, webuis
from reverie.host.webuis import archives, bring_package, cloning, cpu_torch, requirements, tree, venvs
from reverie.host.webuis import WebUI
from reverie.settings import Settings

WAYS = ("auto", "package", "git")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """What is being done: `done` of `total` bytes where that is known (else 0), or a `line` that git or pip said."""

    what: str
    done: int = 0
    total: int = 0
    line: str = ""


@dataclass(frozen=True)
class Action:
    """One thing that an installation would do. `bytes`: what it takes on the disk at the least, 0 where nothing tells."""

    what: str
    source: str
    bytes: int = 0
    done: bool = False


Tell = Callable[[Step], None]


def plan(ui: WebUI, settings: Settings, way: str = "auto") -> list[Action]:
    """What `install` would do, without doing or fetching anything. HostFailed where there is nothing to install from."""
    way = _way(ui, way)
    here = webuis.receipt(ui, settings)
    whole = here.get("state") in ("unpacked", "installed")
    actions = [Action(*_source(ui, way), done=whole)]
    folder = settings.storage / "venvs" / _venv_name(ui)
    if _takes_venv(ui):
        least = max(bring_package.least_bytes(ui.venv), int(ui.disk_gb * 1e9))
        actions.append(Action("unpack its environment", ui.venv, least, bool(venvs.receipt(folder))))
    else:
        actions.append(Action("make an environment with pip", ui.requirements, 0, webuis.is_installed(ui, settings)))
    return actions


def install(
    ui: WebUI, settings: Settings, on_progress: Tell | None = None, cancelled: Callable[[], bool] = lambda: False, *,
    way: str = "auto", extensions: Sequence[Any] = (),
) -> dict[str, Any]:
    """Install the WebUI, or carry on where an earlier run stopped; what is there already is left as it is. Returns the receipt.

    `way`: from its package, from git, or "auto": the package, and git where that cannot be had. `extensions`: ids or rows of
    them; one that fails is told in what is returned ("failed": id → sentence) and does not stop the rest. HostFailed, FetchFailed, DiskFull (before anything is written),
    BadInput (a broken archive), Busy, Cancelled.
    """
    from reverie.host.webuis import extensions as extending
    from reverie.host.webuis import views

    tell = on_progress or (lambda step: None)
    way = _way(ui, way)
    with alone(settings, f"webui-{ui.id}"):
        receipt = webuis.receipt(ui, settings)
        if receipt.get("state") not in ("unpacked", "installed"):
            _check_room(ui, settings, way)
            receipt = _bring_tree(ui, settings, way, tell, cancelled)
        folder = _bring_venv(ui, settings, tell, cancelled)
        if ui.extensions:  # ComfyUI does not start without it, and an archive may have left out an empty folder
            media.folder(webuis.home(ui, settings) / ui.extensions)
        _write_configs(ui, settings)
        views.prepare(ui, settings)
        receipt = _note(ui, settings, receipt, state="installed", venv=folder.name, python=venvs.receipt(folder).get("python", ""))
        failed = dict(extending.install(extensions, ui, settings, tell, cancelled).failed) if extensions else {}
    log.info("installed webui=%s way=%s commit=%s failed=%s", ui.id, receipt.get("way"), receipt.get("commit", ""), ",".join(failed))
    return {**receipt, "failed": failed}


def uninstall(ui: WebUI, settings: Settings):
    """Move what was installed into the bin (undo brings it back); `tree.Removed`. What the person put there or changed, models and
    pictures, stays. Its environment goes too, unless another WebUI uses it. HostFailed while it runs."""
    from reverie.host import launch

    with alone(settings, f"webui-{ui.id}"):
        running = launch.find(ui, settings)
        if running is not None and running.alive:
            raise HostFailed(f"{ui.title} is running.", f"Stop it first: reverie webui stop {ui.id}")
        if not webuis.receipt(ui, settings):
            raise HostFailed(f"{ui.title} is not installed.", "See what is: reverie webui list")
        folder = webuis.venv(ui, settings)
        others = [other for other in webuis.all(settings) if other.id != ui.id and webuis.receipt(other, settings)]
        shared = any(webuis.venv(other, settings) == folder for other in others)
        return tree.take_away(ui, settings, [] if shared or not folder.exists() else [folder])


def update(ui: WebUI, settings: Settings) -> str:
    """What a newer install would bring: a commit's hash, or a changed package in the catalogue; "" where nothing newer is known.
    Asks the git server; never changes anything."""
    receipt = webuis.receipt(ui, settings)
    if receipt.get("way") == "git":
        newest = cloning.newest(ui.git, ui.commit) if ui.git else ""
        pinned = ui.commit if re.fullmatch(r"[0-9a-f]{40}", ui.commit) else ""
        return next((commit for commit in (newest, pinned) if commit and commit != receipt.get("commit")), "")
    other = (ui.package, ui.package_sha256 or receipt.get("sha256", "")) != (receipt.get("package"), receipt.get("sha256", ""))
    return ui.package if receipt.get("package") and other else ""


@contextmanager
def alone(settings: Settings, what: str) -> Iterator[None]:
    """One at a time at the same thing; the lock ends with the process, however that ends."""
    from filelock import FileLock, Timeout

    folder = media.folder(settings.storage / "run")
    lock = FileLock(folder / f"install-{what}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Busy(f"Another run is at work at {what}.", "Wait for it to end, or stop it, then do this again.") from None
    try:
        yield
    finally:
        lock.release()


# ----------------------------------------------------------------------------------------------------------------- the tree


def _way(ui: WebUI, way: str) -> str:
    if way not in WAYS:
        raise BadInput(f"'{way}' is no way to install.", f"Ways are: {', '.join(WAYS)}.")
    if not (ui.package or ui.git):
        raise HostFailed(f"There is no package of {ui.title} to install.", f"{ui.note} Bring your own: a row with 'package' in storage/{webuis.OWN}.".strip())
    if way != "auto" and not getattr(ui, way):
        raise BadInput(f"{ui.title} has no {way} in its row.", f"Use --way {'git' if way == 'package' else 'package'}.")
    return ("package" if ui.package else "git") if way == "auto" else way + "!"


def _source(ui: WebUI, way: str) -> tuple[str, str, int]:
    if way.startswith("git"):
        return f"clone {ui.commit[:12] or 'the newest commit'}", ui.git, 0
    return "unpack its package", ui.package, bring_package.least_bytes(ui.package)


def _check_room(ui: WebUI, settings: Settings, way: str) -> None:
    needs = sum(action.bytes for action in plan(ui, settings, way.rstrip("!")) if not action.done)
    free = storage.free(settings.storage)
    if needs > free:
        raise DiskFull(f"{ui.title} takes at least {needs / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free.", "Free some space; nothing was begun.")


def _bring_tree(ui: WebUI, settings: Settings, way: str, tell: Tell, cancelled) -> dict[str, Any]:
    home = webuis.home(ui, settings)
    ready = home.with_name(f".{ui.id}.ready")
    if not (ready / webuis.RECEIPT).exists():
        archives.remove(ready)
        try:
            about = _get_package(ui, settings, ready, tell, cancelled) if way.startswith("package") else _clone(ui, ready, tell, cancelled)
        except (FetchFailed, HostFailed) as error:
            if way != "package" or not ui.git:  # "package!" was asked for by name
                raise
            tell(Step("the package cannot be had", line=f"{error.what} It is cloned instead."))
            about = _clone(ui, ready, tell, cancelled)
        tree.write_list(ready)
        media.write_text(ready / webuis.RECEIPT, json.dumps({"id": ui.id, "state": "unpacked", "at": time.time(), **about}, indent=2, sort_keys=True) + "\n")
    tell(Step("moving it in"))
    tree.move_in(ready, home)
    return webuis.receipt(ui, settings)


def _get_package(ui: WebUI, settings: Settings, ready: Path, tell: Tell, cancelled) -> dict[str, Any]:
    archive, digest = bring_package.get(ui.package, ui.package_sha256, f"{ui.title}, its package", settings, tell, cancelled)
    unpacked = ready.with_name(f".{ui.id}.unpacked")
    archives.remove(unpacked)
    told = lambda done, total: tell(Step("unpacking its package", done, total))
    archives.unpack(archive, unpacked, folds_case=True, on_progress=told, cancelled=cancelled)
    try:
        root = _root(ui, unpacked)
        for name in tree.OURS:  # somebody packed what was installed here once: its signs are not those of this installation
            archives.remove(root / name)
        os.replace(root, ready)
    finally:
        archives.remove(unpacked)
    bring_package.done_with(archive, settings)
    return {"way": "package", "package": ui.package, "sha256": digest, "commit": cloning.head(ready)}


def _root(ui: WebUI, unpacked: Path) -> Path:
    """The folder that the start list's script is in: the archive's own, or the one folder that it holds."""
    script = next((word.removeprefix("$HOME/") for word in ui.start[1:2] if word.endswith(".py")), "")
    inner = [path for path in unpacked.iterdir() if path.name not in ("__MACOSX", ".DS_Store")]
    one = inner[0] if len(inner) == 1 and inner[0].is_dir() and not inner[0].is_symlink() else unpacked
    found = next((folder for folder in (unpacked, one) if script and (folder / script).is_file()), None if script else one)
    if found is None:
        raise BadInput(f"The package of {ui.title} has no {script} in it.", "Check that it is this WebUI's package, or the row's 'start'.")
    return found


def _clone(ui: WebUI, ready: Path, tell: Tell, cancelled) -> dict[str, Any]:
    commit = cloning.clone(ui.git, ui.commit, ready, lambda line: tell(Step("cloning", line=line)), cancelled)
    return {"way": "git", "git": ui.git, "commit": commit}


# ---------------------------------------------------------------------------------------------------------- the environment


def _takes_venv(ui: WebUI) -> bool:
    return bool(ui.venv) and (not ui.cuda_package or requirements.has_nvidia())


def _venv_name(ui: WebUI) -> str:
    return webuis.venv_name(ui) if _takes_venv(ui) else ui.id


def _bring_venv(ui: WebUI, settings: Settings, tell: Tell, cancelled) -> Path:
    folder = settings.storage / "venvs" / _venv_name(ui)
    with alone(settings, f"venv-{folder.name}"):
        if _takes_venv(ui):
            if not venvs.receipt(folder):
                _unpack_venv(ui, folder, settings, tell, cancelled)
        else:
            _make_venv(ui, folder, settings, tell, cancelled)
        tell(Step("starting its Python once"))
        venvs.check(folder)
        for said in cpu_torch.fit(webuis.interpreter(folder)):
            tell(Step(said))
    return folder


def _unpack_venv(ui: WebUI, folder: Path, settings: Settings, tell: Tell, cancelled) -> None:
    archive, digest = bring_package.get(ui.venv, ui.venv_sha256, f"{ui.title}, its environment", settings, tell, cancelled)
    moving = folder.with_name(f".{folder.name}.moving")
    archives.remove(moving)
    told = lambda done, total: tell(Step("unpacking its environment", done, total))
    archives.unpack(archive, moving, links_out="leave out", on_progress=told, cancelled=cancelled)
    try:
        inner = [path for path in moving.iterdir() if path.is_dir() and not path.is_symlink()]
        root = moving if (moving / "bin").is_dir() or (moving / "Scripts").is_dir() or len(inner) != 1 else inner[0]
        tell(Step("fitting its environment to its place"))
        venvs.relocate(root, folder, ui.python)
        archives.remove(folder)  # what an earlier run moved in and could not start
        os.replace(root, folder)
    finally:
        archives.remove(moving)
    venvs.ready(folder, archive=ui.venv, sha256=digest, python=venvs.check(folder))
    bring_package.done_with(archive, settings)


def _make_venv(ui: WebUI, folder: Path, settings: Settings, tell: Tell, cancelled) -> None:
    """An environment of its own, that sees the platform's torch where there is one."""
    wanted = webuis.home(ui, settings) / ui.requirements
    print_of = " ".join([tree.digest(wanted)] * wanted.is_file() + [*ui.requires])
    done = venvs.receipt(folder)
    if done.get("requirements") == print_of and webuis.interpreter(folder).exists():
        return
    python = venvs.find_python(ui.python)
    here = not ui.python or ui.python == webuis.running_python()
    tell(Step("making an environment"))
    if webuis.interpreter(folder).exists() and (folder / "pyvenv.cfg").exists():
        venvs.heal(folder)
    else:
        archives.remove(folder)
        venvs.make(folder, python, system_packages=here and "torch" in requirements.installed(Path(python)))
    if cancelled():
        raise Cancelled(f"Installing {ui.title} was cancelled.", "Call it again: what is finished stays.")
    arguments = [*(["-r", str(wanted)] if wanted.is_file() and tree.asks_for_something(wanted) else []), *ui.requires]
    requirements.install(webuis.interpreter(folder), arguments, settings.storage / "cache", lambda line: tell(Step("pip", line=line)), cancelled)
    venvs.ready(folder, requirements=print_of, python=venvs.check(folder))


# ---------------------------------------------------------------------------------------------------------------- the rest


def _write_configs(ui: WebUI, settings: Settings) -> None:
    """The settings that it begins with, only where it has none yet."""
    for row in ui.configs:
        path = webuis.home(ui, settings) / row["path"]
        if not os.path.lexists(path):
            media.write_text(path, json.dumps(dict(row["values"]), indent=4) + "\n")


def _note(ui: WebUI, settings: Settings, receipt: dict[str, Any], **more: Any) -> dict[str, Any]:
    receipt = {**receipt, **more}
    media.write_text(webuis.home(ui, settings) / webuis.RECEIPT, json.dumps(receipt, indent=2, sort_keys=True) + "\n")
    return receipt
