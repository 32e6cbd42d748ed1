"""What a scene shows, by rules where it is not told: people, place, time, weather, mood, action, things and light."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from reverie.language import lexicon, people, phrases, signals
from reverie.language.casting import find_characters
from reverie.language.people import Cast, Person, cast, present, unnamed
from reverie.language.phrases import Thing
from reverie.language.scenes import Scene
from reverie.language.sheet import load_sheet
from reverie.language.tellers import opened, told_by

__all__ = [
    "Cast", "Person", "Shot", "Thing", "Told", "cast", "describe", "describe_all", "find_characters", "load_sheet",
]

MOST_PEOPLE = 3  # of a scene: more are not told apart in a picture


@dataclass(frozen=True)
class Shot:
    """One scene as a line of a shot list; phrases are lower case English, ready for a prompt."""

    chapter: int
    chapter_title: str
    scene: int
    words: int
    people: tuple[Person, ...]      # the most present first
    place: str                      # a key of the lexicon's settings
    setting: str                    # the place as the text describes it
    indoors: bool
    time: str                       # dawn, day, dusk, night
    time_phrase: str
    weather: str                    # a key of the lexicon's weathers; "" indoors
    mood: str
    action: str                     # "sitting on soft turf in front of the overset machine"
    actor: str                      # the name of who does it
    pose: str                       # standing, walking, sitting
    things: tuple[Thing, ...]       # the most telling first
    light: str                      # sun, moon or ""
    light_colour: str
    excerpt: str                    # the sentence that tells most, at most 160 characters
    closing_weather: str = ""       # how the scene ends, for the next one

    @property
    def characters(self) -> list[str]:
        return [person.name for person in self.people]


@dataclass(frozen=True)
class Told:
    """What is known of a scene beforehand; what is empty is found by rules. People and actor are names of the cast."""

    people: tuple[str, ...] = ()
    place: str = ""             # a key of the lexicon's settings
    setting: str = ""
    time: str = ""              # a key of the lexicon's time words
    mood: str = ""              # a key of the lexicon's idle deeds
    action: str = ""            # begins with an -ing form
    actor: str = ""


def describe(
    scene: Scene, everyone: Cast | None = None, previous: Shot | None = None, fresh: bool = False, told: Told = Told(),
    writer: str = "",
) -> Shot:
    """The scene's shot. What it does not say is carried over from the `previous` shot, less so after a break (`fresh`).

    `writer` is who of the cast says "I" in it, where the text is his letter or diary.
    """
    words = signals.read(scene.text)
    everyone = told_by(scene.text, everyone or {}, writer)
    settings, times = signals.tally(words, "settings"), signals.tally(words, "times")
    for value, n in signals.tally([w for w in words if w.sentence < 2], "settings").items():
        settings[value] += 0.6 * n  # a scene's first sentences say where it plays
    stay = 0.25 if fresh else 1.0
    place = told.place or _place(settings, previous, stay, len(words))
    indoors = place in lexicon.word_set("indoors")
    time, flicker = (told.time, False) if told.time else _time(words, times, previous, 0.7 * stay)
    people = _people(words, everyone, told.people)
    action = _told_action(told, people) or phrases.action(words, people, everyone)
    weather = "" if indoors else _weather(words, previous, place)
    mood = told.mood or _mood(signals.tally(words, "moods"), place, time, weather)
    light, light_colour = _light(words, time, weather, indoors)
    return Shot(
        scene.chapter, scene.chapter_title, scene.scene, scene.words, tuple(people), place,
        told.setting or _setting(words, settings, place, previous),
        indoors, time, lexicon.words("flicker") if flicker else lexicon.words("time_words")[time], weather,
        mood, *_deed(action, mood, previous), _things(words, previous, place), light,
        light_colour, phrases.excerpt(scene.text), _best(signals.tally(words[-len(words) // 3:], "weathers"), 0.6))


def describe_all(
    scenes: list[Scene], everyone: Cast | None = None, told: Mapping[tuple[int, int], Told] = {}
) -> list[Shot]:
    """Shots of scenes in order, each carrying place and time on to the next. `told`: by chapter and scene."""
    shots: list[Shot] = []
    writer = ""
    for scene, before in zip(scenes, [None, *scenes]):
        fresh = before is not None and (before.chapter != scene.chapter or before.end < scene.start)
        known = told.get((scene.chapter, scene.scene), Told())
        if before is None or before.chapter != scene.chapter:
            writer = ""
        writer = opened(scene.text, everyone or {}) or writer
        shots.append(describe(scene, everyone, shots[-1] if shots else None, fresh, known, writer))
    return shots


def _best(points: Counter, least: float) -> str:
    value, n = max(points.items(), key=lambda item: item[1], default=("", 0.0))
    return value if n >= least else ""


def _place(points: Counter, previous: Shot | None, stay: float, words: int) -> str:
    points = Counter(points)
    if previous is not None:
        points[previous.place] += 0.7 * stay  # people stay where they are until the text moves them
    best = _best(points, min(1.3, 0.4 + words / 250))
    return best or (previous.place if previous else _best(points, 0.1) or "room")


def _setting(words, points: Counter, place: str, previous: Shot | None) -> str:
    if previous is not None and place == previous.place and points[place] < 1.0:
        return previous.setting
    head = lexicon.words("settings")[place]["head"]
    first = phrases.place_phrase(words, place)
    setting = first if set(first.split()) & set(head.split()) else f"{head}, {first}" if " " in first else head
    others = [(n, p) for p, n in points.items() if p not in (place, "sky") and n >= 2 and n >= 0.75 * points[place]
              and (p in lexicon.word_set("indoors")) == (place in lexicon.word_set("indoors"))]
    second = phrases.place_phrase(words, max(others)[1]) if others else ""
    return f"{setting}, {second}" if second and second.split()[-1] not in setting else setting


def _time(words, points: Counter, previous: Shot | None, stay: float) -> tuple[str, bool]:
    lows = Counter(w.low for w in words if w.weight > 0.3)
    if lows["night"] >= 2 and lows["day"] + lows["tomorrow"] >= 2 and lows["night"] + lows["day"] >= 5:
        return "dusk", True  # days rush by: the light between both
    flickers = previous is not None and previous.time_phrase == lexicon.words("flicker")
    if flickers and max(points.values(), default=0) < 1.0 and signals.tally(words, "moods")["dizzying"] >= 3:
        return previous.time, True
    points = Counter(points)
    if previous is not None and not flickers:
        points[previous.time] += stay  # the hour stays, too, until the text says otherwise
    return _best(points, 0.5) or (previous.time if previous is not None and not flickers else "day"), False


def _weather(words, previous: Shot | None, place: str) -> str:
    mimicry = lexicon.word_set("mimicry")
    points = signals.tally([w for i, w in enumerate(words) if not any(v.low in mimicry for v in words[max(0, i - 4):i])], "weathers")
    if points["hail"] >= max(1, 0.6 * points["storm"]):
        points["hail"] += points["storm"]
    if points["storm"] >= 1:
        points["storm"] += 0.5 * points["rain"]
    if place == "sky" and points["fog"] + points["cloudy"] < 1.5:
        points["fog"] = points["cloudy"] = 0
    best = _best(points, min(0.9, 0.3 + len(words) / 250))
    carried = previous.weather if previous is not None and previous.place == place and previous.weather == previous.closing_weather else ""
    return best or carried or "clear"


def _deed(action: phrases.Action, mood: str, previous: Shot | None) -> tuple[str, str, str]:
    """Action, actor and pose; where no deed is told, what the mood suggests, in the pose of the scene before."""
    if action.text or not action.actor:
        return action.text, action.actor, action.pose
    same = previous is not None and previous.actor == action.actor
    return lexicon.words("idle")[mood], action.actor, previous.pose if same else action.pose


def _things(words, previous: Shot | None, place: str) -> tuple[Thing, ...]:
    """The scene's things, and what people had with them before, half as telling each scene."""
    found = phrases.things(words)
    if previous is None or not (place == previous.place or "sky" in (place, previous.place)):
        return tuple(found)
    names = {thing.name for thing in found}
    kept = [replace(t, weight=t.weight / 2) for t in previous.things
            if t.name in lexicon.word_set("portable") and t.name not in names and t.weight >= 1.5]
    return tuple(sorted([*found, *kept], key=lambda t: -t.weight))


