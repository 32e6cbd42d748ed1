"""What every pipeline does with its jobs: follow them, turn their events into updates, stop cleanly."""

from __future__ import annotations

import base64
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Iterator

from reverie import additions, wildcards
from reverie.errors import Cancelled, ReverieError, by_name
from reverie.families import FAMILIES
from reverie.pipelines import Update
from reverie.types import Event, Job

MAX_FAILURES_IN_A_ROW = 3


def follow(studio, session: str, jobs: list[Job], on_success: Callable[[Job], Iterator[Update]]) -> Iterator[Update]:
    """Updates of all jobs until they end. `on_success` yields what a finished job gives. When the caller stops early
    (close, Ctrl-C) or three jobs fail in a row, what is still waiting or running is cancelled."""
    by_id = {job.id: job for job in jobs}
    done, failures_in_a_row, gave_up, left, ended = 0, 0, False, 0, False
    try:
        for event in studio.follow(jobs):
            job = by_id[event.job]
            if event.kind == "progress":
                yield progress(event, done, len(jobs))
            elif event.kind == "succeeded":
                done, failures_in_a_row = done + 1, 0
                for update in on_success(job):
                    yield Update(**{**vars(update), "fraction": done / len(jobs)})
            elif event.kind == "cancelled" and gave_up:
                done, left = done + 1, left + job.task.count
            elif event.kind in ("failed", "cancelled"):
                done += 1
                failures_in_a_row += event.kind == "failed"
                yield Update("failed", text=event.error or "Cancelled.", fraction=done / len(jobs), data=event.job)
                if failures_in_a_row == MAX_FAILURES_IN_A_ROW and done < len(jobs):
                    studio.cancel(session)
                    gave_up = True
        ended = True
        if left:
            stopped = f"{MAX_FAILURES_IN_A_ROW} failed in a row: stopped, with {left} left to draw."
            yield Update("note", text=f"{stopped} Mend what they name and run it again.", fraction=1.0)
    finally:
        if not ended:
            studio.cancel(session)


def progress(event: Event, done: int, total: int) -> Update:
    preview = base64.b64decode(event.preview) if event.preview else b""
    return Update("progress", text=event.note, fraction=min(1.0, (done + event.fraction) / max(total, 1)), preview=preview, data=event.job)


def error_of(studio, job_id: str) -> ReverieError:
    """The stored error of a failed job, as the exception it was; Cancelled where there is none."""
    job = studio.store.jobs.get(job_id)
    return by_name(job.error_class)(job.error) if job.error_class else Cancelled("Cancelled.")


def words(settings, prompt: str, negative: str, seed: int, loras: str = "", family: str = "") -> dict[str, Any]:
    """Prompts as a task takes them: choices made by `seed`, `<lora:name:0.8>` taken out, embeddings found where the family reads them."""
    prompt, negative = (wildcards.resolve(text, seed, settings.wildcards) for text in (prompt, negative))
    prompt, tagged = additions.from_prompt(prompt)
    both = {plain_name("lora", name, settings): weight for name, weight in (additions.from_list(loras) | tagged).items()}
    reads = not FAMILIES[family].flow if family in FAMILIES else True
    embeddings = additions.named_in(f"{prompt}\n{negative}", settings) if reads else ()
    return {"prompt": prompt, "negative": negative, "loras": tuple(both.items()), "embeddings": embeddings}


def plain_name(kind: str, name: str, settings) -> str:
    """A LoRA's or VAE's name without folder and ending, wherever it then still means the same file; else as it was given.

    Recipes, keys and the catalogue know files by that name. What is not here is said when the task is made.
    """
    if not Path(name).expanduser().is_absolute() and not name.lower().endswith(".safetensors"):
        return name
    folder = settings.models / additions.KINDS[kind][0]
    for given in (name, re.sub(r"(?i)\.safetensors$", "", name)):
        with suppress(ReverieError):
            path = additions.find(kind, given, settings)
            for each in (Path(path.name), *([path.relative_to(folder)] if path.is_relative_to(folder) else [])):
                shorter = (each if path.is_dir() else each.with_suffix("")).as_posix()
                with suppress(ReverieError):
                    if additions.find(kind, shorter, settings).samefile(path):
                        return shorter
    return name


def sampling(model, params: Any, loras: tuple = ()) -> dict[str, Any]:
    """Steps, cfg and sampler: what the params say, else what a LoRA wants, else the model's own.

    A model given by its path keeps the path as its name.
    """
    model = replace(model, **additions.likes(name for name, _ in loras))
    given = Path(params.model).expanduser()
    return {
        "model": str(given.absolute()) if given.exists() and given.absolute() == model.path else model.id, "family": model.family, "steps": params.steps or model.steps, "cfg": params.guidance or model.cfg,
        "sampler": getattr(params, "sampler", "") or model.sampler,
    }
