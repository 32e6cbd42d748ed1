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

BATCH, RATE, WARM, DECAY, AVERAGE = 24, 8e-4, 150, .4, .998
BETAS, EVERY = (.9, .99), 4        # the running average follows every 4 steps
SHORT = 40                        # three batches of four spare the padding after the longest possible caption
BLIND = 985                       # from this step on the input is noise alone, as at the start of sampling
BLIND_SHARE = .06
STEP_CENTRE, STEP_WIDTH = 1.1, 1.2  # logit-normal choice of the noise step: a picture's content is decided above 700
COARSE = {2: 1.0, 4: 4.0, 8: 8.0}  # weight of the error after pooling: coarse shapes before the grain of the paper


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
    """Networks whose weights lie in flat vectors, which several worker processes can share.

    `weights`, `average` and the two moments have one value per parameter, `grads` has a row per worker. Each worker
    computes the gradients of its own pictures and updates its own part of the vectors.
    """

    def __init__(self, unet, text_encoder, device: str = "cpu", workers: int = 1):
        nets = self.bundle(unet, text_encoder, device)
        self.weights = torch.cat([flat(p.data) for p in nets.parameters()])
        self.average = self.weights.clone()
        self.first, self.second = torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        self.grads = torch.zeros(workers, len(self.weights), device=device)
        self.clock = torch.zeros(2, dtype=torch.float64)          # steps done, seconds trained
        self.norms = torch.zeros(workers, dtype=torch.float64)
        if device == "cpu":
            for tensor in (self.weights, self.average, self.first, self.second, self.grads, self.clock, self.norms):
                tensor.share_memory_()

    @staticmethod
    def bundle(unet, text_encoder, device: str = "cpu") -> nn.ModuleDict:
        """Both networks together, laid out for convolutions over channels."""
        nets = nn.ModuleDict({"unet": unet, "text": text_encoder}).to(device)
        nets["unet"].to(memory_format=torch.channels_last)
        return nets

    def bind(self, nets: nn.ModuleDict, worker: int = 0) -> nn.ModuleDict:
        """Makes the networks' weights and gradients views of the vectors."""
        start = 0
        for parameter in nets.parameters():
            stop = start + parameter.numel()
            parameter.data = shaped(self.weights[start:stop], parameter)
            parameter.grad = shaped(self.grads[worker, start:stop], parameter)
            start = stop
        return nets

    def averaged(self, nets: nn.ModuleDict) -> nn.ModuleDict:
        """A copy of the networks with the running average of the weights."""
        twin, start = copy.deepcopy(nets).cpu().requires_grad_(False), 0
        for parameter in twin.parameters():
            parameter.data = shaped(self.average[start:start + parameter.numel()].cpu(), parameter).clone()
            start += parameter.numel()
        return twin

    def save(self, path: Path) -> None:
        """Writes a checkpoint in one step."""
        part = path.with_suffix(".part")
        torch.save({name: getattr(self, name) for name in KEPT}, part)
        part.replace(path)

    def load(self, path: Path) -> None:
        """Goes on from a checkpoint."""
        stored = torch.load(path, map_location="cpu", weights_only=True)
        for name in KEPT:
            getattr(self, name).copy_(stored[name])

    def optimizer(self, worker: int) -> torch.optim.Optimizer:
        """AdamW over this worker's part of the vectors, with the moments that all workers share."""
        size = -(-len(self.weights) // len(self.grads))
        self.part = slice(worker * size, (worker + 1) * size)
        mine = nn.Parameter(self.weights[self.part])
        optimizer = torch.optim.AdamW([mine], RATE, betas=BETAS, weight_decay=.01, fused=True)
        optimizer.state[mine] = {"step": self.clock[0].float().clone(), "exp_avg": self.first[self.part],
                                 "exp_avg_sq": self.second[self.part]}
        return optimizer

    def update(self, optimizer, rate: float, worker: int, wait) -> None:
        """One step on this worker's part of the vectors; `wait` lets every worker come to the same point."""
        group, step = optimizer.param_groups[0], int(self.clock[0]) + 1
        mine, group["lr"] = group["params"][0], rate
        wait()
        mine.grad = self.grads[:, self.part].mean(0) if len(self.grads) > 1 else self.grads[0].clone()
        self.norms[worker] = torch.dot(mine.grad, mine.grad)
        wait()
        norm = float(self.norms.sum()) ** .5
        if norm > 1:
            mine.grad.mul_(1 / norm)
        self.grads[worker].zero_()
        optimizer.step()
        if step % EVERY == 0:
            keep = min(AVERAGE, (1 + step) / (20 + step)) ** EVERY
            self.average[self.part].lerp_(mine.data, 1 - keep)
        if worker == 0:
            self.clock[0] = step
        wait()


KEPT = ("weights", "average", "first", "second", "clock")


def flat(tensor: torch.Tensor) -> torch.Tensor:
    """Values of a tensor in the order in which memory holds them; 4-D tensors with the channels last."""
    return (tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor).reshape(-1).float()


def shaped(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The inverse of `flat`, as a view."""
    if like.ndim != 4:
        return values.view(like.shape)
    o, i, h, w = like.shape
    return values.view(o, h, w, i).permute(0, 3, 1, 2)


def rate_at(step: int, share: float) -> float:
    """Learning rate: warm-up by steps, constant, then down to zero over the last part of the time."""
    return RATE * min(1.0, (step + 1) / WARM, max(0.0, (1 - share) / DECAY))


def coarse_to_fine(error: torch.Tensor) -> torch.Tensor:
    """Squared error of [b, c, h, w], and again of its pooled copies; the best prediction stays the same."""
    return error.square().mean() + sum(weight * F.avg_pool2d(error, side).square().mean()
                                       for side, weight in COARSE.items())


def batch_loss(nets, scenes, latents, alphas, chance, step: int, batch: int, device: str):
    """Squared error of the velocity over one fresh batch."""
    rng, numbers, generator = chance
    rows = numbers.integers(0, len(latents), batch)
    clean = torch.from_numpy(latents[rows]).to(device, torch.float32)
    steps = noise_steps(batch, generator)
    steps[torch.rand(batch, generator=generator) < BLIND_SHARE] = 999
    steps = steps.to(device)
    length = networks.LENGTH if step % 4 == 3 else SHORT
    ids = captions([scenes.scenes[row] for row in rows], rng, length).to(device)
    x, wanted = noisy(clean, steps, alphas, generator)
    with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
        states = nets["text"](ids).last_hidden_state
        out = nets["unet"](x.contiguous(memory_format=torch.channels_last), steps, states).sample
    return coarse_to_fine(out.float() - wanted)


def work(worker: int, state: State, nets, wait, minutes: float, batch: int, device: str, saving, log=print) -> None:
    """One worker's training loop; worker 0 keeps the clock, logs and saves."""
    scenes = Scenes()
    scenes.refresh()
    latents, alphas = scenes.latents(networks.LATENT), networks.alphas(device)
    begun = f"{worker}/{int(state.clock[0])}"
    chance = (random.Random(begun), np.random.default_rng(random.Random(begun).getrandbits(32)),
              torch.Generator().manual_seed(random.Random(begun).getrandbits(32)))
    state.bind(nets, worker).train()
    optimizer = state.optimizer(worker)
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
                log(f"unet step {int(state.clock[0])} {float(state.clock[1]):.0f} s rate {rate:.1e} "
                    f"loss {sum(losses) / 100:.4f} {speed:.1f} pictures/s")
                shown, losses = float(state.clock[1]), []
            saving(state, nets)
        wait()


def saver(run: Path, vae, folders: list[Path], minutes: float, every: float = 420):
    """A function that writes a checkpoint and the pipeline every few minutes, and when the time is over."""
    last = [time.time()]

    def saving(state: State, nets) -> None:
        if time.time() - last[0] < every and state.clock[1] < 60 * minutes:
            return
        state.save(run / "unet.pt")
        twin = state.averaged(nets)
        for folder in folders:
            networks.save_pipeline(twin["unet"], twin["text"], vae, folder)
        last[0] = time.time()

    return saving


def say(text: str) -> None:
    """A line for the log."""
    print(time.strftime("%H:%M:%S", time.gmtime()), text, flush=True)


def helper(worker: int, state: State, configs, barrier, minutes: float, batch: int) -> None:
    """A worker process beside the first one: builds the same networks on the shared weights."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    nets = State.bundle(UNet2DConditionModel.from_config(configs[0]), CLIPTextModel(CLIPTextConfig(**configs[1])))
    work(worker, state, nets, lambda: barrier.wait(600), minutes, batch, "cpu", lambda *_: None)


def train(minutes: float, state: State, nets, saving, device: str = "cpu", batch: int = BATCH, log=say) -> None:
    """Trains until the clock of `state` reaches `minutes`; pauses of the whole process do not count.

    On the CPU one single-threaded process per core does nearly twice the work of one process with that many threads.
    """
    workers = len(state.grads)
    if workers == 1:
        work(0, state, nets, lambda: None, minutes, batch, device, saving, log)
        return
    context = torch.multiprocessing.get_context("spawn")
    barrier, configs = context.Barrier(workers), (dict(nets["unet"].config), nets["text"].config.to_dict())
    helpers = [context.Process(target=helper, daemon=True, args=(i, state, configs, barrier, minutes, batch // workers))
               for i in range(1, workers)]
    for process in helpers:
        process.start()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    work(0, state, nets, lambda: barrier.wait(600), minutes, batch // workers, device, saving, log)
