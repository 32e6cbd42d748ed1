"""kill -9 at any moment loses nothing, and a full disk neither."""

import random
import shutil
import subprocess

import psutil
import pytest
from fetching import both_ways, child, digest, left_of, needs_aria2, wait_for
from file_server import noise

from reverie.host.fetch import resumable
from reverie.host.fetch.pieces import BLOCK
from reverie.host.fetch.staging import Identity, Staging

DATA = noise(24_000_000, seed=4)
TMPFS = ["unshare", "-rm", "sh", "-c", 'mkdir -p "$0" && mount -t tmpfs -o size=60m tmpfs "$0" && exec "$@"']


def can_mount(folder) -> bool:
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*TMPFS, str(folder), "true"], capture_output=True, timeout=20).returncode == 0


def kill(process: subprocess.Popen) -> None:
    """With all that it started, at once."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.kill()
    process.wait()


# As weights may have them: long runs of zeros, and blocks that end with one.
HOLLOW = b"".join((noise(50_000, seed=n) if n % 3 else bytes(30_000)) + bytes(n % 7) for n in range(500))


def wrongly_claimed(folder, data: bytes) -> list[int]:
    """Blocks that a next run would not fetch, though they are not those bytes."""
    pieces, there = Staging(folder, "k").resume(Identity(len(data), '"a"')), (folder / "k.part").read_bytes()
    begins = [index * BLOCK for index, claimed in enumerate(pieces.blocks) if claimed]
    return [at for at in begins if there[at : at + BLOCK] != data[at : at + BLOCK]]


@both_ways
@pytest.mark.parametrize("known", [True, False])
def test_after_kills_at_random_moments_the_file_is_right(server, tmp_path, way, known):
    served = server.add("model.safetensors", DATA, rate=300_000, etag='"a"')
    for seed in range(3):
        process = child(server.url("model.safetensors"), tmp_path, way, DATA if known else b"")
        until = served.sent + random.Random(seed).randint(1_000_000, 9_000_000)
        wait_for(lambda: served.sent >= until)
        kill(process)
        assert not wrongly_claimed(tmp_path, DATA) and served.sent - resumable(tmp_path, "k") < 0.2 * served.sent
    served.rate = 0
    out, _ = child(server.url("model.safetensors"), tmp_path, way, DATA if known else b"").communicate(timeout=120)
    assert (tmp_path / "k.whole").read_bytes() == DATA and left_of(tmp_path) == ["k.whole"], out
    assert served.sent < 2 * len(DATA)


@both_ways
def test_no_kill_makes_a_wrong_byte_count_as_there(server, tmp_path, way):
    """Each after another: what one leaves half written lies under what the next one writes; the ways take turns."""
    served = server.add("model.safetensors", HOLLOW, rate=300_000, etag='"a"')
    ways = [way, way, "aiohttp" if way == "aria2" else way]
    for seed, by in enumerate(ways):
        process = child(server.url("model.safetensors"), tmp_path, by)
        until = served.sent + random.Random(seed).randint(100_000, 4_000_000)
        wait_for(lambda: served.sent >= until)
        kill(process)
        assert not wrongly_claimed(tmp_path, HOLLOW)
    served.rate = 0
    child(server.url("model.safetensors"), tmp_path, way).communicate(timeout=120)
    assert (tmp_path / "k.whole").read_bytes() == HOLLOW


@needs_aria2
def test_a_new_run_waits_for_the_aria2_of_a_killed_one(server, tmp_path):
    """It still writes for a second; two writers would spoil the file."""
    server.add("model.safetensors", DATA, rate=500_000, etag='"a"')
    first = child(server.url("model.safetensors"), tmp_path, "aria2")
    wait_for(lambda: resumable(tmp_path, "k") > 1_000_000)
    first.kill()
    first.wait()
    second = child(server.url("model.safetensors"), tmp_path, "aiohttp")
    out, _ = second.communicate(timeout=120)
    assert (tmp_path / "k.whole").read_bytes() == DATA, out


@both_ways
def test_a_disk_that_fills_up_under_way_is_told_and_what_is_there_is_kept(server, tmp_path, way):
    disk = tmp_path / "disk"
    if not can_mount(disk):
        pytest.skip("no small file system can be mounted here")
    server.add("model.safetensors", DATA, rate=500_000, etag='"a"')
    fill = f"{{ until [ -s {disk}/d/k.part ]; do sleep 0.1; done; head -c 50000000 /dev/zero > {disk}/ballast; }} & "
    first = 'FIRST=$("$@"); echo "$FIRST" | tail -n 1; '
    run = f'{fill}{first} ls -1 {disk}/d; rm {disk}/ballast; "$@" | tail -n 1; sha256sum < {disk}/d/k.whole; ls -1 {disk}/d'
    process = child(server.url("model.safetensors"), disk / "d", way, before=(*TMPFS, str(disk), "bash", "-c", run, "run"))
    out, _ = process.communicate(timeout=120)
    assert "There is no room for model.safetensors" in out and "missing in" in out
    assert "k.part\n" in out and digest(DATA) in out and out.endswith("k.whole\n"), out
    assert out.index("k.part") < out.index("Fetched(")
