"""Where models come from: a link → the files it means, and a file → the address its bytes are to be had at right now.

Each module here is one source and is found by itself: `takes(address)` says whether an address is its own, `resolve(link)` and
`open_address(resource)` do what the functions of the same name do here. They are asked in the order of their names; `url` is
the last and takes whatever is http. A new source is a new file.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from reverie.errors import BadInput, FetchFailed, NotFound
from reverie.host import names
from reverie.host.resources import Address, Link, Resource
from reverie.host.secrets import token as token  # the sources' only way to a secret
from reverie.settings import config


def resolve(link: Link) -> list[Resource]:
    """The files that a link means, with their sizes and hashes as far as the source tells; none where nothing is to be fetched.

    BadInput: the link cannot be meant; NotFound: nothing is there; TokenNeeded: not without a login, or not with this one;
    FetchFailed: the source does not answer as it should.
    """
    for source in _sources():
        if source.takes(link.address):
            return source.resolve(link)
    raise NotFound(
        f"'{names.shown(link.address)}' is no id of the catalogue, no address and no file that is here.",
        "Write kind:URL, civitai:NUMBER, hf:owner/repo/path, or a path; `reverie models` lists the ids.",
    )


def open_address(resource: Resource) -> Address:
    """Where the bytes of a resource are to be had right now, redirects followed. Ask again for each resume: it may expire.

    TokenNeeded and FetchFailed as above.
    """
    source = next((source for source in _sources() if source.__name__ == f"{__name__}.{resource.source}"), None)
    if source is None:
        raise FetchFailed(f"'{names.shown(resource.source)}' is no source that files come from.", "Give the file's address again.")
    try:
        return source.open_address(resource)
    except (NotFound, BadInput) as error:
        raise FetchFailed(error.what, error.next_step) from None


def whole_of(link: Link) -> tuple[str, str]:
    """(name of the whole folder that a link means, its branch or commit); ("", "") where it means none. Each file of such a folder
    says in its `about` of which "whole" it is, of how many "files", and at what "revision", that is, which "commit": so it can be
    told later whether all of one commit are here."""
    source = next((source for source in _sources() if source.takes(link.address)), None)
    try:
        return source.whole_of(link) if hasattr(source, "whole_of") else ("", "")
    except BadInput:
        return "", ""


def kind_of(link: Link, path: str, said: str = "") -> str:
    """The kind of a file: as the person says, as the source says, or as the words in its path hint. BadInput if nothing does."""
    lowered = f"/{unquote(path).lower().lstrip('/')}"
    hinted = (kind for kind, words in config("sources")["hints"].items() if any(word in lowered for word in words))
    if kind := link.kind or said or next(hinted, ""):
        return kind
    address = shown(link.address)
    raise BadInput(f"Nothing says what kind of model {address} is.", f"Write it before the address: checkpoint:{address}")


def name_of(link: Link, told: str) -> str:
    """The file's name: the person's, with the suffix of the source's, else the source's, cleaned. BadInput where they disagree."""
    told = names.clean(told)
    suffix = names.suffix_of(told)
    known = suffix.lower() in config("sources")["suffixes"]
    if not link.name:
        if not known:
            raise BadInput(f"{shown(link.address)} does not tell a file name.", f"Give one: {shown(link.address)}[name.safetensors]")
        return told
    wished = names.suffix_of(link.name)
    if not wished and not known:
        raise BadInput(f"Neither the name '{link.name}' nor the address says what kind of file it is.", f"Write [{link.name}.safetensors].")
    if wished and known and wished.lower() != suffix.lower():
        raise BadInput(f"The name '{link.name}' ends in {wished}, but the file is a {suffix}.", f"Write [{link.name.removesuffix(wished)}{suffix}].")
    return link.name if wished else f"{link.name}{suffix}"


def shown(address: str) -> str:
    """An address as it can stand in a message: without query and login, where secrets and signatures are."""
    if "://" not in address:
        return names.shown(address)
    parts = urlsplit(address)
    return names.shown(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}", 160)


def last_part(url: str) -> str:
    """The last part of an address's path, decoded."""
    return PurePosixPath(unquote(urlsplit(url).path)).name


@functools.lru_cache(maxsize=1)
def _sources() -> list:
    found = sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_"))
    return [importlib.import_module(f"{__name__}.{name}") for name in found]
