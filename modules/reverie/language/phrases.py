"""Phrases taken out of a text: who does what, things and places with their describing words, the telling sentence."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from reverie.language import lexicon, people
from reverie.language.people import Cast, Person, names, narrator, with_clothes
from reverie.language.signals import Word

_STOPS = frozenset("and but that which when while as so because until if though although who whom whose than or".split())
_LOOSE = frozenset("""the a an of in on at to by with my his her its their our your this that very too more most such into upon
from towards through over under about it them me him us there then again still now down up out off round before after
beyond against between was were had is are be been being i he she they we you not almost only just also like some any
all both each every other another these those what how where why own one his frantically violently strongly""".split())
_FINITE = frozenset("had was were could would did is are has have seemed".split())
_BEFORE_NOUNS = frozenset("the a an my his her its their our this that these those of in on at by with for to some no".split())
_SUBJECTS = frozenset("i he she they we who".split())
_AUXILIARIES = frozenset("was were had been am is are all both then there still soon presently suddenly already also again now".split())
_EXCERPT = 160
_COUNTED = {"two": 2, "both": 2, "couple": 2, "three": 3, "four": 4, "dozen": 4}


@dataclass(frozen=True)
class Thing:
    """Something to show: its plain name, the phrase from the text, its colour (of the embedded model's) and how many."""

    name: str
    phrase: str
    colour: str
    count: int
    weight: float


@dataclass(frozen=True)
class Action:
    text: str
    actor: str
    pose: str


def action(words: list[Word], who: list[Person], everyone: Cast) -> Action:
    """The most drawable deed of somebody who is there, as a phrase that begins with an -ing form."""
    named = _named(words, who, everyone)
    teller, best, score = narrator(words, everyone), Action("", who[0].name if who else "", "standing"), 0.0
    for i, word in enumerate(words):
        verb = lexicon.verbs().get(word.low)
        if verb is None or word.weight < 0.2 or _passive(words, i):
            continue
        actor, sure = _actor(words, i, named, teller, who)
        if not sure:
            continue
        tail = _tail(words, i)
        shown = sum(1 for w in tail if w.low in lexicon.things() or w.low in lexicon.table("settings"))
        value = verb[2] * word.weight * sure * (0.55 + 0.45 * min(shown, 2)) * (1.0 if len(tail) >= 2 else 0.5)
        if value > score:
            score, best = value, Action(_phrase(word, verb[0], tail, actor), actor.name if actor else best.actor, verb[1])
    return best


def _named(words: list[Word], who: list[Person], everyone: Cast) -> dict[int, Person]:
    """Index of a word → who of those present it names; whom the cast does not know, by the last word of the phrase."""
    there = {p.name for p in who}
    nameless = {name.split()[-1].lower(): p for p in who if p.name not in everyone for name in names(p) if name}
    spots = {i: nameless[w.low] for i, w in enumerate(words) if w.low in nameless}
    return spots | {i: p for i, p in people.mentioned(words, everyone).items() if p.name in there}


def _actor(words: list[Word], i: int, named: dict[int, Person], teller: Person | None, who: list[Person]):
    """Who does the verb at `i`, and how sure that is (0: nobody)."""
    for j in range(i - 1, max(-1, i - 5), -1):
        word = words[j]
        if word.sentence != words[i].sentence:
            break
        if word.low == "i" and teller is not None:
            return teller, 1.25
        if j in named:
            return named[j], 1.25
        if word.low in _SUBJECTS or word.low in lexicon.people():
            group = word.low in ("they", "we") or lexicon.people().get(word.low) == "group"
            fits = [p for p in who if (p.kind == "group") == group and p is not teller] or who
            return (fits[0] if fits else None), 0.9 if word.low in _SUBJECTS else 0.7
        if word.clause != words[i].clause or not (word.low in _AUXILIARIES or word.low.endswith("ly")):
            break
    # "…, leaping": who leaps there may be anything; a finite verb has the sentence's subject.
    return (None, 0.0) if words[i].low.endswith("ing") else _inherited(words, i, max(0, i - 1), named, teller, who)


def _inherited(words: list[Word], i: int, j: int, named, teller, who):
    """"I set my teeth, and again grappled": the verb after a comma or an "and" has the sentence's last subject."""
    while j > 0 and words[j].clause == words[i].clause and (words[j].low in _AUXILIARIES or words[j].low.endswith("ly")):
        j -= 1
    if words[j].clause == words[i].clause and words[j].low not in ("and", "then", "but"):
        return None, 0.0
    for k in range(j, max(-1, j - 25), -1):
        word = words[k]
        if word.sentence != words[i].sentence:
            break
        if k in named or word.low == "i" and teller is not None:
            return (named.get(k) or teller), 0.85
        if word.low in _SUBJECTS:
            fits = [p for p in who if (p.kind == "group") == (word.low in ("they", "we")) and p is not teller]
            return (fits[0], 0.75) if fits else (None, 0.0)
    return None, 0.0


def _passive(words: list[Word], i: int) -> bool:
    """"was carried", "being flung": something that is done to someone."""
    if words[i].low.endswith("ing") or words[i].low in ("seated", "asleep"):
        return False
    before = [w.low for w in words[max(0, i - 3):i] if w.clause == words[i].clause]
    return any(w in ("was", "were", "been", "being", "is", "are", "be", "to") for w in before[-2:])


def _tail(words: list[Word], i: int) -> list[Word]:
    """What follows the verb in its clause, at most eight words, without loose words at the end."""
    tail = []
    for j, word in enumerate(words[i + 1:i + 11], i + 1):
        pair = word.low == "and" and j + 1 < len(words) and words[j + 1].low in ("fro", "down")
        if word.clause != words[i].clause or word.low in _STOPS and not pair or word.low in _SUBJECTS or word.low in lexicon.verbs():
            break
        if word.low in _FINITE:
            return tail[:-2]  # what comes before it is the next deed's subject
        if word.low.endswith("ing") and word.low not in lexicon.things() and words[j - 1].low not in _BEFORE_NOUNS:
            break
        tail.append(word)
    while tail and (tail[-1].low in _LOOSE or tail[-1].low.endswith("ly")) and tail[-1].low not in ("down", "up", "round", "him", "her"):
        tail.pop()
    return tail


def _phrase(verb: Word, base: str, tail: list[Word], actor: Person | None) -> str:
    kind = actor.kind if actor else "man"
    his, him = {"woman": ("her", "her"), "group": ("their", "them")}.get(kind, ("his", "him"))
    own = {"my": his, "me": him, "myself": {"woman": "herself", "group": "themselves"}.get(kind, "himself"), "our": "the", "us": "them"}
    ing = verb.low if verb.low.endswith("ing") else lexicon.words("verbs")[base]["ing"]
    return " ".join([ing, *(own.get(w.low, w.text.lower().replace("’", "'")) for w in tail)])


def things(words: list[Word], most: int = 6) -> list[Thing]:
    """What the scene shows, the most telling first: by how much it makes a picture and how often it is named."""
    table, points, best, colours = lexicon.things(), Counter(), {}, {}
    plural, counts = Counter(), Counter()
    for i, word in enumerate(words):
        statue = people.of_stone(words, i)
        if word.weight < 0.15 or word.low not in table and not statue:
            continue
        name = "statue" if statue and word.low not in table else table[word.low][0]
        points[name] += word.weight
        plural[name] += 1 if word.low.endswith("s") and not name.endswith("s") else -1
        counts[name] = max(counts[name], _number(words, i))
        phrase, colour = _described(words, i)
        value = word.weight * (1 + 0.5 * (len(phrase.split()) - 1))
        if value > best.get(name, (0.0, ""))[0]:
            best[name] = (value, phrase)
        if colour:
            colours.setdefault(name, Counter())[colour] += word.weight
    ranked = sorted(points, key=lambda n: -table[n][1] * points[n] ** 0.6)[:most]
    return [Thing(n, best[n][1], colours[n].most_common(1)[0][0] if n in colours else "", counts[n] or (3 if plural[n] > 0 else 1),
                  table[n][1] * points[n] ** 0.6) for n in ranked]


def _number(words: list[Word], i: int) -> int:
    """How many are counted out just before the noun ("two white horses"), 0 when not."""
    before = [w.low for w in words[max(0, i - 3):i] if w.clause == words[i].clause]
    return next((_COUNTED[w] for w in before if w in _COUNTED), 0)


def _described(words: list[Word], i: int) -> tuple[str, str]:
    """Describing words before and a material after ("white sphinx of marble"), and the colour among them."""
    before = []
    for word in reversed(words[max(0, i - 3):i]):
        if word.clause != words[i].clause or word.low not in lexicon.word_set("adjectives"):
            break
        before.insert(0, word.low)
    after = [w.low for w in words[i + 1:i + 4]]
    material = ""
    if after[:1] == ["of"] and any(w in lexicon.word_set("materials") for w in after):
        stop = next(k for k, w in enumerate(after) if w in lexicon.word_set("materials"))
        material = " ".join(w for w in after[:stop + 1] if w not in ("some", "a", "the", "very"))
    told = [w for w in (*before, *material.split()) if w in lexicon.colours()]
    near = [w.low for w in words[max(0, i - 4):i + 2] if w.clause == words[i].clause and w.low in lexicon.colours()]
    colour = next(iter(told or near), "")
    return " ".join([*before, words[i].low, *([material] if material else [])]), lexicon.colours().get(colour, "")


def place_phrase(words: list[Word], place: str) -> str:
    """The fullest description of the place in the text, "" when nothing but its plain name is there."""
    table, best, value = lexicon.table("settings"), "", 0.0
    for i, word in enumerate(words):
        weight = dict(table.get(word.low, ())).get(place)
        if weight is None or word.low in lexicon.hints():
            continue
        phrase, _ = _described(words, i)
        n = weight * word.weight * (1 + 0.4 * (len(phrase.split()) - 1))
        if n > value:
            value, best = n, phrase
    return best


def colour_near(words: list[Word], nouns: set[str], allowed: set[str]) -> str:
    """The allowed colour named closest to one of the nouns, within a few words."""
    votes = Counter()
    for i, word in enumerate(words):
        if word.low in nouns:
            for j in range(max(0, i - 4), min(len(words), i + 3)):
                colour = lexicon.colours().get(words[j].low)
                if colour in allowed and words[j].sentence == word.sentence:
                    votes[colour] += word.weight
    return votes.most_common(1)[0][0] if votes else ""


def dressed(person: Person, words: list[Word]) -> Person:
    """The person in the clothes that the scene names ("clad in a purple tunic"), when it does."""
    garments = {form for noun in lexicon.words("clothes") for form in lexicon.forms(noun)}
    for i, word in enumerate(words):
        if word.low in garments and any(w.low in ("clad", "dressed", "wearing", "wore", "robed") for w in words[max(0, i - 6):i]):
            colours = [w.low for w in words[max(0, i - 2):i] if lexicon.worn_colour(w.low)]
            return with_clothes(person, " ".join([*colours, word.low]), lexicon.worn_colour(" ".join(colours)))
    return person


def excerpt(text: str) -> str:
    """The sentence that shows most, whole when it fits in 160 characters, else its beginning up to a comma."""
    known = set(lexicon.things()) | set(lexicon.table("settings")) | set(lexicon.table("weathers")) | set(lexicon.verbs())
    best, score = "", -1.0
    for sentence in re.split(r"(?<=[.!?…])(?<!Mr\.)(?<!Mrs\.)(?<!Dr\.)(?<!St\.)[”’\"']*\s+", text):
        sentence = re.sub(r"\s+", " ", sentence).strip(" “”‘\"*_")
        lows = re.findall(r"[a-z]+", sentence.lower())
        shown = sum(1 for w in set(lows) if w in known)
        ideas = sum(1 for w in lows if w in lexicon.word_set("abstract"))
        value = (shown - 1.5 * ideas) / (12 + len(lows)) - (0.06 if len(sentence) > _EXCERPT else 0.0)
        if len(lows) >= 5 and value > score:
            best, score = sentence, value
    return _shortened(best or re.sub(r"\s+", " ", text).strip())


def _shortened(sentence: str) -> str:
    if len(sentence) <= _EXCERPT:
        return sentence
    head = sentence[:_EXCERPT - 1]
    cut = max(head.rfind(", "), head.rfind("; "), head.rfind("—"))
    return (head[:cut] if cut > 60 else head[:head.rfind(" ")] if " " in head else head).rstrip(" ,;—") + "…"
