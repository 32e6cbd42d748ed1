"""Every capitalised name of a text, once over: with its title, how often, and what around it says that it is a person's."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Iterable, Iterator, NamedTuple

from reverie.language import lexicon

_SPACE = r"(?:[ \u00a0]|\n(?![ \t]*\n))"
_WORD = r"[A-ZÀ-ÖØ-Þ](?:['’][A-Z])?[a-zß-ÿ]+(?:[A-Z][a-zß-ÿ]+)?(?:-[A-ZÀ-ÖØ-Þ][a-zß-ÿ]+){0,3}"
_WORD = rf"(?:St\.{_SPACE})?{_WORD}"
_NICK = rf"[“‘\"'](?P<nick>{_WORD})[,.]?[”’\"']{_SPACE}"
_AT_START = re.compile(r"(?:^|[.!?…:;][”’\"')]*\s+|\n\s*|[“‘\"—(]\s*)$")
_AFTER = re.compile(r",?\s+(?:(?:then|now|always|just|had|only|quickly|slowly|softly)\s+)?([a-z]+)")
_NEXT = re.compile(r"\b(?:([Hh]e|[Hh]is|[Hh]im|[Hh]imself)|([Ss]he|[Hh]er|[Hh]ers|[Hh]erself)|[A-Z][a-z]{2,})\b")
_PLACE = re.compile(r"\b(?:[Ii]n|[Aa]t|[Nn]ear|through|into|across|around|towards)\s+$")
_QUOTED = re.compile(r"[“‘\"]\s*$")
_PAUSE, _CLOSE = re.compile(r"[,!?]"), re.compile(r"[,.!?—]+\s*[”’\"]")
_PLURAL = re.compile(r"\s+(?:were|are|have|do)\b")


class Mention(NamedTuple):
    """One place where a name stands: the form it belongs to, chapter index and characters there."""

    form: str
    chapter: int
    start: int
    end: int


@dataclass
class Form:
    """One way of writing a name: `Mr. Filby`, `Filby`, `the Medical Man`."""

    text: str
    title: str = ""            # mr, mrs, dr, … lower case, without the dot
    words: tuple[str, ...] = ()
    article: bool = False
    count: int = 0
    inside: int = 0            # of them not at a sentence's start
    speech: int = 0            # said so-and-so, so-and-so said or did
    plural: int = 0
    placed: int = 0            # in, at, near so-and-so
    the: int = 0               # "the Admiral Benbow": with article and title
    called: int = 0            # “So-and-so, …”: somebody speaks to so-and-so
    evidence: float = 0.0
    animal: float = 0.0
    species: Counter = field(default_factory=Counter)
    pronouns: Counter = field(default_factory=Counter)
    epithets: Counter = field(default_factory=Counter)


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern, ...]:
    # A dot after "Mr" belongs to it, one after "the Doctor" ends a sentence.
    titles = "|".join(t.capitalize().replace("'", "['’]") + (r"\b\.?" if len(t) < 5 else r"\b")
                      for t in sorted(lexicon.words("honorifics"), key=len, reverse=True))
    animals = "|".join(lexicon.words("animals"))
    name = (rf"(?:\b(?P<the>[Tt]he|[Tt]hese|[Tt]hose|[Aa]n?){_SPACE})?(?:\b(?P<title>{titles}){_SPACE}+(?P<of>(?:(?:de|du|von|van|der|la|del|di){_SPACE}){{0,2}}))?"
            rf"\b(?P<name>{_WORD}(?:{_SPACE}(?:{_NICK})?(?:(?:de|du|von|van|der|la|del|di){_SPACE}){{0,2}}(?!(?:{titles}){_SPACE}){_WORD}){{0,3}})")
    before = rf"\b(?:(?:[Aa]n?|[Tt]he|[Hh]is|[Hh]er|[Mm]y|[Oo]ur|[Tt]heir|[Oo]ld|[Ll]ittle|[Bb]ig|[Ff]aithful)\s+(?P<kind>{animals})[,\s]+(?:(?:that|which|was|whose|name|is|of|named|called|by|the)\s+){{0,4}}|(?:his|her|my|our|the)\s+(?:\w+\s+)?(?P<kind2>{animals}),?\s+)$"
    after = (rf"(?:,?\s+(?:who\s+|which\s+)?(?:was|is)?\s*,?\s*(?:the|his|her|my|our|their|an?|Emma’s)\s+(?:[\w-]+\s+){{0,3}}?(?P<kind>{animals})\b"
             rf"|\s+(?:\w+ly\s+)?(?P<verb>{'|'.join(lexicon.words('animal_verbs'))})\b)")
    said = rf"\b(?:{'|'.join(sorted(lexicon.word_set('speech')))})\s+(?:[Tt]he\s+)?$"
    return tuple(map(re.compile, (name, before, after, said)))


def read(texts: Iterable[str]) -> tuple[dict[str, Form], list[Mention], Counter]:
    """Forms by their text, all mentions in order, and how often each word stands in lower case."""
    forms: dict[str, Form] = {}
    mentions: list[Mention] = []
    common: Counter = Counter()
    for chapter, text in enumerate(texts):
        common.update(re.findall(r"\b[a-z]+", text))
        for form, start, end in _in_text(text):
            known = forms.setdefault(form.text, form)
            _observe(known, text, start, end)
            known.the += form.the if known is not form else 0
            for epithet in form.epithets:
                known.epithets[epithet] += known is not form
            mentions.append(Mention(form.text, chapter, start, end))
    better = _without_heads(forms, common)
    for text in better:
        forms[better[text]].count += forms.pop(text).count
    return forms, [m._replace(form=better[m.form], start=m.end - len(better[m.form])) if m.form in better else m for m in mentions], common


def _without_heads(forms: dict[str, Form], common: Counter) -> dict[str, str]:
    """Form → the name that ends it: "Though Emma" begins a sentence, "from London Emma came" ends a phrase with a place."""
    better = {}
    for text, form in forms.items():
        rest = forms.get(" ".join(form.words[1:]))
        if len(form.words) < 2 or form.title or form.article:
            continue
        first = form.words[0].lower()
        begins = (not form.inside and common[first] >= 2 or common[first] > 50 * form.count) and first not in lexicon.word_set("women") | lexicon.word_set("men")
        if begins and rest and rest.count > form.count:
            better[text] = rest.text
        for i in range(1, len(form.words)) if form.count <= 2 else ():
            head, rest = forms.get(" ".join(form.words[:i])), forms.get(" ".join(form.words[i:]))
            if head and rest and rest.count > 5 * form.count and head.placed >= 2 and head.placed >= 0.2 * head.count:
                better[text] = rest.text
    return {text: name for text, name in better.items() if name not in better}


def _in_text(text: str) -> Iterator[tuple[Form, int, int]]:
    """A form and its span for every capitalised run that could be somebody's name."""
    for match in _patterns()[0].finditer(text):
        form = _form(match)
        if form is not None:
            yield form, match.start(), match.end()


