"""Chapters become scenes, scenes become prompts, prompts become pictures, a storyboard, a book and a short film."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Iterator

from pydantic import BaseModel, ConfigDict, Field

from reverie import language, models, prompt_cache, storyboard
from reverie.language import model as writers
from reverie.pipelines import Update, _check, _editions, _folder, _scenes
from reverie.pipelines._folder import filenames
from reverie.pipelines._run import error_of, follow
from reverie.pipelines._scenes import out_folder, plan
from reverie.types import Job

NAME, TITLE = "illustrate", "Illustrate"


class Params(BaseModel):
    """What `reverie illustrate` takes. 0 and empty mean: the model's own, or all."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    text: str = Field(
        "assets/samples/the-time-machine", description="a book or a folder of chapters (.md, .txt, .epub, .docx)",
        json_schema_extra={"widget": "path", "argument": True})
    chapters: str = Field("", description="only these chapters, such as '1 3'; empty: all")
    resume: str = Field("", description="carry on from chapter and scene, such as '2 5'")
    redraw: str = Field(
        "", description="draw these scenes anew, each with a new seed, and no others: chapter and scene, such as '2 5' or '2 5, 3 1'",
        json_schema_extra={"advanced": True})
    dry_run: bool = Field(False, description="show every prompt and file name, draw nothing")
    check: bool = Field(False, description="grade the pictures against their prompts with CLIP and list the weakest")
    style: str = Field("graphic novel", description="how the pictures look", json_schema_extra={"choices": "styles"})
    model: str = Field("pocket", description="model id, folder or .safetensors file", json_schema_extra={"choices": "models"})
    characters: str = Field("", description="a YAML file of who looks how", json_schema_extra={"widget": "path", "advanced": True})
    writer: str = Field(
        writers.OFF, description="a language model that reads: off, or its server, such as ollama or ollama:MODEL",
        json_schema_extra={"choices": "writers"})
    steps: int = Field(0, ge=0, le=200, description="denoising steps; 0: the model's own")
    guidance: float = Field(0.0, ge=0, le=30, description="cfg; 0: the model's own")
    width: int = Field(0, ge=0, le=8192, description="pixels; 0: the model's own", json_schema_extra={"advanced": True})
    height: int = Field(0, ge=0, le=8192, description="pixels; 0: the model's own", json_schema_extra={"advanced": True})
    seed: int = Field(1, ge=-1, le=2**32 - 1, description="the first scene's seed; -1: a new one", json_schema_extra={"widget": "seed"})
    count: int = Field(1, ge=1, le=16, description="pictures of each scene")
    outputs: str = Field(
        "", description="what to make of the pictures: some of storyboard, epub, pdf, animatic, or none; empty: all",
        json_schema_extra={"advanced": True})
    engine: str = Field("diffusers", description="what generates", json_schema_extra={"choices": "engines", "advanced": True})
    out: str = Field("", description="folder of the results; empty: storage/outputs/illustrate/NAME", json_schema_extra={"widget": "path"})


