"""Chapters become scenes, scenes become prompts, prompts become pictures, a storyboard, a book and a short film."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Generator, Iterator

from pydantic import BaseModel, ConfigDict, Field

from reverie import language, media, models, prompt_cache, recipes, settings, storyboard
from reverie.errors import BadInput, Busy, ModelMissing, NotFound, StoreFailed
from reverie.language import sheet as cast_sheet
from reverie.language import tokens
from reverie.pipelines import Update, _check, _editions
from reverie.pipelines._run import error_of, follow, sampling, words
from reverie.studio import make_task
from reverie.types import Job, Task

NAME, TITLE = "illustrate", "Illustrate"
STORYBOARD_WIDTH = 512  # pixels, at least
CLAIMS = "claims.json"
MAX_NAME = 100  # bytes: most disks take 255, and files get endings and marks


class Params(BaseModel):
    """What `reverie illustrate` takes. 0 and empty mean: the model's own, or all."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    text: str = Field("assets/samples/the-time-machine", description="a book or a folder of chapters (.md, .txt, .epub, .docx)", json_schema_extra={"widget": "path", "argument": True})
    chapters: str = Field("", description="only these chapters, such as '1 3'; empty: all")
    resume: str = Field("", description="carry on from chapter and scene, such as '2 5'")
    dry_run: bool = Field(False, description="show every prompt and file name, draw nothing")
    check: bool = Field(False, description="grade the pictures against their prompts with CLIP and list the weakest")
    style: str = Field("graphic novel", description="how the pictures look", json_schema_extra={"choices": "styles"})
    model: str = Field("pocket", description="model id, folder or .safetensors file", json_schema_extra={"choices": "models"})
    characters: str = Field("", description="a YAML file of who looks how", json_schema_extra={"widget": "path", "advanced": True})
    writer: str = Field(
        "off", description="a language model that reads: off, or its server, such as ollama or ollama:MODEL",
        json_schema_extra={"choices": "writers"})
    steps: int = Field(0, ge=0, le=200, description="denoising steps; 0: the model's own")
    guidance: float = Field(0.0, ge=0, le=30, description="cfg; 0: the model's own")
    width: int = Field(0, ge=0, le=8192, description="pixels; 0: the model's own", json_schema_extra={"advanced": True})
    height: int = Field(0, ge=0, le=8192, description="pixels; 0: the model's own", json_schema_extra={"advanced": True})
    seed: int = Field(1, ge=-1, le=2**32 - 1, description="the first scene's seed; -1: a new one", json_schema_extra={"widget": "seed"})
    count: int = Field(1, ge=1, le=16, description="pictures of each scene")
    outputs: str = Field("", description="what to make of the pictures: some of storyboard, epub, pdf, animatic, or none; empty: all", json_schema_extra={"advanced": True})
    engine: str = Field("diffusers", description="what generates", json_schema_extra={"choices": "engines", "advanced": True})
    out: str = Field("", description="folder of the results; empty: storage/outputs/illustrate/NAME", json_schema_extra={"widget": "path"})


