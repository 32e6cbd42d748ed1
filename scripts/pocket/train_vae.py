"""Training of the autoencoder on crops of the drawings."""
import math
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from scripts.pocket import networks
from scripts.pocket.data import Scenes

CROP, BATCH, RATE = 64, 16, 2e-3
NOISE = .06                       # put on latents in training: the unet's own errors are of that order


def differences(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Horizontal and vertical differences of pictures [b, c, h, w]."""
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def loss_of(out: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """L1, squared error and edges, of pictures in -1..1."""
    edges = sum(F.l1_loss(a, b) for a, b in zip(differences(out), differences(wanted)))
    return F.l1_loss(out, wanted) + 4 * F.mse_loss(out, wanted) + .5 * edges


def psnr(out: torch.Tensor, wanted: torch.Tensor) -> float:
    """Mean over pictures in -1..1, in dB."""
    error = (out.clamp(-1, 1) - wanted).square().mean((1, 2, 3)) / 4
    return float((-10 * error.log10()).mean())


def crops(scenes: Scenes, rng: np.random.Generator) -> torch.Tensor:
    """Random crops [b, 3, 64, 64] in -1..1."""
    batch = scenes.images(rng.integers(0, len(scenes.index), BATCH))
    x, y = rng.integers(0, (batch.shape[-1] - CROP) // 4 + 1, 2) * 4
    return batch[..., y:y + CROP, x:x + CROP].contiguous(memory_format=torch.channels_last)


def fold(vae, norm: nn.BatchNorm2d) -> None:
    """Puts the running normalisation of the latents into the encoder's last convolution."""
    last, scale = vae.encoder.layers[-1], (norm.running_var + norm.eps).rsqrt()
    with torch.no_grad():
        last.weight.mul_(scale[:, None, None, None])
        last.bias.sub_(norm.running_mean).mul_(scale)


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


def train(minutes: float, scenes: Scenes, save, start=None, device: str = "cpu", log=print):
    """Trains for `minutes`, hands the result to `save(vae)`; returns the autoencoder."""
    vae = (start or networks.build_vae()).to(device, memory_format=torch.channels_last).train()
    norm = nn.BatchNorm2d(networks.LATENT, affine=False, momentum=.02).to(device)
    optimizer = torch.optim.AdamW(vae.parameters(), RATE, betas=(.9, .98), weight_decay=1e-4)
    rng, began, step, total = np.random.default_rng(0), time.time(), 0, 0.0
    while (share := (time.time() - began) / 60 / minutes) < 1:
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 100) * (.5 + .5 * math.cos(math.pi * min(share, 1))) + 1e-6
        norm.train(share < .7)
        if step % 100 == 0 and step < 1500:
            scenes.refresh()
        wanted = crops(scenes, rng).to(device)
        latents = norm(vae.encode(wanted).latents)
        out = vae.decode(latents + NOISE * torch.randn_like(latents)).sample
        loss = loss_of(out, wanted) + 1e-3 * latents.pow(4).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        step, total = step + 1, total + float(loss.detach())
        if step % 100 == 0:
            quality = psnr(out.detach(), wanted)
            log(f"vae step {step} {time.time() - began:.0f} s loss {total / 100:.4f} psnr {quality:.2f}")
            total = 0.0
    fold(vae, norm)
    vae.eval()
    save(vae)
    return vae
