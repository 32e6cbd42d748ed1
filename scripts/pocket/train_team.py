"""Training by several single-threaded worker processes on shared weights.

On a CPU one such process per core does nearly twice the work of one process with that many threads, and it suffers less
from neighbours. With one worker (a GPU) the same code runs without any sharing.
"""
import copy
import ctypes
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

BETAS, DECAY, AVERAGE = (.9, .99), .01, .998
PARENT_DEATH_SIGNAL = 1            # of Linux's prctl: a helper never outlives a killed training
EVERY = 4                          # the running average follows every 4 steps


class State:
    """Networks whose weights lie in flat vectors, which several worker processes can share.

    `weights`, `average` and the two moments have one value per parameter, `grads` has a row per worker. Each worker
    computes the gradients of its own pictures and updates its own part of the vectors.
    """

    def __init__(self, nets: nn.Module, workers: int = 1):
        device = next(nets.parameters()).device
        self.weights = torch.cat([flat(p.data) for p in nets.parameters()])
        self.average = self.weights.clone()
        self.first, self.second = torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        self.grads = torch.zeros(workers, len(self.weights), device=device)
        self.clock = torch.zeros(2, dtype=torch.float64)          # steps done, seconds trained
        self.norms = torch.zeros(workers, dtype=torch.float64)
        if device.type == "cpu":
            for tensor in (self.weights, self.average, self.first, self.second, self.grads, self.clock, self.norms):
                tensor.share_memory_()

    def bind(self, nets: nn.Module, worker: int = 0) -> nn.Module:
        """Makes the networks' weights and gradients views of the vectors."""
        start = 0
        for parameter in nets.parameters():
            stop = start + parameter.numel()
            parameter.data = shaped(self.weights[start:stop], parameter)
            parameter.grad = shaped(self.grads[worker, start:stop], parameter)
            start = stop
        return nets

    def averaged(self, nets: nn.Module) -> nn.Module:
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
        optimizer = torch.optim.AdamW([mine], betas=BETAS, weight_decay=DECAY, fused=True)
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


def alone() -> None:
    """The meeting point of a single worker."""


def run(job, workers: int, args: tuple) -> None:
    """Runs `job(worker, wait, *args)` in `workers` processes, the first of them this one."""
    if workers == 1:
        job(0, alone, *args)
        return
    context = torch.multiprocessing.get_context("spawn")
    barrier = context.Barrier(workers)
    helpers = [context.Process(target=_help, daemon=True, args=(job, i, barrier, args)) for i in range(1, workers)]
    for process in helpers:
        process.start()
    threads = torch.get_num_threads()
    _help(job, 0, barrier, args)
    for process in helpers:
        process.join(60)
    torch.set_num_threads(threads)


def _help(job, worker: int, barrier, args: tuple) -> None:
    if worker and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    job(worker, lambda: barrier.wait(600), *args)


def say(text: str) -> None:
    """A line for the log."""
    print(time.strftime("%H:%M:%S", time.gmtime()), text, flush=True)
