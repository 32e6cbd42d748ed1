"""One text file per scene with its prompt, for people to edit: `OUT/prompts/NAME.txt`.

    the prompt, on as many lines as one likes
    Negative: what to keep out

`OUT/prompts/.composed.json` remembers what the program itself wrote, so that an edit is told from an older version of ours,
`OUT/prompts/.scenes.json` which scene of the text each picture showed, so that a picture follows its scene when others are put
in before it.
"""

from __future__ import annotations

import json
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Iterable

from reverie import media

_MARK = "Negative:"


def keep(out: Path, scenes: Iterable[dict[str, Any]]) -> None:
    """Write the prompt files of scenes (with filename, prompt, negative); those that a person edited stay as they are."""
    composed = _composed(out)
    before = dict(composed)
    for scene in scenes:
        path = _path(out, scene["filename"])
        if not _is_edited(path, composed):
            text = _format(scene["prompt"], scene["negative"])
            composed[path.name] = _digest(text)
            _write_changed(path, text)
    if composed != before:
        media.write_text(_index(out), json.dumps(composed, indent=1, sort_keys=True))


def edit(out: Path, filename: str, prompt: str, negative: str) -> Path:
    """Write a scene's prompt as a person's own."""
    path = _path(out, filename)
    _write_changed(path, _format(prompt, negative))
    composed = _composed(out)
    if composed.setdefault(path.name, "") == _digest(_format(prompt, negative)):
        return path  # put back to what we composed: no edit any more
    media.write_text(_index(out), json.dumps(composed, indent=1, sort_keys=True))
    return path


def edits(out: Path) -> dict[str, dict[str, str]]:
    """File name of the picture → `{prompt, negative}`, for every scene whose prompt file a person changed."""
    composed = _composed(out)
    found = {}
    for path in sorted((out / "prompts").glob("*.txt")):
        if _is_edited(path, composed):
            prompt, _, negative = path.read_text("utf-8", "replace").partition(_MARK)
            found[f"{path.stem}.png"] = {"prompt": " ".join(prompt.split()), "negative": " ".join(negative.split())}
    return found


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
    """Give each row `change` (new, changed, unchanged) and `was` (its file name in the last run, or ""), its own edit of the
    prompt, and `edited`. Returns the file names of scenes that are gone."""
    pairs = _matched(out, [row["span"] for row in rows])
    owner = {before["filename"]: row["filename"] for row, (_, before) in zip(rows, pairs, strict=True) if before}
    edited = edits(out)
    for row, (same_text, before) in zip(rows, pairs, strict=True):
        same = before is not None and same_text and before["prompt"] == _prompt_digest(row)
        row["change"] = "new" if before is None else "unchanged" if same else "changed"
        row["was"], row["composed"] = before["filename"] if before else "", _prompt_digest(row)
        name = row["filename"]
        own = edited.get(name) if owner.get(name, name) == name else None
        own = own or edited.get(row["was"])
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
    """Move prompt files and pictures to the scenes' present names; `names(filename, count)` are a scene's pictures.

    Nothing is overwritten, and a move cut short is carried on by the next run.
    """
    pairs = [(row["was"], row["filename"]) for row in rows if row["was"] and row["was"] != row["filename"]]
    composed = _composed(out)
    moved = {_path(out, old).name: _path(out, new).name for old, new in pairs if _path(out, old).exists()}
    moves = [(_path(out, old), _path(out, new)) for old, new in pairs]
    moves += [(out / a, out / b) for old, new in pairs for a, b in zip(names(old, count), names(new, count), strict=True)]
    sources = {a for a, _ in moves}
    for _, target in moves:  # what we wrote ourselves for a scene that is gone may go
        if target.suffix == ".txt" and target not in sources and target.exists() and not _is_edited(target, composed):
            target.unlink()
    _move_all([(a, b) for a, b in moves if a.exists()])
    if moved:
        kept = {name: digest for name, digest in composed.items() if name not in moved}
        media.write_text(_index(out), json.dumps(kept | {moved[n]: d for n, d in composed.items() if n in moved}, indent=1, sort_keys=True))


