"""Run as a process of its own: a depot where the system says no. It really is refused: by the interpreter's audit hook, which
comes before the system call, for links; by the kernel, as a user without rights, for folders.

    python limited.py symlink|links|readonly FOLDER
"""

import concurrent.futures.thread  # noqa: F401 (read before the rights to read it are given up)
import errno
import fcntl  # noqa: F401 (read before the rights to read it are given up)
import hashlib
import json
import os
import sys
import time
from pathlib import Path

from reverie.errors import ReverieError
from reverie.host.depot import bin, dedup, upkeep  # noqa: F401 (read before the rights to read them are given up)
from reverie.host.depot import Depot

A = b"a" * 200_000
SHA = hashlib.sha256(A).hexdigest()
OLD = time.time() - 10 * 86400


def refuse(*events):
    def watch(event, args):
        if event in events:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(args[0]))

    sys.addaudithook(watch)


def lay(path, data=A):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (OLD, OLD))
    return path


def without_links(top):
    """What a depot does there, from keeping to taking away."""
    said = {}
    with Depot(top / "S") as depot:
        depot.keep(lay(top / "x"), SHA, kind="lora", name="x.safetensors")
        at = top / "S/webuis/forge/x.safetensors"
        said["way"], said["again"] = depot.expose(SHA, at, "forge"), depot.expose(SHA, at, "forge")
        said["same file"] = at.stat().st_ino == depot.blob(SHA).stat().st_ino
        files = [lay(top / f"S/webuis/{view}/m.safetensors") for view in ("a", "b")]
        report = depot.dedup([top / "S/webuis"])
        said["freed"], said["changes"] = report.freed_bytes, len(report.changes)
        said["right"] = all(path.read_bytes() == A for path in (*files, at))
        said["again freed"] = depot.dedup([top / "S/webuis"]).freed_bytes
        said["problems"] = [problem.what for problem in depot.verify()]
        said["garbage"] = len(depot.gc(grace_s=0).changes)
        lay(at.with_name("theirs.safetensors"), b"b" * 200_000)
        if said["way"] == "copy":
            at.write_bytes(b"trained further")
            said["edited copy stays"] = not depot.withdraw(at) and at.read_bytes() == b"trained further"
        else:
            said["withdrawn"] = depot.withdraw(at) and not at.exists()
    return said


def readonly(top):
    """Folders that may only be read, with rights of nobody in particular."""
    with Depot(top / "S") as depot:
        depot.keep(lay(top / "x"), SHA, kind="lora", name="x.safetensors")
    closed = [lay(top / f"closed/{name}.safetensors") for name in "ab"]
    lay(top / "S/models/loras/secret.safetensors"), lay(top / "S/models/loras/open.safetensors")
    for path in [top, *top.rglob("*")]:
        os.chown(path, 65534, 65534) if os.geteuid() == 0 else None
    (top / "S/models/loras/secret.safetensors").chmod(0)
    (top / "closed").chmod(0o555)
    if os.geteuid() == 0:
        os.setgid(65534), os.setuid(65534)
    said = {}
    with Depot(top / "S") as depot:
        try:
            depot.expose(SHA, top / "closed/new.safetensors", "x")
        except ReverieError as error:
            said["sentence"] = str(error)
        report = depot.dedup([top / "closed", top / "S/models"])
        said["skipped"] = {path.name: why for path, why in report.skipped}
        said["right"] = all(path.read_bytes() == A and not path.is_symlink() for path in closed)
        said["linked"] = [change.path.name for change in report.changes]
        said["links"] = [link.path.name for link in depot.links()]
        said["left"] = sorted(path.name for path in (top / "closed").iterdir())
    (top / "S").chmod(0o555)
    (top / "S/depot.sqlite3").unlink() if os.access(top / "S", os.W_OK) else None
    try:
        Depot(top / "S" / "below").close()
    except ReverieError as error:
        said["storage"] = str(error)
    (top / "S").chmod(0o755), (top / "closed").chmod(0o755)
    return said


def main(what, folder):
    top = Path(folder)
    if what == "readonly":
        said = readonly(top)
    else:
        refuse("os.symlink", *["os.link"] * (what == "links"))
        said = without_links(top)
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
