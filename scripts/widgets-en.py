"""Cell 2: choose. What is chosen is kept in storage/choices.json."""

from __future__ import annotations

import cells


def main(namespace: dict) -> None:
    """Tabs in an open notebook; one line where nobody looks."""
    given = cells.parameters(namespace)
    with cells.plainly():
        if not cells.headless():
            from reverie.faces.widgets.choose import choose_tabs

            cells.show(choose_tabs(cells.choosing(given)))
            return
        cells.check(given)
        print(told(cells.choices(given)))


def told(chosen) -> str:
    """`engine diffusers, model pocket · comfyui · 3 to have: sd15, sdxl-vae, moon`"""
    from reverie.host import choices

    things = [item.rpartition("/")[2] or item for key in choices.KINDS for item in getattr(chosen, key)]
    things += [pick.title or f"CivitAI {pick.version}" for pick in chosen.civitai]
    things += [link.name or link.address for link in choices.own_links(chosen)]
    listed = f"{len(things)} to have: {', '.join(things[:8])}{' …' if len(things) > 8 else ''}" if things else ""
    return " · ".join(filter(None, (f"engine {chosen.engine}, model {chosen.model}", chosen.webui, listed)))


if __name__ == "__main__":
    main({})
