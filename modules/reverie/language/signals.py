"""What a stretch of text tells, word by word, and how much each word counts.

Spoken words count less than told ones, comparisons ("like a …", "as if …"), denials and what only might be hardly at
all: a rocket in a comparison must not fly through the picture.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from typing import NamedTuple

from reverie.language import lexicon

_TOKEN = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*|[.,;:!?()…—–“”‘\"]|\n\s*\n")
_ENDS = frozenset(".!?…")
_CLAUSE = frozenset(",;:.!?()…—–")
_IN = frozenset("in into on upon at through across inside within onto under over beneath among amidst".split())
_NEGATIONS = frozenset("no not nor never without neither nothing".split())
_UNREAL = frozenset("might would could should if suppose perhaps possibly wish imagine fancy what".split())
_SHAPED = frozenset("something shape shaped looked looks".split())  # "something like a sphinx" says what it is
_LONG_SPEECH = 60  # a longer quotation is a story told by someone: it counts as narration


class Word(NamedTuple):
    """One word: as written, in lower case, its weight, its sentence, and the index in the list."""

    text: str
    low: str
    weight: float
    sentence: int
    spoken: bool
    clause: int


def read(text: str) -> list[Word]:
    """The words of a text with their weights; linear in its length."""
    tokens = [(m[0], m.start()) for m in _TOKEN.finditer(text)]
    spoken = _spoken([t for t, _ in tokens])
    words: list[Word] = []
    sentence = clause = 0
    first, reader = 0, _Weights()
    for (token, _), is_spoken, was_spoken in zip(tokens, spoken, [False, *spoken]):
        if was_spoken and not is_spoken:
            reader = _Weights()  # what somebody supposes in speech is no reason to doubt who says so
        if token[0].isalpha():
            low = token.lower().replace("’", "'")
            low = low[:-2] if low.endswith("'s") else low
            words.append(Word(token, low, reader.weight(low) * (0.35 if is_spoken else 1.0), sentence, is_spoken, clause))
        elif token in _CLAUSE or token.isspace():
            clause += 1
            reader.clause_ends()
            if token in _ENDS or token.isspace():
                words[first:] = _weigh_sentence(words[first:])
                first, sentence = len(words), sentence + 1
                reader = _Weights()
    words[first:] = _weigh_sentence(words[first:])
    return words


class _Weights:
    """Walks through a sentence and knows when it compares, denies or supposes."""

    def __init__(self):
        self.simile = self.unreal = self.earlier = False
        self.negated = 0
        self.previous = ""

    def weight(self, low: str) -> float:
        if low == "like" and self.previous not in ("i", "you", "we", "they", "would", "to", "did", "didn't", "not"):
            self.simile = self.previous not in _SHAPED
        elif low in ("if", "though") and self.previous == "as" or low == "became":
            self.simile = True
        elif low in _UNREAL:
            self.unreal = True
        self.earlier = self.earlier or low == "had"  # "the building I had left" is not in the picture any more
        self.negated = 4 if low in _NEGATIONS else max(0, self.negated - 1)
        self.previous = low
        return (0.12 if self.simile else 1.0) * (0.4 if self.unreal else 1.0) * (0.1 if self.negated else 1.0) \
            * (0.7 if self.earlier else 1.0)

    def clause_ends(self):
        self.simile = self.earlier = False
        self.negated = 0


def _weigh_sentence(words: list[Word]) -> list[Word]:
    """Sentences about ideas count less, those about what is seen more."""
    lows = {w.low for w in words}
    ideas = sum(1 for w in words if w.low in lexicon.word_set("abstract"))
    factor = 1 / (1 + 0.7 * ideas) * (1.25 if lows & lexicon.word_set("visual") else 1.0)
    if factor == 1.0:
        return words
    return [Word(w.text, w.low, w.weight * factor, w.sentence, w.spoken, w.clause) for w in words]


def _spoken(tokens: list[str]) -> list[bool]:
    """For each token whether it is speech: a short quotation. A paragraph that only opens one carries a story on."""
    result = [False] * len(tokens)
    inside = {}
    for i, token in enumerate(tokens):
        if token in "“‘" and token:
            inside[token] = i
        elif token == "”" or (token == '"' and '"' in inside):
            opened = inside.pop("“" if token == "”" else '"', None)
            if opened is not None and sum(t[0].isalpha() for t in tokens[opened:i]) < _LONG_SPEECH:
                result[opened:i] = [True] * (i - opened)
            inside.pop("‘", None)
        elif token == '"':
            inside['"'] = i
        elif token.isspace():
            inside.clear()
    return result


def tally(words: list[Word], section: str) -> Counter:
    """Points per value of a section of the lexicon (settings, times, weathers, moods)."""
    table, points = lexicon.table(section), Counter()
    for i, word in enumerate(words):
        for value, weight in table.get(word.low, ()):
            place = _placed(words, i) if section == "settings" else 1.0
            points[value] += weight * word.weight * place
    return points


def _placed(words: list[Word], i: int) -> float:
    """Someone is *in* a place more than at one that is only mentioned."""
    near = [w.low for w in words[max(0, i - 4):i] if w.clause == words[i].clause]
    if any(w in _IN for w in near):
        return 1.6
    return 0.8 if near[-1:] != ["towards"] else 0.5


def border_scores(blocks: list[str]) -> list[float]:
    """How much changes between each block of text and the one before it (the first: 0), about 0 to 5."""
    vectors, cues = [], []
    for text in blocks:
        words = read(text)
        vectors.append({section: tally(words, section) for section in ("settings", "times", "weathers")} | {"people": _people(words)})
        cues.append(_cue(text))
    return [0.0] + [_change(vectors, i) + cues[i] for i in range(1, len(blocks))]


_SHARE = {"settings": 2.6, "times": 1.0, "weathers": 0.8, "people": 0.8}


def _change(vectors, i: int) -> float:
    score = 0.0
    for section, share in _SHARE.items():
        before = sum((v[section] for v in vectors[max(0, i - 2):i]), Counter())
        after = sum((v[section] for v in vectors[i:i + 2]), Counter())
        if before and after:
            strength = min(1.0, min(sum(before.values()), sum(after.values())) / 3)
            score += share * strength * (1 - _cosine(before, after))
    return score


def _cosine(a: Counter, b: Counter) -> float:
    dot = sum(a[k] * b[k] for k in a)
    norm = (sum(v * v for v in a.values()) * sum(v * v for v in b.values())) ** 0.5
    return dot / norm if norm else 0.0


def _people(words: list[Word]) -> Counter:
    kinds = lexicon.people()
    return Counter(w.low for w in words if w.low in kinds or w.low in ("he", "she", "they"))


def _cue(text: str) -> float:
    """A paragraph whose first sentence says that time passes or somebody moves begins a scene more likely."""
    start = text.lstrip(" \n\t“\"‘'").lower()[:160]
    first = re.split(r"[.!?]", start)[0]
    time, move = (bool(pattern.search(first)) for pattern in _cue_patterns())
    senses = 0.5 if first.startswith(("there was the", "the calm of", "then i heard", "the big ")) else 0.0
    return 0.5 * time + 0.7 * move + senses


@lru_cache(maxsize=1)
def _cue_patterns() -> tuple[re.Pattern, re.Pattern]:
    times, moves = ("|".join(map(re.escape, sorted(lexicon.words(name)))) for name in ("transitions", "moves"))
    return re.compile(rf"^(?:{times})\b"), re.compile(rf"\b(?:{moves})\b")
