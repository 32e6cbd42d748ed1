"""Prompts out of shots, in the words of a model family and a style, within what its text encoder reads."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from reverie.errors import BadInput
from reverie.language import lexicon, people, pocket
from reverie.language.rules import Shot
from reverie.language.tokens import estimate_tokens
from reverie.settings import config

DEFAULT_STYLE = "graphic novel"


@dataclass(frozen=True)
class Prompt:
    """What to draw and what to keep out; `dropped` are the phrases that did not fit, the least important first.

    `tokens` of the prompt are at most `limit`; they are `estimated` (never too low) where no tokenizer counted them.
    """

    prompt: str
    negative: str
    dropped: tuple[str, ...] = ()
    tokens: int = 0
    limit: int = 0
    estimated: bool = True

    @property
    def budget(self) -> dict:
        """`{tokens, limit, estimated, dropped}`, ready for JSON."""
        return {"tokens": self.tokens, "limit": self.limit, "estimated": self.estimated, "dropped": list(self.dropped)}


def families() -> list[str]:
    return ["pocket", *config("prompts")["families"]]


def compose(shot: Shot, family: str = "sdxl", style: str = DEFAULT_STYLE, max_tokens: int | None = None,
            count_tokens: Callable[[str], int] | None = None) -> Prompt:
    """The shot's prompt: whole phrases only, at most `max_tokens` of them by `count_tokens` (default: an over-estimate).

    BadInput for an unknown family or style.
    """
    count = count_tokens or estimate_tokens
    look = _style(style)
    family = config("prompts")["aliases"].get(family, family)
    if family == "pocket":
        return _pocket(shot, look, max_tokens or config("prompts")["pocket"]["max_tokens"], count_tokens)
    rules = config("prompts")["families"].get(family)
    if rules is None:
        raise BadInput(f"There are no prompts for the family '{family}'.", f"Known are: {', '.join(families())}.")
    slots = _slots(shot, rules, look.get("flux" if rules.get("style_first") else family) or look["default"])
    limit = max_tokens or rules["max_tokens"]
    kept, dropped = _fit(slots, rules, limit, count)
    negative = [] if rules["negative"] is None else _unique([*_parts(look["negative"]), *rules["negative"]])
    return Prompt(kept, _fit_list(negative, limit, count), tuple(dropped), count(kept), limit, count_tokens is None)


def filename(shot: Shot) -> str:
    """`chapter_01_scene_02_emma_office_reading.png`: sorts by scene, says what is shown, at most 100 characters."""
    action = next(iter(shot.action.split()), "")
    who = slug(re.sub(r"^the ", "", shot.actor or (shot.characters[0] if shot.characters else "")), 30)
    words = [who, slug(shot.setting.split(",")[0], 30), slug(action, 20)]
    head = f"chapter_{shot.chapter:02d}_scene_{shot.scene:02d}"
    return "_".join([head, *(w for w in words if w)])[:96].rstrip("_") + ".png"


def slug(text: str, most: int = 40) -> str:
    """Lower case ASCII letters and digits joined by underscores, cut between words."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower().replace("'", "")
    words = re.findall(r"[a-z0-9]+", plain)
    while len(words) > 1 and len("_".join(words)) > most:
        words.pop()
    return "_".join(words)[:most]


def _style(name: str) -> dict:
    known = config("styles")
    if name.lower() in known:
        return known[name.lower()]
    raise BadInput(f"There is no style '{name}'.", f"Known are: {', '.join(known)}.")


def _pocket(shot: Shot, look: dict, limit: int, count_tokens) -> Prompt:
    parts = pocket.clauses(pocket.values(shot, look["pocket"]))
    # Every known word is one token of the model's own, and so, at most, is each comma.
    count, dropped = count_tokens or (lambda text: len(re.findall(r"\w+|,", text))), []
    while len(parts) > 2 and count(", ".join(parts)) > limit:
        dropped.append(parts.pop(-2))  # light, weather, time, place, people; the object and the style stay
    prompt = ", ".join(parts)
    return Prompt(prompt, "", tuple(dropped), count(prompt), limit, count_tokens is None)


