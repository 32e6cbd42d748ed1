"""Archives that others made are unpacked whole inside one folder, or not at all."""

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import subprocess
import tarfile
import zipfile
from pathlib import Path

import lz4.frame
import pytest

from reverie.errors import BadInput, Cancelled, DiskFull, StoreFailed
from reverie.host.webuis import archives
from reverie.host.webuis.archive_writer import Limits

PACKERS = {"tar": lambda data: data, "tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress, "tar.lz4": lz4.frame.compress}
KEPT = b"kept as it was"


@pytest.fixture
def place(tmp_path):
    """A folder to unpack in, beside which lies a file that no archive may touch."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_bytes(KEPT)
    yield tmp_path / "outside" / "into"
    assert (tmp_path / "outside" / "precious").read_bytes() == KEPT
    assert {path.name for path in (tmp_path / "outside").iterdir()} <= {"precious", "into"}, "something was left beside it"


def entry(name, data=b"", kind=tarfile.REGTYPE, link="", mode=0o644, **more):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, link, mode, len(data)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def tar(path, *entries, pack=lambda data: data):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    path.write_bytes(pack(buffer.getvalue()))
    return path


def zipped(path, *entries):
    """Entries are (name, data[, Unix mode])."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data, *mode in entries:
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr, info.compress_type = 3, (mode[0] if mode else 0o100644) << 16, zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return path


def refused(archive, place, *words, error=BadInput, **more):
    with pytest.raises(error) as caught:
        archives.unpack(archive, place, **more)
    assert not place.exists()
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


# ------------------------------------------------------------------------------------------------------------- what works


@pytest.mark.parametrize("kind", PACKERS)
def test_every_kind_of_tar_is_told_by_its_bytes_and_not_by_its_name(tmp_path, place, kind):
    made = tar(
        tmp_path / "a-thing.bin", entry("pack/run.sh", b"#!/bin/sh\n", mode=0o755), entry("pack/deep/er/text", b"words"), entry("pack/lib", kind=tarfile.DIRTYPE),
        entry("pack/lib64", kind=tarfile.SYMTYPE, link="lib"), entry("pack/same", kind=tarfile.LNKTYPE, link="pack/deep/er/text"), pack=PACKERS[kind],
    )
    told = []
    done = archives.unpack(made, place, on_progress=lambda *pair: told.append(pair))
    assert (place / "pack/deep/er/text").read_bytes() == b"words" == (place / "pack/same").read_bytes()
    assert os.readlink(place / "pack/lib64") == "lib" and (place / "pack/lib64").is_dir()
    assert os.access(place / "pack/run.sh", os.X_OK) and not os.access(place / "pack/deep/er/text", os.X_OK)
    assert done.files == 3 and told[-1] == (made.stat().st_size,) * 2


def test_a_zip_keeps_what_may_be_run_and_its_links(tmp_path, place):
    made = zipped(tmp_path / "a.zip", ("ui/", b"", 0o40755), ("ui/go", b"#!", 0o100755), ("ui/text", b"words"), ("ui/there", b"text", 0o120777))
    assert archives.unpack(made, place).files == 2
    assert os.access(place / "ui/go", os.X_OK) and (place / "ui/there").read_bytes() == b"words"


def test_progress_rises_by_bytes(tmp_path, place):
    blocks = [entry(f"{number}", os.urandom(1_500_000)) for number in range(4)]
    told = []
    archives.unpack(tar(tmp_path / "a.tar.lz4", *blocks, pack=lz4.frame.compress), place, on_progress=lambda *pair: told.append(pair[0]))
    assert told == sorted(told) and len(told) > 4


def test_what_a_killed_run_left_is_replaced(tmp_path, place):
    left = place.with_name(f".{place.name}.unpacking")
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"half")
    archives.unpack(tar(tmp_path / "a.tar", entry("whole", b"x")), place)
    assert [path.name for path in place.iterdir()] == ["whole"]