def _form(match: re.Match) -> Form | None:
    title = (match["title"] or "").lower().rstrip(".").replace("’", "'")
    words = re.sub(r"[“‘\"][^”’\"]*[”’\"]\s*", "", match["name"])
    words = [word.replace("St.", "St. ") for word in re.sub(r"\bSt\.\s", "St.", words).split()]
    ignored, epithets = lexicon.word_set("not_names"), Counter()
    article = bool(match["the"])
    while words and not title and not article and (words[0].lower() in ignored or words[0].lower() in lexicon.word_set("epithets")) and len(words) > 1:
        if words[0].lower() in lexicon.word_set("epithets"):
            epithets[words[0].lower()] += 1
        words.pop(0)
    while len(words) > 1 and words[-1].lower() in ignored:
        words.pop()
    if not words or words[0].lower() in ignored and not (article and len(words) > 1) or match["the"] in ("a", "an", "A", "An"):
        return None
    title = lexicon.words("honorifics")[title] if title else ""
    said = f"{lexicon.words('title_forms').get(title, title.capitalize())} " if title else "the " if article else ""
    said += " ".join(["", *(match["of"] or "").split()]).lstrip() + " " * bool(match["of"])
    return Form(said + " ".join(words), title, tuple(words), article and not title, the=int(article and bool(title)), epithets=epithets)


def _observe(form: Form, text: str, start: int, end: int) -> None:
    """Count what stands around one mention."""
    _, animal_before, animal_after, said = _patterns()
    before, after = text[max(0, start - 44):start], text[end:end + 60]
    form.count += 1
    form.inside += not _AT_START.search(before) or bool(form.title)
    verb = _AFTER.match(after)
    acts = bool(verb) and (verb[1] in lexicon.word_set("speech") or verb[1] in lexicon.verbs())
    speaks = acts or bool(said.search(before))
    form.speech += speaks
    form.plural += bool(_PLURAL.match(after))
    stands_in = bool(_PLACE.search(before))
    place = not form.title and not form.article and stands_in
    form.placed += stands_in
    form.called += bool(_QUOTED.search(before) and _PAUSE.match(after) or before.endswith(", ") and _CLOSE.match(after))
    form.evidence += speaks + 0.1 + 1.0 * bool(form.title) + 0.3 * after.startswith(("’s", "'s")) - 0.6 * place
    if match := animal_after.match(after):
        form.animal += 2.0 if match["kind"] else 1.0
        form.species.update([match["kind"]] if match["kind"] else lexicon.words("animal_verbs")[match["verb"]])
    if match := animal_before.search(before):
        form.animal += 2.0
        form.species[match["kind"] or match["kind2"]] += 3
    for word in _NEXT.finditer(text, end, end + 90):  # the next pronoun means this name, unless another name comes first
        if word[1] or word[2]:
            form.pronouns["he" if word[1] else "she"] += 1
            break
        if word[0].lower() not in lexicon.word_set("not_names"):
            break
