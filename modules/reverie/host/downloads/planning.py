"""What would be fetched, carried on with, linked, left out and refused, and whether the disk has room for it. Pure: from plain data
to a `Plan`; nothing is asked of the network or the disk here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, Iterable, Mapping

from reverie.errors import DiskFull
from reverie.host import names
from reverie.host.resources import FOLDERS, Link, Resource

ACTIONS = ("fetch", "resume", "link", "skip", "refused")
MARGIN_BYTES = 16 << 20  # for databases, logs and what the file system itself needs, beside one hundredth of what comes
MAX_NAME = 200  # bytes of one part of a name; most file systems take 255, and staging names are a little longer

_BAD_SIGNS = re.compile(r'[\x00-\x1f\x7f\\<>:"|?*]')


@dataclass(frozen=True)
class Found:
    """What one link led to: its files, or the sentence why there are none; neither, where all of it is here."""

    link: Link
    resources: tuple[Resource, ...] = ()
    refusal: str = ""


@dataclass(frozen=True)
class Place:
    """A file that lies in a folder of models: its bytes' sha256 ("" if nobody knows it) and their number."""

    sha256: str = ""
    size: int = 0


@dataclass(frozen=True)
class Here:
    """What is here already, and the room that is left.

    `kept`: sha256 of all bytes in the depot; `known`: lasting URL → sha256 of what was once fetched from there; `places`:
    (kind, name) → what lies there; `partial`: key of a resource → bytes in staging; `copies`: how many copies of each file
    the views take where no links can be made; `tokens`: names of the secrets that are set.
    """

    free_bytes: int
    kept: frozenset[str] = frozenset()
    known: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[tuple[str, str], Place] = field(default_factory=dict)
    partial: Mapping[str, int] = field(default_factory=dict)
    copies: int = 0
    tokens: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Row:
    """One file and what is to be done. `there`: bytes that are staged already; `reason`: why it is refused; `notes`: what else a
    person should know. `resource` has the name it gets (None where a link led to nothing)."""

    action: str
    kind: str
    name: str
    asked: str
    size: int = 0
    there: int = 0
    reason: str = ""
    notes: tuple[str, ...] = ()
    token: str = ""
    resource: Resource | None = None

    @property
    def moves(self) -> bool:
        """Whether bytes come over the network for it."""
        return self.action in ("fetch", "resume")

    @property
    def pickle(self) -> bool:
        """Whether it is refused for being a pickle alone, so that a person can allow it."""
        return self.action == "refused" and self.resource is not None and "--allow-pickle" in self.reason

    @property
    def to_come(self) -> int:
        return max(0, self.size - self.there) if self.moves else 0


@dataclass(frozen=True)
class Plan:
    rows: tuple[Row, ...]
    free_bytes: int
    copies: int = 0

    @property
    def fetch_bytes(self) -> int:
        """Bytes that are to come, as far as their sizes are known."""
        return sum(row.to_come for row in self.rows)

    @property
    def copy_bytes(self) -> int:
        """Bytes that views take beside the files themselves, where no links can be made."""
        return self.copies * sum(row.size for row in self.rows if row.moves or row.action == "link")

    @property
    def unknown(self) -> int:
        """How many files are to come whose size nobody tells."""
        return sum(row.moves and not row.size for row in self.rows)

    @property
    def refused(self) -> tuple[Row, ...]:
        return self.of("refused")

    @property
    def need_bytes(self) -> int:
        """Room that all this takes, with a margin where anything comes at all."""
        need = self.fetch_bytes + self.copy_bytes
        return need + need // 100 + MARGIN_BYTES if need or self.unknown else 0

    @property
    def lacking_bytes(self) -> int:
        return max(0, self.need_bytes - self.free_bytes)

    def of(self, *actions: str) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.action in actions)

    def check_room(self, where: Any = "") -> None:
        """DiskFull, before anything moves, if the disk cannot hold it."""
        if self.lacking_bytes:
            copies = f" ({size_text(self.copy_bytes)} of it for copies, since no links can be made there)" if self.copy_bytes else ""
            at = f" at {where}" if where else ""
            raise DiskFull(
                f"This takes {size_text(self.need_bytes)}{copies}, and {size_text(self.free_bytes)} are free{at}.",
                f"Free {size_text(self.lacking_bytes)} more (reverie storage says what takes how much), or choose less.",
            )


def make(found: Iterable[Found], here: Here, pickles_allowed: Iterable[str] = ()) -> Plan:
    """The plan for what the links led to, in their order. `pickles_allowed` are file names."""
    planner = _Planner(here, frozenset(pickles_allowed))
    for one in found:
        planner.add(one)
    return Plan(tuple(planner.rows), here.free_bytes, here.copies)


def size_text(count: int) -> str:
    """`6.9 GB`, `310 kB`, `0 B`; decimal, as sources give their sizes."""
    for unit, number in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= number * 0.9995:
            return f"{count / number:.1f} {unit}" if count < number * 99.95 else f"{count / number:.0f} {unit}"
    return f"{count} B"


def numbered(name: str, number: int) -> str:
    """`a.safetensors` → `a-2.safetensors`; of a folder's file the folder gets the number: `sd/unet/x` → `sd-2/unet/x`."""
    top, slash, rest = name.partition("/")
    if slash:
        return f"{top}-{number}/{rest}"
    path = PurePosixPath(name)
    return f"{path.stem}-{number}{path.suffix}"


