"""Names of files: what a person wrote is refused where it cannot be one, what a server said is cleaned. None leaves its folder."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

from reverie.errors import BadInput
from reverie.settings import config

MAX_BYTES = 200  # most file systems take 255, and staging and sidecar names are longer than the file's own
_BAD_SIGNS = '/\\<>:"|?*'
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?", re.IGNORECASE)
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # controls, and marks that turn or hide what is read


def check(name: str) -> str:
    """The name as it will be written (NFC); BadInput says why it cannot be a model's file name."""
    name = unicodedata.normalize("NFC", name.strip())
    if why := _wrong(name):
        raise BadInput(f"'{shown(name)}' is no file name for a model: {why}.", "Give a plain name such as [dream.safetensors].")
    return name


def clean(name: str) -> str:
    """What is left of a server's name for a file when all that could do harm is taken out; "" if nothing is."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    last = "".join("_" if sign in _BAD_SIGNS else sign for sign in last if unicodedata.category(sign) not in _INVISIBLE)
    last = re.sub(r"\s+", " ", last).strip(" .")
    stem, suffix = last.removesuffix(suffix_of(last)), suffix_of(last)
    while stem and len(f"{stem}{suffix}".encode()) > MAX_BYTES:
        stem = stem[:-1]
    last = f"{stem}{suffix}".strip(" .")
    return f"_{last}" if _DEVICES.fullmatch(last) else last


def suffix_of(name: str) -> str:
    """".safetensors" and the like, in lower case as it stands there; "" for what only looks like one ("dream_v1.5")."""
    suffix = PurePosixPath(name).suffix
    return suffix if re.fullmatch(r"\.[A-Za-z][A-Za-z0-9]{0,10}", suffix) else ""


def is_pickle(name: str) -> bool:
    """Whether opening such a file could run a program."""
    return suffix_of(name).lower() in config("sources")["pickles"]


def shown(text: str, most: int = 80) -> str:
    """A text as it can stand in a sentence: on one line, nothing invisible, not endless."""
    plain = "".join(sign if sign.isprintable() else "�" for sign in text)
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"


def _wrong(name: str) -> str:
    suffix = suffix_of(name)
    signs = sorted({sign for sign in name if sign in _BAD_SIGNS})
    if not name.strip(". "):
        return "there is nothing in it"
    if any(unicodedata.category(sign) in _INVISIBLE for sign in name):
        return "it has invisible characters in it"
    if signs:
        return f"it has {' '.join(signs)} in it" + (", and a name has no folders" if "/" in signs or "\\" in signs else "")
    if name.endswith((".", " ")):
        return "it ends in a dot or a blank"
    if _DEVICES.fullmatch(name):
        return "Windows keeps that name for a device"
    if len(name.encode()) > MAX_BYTES:
        return f"it is longer than {MAX_BYTES} bytes"
    if suffix and suffix.lower() not in config("sources")["suffixes"]:
        return f"a model's file does not end in {suffix}"
    return "it begins with a dot, so it would be hidden" if name.startswith(".") else ""
