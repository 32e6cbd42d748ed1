"""Grades `pocket`: draws pictures for held-out scenes and lets the grader read the attributes off them.

Examples:
  python scripts/grade_pocket.py
  python scripts/grade_pocket.py --n 64 --steps 10 --guidance 3 --json
  python scripts/grade_pocket.py --model storage/pocket-run/pipeline --sheet sheet.png
"""
import argparse
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch  # noqa: E402

from scripts.pocket import data, grade, networks  # noqa: E402
from scripts.pocket.scenes import full_caption  # noqa: E402


def load(folder: Path):
    """The pipeline, without its progress bars."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.to(memory_format=torch.channels_last)
    return pipe


def pictures_for(pipe, texts: list[str], args) -> tuple[list, float]:
    """A picture for each caption, and the seconds that each took."""
    began, pictures = time.time(), []
    for start in range(0, len(texts), args.batch):
        part = texts[start:start + args.batch]
        seeds = [torch.Generator().manual_seed(args.seed * 100003 + start + i) for i in range(len(part))]
        pictures += pipe(part, num_inference_steps=args.steps, guidance_scale=args.guidance, generator=seeds).images
    return pictures, (time.time() - began) / max(1, len(texts))


def sheet(pictures: list, columns: int = 8):
    """The first pictures side by side."""
    from PIL import Image
    some = pictures[:6 * columns]
    out = Image.new("RGB", (columns * 132, -(-len(some) // columns) * 132), "white")
    for i, picture in enumerate(some):
        out.paste(picture, (i % columns * 132 + 2, i // columns * 132 + 2))
    return out


def measure(args) -> dict:
    """All figures of a grading run."""
    from scripts.pocket.train_grader import drawings
    grader, scenes = grade.load(), grade.held_out_list()[:args.n]
    pipe = load(args.model)
    pictures, seconds = pictures_for(pipe, [full_caption(scene) for scene in scenes], args)
    wanted = [grade.stated(scene) for scene in scenes]
    shares = grade.right(grader, grade.as_tensor(pictures), wanted)
    ceiling = grade.right(grader, drawings(scenes), wanted)
    began = time.time()
    pipe(full_caption(scenes[0]), num_inference_steps=args.steps, guidance_scale=args.guidance)
    alone = time.time() - began
    if args.sheet:
        sheet(pictures).save(args.sheet)
    return {"n": len(scenes), "steps": args.steps, "guidance": args.guidance, "seed": args.seed, "accuracy": shares,
            "ceiling": ceiling, "chance": {name: grade.chance(name) for name in grade.HEADS},
            "mean": sum(shares.values()) / len(shares), "seconds_a_picture": seconds, "seconds_alone": alone}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=grade.N, help=f"held-out captions, at most {grade.N}")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--model", type=Path, default=networks.MODEL)
    parser.add_argument("--sheet", type=Path, help="write the first 48 pictures side by side")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(data.threads())
    figures = measure(args)
    if args.json:
        print(json.dumps(figures, indent=1))
        return
    print(grade.table(figures["accuracy"], figures["ceiling"]))
    print(f"{figures['seconds_a_picture']:.2f} s a picture in batches of {args.batch}, "
          f"{figures['seconds_alone']:.2f} s alone "
          f"({args.steps} steps, guidance {args.guidance:g}, {figures['n']} held-out captions)")


if __name__ == "__main__":
    main()
