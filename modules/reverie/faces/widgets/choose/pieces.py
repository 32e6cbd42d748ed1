"""Small things that the tabs of cell 2 share: sizes for people, labelled fields, a row of switches."""

from __future__ import annotations

from typing import Any

from reverie.faces.widgets import look


def size_text(size: int, about: bool = False) -> str:
    """`6.9 GB`, `335 MB`; `about` puts ≈ before it; nothing for 0."""
    if not size:
        return ""
    text = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB" if size >= 1e6 else "under 1 MB"
    return f"≈ {text}" if about and size >= 1e6 else text


def field(label: str, control, note: str = "", wide: bool = False):
    """A control under its label, with a line below."""
    import ipywidgets

    parts = [ipywidgets.HTML(f"<label>{look.esc(label)}</label>"), ipywidgets.HBox([control])]
    box = ipywidgets.VBox([*parts, *([ipywidgets.HTML(f"<small>{look.esc(note)}</small>")] if note else [])])
    box.add_class("rv-field")
    if wide:
        box.add_class("rv-wide")
    named(control, label)
    return box


def named(control, label: str):
    """For whoever does not see the label: the control says what it is. The style sheet keeps a description to screen readers."""
    if not control.description:
        control.description = label
    if not control.tooltip:
        control.tooltip = label
    return control


def classed(widget, *names: str):
    for name in names:
        widget.add_class(name)
    return widget


def html(text: str = "", *names: str):
    import ipywidgets

    return classed(ipywidgets.HTML(text), *names)


def page(*parts: Any):
    """A tab's page."""
    import ipywidgets

    return classed(ipywidgets.VBox(list(parts)), "rv-page", "rv-choose-page")


def hint(text: str):
    return html(f"<p>{look.esc(text)}</p>", "rv-hint")
