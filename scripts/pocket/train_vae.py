"""Training of the autoencoder on the drawings.

It is trained whole until a unet learns its latents; from then on the encoder stays as it is and only the decoder learns on.
"""
import time

import numpy as np
import torch
from torch.nn import functional as F

from scripts.pocket import grade, networks
from scripts.pocket.data import Scenes
from scripts.pocket.train_team import State, alone, run, say

BATCH, RATE = 8, 1.2e-3
NOISE = .12                       # put on latents in training: the unet's own errors are of that order
SEEN = (0, 2, 4)                  # layers of the grader's body whose features are compared


def differences(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Horizontal and vertical differences of pictures [b, c, h, w]."""
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def features(grader, pictures: torch.Tensor) -> list[torch.Tensor]:
    """What the grader's first layers see in pictures, each layer scaled to unit spread."""
    found = []
    for index, layer in enumerate(grader.body[:max(SEEN) + 1]):
        pictures = layer(pictures)
        if index in SEEN:
            found.append(pictures)
    return found


def loss_of(out: torch.Tensor, wanted: torch.Tensor, grader) -> torch.Tensor:
    """L1, squared error, hue, edges, and the distance in the eyes of the grader, of pictures in -1..1."""
    hue = F.l1_loss(out - out.mean(1, keepdim=True), wanted - wanted.mean(1, keepdim=True))
    edges = sum(F.l1_loss(a, b) for a, b in zip(differences(out), differences(wanted)))
    with torch.no_grad():
        seen = features(grader, wanted)
    seen = sum(F.l1_loss(a, b) / b.std() for a, b in zip(features(grader, out), seen))
    return F.l1_loss(out, wanted) + 4 * F.mse_loss(out, wanted) + 4 * hue + .5 * edges + .25 * seen


def unit(latents: torch.Tensor) -> torch.Tensor:
    """Distance of the latents' channels from zero mean, unit variance and thin tails."""
    mean, variance = latents.mean((0, 2, 3)), latents.var((0, 2, 3))
    return (mean.square() + (variance - 1).square()).mean() + 1e-2 * latents.pow(4).mean()


def psnr(out: torch.Tensor, wanted: torch.Tensor) -> float:
    """Mean over pictures in -1..1, in dB."""
    error = (out.clamp(-1, 1) - wanted).square().mean((1, 2, 3)) / 4
    return float((-10 * error.log10()).mean())


def report(vae, scenes: Scenes, rows=range(64)) -> dict:
    """Quality of reconstructions of whole pictures and the shape of their latents' distribution."""
    pictures = scenes.images(np.asarray(rows))
    with torch.inference_mode():
        latents = vae.encode(pictures).latents
        out = vae.decode(latents).sample
    flat = latents.transpose(0, 1).flatten(1)
    kurtosis = ((flat - flat.mean(1, True)) / flat.std(1, keepdim=True)).pow(4).mean(1)
    return {"psnr": round(psnr(out, pictures), 2), "std": [round(float(v), 2) for v in flat.std(1)],
            "mean": [round(float(v), 2) for v in flat.mean(1)], "kurtosis": [round(float(v), 1) for v in kurtosis],
            "largest": round(float(flat.abs().max()), 1)}


def rate_at(step: int, share: float) -> float:
    """Learning rate: warm-up by steps, then down to zero over the last 60 % of the time."""
    return RATE * min(1, (step + 1) / 100, max(0.0, (1 - share) / .6)) + 1e-6


def work(worker: int, wait, state: State, config, minutes: float, device: str, saving, vae=None) -> None:
    """One worker's training loop; worker 0 keeps the clock, logs and saves."""
    from diffusers import AutoencoderTiny
    if vae is None:
        config, weights = config
        vae = AutoencoderTiny.from_config(config)
        vae.load_state_dict(weights)
        vae.to(device, memory_format=torch.channels_last)
    whole = len(state.weights) > sum(p.numel() for p in vae.decoder.parameters())
    state.bind(vae if whole else vae.decoder, worker)
    optimizer, scenes = state.optimizer(worker), Scenes()
    grader = grade.load().to(device, memory_format=torch.channels_last).requires_grad_(False)
    numbers, before, losses = np.random.default_rng(100 + worker), time.time(), []
    while (share := float(state.clock[1]) / 60 / minutes) < 1:
        step = int(state.clock[0])
        wanted = scenes.images(numbers.integers(0, len(scenes.index), BATCH // len(state.grads)))
        wanted = wanted.to(device).contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(whole):
            latents = vae.encode(wanted).latents
        out = vae.decode(latents + NOISE * torch.randn_like(latents)).sample
        loss = loss_of(out, wanted, grader) + (.1 * unit(latents) if whole else 0)
        loss.backward()
        losses.append(float(loss.detach()))
        state.update(optimizer, rate_at(step, share), worker, wait)
        if worker == 0:
            state.clock[1] += min(time.time() - before, 20)
            before = time.time()
            if len(losses) == 100:
                say(f"vae step {step + 1} {float(state.clock[1]):.0f} s loss {sum(losses) / 100:.4f} "
                    f"psnr {psnr(out.detach(), wanted):.2f}")
                losses = []
        wait()
    if worker == 0:
        saving(vae.eval())


def train(minutes: float, save, start=None, whole: bool = True, workers: int = 1, device: str = "cpu"):
    """Trains all of it, or the decoder alone, for `minutes`, and hands the result to `save(vae)`."""
    vae = (start or networks.build_vae()).to(device, memory_format=torch.channels_last)
    state = State(vae if whole else vae.decoder, workers)
    if workers == 1:
        work(0, alone, state, None, minutes, device, save, vae)
        return
    config = dict(vae.config), {name: value.clone() for name, value in vae.state_dict().items()}
    run(work, workers, (state, config, minutes, device, save))
