"""Who is in a book: the names of the whole text, brought together so that one person comes out once.

`Emma`, `Emma Woodhouse` and `Miss Woodhouse` are one; `Mr. Bennet`, `Mrs. Bennet` and `Miss Bennet` are three. A name that
could be two people's is kept by itself and says so in its `note`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field

from reverie.language import claims, lexicon, mentions, tellers
from reverie.language.mentions import Form
from reverie.language.people import Cast, Person, colour_of

MOST = 80  # people of a book; those who are mentioned least are left out
MOST_FORMS = 1500  # names of a book; a directory of names must not take hours
_COMMON = frozenset({"mr", "mrs", "miss", "ms", "dr"})
_ANYONE = frozenset("dr professor captain inspector colonel major sergeant judge cousin".split())  # titles of men and of women
_KIN = frozenset("sir aunt uncle king queen prince princess sister brother father mother saint dame granny grandpa cousin".split())
_N = r"([A-Z][\w’-]{1,30}(?: [A-Z][\w’-]{1,30})?)"
_NICKNAMES = (
    rf"\b{_N},?\s+(?:whom\s+(?:[\w’']+\s+){{1,4}}called"
    r"|(?:who\s+)?(?:was|is)\s+(?:\w+\s+)?(?:called|<nicknamed>)|(?:also\s+)?<nicknamed>)\s+[“‘\"']?([A-Z][\w-]+)",
    rf"\bcalled\s+{_N}\s+[“‘\"']([A-Z][\w-]+)[”’\"']",
    r"\b([A-Z][\w-]{1,30})\s+[“\"]([A-Z][\w-]+)[”\"]\s+[A-Z]",
    rf"\b{_N}[’']s\s+<proper>\s+name\s+(?:was|is)\s+([A-Z][\w-]+)")
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
    found = claims.told(found, texts, [(m, owner[m.form]) for m in places if m.form in owner], [c.number for c in chapters])
    return tellers.found(found, texts, places, owner)


# ------------------------------------------------------------------------------------------------- what is a name


def _is_name(form: Form, common: Counter) -> bool:
    first = form.words[0].lower()
    if form.title or form.article:
        return True
    if len(form.words) > 1 and not any(common[word.lower()] for word in form.words):
        return True  # "William Hobbs", though it only begins a sentence
    if form.inside >= 3 and form.evidence >= 1.0 and form.inside > 2 * common[first] + 1:
        return True
    if len(form.words) == 1 and (common[first] > 2 or lexicon.knows(first)) and form.inside < 3:
        return False
    return form.inside > 0 or form.speech > 0


def _is_person(group: _Group, common: Counter) -> bool:
    """Speech, deeds, titles and possessions against places and things that are merely capitalised."""
    evidence, count = sum(f.evidence for f in group.forms), group.count
    speech = sum(f.speech for f in group.forms)
    first, small = group.forms[0], common.total() < 3000
    if not small and count + 2 * speech < 2:
        return False  # named once, and does nothing
    if any(f.title for f in group.forms):
        return True
    if first.article:
        return _is_role(first) or speech >= 2 and speech >= 0.1 * count or _is_group(group)
    if first.words[-1].lower() in lexicon.word_set("place_words"):
        return False
    if sum(f.animal for f in group.forms) >= 2:
        return True
    if lexicon.knows(first.words[0].lower()) and speech < 2:
        return False
    return evidence >= (1 if small else 2) and speech >= 0.04 * count and (speech > 0 or evidence > 3)


def _is_role(form: Form) -> bool:
    last = form.words[-1].lower()
    return last in lexicon.word_set("roles") or last.endswith(("ist", "man", "woman"))


def _is_group(group: _Group) -> bool:
    """"the Morlocks were …": people of one name."""
    first = group.forms[0]
    return first.article and len(first.words) == 1 and sum(f.plural for f in group.forms) >= 1 and group.count >= 5


# ---------------------------------------------------------------------------------------------- who is the same


def _merge(forms: dict[str, Form], nicknames: list[tuple[str, str]]) -> list[_Group]:
    """Groups of forms, full names first: titles, then single names are given to the only one whom they fit."""
    groups: list[_Group] = []
    single = [f for f in forms.values() if not f.article and len(f.words) == 1]
    for form in (f for f in forms.values() if not f.article and len(f.words) > 1):
        _place(form, groups, [g for g in groups if _same_full(g, form)])
    titled = sorted((f for f in single if f.title), key=lambda f: (f.title in _COMMON, -f.count))
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
    alone, kin = len(form.words) == 1, form.title in _KIN
    groups.append(_Group([form], note, "" if alone and form.title and not kin else form.words[0],
                         form.words[-1] if not alone or form.title and not kin else "", _gender_of(form), {form.title} - {""}))


def _same_full(group: _Group, form: Form) -> bool:
    return group.surname == form.words[-1] and group.given == form.words[0] and _agree(group.gender, _gender_of(form))


def _fitting_title(form: Form, groups: list[_Group], forms: dict[str, Form]) -> list[_Group]:
    """The people whom "Miss Woodhouse" or "Aunt Polly" can mean."""
    gender, word = _gender_of(form), form.words[0]
    givens = [g for g in groups if g.given == word and _agree(g.gender, gender)]
    if form.title in _KIN or not any(g.surname == word for g in groups):
        return givens if form.title not in ("mr", "mrs", "miss") or len(givens) == 1 else []
    fits = [g for g in groups if g.surname == word and _agree(g.gender, gender) and not _rival(g.titles, form.title)]
    if form.title == "mrs" and f"Miss {word}" in forms:
        return [g for g in fits if "mrs" in g.titles]  # the daughter has the full name
    return fits


def _rival(titles: set[str], title: str) -> bool:
    """Titles that one person does not have at once: Mrs. and Miss, Captain and Colonel, Sir and Lady."""
    told = titles - {"", "mr", "ms"}
    return bool(told) and title not in told and title not in ("mr", "ms")


def _fitting_single(form: Form, groups: list[_Group]) -> list[_Group]:
    """The people whom a bare "Emma" or "Darcy" can mean; a bare surname is the man's where there is just one."""
    given = [g for g in groups if g.given == form.words[0]]
    if given:
        return given
    family = [g for g in groups if g.surname == form.words[0]]
    men = [g for g in family if g.gender != "woman"]
    return men if len(family) > 1 and len(men) == 1 else family


