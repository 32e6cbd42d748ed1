"""What a text says of its people's looks, ages and clothes, and where it says so."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from reverie.language import lexicon, numbers
from reverie.language.people import Cast, Person, with_clothes

_OTHERS = re.compile(r"\b(?:man|woman|boy|girl|lady|gentleman|they|their|people|children|stranger|my|I|others?|creatures?|horse|dog)\b")
_ITSELF = re.compile(r"(?:,|\b(?:was|is))\s+(?:still\s+)?an?\s+(?:[\w-]+,?\s+){0,3}?(?:man|woman|boy|girl|lady|gentleman|creature|person|stranger|dog|horse)\b")  # "Tom, an old man with …"
_SHE, _HE = re.compile(r"\b(?:she|her|hers)\b", re.I), re.compile(r"\b(?:he|his|him)\b", re.I)
_PARAGRAPH = re.compile(r"\n[ \t]*\n")
_ONCE = re.compile(r"\b(?:when|since|until|till|before|while)\s+(?:\w+\s+){1,3}$")  # "when she was only eight years old": long ago
_REACH = 220  # characters from a name to what is said of its bearer
_CHILD = 14   # years


class Claim(NamedTuple):
    """`what` (look, hair, clothes, age) is `value`, told in these characters of a chapter."""

    person: str
    what: str
    value: str
    colour: str
    chapter: int
    start: int
    end: int


@lru_cache(maxsize=1)
def _patterns() -> dict[str, re.Pattern]:
    words = lexicon.words("features")
    garments = "|".join(sorted((form for noun in lexicon.words("clothes") for form in lexicon.forms(noun)), key=len, reverse=True))
    colours = rf"(?:\w+-)?(?:{'|'.join(sorted(lexicon.clothes_colours(), key=len, reverse=True))})"  # "bottle-green"
    shades = "|".join(words["shades"])
    builds = "|".join(words["builds"])
    some = r"(?:(?:an?|his|her|the)\s+)?"
    templates = {
        "clothes": rf"\b<wears>\s+{some}((?:[\w-]+\s+){{0,2}}?({colours})\s+(?:[\w-]+\s+)?(?:{garments}))\b",
        "worn": rf"\b(?:[Hh]is|[Hh]er) ((?:[\w-]+\s+)?({colours})\s+(?:[\w-]+\s+)?(?:{garments}))\b",
        "hair": rf"\b((?:(?:{shades})(?:,? and |, | )){{1,3}}(?:{'|'.join(words['nouns'])}))\b",
        "haired": rf"\b((?:{shades}|one)-(?:haired|eyed|bearded|faced|headed)|bald|freckled|bearded|bespectacled)\b",
        "build": r"\b(?:was|is|,)\s+(?:an?\s+)?(?:very\s+|rather\s+|quite\s+)?"
                 rf"((?:{builds})(?:(?:,? and |, | )(?:{builds}))*)\b"
                 r"(?=[\s,.;]+(?:\w+\s+)?(?:<built>|and|with|for|of|[,.;]))",
        "years": rf"(?i)\b(?:(<of_years>)\s+of\s+({numbers.PATTERN})\b"
                 rf"|(?:was|is|only|just|barely|,)\s+({numbers.PATTERN})\s+years?\s+old"
                 rf"|({numbers.PATTERN})-year-old|was\s+(?:only|just|barely)\s+({numbers.PATTERN})\b(?=[.,;]))",
        "age": r"(?:\b(?:was|is)\s+(?:an?|the|still an?)|,\s+(?:still\s+)?an?)\s+(?:[\w-]+,?\s+){0,2}?(<ages>)?\s*(<of_age>)\b",
    }
    return {what: lexicon.pattern(template) for what, template in templates.items()}


def told(found: Cast, texts: list[str], named: list[tuple], numbers_of: list[int]) -> Cast:
    """The cast with age, look and clothes as the text tells them. `named` are (mention, name) in order; see `mentions.read`."""
    by_chapter: dict[int, list[tuple]] = {}
    for mention, name in named:
        by_chapter.setdefault(mention.chapter, []).append((mention, name))
    by_person: dict[str, list[Claim]] = {}
    for i, text in enumerate(texts):
        for claim in _in_chapter(found, text, by_chapter.get(i, []), i):
            by_person.setdefault(claim.person, []).append(claim)
    breaks = [[m.start() for m in _PARAGRAPH.finditer(text)] for text in texts]
    return {name: _with(person, by_person.get(name, ()), breaks, numbers_of) for name, person in found.items()}


def _in_chapter(found: Cast, text: str, named: list[tuple], chapter: int):
    starts = [m.start for m, _ in named]
    for what, pattern in _patterns().items():
        for match in pattern.finditer(text):
            owner = _owner(found, text, named, starts, match, what)
            if owner:
                group = next(i for i, value in enumerate(match.groups(), 1) if value) if what != "years" else 0
                colour = match[2] if what in ("clothes", "worn") else ""
                yield Claim(owner, what, re.sub(r"\s+", " ", match[group]), colour, chapter, match.start(), match.end())


def _owner(found: Cast, text: str, named, starts, match: re.Match, what: str) -> str:
    """Of whom it is said: the name just before, in the same paragraph, when pronouns and other people do not speak against it."""
    if what in ("years", "age") and _ONCE.search(text[max(0, match.start() - 40):match.start()]):
        return ""
    i = bisect_left(starts, match.start())
    after = named[i] if i < len(named) else None
    if what in ("haired", "years") and after and 0 <= after[0].start - match.end() <= 2:
        return after[1]
    if not i or match.start() - named[i - 1][0].end > (_REACH if what not in ("build", "age") else 25):
        return ""
    mention, name = named[i - 1]
    between, person = text[mention.end:match.start()], found[name]
    others = _ITSELF.sub(" ", between)
    if "\n\n" in between or person.kind == "group" or _OTHERS.search(others) or what in ("build", "age") and re.search(r"[.!?]", between):
        return ""
    reach = between + match[0] if what == "worn" else between
    she, he = bool(_SHE.search(reach)), bool(_HE.search(reach))
    if person.gender and (she and not he and person.gender == "man" or he and not she and person.gender == "woman"):
        return ""
    own = bool(she or he) or what in ("build", "age", "years", "clothes") or not re.search(r"[.!?]", between)
    if what == "hair" and not (re.search(r"\b(?:his|her|with|had|whose|has)\s+(?:\w+\s+)?$", between, re.I)):
        return ""
    return name if own else ""


def _with(person: Person, claims_of, breaks, numbers_of) -> Person:
    """The person with what most claims say, the first of equals."""
    evidence, looks = [], {}
    for what in ("years", "age", "build", "haired", "hair", "clothes", "worn"):
        said = [c for c in claims_of if c.what == what]
        if not said:
            continue
        if what in ("hair",):
            chosen = list({c.value.split()[-1].rstrip("s"): c for c in reversed(said)}.values())[::-1][:2]
        else:
            value = Counter(c.value for c in said).most_common(1)[0][0]
            chosen = [next(c for c in said if c.value == value)]
        if what == "worn" and looks.get("clothes"):
            continue
        looks["clothes" if what == "worn" else what] = chosen
        evidence += [_evidence(c, breaks, numbers_of) for c in chosen]
    person = replace(person, evidence=tuple(evidence))
    if looks.get("clothes"):
        claim = looks["clothes"][0]
        person = with_clothes(person, claim.value, lexicon.worn_colour(claim.colour))
    person = _aged(person, looks)
    features = [c.value for c in looks.get("build", []) + looks.get("haired", [])], [c.value for c in looks.get("hair", [])]
    if person.kind == "animal":
        return person
    return replace(person, look=phrase_of(person, *features)) if features[0] or features[1] or person.age else person


def _aged(person: Person, looks) -> Person:
    said = looks.get("years") or looks.get("age")
    if not said:
        return person
    value = said[0].value.lower()
    told = re.finditer(rf"\b{numbers.PATTERN}", value.replace("-year-old", ""))
    years = next((n for n in (numbers.parse(m[0]) for m in told) if n), None) if said[0].what == "years" else None
    if years is not None and years <= 120:
        return replace(person, age=str(years), kind="child" if years < _CHILD and person.kind != "animal" else person.kind)
    age = _AGES.get(re.split(r"\W+", value)[0], "")
    child = said[0].what == "age" and re.search(r"\b(?:boy|girl|child|lad|lass)$", said[0].value)
    return replace(person, age=person.age or ("" if child else age), kind="child" if child and person.kind in ("man", "woman") else person.kind)


_AGES = {"old": "old", "elderly": "old", "aged": "old", "young": "young"}


def phrase_of(person: Person, builds: list[str], parts: list[str]) -> str:
    """`a tall old man with grey eyes`; a child of known gender is a boy or a girl."""
    noun = {"man": "boy", "woman": "girl"}.get(person.gender, "child") if person.kind == "child" else person.kind
    years = int(person.age) if person.age.isdigit() else None
    age = person.age if years is None else "old" if years >= 60 else "young" if _CHILD <= years < 30 else ""
    told = [b for b in builds if b not in ("old", "young", age)]
    words = " ".join([*told, age, noun]).split()
    first = " ".join(words).replace(" and ", " ").replace(",", "")
    article = "an" if first[0] in "aeiou" and not first.startswith("one-") else "a"
    parts = [part if re.search(r"(?:hair|s)$", part) else f"{'an' if part[0] in 'aeiou' else 'a'} {part}" for part in parts]
    tail = f" with {' and '.join(parts)}" if parts else ""
    return f"{article} {first}{tail}".lower()


def _evidence(claim: Claim, breaks, numbers_of) -> str:
    return f"{claim.value}: {_place(breaks[claim.chapter], numbers_of[claim.chapter], claim.start, claim.end)}"


def place(text: str, chapter: int, start: int, end: int) -> str:
    """Where something stands, for people to read: `chapter 3, paragraph 12, characters 2040-2063`."""
    return _place([m.start() for m in _PARAGRAPH.finditer(text)], chapter, start, end)


def _place(breaks: list[int], chapter: int, start: int, end: int) -> str:
    return f"chapter {chapter}, paragraph {bisect_left(breaks, start) + 1}, characters {start}-{end}"
