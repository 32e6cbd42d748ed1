"""The programs that tunnels need: on the search path, in storage/tools, or fetched there."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

from reverie import media
from reverie.errors import FetchFailed, ReverieError, TunnelFailed
from reverie.settings import Settings

FETCH_S, MOST_BYTES = 180, 200 * 2**20
PROGRAM = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"MZ", b"#!")  # how programs begin: Linux, macOS, Windows, a script
_ARCH = {"amd64": "x86_64", "x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


def program(row: dict[str, Any], settings: Settings, on_note=lambda text: None) -> tuple[str, list[str]]:
    """The path of this row's program and the command to run it with, still with $BINARY and the like in it.

    TunnelFailed, with the reason, where there is none and none can be fetched.
    """
    for choice in row["programs"]:
        path = find(choice["binary"], settings)
        if path:
            return path, choice["command"]
    wanted = row["programs"][0]
    if not row.get("get"):
        names = " or ".join(choice["binary"] for choice in row["programs"])
        raise TunnelFailed(f"{names} is not installed")
    on_note(f"Fetching {wanted['binary']} …")
    try:
        return _fetch(row["get"], wanted["binary"], settings), wanted["command"]
    except ReverieError as error:
        raise TunnelFailed(f"{wanted['binary']} is not installed, and could not be fetched: {error.what}") from None


def find(binary: str, settings: Settings) -> str:
    if binary == "$PYTHON":
        return sys.executable
    own = _own(binary, settings)
    return shutil.which(binary) or (str(own) if own.is_file() else "")


def machine() -> str:
    """This kind of machine as the rows call it: linux-x86_64, darwin-arm64, …"""
    arch = platform.machine().lower()
    return f"{platform.system().lower()}-{_ARCH.get(arch, arch)}"


def _own(binary: str, settings: Settings) -> Path:
    return settings.storage / "tools" / f"{binary}{'.exe' if os.name == 'nt' else ''}"


def _fetch(get: dict[str, Any] | str, binary: str, settings: Settings) -> str:
    place = _own(binary, settings)
    place.parent.mkdir(parents=True, exist_ok=True)
    if get == "pyngrok":
        return _by_pyngrok(place)
    source = get.get(machine())
    if not source:
        raise FetchFailed(f"there is none for {machine()}")
    data = _download(source["url"])
    if source.get("sha256") and hashlib.sha256(data).hexdigest() != source["sha256"]:
        raise FetchFailed(f"what {source['url']} gave has another sha256 than the one in configs/tunnels.yaml")
    if source.get("member"):
        data = _member(data, source["member"], source["url"])
    if not data.startswith(PROGRAM):
        raise FetchFailed(f"{source['url']} gave something that is no program")
    with media.staged(place) as staged:
        staged.write_bytes(data)
        staged.chmod(0o755)
    return str(place)


def _download(url: str) -> bytes:
    import httpx

    try:
        with httpx.Client(timeout=FETCH_S, follow_redirects=True) as client, client.stream("GET", url) as answer:
            answer.raise_for_status()
            found = io.BytesIO()
            for piece in answer.iter_bytes():
                found.write(piece)
                if found.tell() > MOST_BYTES:
                    raise FetchFailed(f"{url} gives more than {MOST_BYTES >> 20} MiB")
            return found.getvalue()
    except httpx.HTTPStatusError as error:
        raise FetchFailed(f"{url} answered with HTTP {error.response.status_code}") from None
    except httpx.HTTPError as error:
        raise FetchFailed(f"{url} did not answer ({type(error).__name__})") from None


def _member(data: bytes, name: str, url: str) -> bytes:
    """The one file of that name out of a tar archive; nothing else of it is looked at."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            found = next((entry for entry in archive if entry.isfile() and Path(entry.name).name == name and entry.size <= MOST_BYTES), None)
            if found is not None:
                return archive.extractfile(found).read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise FetchFailed(f"what {url} gave is no archive ({type(error).__name__})") from None
    raise FetchFailed(f"{url} has no {name} in it")


def _by_pyngrok(place: Path) -> str:
    """pyngrok knows where ngrok's programs lie. It would put the token into an argument, so it only fetches."""
    from pyngrok import installer
    from pyngrok.exception import PyngrokError

    try:
        installer.install_ngrok(str(place))
    except (PyngrokError, OSError) as error:
        raise FetchFailed(f"pyngrok could not fetch it ({type(error).__name__})") from None
    return str(place)