def _slots(shot: Shot, rules: dict, style: str) -> dict[str, list[str]]:
    """slot → phrases."""
    actor = next((p for p in shot.people if p.name == shot.actor), shot.people[0] if shot.people else None)
    looks = _parts(people.describe(actor)) if actor else []
    company = _company([people.describe(p) for p in shot.people if p is not actor and p.kind != "animal"], looks)
    company += [people.describe(p) for p in shot.people if p is not actor and p.kind == "animal"]
    inside = {} if shot.indoors or not shot.light else {"light": [rules["light"].format(shot.light_colour, shot.light)]}
    weather = lexicon.words("weather_words").get(shot.weather)
    told = f"{shot.setting} {shot.action}"
    things = [t.phrase for t in shot.things if t.phrase not in told and t.name not in told.split()
              and not (t.name in ("sun", "moon") and inside)]
    return {
        "subject": looks[:1] or config("prompts")["nobody"], "look": looks[1:],
        "action": [shot.action] if shot.action else [], "company": company, "place": _parts(shot.setting),
        "thing": things[:config("prompts")["most_things"]], "time": [shot.time_phrase],
        "weather": [weather] if weather else [], "mood": [rules["mood"].format(shot.mood)],
        "style": [style] if rules.get("style_first") else _parts(style), "quality": rules["quality"], **inside}


_MORE = {"a man": "men", "a woman": "women", "a child": "children"}


def _company(phrases: list[str], actor: list[str]) -> list[str]:
    """People of whom nothing is told but their kind are counted together: "another man", "two other men"."""
    result = []
    for phrase in dict.fromkeys(phrases):
        n, same = phrases.count(phrase), phrase in actor
        if phrase not in _MORE or n == 1:
            result.append(phrase.replace("a ", "another ", 1) if same and phrase in _MORE else phrase)
        else:
            result.append(f"{('two', 'three', 'four')[min(n, 4) - 2]} {'other ' if same else ''}{_MORE[phrase]}")
    return result


def _fit(slots: dict[str, list[str]], rules: dict, most: int, count) -> tuple[str, list[str]]:
    """The phrases in their order, without the least important ones that are too many."""
    dropped: list[str] = []
    while count(text := _joined(slots, rules)) > most:
        slot = next((s for s in reversed(rules["keep"]) if slots.get(s) and (s != "subject" or len(slots[s]) > 1)
                     and not (s in ("place", "style", "thing") and len(slots[s]) == 1 and _others(slots, rules, s))), None)
        if slot is None:
            return _shorten(text, most, count), [*dropped, text]
        dropped.append(slots[slot][-1])
        slots = {**slots, slot: slots[slot][:-1]}
    return text, dropped


def _others(slots, rules, slot: str) -> bool:
    """Whether slots that matter less than a slot's first phrase still hold something."""
    return any(len(slots.get(s, ())) > (s in ("place", "style", "thing")) for s in rules["keep"] if s not in (slot, "subject"))


def _joined(slots, rules: dict) -> str:
    text = ", ".join(_unique([phrase for slot in rules["order"] for phrase in slots.get(slot, ())]))
    if not rules.get("style_first"):
        return text
    sentences = [*slots.get("style", ()), text[:1].upper() + text[1:]]
    return " ".join(f"{sentence.rstrip('.')}." for sentence in sentences if sentence)


def _shorten(text: str, most: int, count) -> str:
    """One phrase that alone is too long: its beginning, up to a word."""
    words = text.split()
    low, high = 1, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(" ".join(words[:middle])) <= most else (low, middle - 1)
    cut = " ".join(words[:low])
    return cut if count(cut) <= most else cut[:most]


def _fit_list(phrases: list[str], most: int, count) -> str:
    while len(phrases) > 1 and count(", ".join(phrases)) > most:
        phrases = phrases[:-1]
    return ", ".join(phrases)


def _parts(text: str) -> list[str]:
    return [p.strip() for p in text.split(",") if p.strip()]


def _unique(phrases: list[str]) -> list[str]:
    return list(dict.fromkeys(p for p in phrases if p))
