"""Whatever is done to a depot, in whatever order: no byte that anybody reaches is lost, and nobody's file is touched."""

import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from reverie.errors import BadInput, NotFound
from reverie.host.depot.bin import Bin
from reverie.host.depot import Depot
from reverie.host.depot.upkeep import last_run

CONTENTS = [letter * 70_000 for letter in (b"a", b"b", b"c")]
HASHES = [hashlib.sha256(data).hexdigest() for data in CONTENTS]
NAMES = ["models/loras/one.safetensors", "models/loras/two.safetensors", "webuis/forge/models/Lora/one.safetensors", "webuis/comfyui/models/loras/x.safetensors"]
OLD = time.time() - 10 * 86400
content, place = st.integers(0, 2), st.sampled_from(NAMES)


class Machine(RuleBasedStateMachine):
    """`theirs`: place → the bytes of what the user put there; `ours`: place → the bytes that our link there must show."""

    def __init__(self):
        super().__init__()
        self.top = Path(tempfile.mkdtemp(prefix="reverie-machine-"))
        self.storage = self.top / "S"
        self.depot = Depot(self.storage)
        self.theirs, self.ours, self.kept = {}, {}, set()

    def teardown(self):
        self.depot.close()
        shutil.rmtree(self.top)

    def free(self, name):
        return name not in self.theirs and name not in self.ours

    @rule(which=content)
    def keep(self, which):
        staged = self.top / "staged"
        staged.write_bytes(CONTENTS[which])
        self.depot.keep(staged, HASHES[which], kind="lora", name=f"{which}.safetensors")
        self.kept.add(which)

    @rule(which=content, name=place)
    def expose(self, which, name):
        at = self.storage / name
        if not self.depot.has(HASHES[which]):
            with pytest.raises(NotFound):
                self.depot.expose(HASHES[which], at, "view")
        elif name in self.theirs and self.theirs[name] != CONTENTS[which]:
            with pytest.raises(BadInput):
                self.depot.expose(HASHES[which], at, "view")
        else:
            self.depot.expose(HASHES[which], at, "view")
            self.theirs.pop(name, None)  # the same bytes: it was adopted
            self.ours[name] = CONTENTS[which]

    @rule(name=place)
    def withdraw(self, name):
        assert self.depot.withdraw(self.storage / name) == (name in self.ours)
        self.ours.pop(name, None)

    @rule(which=content, name=place)
    def user_writes(self, which, name):
        if self.free(name):
            at = self.storage / name
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_bytes(CONTENTS[which])
            os.utime(at, (OLD, OLD))
            self.theirs[name] = CONTENTS[which]

    @rule(name=place)
    def user_deletes(self, name):
        if not self.free(name):
            (self.storage / name).unlink()
            self.theirs.pop(name, None), self.ours.pop(name, None)

    @rule(which=content, name=place)
    def user_links(self, which, name):
        if self.free(name) and self.depot.has(HASHES[which]):
            at = self.storage / name
            at.parent.mkdir(parents=True, exist_ok=True)
            os.symlink(self.depot.blob(HASHES[which]), at)
            with self.depot.manifest.change() as db:  # as if an hour had passed: else it could be taken for a link just about to come
                db.execute("DELETE FROM links WHERE path=?", (name,))
            self.theirs[name] = CONTENTS[which]

    @rule()
    def an_hour_passes(self):
        with self.depot.manifest.change() as db:
            db.execute("UPDATE links SET made_at=0")

    @rule()
    def gc(self):
        self.depot.gc(grace_s=0)

    @rule()
    def dedup(self):
        before = {name for name in self.theirs if not (self.storage / name).is_symlink()}
        self.depot.dedup([self.storage / "models", self.storage / "webuis"])
        for name in before:
            if (self.storage / name).is_symlink():
                self.ours[name] = self.theirs.pop(name)

    @rule()
    def undo(self):
        if last_run(self.depot):
            self.depot.undo()
            for name in [name for name in self.ours if not (self.storage / name).is_symlink()]:
                self.theirs[name] = self.ours.pop(name)

    @rule()
    def bring_back(self):
        for entry in Bin(self.storage).list():
            try:
                Bin(self.storage).restore(entry.id)
            except BadInput:  # the same bytes were kept again meanwhile
                pass

    @rule()
    def lose_the_manifest(self):
        self.depot.close()
        (self.storage / "depot.sqlite3").unlink()
        self.depot = Depot(self.storage)
        for name in [name for name in self.theirs if (self.storage / name).is_symlink()]:
            self.ours[name] = self.theirs.pop(name)  # a link to a blob is taken for ours then

    @invariant()
    def every_place_shows_its_bytes(self):
        for name, data in {**self.theirs, **self.ours}.items():
            assert (self.storage / name).read_bytes() == data, name
        for name in NAMES:
            assert os.path.lexists(self.storage / name) == (not self.free(name)), name

    @invariant()
    def every_blob_is_what_its_name_says(self):
        for blob in self.depot.stored():
            assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name

    @invariant()
    def our_links_are_known(self):
        assert {link.path for link in self.depot.links()} == {self.storage / name for name in self.ours}


Machine.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestAnyOrder = Machine.TestCase
