"""The ways in which one file is seen at a second place: symbolic link, hard link, copy. Nothing here overwrites unasked.

A symbolic link needs no room and works across disks. Windows allows it only with developer mode or as administrator (error 1314),
Google Drive's and FAT's file systems not at all; a hard link works within one NTFS or Linux file system. What is left is a copy,
which shares its blocks where the file system can (btrfs, XFS, APFS). Windows' junctions are for folders only, so files never use them.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import stat as modes
from pathlib import Path

from reverie.errors import DiskFull

WAYS = ("symlink", "hardlink", "copy")
STAGED = ".reverie-link"  # ends the name of what is being made beside its place; the cleaner knows it
SPARE_BYTES = 64 << 20
_FICLONE = 0x40049409
_number = itertools.count()


def lstat(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def identity(stat: os.stat_result) -> str:
    """Which file this is, as text: Windows' numbers do not fit into SQLite's."""
    return f"{stat.st_dev}:{stat.st_ino}"


def target(blob: Path, at: Path, storage: Path) -> str:
    """What a symbolic link at `at` says: relative inside the storage, so that the storage can move, else absolute."""
    folder, home = os.path.realpath(at.parent), os.path.realpath(storage)
    if os.path.commonpath([folder, home]) == home if _same_drive(folder, home) else False:
        return os.path.relpath(os.path.join(home, os.path.relpath(blob, storage)), folder)
    return str(blob)


def points_to(at: Path) -> str:
    """The absolute place that a symbolic link names, whether or not it is there; "" if `at` is none."""
    try:
        said = os.readlink(at)
    except (OSError, ValueError):
        return ""
    return os.path.normpath(os.path.join(os.path.realpath(at.parent), said))


def make(way: str, blob: Path, at: Path, storage: Path) -> None:
    """See `blob` at `at`, where nothing may be yet (FileExistsError). OSError where this way is not to be had there."""
    if way == "symlink":
        os.symlink(target(blob, at, storage), at)
    elif way == "hardlink":
        os.link(blob, at)
    else:
        copy(blob, at)


def staging(at: Path) -> Path:
    """A name beside `at` that nobody else uses."""
    return at.with_name(f".{at.name[:180]}.{os.getpid()}-{next(_number)}{STAGED}")


def copy(source: Path, at: Path) -> None:
    """A whole copy at `at`, on the disk before it has its name; shares blocks where it can. DiskFull, FileExistsError."""
    if (lacking := source.stat().st_size + SPARE_BYTES - shutil.disk_usage(at.parent).free) > 0 and not _may_share(source, at):
        raise DiskFull(f"There is no room for a copy of {at.name}: {lacking / 1e9:.2f} GB are missing.", "Free some space and try again.")
    part = staging(at)
    try:
        with open(source, "rb") as reader, open(part, "xb") as writer:
            if not _clone(reader, writer):
                shutil.copyfileobj(reader, writer, 4 << 20)
            writer.flush()
            os.fsync(writer.fileno())
        publish(part, at)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"The disk became full while {at.name} was copied.", "Free some space and try again.") from error
        raise
    finally:
        part.unlink(missing_ok=True)


def publish(part: Path, at: Path) -> None:
    """`part` gets the name `at`, unless something has it (FileExistsError)."""
    try:
        os.link(part, at)
    except FileExistsError:
        raise
    except OSError:  # no hard links here: the moment between the look and the move is the best there is
        if os.path.lexists(at):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(at)) from None
        os.rename(part, at)
    else:
        os.unlink(part)


def move(source: Path, to: Path, contested: bool = True) -> None:
    """`source` becomes `to`, also across disks; it is whole at one of the two at every moment. FileExistsError, DiskFull.

    `contested`: others may put something at `to` at this moment. Then a file gets its new name before it loses the old one,
    and whoever is killed in between leaves both.
    """
    if os.path.lexists(to):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(to))
    try:
        publish(source, to) if contested and is_regular(lstat(source)) else os.rename(source, to)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_over(source, to)


def _move_over(source: Path, to: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        part = staging(to)
        try:
            shutil.copytree(source, part, symlinks=True)
            os.rename(part, to)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(source)
    elif source.is_symlink():
        os.symlink(os.readlink(source), to)
        os.unlink(source)
    else:
        stat = source.stat()
        copy(source, to)
        with contextlib.suppress(OSError):
            shutil.copystat(source, to)
        if (now := lstat(source)) and (now.st_size, now.st_mtime_ns) == (stat.st_size, stat.st_mtime_ns):
            os.unlink(source)


def replace(way: str, blob: Path, at: Path, storage: Path) -> None:
    """As `make`, in place of what is at `at`, in one step."""
    part = staging(at)
    try:
        make(way, blob, part, storage)
        os.replace(part, at)
    finally:
        part.unlink(missing_ok=True)  # also left where both names are hard links to one file already


def sync_folder(folder: Path) -> None:
    """What was renamed in `folder` is on the disk; Windows has no such call."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError:
            pass  # some network file systems know no such thing for folders
        finally:
            os.close(descriptor)


def blocks(stat: os.stat_result) -> int:
    """Bytes that a file really takes on the disk: less than its size if it has holes. Its size on Windows, and for what is so
    small that it lies within its inode."""
    taken = getattr(stat, "st_blocks", None)
    return stat.st_size if taken is None else taken * 512


def is_regular(stat: os.stat_result | None) -> bool:
    return stat is not None and modes.S_ISREG(stat.st_mode)


def _same_drive(one: str, other: str) -> bool:
    return os.path.splitdrive(one)[0].lower() == os.path.splitdrive(other)[0].lower()


def _clone(reader, writer) -> bool:
    """Share the blocks of one file with another (Linux: btrfs, XFS, bcachefs)."""
    try:
        import fcntl

        fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        return True
    except (ImportError, OSError):
        return False


def _may_share(source: Path, at: Path) -> bool:
    """Whether a copy may need no room: found out with an empty clone's worth of trouble, so only asked when the disk is nearly full."""
    probe = staging(at)
    try:
        with open(source, "rb") as reader, open(probe, "xb") as writer:
            return _clone(reader, writer)
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
