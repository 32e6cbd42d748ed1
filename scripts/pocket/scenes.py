"""Scenes as attribute values, and the captions that state them."""
import hashlib
import random
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import yaml

VOCABULARY = Path(__file__).resolve().parents[2] / "configs" / "pocket.yaml"

PLACES = {"field": "in", "forest": "in", "mountains": "in", "desert": "in", "sea": "at", "river": "at",
          "garden": "in", "city": "in", "ruins": "in", "cave": "in", "room": "in", "library": "in",
          "laboratory": "in", "hall": "in"}                      # place -> preposition
INDOORS = ("cave", "room", "library", "laboratory", "hall")
TIMES = {"dawn": "at dawn", "day": "by day", "dusk": "at dusk", "night": "at night"}
WEATHERS = ("clear", "cloudy", "rain", "snow", "fog", "storm")
PLURALS = {"house": "houses", "castle": "castles", "tower": "towers", "statue": "statues", "tree": "trees",
           "boat": "boats", "carriage": "carriages", "machine": "machines", "horse": "horses", "dog": "dogs",
           "bird": "birds", "flower": "flowers", "table": "tables", "chair": "chairs", "bed": "beds",
           "lamp": "lamps", "fire": "fires"}
OBJECTS = tuple(PLURALS)
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "brown")
COUNTS = ("one", "two", "three", "four")
POSITIONS = {"left": "on the left", "middle": "in the middle", "right": "on the right"}
PEOPLE = {"man": "coat", "woman": "dress", "child": "coat"}     # kind -> garment
POSES = ("standing", "walking", "sitting")
LIGHT_COLOURS = ("yellow", "orange", "red", "white")
STYLES = ("graphic novel", "watercolour", "ink", "noir", "wireframe", "pixel art")

INDOOR_OBJECTS = ("table", "chair", "bed", "lamp", "fire", "statue", "machine", "dog", "flower", "bird")
EXTRA_OBJECTS = {"cave": ("boat", "horse", "carriage"), "hall": ("horse", "tree"), "laboratory": ("carriage",)}
RARE_OUTDOORS = ("bed", "chair")                                # one in four of the others' frequency
PEOPLE_WEIGHTS = (.25, .5, .2, .05)
COUNT_WEIGHTS = (.4, .25, .2, .15)
LIGHT_CHANCE = {"clear": .75, "cloudy": .55, "rain": .15, "snow": .2, "fog": .2, "storm": .1, None: .3}
MOON_CHANCE = {"dawn": .12, "day": .05, "dusk": .15, "night": 1.0}
DROP = .12                                                      # chance that a caption leaves a clause out
SHUFFLE = .2                                                    # chance that the clauses come in any order


@dataclass(frozen=True)
class Person:
    """One figure; people are listed from left to right."""
    kind: str
    colour: str
    pose: str


@dataclass(frozen=True)
class Scene:
    """Everything a drawing shows; `weather` is None indoors, `light` None where no sun or moon is seen."""
    place: str
    time: str
    weather: str | None
    object: str
    colour: str
    count: int
    position: str
    people: tuple[Person, ...] = ()
    light: str | None = None
    light_colour: str | None = None
    style: str = "graphic novel"

    def as_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


def scene_from_dict(values: dict) -> Scene:
    """The inverse of `Scene.as_dict`."""
    people = tuple(Person(**person) for person in values.get("people", ()))
    return Scene(**{**values, "people": people})


@lru_cache(maxsize=1)
def vocabulary() -> dict:
    """The word list shared with the grader and the prompt writer."""
    return yaml.safe_load(VOCABULARY.read_text(encoding="utf-8"))


def objects_at(place: str) -> tuple[list[str], list[float]]:
    """Objects that may stand at a place, and their weights."""
    if place in INDOORS:
        names = [*INDOOR_OBJECTS, *EXTRA_OBJECTS.get(place, ())]
        return names, [1.0 if name in INDOOR_OBJECTS else .5 for name in names]
    return list(OBJECTS), [.25 if name in RARE_OUTDOORS else 1.0 for name in OBJECTS]


