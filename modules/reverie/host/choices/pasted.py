"""Secrets that people paste along with a link, and where they belong: taken out of the text, so that they never land in a settings
file, a notebook or an export. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

OWNERS = {"civitai": "CIVITAI_TOKEN", "huggingface": "HF_TOKEN", "hf.co": "HF_TOKEN"}  # part of a host's name → whose token it is

_PARAMETER = re.compile(
    r"([?&])(?:token|api[_-]?key|access[_-]?token|auth(?:orization|[_-]?token)?|hf[_-]?token|password|secret)=([^&#\s,\[\]]*)", re.IGNORECASE
)
_LOGIN = re.compile(r"(?<=://)[^/@\s,]+@")
_HF = re.compile(r"\bhf_[A-Za-z0-9]{20,}\b")


@dataclass
class Lifted:
    """What was taken out: `secrets` by name; `notes`, sentences for the person, never with a secret in them."""

    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def lift(value: Any, lifted: Lifted) -> Any:
    """`value` (text, or lists and dicts of it) without its secrets; they and a word about each are put into `lifted`."""
    if isinstance(value, str):
        return _HF.sub(lambda found: _bare(found[0], lifted), re.sub(r"[^\s,]+", lambda word: _of_word(word[0], lifted), value))
    if isinstance(value, dict):
        return {lift(key, lifted): lift(item, lifted) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [lift(item, lifted) for item in value]
    return value


def _of_word(word: str, lifted: Lifted) -> str:
    if "=" not in word and "@" not in word:
        return word
    host = re.split(r"[/?#\[]", word.partition("//")[2] or word, maxsplit=1)[0].rpartition("@")[2][:80]
    if _LOGIN.search(word):
        lifted.note("A name and password that stood in a link were taken out; they are not kept.")
        word = _LOGIN.sub("", word)
    word = _PARAMETER.sub(lambda match: _keep(match, host, lifted), word)
    return re.sub(r"\?(?=\[|$)", "", re.sub(r"\?&+", "?", word))


def _keep(match: re.Match, host: str, lifted: Lifted) -> str:
    name = next((name for part, name in OWNERS.items() if part in host.lower()), "")
    if name and match[2]:
        lifted.secrets[name] = match[2]
    elif match[2]:
        lifted.note(f"A token that stood in a link to {host or 'a page'} was taken out, and there is no place to keep it: only CivitAI's and Hugging Face's are known.")
    return "?" if match[1] == "?" else ""


def _bare(token: str, lifted: Lifted) -> str:
    lifted.secrets["HF_TOKEN"] = token
    return ""
