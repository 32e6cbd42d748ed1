"""Training of the text encoder and the unet on the latents of the drawings."""
import copy
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from scripts.pocket import networks
from scripts.pocket.data import Scenes, captions, encode, stray
from scripts.pocket.grade import HEADS, labels
from scripts.pocket.scenes import caption, full_caption

BATCH, RATE, WARM, DECAY, AVERAGE = 24, 8e-4, 150, .4, .999
BLIND = 985                       # from this step on the input is noise alone, as at the start of sampling
BLIND_SHARE = .04
STEP_CENTRE, STEP_WIDTH = .5, 1.1  # logit-normal choice of the noise step, biased towards noise


def learn_words(text_encoder, scenes: Scenes, seconds: float, batch: int = 64, log=print) -> None:
    """A head start for the text encoder: to tell a scene's attributes from the last state of its caption."""
    heads = nn.ModuleDict({name: nn.Linear(networks.TEXT["hidden_size"], len(values)) for name, values in HEADS.items()})
    optimizer = torch.optim.AdamW([*text_encoder.parameters(), *heads.parameters()], 1e-3, betas=(.9, .98))
    rng, began, step = random.Random(7), time.time(), 0
    while (share := (time.time() - began) / seconds) < 1:
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, (step + 1) / 50, 2.5 * (1 - share)) + 1e-6
        some = [scenes.scenes[rng.randrange(len(scenes.scenes))] for _ in range(batch)]
        texts = [full_caption(scene) if rng.random() < .5 else caption(scene, rng) for scene in some]
        texts = [stray(text, rng) if rng.random() < .15 else text for text in texts]
        ids = torch.tensor([encode(text, 48) for text in texts])
        state = text_encoder(ids).pooler_output
        wanted = {name: torch.tensor([labels(scene)[name] for scene in some]) for name in HEADS}
        loss = sum(F.cross_entropy(heads[name](state), wanted[name], ignore_index=-1) for name in HEADS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 100 == 0:
            right = {name: ((heads[name](state).argmax(1) == wanted[name]).float()[wanted[name] >= 0]).mean().item()
                     for name in HEADS}
            log(f"words step {step} loss {loss.item():.3f} least {min(right.items(), key=lambda kv: kv[1])}")


def noise_steps(batch: int, generator: torch.Generator) -> torch.Tensor:
    """Noise steps [b], int64 in 0..999."""
    logits = STEP_CENTRE + STEP_WIDTH * torch.randn(batch, generator=generator)
    return (torch.sigmoid(logits) * 1000).long().clamp(0, 999)


def noisy(latents, steps, alphas, generator):
    """Noisy input and the velocity to predict, for clean latents [b, c, h, w] and steps [b]."""
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    signal = alphas[steps].clone()
    signal[steps >= BLIND] = 0
    a, s = signal.sqrt()[:, None, None, None], (1 - signal).sqrt()[:, None, None, None]
    return a * latents + s * noise, a * noise - s * latents


class State:
    """All that training carries along: networks, their running averages, the optimizer and the clock."""

    def __init__(self, unet, text_encoder, device: str = "cpu"):
        self.nets = nn.ModuleDict({"unet": unet, "text": text_encoder}).to(device)
        self.nets["unet"].to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.nets).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.nets.parameters(), RATE, betas=(.9, .99), weight_decay=.01, fused=True)
        self.step, self.seconds = 0, 0.0

    def save(self, path: Path) -> None:
        """Writes a checkpoint in one step."""
        part = path.with_suffix(".part")
        torch.save({"nets": self.nets.state_dict(), "average": self.average.state_dict(), "step": self.step,
                    "optimizer": self.optimizer.state_dict(), "seconds": self.seconds}, part)
        part.replace(path)

    def load(self, path: Path) -> None:
        """Goes on from a checkpoint."""
        stored = torch.load(path, map_location="cpu", weights_only=True)
        self.nets.load_state_dict(stored["nets"])
        self.average.load_state_dict(stored["average"])
        self.optimizer.load_state_dict(stored["optimizer"])
        self.step, self.seconds = stored["step"], stored["seconds"]

    def update(self) -> None:
        """Takes an optimizer step and moves the running average."""
        nn.utils.clip_grad_norm_(self.nets.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        keep = min(AVERAGE, (1 + self.step) / (20 + self.step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.nets.parameters()), 1 - keep)


def rate_at(step: int, share: float) -> float:
    """Learning rate: warm-up by steps, constant, then down to zero over the last part of the time."""
    return RATE * min(1.0, (step + 1) / WARM, max(0.0, (1 - share) / DECAY))


def train(minutes: float, scenes: Scenes, state: State, run: Path, publish, device: str = "cpu", every: float = 180,
          batch: int = BATCH, log=print) -> None:
    """Trains until the clock of `state` reaches `minutes`; pauses of the whole process do not count."""
    latents, alphas = scenes.latents(networks.LATENT), networks.alphas(device)
    rng, numbers = random.Random(f"train/{state.step}"), np.random.default_rng(state.step)
    generator = torch.Generator().manual_seed(1000 + state.step)
    unet, text = state.nets["unet"].train(), state.nets["text"].train()
    saved, shown, losses, clock = state.seconds, state.seconds, [], time.time()
    while state.seconds < 60 * minutes:
        for group in state.optimizer.param_groups:
            group["lr"] = rate_at(state.step, state.seconds / 60 / minutes)
        rows = numbers.integers(0, len(latents), batch)
        clean = torch.from_numpy(latents[rows]).to(device, torch.float32)
        steps = noise_steps(batch, generator)
        blind = torch.rand(batch, generator=generator) < BLIND_SHARE
        steps[blind] = 999
        steps = steps.to(device)
        ids = captions([scenes.scenes[row] for row in rows], rng, networks.LENGTH).to(device)
        x, wanted = noisy(clean, steps, alphas, generator)
        with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
            states = text(ids).last_hidden_state
            out = unet(x.contiguous(memory_format=torch.channels_last), steps, states).sample
        loss = F.mse_loss(out.float(), wanted)
        loss.backward()
        state.update()
        losses.append(loss.item())
        now = time.time()
        state.seconds += min(now - clock, 20.0)
        clock = now
        if not math.isfinite(losses[-1]):
            raise RuntimeError("the loss is no longer finite")
        if len(losses) == 50:
            log(f"unet step {state.step} {state.seconds:.0f} s loss {sum(losses) / 50:.4f} "
                f"{50 * batch / (state.seconds - shown):.1f} pictures/s")
            shown, losses = state.seconds, []
        if state.seconds - saved > every:
            state.save(run / "unet.pt")
            publish(state)
            saved, clock = state.seconds, time.time()
    state.save(run / "unet.pt")
    publish(state)