def test_a_folder_that_is_there_is_never_written_into(tmp_path, place):
    place.mkdir()
    (place / "mine").write_bytes(b"mine")
    with pytest.raises(StoreFailed, match="is there already"):
        archives.unpack(tar(tmp_path / "a.tar", entry("mine", b"theirs")), place)
    assert (place / "mine").read_bytes() == b"mine"


# ----------------------------------------------------------------------------------------------------- what leads elsewhere


@pytest.mark.parametrize("name", ["../precious", "a/../../precious", "/tmp/reverie-precious", "\\precious", "C:\\precious", "C:precious", "..\\precious", "a\\..\\..\\precious"])
def test_names_that_lead_out_are_refused(tmp_path, place, name):
    refused(zipped(tmp_path / "a.zip", ("fine", b"x"), (name, b"theirs")), place, "not safe")
    refused(tar(tmp_path / "a.tar", entry("fine", b"x"), entry(name, b"theirs")), place, "not safe")


@pytest.mark.parametrize("link", ["..", "../precious", "/etc", "a/../../..", "C:\\Windows"])
def test_links_that_lead_out_are_refused(tmp_path, place, link):
    refused(tar(tmp_path / "a.tar", entry("a/b", b"x"), entry("out", kind=tarfile.SYMTYPE, link=link)), place, "leads out")
    refused(zipped(tmp_path / "a.zip", ("a/b", b"x"), ("out", link.encode(), 0o120777)), place, "leads out")


def test_a_file_through_a_link_is_refused(tmp_path, place):
    """The link alone would be inside; what comes after it would go where it leads."""
    through = [entry("d", kind=tarfile.SYMTYPE, link=".."), entry("d/precious", b"theirs")]
    refused(tar(tmp_path / "a.tar", *through), place, "goes through 'd'")
    refused(zipped(tmp_path / "a.zip", ("d", b"..", 0o120777), ("d/precious", b"theirs")), place, "goes through 'd'")
    inside = [entry("real/x", b"x"), entry("d", kind=tarfile.SYMTYPE, link="real"), entry("d/y", b"y")]
    refused(tar(tmp_path / "b.tar", *inside), place, "goes through 'd'")


def test_a_chain_of_links_that_leads_out_is_refused(tmp_path, place):
    """Each link of it, read alone, stays inside."""
    chain = [entry("a/b/file", b"x"), entry("a/b/up", kind=tarfile.SYMTYPE, link="../.."), entry("z", kind=tarfile.SYMTYPE, link="a/b/up/../precious")]
    refused(tar(tmp_path / "a.tar", *chain), place, "leads out")


def test_a_file_over_its_own_link_is_refused(tmp_path, place):
    refused(tar(tmp_path / "a.tar", entry("p", kind=tarfile.SYMTYPE, link="../precious"), entry("p", b"theirs")), place, "twice")


def test_hard_links_only_to_files_of_the_archive(tmp_path, place):
    for link in ("../precious", "/etc/passwd", "missing", "folder"):
        made = tar(tmp_path / "a.tar", entry("folder", kind=tarfile.DIRTYPE), entry("h", kind=tarfile.LNKTYPE, link=link))
        refused(made, place, "not safe")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes_are_refused(tmp_path, place, kind):
    refused(tar(tmp_path / "a.tar", entry("dev", kind=kind, devmajor=1, devminor=3)), place, "device or pipe")
    refused(zipped(tmp_path / "a.zip", ("dev", b"", stat.S_IFIFO | 0o644)), place, "device or pipe")


def test_files_with_somebody_elses_rights_are_refused(tmp_path, place):
    refused(tar(tmp_path / "a.tar", entry("su", b"x", mode=0o4755)), place, "set-uid")
    refused(zipped(tmp_path / "a.zip", ("su", b"x", 0o102755)), place, "set-uid")


