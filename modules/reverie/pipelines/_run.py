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
    shares = _Shares(len(jobs))
    failures_in_a_row, gave_up, left, ended = 0, False, 0, False
    try:
        for event in studio.follow(jobs):
            job = by_id[event.job]
            if event.kind == "progress":
                yield shares.progress(event)
            elif event.kind == "requeued":
                shares.wait(event.job)
            elif event.kind == "succeeded":
                failures_in_a_row, fraction = 0, shares.end(event.job)
                for update in on_success(job):
                    yield Update(**{**vars(update), "fraction": fraction})
            elif event.kind == "cancelled" and gave_up:
                shares.end(event.job)
                left += job.task.count
            elif event.kind in ("failed", "cancelled"):
                failures_in_a_row += event.kind == "failed"
                yield Update("failed", text=event.error or "Cancelled.", fraction=shares.end(event.job), data=event.job)
                if failures_in_a_row == MAX_FAILURES_IN_A_ROW and shares.done < len(jobs):
                    studio.cancel(session)
                    gave_up = True
        ended = True
        if left:
            stopped = f"{MAX_FAILURES_IN_A_ROW} failed in a row: stopped, with {left} left to draw."
            yield Update("note", text=f"{stopped} Mend what they name and run it again.", fraction=1.0)
    finally:
        if not ended:
            studio.cancel(session)


class _Shares:
    """How far a run is, of whose jobs several may be in the making. The fraction never goes back."""

    def __init__(self, total: int):
        self.done, self._total, self._fraction = 0, max(total, 1), 0.0
        self._running: dict[str, Event] = {}  # the last progress of each, in the order in which they began

    def progress(self, event: Event) -> Update:
        """Words and preview are those of the job that began first, as one bar and one preview show them."""
        self._running[event.job] = event
        first = next(iter(self._running.values()))
        number = len(self._running)
        text = f"{first.note} (one of {number} jobs at once)" if number > 1 and first.note else first.note
        preview = base64.b64decode(event.preview) if event is first and event.preview else b""
        return Update("progress", text=text, fraction=self._now(), preview=preview, data=first.job)

    def wait(self, job: str) -> None:
        """It is not in the making any more, and will be again."""
        self._running.pop(job, None)

    def end(self, job: str) -> float:
        """One job less to wait for; the fraction then."""
        self.wait(job)
        self.done += 1
        return self._now()

    def _now(self) -> float:
        running = sum(event.fraction for event in self._running.values())
        self._fraction = max(self._fraction, min(1.0, (self.done + running) / self._total))
        return self._fraction


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
    """
    own = model_name(params.model, model)
    model = replace(model, **additions.likes(name for name, _ in loras))
    return {
        "model": own, "family": model.family, "steps": params.steps or model.steps, "cfg": params.guidance or model.cfg,
        "sampler": getattr(params, "sampler", "") or model.sampler,
    }


def model_name(given: str, model) -> str:
    """What a task calls the model that was found for the name `given`: its id, or the whole path where it was given as one."""
    path = Path(given).expanduser()
    return str(path.absolute()) if path.exists() and path.absolute() == model.path else model.id
