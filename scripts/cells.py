"""What the notebook's cells share: their parameters, whether anybody is looking, what was chosen, errors without tracebacks."""

from __future__ import annotations

import contextlib
import os

import installing

OURS = frozenset({"REVERIE_SOURCE", "REVERIE_ROOT"})  # parameters of cell 1
SERVERS = ("jupyter-lab", "jupyterlab", "jupyter-notebook", "jupyter-server", "jupyter_server", "jupyterhub", "notebookapp", "colab")


def parameters(namespace: dict) -> dict:
    """The variables that papermill (or somebody in a cell of their own) set: plain values without a leading underscore, and lists
    where cell 2 chooses one."""
    from reverie.host.choices import LISTS

    plain = (str, int, float, bool)
    return {
        name: value for name, value in namespace.items()
        if (isinstance(value, plain) or name in (*LISTS, "civitai") and isinstance(value, (list, tuple))) and not name.startswith("_") and name not in OURS
    }


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
    """Errors that a person can act on end the cell with their sentence alone; Interrupt leaves what it cuts fit for use."""
    from reverie import interrupts
    from reverie.errors import ReverieError

    interrupts.listen()
    try:
        yield
    except ReverieError as error:
        raise installing.Halt(str(error), error.exit_code) from None


def check(given: dict) -> None:
    """Every parameter is one that a pipeline or cell 2 has, and fits; BadInput in one sentence otherwise. Only where papermill gave
    them: in an open notebook other variables are the person's own business."""
    import difflib

    from reverie import pipelines
    from reverie.errors import BadInput
    from reverie.faces import forms
    from reverie.host import tunnels, webuis
    from reverie.host.choices import PARAMETERS

    known = PARAMETERS.union(*(pipelines.get(name).Params.model_fields for name in pipelines.names()))
    for name in set(given) - known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean '{near[0]}'?" if near else f"Known are: {', '.join(sorted(known))}."
        raise BadInput(f"There is no parameter '{name}'.", hint)
    Params = pipelines.get("generate" if str(given.get("prompt") or "").strip() else "illustrate").Params
    forms.parse(Params, forms.only_known(Params, drawing(given)))
    found = choices(given)
    tunnels.check(found.tunnel_order)
    if found.webui:
        webuis.find(found.webui)


def choices(given: dict):
    """What cell 2 kept, under what was given: a reverie.host.choices.Choices. BadInput where the file or a parameter does not fit."""
    from reverie.host import choices as kept

    return kept.with_parameters(kept.load(), choosing(given))


def choosing(given: dict) -> dict:
    """Those of the parameters that cell 2 chooses."""
    from reverie.host.choices import PARAMETERS

    return {name: value for name, value in given.items() if name in PARAMETERS}


def drawing(given: dict) -> dict:
    """The parameters as the pipelines take them: of `loras`, which cell 2 has too, only what is no address to fetch from."""
    from reverie.host.choices import is_link, several

    if "loras" not in given:
        return given
    asked = given["loras"]
    named = asked if isinstance(asked, str) and "://" not in asked else ", ".join(item for item in several(asked) if not is_link(item))
    return {**given, "loras": named}


def chosen(given: dict) -> dict:
    """{"engine": …, "model": …}: what the studio draws with."""
    found = choices({name: given[name] for name in ("engine", "model") if name in given})
    return {"engine": found.engine, "model": found.model}


def show(widget) -> None:
    from IPython.display import display

    with contextlib.suppress(ImportError, AttributeError):  # Colab's own page knows the widgets of ipywidgets 7 only
        from google.colab import output

        output.enable_custom_widget_manager()
    display(widget)