def name_fault(kind: str, name: str) -> str:
    """Why nothing is written under that name; "" if it is a good one. Only whole folders (see FOLDERS) have "/" in theirs."""
    parts = name.split("/")
    if len(parts) > 1 and kind not in ("diffusers", "clip"):
        return "has folders in it"
    if any(part.strip() in ("", ".", "..") for part in parts):
        return "leads out of its folder" if ".." in parts else "is no file name"
    if _BAD_SIGNS.search(name):
        return "has signs in it that no file name may have"
    if any(part.endswith((" ", ".")) or part.startswith(" ") for part in parts):
        return "begins or ends with a space or a point"
    if any(len(part.encode()) > MAX_NAME for part in parts):
        return f"is longer than {MAX_NAME} bytes"
    return ""


class _Planner:
    """Rows so far, and who has which name."""

    def __init__(self, here: Here, pickles: frozenset[str]):
        self.here, self.pickles = here, pickles
        self.rows: list[Row] = []
        self.taken: dict[tuple[str, str], tuple[str, int]] = {}  # (kind, name) → whose it is, and its row
        self.coming: dict[str, int] = {}  # whose bytes come with which row
        self.places = {_spot(kind, name): place for (kind, name), place in here.places.items()}

    def add(self, found: Found) -> None:
        text = found.link.text or found.link.address
        if not found.resources:
            action, notes = ("refused", ()) if found.refusal else ("skip", ("nothing has to be fetched for it",))
            self.rows.append(Row(action, found.link.kind, found.link.name or found.link.address, text, reason=found.refusal, notes=notes))
        units: dict[tuple[str, str], list[Resource]] = {}
        for resource in found.resources:
            units.setdefault((resource.kind, resource.name.split("/")[0]), []).append(resource)
        for files in units.values():
            self._add_unit(files, text)

    def _add_unit(self, files: list[Resource], text: str) -> None:
        """A file, or all files of one folder: what has a good name and may be had gets the first name that is free for all."""
        good = []
        for resource in files:
            if why := self._refusal(resource):
                self._row("refused", resource, text, reason=why)
            else:
                good.append(resource)
        number = 1
        while any(self._clashes(resource, _under(resource, number)) for resource in good):
            number += 1
        for resource in good:
            self._settle(replace(resource, name=_under(resource, number)), text, resource.name if number > 1 else "")

    def _refusal(self, resource: Resource) -> str:
        name, kind, ending = resource.name, resource.kind, PurePosixPath(resource.name).suffix.lower()
        if kind not in FOLDERS:
            return f"Nothing says what kind of file it is. Write it before the address, such as lora:{resource.url}"
        if fault := name_fault(kind, name):
            return f"The name '{name}' {fault}. Give another one: {kind}:{resource.url}[name{ending or '.safetensors'}]"
        if names.is_pickle(name) and not self.pickles & {name, name.split("/")[-1]}:
            return (
                f"'{name}' is a pickle file, which can run any program when it is opened. Take its .safetensors version, "
                f"or allow it by name: --allow-pickle {_quoted(name)}"
            )
        if resource.token and resource.token not in self.here.tokens and not self._is_here(resource):
            return f"It needs a login. Set {resource.token} (cell 2, Tokens, or the environment) and run this again."
        return ""

    def _is_here(self, resource: Resource) -> bool:
        return self._sha(resource) in self.here.kept

    def _sha(self, resource: Resource) -> str:
        return resource.sha256 or self.here.known.get(resource.url, "")

    def _whose(self, resource: Resource) -> str:
        return self._sha(resource) or resource.url

    def _clashes(self, resource: Resource, name: str) -> bool:
        """Whether something else has that name, in this plan or on the disk."""
        spot = _spot(resource.kind, name)
        if spot in self.taken:
            return self.taken[spot][0] != self._whose(resource)
        place = self.places.get(spot)
        if place is None:
            return False
        if place.sha256:
            return place.sha256 != self._sha(resource)
        return bool(place.size and resource.size and place.size != resource.size)

    def _settle(self, resource: Resource, text: str, wished: str) -> None:
        spot, whose = _spot(resource.kind, resource.name), self._whose(resource)
        if spot in self.taken and self.taken[spot][0] == whose:
            return self._again(self.taken[spot][1])
        if spot in self.taken:  # in one folder, or it would have another number
            return self._row("refused", resource, text, reason=f"Its name differs from that of another file in case alone: {resource.name}.")
        notes = (f"'{wished}' is the name of another file, so this one gets '{resource.name}'",) if wished else ()
        self.taken[spot] = whose, len(self.rows)
        if spot in self.places:
            unsure = not self.places[spot].sha256
            self._row("skip", resource, text, notes=(*notes, *["a file of this name lies there already; it is left as it is"] * unsure))
        elif self._is_here(resource):
            self._row("link", resource, text, notes=(*notes, "its bytes are here already"))
        elif whose in self.coming:
            with_it = self.rows[self.coming[whose]].name
            self._row("link", resource, text, notes=(*notes, f"the same bytes as {with_it}"))
        else:
            self.coming[whose] = len(self.rows)
            there = self.here.partial.get(resource.key, 0)
            there = min(there, resource.size) if resource.size else there
            self._row("resume" if there else "fetch", resource, text, there=there, notes=notes)

    def _again(self, index: int) -> None:
        row, note = self.rows[index], "asked for more than once"
        self.rows[index] = replace(row, notes=row.notes if note in row.notes else (*row.notes, note))

    def _row(self, action: str, resource: Resource, text: str, **more: Any) -> None:
        same = {"kind": resource.kind, "name": resource.name, "size": resource.size, "token": resource.token}
        self.rows.append(Row(action, asked=text, resource=resource, **same, **more))


def _spot(kind: str, name: str) -> tuple[str, str]:
    """Where a file lies; two names that differ in case alone are one on Windows and macOS."""
    return kind, name.casefold()


def _under(resource: Resource, number: int) -> str:
    return resource.name if number == 1 else numbered(resource.name, number)


def _quoted(name: str) -> str:
    return f"'{name}'" if re.search(r"[^\w.\-/]", name) else name
