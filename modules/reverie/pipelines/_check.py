"""How well each picture shows its prompt: a CLIP holds every picture against the prompts of all scenes of the run.

A bare cosine says little to a person, so a grade says how the picture's own prompt does among all of them:

    match   cosine of picture and prompt, -1..1
    sure    how surely the picture picks its own prompt out of all, 0..1: a softmax at the temperature the CLIP learnt
    rank    the place of its own prompt among `of` different ones, the one that fits the picture best first
    like    the scene whose prompt fits it best, such as "chapter 4, scene 2"; "" when that is its own
    weak    whether a guess would be as sure: `sure` is at most 1 / of

What was looked at once is kept beside the pictures: `.check.json` holds the vectors of pictures and prompts by the
digest of their bytes, for one CLIP (its weights' fingerprint).
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, Iterator

from reverie import media, models, vision
from reverie.errors import ReverieError, StoreFailed
from reverie.pipelines import Update

WEAKEST = 5
CACHE, MOST_KEPT = ".check.json", 4096  # vectors; those of the present run always stay


def run(out: Path, clip: models.Model, rows: list[dict[str, Any]], log_file: Path) -> Iterator[Update]:
    """Grade the scenes' pictures; yields progress and gives back `{"check": …}` for the run's summary:

        clip      the CLIP's id
        grades    a dict of the figures above for each picture, with chapter, scene, filename and path
        weakest   paths of those that are least sure of their own prompt, the worst first
        told      lines for people
        error     why there are no grades: a check that fails leaves everything else as it is

    Each row has `asked`, its prompt, and `image`, paths of its pictures where they would be; it gets `grades`, its own.
    """
    grades, error = [], ""
    try:
        grades = yield from grade(out, clip, rows, log_file)
    except ReverieError as failure:
        error = f"The pictures could not be checked: {failure}"
        yield Update("failed", text=error)
    for row in rows:
        row["grades"] = [found for found in grades if found["filename"] == row["filename"]]
    worst = weakest(grades)
    told = [] if error else tell(grades, worst, clip.id, out)
    paths = [found["path"] for found in worst]
    return {"check": {"clip": clip.id, "grades": grades, "weakest": paths, "told": told, "error": error}}


def grade(out: Path, clip: models.Model, rows: list[dict[str, Any]], log_file: Path) -> Iterator[Update]:
    """Yields progress, gives back the grades. Scenes without a picture count with their prompts. Errors: `vision.look`'s."""
    shown = [(row, Path(path)) for row in rows for path in row["image"] if Path(path).exists()]
    if not shown:
        return []
    first_with: dict[str, dict] = {}
    for row in rows:
        first_with.setdefault(row["asked"], row)
    prompts, scenes = list(first_with), list(first_with.values())
    scale, texts, pictures = yield from _vectors(out, clip, prompts, [path for _, path in shown], log_file)
    return [
        _grade(row, path, prompts.index(row["asked"]), matches, scale, scenes)
        for (row, path), matches in zip(shown, vision.cosines(pictures, texts), strict=True)
    ]


