"""The grader: a small network that reads a scene's attributes off a picture, and the table made with it."""
import json
from pathlib import Path

import torch
from torch import nn

from scripts.pocket.scenes import (COLOURS, COUNTS, LIGHT_COLOURS, OBJECTS, PLACES, POSITIONS, STYLES, TIMES,
                                   WEATHERS, scene_from_dict)

MODEL = Path(__file__).resolve().parents[2] / "assets" / "models" / "pocket-grader"
HEADS = {"place": tuple(PLACES), "time": tuple(TIMES), "weather": WEATHERS, "object": OBJECTS, "colour": COLOURS,
         "clothes": COLOURS, "count": COUNTS, "position": tuple(POSITIONS), "light": ("none", "sun", "moon"),
         "light colour": LIGHT_COLOURS, "style": STYLES}
ROW = {"colour": "object's colour", "clothes": "first person's clothes", "light": "sun or moon",
       "light colour": "its colour"}
SEED, N = 0, 256


def labels(scene) -> dict[str, int]:
    """Index of each attribute's value; -1 where the scene has none."""
    said = {"place": scene.place, "time": scene.time, "weather": scene.weather, "object": scene.object,
            "colour": scene.colour, "clothes": scene.people[0].colour if scene.people else None,
            "count": COUNTS[scene.count - 1], "position": scene.position, "light": scene.light or "none",
            "light colour": scene.light_colour, "style": scene.style}
    return {name: values.index(said[name]) if said[name] in values else -1 for name, values in HEADS.items()}


def stated(scene) -> dict[str, int]:
    """What a full caption states: as `labels`, with the absence of sun and moon left out."""
    found = labels(scene)
    return {**found, "light": found["light"] if scene.light else -1}


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
                                  nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        """[b, width, h, w] -> the same shape."""
        return torch.relu(x + self.body(x))


def halved(before: int, after: int) -> nn.Sequential:
    """A convolution that halves the sides."""
    return nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


class Grader(nn.Module):
    """Pictures [b, 3, 128, 128] in -1..1 -> logits by attribute."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(halved(3, 24), halved(24, 48), Residual(48), halved(48, 96), Residual(96),
                                  halved(96, 128), Residual(128), nn.Conv2d(128, 40, 1, bias=False), nn.BatchNorm2d(40),
                                  nn.ReLU())
        self.where = nn.Sequential(nn.Flatten(), nn.Dropout(.1), nn.Linear(40 * 64, 192), nn.ReLU())
        self.what = nn.Sequential(nn.Conv2d(40, 192, 3, padding=1, bias=False), nn.BatchNorm2d(192), nn.ReLU(),
                                  nn.AdaptiveMaxPool2d(1), nn.Flatten())
        self.heads = nn.ModuleDict({name: nn.Linear(2 * 192, len(values)) for name, values in HEADS.items()})

    def views(self, pictures: torch.Tensor) -> torch.Tensor:
        """What is seen where: [b, 40, 8, 8]."""
        return self.body(pictures)

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits [b, values] by attribute."""
        views = self.body(pictures)
        state = torch.cat([self.where(views), self.what(views)], 1)
        return {name: head(state) for name, head in self.heads.items()}


def save(grader: Grader, folder: Path = MODEL) -> None:
    """Writes the weights in half precision."""
    from safetensors.torch import save_file
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / ".model.part"
    save_file({name: value.half().contiguous() if value.is_floating_point() else value
               for name, value in grader.state_dict().items()}, part, metadata={"heads": json.dumps(HEADS)})
    part.chmod(0o644)
    part.replace(folder / "model.safetensors")


def load(folder: Path = MODEL) -> Grader:
    """The committed grader, ready to use in single precision."""
    from safetensors.torch import load_file
    grader = Grader()
    grader.load_state_dict({name: value.float() if value.is_floating_point() else value
                            for name, value in load_file(folder / "model.safetensors").items()})
    return grader.eval()


def held_out_list(folder: Path = MODEL) -> list:
    """The committed held-out scenes."""
    return [scene_from_dict(entry) for entry in json.loads((folder / "held_out.json").read_text(encoding="utf-8"))]


def as_tensor(pictures) -> torch.Tensor:
    """PIL pictures -> [b, 3, 128, 128] in -1..1."""
    import numpy as np
    arrays = [np.asarray(picture.convert("RGB").resize((128, 128))) for picture in pictures]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.inference_mode()
def right(grader: Grader, pictures: torch.Tensor, wanted: list[dict[str, int]]) -> dict[str, float]:
    """Share of correctly read values by attribute; values of -1 do not count."""
    chosen = {name: torch.cat([grader(part)[name].argmax(1) for part in pictures.split(64)]) for name in HEADS}
    shares = {}
    for name in HEADS:
        hits = [int(chosen[name][i]) == entry[name] for i, entry in enumerate(wanted) if entry[name] >= 0]
        shares[name] = sum(hits) / max(1, len(hits))
    return shares


def chance(name: str) -> float:
    """Share that guessing among the stated values would get."""
    return 1 / (2 if name == "light" else len(HEADS[name]))


def table(shares: dict[str, float], ceiling: dict[str, float]) -> str:
    """Markdown: attribute, accuracy, chance, accuracy on drawings; the mean at the end."""
    rows = ["| attribute | accuracy | chance | on drawings |", "|---|---|---|---|"]
    columns = (shares, {name: chance(name) for name in HEADS}, ceiling)
    rows += [" | ".join([f"| {ROW.get(name, name)}", *(f"{part[name]:.2f}" for part in columns)]) + " |"
             for name in HEADS]
    means = [sum(part[name] for name in HEADS) / len(HEADS) for part in columns]
    return "\n".join([*rows, f"| mean | {means[0]:.3f} | {means[1]:.3f} | {means[2]:.3f} |"])
