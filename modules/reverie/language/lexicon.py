"""The words that the rules know (configs/lexicon.yaml), as look-up tables that are built once."""

from __future__ import annotations

import re
from functools import lru_cache

from reverie.settings import config


def words(name: str):
    """The section `name` of the lexicon."""
    return config("lexicon")[name]


@lru_cache(maxsize=None)
def pattern(template: str) -> re.Pattern:
    """The regular expression `template`; <name> in it stands for any one entry `name` of the lexicon's patterns."""
    entries = words("patterns")
    return re.compile(re.sub(r"(?<!\?P)<(\w+)>", lambda found: f"(?:{'|'.join(entries[found[1]])})", template))


def word_set(name: str) -> frozenset[str]:
    return _word_set(name)


@lru_cache(maxsize=None)
def _word_set(name):
    return frozenset(str(w) for w in words(name))


@lru_cache(maxsize=None)
def table(name: str) -> dict[str, tuple[tuple[str, float], ...]]:
    """word → ((value, weight), …) for a section of `value: [word, "word weight"]`, plurals included."""
    result: dict[str, dict[str, float]] = {}
    for value, entry in words(name).items():
        for word, weight in weighted([*entry["words"], *entry.get("hints", ())] if isinstance(entry, dict) else entry):
            for form in forms(word):
                result.setdefault(form, {})[value] = weight
    return {word: tuple(values.items()) for word, values in result.items()}


@lru_cache(maxsize=None)
def hints() -> frozenset[str]:
    """Words that tell of a place but do not name it."""
    return frozenset(form for entry in words("settings").values() for word, _ in weighted(entry.get("hints", ())) for form in forms(word))


@lru_cache(maxsize=None)
def things() -> dict[str, tuple[str, float]]:
    """word → (its singular, weight) of everything worth showing."""
    return {form: (word, weight) for word, weight in weighted(words("things")) for form in forms(word)}


def knows(word: str) -> bool:
    """Whether the word is a thing, a place, an hour or a weather to the lexicon."""
    return word in things() or any(word in table(section) for section in ("settings", "times", "weathers"))


@lru_cache(maxsize=None)
def verbs() -> dict[str, tuple[str, str, float]]:
    """form → (base, pose, weight); only forms that cannot be mistaken for a noun are listed in the lexicon."""
    return {form: (base, v["pose"], v["w"]) for base, v in words("verbs").items() for form in v["forms"]}


@lru_cache(maxsize=None)
def colours() -> dict[str, str]:
    """colour word → one of the embedded model's colours."""
    return {word: colour for colour, synonyms in config("pocket")["colour_synonyms"].items() for word in synonyms}


@lru_cache(maxsize=None)
def clothes_colours() -> dict[str, str]:
    """As `colours`, with the words that name a colour of clothes alone: lilac, mustard, wine."""
    return colours() | {word: colour for colour, synonyms in config("pocket")["clothes_synonyms"].items() for word in synonyms}


def worn_colour(clothes: str) -> str:
    """The colour of a phrase of clothes ("his bottle-green coat": green) as the embedded model knows it; "" where it tells none.

    Of a compound that is no word of its own the last part counts.
    """
    known = clothes_colours()
    for word in re.findall(r"[a-z]+(?:-[a-z]+)*", clothes.lower()):
        colour = known.get(word) or next((known[part] for part in reversed(word.split("-")) if part in known), "")
        if colour:
            return colour
    return ""


@lru_cache(maxsize=None)
def people() -> dict[str, str]:
    """noun → kind (man, woman, child, figure, group)."""
    return {str(noun): kind for kind, nouns in words("people").items() for noun in nouns}


def weighted(entries):
    for entry in entries:
        word, _, weight = str(entry).rpartition(" ")
        if word and re.fullmatch(r"[\d.]+", weight):
            yield word, float(weight)
        else:
            yield str(entry), 1.0


def forms(word: str) -> list[str]:
    """The word and its regular plurals: hill, hills; bush, bushes; library, libraries."""
    if word.endswith("s") and not word.endswith("ss"):
        return [word]
    plurals = [word + "es"] if word.endswith(("s", "sh", "ch", "x", "z")) else [word + "s"]
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        plurals.append(word[:-1] + "ies")
    return [word, *plurals]
