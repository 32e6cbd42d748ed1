"""What the notebook's cells share: their parameters, whether anybody is looking, what was chosen, errors without tracebacks."""

from __future__ import annotations

import contextlib
import json
import os

import installing

CHOSEN = ("engine", "model")  # what cell 2 chooses and keeps
OURS = frozenset({"REVERIE_SOURCE", "REVERIE_ROOT"})  # parameters of cell 1
SERVERS = ("jupyter-lab", "jupyterlab", "jupyter-notebook", "jupyter-server", "jupyter_server", "jupyterhub", "notebookapp", "colab")


def parameters(namespace: dict) -> dict:
    """The variables that papermill (or somebody in a cell of their own) set: plain values without a leading underscore."""
    plain = (str, int, float, bool)
    return {name: value for name, value in namespace.items() if isinstance(value, plain) and not name.startswith("_") and name not in OURS}


def headless() -> bool:
    """Whether nobody is there to click. REVERIE_HEADLESS decides if set; else a notebook page always offers to take input
    (allow_stdin), and papermill, nbclient and their like never do. Pages that do not offer it are told by their server."""
    said = os.environ.get("REVERIE_HEADLESS", "")
    if said:
        return said != "0"
    shell = _shell()
    if shell is None or not hasattr(shell, "kernel"):
        return True
    header = getattr(shell, "parent_header", None) or {}
    return not header.get("content", {}).get("allow_stdin", True) and not _of_a_server()


def _shell():
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    return get_ipython()


def _of_a_server() -> bool:
    """Whether a notebook server started this kernel."""
    import psutil

    with contextlib.suppress(psutil.Error):
        return any(name in " ".join(psutil.Process().parent().cmdline()).lower() for name in SERVERS)
    return False


@contextlib.contextmanager
def plainly():
    """Errors that a person can act on end the cell with their sentence alone."""
    from reverie.errors import ReverieError

    try:
        yield
    except ReverieError as error:
        raise installing.Halt(str(error), error.exit_code) from None


def check(given: dict) -> None:
    """Every parameter is one that a pipeline has, and fits; BadInput in one sentence otherwise. Only where papermill gave them:
    in an open notebook other variables are the person's own business."""
    import difflib

    from reverie import pipelines
    from reverie.errors import BadInput
    from reverie.faces import forms

    known = {field for name in pipelines.names() for field in pipelines.get(name).Params.model_fields}
    for name in set(given) - known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean '{near[0]}'?" if near else f"Known are: {', '.join(sorted(known))}."
        raise BadInput(f"There is no parameter '{name}'.", hint)
    Params = pipelines.get("generate" if str(given.get("prompt") or "").strip() else "illustrate").Params
    forms.parse(Params, forms.only_known(Params, given))


def chosen(given: dict) -> dict:
    """What cell 2 kept, under what was given: {"engine": …, "model": …} as far as either says."""
    from reverie import settings

    kept: dict = {}
    with contextlib.suppress(OSError, ValueError):
        kept = json.loads((settings.load().storage / "settings.json").read_text("utf-8"))
    return {name: str(values[name]) for values in (kept, given) if isinstance(values, dict) for name in CHOSEN if values.get(name)}


def keep(choice: dict) -> None:
    from reverie import media, settings

    media.write_text(settings.load().storage / "settings.json", json.dumps(choice, indent=2) + "\n")


def show(widget) -> None:
    from IPython.display import display

    display(widget)
