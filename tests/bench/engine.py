"""Our diffusers engine against the plain diffusers pipeline (float32, eager) on the same weights, on the processor.

    python tests/bench/engine.py                        the embedded model, 128x128
    python tests/bench/engine.py --model sd15-random    SD1.5's real shape with random weights (4 GB), 512x512
    python tests/bench/engine.py --model FOLDER --size 512x512 --steps 3 --rounds 2

Each measurement is a fresh process, plain and ours by turns; the best of the rounds counts, as other programs only
ever add time. `seconds` is one whole picture with that many steps, after one picture to warm up; `peak` is the most
memory that the process with the model ever held. OMP_NUM_THREADS is taken over by both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "modules"), str(ROOT / "tests" / "engines")]
PROMPT, NEGATIVE, CFG, SEED = "a red house by a river at dawn", "", 4.0, 7


def main() -> None:
    args = _arguments()
    if args.one:
        seconds, peak = {"plain": plain, "ours": ours}[args.one](args)
        print(json.dumps({"seconds": seconds, "peak": peak}))
        return
    with tempfile.TemporaryDirectory() as scratch:
        args.model = _folder(args.model, Path(scratch))
        best: dict[str, dict] = {}
        for _ in range(args.rounds):
            for side in ("plain", "ours"):
                found = _fresh(side, args)
                kept = best.setdefault(side, found)
                best[side] = {name: min(kept[name], found[name]) for name in kept}
                print(f"{side:6} {found['seconds']:8.2f} s   peak {found['peak'] / 2**30:5.2f} GiB", flush=True)
    ratio = best["plain"]["seconds"] / best["ours"]["seconds"]
    memory = best["ours"]["peak"] / best["plain"]["peak"]
    print(f"ratio  {ratio:8.2f} times as fast   memory {memory:.2f} of the plain pipeline's")


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket", help="pocket, sd15-random, pocket-random, or a diffusers folder")
    parser.add_argument("--size", default="", help="WxH; default: 128x128 for pocket, else 512x512")
    parser.add_argument("--steps", type=int, default=0, help="default: 20 for pocket, else 2")
    parser.add_argument("--rounds", type=int, default=2, help="measurements of each side (default 2)")
    parser.add_argument("--dtype", default="auto", help="ours: auto, float32, bfloat16")
    parser.add_argument("--one", choices=("plain", "ours"), help=argparse.SUPPRESS)
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
    if name == "pocket-random":
        return str(small.pocket(scratch / "pocket", channels=(64, 128)))
    return str(ROOT / "assets" / "models" / "pocket") if name == "pocket" else name


def _fresh(side: str, args) -> dict:
    command = [sys.executable, __file__, "--one", side, "--model", args.model, "--size", args.size]
    command += ["--steps", str(args.steps), "--dtype", args.dtype]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=1800, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def plain(args) -> tuple[float, int]:
    """diffusers as its documentation shows it, float32."""
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

    width, height = map(int, args.size.split("x"))
    pipe = StableDiffusionPipeline.from_pretrained(args.model, safety_checker=None, local_files_only=True)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)

    def draw(steps: int) -> float:
        begun = time.perf_counter()
        generator = torch.Generator("cpu").manual_seed(SEED)
        pipe(
            PROMPT,
            negative_prompt=NEGATIVE,
            width=width,
            height=height,
            num_inference_steps=steps,
            guidance_scale=CFG,
            generator=generator,
        )
        return time.perf_counter() - begun

    draw(1)
    return draw(args.steps), _peak("self")


def ours(args) -> tuple[float, int]:
    """The same picture by the engine, its worker's memory counted."""
    from reverie.engines import open_engine
    from reverie.settings import Settings
    from reverie.types import Task

    width, height = map(int, args.size.split("x"))
    with tempfile.TemporaryDirectory() as storage:
        engine = open_engine("diffusers", Settings(root=ROOT, storage=Path(storage)), device="cpu", dtype=args.dtype)
        task = Task(
            prompt=PROMPT,
            negative=NEGATIVE,
            model=args.model,
            width=width,
            height=height,
            steps=1,
            cfg=CFG,
            seed=SEED,
            sampler="euler",
        )
        engine.run(task, [], lambda progress: None, lambda: False)
        begun = time.perf_counter()
        engine.run(task.model_copy(update={"steps": args.steps}), [], lambda progress: None, lambda: False)
        seconds, peak = time.perf_counter() - begun, _peak(str(engine.pid))
        engine.close()
    return seconds, peak


def _peak(process: str) -> int:
    """The largest resident size of a process so far, in bytes."""
    status = Path(f"/proc/{process}/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) * 1024
    import psutil

    return psutil.Process(None if process == "self" else int(process)).memory_info().rss


if __name__ == "__main__":
    main()
