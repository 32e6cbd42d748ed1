"""Training of the grader on drawings, their reconstructions and jittered copies of both."""
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from scripts.pocket import grade
from scripts.pocket.data import SIZE, Scenes, held_out_scenes
from scripts.pocket.train_team import State, alone, run, say

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
    """Decoded latents [b, 4, 16, 16] with some noise in them, as a unet leaves it."""
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


def work(worker: int, wait, state: State, minutes: float, vae, device: str, grader=None) -> None:
    """One worker's training loop; worker 0 keeps the clock and writes the result."""
    fresh = grade.Grader().to(device, memory_format=torch.channels_last) if grader is None else grader
    grader = state.bind(fresh, worker).train()
    optimizer, scenes = state.optimizer(worker), Scenes()
    scenes.refresh()
    batch, decoded = BATCH // len(state.grads), DECODED // len(state.grads)
    numbers, latents = np.random.default_rng(3 + worker), scenes.latents()
    wanted = {name: torch.tensor([grade.labels(scene)[name] for scene in scenes.scenes]) for name in grade.HEADS}
    before, total = time.time(), 0.0
    while (share := float(state.clock[1]) / 60 / minutes) < 1:
        step = int(state.clock[0]) + 1
        rows = numbers.integers(0, len(scenes.index), batch)
        part = torch.from_numpy(latents[rows[:decoded]]).to(device, torch.float32)
        pictures = torch.cat([reconstructed(vae, part), scenes.images(rows[decoded:]).to(device)])
        out = grader(jitter(pictures).contiguous(memory_format=torch.channels_last))
        loss = sum(F.cross_entropy(out[name], wanted[name][rows].to(device), ignore_index=-1) for name in grade.HEADS)
        loss.backward()
        total += float(loss.detach())
        state.update(optimizer, RATE * min(1, step / 100, 1.6 * (1 - share)) + 1e-6, worker, wait)
        if worker == 0:
            state.clock[1] += min(time.time() - before, 20)
            before = time.time()
            if step % 50 == 0:
                say(f"grader step {step} {float(state.clock[1]):.0f} s loss {total / 50:.3f}")
                total = 0.0
        wait()
    if worker == 0:
        finish(grader)


def finish(grader) -> None:
    """Writes the grader and the held-out list, and says how well it reads drawings."""
    grader = grader.eval().cpu()
    grade.save(grader)
    held_out = write_held_out()
    shares = grade.right(grader, drawings(held_out), [grade.labels(scene) for scene in held_out])
    say("grader on held-out drawings " + ", ".join(f"{name} {value:.3f}" for name, value in shares.items()))


def train(minutes: float, vae, workers: int = 1, device: str = "cpu", start=None) -> None:
    """Trains for `minutes`, from `start` where there is one, and writes the grader."""
    grader = (start or grade.Grader()).to(device, memory_format=torch.channels_last)
    state = State(grader, workers)
    if workers == 1:
        work(0, alone, state, minutes, vae, device, grader)
    else:
        run(work, workers, (state, minutes, vae, device))
