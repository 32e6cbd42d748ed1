"""Cell 5: the studio. Tabs to work in where somebody looks; else the run that the parameters ask for."""

from __future__ import annotations

import cells


def main(namespace: dict) -> None:
    """`namespace` is the notebook's globals(); its plain values that a pipeline knows fill the forms or drive the run."""
    given = cells.parameters(namespace)
    with cells.plainly():
        from reverie import settings
        from reverie.faces import widgets
        from reverie.host import outputs_sync

        if said := outputs_sync.guard(settings.load()):  # what is drawn here is kept too, where cell 4 was not run
            print(said)
        parameters = {**cells.chosen(given), **cells.drawing(given)}
        if cells.headless():
            cells.check(given)
            tell(widgets.run_headless(parameters))
        else:
            cells.show(widgets.studio_tabs(parameters))


def tell(summary: dict) -> None:
    """Where the results lie; the run has written the same to storage/outputs/runs/last.json."""
    pictures = summary.get("pictures", [])
    print(f"{len(pictures)} picture{'' if len(pictures) == 1 else 's'} in {summary.get('seconds', 0):.0f} s")
    for name, key in (("storyboard", "storyboard"), ("book", "epub"), ("comic", "pdf"), ("short film", "animatic")):
        if summary.get(key):
            print(f"{name}: {summary[key]}")


if __name__ == "__main__":
    main({})