def test_names_that_differ_by_case_are_refused_where_the_disk_cannot_tell_them_apart(tmp_path, place):
    made = tar(tmp_path / "a.tar", entry("Read.me", b"1"), entry("read.ME", b"2"))
    refused(made, place, "differ by case only", folds_case=True)
    refused(tar(tmp_path / "b.tar", entry("Dir/a", b"1"), entry("dir/b", b"2")), place, "differ by case only", folds_case=True)
    if not os.path.exists(str(tmp_path).swapcase()):
        assert archives.unpack(made, place).files == 2


def test_links_that_lead_out_can_be_left_out(tmp_path, place):
    made = tar(tmp_path / "a.tar", entry("bin/python", kind=tarfile.SYMTYPE, link="/usr/bin/python3"), entry("bin/python3", kind=tarfile.SYMTYPE, link="python"))
    done = archives.unpack(made, place, links_out="leave out")
    assert done.left_out == ["bin/python"] and not os.path.lexists(place / "bin/python") and os.path.islink(place / "bin/python3")


# ------------------------------------------------------------------------------------------------------------ what explodes


def test_ten_gigabytes_of_zeros_in_ten_megabytes_are_stopped_while_they_come(tmp_path, place):
    """A stream does not say beforehand how much comes."""
    big = tarfile.TarInfo("zeros")
    big.size = 10_000 << 20
    bomb = tmp_path / "bomb.tar.gz"
    bomb.write_bytes(gzip.compress(big.tobuf(tarfile.GNU_FORMAT)) + gzip.compress(b"\0" * (1 << 20)) * 10_001)
    assert bomb.stat().st_size < 12e6
    refused(bomb, place, "explodes", limits=Limits(max_ratio=10, reserve_bytes=0))


@pytest.mark.parametrize("name, pack", [("a.tar.xz", lzma.compress), ("a.tar.lz4", lz4.frame.compress), ("a.tar.bz2", bz2.compress)])
def test_other_streams_of_zeros_are_stopped_too(tmp_path, place, name, pack):
    refused(tar(tmp_path / name, entry("zeros", b"\0" * (80 << 20)), pack=pack), place, "explodes")


def test_a_zip_that_says_that_it_explodes_is_not_begun(tmp_path, place):
    made = zipped(tmp_path / "a.zip", ("zeros", b"\0" * (4 << 20)))
    say_size(made, 4_000_000_000)
    told = []
    refused(made, place, "explodes to more than 4.0 GB", limits=Limits(reserve_bytes=0), on_progress=lambda *pair: told.append(pair))
    assert not told


def test_a_zip_that_says_less_than_it_holds_is_refused(tmp_path, place):
    made = zipped(tmp_path / "a.zip", ("zeros", b"\0" * (4 << 20)))
    say_size(made, 100)
    refused(made, place, "damaged")


def say_size(path, size):
    """What the zip's directory says of its last entry's size."""
    raw = bytearray(path.read_bytes())
    at = raw.rindex(b"PK\x01\x02")
    raw[at + 24 : at + 28] = struct.pack("<I", size)
    path.write_bytes(raw)


def test_zeros_after_the_end_of_a_tar_count_too(tmp_path, place):
    made = tar(tmp_path / "a.tar.gz", entry("x", b"x"), pack=lambda data: gzip.compress(data + b"\0" * (300 << 20)))
    refused(made, place, "explodes", limits=Limits(free_of_ratio_bytes=1 << 20))


def test_a_header_that_fills_the_memory_is_refused(tmp_path, place):
    huge = tarfile.TarInfo("x")
    huge.type, huge.size = tarfile.XHDTYPE, 2 << 30
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(huge.tobuf() + b"\0" * (32 << 20)))
    refused(tmp_path / "a.tar.gz", place, "damaged")


def test_a_sparse_file_of_terabytes_is_stopped(tmp_path, place):
    hole = tmp_path / "hole"
    with open(hole, "wb") as file:
        file.truncate(300 << 20)
    done = subprocess.run(["tar", "-C", tmp_path, "--sparse", "-cf", tmp_path / "a.tar", "hole"], timeout=120)
    assert done.returncode == 0 and (tmp_path / "a.tar").stat().st_size < 100_000
    refused(tmp_path / "a.tar", place, "explodes")


