"""What a run of illustrate is asked for: which scenes of the text, with which prompt, seed and task each, and where to.

The text and the folder of the results are read here, nothing is written: a plan can be made, shown and thrown away.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generator, NamedTuple

from reverie import language, media, models, prompt_cache, settings
from reverie.errors import BadInput, ModelMissing
from reverie.language import model as writers
from reverie.language import sheet as cast_sheet
from reverie.language import tokens
from reverie.pipelines import Update, _folder
from reverie.pipelines._run import sampling, words
from reverie.studio import make_task
from reverie.types import Task

MAX_NAME = 100  # bytes: most disks take 255, and files get endings and marks


class Plan(NamedTuple):
    """`scenes` are those rows of `reading` that are to be drawn, `gone` the file names of scenes that the last run had."""

    reading: language.Reading
    scenes: list[dict[str, Any]]
    gone: list[str]


def plan(params: Any) -> Generator[Update, None, Plan]:
    """Yields what a writer is asked; gives back the plan. Each row gets its prompt, the edited one where there is one,
    and `seed`, the whole run's: with -1 nobody else knows it.

    BadInput for what cannot be read, for scenes that are not there, and for a redrawn one whose pictures are a person's own.
    """
    of_model, out, found = family(params), out_folder(params), _model(params)
    counter = tokens.counter(found.path if found else None, of_model, settings.load().assets)
    slots: list[tuple[int, int]] = []
    with _writer(params) as writer:
        steps = language.reading(
            resolve(params.text), chapters=numbers(params.chapters, "chapters"), family=of_model, style=params.style,
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
        row["seed"] = params.seed
        if row["edited"]:  # a person's own prompt is never shortened, only counted
            row["budget"] = row["budget"] | {"tokens": count(row["prompt"]), "dropped": []}
    return Plan(reading, _redrawn(params, _from(reading.rows, params.resume)), gone)


def _asking(steps: Generator[str, None, language.Reading]) -> Generator[Update, None, language.Reading]:
    while True:
        try:
            yield Update("progress", text=f"Asking the language model: {next(steps)}")
        except StopIteration as end:
            return end.value


@contextmanager
def _writer(params: Any):
    """The writer that the params name, None for none."""
    if not writers.is_wanted(params.writer):
        yield None
        return
    from reverie.language import writer

    with writers.LanguageModel(writers.server(params.writer)) as asked:
        yield writer.Writer(asked, settings.load().storage / "cache" / "writer")


def _model(params: Any):
    """The model, or None in a dry run that is without its files."""
    try:
        return models.find(params.model)
    except ModelMissing:
        if not params.dry_run:
            raise
        return None


def family(params: Any) -> str:
    model = _model(params)
    if model is not None:
        return model.family
    known = {model.id: model.family for model in models.all()}  # a dry run needs the family only, not the files
    return known[params.model] if params.model in known else models.find(params.model).family


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


def _from(scenes: list[dict], start: str) -> list[dict]:
    """The scenes from `start` on: a chapter, or a chapter and a scene (`'2 5'`, `'2-5'`); all when empty."""
    if not (text := start.strip(" []()")):
        return scenes
    match = re.fullmatch(r"(\d{1,6})(?:[\s,-]+(\d{1,6}))?", text)
    if not match:
        raise BadInput(f"'{text}' in resume is no chapter and scene.", 'Write resume as "2 5": chapter 2, scene 5.')
    chapter, scene = int(match[1]), int(match[2] or 1)
    there = [(row["chapter"], row["scene"]) for row in scenes]
    _check_there(chapter, scene, there, "resume from")
    return scenes[there.index((chapter, scene)):]


def _check_there(chapter: int, scene: int, there: list[tuple[int, int]], what: str) -> None:
    """BadInput if that scene is none of those `there`."""
    if (chapter, scene) in there:
        return
    numbers = [s for c, s in there if c == chapter]
    chapters = ", ".join(str(c) for c in dict.fromkeys(c for c, _ in there))
    advice = f"Chapter {chapter} has scenes {min(numbers)} to {max(numbers)}." if numbers else f"There are chapters {chapters}."
    raise BadInput(f"There is no chapter {chapter}, scene {scene} to {what}.", advice)


def _redrawn(params: Any, scenes: list[dict]) -> list[dict]:
    """Those of the scenes that get another picture, each with a new seed of its own; all, as they are, when none is named."""
    wanted = places(params.redraw, "redraw")
    if not wanted:
        return scenes
    there, own = {(row["chapter"], row["scene"]): row for row in scenes}, []
    for chapter, scene in wanted:
        _check_there(chapter, scene, list(there), "redraw")
        pictures = _folder.pictures(out_folder(params), there[chapter, scene], params.count)
        own += pictures[:1] if pictures and all(_folder.stays(path, "") for path in pictures) else []
    if own:
        raise BadInput(f"{own[0]} is a picture of your own.", "Move it to another place, then this scene is drawn.")
    for place in wanted:
        there[place] |= {"own_seed": secrets.randbelow(2**31), "redrawn": True}
    return [row for place, row in there.items() if place in wanted]


def places(text: str, what: str) -> list[tuple[int, int]]:
    """Chapters and scenes: `'2 5'`, `'2-5'` or several, `'2 5, 3 1'` → [(2, 5), (3, 1)]."""
    text = str(text).strip(" []()")
    found = [int(number) for number in re.findall(r"\d+", text)]
    if len(found) % 2 or not re.fullmatch(r"(?:\d{1,6}(?:[\s,;-]+|$))*", text):
        raise BadInput(f"'{text}' in {what} is no chapter and scene.", f'Write {what} as "2 5", chapter 2, scene 5, or "2 5, 3 1".')
    return list(dict.fromkeys(zip(found[::2], found[1::2], strict=True)))


def task(params: Any, model, row: dict[str, Any]) -> Task:
    seed, said = wording(params, row, model.family)
    return make_task(
        **said, engine=params.engine, count=params.count, seed=seed, width=params.width or model.width,
        height=params.height or model.height, **sampling(model, params, said.get("loras", ())),
    )


def wording(params: Any, row: dict[str, Any], family: str = "") -> tuple[int, dict[str, Any]]:
    """The seed and the words. The seed is the scene's own where it was redrawn, else it follows from the chapter and scene
    that it was first drawn as (16 apart: the most pictures a scene can have)."""
    chapter, scene = row["slot"]
    seed = (params.seed + 100_000 * chapter + 16 * scene) % 2**32 if row["own_seed"] is None else row["own_seed"]
    said = {"prompt": row["prompt"], "negative": row["negative"]}
    if row["edited"]:  # only what a person wrote may hold choices and LoRAs
        said = words(settings.load(), **said, seed=seed, family=family)
    return seed, said


def out_folder(params: Any) -> Path:
    """Where pictures, prompts and storyboard go."""
    if params.out:
        return Path(params.out).expanduser().absolute()
    return settings.load().outputs / "illustrate" / name(params)


def resolve(path: str) -> Path:
    """A path as given; a relative one that is not in the working folder is looked for in the project."""
    given = Path(path).expanduser()
    inside = settings.ROOT / given
    return inside if not given.exists() and not given.is_absolute() and inside.exists() else given


def _called(params: Any) -> str:
    """What the text is called: its file or folder, wherever it is named from."""
    source = Path(os.path.abspath(resolve(params.text)))
    return (source.stem if source.is_file() else source.name) or "story"


def name(params: Any) -> str:
    """Of the results' folder and files: the text's own, cut to what every disk takes."""
    name = _called(params)
    short = name.encode(errors="replace")[:MAX_NAME].decode(errors="ignore")
    return name if short == name else f"{short}-{media.sha256(name.encode(errors='replace'))[:8]}"


def title(params: Any) -> str:
    return _called(params).replace("-", " ").replace("_", " ").title()
