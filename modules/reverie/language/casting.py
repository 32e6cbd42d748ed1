"""Who is in a book: the names of the whole text, brought together so that one person comes out once.

`Emma`, `Emma Woodhouse` and `Miss Woodhouse` are one; `Mr. Bennet`, `Mrs. Bennet` and `Miss Bennet` are three. A name that
could be two people's is kept by itself and says so in its `note`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import lru_cache

from reverie.language import claims, lexicon, mentions, tellers
from reverie.language.mentions import Form
from reverie.language.people import Cast, Person, colour_of

MOST = 80  # people of a book; those who are mentioned least are left out
MOST_FORMS = 1500  # names of a book; a directory of names must not take hours
_COMMON = frozenset({"mr", "mrs", "miss", "ms", "dr"})
_ANYONE = frozenset("dr professor captain inspector colonel major sergeant judge cousin".split())  # titles of men and of women
_PLAIN = frozenset(["", "mr", "ms", "master", "squire"])  # beside any other title
_OF_SURNAMES = frozenset("captain colonel major dr professor inspector sergeant judge general lieutenant squire admiral".split())
_NOBLE = frozenset("sir lady lord king queen prince princess duke duchess count countess baron baroness".split())
_KIN = frozenset("sir aunt uncle king queen prince princess sister brother father mother saint dame granny grandpa cousin".split())
_N = r"([A-Z][\w’-]{1,30}(?: [A-Z][\w’-]{1,30})?)"
_NICKNAMES = (
    rf"\b{_N},?\s+(?:whom\s+(?:[\w’']+\s+){{1,4}}called"
    r"|(?:who\s+)?(?:was|is)\s+(?:\w+\s+)?(?:called|<nicknamed>)|(?:also\s+)?<nicknamed>)\s+[“‘\"']?([A-Z][\w-]+)",
    rf"\bcalled\s+{_N}\s+[“‘\"']([A-Z][\w-]+)[”’\"']",
    r"\b([A-Z][\w-]{1,30})\s+[“\"]([A-Z][\w-]+)[”\"]\s+[A-Z]",
    rf"\b{_N}[’']s\s+<proper>\s+name\s+(?:was|is)\s+([A-Z][\w-]+)")
_WORKS_BEFORE = r"\b(?:[Mm]y|[Oo]ur|[Hh]is|[Hh]er|[Tt]heir|[Tt]he)\s+(?:[a-z]+\s+)?(<works>),?\s+$"
_WORKS_AFTER = r",\s+(?:my|our|his|her|their|the)\s+(?:[a-z]+\s+)?(<works>)\b"
_CALLED = (r"\b(?:(?:called|nicknamed|calls)\s+(?:him|her)|(?:[Hh]is|[Hh]er) <proper> name (?:was|is))"
           r"\s+[“‘\"']?([A-Z][\w-]+)")


@dataclass
class _Group:
    """Forms that mean one person; the first is the one that named the group."""

    forms: list[Form]
    note: str = ""
    given: str = ""
    surname: str = ""
    gender: str = ""
    titles: set[str] = field(default_factory=set)
    maiden: str = ""   # her surname before she married
    short: set[str] = field(default_factory=set)  # other forms of the given name: Liz, Lizzy

    def is_called(self, given: str) -> bool:
        return given in (self.given, *self.short)

    @property
    def count(self) -> int:
        return sum(f.count for f in self.forms)


def find_characters(chapters) -> Cast:
    """People of the whole book (`Emma`, `Mrs. Watchett`, `the Time Traveller`), most mentioned first, with what is told of them."""
    texts = [chapter.text for chapter in chapters]
    forms, places, common = mentions.read(texts)
    likely = sorted((form for form in forms.values() if _is_name(form, common)), key=lambda f: -f.count)[:MOST_FORMS]
    kept = {form.text: form for form in likely}
    groups = [g for g in _merge(kept, _told_nicknames(texts, places, kept)) if _is_person(g, common)]
    groups.sort(key=lambda g: -g.count)
    found, owner = {}, {}
    for group in groups[:MOST]:
        person = _person(group)
        found[person.name] = person
        owner |= {form.text: person.name for form in group.forms}
    found = _called_by_work(found, groups[:MOST], texts, places, owner)
    found = claims.told(found, texts, [(m, owner[m.form]) for m in places if m.form in owner], [c.number for c in chapters])
    return tellers.found(found, texts, places, owner, forms)


# ------------------------------------------------------------------------------------------------- what is a name


def _is_name(form: Form, common: Counter) -> bool:
    first = form.words[0].lower()
    if form.words[0].lower() in lexicon.word_set("place_heads"):
        return False
    if form.title or form.article:
        return len(form.words) == 1 or form.title not in _NOBLE or form.words[-1].lower() not in lexicon.word_set("place_words")
    rare = 20 if form.inside > 0.3 * form.count else 3
    if len(form.words) == 1 and common[first] > rare * form.count and not _sex(first):
        return False  # "_Is_ he?"
    if len(form.words) == 1 and not form.inside and first.endswith("s") and (common[first] or common[first[:-1]]):
        return False  # "Gulls cried": a thing that begins a sentence
    if len(form.words) > 1 and not any(common[word.lower()] for word in form.words):
        return True  # "William Hobbs", though it only begins a sentence
    if form.inside >= 3 and form.evidence >= 1.0 and form.inside > 2 * common[first] + 1:
        return True
    if len(form.words) == 1 and (common[first] > 2 or lexicon.knows(first)) and form.inside < 3:
        return False
    return form.inside > 0 or form.speech > 0 or form.called > 1


def _is_person(group: _Group, common: Counter) -> bool:
    """Speech, deeds, titles and possessions against places and things that are merely capitalised."""
    evidence, count = sum(f.evidence for f in group.forms), group.count
    speech = sum(f.speech for f in group.forms)
    first, small = group.forms[0], common.total() < 3000
    if not small and count + 2 * speech < 2:
        return False  # named once, and does nothing
    if any(f.title for f in group.forms):
        return sum(f.the for f in group.forms) < 0.5 * count or first.title in ("reverend", "dr")  # "the Lady Anne" is a ship
    if first.article:
        return _is_role(first) or speech >= 2 and speech >= 0.1 * count or _is_group(group)
    if first.words[-1].lower() in lexicon.word_set("place_words"):
        return False
    if _is_animal(group):
        return True
    if lexicon.knows(first.words[0].lower()) and speech < 2:
        return False
    called = sum(f.called for f in group.forms)
    low = first.words[0].lower()
    if called >= 3 and called >= 0.1 * count and low not in lexicon.words("honorifics") and (not common[low] or _sex(low)):
        return True  # people speak to this one, as to a narrator who does nothing under his name
    return evidence >= (1 if small else 2) and speech >= 0.04 * count and (speech > 0 or evidence > 3)


def _is_animal(group: _Group) -> bool:
    return sum(f.animal for f in group.forms) >= max(2, 0.05 * group.count) and not any(f.title for f in group.forms)


def _is_role(form: Form) -> bool:
    last = form.words[-1].lower()
    return last in lexicon.word_set("roles") or lexicon.words("honorifics").get(last) in _OF_SURNAMES | _NOBLE or last.endswith(("ist", "man", "woman"))


def _is_group(group: _Group) -> bool:
    """"the Morlocks were …": people of one name."""
    first = group.forms[0]
    if not first.article or len(first.words) > 1 or first.words[0].lower() in lexicon.words("honorifics"):
        return False
    return sum(f.plural for f in group.forms) >= 1 and group.count >= 5 and sum(f.placed for f in group.forms) < 0.2 * group.count


# ---------------------------------------------------------------------------------------------- who is the same


def _merge(forms: dict[str, Form], nicknames: list[tuple[str, str]]) -> list[_Group]:
    """Groups of forms, full names first: titles, then single names are given to the only one whom they fit."""
    groups: list[_Group] = []
    single = [f for f in forms.values() if not f.article and len(f.words) == 1]
    for form in sorted((f for f in forms.values() if not f.article and len(f.words) > 1), key=lambda f: (-len(f.words), -f.count)):
        _place(form, groups, [g for g in groups if _same_full(g, form)])
    _diminutives(groups, one_surname=True)
    _married(groups, forms)
    titled = sorted((f for f in single if f.title), key=lambda f: (f.count < 3, f.title in _COMMON, -f.count))
    for form in titled:
        _place(form, groups, _fitting_title(form, groups, forms))
    for form in sorted((f for f in single if not f.title), key=lambda f: -f.count):
        _place(form, groups, _fitting_single(form, groups))
    for short, name in nicknames:
        _join(groups, short, name)
    _diminutives(groups)
    roles = _roles([f for f in forms.values() if f.article], groups)
    return groups + roles


def _place(form: Form, groups: list[_Group], fitting: list[_Group]) -> None:
    """Into the one group that fits; where several do, by itself with a note."""
    if len(fitting) == 1:
        group = fitting[0]
        group.forms.append(form)
        group.titles |= {form.title} if form.title else set()
        group.gender = group.gender or _gender_of(form)
        return
    note = "could be " + " or ".join(g.forms[0].text for g in fitting) if fitting else ""
    alone, kin = len(form.words) == 1, form.title in _KIN or form.title not in _OF_SURNAMES and bool(_sex(form.words[0].lower()))
    groups.append(_Group([form], note, "" if alone and form.title and not kin else form.words[0],
                         form.words[-1] if not alone or form.title and not kin else "", _gender_of(form), {form.title} - {""}))


def _same_full(group: _Group, form: Form) -> bool:
    if not _agree(group.gender, _gender_of(form)) or group.gender != "woman" and "mrs" in (form.title, group.forms[0].title):
        return False  # "Mrs. John Smith" is not John Smith
    if (group.given, group.surname) in ((form.words[0], form.words[-1]), (form.words[-1], form.words[0])):
        return True
    if len(form.words) != 2 or form.title:
        return False
    longer = [f.words for f in group.forms if len(f.words) > 2]
    if any(words[-2:] == form.words for words in longer):  # "Long John Silver"
        group.given = form.words[0]
        return True
    return any(words[:2] == form.words for words in longer)


def _married(groups: list[_Group], forms: dict[str, Form]) -> None:
    """Mina Murray is Mina Harker, where there is a Mrs. Harker with a husband and no third Mina."""
    for given in sorted({g.given for g in groups if g.given} | {short for g in groups for short in g.short}):
        both = [g for g in groups if g.is_called(given)]
        bare = forms.get(given)
        if len(both) != 2 or any(g.gender != "woman" for g in both) or not bare or bare.count < sum(g.count for g in both):
            continue
        men = {g.surname for g in groups if g.gender == "man"} | {f.words[0] for f in forms.values() if f.title == "mr"}
        wives = [g for g in both if f"Mrs. {g.surname}" in forms and f"Miss {g.surname}" not in forms and g.surname in men]
        maids = [g for g in both if g not in wives]
        if len(wives) == len(maids) == 1 and not any(f.title == "miss" for f in wives[0].forms):
            wives[0].forms += maids[0].forms
            wives[0].titles |= maids[0].titles
            wives[0].maiden = maids[0].surname
            wives[0].short |= maids[0].short | {maids[0].given}
            groups.remove(maids[0])


def _fitting_title(form: Form, groups: list[_Group], forms: dict[str, Form]) -> list[_Group]:
    """The people whom "Miss Woodhouse" or "Aunt Polly" can mean."""
    gender, word = _gender_of(form), form.words[0]
    givens = [g for g in groups if g.is_called(word) and _agree(g.gender, gender)]
    if form.title in _OF_SURNAMES or form.title in ("king", "queen"):
        givens = [g for g in givens if form.title in g.titles or not g.surname and not _rival(g.titles, form.title)]
    if form.title in _KIN or not any(word in (g.surname, g.maiden) for g in groups):
        ranked = [g for g in givens if form.title in g.titles and form.title in _NOBLE]
        givens = ranked if len(ranked) == 1 else givens
        return givens if form.title not in ("mr", "mrs", "miss") or len(givens) == 1 else []
    fits = [g for g in groups if word in (g.surname, g.maiden if form.title != "mrs" else "") and _agree(g.gender, gender)
            and (not _rival(g.titles, form.title) or g.maiden)]
    if form.title == "mrs" and f"Miss {word}" in forms:
        return [g for g in fits if "mrs" in g.titles]  # the daughter has the full name
    return fits


def _rival(titles: set[str], title: str) -> bool:
    """Titles that one person does not have at once: Mrs. and Miss, Captain and Colonel, Sir and Lady."""
    told = titles - _PLAIN
    return bool(told) and title not in told and title not in _PLAIN


def _fitting_single(form: Form, groups: list[_Group]) -> list[_Group]:
    """The people whom a bare "Emma" or "Darcy" can mean; a bare surname is the man's where there is just one."""
    given = [g for g in groups if g.is_called(form.words[0]) and not g.titles & {"king", "queen"}]
    if given:
        return _chief(given)
    family = [g for g in groups if g.surname == form.words[0]]
    if not family:
        return [g for g in groups if g.is_called(form.words[0])]
    men = [g for g in family if g.gender != "woman"]
    return men if len(family) > 1 and len(men) == 1 else _chief(family)