def test_too_many_files_are_refused(tmp_path, place):
    many = [(f"f{number}", b"") for number in range(60)]
    refused(zipped(tmp_path / "a.zip", *many), place, "60 files", limits=Limits(max_files=50))
    refused(tar(tmp_path / "a.tar", *[entry(name) for name, _ in many]), place, "51 files", limits=Limits(max_files=50))


def test_a_disk_too_small_is_said_before_starting(tmp_path, place):
    made = zipped(tmp_path / "a.zip", ("x", b"x"))
    say_size(made, 4_000_000_000)
    refused(made, place, "takes 4.0 GB", "are free", error=DiskFull, limits=Limits(reserve_bytes=1 << 60))
    assert not place.parent.joinpath(".into.unpacking").exists()


# ----------------------------------------------------------------------------------------------------------- what is broken


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("part", [0.3, 0.7, 0.999])
def test_an_archive_that_is_cut_off_is_refused(tmp_path, place, kind, part):
    made = tar(tmp_path / "a", *[entry(f"{number}", os.urandom(40_000)) for number in range(5)], pack=PACKERS[kind])
    made.write_bytes(made.read_bytes()[: int(made.stat().st_size * part) - (10240 if kind == "tar" and part > 0.9 else 0)])
    refused(made, place, "cut off or damaged")


def test_a_zip_that_is_cut_off_or_whose_bytes_changed_is_refused(tmp_path, place):
    made = zipped(tmp_path / "a.zip", ("x", os.urandom(50_000)))
    whole = made.read_bytes()
    made.write_bytes(whole[:30_000])
    refused(made, place, "cut off or damaged")
    made.write_bytes(whole[:25_000] + b"!!!!" + whole[25_004:])
    refused(made, place, "cut off or damaged")


@pytest.mark.parametrize("kind", ["tar.gz", "tar.xz", "tar.lz4"])
def test_bytes_that_changed_are_noticed_by_the_sum(tmp_path, place, kind):
    made = tar(tmp_path / "a", entry("x", os.urandom(100_000)), pack=(lambda data: lz4.frame.compress(data, content_checksum=True)) if kind == "tar.lz4" else PACKERS[kind])
    raw = bytearray(made.read_bytes())
    raw[60_000] ^= 255
    made.write_bytes(raw)
    refused(made, place, "cut off or damaged")


@pytest.mark.parametrize("data, words", [(b"<!DOCTYPE html><title>404", "a web page"), (b"", "no archive"), (b"x" * 5000, "no archive"), (b"\x28\xb5\x2f\xfd...", "zstd"), (b"7z\xbc\xaf\x27\x1c..", "7z")])
def test_what_is_no_archive_is_said(tmp_path, place, data, words):
    (tmp_path / "a.zip").write_bytes(data)
    refused(tmp_path / "a.zip", place, words)


def test_an_archive_with_a_password_is_said(tmp_path, place):
    made = zipped(tmp_path / "a.zip", ("x", b"x"))
    raw = bytearray(made.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(mark) + offset] |= 1
    made.write_bytes(raw)
    refused(made, place, "password")


def test_cancelling_leaves_nothing(tmp_path, place):
    made = tar(tmp_path / "a.tar.lz4", *[entry(f"{number}", os.urandom(3 << 20)) for number in range(3)], pack=lz4.frame.compress)
    asked = iter([False] * 8)
    refused(made, place, "cancelled", error=Cancelled, cancelled=lambda: next(asked, True))


def test_a_folder_without_write_permission_is_taken_away_again(tmp_path):
    locked = tmp_path / "locked" / "in"
    locked.mkdir(parents=True)
    (locked / "file").write_bytes(b"")
    os.chmod(locked, 0o500)
    archives.remove(tmp_path / "locked")
    assert not Path(tmp_path / "locked").exists()
