"""Training of the grader on drawings, their reconstructions and jittered copies of both."""
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from scripts.pocket import grade
from scripts.pocket.data import SIZE, Scenes, held_out_scenes

BATCH, RATE, DECODED = 64, 2e-3, 12       # pictures a step, and how many of them come out of the autoencoder


def jitter(pictures: torch.Tensor) -> torch.Tensor:
    """Noise, blur, brightness and a shift of up to two pixels, each in part of the pictures [b, 3, h, w]."""
    b = len(pictures)
    level = .12 * torch.rand(b, 1, 1, 1) * (torch.rand(b, 1, 1, 1) < .5)
    blurred = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    pictures = torch.where(torch.rand(b, 1, 1, 1) < .3, blurred, pictures) + level * torch.randn_like(pictures)
    pictures = pictures * (1 + .1 * (torch.rand(b, 1, 1, 1) - .5)) + .1 * (torch.rand(b, 1, 1, 1) - .5)
    dx, dy = (int(v) for v in torch.randint(-2, 3, (2,)))
    return torch.roll(pictures, (dy, dx), (2, 3))


@torch.no_grad()
def reconstructed(vae, latents: torch.Tensor) -> torch.Tensor:
    """Decoded latents [b, 4, 32, 32] with some noise in them, as a unet leaves it."""
    noise = .2 * torch.rand(len(latents), 1, 1, 1) * torch.randn_like(latents)
    return vae.decode((latents + noise).contiguous(memory_format=torch.channels_last)).sample.clamp(-1, 1)


def write_held_out(folder: Path = grade.MODEL) -> list:
    """Writes the list of held-out scenes; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = held_out_scenes(grade.N, grade.SEED)
    lines = ",\n ".join(json.dumps(scene.as_dict()) for scene in scenes)
    (folder / "held_out.json").write_text(f"[{lines}]\n", encoding="utf-8")
    return scenes


def drawings(scenes: list) -> torch.Tensor:
    """Drawings of scenes, as the ceiling is measured on: [n, 3, 128, 128] in -1..1."""
    from scripts.pocket.draw import draw
    return grade.as_tensor([draw(scene, SIZE, 10 ** 6 + i) for i, scene in enumerate(scenes)])


def train(minutes: float, scenes: Scenes, vae, channels: int, device: str = "cpu", start=None, log=print):
    """Trains for `minutes`, writes the grader and the held-out list; returns the grader."""
    grader = (start or grade.Grader()).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(grader.parameters(), RATE, betas=(.9, .99), weight_decay=.02)
    numbers, latents = np.random.default_rng(3), scenes.latents(channels)
    wanted = {name: torch.tensor([grade.labels(scene)[name] for scene in scenes.scenes]) for name in grade.HEADS}
    seconds, clock, step, total = 0.0, time.time(), 0, 0.0
    while (share := seconds / 60 / minutes) < 1:
        optimizer.param_groups[0]["lr"] = RATE * min(1, (step + 1) / 100, 1.6 * (1 - share)) + 1e-6
        rows = numbers.integers(0, len(scenes.index), BATCH)
        pictures = torch.cat([reconstructed(vae, torch.from_numpy(latents[rows[:DECODED]]).float()),
                              scenes.images(rows[DECODED:])])
        out = grader(jitter(pictures).to(device).contiguous(memory_format=torch.channels_last))
        loss = sum(F.cross_entropy(out[name], wanted[name][rows].to(device), ignore_index=-1) for name in grade.HEADS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step, total = step + 1, total + float(loss.detach())
        seconds, clock = seconds + min(time.time() - clock, 20), time.time()
        if step % 50 == 0:
            log(f"grader step {step} {seconds:.0f} s loss {total / 50:.3f}")
            total = 0.0
    grader = grader.eval().cpu()
    grade.save(grader)
    held_out = write_held_out()
    shares = grade.right(grader, drawings(held_out), [grade.labels(scene) for scene in held_out])
    log("grader on held-out drawings " + ", ".join(f"{name} {value:.3f}" for name, value in shares.items()))
    return grader
