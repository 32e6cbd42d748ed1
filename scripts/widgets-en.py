"""Cell 2: choose the engine and the model. What is chosen is kept in storage/settings.json."""

from __future__ import annotations

import cells


def main(namespace: dict) -> None:
    """Two lists to choose from in an open notebook; one line where nobody looks."""
    given = cells.parameters(namespace)
    with cells.plainly():
        if cells.headless():
            cells.check(given)
        choice = {"engine": "diffusers", "model": "pocket", **cells.chosen(given)}
        if cells.headless():
            print(f"engine {choice['engine']}, model {choice['model']}")
        else:
            cells.show(chooser(choice))


def label(model) -> str:
    """`Stable Diffusion 1.5 · not here, 4.3 GB`"""
    size = f", {model.size / 1e9:.1f} GB" if model.size and not model.here else ""
    return f"{model.title} · {'here' if model.here else 'not here' + size}"


def chooser(choice: dict):
    """An ipywidgets box: engine, model, what is known of the model, and what would suit this machine."""
    import ipywidgets as w

    from reverie import engines, models

    found = {model.id: model for model in models.all()}
    wide = {"layout": w.Layout(width="min(100%, 46rem)"), "style": {"description_width": "4.5rem"}}
    engine = w.Select(options=engines.names(), description="Engine", rows=max(2, len(engines.names())), **wide)
    model = w.Select(options=[(label(m), m.id) for m in found.values()], description="Model", rows=min(10, max(3, len(found))), **wide)
    engine.value = choice["engine"] if choice["engine"] in engine.options else engine.options[0]
    model.value = choice["model"] if choice["model"] in found else next(iter(found))
    about, saved = w.HTML(), w.HTML()

    def tell(_=None) -> None:
        about.value = card(found[model.value])

    def changed(_) -> None:
        tell()
        cells.keep({"engine": engine.value, "model": model.value})
        saved.value = "<small>kept in storage/settings.json</small>"

    tell()
    for widget in (engine, model):
        widget.observe(changed, "value")
    return w.VBox([engine, model, about, w.HTML(advice()), saved])


def card(model) -> str:
    from html import escape

    facts = [f"{model.width}×{model.height}", f"{model.steps} steps", model.licence and f"licence: {model.licence}"]
    return f"<b>{escape(model.title)}</b> <small>{escape(' · '.join(filter(None, facts)))}</small><br>{escape(model.note)}"


def advice() -> str:
    from html import escape

    from reverie import models

    rows = [f"<li><b>{escape(m.title)}</b>: {escape(m.note)}</li>" for m in models.advise()]
    return f"<small>Next to fetch for this machine (cell 3 says how):<ul>{''.join(rows)}</ul></small>" if rows else ""


if __name__ == "__main__":
    main({})
