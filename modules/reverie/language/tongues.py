"""Which language a book is in, by its commonest small words: a guess, to say that the rules read English."""

from __future__ import annotations

import re

_SMALL_WORDS = {
    "en": "the and of to was that he she it his her with had for you not were",
    "de": "der die das und nicht ist ich sie war mit ein eine den dem auf sich zu",
    "fr": "le la les et des une est dans que qui pas il elle était pour au ce",
    "es": "el la los las y que de en no un una se con por era su lo",
    "it": "il la di che e un una non per era si con le gli della sono nel",
    "pt": "o a os as e que de não um uma se com por era em do da",
    "nl": "de het een en van ik niet dat was zijn op met hij te ze er maar",
    "sv": "och att det som en på är av för med den var inte han hon jag ett",
    "pl": "i w nie na się z do że to jest jak był po ale co za już",
}
_WORDS = {tongue: frozenset(words.split()) for tongue, words in _SMALL_WORDS.items()}
_SCRIPTS = {"ru": "[а-яёА-ЯЁ]", "el": "[α-ωΑ-Ω]", "ja": "[ぁ-ヿ]", "zh": "[一-鿿]", "ko": "[가-힣]", "ar": "[ا-ي]", "he": "[א-ת]"}
_WORD = re.compile(r"[^\W\d_]+")
_SAMPLE = 60_000  # characters, from the middle: the beginning may be in another language


def book_language(text: str) -> str:
    """The language of a text as a two-letter code, `"en"` for English; `""` where it cannot be told."""
    middle = max(0, (len(text) - _SAMPLE) // 2)
    sample = text[middle:middle + _SAMPLE]
    letters = sum(map(str.isalpha, sample))
    for tongue, script in _SCRIPTS.items():
        if letters and len(re.findall(script, sample)) > (0.1 if tongue == "ja" else 0.5) * letters:
            return tongue
    words = [word.lower() for word in _WORD.findall(sample)]
    points = {tongue: sum(word in small for word in words) for tongue, small in _WORDS.items()}
    best = max(points, key=points.__getitem__)
    return best if points[best] >= max(3, 0.08 * len(words)) else ""