def run(studio, params: Params) -> Iterator[Update]:
    """Yields plan, then pictures as they are made, then done. Pictures that are there already are kept as they are."""
    started = time.monotonic()
    params = _seeded(params)
    kinds = _editions.chosen(params.outputs)
    reading, scenes, gone = yield from plan(params)
    out = out_folder(params)
    clip, log_file = models.clip(_scenes.family(params), studio.settings) if params.check else None, studio.settings.storage / "logs" / "check.log"
    yield Update("plan", data=scenes)
    for note in [*reading.notes, *prompt_cache.told(out, scenes, gone)]:
        yield Update("note", text=note)
    if params.dry_run:
        for note in _folder.propose(out, reading):
            yield Update("note", text=note)
        there = [row | {"asked": _scenes.wording(params, row)[1]["prompt"], "image": pictures(params, row)} for row in scenes] if clip else []
        checked = (yield from _check.run(out, clip, there, log_file)) if clip else {}
        yield Update("done", fraction=1.0, data=_summary(params, scenes, [], 0, started, checked) | {"changes": prompt_cache.counted(scenes, gone)})
        return
    model = models.find(params.model, studio.settings)
    tasks = [_scenes.task(params, model, row) for row in scenes]
    with _folder.hold(out):
        for note in _folder.keep(out, reading):
            yield Update("note", text=note)
        prompt_cache.follow(out, reading.rows, params.count, filenames)
        prompt_cache.keep(out, reading.rows)
        session = studio.session(NAME, str(params.text), params.model_dump())
        for row in reading.rows:
            row["image"] = [out / name for name in filenames(row["filename"], params.count)]
        todo = []
        for row, task in zip(scenes, tasks, strict=True):
            row["key"], row["asked"] = studio.key(task), task.prompt
            if not all(_folder.stays(path, row["key"]) for path in row["image"]):
                todo.append((row, task))
        kept = len(scenes) - len(todo)
        if kept:
            yield Update("note", text=f"{kept} of {len(scenes)} scenes are there already.", fraction=0.0)
        jobs = [studio.submit(task, session) for _, task in todo]
        row_of = {job.id: row for job, (row, _) in zip(jobs, todo, strict=True)}
        failed = yield from _draw(studio, session, jobs, row_of)
        made, title, stopped = {}, _scenes.title(params), studio.was_cancelled(session)  # then nobody waits for a film
        if clip and not stopped:
            shown = reading.rows if params.redraw else scenes  # a picture is graded among the others
            for row in shown:
                row.setdefault("asked", _scenes.wording(params, row)[1]["prompt"])
            made |= yield from _check.run(out, clip, shown, log_file)
        if "storyboard" in kinds:
            made["storyboard"] = str(storyboard.build(title, reading.rows, out / "storyboard.html", style=params.style, model=model.id))
        if not stopped:
            made |= yield from _editions.make(out, _scenes.name(params), title, reading.rows, reading.texts, kinds, reading.language)
    yield Update("done", fraction=1.0, data={**_summary(params, scenes, failed, kept, started, made), "session": session,
                                             "changes": prompt_cache.counted(scenes, gone)})


def _draw(studio, session: str, jobs: list[Job], row_of: dict[str, dict]) -> Iterator[Update]:
    """Draw the jobs' scenes; gives back the ids of those that failed. Raises the first error if none succeeded."""
    failed: list[str] = []
    drawn: list[str] = []

    def take(job: Job) -> Iterator[Update]:
        row = row_of[job.id]
        drawn.append(job.id)
        for source, target in zip(studio.pictures(job), row["image"], strict=True):
            if not _folder.stays(target, row["key"]):
                _folder.put(source, target)
                yield Update("picture", text=row["filename"], path=target, data=row)

    for update in follow(studio, session, jobs, take):
        if update.kind == "failed":
            failed.append(update.data)
            update = replace(update, text=f"{row_of[update.data]['filename']}: {update.text}", data=row_of[update.data])
        elif update.kind == "progress":
            update = replace(update, text=update.text or row_of[update.data]["filename"], data=row_of[update.data])
        yield update
    if failed and not drawn:
        raise error_of(studio, failed[0])
    return failed


def rows(params: Params, tell: Callable[[str], Any] = lambda text: None) -> list[dict[str, Any]]:
    """The scenes that these params ask for, each with its prompt (the edited one where there is one) and file name.

    `tell` hears what a writer is being asked, which may take long.
    """
    return language.finished(plan(params), lambda update: tell(update.text)).scenes


def save_prompt(params: Params, filename: str, prompt: str, negative: str = "", row: dict[str, Any] | None = None) -> Path:
    """Keep an edited prompt; the next run uses it. Returns the file.

    `row`, the scene as `rows` gave it, tells when the prompt is the program's own again, and which file is the scene's while
    its neighbours still have the names of the last run.
    """
    out = out_folder(params)
    return prompt_cache.edit(out, filename, prompt, negative) if row is None else prompt_cache.edit_row(out, row, prompt, negative)


def pictures(params: Params, row: dict[str, Any]) -> list[Path]:
    """Where the pictures of a scene that `rows` gave lie now, or would."""
    return _folder.pictures(out_folder(params), row, params.count)


def _seeded(params: Params) -> Params:
    return params if params.seed >= 0 else params.model_copy(update={"seed": secrets.randbelow(2**31)})


def _summary(params, scenes, failed, kept, started, files) -> dict[str, Any]:
    made = [str(path) for row in scenes for path in row.get("image", []) if path.exists()]
    return {
        "scenes": len(scenes), "pictures": made, "kept": kept, "failed": len(failed), "out": str(out_folder(params)),
        "storyboard": None, **files, "seconds": round(time.monotonic() - started, 2),
    }