def _chief(fitting: list[_Group]) -> list[_Group]:
    """The one who is named often where all others are named once or twice."""
    most = max(fitting, key=lambda g: g.count, default=None)
    rest = [g for g in fitting if g is not most]
    return [most] if rest and most.count >= 10 and all(g.count <= 2 for g in rest) else fitting


def _join(groups: list[_Group], short: str, name: str) -> None:
    """Bring two groups together by one's form each, where the text says that they are one."""
    a, b = (next((g for g in groups if any(word in (f.text, *f.words[:1]) for f in g.forms)), None) for word in (short, name))
    if a is None or b is None or a is b or a.surname and b.surname and a.surname != b.surname or not _agree(a.gender, b.gender):
        return
    b, a = (b, a) if b.surname or b.count >= a.count and not a.surname else (a, b)
    b.forms += a.forms
    b.titles |= a.titles
    b.short |= a.short | {a.given} - {"", b.given}
    groups.remove(a)


def _diminutives(groups: list[_Group], one_surname: bool = False) -> None:
    """"Lizzy" is Elizabeth where the book has just one Elizabeth and no other Lizzy; or only Tom Hill and Thomas Hill are one."""
    for full, shorts in lexicon.words("nicknames").items():
        if one_surname:
            for short in shorts:
                for little in [g for g in groups if g.given.lower() == short and g.surname]:
                    whole = [g for g in groups if g.given.lower() == full and g.surname == little.surname]
                    if len(whole) == 1:
                        _join(groups, little.forms[0].text, whole[0].forms[0].text)
            continue
        whole = [g for g in groups if g.given.lower() == full]
        for short in shorts:
            little = [g for g in groups if g.given.lower() == short]
            others = [g for g in groups for other in shorts if other != short and g.is_called(other.capitalize())]
            if not whole and len(little) == len(others) == 1 and bool(little[0].surname) != bool(others[0].surname):
                whole = others  # Bill is Billy Bones
            if len(whole) == 1 and len(little) == 1 and whole[0] is not little[0] \
                    and not (_is_noble(whole[0]) and not _is_noble(little[0])):
                _join(groups, little[0].forms[0].text, whole[0].forms[0].text)


