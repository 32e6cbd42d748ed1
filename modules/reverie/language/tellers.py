"""Who says "I": the narrator of a book, and who tells a tale within quotation marks."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

from reverie.language import lexicon
from reverie.language.mentions import Mention
from reverie.language.people import NARRATOR, Cast, Person, colour_of

_BEGAN = r"(?<=\S)\s{1,3}(?:then\s+)?<begins>\s+(?:to tell\s+)?(?:us\s+)?(?:his|her|the|this|that)\s+<stories>\b"
_I_AM = r"\b<says_own_name>\s+[“\"‘']?([A-Z][a-zß-ÿ]+(?: [A-Z][a-zß-ÿ]+)?)"


def found(cast: Cast, texts: list[str], places: list[Mention], owner: dict[str, str]) -> Cast:
    """Who says "I": the one who gives his name, or nobody named; and who tells a story within quotation marks."""
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
    return cast | {NARRATOR.name: replace(NARRATOR, narrator=True)}


def told_by(text: str, everyone: Cast) -> Cast:
    """The cast for one scene: in a tale within quotation marks, "I" is the one who tells it."""
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