def weakest(grades: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that are least sure of their own prompt, the worst first: at most WEAKEST, not more than half of all."""
    return sorted(grades, key=lambda found: (found["sure"], found["match"]))[: min(WEAKEST, -(-len(grades) // 2))]


def tell(grades: list[dict[str, Any]], worst: list[dict[str, Any]], clip: str, out: Path) -> list[str]:
    """What the check found, the weakest pictures with their reasons, and what to do about them."""
    if not grades:
        return ["Nothing is drawn yet, so there is nothing to check. Draw first: the same command without --dry-run."]
    others = grades[0]["of"]
    if others == 1:
        match = grades[0]["match"]
        return [f"Checked with {clip}: one prompt only, so there is nothing to tell it from (match {match:.2f})."]
    first, weak = sum(found["rank"] == 1 for found in grades), sum(found["weak"] for found in grades)
    lines = [f"Checked with {clip}: {first} of {len(grades)} pictures fit their own prompt best of all {others}, "
             f"{weak} no better than by chance. The weakest:"]
    for found in worst:
        like = f", looks more like {found['like']}" if found["like"] else ""
        lines += [f"  {_place(found)}: {found['sure']:.0%} sure, rank {found['rank']} of {others}{like}",
                  f"    {Path(found['path']).name}"]
    return [*lines, f"Edit a scene's prompt in {out / 'prompts'} and run again: only that picture is made anew. "
                    f'--redraw "{worst[0]["chapter"]} {worst[0]["scene"]}" draws one with another seed, another --seed all of them, '
                    "--count 4 gives more to choose from."]


def _grade(row: dict[str, Any], path: Path, own: int, matches, scale: float, scenes: list[dict]) -> dict[str, Any]:
    """`matches`: the picture's cosines with all prompts; `own`: which is its own; `scenes`: each prompt's first row."""
    import numpy as np

    shares = np.exp(scale * (matches - matches.max()))
    sure, rank = float(shares[own] / shares.sum()), 1 + int((matches > matches[own]).sum())
    return {
        "chapter": row["chapter"], "scene": row["scene"], "filename": row["filename"], "path": str(path),
        "match": round(float(matches[own]), 4), "sure": round(sure, 4), "rank": rank, "of": len(scenes),
        "like": "" if rank == 1 else _place(scenes[int(matches.argmax())]),
        "weak": len(scenes) > 1 and sure <= 1 / len(scenes),
    }


def _place(row: dict[str, Any]) -> str:
    return f"chapter {row['chapter']}, scene {row['scene']}"


def _vectors(out: Path, clip: models.Model, prompts: list[str], paths: list[Path], log_file: Path):
    """(scale, vectors of the prompts, vectors of the pictures); only what was never looked at is looked at."""
    identity = media.sha256(f"{models.fingerprint(clip)} {media.sha256(Path(vision.__file__).read_bytes())}".encode())
    kept = _read(out, identity)
    known = kept["vectors"]
    text_keys = [f"text {media.sha256(prompt.encode())}" for prompt in prompts]
    picture_keys = [f"picture {media.sha256(path.read_bytes())}" for path in paths]
    new_texts = {key: prompt for key, prompt in zip(text_keys, prompts, strict=True) if key not in known}
    new_pictures = {key: path for key, path in zip(picture_keys, paths, strict=True) if key not in known}
    if new_texts or new_pictures:
        looking = vision.look(clip.path, list(new_texts.values()), list(new_pictures.values()), log_file)
        seen = yield from _told(looking, f"checking with {clip.id}")
        known |= dict(zip([*new_texts, *new_pictures], [*seen.texts, *seen.pictures], strict=True))
        used = dict.fromkeys([*text_keys, *picture_keys])
        order = [*(key for key in known if key not in used), *used][-max(MOST_KEPT, len(used)):]
        kept = {"clip": identity, "scale": seen.scale, "vectors": {key: known[key] for key in order}}
        with contextlib.suppress(StoreFailed):  # a folder that can only be read is checked all the same
            media.write_text(out / CACHE, json.dumps(kept, indent=0))
    return kept["scale"], [known[key] for key in text_keys], [known[key] for key in picture_keys]


def _told(looking: Iterator[float], words: str) -> Iterator[Update]:
    """A generator's fractions as updates; gives back what it gives back."""
    try:
        while True:
            yield Update("progress", text=words, fraction=next(looking))
    except StopIteration as end:
        return end.value
    finally:
        looking.close()


def _read(out: Path, identity: str) -> dict[str, Any]:
    """What is kept for this CLIP; nothing when it is another's, or no file of ours."""
    try:
        kept = json.loads((out / CACHE).read_text("utf-8"))
        sizes = {len(vector) for vector in kept["vectors"].values()}
        if kept["clip"] == identity and isinstance(kept["scale"], float) and len(sizes) == 1:
            return kept
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return {"clip": identity, "scale": 1.0, "vectors": {}}