def _called_by_work(found: Cast, groups: list[_Group], texts: list[str], places: list[mentions.Mention], owner: dict[str, str]) -> Cast:
    """The cast with "the squire" for Squire Trelawney and "the lawyer" for "my lawyer, Mr. Gray", where it can be no one else."""
    told: dict[str, Counter] = {}
    for mention in places:
        if name := owner.get(mention.form):
            text = texts[mention.chapter]
            match = lexicon.pattern(_WORKS_BEFORE).search(text[max(0, mention.start - 48):mention.start]) \
                or lexicon.pattern(_WORKS_AFTER).match(text[mention.end:mention.end + 48])
            if match:
                own = not re.match(r"(?i),?\s*the\b", match[0]) or "," not in match[0]
                told.setdefault(match[1], Counter())[name] += 2 if own else 1  # "the gardener, Mr. Gray" may be a list
    for word, title in lexicon.words("honorifics").items():
        if title in (_OF_SURNAMES | _NOBLE) - {"sir", "lady", "lord"} and len(word) > 4 and word.isalpha():
            for group in groups:
                if title in group.titles:
                    told.setdefault(word, Counter())[owner[group.forms[0].text]] += 5 * sum(f.count for f in group.forms if f.title == title)
    taken = {" ".join(f.words).lower(): owner[f.text] for g in groups for f in g.forms if f.article}
    for word, whose in told.items():
        name, most = whose.most_common(1)[0]
        if most > 1 and taken.get(word, name) == name and 5 * (whose.total() - most) <= most and found[name].kind in ("man", "woman"):
            found = found | {name: replace(found[name], aliases=tuple(dict.fromkeys((*found[name].aliases, f"the {word}"))))}
    return found


