"""What a language model reads in a book: who is in it and what each scene shows.

Every claim has a quote. Where the quote is not in the text the model was given, the claim is dropped and counted; else
it keeps the characters it stands on. Answers are kept by what was asked, so that a second run, or one that carries on,
asks nothing twice. What the model does not tell, and all of it when the server fails, is left to the rules.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from reverie import media, settings
from reverie.errors import BadAnswer, StoreFailed, Unanswered
from reverie.language import claims, lexicon, people, quotes, rules, signals
from reverie.language.chapters import Chapter
from reverie.language.model import LanguageModel, schema_of
from reverie.language.people import KINDS, Cast, Person, colour_of
from reverie.language.rules import Told
from reverie.language.scenes import Scene
from reverie.language.tellers import told_by

_MOST_BAD = 3               # answers in a row that do not fit: then the model is not asked any more
_MOST_TEXT = 9000           # bytes of a question on people: of more text, models forget half, and the answer gets too long
_MOST_PEOPLE = 40           # of one answer
_MOST_LETTERS = 120         # of a value
_PLAIN = frozenset("the and with man woman wearing".split())  # words that back nothing
_AGES = {"old": "old", "elderly": "old", "aged": "old", "young": "young"}
_PARAGRAPH = re.compile(r".+?(?:\n[ \t]*\n\s*|\Z)", re.S)
_SENTENCE = re.compile(r".+?(?:[.!?…]+[”’\"')\]]*\s+|\Z)", re.S)


# ------------------------------------------------------------------------------------------------ forms of answers


class _Form(BaseModel):
    """What models leave out or fill with null is as if it were empty."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, data: Any) -> Any:
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


def _one_of(values: Callable[[], Iterable[str]]):
    """A field that servers are asked to fill with one of `values`, or nothing."""
    return Field("", json_schema_extra=lambda schema: schema.update(enum=["", *values()]))


class Said(_Form):
    """The quote comes first: what is copied from the text leads to what is claimed of it."""

    quote: str = ""
    value: str = ""


class Kind(Said):
    value: str = _one_of(lambda: [kind for kind in KINDS if kind != "nobody"])


class Place(Said):
    value: str = _one_of(lambda: lexicon.words("settings"))


class Time(Said):
    value: str = _one_of(lambda: lexicon.words("time_words"))


class Mood(Said):
    value: str = _one_of(lambda: lexicon.words("idle"))


class Action(Said):
    who: str = ""


class PersonSaid(_Form):
    name: str
    aliases: list[Said] = []
    kind: Kind = Kind()
    age: Said = Said()
    look: Said = Said()
    clothes: Said = Said()


class PeopleSaid(_Form):
    people: list[PersonSaid]


class ShotSaid(_Form):
    characters: list[Said]
    setting: Said = Said()
    place: Place = Place()
    time: Time = Time()
    mood: Mood = Mood()
    action: Action = Action()


# ---------------------------------------------------------------------------------------------------------- claims


class Claim(NamedTuple):
    """`what` is `value`, because characters `start` to `end` of the chapter say `quote`. `scene` 0: of the book."""

    what: str
    value: str
    quote: str
    chapter: int
    scene: int
    start: int
    end: int


Shots = dict[tuple[int, int], tuple[Told, list[Claim]]]