def _join(groups: list[_Group], short: str, name: str) -> None:
    """Bring two groups together by one's form each, where the text says that they are one."""
    a, b = (next((g for g in groups if any(word in (f.text, *f.words[:1]) for f in g.forms)), None) for word in (short, name))
    if a is None or b is None or a is b or a.surname and b.surname and a.surname != b.surname or not _agree(a.gender, b.gender):
        return
    b, a = (b, a) if b.surname or b.count >= a.count and not a.surname else (a, b)
    b.forms += a.forms
    b.titles |= a.titles
    groups.remove(a)


def _diminutives(groups: list[_Group]) -> None:
    """"Lizzy" is Elizabeth where the book has just one Elizabeth and no other Lizzy."""
    for full, shorts in lexicon.words("nicknames").items():
        whole = [g for g in groups if g.given.lower() == full]
        for short in shorts:
            little = [g for g in groups if g.given.lower() == short]
            if len(whole) == 1 and len(little) == 1 and whole[0] is not little[0]:
                _join(groups, little[0].forms[0].text, whole[0].forms[0].text)


def _roles(forms: list[Form], groups: list[_Group]) -> list[_Group]:
    """"the Traveller" is the Time Traveller, "the Doctor" the Medical Man; "the Doctor" is Dr. Hale where he is the only one."""
    same = {word: i for i, words in enumerate(lexicon.words("same_role")) for word in words}
    found: list[_Group] = []
    for form in sorted(forms, key=lambda f: (-len(f.words), -f.count)):
        name = " ".join(form.words).lower()
        longer = [g for g in found if _ends_with(g.forms[0].words, form.words)]
        alike = [g for g in found if name in same and any(same.get(" ".join(f.words).lower()) == same[name] for f in g.forms)]
        titled = [g for g in groups if name in ("doctor", "professor", "captain", "inspector", "colonel", "king", "queen")
                  and {"doctor": "dr"}.get(name, name) in g.titles]
        _place(form, found, longer or alike or titled if len(longer or alike or titled) == 1 else [])
    found = [g for g in found if g not in groups]
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


def _gender_of(form: Form) -> str:
    """man or woman where title, first name or pronouns tell; "" else."""
    if form.title and form.title not in _ANYONE:
        return lexicon.words("titles").get(form.title, "")
    first, she, he = form.words[0].lower(), form.pronouns["she"], form.pronouns["he"]
    if form.article or form.title and len(form.words) == 1:
        return ""
    if first in lexicon.word_set("women") or first in lexicon.word_set("men"):
        return "woman" if first in lexicon.word_set("women") and not (first in lexicon.word_set("men") and he > she) else "man"
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
    if sum(f.animal for f in group.forms) >= 2 and not any(f.title for f in group.forms):
        return "animal", ""
    if _is_group(group) and not _is_role(group.forms[0]):
        return "group", ""
    told = [lexicon.words("titles")[f.title] for f in group.forms if f.title in lexicon.words("titles") and f.title not in _ANYONE]
    if told:
        return (told[0], told[0])
    pronouns = sum((f.pronouns for f in group.forms), Counter())
    first = (group.given or group.forms[0].words[0]).lower()
    named = not group.forms[0].article and (first in lexicon.word_set("women") or first.endswith("a"))
    she = pronouns["she"] + (4 if first in lexicon.word_set("women") else 1.5 if named else 0)
    last = group.forms[0].words[-1].lower()
    he = pronouns["he"] + (3 if first in lexicon.word_set("men") and not group.forms[0].article else 0)
    she += 6 * (group.forms[0].article and last.endswith(("woman", "lady", "queen", "girl")))
    kind = "woman" if she > he else "man"
    child = group.forms[0].article and last in ("boy", "girl", "child")
    return ("child" if child else kind), kind
