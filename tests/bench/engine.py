"""Our diffusers engine against the plain diffusers pipeline (eager; float32 on the processor, bfloat16 on a card), on the same weights.

    python tests/bench/engine.py                        the embedded model, 128x128
    python tests/bench/engine.py --model sd15-random    SD1.5's real shape with random weights (4 GB), 512x512
    python tests/bench/engine.py --model FOLDER --size 512x512 --steps 3 --rounds 2
    python tests/bench/engine.py --sides ours compile openvino     the first is the measure
    python tests/bench/engine.py --device cuda:0 --model sdxl-random --size 1344x768 --steps 30
    python tests/bench/engine.py --device cuda:0 --model sd-turbo-random --steps 1 --cfg 1 --sides plain ours compile

Sides: plain, ours, and ours with the option `accelerate`: compile, openvino (`pip install openvino` first). `:float32` or
`:bfloat16` after a side fixes its number format.

Each measurement is a fresh process, the sides by turns; the best of the rounds counts, as other programs only
ever add time. `seconds` is one whole picture with that many steps, after one picture to warm up; `cpu` is what all threads of the
process with the model spent on it, which a busy machine changes less; `peak` is the most memory that process ever held; on a card,
what it holds of the card at the end, as torch gives nothing back.
OMP_NUM_THREADS is taken over by all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "modules"), str(ROOT / "tests" / "engines")]
PROMPT, NEGATIVE, SEED = "a red house by a river at dawn", "", 7


def main() -> None:
    args = _arguments()
    if args.one:
        print(json.dumps(_measure(args)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        args.model = _folder(args.model, Path(scratch))
        best: dict[str, dict] = {}
        for _ in range(args.rounds):
            for side in args.sides:
                found = _fresh(side, args)
                kept = best.setdefault(side, found)
                best[side] = {name: min(kept[name], found[name]) for name in kept}
                print(f"{side:22} {_said(found)}", flush=True)
    base = best[args.sides[0]]
    for side in args.sides[1:]:
        times, cpu, memory = (base[name] / best[side][name] for name in ("seconds", "cpu", "peak"))
        print(f"{side:22} {times:.2f} times as fast as {args.sides[0]} (cpu {cpu:.2f}); memory {1 / memory:.2f} of it")


def _said(found: dict) -> str:
    return f"{found['seconds']:8.2f} s   cpu {found['cpu']:8.2f} s   peak {found['peak'] / 2**30:5.2f} GiB"


def _measure(args) -> dict:
    """seconds, cpu and peak of one side, in this process."""
    side, _, dtype = args.one.partition(":")
    args.dtype = dtype or args.dtype
    if side == "plain":
        return plain(args)
    return ours(args, accelerate="" if side == "ours" else side)


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket", help="pocket, or a diffusers folder; with random weights: sd15-random, sd-turbo-random, sdxl-random, pocket-random")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda:0, …")
    parser.add_argument("--cfg", type=float, default=4.0, help="guidance; 1 is no second pass (default 4)")
    parser.add_argument("--size", default="", help="WxH; default: 128x128 for pocket, else 512x512")
    parser.add_argument("--steps", type=int, default=0, help="default: 20 for pocket, else 2")
    parser.add_argument("--rounds", type=int, default=2, help="measurements of each side (default 2)")
    parser.add_argument("--dtype", default="auto", help="ours: auto, float32, bfloat16")
    parser.add_argument("--sides", nargs="+", default=["plain", "ours"], help="default: plain ours")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    small = "pocket" in args.model
    args.size = args.size or ("128x128" if small else "512x512")
    args.steps = args.steps or (20 if small else 2)
    return args


def _folder(name: str, scratch: Path) -> str:
    """The model's folder; random ones are built into `scratch`."""
    import small

    if name == "sd15-random":
        return str(small.sd15(scratch / "sd15", weights="real"))
    if name == "sd-turbo-random":
        return str(small.sd21(scratch / "sd-turbo", weights="real"))
    if name == "sdxl-random":
        return str(small.sdxl(scratch / "sdxl", weights="real"))
    if name == "pocket-random":
        return str(small.pocket(scratch / "pocket", channels=(64, 128)))
    return str(ROOT / "assets" / "models" / "pocket") if name == "pocket" else name


def _fresh(side: str, args) -> dict:
    command = [sys.executable, __file__, "--one", side, "--model", args.model, "--size", args.size]
    command += ["--steps", str(args.steps), "--dtype", args.dtype, "--device", args.device, "--cfg", str(args.cfg)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=1800)
    if done.returncode:
        sys.exit(f"{side}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def plain(args) -> dict:
    """diffusers as its documentation shows it."""
    import torch
    from diffusers import DiffusionPipeline, EulerDiscreteScheduler

    width, height = map(int, args.size.split("x"))
    dtype = torch.float32 if args.device == "cpu" else torch.bfloat16
    pipe = DiffusionPipeline.from_pretrained(args.model, local_files_only=True, torch_dtype=dtype).to(args.device)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)

    def draw(steps: int) -> None:
        pipe(
            PROMPT,
            negative_prompt=NEGATIVE,
            width=width,
            height=height,
            num_inference_steps=steps,
            guidance_scale=args.cfg,
            generator=torch.Generator("cpu").manual_seed(SEED),
        )

    draw(1)
    return _timed(lambda: draw(args.steps), os.getpid(), args.device)


def ours(args, **options) -> dict:
    """The same picture by the engine, its worker's time and memory counted."""
    from reverie.engines import open_engine
    from reverie.settings import Settings
    from reverie.types import Task

    width, height = map(int, args.size.split("x"))
    with tempfile.TemporaryDirectory() as storage:
        settings = Settings(root=ROOT, storage=Path(storage))
        engine = open_engine("diffusers", settings, device=args.device, dtype=args.dtype, **options)
        task = Task(
            prompt=PROMPT,
            negative=NEGATIVE,
            model=args.model,
            width=width,
            height=height,
            steps=1,
            cfg=args.cfg,
            seed=SEED,
            sampler="euler",
        )
        engine.run(task, [], lambda progress: None, lambda: False)
        wanted = task.model_copy(update={"steps": args.steps})
        found = _timed(lambda: engine.run(wanted, [], lambda progress: None, lambda: False), engine.pid, args.device)
        engine.close()
    return found


def _timed(do, process: int, device: str) -> dict:
    import psutil

    times = psutil.Process(process).cpu_times
    begun, spent = time.perf_counter(), sum(times()[:2])
    do()
    return {"seconds": time.perf_counter() - begun, "cpu": sum(times()[:2]) - spent, "peak": _peak(process, device)}


def _peak(process: int, device: str) -> int:
    """The largest resident size of a process so far, or what it holds of the card, in bytes."""
    if device != "cpu":
        query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
        lines = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
        held = dict(line.split(", ") for line in lines)
        return int(held.get(str(process), 0)) << 20
    status = Path(f"/proc/{process}/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) * 1024
    import psutil

    return psutil.Process(process).memory_info().rss


if __name__ == "__main__":
    main()