@dataclass
class Writer:
    """Asks `model` and keeps its answers in `cache`. The methods that ask yield a line before each question."""

    model: LanguageModel
    cache: Path
    asked: int = 0
    known: int = 0
    unquoted: int = 0
    unfit: int = 0
    failure: str = ""
    unkept: str = ""
    heard: dict[str, list[Claim]] = field(default_factory=dict)   # of people, by name
    shown: list[Claim] = field(default_factory=list)              # of scenes
    _bad_in_a_row: int = 0

    def people(self, chapters: list[Chapter], found: Cast, is_english: bool = True) -> Generator[str, None, Cast]:
        """Gives back `found` with what the model reads of people in these chapters, and those whom it finds besides."""
        room = min(_MOST_TEXT, self._room("people", PeopleSaid, chapter="", text=""))
        parts = [(chapter, *span) for chapter in chapters for span in pieces(chapter.text, room)]
        for number, (chapter, start, end) in enumerate(parts, 1):
            yield f"who is in chapter {chapter.number} (question {number} of {len(parts)})"
            text, title = chapter.text[start:end], chapter.title or chapter.number
            answer = self._answer("people", PeopleSaid, chapter=title, text=text)
            for said in answer.people[:_MOST_PEOPLE] if answer else ():
                found = self._with(found, said, chapter, (start, end), is_english)
        texts = {chapter.number: chapter.text for chapter in chapters}
        return {name: _described(person, self.heard.get(name, ()), texts) for name, person in found.items()}

    def shots(self, scenes: list[Scene], chapters: dict[int, Chapter], everyone: Cast) -> Generator[str, None, Shots]:
        """Gives back (chapter, scene) → (what the model tells of the scene, its claims)."""
        told: Shots = {}
        room = self._room("shot", ShotSaid, people="", chapter="", text="")
        for number, scene in enumerate(scenes, 1):
            yield f"chapter {scene.chapter}, scene {scene.scene} (question {number} of {len(scenes)})"
            there = _named(scene.text, everyone)
            listed = "; ".join(", also ".join((p.name, *p.aliases[:4])) for p in there)[:room // 4]
            text = scene.text[slice(*pieces(scene.text, room - len(listed.encode()))[0])]
            answer = self._answer("shot", ShotSaid, people=listed or "nobody with a name",
                                  chapter=scene.chapter_title or scene.chapter, text=text)
            if answer:
                told[scene.chapter, scene.scene] = self._shot(answer, scene, chapters[scene.chapter].text, everyone)
        return told

    def notes(self) -> list[str]:
        """What a reader should know of how the asking went."""
        said = []
        if self.asked or self.known:
            kept = len(self.shown) + sum(map(len, self.heard.values()))
            said.append(f"Language model: {self.asked} questions asked, {self.known} answers known from before; "
                        f"{kept} claims traced to their place in the text, {self.unquoted} left out because what they "
                        "quote is not there.")
        if self.unfit:
            said.append(f"{self.unfit} answers of the language model did not fit; the rules stand in for them.")
        if self.unkept:
            said.append(f"The language model's answers are not kept: {self.unkept}")
        if self.failure:
            said.append(f"Where the language model did not answer, the rules stand in for it: {self.failure}")
        return said

    # ------------------------------------------------------------------------------------------------- asking

    def _messages(self, question: str, **values: Any) -> list[dict[str, str]]:
        words = settings.config("writer")["questions"][question]
        said = words["user"].format(**values)
        return [{"role": "system", "content": words["system"]}, {"role": "user", "content": said}]

    def _room(self, question: str, form: type[BaseModel], **values: Any) -> int:
        return self.model.room(self._messages(question, **values), form)

    def _answer(self, question: str, form: type[BaseModel], **values: Any):
        """The answer, from the cache or the model; None where there is none."""
        messages = self._messages(question, **values)
        if self.failure and not self.model.server.model:
            return None  # which model's answers to look for is not known
        try:
            kept = self._kept(messages, form)
            if kept is not None or self.failure:
                self.known += kept is not None
                return kept
            answer = self.model.ask(messages, form)
        except BadAnswer as error:
            self.asked, self.unfit, self._bad_in_a_row = self.asked + 1, self.unfit + 1, self._bad_in_a_row + 1
            self.failure = str(error) if self._bad_in_a_row == _MOST_BAD else ""
            return None
        except Unanswered as error:
            self.failure = str(error)
            return None
        self.asked, self._bad_in_a_row = self.asked + 1, 0
        self._keep(messages, form, answer)
        return answer

    def _path(self, messages, form: type[BaseModel]) -> Path:
        """Named after all that the answer depends on: the model, the question with its text, the form."""
        asked = json.dumps([self.model.server.model or self.model.name, messages, schema_of(form)], sort_keys=True)
        digest = hashlib.sha256(asked.encode()).hexdigest()
        return self.cache / digest[:2] / f"{digest[2:34]}.json"

    def _kept(self, messages, form: type[BaseModel]):
        try:
            return form.model_validate_json(self._path(messages, form).read_bytes())
        except (OSError, ValidationError):
            return None

    def _keep(self, messages, form: type[BaseModel], answer: BaseModel) -> None:
        try:
            media.write_text(self._path(messages, form), answer.model_dump_json(exclude_defaults=True))
        except StoreFailed as error:
            self.unkept = str(error)

    # ----------------------------------------------------------------------------------------------- checking

    def _claim(self, what: str, said: Said, scene: tuple[int, int], text: str, span: tuple[int, int],
               has: str = "", least: int = quotes.LEAST_WORDS, backed: bool = False) -> Claim | None:
        """The claim with its place; None where the quote is not in this span of the text, does not contain `has`, or,
        when it should be `backed`, has nothing of the value."""
        if not said.value.strip():
            return None
        place = quotes.find(text[slice(*span)], said.quote, least)
        start, end = (span[0] + at for at in place or (0, 0))
        quoted = text[start:end]
        if not place or has and not quotes.find(quoted, has, 1) or backed and not _backs(quoted, said.value):
            self.unquoted += 1
            return None
        return Claim(what, " ".join(said.value.split())[:_MOST_LETTERS], quoted, *scene, start, end)

    def _with(self, found: Cast, said: PersonSaid, chapter: Chapter, span: tuple[int, int], is_english: bool) -> Cast:
        """`found` with one person's aliases; claims are kept under the name in it. Somebody new is added to it."""
        text, name = chapter.text[slice(*span)], " ".join(said.name.split()).strip(" .,;:")
        if not _is_name(name):
            return found

        def claim(what: str, one: Said, **more: Any) -> list[Claim]:
            made = self._claim(what, one, (chapter.number, 0), chapter.text, span, **more)
            return [made] if made else []

        if len(_owners(found, name)) > 1:
            return found  # which of them is meant, nobody can tell
        owner = _owner(found, name)
        true = [alias for alias in said.aliases if quotes.find(text, alias.quote) and _is_same(name, alias)]
        same = [other for alias in true if owner is None and (other := _owner(found, alias.value))]
        told = claim("alias" if same else "name", Said(value=name, quote=name), least=1)
        if not told:
            return found
        for alias in said.aliases:
            if alias.value.strip() != name and _is_name(alias.value.strip()) and not _owners(found, alias.value):
                told += claim("alias", alias, has=alias.value)
        told += claim("kind", said.kind) if _in(said.kind.value, KINDS) not in ("", "nobody") else []
        told += claim("age", said.age) if _age(said.age.value) else []
        for what, one in (("look", said.look), ("clothes", said.clothes)):
            told += claim(what, one, backed=is_english)
        owner = owner or next(iter(same), name)
        if owner not in found and len(told) == 1:
            return found  # no more than a word with a capital
        self.heard[owner] = self.heard.get(owner, []) + told
        person = found.get(owner) or Person(name, colour=colour_of(name))
        aliases = (*person.aliases, *(c.value for c in told if c.what == "alias"))
        return found | {owner: replace(person, aliases=tuple(dict.fromkeys(aliases)))}

    def _shot(self, said: ShotSaid, scene: Scene, text: str, everyone: Cast) -> tuple[Told, list[Claim]]:
        made: list[Claim] = []

        def claim(what: str, one: Said, value: str) -> str:
            """The value, where it is one and the scene says so."""
            where = (scene.chapter, scene.scene), text, (scene.start, scene.end)
            found = self._claim(what, one, *where) if value else None
            made.extend([found._replace(value=value)] if found else [])
            return value if found else ""

        there = said.characters[:rules.MOST_PEOPLE]
        who = [claim("character", one, _owner(everyone, one.value) or "") for one in there]
        action = claim("action", said.action, _deed(said.action.value))
        told = Told(
            tuple(dict.fromkeys(filter(None, who))),
            claim("place", said.place, _in(said.place.value, lexicon.words("settings"))),
            claim("setting", said.setting, _phrase(said.setting.value, 8)),
            claim("time", said.time, _in(said.time.value, lexicon.words("time_words"))),
            claim("mood", said.mood, _in(said.mood.value, lexicon.words("idle"))),
            action, (_owner(everyone, said.action.who) or "") if action else "")
        self.shown += made
        return told, made


def pieces(text: str, most: int) -> list[tuple[int, int]]:
    """Spans of whole paragraphs, at most `most` bytes each; a longer paragraph is parted at sentences, then anywhere."""
    spans: list[tuple[int, int]] = []
    for start, end in _parted(text, 0, len(text), most):
        if spans and len(text[spans[-1][0]:end].encode()) <= most:
            spans[-1] = spans[-1][0], end
        else:
            spans.append((start, end))
    return spans or [(0, len(text))]


def _parted(text: str, start: int, end: int, most: int) -> Iterator[tuple[int, int]]:
    for paragraph in _PARAGRAPH.finditer(text, start, end):
        if len(paragraph[0].encode()) <= most:
            yield paragraph.span()
            continue
        for sentence in _SENTENCE.finditer(text, *paragraph.span()):
            step = max(1, most // 4) if len(sentence[0].encode()) > most else len(sentence[0])
            yield from ((at, min(at + step, sentence.end())) for at in range(sentence.start(), sentence.end(), step))


# ---------------------------------------------------------------------------------------------------------- people


def _owner(everyone: Cast, name: str) -> str | None:
    """Whom of the cast a name means: the key of the one person who has it; None for nobody's and for a name of several."""
    owners = _owners(everyone, name)
    return owners[0] if len(owners) == 1 else None


def _owners(everyone: Cast, name: str) -> list[str]:
    """The keys of all who have a name; of the one whose own it is, where it is an alias of others."""
    wanted = re.sub(r"^the ", "", " ".join(name.split()).lower())
    named = [key for key, person in everyone.items() if wanted and wanted in {n.lower() for n in people.names(person)}]
    return [key for key in named if people.names(everyone[key])[0].lower() == wanted] or named


def _named(text: str, everyone: Cast) -> list[Person]:
    """Those of the cast whom a scene names, and who tells it, in the order of their names."""
    words, everyone = signals.read(text), told_by(text, everyone)
    there = {p.name: p for p in people.mentioned(words, everyone).values()}
    teller = people.narrator(words, everyone)
    return sorted((there | ({teller.name: teller} if teller else {})).values(), key=lambda p: p.name)


def _is_name(name: str) -> bool:
    """Whether somebody can be called so: a few words, one of them with a capital where the script has them."""
    has_capital = name != name.lower() or name == name.upper()
    is_plain = any(map(str.isalpha, name)) and not re.search(r"[^\w\s.'’-]", name) and len(name) <= 50
    return has_capital and is_plain and len(name.split()) <= 5 and name.lower() not in lexicon.word_set("not_names")


def _is_same(name: str, alias: Said) -> bool:
    """Whether who is known as `alias` may be called `name` as well: the name begins with it, or one quote has both."""
    begins = f"{name} ".startswith(f"{alias.value.strip()} ")
    return begins or bool(quotes.find(alias.quote, name, 1) and quotes.find(alias.quote, alias.value, 1))


def _age(value: str) -> str:
    """`old`, `young` or a number of years; "" for anything else."""
    word = value.strip().lower()
    years = re.search(r"\d{1,3}", word)
    return _AGES.get(word, years[0] if years and int(years[0]) <= 120 else "")


def _backs(quote: str, value: str) -> bool:
    """Whether a quote can mean the value: it has one of its telling words, and every colour."""
    said = set(re.findall(r"[a-z]+", quote.lower()))
    words = [w for w in re.findall(r"[a-z]+", value.lower()) if len(w) > 2 and w not in _PLAIN]
    stems = {w[:4] for w in said}
    return any(w[:4] in stems for w in words) and all(w in said for w in words if w in lexicon.colours())


def _described(person: Person, told: Iterable[Claim], texts: dict[int, str]) -> Person:
    """The person as the claims say, the first of each kind; where they say nothing, as the rules found."""
    first: dict[str, Claim] = {}
    for claim in told:
        first.setdefault(claim.value if claim.what == "alias" else claim.what, claim)
    where = [f"{c.value}: {claims.place(texts[c.chapter], c.chapter, c.start, c.end)}"
             for c in first.values() if c.what != "name"]
    person = replace(person, evidence=tuple(dict.fromkeys((*where, *person.evidence))))
    if "kind" in first:
        kind = _in(first["kind"].value, KINDS)
        if kind != person.kind and kind in ("man", "woman", "child"):
            person = replace(person, look=re.sub(r"\b(?:man|woman|child|boy|girl)\b", kind, person.look))
        person = replace(person, kind=kind, gender=kind if kind in ("man", "woman") else person.gender)
    if "age" in first:
        person = replace(person, age=_age(first["age"].value))
    if "look" in first:
        person = replace(person, look=_look(person, first["look"].value))
    if clothes := _phrase(first["clothes"].value.removeprefix("wearing "), 8) if "clothes" in first else "":
        person = replace(person, clothes=clothes, colour=lexicon.worn_colour(clothes) or person.colour)
    return person


def _look(person: Person, value: str) -> str:
    """The look as a phrase with an article: `a tall woman with grey hair`, also of "tall, grey hair"."""
    phrase = _phrase(value, 14)
    if re.match(r"(?:an?|the) ", phrase):
        return phrase
    parts = [p.strip() for p in re.split(r",|;|\band\b|\bwith\b", value.lower()) if p.strip()]
    nouns = set(lexicon.words("features")["nouns"])
    features = [p for p in map(lambda p: _phrase(p, 4), parts) if p and p.split()[-1] in nouns]
    builds = [p for p in map(lambda p: _phrase(p, 3), parts) if p and p.split()[-1] not in nouns]
    builds = [re.sub(r" ?\b(?:man|woman|boy|girl|child|lady|gentleman)$", "", p) for p in builds]
    return claims.phrase_of(person, [b for b in builds if b], features)


# ---------------------------------------------------------------------------------------------------------- shots


def _in(value: str, known: Iterable[str]) -> str:
    word = value.strip().lower()
    return word if word in known else ""


def _phrase(value: str, most_words: int) -> str:
    """Words that a prompt can hold: lower case, no marks that mean something there, up to the first stop."""
    plain = re.split(r"[.;:!?\n]", " ".join(value.split()).lower())[0].replace("’", "'")
    return " ".join(re.sub(r"[^\w' -]|_", " ", plain).split()[:most_words])


def _deed(value: str) -> str:
    """The action from its -ing form on; "" where there is none among its first words."""
    words = _phrase(value.replace(",", " "), 14).split()
    start = next((i for i, word in enumerate(words[:4]) if word.endswith("ing") and len(word) > 4), None)
    return "" if start is None else " ".join(words[start:start + 10])
