"""Cell 3: is the chosen model here, and are its files whole? Says how to fetch it if not. Nothing is fetched unasked."""

from __future__ import annotations

from pathlib import Path

import cells


def main(namespace: dict) -> None:
    """One line per model; in a headless run a missing model ends the run here, with the sentence how to fetch it."""
    given = cells.parameters(namespace)
    with cells.plainly():
        from reverie import models
        from reverie.errors import ReverieError

        name = cells.chosen(given).get("model", "pocket")
        try:
            model = models.find(name)
            print(f"{model.id}: {verify(model)}")
        except ReverieError as error:
            if cells.headless():
                raise
            print(error)


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


if __name__ == "__main__":
    main({})
