"""Unpacking archives that others made: zip, tar, and tar under gzip, bzip2, xz or lz4, told apart by their first bytes.

Nothing is written outside the target, no device and no set-uid file is made, a small file that explodes is stopped while it does,
and the target appears whole or not at all: everything is written beside it and moved at the end.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Callable

from reverie.errors import BadInput, DiskFull, StoreFailed
from reverie.host import storage
from reverie.host.webuis.archive_writer import CHUNK, Limits, Unpacked, Writer, folds, gigabytes

_KINDS = {b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x04\x22\x4d\x18": "lz4"}
_FOREIGN = {b"\x28\xb5\x2f\xfd": "zstd", b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!": "rar"}
_LOG = {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}


def kind(path: Path) -> str:
    """zip, tar, gz, bz2, xz or lz4, by its first bytes. BadInput where it is none of them."""
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}).", "Check the path.") from None
    for magic, name in _FOREIGN.items():
        if head.startswith(magic):
            raise BadInput(f"{path.name} is a {name} archive, which cannot be read.", "Pack it again as zip, tar.xz or tar.lz4.")
    found = next((name for magic, name in _KINDS.items() if head.startswith(magic)), "tar" if head[257:262] == b"ustar" else "")
    if not found and tarfile.is_tarfile(path):  # the oldest tars have no mark
        found = "tar"
    if not found:
        what = "a web page" if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")) else "no archive"
        raise BadInput(f"{path.name} is {what}.", "Give a zip, tar, tar.gz, tar.bz2, tar.xz or tar.lz4.")
    return found


def least_bytes(path: Path) -> int:
    """What the archive will take unpacked, at the least: what it says itself, or its own size where it does not say."""
    found = kind(path)
    if found == "zip":
        with _readable(path), zipfile.ZipFile(path) as archive:
            return sum(item.file_size for item in archive.infolist())
    if found == "lz4":
        import lz4.frame

        with _readable(path), open(path, "rb") as file:
            return max(lz4.frame.get_frame_info(file.read(64))["content_size"], path.stat().st_size)
    return path.stat().st_size


def unpack(
    archive: Path, into: Path, *, limits: Limits = Limits(), links_out: str = "refuse", folds_case: bool | None = None,
    on_progress: Callable[[int, int], None] | None = None, cancelled: Callable[[], bool] = lambda: False,
) -> Unpacked:
    """The archive's contents as the folder `into`, which must not be there yet.

    `on_progress` gets the archive's bytes read and how many there are. `links_out` "leave out" does not make links that lead out
    (an environment's link to its Python); `folds_case` refuses names that differ by case only, None: where the disk would mix
    them up. BadInput for what is wrong with the archive, DiskFull, Cancelled; nothing is left behind then.
    """
    if into.exists() or into.is_symlink():
        raise StoreFailed(f"{into} is there already.", "Move it away, or choose another name.")
    found, needs, free = kind(archive), least_bytes(archive), storage.free(into)
    if needs + limits.reserve_bytes > free:
        raise DiskFull(f"{archive.name} takes {gigabytes(needs)} unpacked, and {gigabytes(free)} are free.", "Free some space; nothing was unpacked.")
    staging = into.with_name(f".{into.name}.unpacking")
    remove(staging)
    into.parent.mkdir(parents=True, exist_ok=True)
    staging.mkdir(mode=0o755)
    writer = Writer(archive, staging, limits, links_out, folds(staging) if folds_case is None else folds_case, cancelled)
    try:
        with _readable(archive):
            (_unzip if found == "zip" else _untar)(archive, found, writer, on_progress or (lambda done, size: None))
            writer.finish()
        os.replace(staging, into)
    except BaseException:
        remove(staging)
        raise
    return writer.done


def remove(path: Path) -> None:
    """The path and all below it, as far as it goes; folders without write permission are opened for it."""

    def again(function, name, error):
        try:
            os.chmod(os.path.dirname(name), 0o700)
            if os.path.isdir(name) and not os.path.islink(name):
                os.chmod(name, 0o700)
            function(name)
        except OSError:
            pass

    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    elif path.exists():
        shutil.rmtree(path, onerror=again)


# ------------------------------------------------------------------------------------------------------------------ reading


@contextmanager
def _readable(archive: Path):
    """What the libraries raise at an archive that is cut off, damaged or locked becomes one sentence."""
    import lzma

    damaged = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError, UnicodeError, ValueError, OSError)
    try:
        yield
    except damaged as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's, not the archive's: gzip and bz2 raise theirs without a number
        said = " ".join(str(error).split())[:150] or type(error).__name__
        if "password" in said or "encrypted" in said:
            raise BadInput(f"{archive.name} is locked with a password.", "Unpack it yourself, and pack it again without one.") from None
        raise BadInput(f"{archive.name} is cut off or damaged ({said}).", "Fetch it again.") from error


def _unzip(path: Path, found: str, writer: Writer, on_progress) -> None:
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        items = archive.infolist()
        packed = sum(item.compress_size for item in items) or 1
        writer.expect(sum(item.file_size for item in items), len(items))
        done = 0
        for item in items:
            mode = item.external_attr >> 16 if item.create_system == 3 else 0
            if item.flag_bits & 1:
                raise RuntimeError("encrypted")
            if item.is_dir():
                writer.folder(item.filename)
            elif stat.S_ISLNK(mode):
                if item.file_size > 4096:
                    writer.refuse(item.filename, "is a link with a target of more than 4096 letters")
                writer.link(item.filename, archive.read(item).decode("utf-8"))
            elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                writer.refuse(item.filename, "is a device or pipe")
            else:
                with archive.open(item) as source:
                    writer.file(item.filename, source, item.file_size, mode)
            done += item.compress_size
            on_progress(min(size, done * size // packed), size)
    on_progress(size, size)


def _untar(path: Path, found: str, writer: Writer, on_progress) -> None:
    size = path.stat().st_size
    with open(path, "rb") as file:
        stream = _Watched(_opened(found, _Told(file, size, on_progress)), writer)
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_TarInfo, errors="strict") as archive:
            for item in archive:
                if item.isdir():
                    writer.folder(item.name)
                elif item.issym():
                    writer.link(item.name, item.linkname)
                elif item.islnk():
                    writer.same(item.name, item.linkname)
                elif item.isreg():
                    writer.file(item.name, archive.extractfile(item), item.size, item.mode)
                else:
                    writer.refuse(item.name, "is a device or pipe")
        if stream.tail.strip(b"\0"):  # a tar ends with empty blocks
            raise EOFError("it ends in the middle")
        while stream.read(CHUNK):  # to the sums at the end
            pass
    on_progress(size, size)


def _opened(found: str, file) -> BinaryIO:
    import bz2
    import gzip
    import lzma

    import lz4.frame

    ways = {"gz": gzip.GzipFile, "bz2": bz2.BZ2File, "xz": lzma.LZMAFile, "lz4": lz4.frame.LZ4FrameFile}
    return file if found == "tar" else ways[found](filename=None, fileobj=file, mode="rb") if found == "gz" else ways[found](file, "rb")


class _TarInfo(tarfile.TarInfo):
    """Headers that are read into memory whole stay small."""

    def _proc_member(self, tar):
        if self.type in _LOG and self.size > CHUNK:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(tar)


class _Told:
    """A file that tells how far it was read."""

    def __init__(self, file: BinaryIO, size: int, on_progress):
        self.file, self.size, self.on_progress, self.done = file, size, on_progress, 0

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        if (self.done + len(data)) // CHUNK > self.done // CHUNK:
            self.on_progress(self.done + len(data), self.size)
        self.done += len(data)
        return data

    def __getattr__(self, name):
        return getattr(self.file, name)


class _Watched:
    """The unpacked stream; what it gives counts against the limits, also where it belongs to no file."""

    def __init__(self, stream: BinaryIO, writer: Writer):
        self.stream, self.writer, self.count, self.tail = stream, writer, 0, b""

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        if data:
            self.count += len(data)
            self.tail = (self.tail + data)[-512:]
            self.writer.within(self.count)
        return data
