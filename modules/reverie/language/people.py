"""The people of a book as pictures need them: what they are called, how they look, and who of them is in a scene."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import lru_cache

from reverie.language import lexicon, signals

#: `animal` is drawn as a thing, `nobody` not at all: a name that is no person's.
KINDS = ("man", "woman", "child", "group", "animal", "nobody")


@dataclass(frozen=True)
class Person:
    """One of the cast. `colour` is of the clothes and stays the same in all pictures; `look` and `clothes` are phrases.

    `phrase`, when set, is what every prompt says of the person; `evidence` and `note` are for people to read.
    """

    name: str
    kind: str = "man"
    look: str = ""
    clothes: str = ""
    colour: str = ""
    aliases: tuple[str, ...] = ()
    narrator: bool = False      # says "I" in the text
    quoted: bool = False        # says "I" in a tale that stands in quotation marks
    age: str = ""               # old, young or a number of years
    gender: str = field(default="", compare=False)  # man or woman where the text tells it; of children too
    phrase: str = ""
    reference: str = ""         # path of a picture of the person
    seed: int = 0
    note: str = field(default="", compare=False)
    evidence: tuple[str, ...] = field(default=(), compare=False)
    unseen: bool = field(default=False, compare=False)


Cast = dict[str, Person]


PALETTE = ("blue", "red", "green", "purple", "orange", "yellow")
SPARE = ("white", "brown")  # only when the others are worn: `pocket` draws a brown coat red in every second red dusk
NARRATOR = Person("the narrator", "man", colour="blue")


def cast(found: Cast, sheet: Cast) -> Cast:
    """The sheet's people first, then those found whom the sheet does not know by any name, in colours that differ."""
    known = {alias.lower() for p in sheet.values() for alias in names(p)}
    told = any(p.narrator for p in sheet.values())
    everyone = {n: p for n, p in sheet.items() if p.kind != "nobody"}
    added = {n: p for n, p in found.items() if not {a.lower() for a in names(p)} & known and not (told and n == NARRATOR.name)}
    worn: Counter = Counter()
    for rank, p in enumerate([*everyone.values(), *(p for n, p in added.items() if _is_dressed(p) or n == NARRATOR.name)]):
        worn[p.colour] += 1 + 1 / (rank + 1)
    for rank, (name, person) in enumerate(added.items(), len(everyone)):
        if not _is_dressed(person) and person.kind in _CLAD and name != NARRATOR.name:
            person = replace(person, colour=free_colour(person.colour, worn))
            worn[person.colour] += 1 + 1 / (rank + 1)  # where colours run out, the least mentioned share theirs
        everyone[name] = replace(person, narrator=person.narrator and not told, quoted=person.quoted and not any(p.quoted for p in sheet.values()))
    return everyone


_MANY = 4  # people of a book: of fewer it is not known whether somebody tells it
_OWNERS = frozenset("the my our your his her their old".split())
_CLAD = ("man", "woman", "child", "group")


def _is_dressed(person: Person) -> bool:
    """Whether the text tells the colour of the person's clothes."""
    return bool(lexicon.worn_colour(person.clothes))


def free_colour(first: str, worn: Counter) -> str:
    """The colour that is worn least: of equals `first`, or the one that comes soonest after it."""
    start = PALETTE.index(first) if first in PALETTE else 0
    return min((*PALETTE[start:], *PALETTE[:start], *SPARE), key=lambda c: worn[c])


@lru_cache(maxsize=4096)
def names(person: Person) -> tuple[str, ...]:
    """All that the person is called, without the article."""
    return tuple(re.sub(r"^[Tt]he ", "", n) for n in (person.name, *person.aliases))


@lru_cache(maxsize=16)
def _by_first(everyone: tuple[Person, ...]) -> dict[str, list[tuple[tuple[str, ...], Person, bool]]]:
    """First word → the names that begin with it as words, longest first, and whether they are written small ("the doctor")."""
    index: dict[str, list[tuple[tuple[str, ...], Person, bool]]] = {}
    for person in everyone:
        for name in names(person):
            parts = tuple(re.findall(r"[^\W\d_]+(?:[-'][^\W\d_]+)*", name.lower().replace("’", "'")))
            if parts:
                index.setdefault(parts[0], []).append((parts, person, name.islower()))
    return {first: sorted(entries, key=lambda e: -len(e[0])) for first, entries in index.items()}