def _is_noble(group: _Group) -> bool:
    return sum(f.count for f in group.forms if f.title in _NOBLE) > 0.5 * group.count


def _roles(forms: list[Form], groups: list[_Group]) -> list[_Group]:
    """"the Traveller" is the Time Traveller, "the Doctor" the Medical Man; "the Doctor" is Dr. Hale where he is the only one."""
    same = {word: i for i, words in enumerate(lexicon.words("same_role")) for word in words}
    found: list[_Group] = []
    for form in sorted(forms, key=lambda f: (-len(f.words), -f.count)):
        name = " ".join(form.words).lower()
        longer = [g for g in found if _ends_with(g.forms[0].words, form.words)]
        alike = [g for g in found if name in same and any(same.get(" ".join(f.words).lower()) == same[name] for f in g.forms)]
        titled = [g for g in groups if lexicon.words("honorifics").get(name, "mr") not in _COMMON - {"dr"} | {"master"}
                  and lexicon.words("honorifics")[name] in g.titles]
        titled = _chief(titled)
        _place(form, found, longer or alike or titled if len(longer or alike or titled) == 1 else [])
    found = [g for g in found if g not in groups]
    for bare in [g for g in groups if len(g.forms) == 1 and not g.forms[0].title and _is_role(g.forms[0])]:  # "Doctor, come in" is said to the Doctor
        owners = [g for g in [*found, *groups] if any(f.article and f.words == bare.forms[0].words for f in g.forms)]
        if len(owners) == 1 and not _is_group(owners[0]):
            owners[0].forms += bare.forms
            groups.remove(bare)
    for group in filter(_is_group, found):  # "Morlocks" and "Morlock" are of the Morlocks
        name = group.forms[0].words[0]
        for one in [g for g in groups if g.forms[0].text in (name, name.removesuffix("s")) and len(g.forms) == 1]:
            group.forms += one.forms
            groups.remove(one)
    return found


