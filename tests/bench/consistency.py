"""In how many of the scenes a character is in the clothes have the right colour: whole books, illustrated with `pocket`.

    python tests/bench/consistency.py
    python tests/bench/consistency.py my-novel/ --steps 10 --pictures /tmp/drawn

Each book goes through `reverie illustrate`. A character in a scene is right when a figure of its picture is read to wear the
colour in which the text dresses the character, or else the sheet; whom the picture leaves out is wrong. Who is in which scene
stands in consistency.yaml, as a reader says; of other books the shot list is believed. The colours are read by the grader that
comes with the model: it knows the leftmost figure, sees the rightmost in the mirrored picture, and one between two in a picture
whose leftmost was cut off. "Reader wrong" is how often that fails on the project's own drawings of the same scenes; "chance" is
what guessed colours would get.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "modules")]

BOOKS = (ROOT / "assets/samples/the-time-machine", ROOT / "tests/bench/the-light-at-sker")
FIGURE = re.compile(r"an? (man|woman|child) in an? (\w+) (?:coat|dress) (\w+)")
DRAWN = 8                   # drawings of each scene that the reader is tried on
CUT = 20                    # pixels of 128 that take the leftmost of three figures out of the picture
APART = 42                  # pixels left of which two figures stand when the object is in the middle


def illustrate(book: Path, out: Path, steps: int, seed: int) -> list[dict]:
    """The rows of a whole run, as the command prints them."""
    command = [sys.executable, "-m", "reverie.faces.cli", "illustrate", str(book), "--model", "pocket", "--outputs", "none", "--json",
               "--out", str(out), "--steps", str(steps), "--seed", str(seed)]
    environment = {"REVERIE_STORAGE": str(out.parent / "storage"), **os.environ, "PYTHONPATH": str(ROOT / "modules")}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, timeout=3600)
    return json.loads(done.stdout)


def asked(prompt: str):
    """The scene that a prompt of pocket's states, as the drawings take it."""
    from scripts.pocket import scenes
    from scripts.pocket.scenes import Person, Scene

    clauses = prompt.split(", ")
    number, colour, noun, *where = clauses[0].split()
    singular = {plural: one for one, plural in scenes.PLURALS.items()} | {one: one for one in scenes.PLURALS}
    known = {"place": {f"{at} the {place}": place for place, at in scenes.PLACES.items()}, "time": {said: time for time, said in scenes.TIMES.items()},
             "weather": {w: w for w in scenes.WEATHERS}, "style": {s: s for s in scenes.STYLES}}
    found = {what: next((table[c] for c in clauses[1:] if c in table), None) for what, table in known.items()}
    light = next((c.split() for c in clauses[1:] if c.endswith((" sun", " moon"))), [None, None])
    return Scene(object=singular[noun], colour=colour, count=scenes.COUNTS.index(number) + 1, position=where[-1],
                 people=tuple(Person(*m) for m in FIGURE.findall(prompt)), light=light[1], light_colour=light[0], **found)


def clothes(grader, pictures: list, scene) -> list[list[str]]:
    """The colours of each picture's figures from left to right, one list per picture; `scene` tells how many there are."""
    import torch
    from scripts.pocket import grade

    def read(some) -> torch.Tensor:
        with torch.inference_mode():
            return grader(some)["clothes"].softmax(1)

    batch, count = grade.as_tensor(pictures), len(scene.people)
    views = [read(batch), read(batch.flip(-1))]
    if count == 1:
        views = [views[0] + views[1]]
    elif count == 3:
        whole = batch.flip(-1) if scene.position == "left" else batch
        stop = APART if scene.position == "middle" else 128  # what stands right of it stays where it is
        columns = torch.cat([torch.arange(CUT, stop), torch.full((CUT,), stop - 1), torch.arange(stop, 128)])
        views.insert(1, read(whole[..., columns]))
    return [[grade.COLOURS[int(view[i].argmax())] for view in views[:count]] for i in range(len(pictures))]


