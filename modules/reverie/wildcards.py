"""Prompts that choose: `{red|blue} house, __time__`. Resolved before a task is stored, so a recipe says what was really asked.

    {a|b|c}        one of them; {3::a|b} takes a three times as often; {a||b} may be nothing
    {2$$a|b|c}     two of them, in any order, joined by commas; {1-3$$ and $$a|b|c}: one to three, joined by " and "
    __name__       a line of `name.txt` in storage/wildcards or assets/wildcards (`__animals/dogs__` of a folder in there)
    \\{  \\|  \\}     these letters themselves

What is chosen may hold choices again. The same text with the same seed always becomes the same prompt. The syntax is that of
the Dynamic Prompts extension of the A1111 family.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

from reverie.errors import BadInput

DEEPEST, LONGEST = 30, 20_000  # rounds and letters: files may name each other
_FILE = re.compile(r"__([\w][\w \-/]*?)__")
_INNER = re.compile(r"(?<!\\)\{((?:[^{}\\]|\\.)*)(?<!\\)\}", re.DOTALL)  # braces without braces inside
_WEIGHT = re.compile(r"\s*(\d+(?:\.\d+)?)::")
_SEVERAL = re.compile(r"\s*(\d+)(?:-(\d+))?\$\$")


def has(text: str) -> bool:
    """Whether there is anything to choose in `text`."""
    return bool(_FILE.search(text) or _INNER.search(text))


def resolve(text: str, seed: int, folders: list[Path]) -> str:
    """`text` with every choice made by `seed`; files are looked for in `folders`, the first one first.

    BadInput for a file that is not there or empty, for files that name each other without end, for a lone brace, and for a
    text that is too long.
    """
    if not has(text):
        return _plain(text)
    if len(text) > LONGEST:
        raise BadInput(f"A prompt with choices may have {LONGEST:,} letters, and this one has {len(text):,}.", "Shorten it, or write the choices out.")
    chance = random.Random(f"{seed}/{text}")
    for _ in range(DEEPEST):
        if not has(text):
            return _tidied(_plain(text))
        if len(text) > LONGEST:
            break
        text = _FILE.sub(lambda found: chance.choice(_lines(found[1], folders)), text)
        while _INNER.search(text):
            text = _INNER.sub(lambda found: _chosen(found[1], chance), text, count=1)
    found = sorted({found[1] for found in _FILE.finditer(text)})
    raise BadInput("Wildcard files name each other without end.", f"Look at: {', '.join(found)}.")


def names(folders: list[Path]) -> list[str]:
    """Every wildcard that can be written between double underscores."""
    return sorted({file.relative_to(folder).with_suffix("").as_posix() for folder in folders for file in folder.glob("**/*.txt")})


def _chosen(inside: str, chance: random.Random) -> str:
    several = _SEVERAL.match(inside)
    joiner = ", "
    if several:
        inside = inside[several.end():]
        joiner, found, rest = inside.partition("$$")
        joiner, inside = (joiner, rest) if found else (", ", inside)
    options = [(float(weight[1]), option[weight.end():]) if (weight := _WEIGHT.match(option)) else (1.0, option)
               for option in re.split(r"(?<!\\)\|", inside)]
    if not several:
        return _one(options, chance)[1]
    fewest, most = int(several[1]), int(several[2] or several[1])
    taken = []
    for _ in range(min(chance.randint(min(fewest, most), max(fewest, most)), len(options))):
        option = _one(options, chance)
        options.remove(option)
        taken.append(option[1].strip())
    return joiner.join(taken)


def _one(options: list[tuple[float, str]], chance: random.Random) -> tuple[float, str]:
    weights = [weight for weight, _ in options]
    return chance.choices(options, weights if sum(weights) else None)[0]


def _lines(name: str, folders: list[Path]) -> list[str]:
    """The lines of a wildcard file, without empty ones and comments."""
    from reverie.language import encodings

    for folder in folders:
        path = folder / f"{name}.txt"
        if path.is_file():
            lines = [line.strip() for line in encodings.decode(path.read_bytes(), path.name).splitlines()]
            found = [line for line in lines if line and not line.startswith("#")]
            if not found:
                raise BadInput(f"The wildcard file {path} has no lines.", "Write one choice per line.")
            return found
    known = ", ".join(names(folders)) or "none"
    raise BadInput(f"There is no wildcard '{name}'.", f"Put {name}.txt into {folders[0]}. There are: {known}.")


def _plain(text: str) -> str:
    """Escapes undone; BadInput for a lone brace."""
    if re.search(r"(?<!\\)[{}]", text):
        raise BadInput(f"A brace is not closed in: {text[:80]}", r"Write {a|b}, or \{ for the letter itself.")
    return re.sub(r"\\([{}|])", r"\1", text)


def _tidied(text: str) -> str:
    """Spaces and commas put right where an empty choice left them."""
    return re.sub(r"(?:\s*,){2,}", ",", re.sub(r"[ \t]{2,}", " ", text)).strip(" ,")
