"""Who says "I": the narrator of a book, and who tells a tale within quotation marks."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from dataclasses import replace

from reverie.language import lexicon
from reverie.language.mentions import Form, Mention
from reverie.language.people import NARRATOR, Cast, Person, colour_of, names

_BEGAN = r"(?<=\S)\s{1,3}(?:then\s+)?<begins>\s+(?:to tell\s+)?(?:us\s+)?(?:his|her|the|this|that)\s+<stories>\b"
_SPEECH = re.compile(r"“[^”]*(?:”|\n\s*\n|\Z)|\"[^\"\n]*\"")
_DOCUMENT = (r"(?im)^[ \t*_]*(?:(?P<whose>[^\n’']{3,40}?)[’']s?[ \t]+<documents>\b[^\n]{0,30}$"
             r"|<letters>(?:,|[ \t]+from)?[ \t]+(?P<writer>[^\n]{3,40}?)(?:,[^\n]{0,30})?[ \t]+to[ \t][^\n]{3,60}$)")
_I_AM = r"\b<says_own_name>\s+[“\"‘']?([A-Z][a-zß-ÿ]+(?: [A-Z][a-zß-ÿ]+)?)"


def found(cast: Cast, texts: list[str], places: list[Mention], owner: dict[str, str], forms: dict[str, Form]) -> Cast:
    """Who says "I": the one who gives his name, else whom people speak to and nobody tells of, else nobody named; and who tells a story within quotation marks."""
    ends = {(m.chapter, m.end): owner[m.form] for m in places if m.form in owner}
    starts = ((i, m.start()) for i, text in enumerate(texts) for m in lexicon.pattern(_BEGAN).finditer(text))
    telling = Counter(ends[start] for start in starts if start in ends)
    if telling and any(is_quoted(text) for text in texts):
        name = telling.most_common(1)[0][0]
        cast = cast | {name: replace(cast[name], quoted=True)}
    plain = [text for text in texts if not is_quoted(text)]
    says = sum(len(re.findall(r"\bI\b", _unspoken(text))) for text in plain)
    if says < 8 or says < sum(map(len, plain)) / 1500:
        return cast
    named = Counter(m[1] for text in plain for m in lexicon.pattern(_I_AM).finditer(_unspoken(text)))
    for said, _ in named.most_common():
        name = owner.get(said) or owner.get(said.split()[0])
        if name:
            return cast | {name: replace(cast[name], narrator=True)}
        return {said: Person(said, "woman" if said.split()[0].lower() in lexicon.word_set("women") else "man", colour=colour_of(said), narrator=True), **cast}
    if name := _only_spoken_to(texts, places, owner, forms):
        return cast | {name: replace(cast[name], narrator=True)}
    return cast | {NARRATOR.name: replace(NARRATOR, narrator=True)}


def _only_spoken_to(texts: list[str], places: list[Mention], owner: dict[str, str], forms: dict[str, Form]) -> str:
    """Whom all call by name within speech ("Jim, look!") and no telling names: who tells the tale does not name himself."""
    speech = [[m.span() for m in _SPEECH.finditer(text)] for text in texts]
    said, called = Counter(), Counter()
    for form, name in owner.items():
        called[name] += forms[form].called
    for mention in places:
        if name := owner.get(mention.form):
            spans = speech[mention.chapter]
            i = bisect_right(spans, (mention.start, len(texts[mention.chapter]))) - 1
            said[name, i >= 0 and mention.start < spans[i][1]] += 1
    if not 0.1 * said.total() < sum(n for (_, spoken), n in said.items() if spoken) < 0.7 * said.total():
        return ""  # all of it is a tale within quotation marks, or speech is not marked
    fitting = [(called[name], name) for name in set(owner.values())
               if called[name] >= max(4, 0.25 * said[name, True]) and said[name, True] >= 6 * said[name, False]]
    return max(fitting, default=(0, ""))[1]


def opened(text: str, everyone: Cast) -> str:
    """Of whom a scene begins to be told: "Jane Doe’s Journal", "Letter, Jane Doe to John Roe"; "" where it says nothing."""
    for match in lexicon.pattern(_DOCUMENT).finditer(text):
        said = (match["whose"] or match["writer"]).strip(" ,*_").lower()
        bare = re.sub(r"^(?:miss|mrs|mr|dr|doctor)\.?\s+", "", said)
        for wanted in (said, bare):
            for name, person in everyone.items():
                if wanted in (known.lower() for known in names(person)):
                    return name
    return ""


def told_by(text: str, everyone: Cast, writer: str = "") -> Cast:
    """The cast for one scene: "I" is the `writer` where there is one; in a tale within quotation marks the one who tells it."""
    if writer in everyone:
        return {name: replace(p, narrator=name == writer) if p.narrator or name == writer else p for name, p in everyone.items()}
    teller = next((p for p in everyone.values() if p.quoted), None)
    if teller is None or not is_quoted(text):
        return everyone
    return {name: replace(p, narrator=p is teller) if p.narrator or p is teller else p for name, p in everyone.items()}


def is_quoted(text: str) -> bool:
    """Whether a text is somebody's tale: most of its paragraphs open a quotation and do not close it."""
    paragraphs = [p.strip() for p in re.split(r"\n\s*\n", text) if len(p) > 80]
    opened = sum(1 for p in paragraphs if p[:1] == "“" and p.rfind("”") < p.rfind("“") or p[:1] == "“" and "”" not in p)
    return opened > 0.5 * len(paragraphs)


def _unspoken(text: str) -> str:
    return re.sub(r"“[^“”]*”|\"[^\"\n]*\"", "", text)
