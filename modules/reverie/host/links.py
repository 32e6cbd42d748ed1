"""Links as people write them → what they ask for. Nothing is looked up here but the table of words.

    kind:address[name.ext]        lora:https://civitai.com/models/1234[dream.safetensors]
    several                       with commas or line breaks between
    address                       a URL · civitai:123 or civitai:123@456 · hf:owner/repo/path · gdrive:ID · urn:air:… ·
                                  an id of the catalogue · a path
    # comment, // comment         to the end of the line
    # LoRAs, [lora], VAE:         alone on a line: the kind of all that follows, until the next such line

A comma parts two links only where a link can begin after it, so those inside of a query stay.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from urllib.parse import urlsplit

from reverie.errors import BadInput, NotFound
from reverie.host import names
from reverie.host.resources import FOLDERS, Link
from reverie.settings import config

MAX_BYTES, MAX_LINKS, MAX_LINK, MAX_HEADING = 1 << 20, 2000, 4096, 120
SCHEMES = ("http", "https", "file")
SHORT = ("civitai", "hf", "huggingface", "gdrive", "urn")  # what stands before ":" in an address that is no URL

_COMMENT = re.compile(r"(?:^|(?<=\s))(?:#|//).*$")
_HEADING = re.compile(r"\s*(?:#+\s*(?P<hash>.*?)|\[(?P<square>[^\[\]]*)\]|(?P<colon>[^\s:\[\],][^:\[\],]*):)\s*")
_PREFIX = re.compile(r"(?P<word>[A-Za-z][A-Za-z0-9 _-]{0,40}?)\s*:(?!\\)\s*(?P<rest>.*)", re.DOTALL)
_NAMED = re.compile(r"(?P<address>.*?)\s*\[(?P<name>[^\[\]]*)\]", re.DOTALL)
_BEGINS = re.compile(r"\s|$|[A-Za-z][A-Za-z0-9 _-]{0,40}:(?![0-9]+(?:/|$))|[~/.\\\"<]")


def parse(text: str, kind: str = "") -> list[Link]:
    """All links in the text, in their order, each once; those without a kind of their own get `kind`. BadInput names the line."""
    if len(text) > MAX_BYTES:
        raise BadInput(f"That is {len(text):,} letters of links.", f"At most {MAX_BYTES:,} are read; take several texts.")
    current, found = _kind(kind) if kind else "", {}
    for number, line in enumerate(text.replace("\ufeff", "").splitlines(), 1):
        try:
            heading = _heading(line)
            current = current if heading is None else heading
            entries = [] if heading is not None else _entries(_COMMENT.sub("", line))
            for entry in entries:
                link = _link(entry, current)
                found.setdefault((link.address, link.kind, link.name), link)
        except BadInput as error:
            raise BadInput(f"Line {number}: {error.what}", error.next_step) from None
        if len(found) > MAX_LINKS:
            raise BadInput(f"There are more than {MAX_LINKS} links.", "Fetch them in several goes.")
    return list(found.values())


def read(path: Path) -> list[Link]:
    """The links of a text file (UTF-8) with sections."""
    path = Path(path).expanduser()
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadInput(f"{path} is {path.stat().st_size:,} bytes long, which is no list of links.", "Give a text file.")
        return parse(path.read_text("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"There is no file {path}.", "Check the path.") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is no text in UTF-8.", "Save it as UTF-8.") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{names.shown(str(path))} cannot be read: {getattr(error, 'strerror', None) or error}.", "Give a text file.") from None
    except BadInput as error:
        raise BadInput(f"In {path}: {error.what}", error.next_step) from None


def kind_of_word(word: str) -> str:
    """The kind that a word names ("LoRAs" → lora); "" if none."""
    return _words().get(_plain(word), "")


def is_local(address: str) -> bool:
    """Whether an address is written as a path of this machine."""
    return address.startswith(("/", "~", "./", "../", ".\\", "..\\", "\\\\")) or bool(re.match(r"[A-Za-z]:[\\/]", address))


# ------------------------------------------------------------------------------------------------------------- lines


def _heading(line: str) -> str | None:
    """The kind that this line is a heading for, None if it is none. "" for a comment that says nothing."""
    found = _HEADING.fullmatch(line) if len(line) <= MAX_HEADING else None
    if not found:
        return None
    word = next(part for part in (found["hash"], found["square"], found["colon"]) if part is not None)
    word = word.strip(" \t-–—=*_:#")
    if kind := kind_of_word(word):
        return kind
    if _plain(word) in _no_models():
        return _plain(word)
    if found["hash"] is not None:
        return None
    raise BadInput(f"'{names.shown(word)}' is no kind of model.", f"Choose one of: {', '.join(config('sources')['kinds'])}.")


def _entries(line: str) -> list[str]:
    """The line cut at those commas after which a link begins, none of them inside of square brackets."""
    parts, start, depth = [], 0, 0
    for index, sign in enumerate(line):
        depth += (sign == "[") - (sign == "]")
        if index - start > MAX_LINK:
            raise BadInput(f"'{names.shown(line[start:index])}' is over {MAX_LINK:,} letters long.", "No link is; check for a missing line break.")
        if sign == "," and depth <= 0 and _parts_links(line[start:index], line[index + 1 : index + MAX_HEADING]):
            parts.append(line[start:index])
            start, depth = index + 1, 0
    return [part.strip() for part in [*parts, line[start:]] if part.strip()]


def _parts_links(before: str, after: str) -> bool:
    """Whether a comma between these parts two links. Addresses may have commas in them, paths a comma and a blank."""
    path = is_local(_own_kind(before.strip())[0]) if not before.rstrip().endswith("]") else False
    if not path and ("://" not in before or before.rstrip().endswith("]")):
        return True
    return bool(_BEGINS.match(after.lstrip() if path else after)) or after.split(",")[0].split("[")[0].strip() in _catalogue()


# ------------------------------------------------------------------------------------------------------------- links


def _link(entry: str, kind: str) -> Link:
    rest, own = _own_kind(entry)
    if (own or kind) in _no_models():
        raise BadInput(f"'{names.shown(rest)}' is listed as {own or kind}, which is no model.", "Extensions are chosen with the WebUI.")
    address, name = rest, ""
    if rest.endswith("]") and (found := _NAMED.fullmatch(rest)) and found["address"]:
        address, name = found["address"], names.check(found["name"]) if found["name"].strip() else ""
    return Link(text=entry, address=_address(address.strip(" \t<>\"'")), kind=own or kind, name=name)


def _own_kind(entry: str) -> tuple[str, str]:
    """(what follows, kind) of `kind:address`; ("…", "") where no kind stands before the address."""
    found = _PREFIX.fullmatch(entry)
    if not found or is_local(entry):
        return entry, ""
    word, rest = found["word"], found["rest"].strip()
    if kind := kind_of_word(word) or (_plain(word) if _plain(word) in _no_models() else ""):
        if not rest or rest.startswith("["):
            raise BadInput(f"Nothing follows '{word}:'.", f"Write {word}:https://… or leave it out.")
        return rest, kind
    if word.lower() in (*SCHEMES, *SHORT):
        return entry, ""
    if rest.startswith("//"):
        raise BadInput(f"'{names.shown(entry)}' begins with {word}://, which cannot be fetched.", "Give an http or https address.")
    if rest[:1].isdigit() or "." in word:
        return entry, ""  # host:port
    kinds = ", ".join(config("sources")["kinds"])
    raise BadInput(f"'{names.shown(word)}' in '{names.shown(entry)}' is no kind of model.", f"Choose one of: {kinds}.")


def _address(address: str) -> str:
    if not address:
        raise BadInput("There is a link without an address.", "Write the address before the [name].")
    if any(not sign.isprintable() for sign in address):
        raise BadInput(f"'{names.shown(address)}' has invisible characters in it.", "Type or copy it again.")
    if is_local(address):
        return address
    if address.split("/")[0].lower() in _hosts():
        address = f"https://{address}"
    scheme = address.split(":")[0].lower() if "://" in address else ""
    if scheme in ("http", "https"):
        return _url(address)
    if any(sign in address for sign in "[]<>{}|^`\" \t"):
        raise BadInput(f"'{names.shown(address)}' is no link.", "Write kind:URL[name.safetensors]; a path with blanks begins with / or ./.")
    return address


def _url(address: str) -> str:
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise BadInput(f"'{names.shown(address)}' is no address: {error}.", "Copy it again from the browser.") from None
    if not host or any(sign.isspace() or sign in '<>"{}|\\^`' for sign in address):
        raise BadInput(f"'{names.shown(address)}' is no address.", "Copy it again from the browser; blanks in it are written %20.")
    if parts.username is not None or parts.password is not None:
        raise BadInput(f"An address on {host} has a login in it, which would be kept and shown.", "Take it out; tokens have a place of their own.")
    if "[" in parts.path + parts.query or "]" in parts.path + parts.query:
        raise BadInput(f"The brackets of '{names.shown(address)}' do not fit.", "Write the name last: URL[name.safetensors].")
    return address


# ------------------------------------------------------------------------------------------------------------- words


def _plain(word: str) -> str:
    """`Text Encoders`, `text-encoder` and `TEXT_ENCODER` are one word."""
    parts = re.split(r"[\s_-]+", word.strip().lower())
    return "_".join(part[:-1] if part.endswith("s") and len(part) > 3 else part for part in parts)


def _kind(word: str) -> str:
    if kind := kind_of_word(word) if word not in FOLDERS else word:
        return kind
    raise BadInput(f"'{names.shown(word)}' is no kind of model.", f"Choose one of: {', '.join(FOLDERS)}.")


@functools.lru_cache(maxsize=1)
def _words() -> dict[str, str]:
    words = {_plain(folder): kind for kind, folder in FOLDERS.items() if kind != "clip"}
    written = {_plain(word): kind for kind, list_ in config("sources")["kinds"].items() for word in (kind, *list_)}
    models = {f"{word}_model": kind for word, kind in written.items()}
    return {**models, **words, **written}


@functools.lru_cache(maxsize=1)
def _no_models() -> frozenset[str]:
    return frozenset(_plain(word) for word in config("sources")["no_models"])


@functools.lru_cache(maxsize=1)
def _hosts() -> frozenset[str]:
    return frozenset(host for hub in config("sources")["hubs"].values() for host in hub["hosts"])


@functools.lru_cache(maxsize=1)
def _catalogue() -> frozenset[str]:
    rows = config("models")
    return frozenset(name for part in ("models", "loras", "clips") for name in rows.get(part, {}))
