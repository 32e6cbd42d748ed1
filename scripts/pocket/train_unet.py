"""Training of the text encoder and the unet on the latents of the drawings."""
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
from scripts.pocket.train_team import State, alone, run, say

BATCH, RATE, WARM, DECAY = 16, 7e-4, 150, .4
SHORT = 40                        # three batches of four spare the padding after the longest possible caption
BLIND = 985                       # from this step on the input is noise alone, as at the start of sampling
BLIND_SHARE = .06
CENTRE, WIDTH = -1.2, 1.8         # of the normal distribution of the logarithm of the signal-to-noise ratio in training
GUIDE = 1.0                       # weight of the guide's error
COARSE = {2: .5, 4: .5}           # weight of the error after pooling: coarse shapes before the grain of the paper


def learn_words(text_encoder, scenes: Scenes, seconds: float, batch: int = 64, log=print) -> None:
    """A head start for the text encoder: to tell a scene's attributes from the last state of its caption."""
    width = networks.TEXT["hidden_size"]
    heads = nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in HEADS.items()})
    optimizer = torch.optim.AdamW([*text_encoder.parameters(), *heads.parameters()], 1e-3, betas=(.9, .98))
    rng, began, step = random.Random(7), time.time(), 0
    while (share := (time.time() - began) / seconds) < 1:
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, (step + 1) / 50, 2.5 * (1 - share)) + 1e-6
        some = [scenes.scenes[rng.randrange(len(scenes.scenes))] for _ in range(batch)]
        texts = [full_caption(scene) if rng.random() < .5 else caption(scene, rng) for scene in some]
        texts = [stray(text, rng) if rng.random() < .15 else text for text in texts]
        ids = torch.tensor([encode(text, SHORT) for text in texts])
        state = text_encoder(ids).pooler_output
        wanted = {name: torch.tensor([labels(scene)[name] for scene in some]) for name in HEADS}
        loss = sum(F.cross_entropy(heads[name](state), wanted[name], ignore_index=-1) for name in HEADS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 50 == 0:
            right = {name: ((heads[name](state).argmax(1) == wanted[name]).float()[wanted[name] >= 0]).mean().item()
                     for name in HEADS}
            log(f"words step {step} loss {loss.item():.3f} least {min(right.items(), key=lambda kv: kv[1])}")


def noise_steps(batch: int, alphas: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Noise steps [b], int64 in 0..999, whose log signal-to-noise ratios are normally distributed."""
    wanted = CENTRE + WIDTH * torch.randn(batch, generator=generator)
    ratios = (alphas / (1 - alphas)).log().cpu().flip(0)          # rising, as searchsorted wants them
    return (len(ratios) - 1 - torch.searchsorted(ratios, wanted)).clamp(0, len(ratios) - 1)


def noisy(latents, steps, alphas, generator):
    """Noisy input and the velocity to predict, for clean latents [b, c, h, w] and steps [b]."""
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    signal = alphas[steps].clone()
    signal[steps >= BLIND] = 0
    a, s = signal.sqrt()[:, None, None, None], (1 - signal).sqrt()[:, None, None, None]
    return a * latents + s * noise, a * noise - s * latents


def rate_at(step: int, share: float) -> float:
    """Learning rate: warm-up by steps, constant, then down to zero over the last part of the time."""
    return RATE * min(1.0, (step + 1) / WARM, max(0.0, (1 - share) / DECAY))


def coarse_to_fine(error: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Squared error of [b, c, h, w] weighted by [b, 1, h, w], and again of its pooled copies."""
    return (error.square() * weights).mean() + sum(
        share * (F.avg_pool2d(error, side).square() * F.avg_pool2d(weights, side)).mean()
        for side, share in COARSE.items())


def batch_loss(nets, scenes, latents, alphas, chance, step: int, batch: int, device: str):
    """Error of the velocity over one fresh batch, and of what the unet's middle expects the grader to see."""
    rng, numbers, generator = chance
    latents, views, weights = latents
    rows = numbers.integers(0, len(latents), batch)
    clean = torch.from_numpy(latents[rows]).to(device, torch.float32)
    steps = noise_steps(batch, alphas, generator)
    steps[torch.rand(batch, generator=generator) < BLIND_SHARE] = 999
    steps = steps.to(device)
    length = networks.LENGTH if step % 4 == 3 else SHORT
    ids = captions([scenes.scenes[row] for row in rows], rng, length).to(device)
    x, wanted = noisy(clean, steps, alphas, generator)
    with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
        states = nets["text"](ids).last_hidden_state
        out = nets["unet"](x.contiguous(memory_format=torch.channels_last), steps, states).sample
        seen = nets["guide"](nets.middle.pop())
    matter = torch.from_numpy(weights[rows][:, None]).to(device)
    error = seen.float() - torch.from_numpy(views[rows]).to(device, torch.float32)
    guide = (error.square() * F.avg_pool2d(matter, 2)).mean()
    return coarse_to_fine(out.float() - wanted, matter) + GUIDE * guide


def bundle(unet, text_encoder, device: str = "cpu") -> nn.ModuleDict:
    """Both networks and the guide, a layer that reads off the middle of the unet what the picture will show where.

    A clean target for text and layout beside the noisy one speeds training up (Yu et al. 2024, arXiv:2410.06940).
    The guide is needed in training only.
    """
    guide = nn.Conv2d(networks.WIDTHS[-1], Scenes.views_shape[0], 1)
    nets = nn.ModuleDict({"unet": unet, "text": text_encoder, "guide": guide}).to(device)
    nets["unet"].to(memory_format=torch.channels_last)
    nets.middle = []
    unet.up_blocks[0].register_forward_hook(lambda block, given, out: nets.middle.append(out))
    return nets


def from_configs(unet_config: dict, text_config: dict) -> nn.ModuleDict:
    """The same networks again, for a worker process."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel
    return bundle(UNet2DConditionModel.from_config(unet_config), CLIPTextModel(CLIPTextConfig(**text_config)))


def work(worker: int, wait, state: State, configs, minutes: float, batch: int, device: str, saving, nets=None) -> None:
    """One worker's training loop; worker 0 keeps the clock, logs and saves."""
    nets = state.bind(from_configs(*configs) if nets is None else nets, worker).train()
    optimizer, scenes = state.optimizer(worker), Scenes()
    scenes.refresh()
    weights = scenes.weights()
    latents, alphas = (scenes.latents(), scenes.views(), weights / weights.mean()), networks.alphas(device)
    seed = random.Random(f"{worker}/{int(state.clock[0])}").getrandbits(32)
    chance = random.Random(seed), np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    shown, losses, before = float(state.clock[1]), [], time.time()
    while state.clock[1] < 60 * minutes:
        rate = rate_at(int(state.clock[0]), float(state.clock[1]) / 60 / minutes)
        loss = batch_loss(nets, scenes, latents, alphas, chance, int(state.clock[0]), batch, device)
        loss.backward()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise RuntimeError("the loss is no longer finite")
        state.update(optimizer, rate, worker, wait)
        if worker == 0:
            now = time.time()
            state.clock[1] += min(now - before, 20.0)
            before = now
            if len(losses) == 100:
                speed = 100 * batch * len(state.grads) / (float(state.clock[1]) - shown)
                say(f"unet step {int(state.clock[0])} {float(state.clock[1]):.0f} s rate {rate:.1e} "
                    f"loss {sum(losses) / 100:.4f} {speed:.1f} pictures/s")
                shown, losses = float(state.clock[1]), []
            saving(state, nets)
        wait()


class Saver:
    """Writes a checkpoint and the pipeline every few minutes, and when the time is over."""

    def __init__(self, run: Path, vae, folders: list[Path], minutes: float, every: float = 420):
        self.run, self.vae, self.folders, self.end, self.every = run, vae, folders, 60 * minutes, every
        self.last = time.time()

    def __call__(self, state: State, nets) -> None:
        """To be called after each step."""
        if time.time() - self.last < self.every and state.clock[1] < self.end:
            return
        state.save(self.run / "unet.pt")
        twin = state.averaged(nets)
        for folder in self.folders:
            networks.save_pipeline(twin["unet"], twin["text"], self.vae, folder)
        self.last = time.time()


def train(minutes: float, state: State, nets, saver: Saver, device: str = "cpu", batch: int = BATCH) -> None:
    """Trains until the clock of `state` reaches `minutes`; pauses of the whole process do not count."""
    workers = len(state.grads)
    if workers == 1:
        work(0, alone, state, None, minutes, batch, device, saver, nets)
        return
    configs = dict(nets["unet"].config), nets["text"].config.to_dict()
    run(work, workers, (state, configs, minutes, batch // workers, device, saver))
