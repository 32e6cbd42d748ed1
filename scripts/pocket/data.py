"""The training set of `pocket`: drawn scenes in a memory-mapped file, and batches of pictures, latents and captions."""
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from scripts.pocket.scenes import caption, full_caption, held_out, sample_scene, scene_from_dict

SIZE = 128
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "storage" / "pocket-data"
EMPTY = .1           # share of captions replaced by the empty one, for classifier-free guidance
NOISE = .15          # share of captions with stray words put in
WEIGHT = {"object": 4.0, "light": 4.0, "person": 2.5}       # of the error where they are drawn; 1 elsewhere
FILLERS = ("a", "the", "of", "with", "and", "at", "in")


def scene_at(index: int):
    """The training scene of a number: the first that is not held out, whatever the order of drawing."""
    rng = random.Random(f"pocket/{index}")
    while held_out(scene := sample_scene(rng)):
        pass
    return scene


def held_out_scenes(n: int, seed: int = 0) -> list:
    """`n` scenes with combinations that training never shows."""
    rng, scenes = random.Random(f"held out/{seed}"), []
    while len(scenes) < n:
        scene = sample_scene(rng)
        if held_out(scene):
            scenes.append(scene)
    return scenes


def _pictures(folder: Path, n: int, mode: str) -> np.memmap:
    return np.memmap(folder / "pictures.u8", np.uint8, mode, shape=(n, SIZE, SIZE, 3))


def _draw_share(folder: Path, n: int, worker: int, workers: int, blocks: int = 256) -> None:
    """Draws every `workers`-th block of pictures that is not marked as done."""
    from scripts.pocket.draw import draw_marked
    pictures = _pictures(folder, n, "r+")
    for start in range(worker * blocks, n, workers * blocks):
        mark = folder / "blocks" / f"{start:07d}.jsonl"
        if mark.exists():
            continue
        lines = []
        for index in range(start, min(start + blocks, n)):
            scene = scene_at(index)
            picture, marks = draw_marked(scene, SIZE, index)
            pictures[index] = np.asarray(picture)
            lines.append(json.dumps({"scene": scene.as_dict(), "marks": marks}))
        part = mark.with_suffix(".part")
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
        part.replace(mark)


def _code() -> str:
    """Changes with what draws and samples the scenes."""
    sources = sorted([*Path(__file__).parent.glob("draw*.py"), Path(__file__).with_name("scenes.py")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def draw_set(n: int, folder: Path = FOLDER, workers: int = 2, log=print) -> None:
    """Draws `n` scenes (uint8, 128x128x3) with their JSON lines; goes on where an earlier run of the same code stopped."""
    meta, wanted = folder / "meta.json", {"n": n, "size": SIZE, "code": _code()}
    if not meta.exists() or json.loads(meta.read_text(encoding="utf-8")) != wanted:
        shutil.rmtree(folder / "blocks", ignore_errors=True)
        for mark in folder.glob("*.key"):
            mark.unlink()
    (folder / "blocks").mkdir(parents=True, exist_ok=True)
    path = folder / "pictures.u8"
    size = n * SIZE * SIZE * 3
    if not path.exists() or path.stat().st_size < size:
        with open(path, "ab") as file:
            file.truncate(size)
    meta.write_text(json.dumps(wanted), encoding="utf-8")
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=_draw_share, args=(folder, n, worker, workers)) for worker in range(workers)]
    began = time.time()
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    if any(job.exitcode for job in jobs):
        raise RuntimeError("drawing the training set failed")
    log(f"drew {n} scenes in {time.time() - began:.0f} s")


