"""Writing an archive's entries below one folder and nowhere else, within limits."""

from __future__ import annotations

import os
import re
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from reverie.errors import BadInput, Cancelled, DiskFull

CHUNK = 1 << 20
_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.I)


@dataclass(frozen=True)
class Limits:
    """`max_bytes` of all that is unpacked; `max_ratio` of that to the archive, once there are `free_of_ratio_bytes` of it;
    `reserve_bytes` that must stay free on the disk."""

    max_bytes: int = 200 << 30
    max_ratio: float = 100
    free_of_ratio_bytes: int = 64 << 20
    max_files: int = 500_000
    reserve_bytes: int = 64 << 20


@dataclass
class Unpacked:
    """`left_out`: links that lead out of the target, not made where `links_out` is "leave out"."""

    files: int = 0
    bytes: int = 0
    left_out: list[str] = field(default_factory=list)


class Writer:
    """Writes an archive's entries below `root`; links are made last, so that nothing is ever written through one."""

    def __init__(self, archive: Path, root: Path, limits: Limits, links_out: str, folds_case: bool, cancelled):
        self.archive, self.root, self.limits, self.links_out, self.folds_case, self.cancelled = archive, root, limits, links_out, folds_case, cancelled
        self.size = archive.stat().st_size
        self.done, self.links, self.seen, self.entries = Unpacked(), {}, {}, 0

    def refuse(self, name: str, what: str):
        raise BadInput(f"{self.archive.name} is not safe to unpack: '{name[:120]!s}' {what}.", "Get it from somewhere you trust; nothing was unpacked.")

    def expect(self, size: int, files: int) -> None:
        self.within(size)
        if files > self.limits.max_files:
            raise BadInput(f"{self.archive.name} has {files} files, more than the {self.limits.max_files} allowed.", "Check where it comes from.")

    def within(self, count: int) -> None:
        """`count` bytes unpacked are still no explosion, and nobody has cancelled."""
        if self.cancelled():
            raise Cancelled(f"Unpacking {self.archive.name} was cancelled.", "Call it again; the archive is still here.")
        if count > self.limits.max_bytes or count > max(self.limits.free_of_ratio_bytes, self.limits.max_ratio * self.size):
            where = "Check where it comes from; nothing was unpacked."
            raise BadInput(f"{self.archive.name} ({gigabytes(self.size)}) explodes to more than {gigabytes(count)} when it is unpacked.", where)

    def place(self, name: str) -> Path | None:
        """Where `name` goes, with the folders above it; None for the archive's own root."""
        self.entries += 1
        if self.entries > self.limits.max_files:
            self.expect(0, self.entries)
        if any(ord(letter) < 32 for letter in name):
            self.refuse(ascii(name), "has a control character in its name")
        flat = name.replace("\\", "/")
        if flat.startswith("/") or re.match(r"[A-Za-z]:", flat):
            self.refuse(name, "is an absolute path")
        parts = [part for part in flat.split("/") if part not in ("", ".")]
        if ".." in parts:
            self.refuse(name, "leads out of the folder")
        if self.folds_case and os.name == "nt" and any(_WINDOWS.match(part) or part.endswith((".", " ")) for part in parts):
            self.refuse(name, "is no file name that Windows can have")
        if not parts:
            return None
        self.case(parts)
        target = self.root
        for part in parts[:-1]:
            target = target / part
            if target in self.links or target.is_symlink() or target.is_file():
                self.refuse(name, f"goes through '{target.relative_to(self.root)}', which is no folder")
            target.mkdir(exist_ok=True)
        return target / parts[-1]

    def case(self, parts: list[str]) -> None:
        """Each path keeps one spelling, where the disk cannot tell two apart."""
        for depth in range(1, len(parts) + 1) if self.folds_case else ():
            path = "/".join(parts[:depth])
            if self.seen.setdefault(path.casefold(), path) != path:
                self.refuse(path, f"and '{self.seen[path.casefold()]}' differ by case only")

    def folder(self, name: str) -> None:
        target = self.place(name)
        if target is not None:
            if target in self.links or target.exists() and not target.is_dir():
                self.refuse(name, "is there twice")
            target.mkdir(exist_ok=True)

    def new(self, name: str) -> Path:
        target = self.place(name)
        if target is None or target in self.links or os.path.lexists(target):
            self.refuse(name, "is there twice")
        return target

    def file(self, name: str, source: BinaryIO, size: int, mode: int) -> None:
        target = self.new(name)
        if mode & (stat.S_ISUID | stat.S_ISGID):
            self.refuse(name, "would run with somebody else's rights (set-uid)")
        if size + self.limits.reserve_bytes > shutil.disk_usage(self.root).free:
            raise DiskFull(f"The disk is full: '{name[:120]}' of {self.archive.name} takes {gigabytes(size)}.", "Free some space; what was begun is removed.")
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0), 0o644)
        try:
            with os.fdopen(handle, "wb") as file:
                while data := source.read(CHUNK):
                    file.write(data)
                    self.done.bytes += len(data)
                    self.within(self.done.bytes)
        except OSError as error:
            if error.errno is not None and "space" in (error.strerror or "").lower():
                raise DiskFull(f"The disk is full: {self.archive.name} does not fit.", "Free some space; what was begun is removed.") from None
            raise
        if mode & 0o100:
            os.chmod(target, 0o755)
        self.done.files += 1

    def same(self, name: str, other: str) -> None:
        """A hard link: only to a file of this archive that was written already."""
        source = self.place(other)
        target = self.new(name)
        if source is None or not (source.is_file() and not source.is_symlink()):
            self.refuse(name, f"is a link to '{other[:120]}', which is no file of this archive")
        try:
            os.link(source, target)
        except OSError:
            self.done.bytes += source.stat().st_size
            self.within(self.done.bytes)
            shutil.copy2(source, target)
        self.done.files += 1

    def link(self, name: str, to: str) -> None:
        target = self.new(name)
        if not to or "\0" in to:
            self.refuse(name, "is a link to nothing")
        self.links[target] = to

    def finish(self) -> None:
        """Make the links, then look where each really leads: a chain of them may go further than each alone."""
        for target, to in self.links.items():
            if re.match(r"[/\\]|[A-Za-z]:", to):
                self.out(target, to)
            else:
                os.symlink(to, target)
        root = self.root.resolve()
        for target in [target for target in self.links if target.is_symlink()]:
            if not Path(os.path.realpath(target)).is_relative_to(root):
                to = os.readlink(target)
                target.unlink()
                self.out(target, to)

    def out(self, target: Path, to: str) -> None:
        name = target.relative_to(self.root).as_posix()
        if self.links_out != "leave out":
            self.refuse(name, f"is a link that leads out of the folder, to '{to[:120]}'")
        self.done.left_out.append(name)


def folds(folder: Path) -> bool:
    """Whether the disk takes `A` and `a` for one file."""
    probe = folder / ".Case"
    probe.write_bytes(b"")
    try:
        return (folder / ".cASE").exists()
    finally:
        probe.unlink()


def gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
