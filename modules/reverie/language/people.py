"""Who is in a book: found by rules, and by a character sheet that says how they look in every picture."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from reverie.errors import BadInput
from reverie.language import lexicon, signals

KINDS = ("man", "woman", "child", "group")
_FIELDS = {"look", "clothes", "aliases", "kind", "colour", "color", "narrator"}
_NAME = re.compile(
    r"\b(?:(?P<title>Mr|Mrs|Ms|Miss|Dr|Sir|Lady|Lord|Captain|Professor|King|Queen|Aunt|Uncle|Inspector|Colonel|Madame|Monsieur)\b\.?\s+)?"
    r"(?P<name>[A-Z][a-zà-ÿ]+(?:[ \u00a0-][A-Z][a-zà-ÿ]+){0,2})\b")
_ROLE = re.compile(r"\b[Tt]he (?P<name>[A-Z][a-z]+(?: [A-Z][a-z]+)?)\b")
_AT_START = re.compile(r"(?:^|[.!?…:][”’\"')]*\s+|\n\s*|[“‘\"—(]\s*)$")


@dataclass(frozen=True)
class Person:
    """One of the cast. `colour` is of the clothes and stays the same in all pictures; `look` and `clothes` are phrases."""

    name: str
    kind: str = "man"
    look: str = ""
    clothes: str = ""
    colour: str = ""
    aliases: tuple[str, ...] = ()
    narrator: bool = False


Cast = dict[str, Person]


PALETTE = ("blue", "red", "green", "brown", "purple", "orange", "yellow")
NARRATOR = Person("the narrator", "man", colour="blue")


def find_characters(chapters) -> Cast:
    """People named in the chapters (`Emma`, `Mrs. Watchett`, `the Time Traveller`), most mentioned first."""
    mentions, evidence, titles, genders = Counter(), Counter(), {}, {}
    common = Counter(w for chapter in chapters for w in re.findall(r"\b[a-z]+", chapter.text))
    for chapter in chapters:
        for name, title, start, end in _mentions(chapter.text):
            first = name.split()[0].lower()
            if not title and first != "the" and (common[first] > 2 or lexicon.knows(first)):
                continue  # a common word that only began a sentence
            mentions[name] += 1
            titles.setdefault(name, title)
            evidence[name] += _evidence(name, title, chapter.text, start, end)
            genders.setdefault(name, Counter()).update(re.findall(r"\b(he|his|him|she|her)\b", chapter.text[end:end + 90].lower()))
    found = {name: Person(name, _kind(name, titles[name], genders[name]), colour=colour_of(name), aliases=_short(name, mentions))
             for name, _ in mentions.most_common(60)
             if evidence[name] >= (1 if titles[name] or name.startswith("the ") or common.total() < 3000 else 2)}
    return _dressed(found, chapters)


def cast(found: Cast, sheet: Cast) -> Cast:
    """The sheet's people first, then those found whom the sheet does not know by any name."""
    known = {alias.lower() for p in sheet.values() for alias in names(p)}
    everyone = dict(sheet) | {n: p for n, p in found.items() if not {a.lower() for a in names(p)} & known}
    taken = {NARRATOR.colour, *(p.colour for p in sheet.values())}
    for name, person in everyone.items():
        if name not in sheet and not person.clothes:
            # The next colour that nobody mentioned more often wears, as long as there are any.
            start = PALETTE.index(person.colour)
            free = [c for c in PALETTE[start:] + PALETTE[:start] if c not in taken]
            everyone[name] = replace(person, colour=free[0] if free else person.colour)
            taken.add(everyone[name].colour)
    return everyone


@lru_cache(maxsize=4096)
def names(person: Person) -> tuple[str, ...]:
    """All that the person is called, without the article."""
    return tuple(re.sub(r"^[Tt]he ", "", n) for n in (person.name, *person.aliases))


def colour_of(name: str) -> str:
    """A clothes colour out of the name: the same in every scene, run and machine."""
    return PALETTE[hashlib.sha256(name.lower().encode()).digest()[0] % len(PALETTE)]


