"""An archive from an address or a path, as a file that is here and has the right sum."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from reverie.errors import BadInput, FetchFailed, ReverieError
from reverie.host.webuis import archives
from reverie.settings import Settings


def get(source: str, sha256: str, title: str, settings: Settings, tell, cancelled) -> tuple[Path, str]:
    """(file, its SHA-256). From an address it is fetched into storage/downloads, carried on where an earlier run stopped.

    FetchFailed, BadInput (no such file, wrong sum), Interrupted.
    """
    if is_address(source):
        return _fetch(source, sha256, title, settings, tell, cancelled)
    path = local(source)
    if not path.is_file():
        raise BadInput(f"{title}: there is no file {path}.", "Check the path in the row.")
    found = _sum(path, title, tell) if sha256 else ""
    if found != sha256:
        raise BadInput(f"{path.name} has the SHA-256 {found[:12]}…, and its row says {sha256[:12]}….", "Get the file again, or mend the row.")
    return path, found


def done_with(archive: Path, settings: Settings) -> None:
    """What was fetched only to be unpacked goes; a person's own file stays."""
    if archive.parent == settings.storage / "downloads":
        archive.unlink(missing_ok=True)


def least_bytes(source: str) -> int:
    """What it takes unpacked, at the least; 0 where that is not known before it is fetched."""
    if not source or is_address(source) or not local(source).is_file():
        return 0
    return archives.least_bytes(local(source))


def is_address(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def local(source: str) -> Path:
    return Path(unquote(urlsplit(source).path) if source.startswith("file://") else source).expanduser()


def _fetch(url: str, sha256: str, title: str, settings: Settings, tell, cancelled) -> tuple[Path, str]:
    from reverie.host import fetch, sources
    from reverie.host.webuis.packages import Step
    from reverie.host.resources import Resource

    name = unquote(urlsplit(url).path).rpartition("/")[2] or "package"
    resource = Resource(kind="", name=name, url=url, source=_source(url), sha256=sha256)
    order = fetch.Order(key=resource.key, address=lambda: sources.open_address(resource), sha256=sha256, title=title)
    told = lambda progress: tell(Step(f"fetching {name}", progress.done_bytes, progress.size))
    got = fetch.fetch([order], settings.storage / "downloads", on_progress=told, cancelled=cancelled)[resource.key]
    if isinstance(got, ReverieError):
        raise got
    return got.path, got.sha256


def _source(url: str) -> str:
    hub = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").netloc
    return "huggingface" if urlsplit(url).netloc in (hub, "huggingface.co") else "url"


def _sum(path: Path, title: str, tell) -> str:
    from reverie.host.webuis.packages import Step

    digest, done, size = hashlib.sha256(), 0, path.stat().st_size
    try:
        with open(path, "rb") as file:
            while data := file.read(8 << 20):
                digest.update(data)
                done += len(data)
                tell(Step(f"checking {path.name}", done, size))
    except OSError as error:
        raise FetchFailed(f"{path} cannot be read ({error.strerror}).", "Check the disk that it is on.") from None
    return digest.hexdigest()