def record(out: Path, rows: list[dict[str, Any]]) -> None:
    """Remember the rows' scenes for the next run; chapters that were not asked for stay as they were."""
    chapters = {row["chapter"] for row in rows}
    others = [entry for entry in _record(out) if entry["chapter"] not in chapters]
    own = [{"filename": row["filename"], "chapter": row["chapter"], "scene": row["scene"], "slot": list(row["slot"]),
            "digest": row["span"]["digest"], "prompt": row["composed"]} for row in rows]
    text = json.dumps(sorted([*others, *own], key=lambda e: (e["chapter"], e["scene"])), indent=0)
    if not _scenes(out).exists() or _scenes(out).read_text("utf-8", "replace") != text:
        media.write_text(_scenes(out), text)


def _matched(out: Path, spans: list[dict[str, Any]]) -> list[tuple[bool, dict | None]]:
    """For each scene whether its text is as it was, and its entry of the last run: the same text, else the one in its place."""
    chapters = {span["chapter"] for span in spans}
    old = [entry for entry in _record(out) if entry["chapter"] in chapters]
    found: list[tuple[bool, dict | None]] = [(False, None)] * len(spans)
    matcher = SequenceMatcher(None, [e["digest"] for e in old], [s["digest"] for s in spans], autojunk=False)
    for what, a, b, c, d in matcher.get_opcodes():
        for i, j in zip(range(a, b), range(c, d)):  # noqa: B905 - the longer side's rest is gone, or new
            found[j] = (what == "equal", old[i])
    return found


def _record_of(out: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    chapters = {row["chapter"] for row in rows}
    return [entry for entry in _record(out) if entry["chapter"] in chapters]


def _record(out: Path) -> list[dict[str, Any]]:
    """The scenes of the last run, [] when there was none or its file cannot be read."""
    try:
        entries = json.loads(_scenes(out).read_text("utf-8"))
        keys = {"filename": str, "chapter": int, "scene": int, "slot": list, "digest": str, "prompt": str}
        return [e for e in entries if all(isinstance(e[key], kind) for key, kind in keys.items()) and len(e["slot"]) == 2]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _move_all(moves: list[tuple[Path, Path]]) -> None:
    """Each file to its new name, those first whose new name is free; files that only swap names go by a third one."""
    todo = list(moves)
    while todo:
        sources = {a for a, _ in todo}
        free = [(a, b) for a, b in todo if not b.exists()]
        if not free and not any(b in sources for _, b in todo):
            return  # only names that other files hold: those stay where they are
        if not free:
            a, b = next((a, b) for a, b in todo if b in sources)
            aside = a.with_name(f".{a.name}.moving")
            a.replace(aside)
            todo[todo.index((a, b))] = (aside, b)
            continue
        for a, b in free:
            if not b.exists():
                a.replace(b)
                todo.remove((a, b))


def _prompt_digest(row: dict[str, Any]) -> str:
    return _digest(_format(row["prompt"], row["negative"]))


def _scenes(out: Path) -> Path:
    return out / "prompts" / ".scenes.json"


def _is_edited(path: Path, composed: dict[str, str]) -> bool:
    """An emptied file is no edit: it is composed anew."""
    if not path.exists():
        return False
    text = path.read_text("utf-8", "replace")
    return bool(text.strip()) and composed.get(path.name) != _digest(text)


def _format(prompt: str, negative: str) -> str:
    return f"{prompt}\n{_MARK} {negative}\n"


def _write_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text("utf-8", "replace") != text:
        media.write_text(path, text)


def _path(out: Path, filename: str) -> Path:
    return out / "prompts" / f"{filename.removesuffix('.png')}.txt"


def _index(out: Path) -> Path:
    return out / "prompts" / ".composed.json"


def _composed(out: Path) -> dict[str, str]:
    try:
        return json.loads(_index(out).read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def _digest(text: str) -> str:
    return media.sha256(text.encode())[:16]