def mentioned(words: list[signals.Word], everyone: Cast) -> dict[int, Person]:
    """Index of a name's last word → whom it means. The longest name counts: "Mrs. Bennet" is not also a "Bennet"."""
    index, found, after = _by_first(tuple(everyone.values())), {}, 0
    for i, word in enumerate(words):
        if i < after or word.low not in index:
            continue
        for parts, person, small in index[word.low]:
            owned = small and i > 0 and words[i - 1].low in _OWNERS
            if (word.text[0].isupper() or person.kind == "group" or owned) and tuple(w.low for w in words[i:i + len(parts)]) == parts:
                after = i + len(parts)
                found[after - 1] = person
                break
    return found


def colour_of(name: str) -> str:
    """A clothes colour out of the name: the same in every run and machine."""
    return PALETTE[hashlib.sha256(name.lower().encode()).digest()[0] % len(PALETTE)]


def present(words: list[signals.Word], everyone: Cast) -> list[tuple[Person, float]]:
    """Who is in a scene, the most present first: mentions by weight, the narrator by every "I" that is not spoken."""
    points: Counter = Counter()
    for i, person in mentioned(words, everyone).items():
        points[person] += words[i].weight
    teller = narrator(words, everyone)
    if teller is not None:
        points[teller] += 2 + sum(w.weight for w in words if w.low == "i" and not w.spoken)
    return [(p, n) for p, n in points.most_common() if n >= 0.8]


def narrator(words: list[signals.Word], everyone: Cast) -> Person | None:
    """Who says "I" outside speech, when someone does: the sheet's narrator, else "the narrator"."""
    told = [w for w in words if not w.spoken]
    said = sum(1 for w in told if w.low in ("i", "me", "my"))
    if said < 3 or said < len(told) * 0.012 or everyone and not any(p.narrator or p.quoted for p in everyone.values()) \
            and len(everyone) >= _MANY:
        return None  # in a book that nobody tells, somebody's long speech or letter
    return next((p for p in everyone.values() if p.narrator), None) or everyone.get(NARRATOR.name, NARRATOR)


def unnamed(words: list[signals.Word], taken: set[str]) -> list[tuple[Person, float]]:
    """People without a name ("little people", "an old woman") that the cast does not cover, most present first."""
    kinds, points, phrases = lexicon.people(), Counter(), {}
    for i, word in enumerate(words):
        kind = kinds.get(word.low)
        if kind is None or word.low in taken or word.text[0].isupper() or of_stone(words, i):
            continue
        before = [w.low for w in words[max(0, i - 2):i] if w.clause == word.clause]
        adjectives = [w for w in before if w in lexicon.word_set("adjectives")]
        phrase = " ".join([*adjectives, word.low])
        points[word.low] += word.weight
        if len(phrase) > len(phrases.get(word.low, "")):
            phrases[word.low] = phrase
    shown = {"figure": "man"}
    return [(Person(phrases[noun], shown.get(kinds[noun], kinds[noun]), colour=colour_of(noun)), n)
            for noun, n in points.most_common(3)
            if n >= min(1.8 if kinds[noun] == "group" else 1.5, 0.6 + len(words) / 150)]


def of_stone(words: list[signals.Word], i: int) -> bool:
    """Whether the "figure" at `i` is a statue: its sentence says that it is carved, or of what material."""
    if words[i].low not in ("figure", "figures", "shape", "face"):
        return False
    near = [w.low for w in words[max(0, i - 10):i + 11] if w.sentence == words[i].sentence]
    return any(w in ("carved", "colossal", "sculptured", "stone", "marble", "bronze", "granite", "pedestal") for w in near)


def describe(person: Person) -> str:
    """The phrase for a prompt: the look that the sheet gives, else the kind of person."""
    if person.phrase:
        return person.phrase
    articles = {"man": "a man", "woman": "a woman", "child": "a child", "group": "a group of people", "animal": "a dog", "nobody": "nobody"}
    if person.look:
        return f"{person.look} {_wearing(person)}".strip()
    known = articles[person.kind] if person.kind != "group" or person.name.startswith("the ") else person.name
    return f"{known} {_wearing(person)}".strip()


def _wearing(person: Person) -> str:
    """"wearing a brown coat": with an article where one garment is meant."""
    clothes = person.clothes.strip()
    if not clothes:
        return ""
    bare = re.match(r"(an?|the|his|her|their|some)\s", clothes, re.I) or re.search(r"[^s]s$", clothes) or person.kind == "group"
    article = "" if bare else "an " if clothes[0].lower() in "aeiou" else "a "
    return f"wearing {article}{clothes}"


def with_clothes(person: Person, clothes: str, colour: str) -> Person:
    """The person dressed as the text says, where no sheet says otherwise."""
    return person if person.clothes else replace(person, clothes=clothes, colour=colour or person.colour)