def _ends_with(words: tuple[str, ...], end: tuple[str, ...]) -> bool:
    return len(words) > len(end) and words[-len(end):] == end


def _agree(a: str, b: str) -> bool:
    return not a or not b or a == b


@lru_cache(maxsize=4096)
def _sex(first: str) -> str:
    """Whose name it is: man, woman, or "woman or man"; "" for what is no first name. A short form is as its long one."""
    names = {first, *(full for full, shorts in lexicon.words("nicknames").items() if first in shorts)}
    known = [sex for sex, listed in (("woman", "women"), ("man", "men")) if names & lexicon.word_set(listed)]
    own = [sex for sex, listed in (("woman", "women"), ("man", "men")) if first in lexicon.word_set(listed)]
    return " or ".join(own or known)


def _gender_of(form: Form) -> str:
    """man or woman where title, first name or pronouns tell; "" else."""
    if form.title and form.title not in _ANYONE:
        return lexicon.words("titles").get(form.title, "")
    first, she, he = form.words[0].lower(), form.pronouns["she"], form.pronouns["he"]
    if form.article or form.title and len(form.words) == 1:
        return ""
    if sex := _sex(first):
        return sex if len(sex) < 6 else "man" if he > she else "woman"
    return "woman" if she >= 2 and she > 2 * he else "man" if he >= 2 and he > 2 * she else "woman" if first.endswith("a") and len(form.words) > 1 else ""