def run(studio, params: Params) -> Iterator[Update]:
    """Yields plan, then pictures as they are made, then done. Pictures that are there already are kept as they are."""
    started = time.monotonic()
    params = _seeded(params)
    kinds = _editions.chosen(params.outputs)
    reading, scenes, gone = yield from _reading(params)
    for row in reading.rows:
        row["seed"] = params.seed  # of the whole run: with -1 nobody else knows it
    clip, log_file = models.clip(_family(params), studio.settings) if params.check else None, studio.settings.storage / "logs" / "check.log"
    yield Update("plan", data=scenes)
    for note in [*reading.notes, *prompt_cache.told(out_folder(params), scenes, gone)]:
        yield Update("note", text=note)
    if params.dry_run:
        for note in _propose(params, reading):
            yield Update("note", text=note)
        checked = (yield from _check.run(out_folder(params), clip, _drawn_before(params, scenes), log_file)) if clip else {}
        yield Update("done", fraction=1.0, data=_summary(params, scenes, [], 0, started, checked) | {"changes": prompt_cache.counted(scenes, gone)})
        return
    model = models.find(params.model, studio.settings)
    tasks = [_task(params, model, row) for row in scenes]
    out = out_folder(params)
    with hold(out):
        for note in _keep(out, reading):
            yield Update("note", text=note)
        prompt_cache.follow(out, reading.rows, params.count, filenames)
        prompt_cache.keep(out, reading.rows)
        session = studio.session(NAME, str(params.text), params.model_dump())
        for row in reading.rows:
            row["image"] = [out / name for name in filenames(row["filename"], params.count)]
        todo = []
        for row, task in zip(scenes, tasks, strict=True):
            row["key"], row["asked"] = studio.key(task), task.prompt
            if not all(_stays(path, row["key"]) for path in row["image"]):
                todo.append((row, task))
        kept = len(scenes) - len(todo)
        if kept:
            yield Update("note", text=f"{kept} of {len(scenes)} scenes are there already.", fraction=0.0)
        jobs = [studio.submit(task, session) for _, task in todo]
        row_of = {job.id: row for job, (row, _) in zip(jobs, todo, strict=True)}
        failed = yield from _draw(studio, session, jobs, row_of)
        made, stopped = {}, studio.was_cancelled(session)  # then nobody waits for a film
        if clip and not stopped:
            made |= yield from _check.run(out, clip, scenes, log_file)
        if "storyboard" in kinds:
            made["storyboard"] = str(storyboard.build(_title(params), reading.rows, out / "storyboard.html", style=params.style, model=model.id))
        if not stopped:
            made |= yield from _editions.make(out, _name(params), _title(params), reading.rows, reading.texts, kinds, reading.language)
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
            if not _stays(target, row["key"]):
                _put_enlarged(source, target)
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


def _drawn_before(params: Params, scenes: list[dict]) -> list[dict]:
    """The scenes with their prompts and the pictures that the last run left, under the names that they had then."""
    out, taken = out_folder(params), {row["was"] for row in scenes}

    def pictures(row: dict) -> list[Path]:
        own = row["was"] or row["filename"]
        return [] if not row["was"] and own in taken else [out / name for name in filenames(own, params.count)]

    return [row | {"asked": _wording(params, row)[1]["prompt"], "image": pictures(row)} for row in scenes]


def rows(params: Params, tell: Callable[[str], Any] = lambda text: None) -> list[dict[str, Any]]:
    """The scenes that these params ask for, each with its prompt (the edited one where there is one) and file name.

    `tell` hears what a writer is being asked, which may take long.
    """
    return language.finished(_reading(params), lambda update: tell(update.text))[1]


def _reading(params: Params) -> Generator[Update, None, tuple]:
    """Yields what a writer is asked; gives back (the reading, the rows that are wanted, file names of scenes that are
    gone since the last run)."""
    family, out, found = _family(params), out_folder(params), _model(params)
    counter = tokens.counter(found.path if found else None, family, settings.load().assets)
    slots: list[tuple[int, int]] = []
    with _writer(params) as writer:
        steps = language.reading(
            resolve(params.text), chapters=numbers(params.chapters, "chapters"), family=family, style=params.style,
            characters=resolve(params.characters) if params.characters else None, kept=out / cast_sheet.NAME,
            max_tokens=counter and counter.limit, count_tokens=counter and counter.count,
            slots=lambda spans: slots.extend(prompt_cache.slots(out, spans)) or slots, writer=writer,
        )
        reading = yield from _asking(steps)
    for row, slot in zip(reading.rows, slots, strict=True):
        row["slot"] = slot
    gone = prompt_cache.compare(out, reading.rows)
    count = counter.count if counter else tokens.estimate_tokens
    for row in reading.rows:
        if row["edited"]:  # a person's own prompt is never shortened, only counted
            row["budget"] = row["budget"] | {"tokens": count(row["prompt"]), "dropped": []}
    return reading, _from(reading.rows, params.resume), gone


def _asking(steps: Generator[str, None, language.Reading]) -> Generator[Update, None, language.Reading]:
    while True:
        try:
            yield Update("progress", text=f"Asking the language model: {next(steps)}")
        except StopIteration as end:
            return end.value