def load_sheet(path: Path | str | None) -> Cast:
    """The character sheet at `path`; an empty cast for None. BadInput says which line or entry is wrong.

    YAML, a person per key: `Emma: {look: "short red hair", clothes: "green coat", kind: woman, aliases: [Em]}`.
    """
    if path is None:
        return {}
    import yaml

    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BadInput(f"The character sheet '{path}' cannot be read.", "Check its path.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = f" at line {error.problem_mark.line + 1}" if getattr(error, "problem_mark", None) else ""
        raise BadInput(f"The character sheet '{path.name}' is not YAML{where}.", 'Write: Emma: {look: "short red hair"}') from error
    if isinstance(data, dict) and isinstance(data.get("characters"), (dict, list)):
        data = data["characters"]
    if isinstance(data, list) and all(isinstance(e, dict) and "name" in e for e in data):
        data = {e["name"]: {k: v for k, v in e.items() if k != "name"} for e in data}
    if not isinstance(data, dict) or not data:
        raise BadInput(f"The character sheet '{path.name}' names nobody.", 'Write: Emma: {look: "short red hair"}')
    return {str(name): _from_sheet(str(name), entry, path) for name, entry in data.items()}


def _from_sheet(name: str, entry, path: Path) -> Person:
    entry = {"look": entry} if isinstance(entry, str) else entry or {}
    unknown = set(entry) - _FIELDS if isinstance(entry, dict) else {"a list"}
    if unknown:
        raise BadInput(f"In '{path.name}', '{name}' has {', '.join(sorted(map(str, unknown)))}, which is not known.",
                       "Known are: look, clothes, aliases, kind, colour, narrator.")
    kind, aliases = str(entry.get("kind", "man")).lower(), entry.get("aliases") or []
    if kind not in KINDS:
        raise BadInput(f"In '{path.name}', the kind of '{name}' is '{kind}'.", f"Use one of: {', '.join(KINDS)}.")
    aliases = [aliases] if isinstance(aliases, str) else aliases
    clothes = str(entry.get("clothes") or "")
    colour = str(entry.get("colour") or entry.get("color") or "").lower()
    worn = next((lexicon.colours()[w] for w in re.findall(r"[a-z]+", clothes.lower()) if w in lexicon.colours()), "")
    return Person(name, kind, str(entry.get("look") or ""), clothes, lexicon.colours().get(colour) or worn or colour_of(name),
                  tuple(map(str, aliases)), bool(entry.get("narrator", False)))


def present(words: list[signals.Word], everyone: Cast) -> list[tuple[Person, float]]:
    """Who is in a scene, the most present first: mentions by weight, the narrator by every "I" that is not spoken."""
    by_first: dict[str, list[tuple[tuple[str, ...], Person]]] = {}
    for person in everyone.values():
        for name in names(person):
            parts = tuple(re.findall(r"[^\W\d_]+(?:[-'][^\W\d_]+)*", name.lower().replace("’", "'")))
            if parts:
                by_first.setdefault(parts[0], []).append((parts, person))
    points: Counter = Counter()
    for i, word in enumerate(words):
        for parts, person in by_first.get(word.low, ()):
            if tuple(w.low for w in words[i:i + len(parts)]) == parts and (word.text[0].isupper() or parts[0].islower()
                                                                           and person.kind == "group"):
                points[person] += word.weight
    teller = narrator(words, everyone)
    if teller is not None:
        points[teller] += 2 + sum(w.weight for w in words if w.low == "i" and not w.spoken)
    return [(p, n) for p, n in points.most_common() if n >= 0.8]


def narrator(words: list[signals.Word], everyone: Cast) -> Person | None:
    """Who says "I" outside speech, when someone does: the sheet's narrator, else "the narrator"."""
    told = [w for w in words if not w.spoken]
    said = sum(1 for w in told if w.low in ("i", "me", "my"))
    if said < 3 or said < len(told) * 0.012:
        return None
    named = next((p for p in everyone.values() if p.narrator), None)
    return named or NARRATOR


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


def _dressed(found: Cast, chapters) -> Cast:
    """The people in the first clothes of a colour that the text puts on them ("Emma … She wore her green coat")."""
    garments = "|".join(form for noun in lexicon.words("clothes") for form in lexicon.forms(noun))
    worn = re.compile(rf"\b(?:wore|wearing|dressed in|clad in|had on|in (?:an?|his|her))\s+(?:(?:an?|his|her|the)\s+)?"
                      rf"((?:[\w-]+\s+){{0,2}}?({'|'.join(lexicon.colours())})\s+(?:[\w-]+\s+)?(?:{garments}))\b")
    named = re.compile("|".join(rf"\b{re.escape(n)}\b" for p in found.values() for n in (p.name, *p.aliases)) or r"(?!)")
    owner = {n: p.name for p in found.values() for n in (p.name, *p.aliases)}
    for chapter in chapters:
        for match in worn.finditer(chapter.text):
            before = [owner[m[0]] for m in named.finditer(chapter.text, max(0, match.start() - 200), match.start())]
            person = found.get(before[-1]) if before else None
            pronouns = re.findall(r"\b(he|she)\b", chapter.text[max(0, match.start() - 60):match.start()].lower())
            fits = not pronouns or (pronouns[-1] == "she") == (person is not None and person.kind == "woman")
            other = re.search(r"\b(man|woman|boy|girl|lady|gentleman|they|people|children)\b", chapter.text[max(0, match.start() - 40):match.start()])
            if person and fits and not other:
                found[person.name] = with_clothes(person, match[1], lexicon.colours()[match[2]])
    return found


def of_stone(words: list[signals.Word], i: int) -> bool:
    """Whether the "figure" at `i` is a statue: its sentence says that it is carved, or of what material."""
    if words[i].low not in ("figure", "figures", "shape", "face"):
        return False
    near = [w.low for w in words[max(0, i - 10):i + 11] if w.sentence == words[i].sentence]
    return any(w in ("carved", "colossal", "sculptured", "stone", "marble", "bronze", "granite", "pedestal") for w in near)


def _mentions(text: str):
    ignored = lexicon.word_set("not_names")
    for match in _ROLE.finditer(text):
        last = match["name"].split()[-1].lower()
        if last in lexicon.word_set("roles") or last.endswith(("ist", "man", "woman")):
            yield "the " + match["name"], "", match.start(), match.end()
    for match in _NAME.finditer(text):
        name, title = match["name"], match["title"]
        before = text[max(0, match.start() - 5):match.start()]
        if name.split()[0].lower() in ignored or before.lower().endswith("the "):
            continue
        if title or not _AT_START.search(before) or _acts(text, match.end()):
            yield (f"{title}. {name}" if title in ("Mr", "Mrs", "Dr", "Ms") else f"{title} {name}" if title else name), title, *match.span()


def _acts(text: str, end: int) -> bool:
    after = re.match(r"\s+([a-z]+)", text[end:end + 24])
    return bool(after) and (after[1] in lexicon.word_set("speech") or after[1] in lexicon.verbs())


def _evidence(name: str, title: str | None, text: str, start: int, end: int) -> float:
    """That the name is a person's: speech and deeds for it, a place's preposition against it."""
    before, after = text[max(0, start - 24):start], text[end:end + 16]
    said = re.search(r"\b(said|asked|replied|cried|answered|whispered)\s+(?:[Tt]he )?$", before)
    place = re.search(r"\b(in|at|from|to|of|near|through)\s+$", before)
    return (1.0 if said or _acts(text, end) else 0.1) + (1.0 if title else 0.0) \
        + (0.3 if re.match(r"[’']s\b", after) else 0.0) - (0.6 if place and not title and not name.startswith("the ") else 0.0)


def _kind(name: str, title: str | None, pronouns: Counter) -> str:
    if title:
        return lexicon.words("titles").get(title.lower(), "man")
    she, he = pronouns["she"] + pronouns["her"], pronouns["he"] + pronouns["his"] + pronouns["him"]
    first = name.split()[0].lower()
    if she == he and not name.startswith("the "):
        return "woman" if first in lexicon.word_set("women") or first.endswith("a") else "man"
    return "woman" if she > he else "man"


def _short(name: str, mentions: Counter) -> tuple[str, ...]:
    """`Emma Woodhouse` is also `Emma`, unless others share the short name."""
    parts = name.split()
    if len(parts) < 2 or name.startswith("the ") or parts[0].rstrip(".").lower() in lexicon.words("titles"):
        return ()
    shared = [n for n in mentions if parts[0] in n.split()]
    return (parts[0],) if len([n for n in shared if n not in (name, parts[0])]) == 0 else ()


def describe(person: Person) -> str:
    """The phrase for a prompt: the look that the sheet gives, else the kind of person."""
    articles = {"man": "a man", "woman": "a woman", "child": "a child", "group": "a group of people"}
    if person.look:
        return f"{person.look} {_wearing(person)}".strip()
    known = articles[person.kind] if person.kind != "group" or person.name.startswith("the ") else person.name
    return f"{known} {_wearing(person)}".strip()


def _wearing(person: Person) -> str:
    """"wearing a brown coat": with an article where one garment is meant."""
    clothes = person.clothes.strip()
    if not clothes:
        return ""
    bare = re.match(r"(an?|the|his|her|their|some)\s", clothes, re.I) or clothes.endswith("s") or person.kind == "group"
    article = "" if bare else "an " if clothes[0].lower() in "aeiou" else "a "
    return f"wearing {article}{clothes}"


def with_clothes(person: Person, clothes: str, colour: str) -> Person:
    """The person dressed as the text says, where no sheet says otherwise."""
    return person if person.clothes else replace(person, clothes=clothes, colour=colour or person.colour)