class Scenes:
    """The part of the set that is drawn already: pictures, scenes and what networks made of them."""

    latents_shape = (4, SIZE // 8, SIZE // 8)
    views_shape = (40, SIZE // 16, SIZE // 16)

    def __init__(self, folder: Path = FOLDER):
        self.folder = folder
        self.n = json.loads((folder / "meta.json").read_text(encoding="utf-8"))["n"]
        self.pictures = _pictures(folder, self.n, "r")
        self.refresh()

    def refresh(self) -> int:
        """Reads which blocks are there; returns how many pictures are usable."""
        marks = sorted((self.folder / "blocks").glob("*.jsonl"))
        self.index, self.scenes, self.marks = [], [], []
        for mark in marks:
            lines = mark.read_text(encoding="utf-8").splitlines()
            self.index += range(int(mark.stem), int(mark.stem) + len(lines))
            for entry in map(json.loads, lines):
                self.scenes.append(scene_from_dict(entry["scene"]))
                self.marks.append(entry["marks"])
        self.index = np.asarray(self.index)
        return len(self.index)

    def kept(self, name: str, shape: tuple, key: str = "", compute=None) -> np.memmap:
        """What a network made of every picture, float16 [n, *shape] in the order of `index`.

        With `compute` (pictures -> [b, *shape]) it is made where it was not made with this `key` and set before.
        """
        path, mark = self.folder / f"{name}.f16", self.folder / f"{name}.key"
        shape, key = (len(self.index), *shape), f"{key} {len(self.index)}"
        if compute is None or mark.exists() and mark.read_text(encoding="utf-8") == key:
            return np.memmap(path, np.float16, "r", shape=shape)
        mark.unlink(missing_ok=True)
        out = np.memmap(path, np.float16, "w+", shape=shape)
        with torch.inference_mode():
            for start in range(0, len(out), 64):
                rows = slice(start, min(start + 64, len(out)))
                out[rows] = compute(self.images(rows).contiguous(memory_format=torch.channels_last)).cpu().numpy()
        out.flush()
        mark.write_text(key, encoding="utf-8")
        return out

    def latents(self) -> np.memmap:
        """Latents of the pictures, [n, 4, 16, 16]."""
        return self.kept("latents", self.latents_shape)

    def views(self) -> np.memmap:
        """What the grader sees where in the pictures, [n, 40, 8, 8] of zero mean and unit variance."""
        return self.kept("views", self.views_shape)

    def weights(self) -> np.ndarray:
        """How much each latent of each picture matters, float32 [n, 16, 16], 1 where nothing is marked.

        Objects, people, sun and moon are what a caption is about and cover a small part of the picture only.
        """
        out, grid = np.ones((len(self.marks), *self.latents_shape[1:]), np.float32), self.latents_shape[1]
        for weights, marks in zip(out, self.marks):
            for kind, *box in marks:
                left, top, right, bottom = (int(min(max(edge, 0), .999) * grid) for edge in box)
                cells = weights[top:bottom + 1, left:right + 1]
                np.maximum(cells, WEIGHT[kind], out=cells)
        return out

    def images(self, rows) -> torch.Tensor:
        """Pictures of the given rows as float32 [b, 3, 128, 128] in -1..1."""
        batch = torch.from_numpy(self.pictures[self.index[rows]])
        return batch.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


@lru_cache(maxsize=1)
def word_ids() -> dict[str, int]:
    """Word -> token of the committed word list, for quick encoding in training."""
    from scripts.pocket.networks import vocabulary_ids
    return vocabulary_ids()


def encode(text: str, length: int) -> list[int]:
    """Tokens of a caption as the tokenizer gives them: begin, known words, end, padding (`length` ids)."""
    ids = word_ids()
    found = [ids[word] for word in text.replace(",", " ").lower().split() if word in ids][:length - 2]
    return [ids["<bos>"], *found, ids["<eos>"]] + [ids["<pad>"]] * (length - 2 - len(found))


def stray(text: str, rng: random.Random) -> str:
    """A caption with one to four stray words put in at any place."""
    parts = text.split()
    for _ in range(rng.randint(1, 4)):
        parts.insert(rng.randint(0, len(parts)), rng.choice(FILLERS))
    return " ".join(parts)


def training_caption(scene, rng: random.Random) -> str:
    """A caption of the scene, sometimes empty, sometimes complete, sometimes with stray words."""
    chance = rng.random()
    if chance < EMPTY:
        return ""
    text = full_caption(scene) if chance > .5 else caption(scene, rng)
    return stray(text, rng) if rng.random() < NOISE else text


def captions(scenes, rng: random.Random, length: int) -> torch.Tensor:
    """Token ids [b, length] of freshly sampled captions."""
    return torch.tensor([encode(training_caption(scene, rng), length) for scene in scenes])


def threads() -> int:
    """CPU threads to compute with."""
    return int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