def _told_nicknames(texts: list[str], places: list[mentions.Mention], forms: dict[str, Form]) -> list[tuple[str, str]]:
    """(nickname, name) pairs that the text states: "William, whom everyone called Pip"."""
    pairs = [(m[2], m[1]) for text in texts for known in _NICKNAMES for m in lexicon.pattern(known).finditer(text)]
    spots: dict[int, list[mentions.Mention]] = {}
    for mention in places:
        if mention.form in forms:
            spots.setdefault(mention.chapter, []).append(mention)
    for chapter, text in enumerate(texts):
        ends = [m.end for m in spots.get(chapter, ())]
        for match in lexicon.pattern(_CALLED).finditer(text):
            before = bisect_right(ends, match.start()) - 1
            if before >= 0 and ends[before] > match.start() - 150:
                pairs.append((match[1], spots[chapter][before].form))
    return [(a, b.split()[0] if b not in forms else b) for a, b in pairs]


# ------------------------------------------------------------------------------------------------ people of groups


def _person(group: _Group) -> Person:
    """The person with the fullest common name; all other forms are aliases."""
    best = max(group.forms, key=lambda f: (f.count + 0.1) * (1.0 if len(f.words) == 1 and not f.title else 1.6 if f.title else 2.0))
    kind, gender = _kind(group)
    species = sum((f.species for f in group.forms), Counter())
    look = f"a {species.most_common(1)[0][0] if species else 'dog'}" if kind == "animal" else ""
    aliases = [f.text for f in sorted(group.forms, key=lambda f: -f.count) if f is not best]
    epithets = sum((f.epithets for f in group.forms), Counter())
    age = "old" if epithets["old"] >= 2 else "young" if epithets["young"] >= 2 else ""
    return Person(best.text, kind, look, colour=colour_of(best.text), aliases=tuple(dict.fromkeys(aliases)), age=age, gender=gender, note=group.note)


def _kind(group: _Group) -> tuple[str, str]:
    """(kind, man or woman): title, pronouns that follow, first name."""
    if _is_animal(group):
        return "animal", ""
    if _is_group(group) and not _is_role(group.forms[0]):
        return "group", ""
    told = Counter()
    for form in group.forms:
        if form.title in lexicon.words("titles") and form.title not in _ANYONE:
            told[lexicon.words("titles")[form.title]] += form.count * (0.1 if form.title == "mrs" and len(form.words) > 1 else 1)
    if told and told.total() >= 0.05 * group.count:
        kind = told.most_common(1)[0][0]
        return (kind, kind)
    pronouns = sum((f.pronouns for f in group.forms), Counter())
    first = (group.given or group.forms[0].words[0]).lower()
    sex = "" if group.forms[0].article else _sex(first)
    she = pronouns["she"] + (4 if "woman" in sex else 1.5 if first.endswith("a") and not group.forms[0].article else 0)
    last = group.forms[0].words[-1].lower()
    he = pronouns["he"] + (3 if sex.endswith(" man") or sex == "man" else 0)
    she += 6 * (group.forms[0].article and last.endswith(("woman", "lady", "queen", "girl")))
    kind = "woman" if she > he else "man"
    child = group.forms[0].article and last in ("boy", "girl", "child")
    return ("child" if child else kind), kind
