"""Prompts for the embedded model: a shot in the few words it knows, in the grammar of the captions it learned from."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from reverie.language import lexicon
from reverie.language.people import Person
from reverie.language.rules import Shot
from reverie.settings import config

_DRAWN = ("man", "woman", "child", "group")
_NUMBERS = ("one", "two", "three", "four")


def values(shot: Shot, style: str) -> dict:
    """What the model is asked to draw, attribute by attribute; `style` is one of the model's own styles."""
    rules = config("prompts")["pocket"]
    place = lexicon.words("settings")[shot.place]["pocket"]
    indoors = place in config("pocket")["indoors"]
    noun, colour, count = _object(shot, place, rules)
    weather = None if indoors else rules["weather"].get(shot.weather, shot.weather) or "clear"
    return {"place": place, "time": shot.time, "weather": weather, "object": noun, "colour": colour, "count": count,
            "position": rules["positions"][(shot.chapter + shot.scene) % 3], "people": _people(shot, rules),
            "light": shot.light if not indoors and shot.light else None,
            "light_colour": shot.light_colour if not indoors and shot.light else None, "style": style}


def clauses(scene: dict) -> list[str]:
    """The caption's clauses in their order, the first being the object."""
    rules = config("prompts")["pocket"]
    noun = scene["object"] if scene["count"] == 1 else rules["plurals"][scene["object"]]
    where = "in the middle" if scene["position"] == "middle" else f"on the {scene['position']}"
    place = f"{rules['place_words'].get(scene['place'], 'in')} the {scene['place']}"
    parts = [f"{_NUMBERS[scene['count'] - 1]} {scene['colour']} {noun} {where}"]
    parts += [_figure(person, rules) for person in scene["people"]] or ["nobody"]
    parts += [place, rules["time_words"][scene["time"]]]
    parts += [scene["weather"]] if scene["weather"] else []
    parts += [f"{scene['light_colour']} {scene['light']}"] if scene["light"] else []
    return [*parts, scene["style"]]


def _figure(person: dict, rules: dict) -> str:
    article = "an" if person["colour"] == "orange" else "a"
    return f"a {person['kind']} in {article} {person['colour']} {rules['garments'][person['kind']]} {person['pose']}"


def _object(shot: Shot, place: str, rules: dict) -> tuple[str, str, int]:
    """The one object of the picture, its colour, and how many."""
    points, colours, counts = Counter(), {}, {}
    for thing in shot.things:
        noun = _noun_of(thing.name)
        if noun is None or not _stands_at(noun, place, rules):
            continue
        points[noun] += thing.weight * rules["telling"].get(noun, 1.0)
        if thing.colour:
            colours.setdefault(noun, thing.colour)
        counts.setdefault(noun, thing.count)
    for person in shot.people:  # an animal is an object: it has no clothes
        noun = next((n for n in map(_noun_of, reversed(person.look.lower().split())) if n), None) if person.kind == "animal" else None
        if noun and _stands_at(noun, place, rules):
            points[noun] += 2.0 * rules["telling"].get(noun, 1.0)
    noun = max(points, key=points.get) if points else rules["at_place"][place]
    return noun, colours.get(noun) or rules["colours"][noun], counts.get(noun, 1)


def _noun_of(name: str) -> str | None:
    """The model's object that shows a thing of that name."""
    shows = config("prompts")["pocket"]["shows"]
    return shows[name] if name in shows else _synonyms().get(name)


def _stands_at(noun: str, place: str, rules: dict) -> bool:
    walls = place in config("pocket")["indoors"]
    return not walls or noun in rules["indoors"]["all"] or noun in rules["indoors"].get(place, ())


@lru_cache(maxsize=1)
def _synonyms() -> dict[str, str]:
    return {word: noun for noun, words in config("pocket")["object"].items() for word in words}


def _people(shot: Shot, rules: dict) -> list[dict]:
    """Up to three figures, left to right; a group takes the places that are left when everybody else has one."""
    most = rules["most_people"]
    shown = [p for p in shot.people if p.kind in _DRAWN][:most]
    figures: list[dict] = []
    free = most - len(shown)
    for person in shown:
        pose = shot.pose if person.name == shot.actor else "standing"
        times = 1 + (free if person.kind == "group" else 0)
        free -= times - 1
        figures += [{"kind": _kind(person, i), "colour": _colour(person), "pose": pose} for i in range(times)]
    return figures


def _kind(person: Person, i: int) -> str:
    if person.kind != "group":
        return person.kind
    said = f"{person.name} {person.look}".lower()
    if any(w in said for w in ("little", "small", "child", "boys", "girls")):
        return "child"
    if "women" in said:
        return "woman"
    return "man" if i % 2 == 0 or "men" in said.split() or "soldiers" in said else "woman"


def _colour(person: Person) -> str:
    known = config("pocket")["colour"]
    return person.colour if person.colour in known else lexicon.worn_colour(person.colour) or "blue"
