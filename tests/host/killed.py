"""Run as a process of its own: does a job again and again in a forked child that is killed (SIGKILL) at its Nth call that
changes the file system, or at a random moment; after each, looks whether anything was lost. Ends with 0 and the number of kills.

    python killed.py JOB FOLDER [RANDOM_KILLS] [symlink,link: what this file system does not have]
"""

import errno
import hashlib
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from reverie.host.depot.bin import Bin
from reverie.host.depot import Depot

STEPS = {"os.rename", "os.link", "os.symlink", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
OLD = time.time() - 10 * 86400
A, B, OWN = (os.urandom(300_000) for _ in range(3))
SHA = hashlib.sha256(A).hexdigest()


def lay(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (OLD, OLD))
    return path


class Keeping:
    """A download is kept with its preview and shown in two WebUIs."""

    def prepare(self, top):
        lay(top / "S/downloads/x.whole", A)

    def job(self, top):
        with Depot(top / "S") as depot:
            depot.keep(top / "S/downloads/x.whole", SHA, kind="lora", name="x.safetensors", url="https://a/x", sidecars={".preview.png": b"picture"})
            for at in self.places(top):
                depot.expose(SHA, at, at.parts[-3])

    def places(self, top):
        return [top / "S/models/loras/x.safetensors", top / "S/webuis/forge/models/Lora/x.safetensors"]

    def check(self, top):
        with Depot(top / "S") as depot:
            assert any(path.exists() and path.read_bytes() == A for path in (top / "S/downloads/x.whole", depot.blob(SHA))), "the bytes are gone"
            for at in self.places(top):
                assert not os.path.lexists(at) or at.read_bytes() == A
            assert not [p for p in depot.verify() if "bytes" in p.what]

    def end(self, top):
        with Depot(top / "S") as depot:
            assert [at for at in self.places(top) if at.read_bytes() == A] == self.places(top)
            assert len(depot.links()) == 2 and depot.find(url="https://a/x")[0].name == "x.safetensors"
            assert (top / "S/webuis/forge/models/Lora/x.preview.png").read_bytes() == b"picture"


class Updating:
    """A link of ours gets the bytes of a newer version."""

    def prepare(self, top):
        with Depot(top / "S") as depot:
            depot.keep(lay(top / "S/downloads/x", A), SHA, kind="lora", name="x.safetensors")
            depot.expose(SHA, top / "S/models/loras/x.safetensors", "models")
            depot.keep(lay(top / "S/downloads/x", B), hashlib.sha256(B).hexdigest(), kind="lora", name="x2.safetensors")

    def job(self, top):
        with Depot(top / "S") as depot:
            depot.expose(hashlib.sha256(B).hexdigest(), top / "S/models/loras/x.safetensors", "models")

    def check(self, top):
        assert (top / "S/models/loras/x.safetensors").read_bytes() in (A, B)

    def end(self, top):
        assert (top / "S/models/loras/x.safetensors").read_bytes() == B
        with Depot(top / "S") as depot:
            assert len(depot.links()) == 1 and depot.withdraw(top / "S/models/loras/x.safetensors")


class Dedup:
    """What is there three times is stored once, across two WebUIs and a hard link."""

    files = {"S/models/loras/a.safetensors": A, "S/webuis/x/a.safetensors": A, "S/webuis/y/a.safetensors": A,
             "S/webuis/y/b.ckpt": B, "S/webuis/x/b.ckpt": B, "S/webuis/x/own.safetensors": OWN}

    def prepare(self, top):
        for name, data in self.files.items():
            lay(top / name, data)
        os.link(top / "S/webuis/x/b.ckpt", top / "S/webuis/x/b2.ckpt")

    def job(self, top):
        with Depot(top / "S") as depot:
            depot.dedup([top / "S/models", top / "S/webuis"])

    def check(self, top):
        for name, data in {**self.files, "S/webuis/x/b2.ckpt": B}.items():
            assert (top / name).read_bytes() == data, name
        with Depot(top / "S") as depot:
            assert not [p for p in depot.verify() if "bytes" in p.what or "nowhere" in p.what]

    def end(self, top):
        assert sum((top / name).is_symlink() for name in self.files) == 5 and not (top / "S/webuis/x/own.safetensors").is_symlink()


class Undo(Dedup):
    """The same, back again."""

    def prepare(self, top):
        super().prepare(top)
        Dedup.job(self, top)

    def job(self, top):
        from reverie.host.depot.upkeep import last_run

        with Depot(top / "S") as depot:
            if last_run(depot):
                depot.undo()

    def end(self, top):
        assert not any((top / name).is_symlink() for name in self.files)


class Garbage:
    """One model lost its links, another has one."""

    def prepare(self, top):
        with Depot(top / "S") as depot:
            for data in (A, B):
                sha = hashlib.sha256(data).hexdigest()
                depot.keep(lay(top / "S/downloads" / sha, data), sha, kind="lora", name=sha, sidecars={".json": b"{}"})
            depot.expose(sha, top / "S/models/loras/b.safetensors", "models")

    def job(self, top):
        with Depot(top / "S") as depot:
            depot.gc(grace_s=0)

    def check(self, top):
        assert (top / "S/models/loras/b.safetensors").read_bytes() == B
        bin = Bin(top / "S")
        with Depot(top / "S") as depot:
            here = depot.has(SHA)
            inside = [e for e in bin.list() if any(origin.endswith(SHA) for origin in e.origins) and (bin.folder / e.id / "0").exists()]
            assert here or len(inside) == 1 and (bin.folder / inside[0].id / "0").read_bytes() == A

    def end(self, top):
        with Depot(top / "S") as depot:
            assert not depot.has(SHA) and not depot.find(sha256=SHA)
            for entry in Bin(top / "S").list():
                Bin(top / "S").restore(entry.id)
            assert depot.find(sha256=SHA)[0].path.read_bytes() == A


class ThroughTheBin:
    """A file and a folder go into the bin, come back, and go again for good."""

    def prepare(self, top):
        lay(top / "S/outputs/a.png", A)
        lay(top / "S/outputs/old/b.png", B)
        lay(top / "S/outputs/rubbish.png", OWN)

    def job(self, top):
        bin = Bin(top / "S")
        paths = [path for path in (top / "S/outputs/a.png", top / "S/outputs/old") if path.exists()]
        if paths:
            bin.put(paths, "old")
        for entry in bin.list():
            if entry.why == "old":
                bin.restore(entry.id)
        if (top / "S/outputs/rubbish.png").exists():
            bin.put([top / "S/outputs/rubbish.png"], "rubbish")
        bin.empty([entry.id for entry in bin.list() if entry.why == "rubbish"])

    def check(self, top):
        there = {path.read_bytes() for path in (top / "S").rglob("*") if path.is_file()}
        assert {A, B} <= there, "something is gone"
        known = {origin for entry in Bin(top / "S").list() for origin in entry.origins}
        for path in (top / "S/outputs/a.png", top / "S/outputs/old"):
            assert path.exists() or str(path) in known, "nobody knows where it was"

    def end(self, top):
        assert (top / "S/outputs/a.png").read_bytes() == A and (top / "S/outputs/old/b.png").read_bytes() == B
        assert not (top / "S/outputs/rubbish.png").exists() and Bin(top / "S").list() == []


def in_child(job, top, kill_at=0):
    """The job in a forked child that dies at its Nth step; its process number."""
    pid = os.fork()
    if pid:
        return pid
    count = 0

    def watch(event, args):
        nonlocal count
        if event in STEPS or event == "open" and isinstance(args[1], str) and set(args[1]) & set("wxa"):
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    try:
        job(top)
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def one(task, top, kill_at=0, after_s=None):
    """Prepare, kill, look, do it again, look at the end; whether it was killed."""
    shutil.rmtree(top, ignore_errors=True)
    top.mkdir(parents=True)
    task.prepare(top)
    pid = in_child(task.job, top, kill_at)
    if after_s is not None:
        time.sleep(after_s)
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    assert status == 0 or os.WIFSIGNALED(status), "the job failed by itself"
    task.check(top)
    pid = in_child(task.job, top)
    assert os.waitpid(pid, 0)[1] == 0, "it cannot be done again"
    task.check(top)
    task.end(top)
    return os.WIFSIGNALED(status)


def refused(*_args, **_more):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def main(name, folder, random_kills="0", without=""):
    for call in filter(None, without.split(",")):
        setattr(os, call, refused)
    task, top, kills = {cls.__name__: cls for cls in (Keeping, Updating, Dedup, Undo, Garbage, ThroughTheBin)}[name](), Path(folder), 0
    while one(task, top, kill_at=kills + 1):
        kills += 1
    for _ in range(int(random_kills)):
        kills += one(task, top, after_s=random.random() * 0.03)
    print(kills)


if __name__ == "__main__":
    main(*sys.argv[1:])
