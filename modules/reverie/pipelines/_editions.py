"""What a run of illustrate makes of its pictures: a book, a comic's pages, a short film. Nothing is made twice."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Callable, Iterator

from reverie import __version__, animatic, comic, epub, film_plan, lettering, media, storyboard
from reverie.errors import BadInput
from reverie.pipelines import Update

KINDS = ("storyboard", "epub", "pdf", "animatic")
CAPTIONS = "captions.srt"  # not named as the film is: players would show it over the captions that are in the picture
FILMS = "films"            # where the films of single chapters lie
_MADE = ".editions.json"   # file name → digest of what it was made from
_SUFFIX = {"epub": ".epub", "pdf": ".pdf", "animatic": ".mp4"}
_MAKERS = {"epub": (epub,), "pdf": (comic,), "animatic": (animatic, film_plan)}


def chosen(text: str) -> tuple[str, ...]:
    """`'epub pdf'` → those kinds, in the order of KINDS; all when empty, nothing for `none`. BadInput names an unknown one."""
    words = re.split(r"[\s,]+", text.strip().lower()) if text.strip() else list(KINDS)
    for word in words:
        if word not in (*KINDS, "none"):
            raise BadInput(f"'{word}' in outputs is unknown.", f"Known are: {', '.join(KINDS)}, none.")
    return tuple(kind for kind in KINDS if kind in words)


def make(
    out: Path, name: str, title: str, rows: list[dict[str, Any]], texts: dict[tuple[int, int], str],
    kinds: tuple[str, ...], language: str = "en",
) -> Iterator[Update]:
    """Make those of `kinds` whose inputs changed; yields progress and gives back kind → path of what is there.

    `rows` are storyboard rows, `texts` each scene's text by (chapter, scene), `language` theirs ("": cannot be told).
    """
    digests = {path: media.sha256(path.read_bytes()) for row in rows for path in storyboard.images(row)}
    build: dict[str, Callable[[Path], Iterator[float]]] = {
        "epub": lambda path: _at_once(lambda: epub.build(title, rows, texts, path, language)),
        "pdf": lambda path: _at_once(lambda: comic.build(title, rows, path)),
        "animatic": lambda path: animatic.build(title, rows, path),
    }
    for left in [*out.glob(f".*{media.STAGED}"), *(out / FILMS).glob(f".*{media.STAGED}")]:
        left.unlink(missing_ok=True)  # a killed run's: only one at a time works in a folder
    made = _Made(out)
    for kind in (kind for kind in build if kind in kinds):
        path = out / f"{name}{_SUFFIX[kind]}"
        digest = _digest(kind, title, rows, digests, (texts, language) if kind == "epub" else ({}, ""))
        films = (yield from _chapter_films(out, title, rows, digests, made)) if kind == "animatic" else []
        if films and not made.has(path, digest):
            animatic.join(films, path)
            made.note(path, digest)
        if not made.has(path, digest):
            for fraction in build[kind](path):
                yield Update("progress", text=path.name, fraction=fraction)
            made.note(path, digest)
    files = {kind: out / f"{name}{_SUFFIX[kind]}" for kind in build if kind in kinds}
    if "animatic" in files:
        files["captions"] = _captions(out / CAPTIONS, animatic.subtitles(title, rows))
    return {kind: str(path) for kind, path in files.items() if path.exists()}


def _chapter_films(out: Path, title: str, rows, digests: dict[Path, str], made: _Made) -> Iterator[Update]:
    """A film of each of several chapters, of those only that changed; gives back all their paths."""
    chapters, films = film_plan.chapters(rows), []
    if len(chapters) < 2:
        return films
    size = animatic.size_for(rows)
    for number, scenes in enumerate(chapters):
        path = out / FILMS / f"chapter_{int(scenes[0].get('chapter') or 0):02d}.mp4"
        digest = _digest("animatic", title, scenes, digests, ({}, f"{size}"))
        if not made.has(path, digest):
            for fraction in animatic.build(title, scenes, path, size):
                yield Update("progress", text=f"{FILMS}/{path.name}", fraction=(number + fraction) / len(chapters))
            made.note(path, digest)
        films.append(path)
    return films


def _at_once(work: Callable[[], Any]) -> Iterator[float]:
    """Work of a second or two, that does not tell how far it is."""
    yield 0.0
    work()


def _captions(path: Path, text: str) -> Path:
    if not path.exists() or path.read_text("utf-8", "replace") != text:
        media.write_text(path, text)
    return path


def _digest(kind: str, title: str, rows, digests: dict[Path, str], inside: tuple[dict, str]) -> str:
    """Of all that a file is made from: words, pictures, and the code that makes it."""
    told = [
        [row.get("chapter"), row.get("scene"), row.get("words"), storyboard.heading(row), storyboard.caption(row), storyboard.description(row),
         [digests[path] for path in storyboard.images(row)]]
        for row in rows
    ]
    code = [media.sha256(Path(module.__file__).read_bytes()) for module in (*_MAKERS[kind], lettering)]
    return media.sha256(json.dumps([__version__, code, title, told, sorted(inside[0].items()), inside[1]]).encode())


class _Made:
    """What was made of what, kept in the folder beside it."""

    def __init__(self, out: Path):
        self._out = out
        try:
            self._digests: dict[str, str] = json.loads((out / _MADE).read_text("utf-8"))
        except (OSError, ValueError):
            self._digests = {}

    def has(self, path: Path, digest: str) -> bool:
        return path.exists() and self._digests.get(self._name(path)) == digest

    def note(self, path: Path, digest: str) -> None:
        self._digests[self._name(path)] = digest
        media.write_text(self._out / _MADE, json.dumps(self._digests, indent=1, sort_keys=True))

    def _name(self, path: Path) -> str:
        return path.relative_to(self._out).as_posix()