def _mood(points: Counter, *circumstances: str) -> str:
    points = Counter({m: n for m, n in points.items()})
    points["contemplative"] *= 0.7
    points["wondrous"] *= 0.9
    for circumstance in circumstances:
        points.update(lexicon.words("mood_of").get(circumstance, {}))
    return _best(points, 0.8) or "quiet"


def _told_action(told: Told, people: list[Person]) -> phrases.Action | None:
    actor = told.actor if told.actor in [p.name for p in people] else people[0].name if people else ""
    if not told.action or not actor:
        return None
    return phrases.Action(told.action, actor, lexicon.verbs().get(told.action.split()[0], ("", "standing"))[1])


def _people(words, everyone: Cast, told: tuple[str, ...] = ()) -> list[Person]:
    seen = present(words, everyone)
    if told:  # who tells the tale is there even where nobody names him
        named = [everyone[name] for name in told if name in everyone]
        seen = [(p, 1.0) for p in dict.fromkeys([*named, *(p for p, _ in seen if p.narrator)])]
    taken = {part for person, _ in seen for name in (person.name, *person.aliases) for part in name.lower().split()}
    nameless = [(p, n) for p, n in unnamed(words, taken) if not (seen and p.kind != "group" and n < 2.5)]
    covered = any(p.kind == "group" for p, _ in seen)
    extra = [p for p, _ in nameless if not (covered and p.kind == "group")][:1]
    shown = [p for p, _ in seen[:MOST_PEOPLE]]
    return (shown + [_unlike(phrases.dressed(p, words), shown, everyone) for p in extra])[:MOST_PEOPLE]


def _unlike(person: Person, shown: list[Person], everyone: Cast) -> Person:
    """Somebody without a name in a colour that nobody else of the picture wears, and rather nobody of the book."""
    if person.clothes:
        return person
    worn = Counter(p.colour for p in everyone.values()) + Counter({p.colour: 1000 for p in shown})
    return replace(person, colour=people.free_colour(person.colour, worn))


def _light(words, time: str, weather: str, indoors: bool) -> tuple[str, str]:
    """Sun or moon, where the text shows one or the sky is open; its colour by the text, else by the hour."""
    lows = Counter(w.low for w in words if w.weight > 0.3)
    moon, sun = lows["moon"] + lows["moonlight"], lows["sun"] + lows["sunset"] + lows["sunrise"] + lows["sunlight"]
    light = "moon" if moon and time == "night" else "sun" if sun and time != "night" else ""
    if weather not in ("clear", "cloudy") and moon + sun < 3:
        light = ""
    if not light and weather == "clear" and not indoors:
        light = "moon" if time == "night" else "sun"
    if indoors or not light:
        return "", ""
    colour = phrases.colour_near(words, {"moon", "sun", "sunset", "moonlight"}, {"yellow", "orange", "red", "white"})
    return light, colour or {"dawn": "orange", "day": "yellow", "dusk": "red", "night": "white"}[time]
