"""One text file per scene with its prompt, for people to edit, `OUT/prompts/NAME.txt`; and what is whose in the folder.

    the prompt, on as many lines as one likes
    Negative: what to keep out

`OUT/prompts/.composed.json` remembers what the program itself wrote, so that an edit is told from an older version of ours,
`OUT/prompts/.scenes.json` which scene of the text each picture showed, so that a picture follows its scene when others are put
in before it, and the seed of a scene that was redrawn, `OUT/.placed.json` which pictures the program put there, so that a
person's own are never replaced.
"""

from __future__ import annotations

import json
import re
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Iterable

from reverie import media

_MARK, _WAITING = "Negative:", ".new"
_BEFORE = "before"  # the pictures of a folder of an older version, in the index of those that the program put there


def keep(out: Path, scenes: Iterable[dict[str, Any]]) -> None:
    """Write the prompt files of scenes (with filename, prompt, negative); those that a person edited stay as they are."""
    index, texts, own = _digests(_index(out)), {}, {}
    for scene in scenes:
        path = _path(out, scene["filename"])
        own[path.name] = _prompt_digest(scene["composed"])
        if not _is_edited(path, index.get(path.name, ())):
            texts[path.name] = _format(scene["prompt"], scene["negative"])
    _write(out, texts, own)


def edit(out: Path, filename: str, prompt: str, negative: str, composed: dict[str, str] | None = None) -> Path:
    """Write a scene's prompt as a person's own; put back to `composed`, its prompt and negative, it is the program's."""
    path = _path(out, filename)
    _write(out, {path.name: _format(prompt, negative)}, {path.name: _prompt_digest(composed)} if composed else {})
    return path


def edit_row(out: Path, row: dict[str, Any], prompt: str, negative: str) -> Path:
    """The same for a scene as `compare` left it, wherever its file lies by now: under the old name until `follow` has moved it."""
    name = lies_at(out, row)
    path = _path(out, name) if name else _waiting(out, row)
    _write(out, {path.name: _format(prompt, negative)}, {path.name: _prompt_digest(row["composed"])})
    return path


def edits(out: Path) -> dict[str, dict[str, str]]:
    """File name of the picture → `{prompt, negative}`, for every scene whose prompt file a person changed."""
    return {f"{name.removesuffix('.txt')}.png": own for name, own in _edits(out).items() if name.endswith(".txt")}


def _edits(out: Path) -> dict[str, dict[str, str]]:
    """The same by the names of the prompt files, with those that wait for theirs."""
    composed, found = _digests(_index(out)), {}
    there = [path for path in sorted((out / "prompts").glob("*")) if path.suffix in (".txt", _WAITING)]
    for path, target in [*((path, path) for path in there), *_under_way(out)]:
        if target.suffix in (".txt", _WAITING) and _is_edited(path, composed.get(target.name, ())):
            prompt, _, negative = path.read_text("utf-8", "replace").partition(_MARK)
            found[target.name] = {"prompt": " ".join(prompt.split()), "negative": " ".join(negative.split())}
    return found


def lies_at(out: Path, row: dict[str, Any]) -> str:
    """The picture's file name under which a scene's files lie now: its own, once a run has given it that; until then the
    last run's; "" for a new scene whose name another one still has."""
    for entry in _recorded(out)[0]:
        is_same = entry["slot"] == list(row["slot"]) and (row["was"] or entry["digest"] == row["span"]["digest"])
        if entry["filename"] == row["filename"] and is_same:
            return row["filename"]
    return row["was"] or ("" if row["taken"] else row["filename"])