def sample_person(rng: random.Random) -> Person:
    """A figure of any kind, colour and pose."""
    return Person(rng.choices(tuple(PEOPLE), (.4, .4, .2))[0], rng.choice(COLOURS), rng.choice(POSES))


def sample_scene(rng: random.Random) -> Scene:
    """A scene whose attributes are independent as far as they can be."""
    place, time = rng.choice(tuple(PLACES)), rng.choice(tuple(TIMES))
    weather = None if place in INDOORS else rng.choice(WEATHERS)
    names, weights = objects_at(place)
    light = light_colour = None
    if rng.random() < LIGHT_CHANCE[weather]:
        light = "moon" if rng.random() < MOON_CHANCE[time] else "sun"
        light_colour = rng.choice(LIGHT_COLOURS)
    people = tuple(sample_person(rng) for _ in range(rng.choices(range(4), PEOPLE_WEIGHTS)[0]))
    return Scene(place=place, time=time, weather=weather, object=rng.choices(names, weights)[0],
                 colour=rng.choice(COLOURS), count=rng.choices(range(1, 5), COUNT_WEIGHTS)[0],
                 position=rng.choice(tuple(POSITIONS)), people=people, light=light, light_colour=light_colour,
                 style=rng.choice(STYLES))


def held_out(scene: Scene) -> bool:
    """True for one combination in twenty, kept away from training."""
    key = "|".join(str(value) for value in (scene.place, scene.time, scene.object, scene.colour, scene.style,
                                            scene.position, scene.count))
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % 20 == 0


def object_words(scene: Scene, position: bool = True) -> str:
    """Count, colour, object and where it is."""
    noun = scene.object if scene.count == 1 else PLURALS[scene.object]
    words = f"{COUNTS[scene.count - 1]} {scene.colour} {noun}"
    return f"{words} {POSITIONS[scene.position]}" if position else words


def person_words(person: Person, clothes: bool = True, pose: bool = True) -> str:
    """Kind, clothes and pose of one figure."""
    words = f"a {person.kind}"
    if clothes:
        article = "an" if person.colour == "orange" else "a"
        words += f" in {article} {person.colour} {PEOPLE[person.kind]}"
    return f"{words} {person.pose}" if pose else words


def other_clauses(scene: Scene) -> list[str]:
    """Place, time, weather, light and style, in the canonical order."""
    clauses = [f"{PLACES[scene.place]} the {scene.place}", TIMES[scene.time]]
    if scene.weather:
        clauses.append(scene.weather)
    if scene.light:
        clauses.append(f"{scene.light_colour} {scene.light}")
    return [*clauses, scene.style]


def full_caption(scene: Scene) -> str:
    """Every attribute, in the canonical order."""
    people = [person_words(person) for person in scene.people] or ["nobody"]
    return ", ".join([object_words(scene), *people, *other_clauses(scene)])


def caption(scene: Scene, rng: random.Random) -> str:
    """A caption that leaves a few clauses out and is now and then in another order."""
    def kept() -> bool:
        return rng.random() >= DROP
    clauses = [object_words(scene, kept())]
    if scene.people and kept():
        clauses += [person_words(person, kept(), kept()) for person in scene.people]
    elif not scene.people and rng.random() < .6:
        clauses.append("nobody")
    clauses += [clause for clause in other_clauses(scene) if kept()]
    if rng.random() < SHUFFLE:
        rng.shuffle(clauses)
    return ", ".join(clauses)


def words() -> list[str]:
    """Every word that a caption can hold, sorted; the comma counts as one."""
    phrases = [*PLACES, *PLACES.values(), *TIMES, *TIMES.values(), *WEATHERS, *PLURALS, *PLURALS.values(), *COLOURS,
               *COUNTS, *POSITIONS, *POSITIONS.values(), *PEOPLE, *PEOPLE.values(), *POSES, "sun", "moon",
               *LIGHT_COLOURS, *STYLES, "nobody", "a an the in on at of by with and under wearing ,"]
    return sorted({word for phrase in phrases for word in phrase.split()})