def measured(book: Path, rows: list[dict], sheet: dict, truth: dict) -> list[dict]:
    """An entry per scene and character who is in it: what is worn, what was read, and how often the reader is wrong there."""
    from PIL import Image
    from reverie.language import people
    from scripts.pocket import grade
    from scripts.pocket.draw import draw

    grader, entries = grade.load(), []
    called = {name.lower(): person for person in sheet.values() for name in (person.name, *people.names(person))}
    for number, row in enumerate(rows):
        scene = asked(row["prompt"])
        seen = clothes(grader, [Image.open(row["images"][0])], scene)[0] if scene.people else []
        tries = clothes(grader, [draw(scene, 128, 10 ** 6 + DRAWN * number + i) for i in range(DRAWN)], scene) if scene.people else []
        wrong = [read != person.colour for one in tries for read, person in zip(one, scene.people, strict=True)]
        there = truth["scenes"][row["chapter"]][row["scene"] - 1] if truth else [n for n in row["characters"] if n.lower() in called]
        there = [n for n in there if n.lower() not in called or called[n.lower()].kind not in ("animal", "nobody")]
        left = Counter(seen)
        for name in there:
            person = called.get(name.lower())
            worn = truth.get("clothes", {}).get(name) or (person.colour if person else "")
            right = left[worn] > 0
            left[worn] -= right
            entries.append({"book": book.name, "where": f"{row['chapter']}.{row['scene']}", "who": name, "worn": worn, "seen": seen, "right": right,
                            "asked": worn in [p.colour for p in scene.people], "people": len(there), "picture": row["images"][0],
                            "chance": 1 - (1 - 1 / len(grade.COLOURS)) ** len(seen), "reader_wrong": sum(wrong) / max(1, len(wrong))})
    return entries


def table(entries: list[dict]) -> str:
    """A line per book and number of people, then all together."""
    groups: dict[tuple, list[dict]] = defaultdict(list)
    for entry in entries:
        groups[entry["book"], "one person" if entry["people"] == 1 else "two or three"].append(entry)
    groups["together", ""] = entries
    lines = ["| book | scenes with | scenes | characters in them | colour right | chance | reader wrong |", "|---|---|---|---|---|---|---|"]
    for (book, kind), some in groups.items():
        shares = [sum(e[what] for e in some) / len(some) for what in ("right", "chance", "reader_wrong")]
        scenes = len({(e["book"], e["where"]) for e in some})
        lines.append(f"| {book} | {kind} | {scenes} | {len(some)} | " + " | ".join(f"{share:.2f}" for share in shares) + " |")
    return "\n".join(lines)


def said(entry: dict) -> str:
    """One line on a character whose colour is not in the picture."""
    why = f"read: {', '.join(entry['seen']) or 'nobody'}" if entry["asked"] else "the prompt does not have it"
    return f"  {entry['book']} {entry['where']}: {entry['who']} should wear {entry['worn']} ({why}) {entry['picture']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("books", nargs="*", type=Path, default=BOOKS, help="books or folders of chapters; without any, the two that are known")
    parser.add_argument("--steps", type=int, default=0, help="denoising steps; 0: the model's own")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pictures", type=Path, help="a folder that keeps the pictures")
    parser.add_argument("--json", action="store_true", help="every scene and character, for programs")
    args = parser.parse_args()
    import yaml
    from reverie.language import sheet, sheet_beside

    known, entries = yaml.safe_load((Path(__file__).parent / "consistency.yaml").read_text("utf-8")), []
    with tempfile.TemporaryDirectory() as scratch:
        for book in map(Path.absolute, args.books):
            out = (args.pictures or Path(scratch)).absolute() / book.name
            rows = illustrate(book, out, args.steps, args.seed)
            kept = out / sheet.NAME
            everyone = sheet.together(sheet.load_sheet(sheet_beside(book)), sheet.load_sheet(kept if kept.is_file() else None))
            entries += measured(book, rows, everyone, known.get(book.name, {}) if book in BOOKS else {})
    if args.json:
        print(json.dumps(entries, indent=1))
        return
    print(table(entries))
    by_name = defaultdict(list)
    for entry in entries:
        by_name[entry["who"]].append(entry["right"])
    print("\n" + "; ".join(f"{name} {sum(hits)} of {len(hits)}" for name, hits in by_name.items()))
    print("\n".join(["", "Wrong:", *map(said, (e for e in entries if not e["right"]))]))
    print(f"\nThe clothes of a character are right in {sum(e['right'] for e in entries) / len(entries):.1%} of the scenes the character is in.")


if __name__ == "__main__":
    main()