def slots(out: Path, spans: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """For each scene the chapter and number under which it was first drawn: its seed and composition stay when it moves."""
    matched = [before for _, before in _matched(out, spans)]
    taken = {tuple(before["slot"]) for before in matched if before}
    found: list[tuple[int, int]] = []
    for span, before in zip(spans, matched, strict=True):
        slot = tuple(before["slot"]) if before else (span["chapter"], span["scene"])
        while not before and slot in taken:
            slot = (slot[0], max(n for c, n in {*taken, slot} if c == slot[0]) + 1)
        taken.add(slot)
        found.append(slot)
    return found


def compare(out: Path, rows: list[dict[str, Any]]) -> list[str]:
    """Give each row `change` (new, changed, unchanged), `was` (its file name in the last run, or ""), `taken` (whether another
    scene still has its name), `own_seed` (of a redrawn one, or None), `composed` (the program's prompt and negative), its own
    edit of them, and `edited`. Returns the file names of scenes that are gone."""
    pairs = _matched(out, [row["span"] for row in rows])
    owner = {before["filename"]: row["filename"] for row, (_, before) in zip(rows, pairs, strict=True) if before}
    edited = _edits(out)
    for row, (same_text, before) in zip(rows, pairs, strict=True):
        same = before is not None and same_text and before["prompt"] == _prompt_digest(row)
        row["change"] = "new" if before is None else "unchanged" if same else "changed"
        row["was"] = before["filename"] if before else ""
        row["own_seed"] = before.get("seed") if before else None
        row["composed"] = {"prompt": row["prompt"], "negative": row["negative"]}
        row["taken"] = owner.get(row["filename"], row["filename"]) != row["filename"]
        names = [row["was"], *([] if row["taken"] else [row["filename"]])]
        files = [*(_path(out, name) for name in names), _waiting(out, row)]
        own = next((edited[path.name] for path in files if path.name in edited), None)
        row["edited"] = own is not None
        row |= own or {}
    return [entry["filename"] for entry in _record_of(out, rows) if entry["filename"] not in owner]


def counted(rows: list[dict[str, Any]], gone: list[str]) -> dict[str, int]:
    """How many scenes are new, changed, unchanged and gone, and how many prompts are edited."""
    states = {name: sum(row["change"] == name for row in rows) for name in ("new", "changed", "unchanged")}
    return states | {"gone": len(gone), "edited": sum(row["edited"] for row in rows)}


def told(out: Path, rows: list[dict[str, Any]], gone: list[str]) -> list[str]:
    """What is different since the last run, in words; nothing at the first run."""
    counts = counted(rows, gone)
    if counts["new"] == len(rows) and not counts["edited"] and not gone:
        return []
    said = ", ".join(f"{counts[name]} {name}" for name in ("new", "changed", "unchanged", "gone"))
    moved = sum(row["was"] not in ("", row["filename"]) for row in rows)
    left = [name for name in gone if (out / name).exists()]
    return [f"Since the last run: {said} scenes; {counts['edited']} prompts edited by hand.",
            *([f"{moved} pictures get other file names, as their scenes did; none is drawn anew for that."] if moved else []),
            *([f"Pictures of scenes that are gone stay: {', '.join(left[:3])}{' …' if len(left) > 3 else ''}."] if left else [])]


def follow(out: Path, rows: list[dict[str, Any]], count: int, names) -> None:
    """Move prompt files and pictures to the scenes' present names, and remember the rows' scenes for the next run.

    `names(filename, count)` are a scene's pictures. Chapters that were not asked for stay as they were, nothing is overwritten.
    All files go aside before the new names are recorded, and take them afterwards: wherever this is cut short, the record
    tells the next run under which name each file belongs.
    """
    _settle(out)
    _adopt(out)
    pairs = [(row["was"], row["filename"]) for row in rows if row["was"] and row["was"] != row["filename"]]
    moves = [(_path(out, old), _path(out, new)) for old, new in pairs]
    moves += [(_waiting(out, row), _path(out, row["filename"])) for row in rows if _waiting(out, row).exists()]
    moves += [(out / a, out / b) for old, new in pairs for a, b in zip(names(old, count), names(new, count), strict=True)]
    composed, sources = _digests(_index(out)), {a for a, _ in moves}
    for _, target in moves:  # what we wrote ourselves for a scene that is gone may go
        known = composed.get(target.name, ())
        if target.suffix == ".txt" and target not in sources and target.exists() and not _is_edited(target, known):
            target.unlink()
    moves = _possible(moves)
    for index in (_index(out), _placed(out)):
        known = _digests(index)
        _note(index, {b.name: known[a.name] for a, b in moves if a.name in known})
    for path, _ in moves:
        path.replace(_aside(path))
    _record(out, rows, {a.name: b.name for a, b in moves})
    _settle(out)
    _record(out, rows, {})


def is_placed(picture: Path) -> bool:
    """Whether the program put this picture there, as it is now; in a folder that `_adopt` has yet to see, as it will say."""
    if not _placed(picture.parent).exists():
        return _scenes(picture.parent).exists()
    placed = _digests(_placed(picture.parent))
    return _digest(picture.read_bytes()) in [*placed.get(picture.name, ()), *placed.get(_BEFORE, ())]


def note_placed(picture: Path, data: bytes) -> None:
    """Remember that `picture` will be `data`; that what is there until then is ours stays remembered."""
    index = _placed(picture.parent)
    there = [_digest(picture.read_bytes())] if picture.exists() and is_placed(picture) else []
    _write_json(index, _digests(index) | {picture.name: [*there, _digest(data)]})


def _adopt(out: Path) -> None:
    """A folder of a version that kept no such notes: what is there now counts as the program's."""
    if not _placed(out).exists():
        there = sorted(out.glob("*.png")) if _scenes(out).exists() else ()
        _write_json(_placed(out), {_BEFORE: [_digest(path.read_bytes()) for path in there]})


def _record(out: Path, rows: list[dict[str, Any]], moving: dict[str, str]) -> None:
    """Write the scenes; `moving` are the files that stand aside, by their old names and the ones they get."""
    chapters = {row["chapter"] for row in rows}
    others = [entry for entry in _recorded(out)[0] if entry["chapter"] not in chapters]
    own = [{"filename": row["filename"], "chapter": row["chapter"], "scene": row["scene"], "slot": list(row["slot"]),
            "digest": row["span"]["digest"], "prompt": _prompt_digest(row["composed"])}
           | ({} if row["own_seed"] is None else {"seed": row["own_seed"]}) for row in rows]
    entries = sorted([*others, *own], key=lambda e: (e["chapter"], e["scene"]))
    _write_json(_scenes(out), {"scenes": entries, "moving": moving} if moving else entries)


def _matched(out: Path, spans: list[dict[str, Any]]) -> list[tuple[bool, dict | None]]:
    """For each scene whether its text is as it was, and its entry of the last run: the same text, else the one in its place."""
    chapters = {span["chapter"] for span in spans}
    old = [entry for entry in _recorded(out)[0] if entry["chapter"] in chapters]
    found: list[tuple[bool, dict | None]] = [(False, None)] * len(spans)
    matcher = SequenceMatcher(None, [e["digest"] for e in old], [s["digest"] for s in spans], autojunk=False)
    for what, a, b, c, d in matcher.get_opcodes():
        for i, j in zip(range(a, b), range(c, d)):  # noqa: B905 - the longer side's rest is gone, or new
            found[j] = (what == "equal", old[i])
    return found


def _record_of(out: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    chapters = {row["chapter"] for row in rows}
    return [entry for entry in _recorded(out)[0] if entry["chapter"] in chapters]


def _recorded(out: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The scenes of the last run and the files that it left aside; nothing without one, or where it cannot be read."""
    try:
        found = json.loads(_scenes(out).read_text("utf-8"))
        entries, moving = (found["scenes"], dict(found["moving"])) if isinstance(found, dict) else (found, {})
        keys = {"filename": str, "chapter": int, "scene": int, "slot": list, "digest": str, "prompt": str}
        sound = [e for e in entries if all(isinstance(e[key], kind) for key, kind in keys.items()) and len(e["slot"]) == 2]
        sound = [e for e in sound if isinstance(e.get("seed", 0), int)]
        return sound, moving
    except (OSError, ValueError, TypeError, KeyError):
        return [], {}


def _possible(moves: list[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """The moves of files that are there to names that are free, or will be."""
    moves = [(a, b) for a, b in moves if a.exists() and not _aside(a).exists()]
    taken = {b for _, b in moves if b.exists()}
    while True:
        leaving = {a for a, _ in moves}
        left = [(a, b) for a, b in moves if b not in taken or b in leaving]
        if len(left) == len(moves):
            return moves
        moves = left


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.moving")


def _under_way(out: Path) -> list[tuple[Path, Path]]:
    """The files that stand aside, and where they belong: under the recorded name, else where they come from."""
    found, moving = [*out.glob(".*.moving"), *(out / "prompts").glob(".*.moving")], _recorded(out)[1]
    names = [re.fullmatch(r"\.+(.+?)(?:\.moving)+", path.name)[1] for path in found]
    return [(path, path.with_name(moving.get(name, name))) for path, name in zip(found, names, strict=True)]


def _settle(out: Path) -> None:
    for aside, target in _under_way(out):
        if not target.exists():
            aside.replace(target)


def _prompt_digest(row: dict[str, Any]) -> str:
    return _digest(_format(row["prompt"], row["negative"]))


def _scenes(out: Path) -> Path:
    return out / "prompts" / ".scenes.json"


def _placed(out: Path) -> Path:
    return out / ".placed.json"  # not beside the prompts: those may be deleted to begin anew


def _is_edited(path: Path, composed: Iterable[str]) -> bool:
    """Whether its text is none of the `composed` ones. An emptied file is no edit: it is composed anew."""
    if not path.exists():
        return False
    text = path.read_text("utf-8", "replace")
    return bool(text.strip()) and _digest(text) not in composed


def _format(prompt: str, negative: str) -> str:
    return f"{prompt}\n{_MARK} {negative}\n"


def _write(out: Path, texts: dict[str, str], own: dict[str, str]) -> None:
    """Write prompt files. Until all are written the index keeps the older digests beside `own`: cut short, none is an edit."""
    digests = {name: [digest] for name, digest in own.items()}
    before = _digests(_index(out))
    _note(_index(out), digests)
    for name, text in texts.items():
        _write_changed(out / "prompts" / name, text)
    _write_json(_index(out), before | digests)


def _note(index: Path, more: dict[str, list[str]]) -> None:
    """Add digests to those that an index has."""
    known = _digests(index)
    _write_json(index, known | {name: sorted({*known.get(name, ()), *digests}) for name, digests in more.items()})


def _write_json(path: Path, value: Any) -> None:
    _write_changed(path, json.dumps(value, indent=0, sort_keys=True))


def _write_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text("utf-8", "replace") != text:
        media.write_text(path, text)


def _path(out: Path, filename: str) -> Path:
    return out / "prompts" / f"{filename.removesuffix('.png')}.txt"


def _waiting(out: Path, row: dict[str, Any]) -> Path:
    """Where a new scene's edit waits until its name is free, told by its text."""
    return out / "prompts" / f"{row['span']['digest']}{_WAITING}"


def _index(out: Path) -> Path:
    return out / "prompts" / ".composed.json"


def _digests(index: Path) -> dict[str, list[str]]:
    """File name → digests of what the program wrote there; an older index has one each."""
    try:
        found = json.loads(index.read_text("utf-8")).items()
        return {name: known if isinstance(known, list) else [known] for name, known in found}
    except (OSError, ValueError, AttributeError):
        return {}


def _digest(content: str | bytes) -> str:
    return media.sha256(content.encode() if isinstance(content, str) else content)[:16]
