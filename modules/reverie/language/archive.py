"""A zip that somebody sent: its parts are read within limits, whatever its directory claims."""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from pathlib import Path
from urllib.parse import unquote

from reverie.errors import BadInput

#: Bytes of one part and of all parts that are read, and how many times smaller a large part may be when packed.
PART_BYTES, TOTAL_BYTES, RATIO = 64 * 2**20, 192 * 2**20, 250
_SMALL = 4 * 2**20  # below this the ratio does not matter
_ENTRIES = 50_000

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_AGAIN = "Save or download the book again, or give it as .md or .txt."


class Archive:
    """The parts of a zip file by name. BadInput for what is no zip, is broken, locked, or far larger than a book."""

    def __init__(self, path: Path):
        self.name = path.name
        try:
            _refuse_other_kinds(path)
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
            raise self._broken() from error
        except OSError as error:
            raise BadInput(f"'{path}' cannot be read ({error.strerror or error}).", "Check that the file is there and readable.") from error
        self._left = TOTAL_BYTES
        self.names = [info.filename for info in self._zip.infolist()]
        if len(self.names) > _ENTRIES:
            self._zip.close()
            raise self._too_large()
        self._real = {name.casefold(): name for name in reversed(self.names)}

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_) -> None:
        self._zip.close()

    def read(self, name: str | None) -> bytes | None:
        """The bytes of a part; None where there is no such part or it is damaged."""
        name = self._real.get((name or "").casefold())
        if name is None:
            return None
        info = self._zip.getinfo(name)
        if info.flag_bits & 1:
            raise BadInput(f"'{self.name}' is a zip with a password.", "Save it without a password and give that.")
        if info.file_size > _SMALL and info.file_size > RATIO * max(1, info.compress_size):
            raise self._too_large()
        most = min(PART_BYTES, self._left)
        try:
            with self._zip.open(info) as part:
                data = part.read(most + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError, RuntimeError):
            return None
        if len(data) > most:
            raise self._too_large()
        self._left -= len(data)
        return data

    def inside(self, base: str, href: str) -> str | None:
        """The part that a link in the part `base` means; None where it leaves the archive or names nothing in it."""
        path = unquote(href.split("#")[0].split("?")[0]).replace("\\", "/")
        joined = posixpath.normpath(posixpath.join(posixpath.dirname(base), path)) if path else base
        return None if joined.startswith(("/", "..")) else self._real.get(joined.casefold())

    def _broken(self) -> BadInput:
        return BadInput(f"'{self.name}' is broken or not complete.", _AGAIN)

    def _too_large(self) -> BadInput:
        return BadInput(f"'{self.name}' unpacks to far more than a book.", "Give the book's own file, or its text as .md or .txt.")


def _refuse_other_kinds(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(8)
        if head.startswith(_OLE):
            locked = _ENCRYPTED in head + file.read(PART_BYTES)
            what = "is locked with a password" if locked else "is an old Word document (.doc) under another name"
            raise BadInput(f"'{path.name}' {what}.", f"Open it in a word processor and save it as .docx{' without a password' * locked}.")
    if head.startswith(b"{\\rtf"):
        raise BadInput(f"'{path.name}' is RTF under another name.", "Open it in a word processor and save it as .docx.")