@contextmanager
def _writer(params: Params):
    """The writer that the params name, None for none."""
    if params.writer.strip().lower() in ("", "off", "none", "false"):
        yield None
        return
    from reverie.language import model, writer

    with model.LanguageModel(model.server(params.writer)) as asked:
        yield writer.Writer(asked, settings.load().storage / "cache" / "writer")


def _keep(out: Path, reading) -> list[str]:
    """Keep the character sheet, and by chapter what a writer claims, each with its quote and its place in the text."""
    notes, claims = cast_sheet.keep(out, reading), {}
    people = [{"person": name} | claim for name, told in reading.claims.items() for claim in told]
    for claim in [*people, *(claim for row in reading.rows for claim in row["claims"])]:
        claims.setdefault(str(claim["chapter"]), []).append(claim)
    if claims:
        media.write_text(out / CLAIMS, json.dumps(_kept_claims(out) | claims, ensure_ascii=False, indent=1))
    return notes


def _kept_claims(out: Path) -> dict[str, list]:
    try:
        return dict(json.loads((out / CLAIMS).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _propose(params: Params, reading) -> list[str]:
    """Keep the character sheet of a dry run; a folder that another run holds, or that cannot be written, is no reason to fail."""
    out = out_folder(params)
    if not cast_sheet.is_due(out, reading) and not reading.claims:
        return []
    try:
        with hold(out):
            return _keep(out, reading)
    except StoreFailed as error:
        return [f"The character sheet was not written: {error}"]


def save_prompt(params: Params, filename: str, prompt: str, negative: str = "", composed: dict | None = None) -> Path:
    """Keep an edited prompt; the next run uses it. `composed` is the row's own, to tell when it is back. Returns the file."""
    return prompt_cache.edit(out_folder(params), filename, prompt, negative, composed)


def out_folder(params: Params) -> Path:
    """Where pictures, prompts and storyboard go."""
    if params.out:
        return Path(params.out).expanduser().absolute()
    return settings.load().outputs / "illustrate" / _name(params)


def resolve(path: str) -> Path:
    """A path as given; a relative one that is not in the working folder is looked for in the project."""
    given = Path(path).expanduser()
    inside = settings.ROOT / given
    return inside if not given.exists() and not given.is_absolute() and inside.exists() else given


def numbers(text: str, what: str) -> list[int] | None:
    """`'1 3'`, `'1,3'` or `'1-3'` → [1, 3] or [1, 2, 3]; None if empty."""
    found: list[int] = []
    for part in re.split(r"[\s,]+", str(text).strip(" []()")):
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part)
        if part and not match:
            raise BadInput(f"'{part}' in {what} is not a number.", f'Write {what} as "1 3" or "1-3".')
        if match:
            first, last = int(match[1]), int(match[2] or match[1])
            if last < first:
                raise BadInput(f"'{part}' in {what} runs backwards.", f"Write {last}-{first}.")
            found += range(first, min(last, first + 9999) + 1)
    return found or None


def filenames(filename: str, count: int) -> list[str]:
    """One name, or `count` numbered ones (`…_b.png` would not sort beyond 26)."""
    stem = filename.removesuffix(".png")
    return [filename] if count == 1 else [f"{stem}_{index + 1:02d}.png" for index in range(count)]


@contextmanager
def hold(out: Path):
    """The output folder for this run alone. Busy if another run has it."""
    from filelock import FileLock, Timeout

    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / ".reverie.lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise Busy(f"Another run is drawing into {out}.", "Wait for it, or choose another folder: --out FOLDER") from None
    except OSError as error:
        raise StoreFailed(f"{out} cannot be written ({error.strerror}).", "Choose another folder: --out FOLDER") from None
    try:
        yield
    finally:
        lock.release()


def _seeded(params: Params) -> Params:
    return params if params.seed >= 0 else params.model_copy(update={"seed": secrets.randbelow(2**31)})


def _model(params: Params):
    """The model, or None in a dry run that is without its files."""
    try:
        return models.find(params.model)
    except ModelMissing:
        if not params.dry_run:
            raise
        return None


def _family(params: Params) -> str:
    model = _model(params)
    if model is not None:
        return model.family
    known = {model.id: model.family for model in models.all()}  # a dry run needs the family only, not the files
    return known[params.model] if params.model in known else models.find(params.model).family


def _from(scenes: list[dict], start: str) -> list[dict]:
    """The scenes from `start` on: a chapter, or a chapter and a scene (`'2 5'`, `'2-5'`); all when empty."""
    if not (text := start.strip(" []()")):
        return scenes
    match = re.fullmatch(r"(\d{1,6})(?:[\s,-]+(\d{1,6}))?", text)
    if not match:
        raise BadInput(f"'{text}' in resume is no chapter and scene.", 'Write resume as "2 5": chapter 2, scene 5.')
    chapter, scene = int(match[1]), int(match[2] or 1)
    there = [(row["chapter"], row["scene"]) for row in scenes]
    if (chapter, scene) not in there:
        last = max((s for c, s in there if c == chapter), default=0)
        advice = f"Chapter {chapter} has scenes 1 to {last}." if last else f"There are chapters {', '.join(map(str, dict.fromkeys(c for c, _ in there)))}."
        raise BadInput(f"There is no chapter {chapter}, scene {scene} to resume from.", advice)
    return scenes[there.index((chapter, scene)):]


def _task(params: Params, model, row: dict) -> Task:
    seed, said = _wording(params, row)
    return make_task(
        **said, engine=params.engine, count=params.count, seed=seed, width=params.width or model.width,
        height=params.height or model.height, **sampling(model, params, said.get("loras", ())),
    )


def _wording(params: Params, row: dict) -> tuple[int, dict[str, Any]]:
    """The seed and the words. The seed follows from the chapter and scene that it was first drawn as (16 apart: the most
    pictures a scene can have)."""
    chapter, scene = row["slot"]
    seed = (params.seed + 100_000 * chapter + 16 * scene) % 2**32
    said = {"prompt": row["prompt"], "negative": row["negative"]}
    if row["edited"]:  # only what a person wrote may hold choices and LoRAs
        said = words(settings.load(), **said, seed=seed)
    return seed, said


def _stays(picture: Path, key: str) -> bool:
    """Whether a scene's picture is there to stay: made from this very task, or a person's own."""
    if not picture.exists():
        return False
    try:
        recipe = recipes.read(picture)
    except NotFound:
        return True
    except BadInput:
        return False
    return recipe["source"] != "reverie" or recipe.get("key") == key or not prompt_cache.is_placed(picture)


def _put_enlarged(source: Path, target: Path) -> None:
    """The picture at `target`, at least STORYBOARD_WIDTH pixels wide, with its recipe."""
    picture = media.open_picture(source)
    larger = media.enlarge(picture, STORYBOARD_WIDTH)
    if larger is picture:
        prompt_cache.note_placed(target, source.read_bytes())
        media.place(source, target)
    else:
        recipe = {name: value for name, value in recipes.read(source).items() if name != "source"}
        data = media.encode_png(larger, recipe)
        prompt_cache.note_placed(target, data)
        media.write_bytes(target, data)


def _called(params: Params) -> str:
    """What the text is called: its file or folder, wherever it is named from."""
    source = Path(os.path.abspath(resolve(params.text)))
    return (source.stem if source.is_file() else source.name) or "story"


def _name(params: Params) -> str:
    """Of the results' folder and files: the text's own, cut to what every disk takes."""
    name = _called(params)
    short = name.encode(errors="replace")[:MAX_NAME].decode(errors="ignore")
    return name if short == name else f"{short}-{media.sha256(name.encode(errors='replace'))[:8]}"


def _title(params: Params) -> str:
    return _called(params).replace("-", " ").replace("_", " ").title()


def _summary(params, scenes, failed, kept, started, files) -> dict[str, Any]:
    made = [str(path) for row in scenes for path in row.get("image", []) if path.exists()]
    return {
        "scenes": len(scenes), "pictures": made, "kept": kept, "failed": len(failed), "out": str(out_folder(params)),
        "storyboard": None, **files, "seconds": round(time.monotonic() - started, 2),
    }
