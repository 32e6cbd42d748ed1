"""Cell 3: bring what cell 2 chose: the plan first, then the models, the WebUI with its extensions, the models in its folders.
With nothing to bring it looks whether the chosen model is whole. Stopped at any moment, the cell carries on when it is run again."""

from __future__ import annotations

from pathlib import Path

import cells


def main(namespace: dict) -> None:
    """Bars and buttons in an open notebook, where the cell returns at once; lines where nobody looks, and an error ends the run."""
    given = cells.parameters(namespace)
    with cells.plainly():
        from reverie import settings
        from reverie.errors import ReverieError
        from reverie.host.downloads import provision

        chosen, here = cells.choices(given), settings.load()
        if cells.headless():
            bring(chosen, here)
            print(whole(chosen.model))
        elif provision.anything(chosen):
            shown = face(chosen, here)
            cells.show(shown.widget)
            shown.start()
        else:
            try:
                print(whole(chosen.model))
            except ReverieError as error:
                print(error)


def bring(chosen, here) -> None:
    """All of it with plain lines. The first of the errors is raised when everything else has come."""
    from reverie.faces.tally import Lines
    from reverie.host.downloads import tables as plan_tables, provision

    if not provision.anything(chosen):
        return
    plan = provision.prepare(chosen, here)
    for line in [plan_tables.text(plan), *provision.installation(chosen, here)]:
        say(line)
    outcome = provision.carry_out(plan, chosen, here, Lines(say).take, say)
    for line in told(outcome):
        say(line)
    outcome.check()


def face(chosen, here):
    """The widget that does it all in a thread once it is started."""
    from reverie.faces.widgets.downloads import Downloads
    from reverie.host.downloads import provision

    def work(shown) -> str:
        shown.say("Looking up what is wanted …")
        plan = provision.prepare(chosen, here, shown.pickles_allowed)
        shown.show_plan(plan, provision.installation(chosen, here))
        shown.say("")
        outcome = provision.carry_out(plan, chosen, here, shown.progress, shown.say, shown.cancelled)
        shown.show_lines(told(outcome))
        outcome.check()
        return f"Done in {outcome.seconds:.0f} s. {whole(chosen.model)}"

    return Downloads(work)


def told(outcome) -> list[str]:
    """What came under another name or kind than was thought, and what else is worth knowing."""
    lines = [f"{row.kind} {row.name}: {'; '.join(row.notes)}" for row in outcome.done if row.notes]
    return [*lines, *outcome.notes]


def whole(name: str) -> str:
    """`sd15: Stable Diffusion 1.5, 1 weight file, 4265.1 MB, whole (…)`. ModelMissing, BadInput."""
    from reverie import models

    model = models.find(name)
    return f"{model.id}: {verify(model)}"


def verify(model) -> str:
    """`3 weight files, 31.4 MB, whole` for a model whose every safetensors file is as long as its header says. BadInput if not."""
    from reverie import checkpoints, models

    files = weights(model.path)
    for file in files:
        checkpoints.header(file)
    size = models.weight_bytes(model) / 1e6
    return f"{model.title}, {len(files)} weight file{'' if len(files) == 1 else 's'}, {size:.1f} MB, whole ({model.path})"


def weights(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("*.safetensors"))


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main({})
