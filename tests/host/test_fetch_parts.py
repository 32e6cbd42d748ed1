"""The record of what is there is aria2's own control file, and what the first bytes of a file give away."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from reverie.host.fetch import checks
from reverie.host.fetch.pieces import BLOCK, PIECE, Pieces
from reverie.host.fetch.staging import Identity, Staging


@given(st.integers(1, 5 * PIECE), st.lists(st.tuples(st.integers(0, 320), st.integers(0, 320)), max_size=6))
def test_a_record_says_the_same_when_it_is_read_again(tmp_path_factory, size, spans):
    pieces = Pieces(size)
    for first, last in spans:
        if first < len(pieces.blocks):
            pieces.mark(first * BLOCK, last * BLOCK)
    path = tmp_path_factory.getbasetemp() / "record.aria2"
    path.write_bytes(pieces.encode())
    again = Pieces.read(path)
    assert again and again.blocks == pieces.blocks and again.size == size
    assert pieces.done_bytes + sum(end - start for start, end in pieces.missing()) == size


@given(st.binary(max_size=200), st.integers(0, 60))
def test_a_damaged_record_is_none(tmp_path_factory, tail, cut):
    pieces = Pieces(3 * PIECE + 5)
    pieces.mark(0, PIECE + BLOCK)
    path = tmp_path_factory.getbasetemp() / "damaged.aria2"
    path.write_bytes(pieces.encode()[:cut] + tail)
    found = Pieces.read(path)
    assert found is None or len(found.blocks) == -(-found.size // BLOCK)


def test_a_block_counts_only_when_it_is_whole():
    pieces = Pieces(3 * BLOCK + 10)
    pieces.mark(0, 2 * BLOCK - 1)
    assert pieces.done_bytes == BLOCK
    pieces.mark(3 * BLOCK, 3 * BLOCK + 10)
    assert pieces.done_bytes == BLOCK + 10 and pieces.missing() == [(BLOCK, 3 * BLOCK)]
    pieces.cut_at(3 * BLOCK + 9)
    assert pieces.done_bytes == BLOCK


@given(st.lists(st.integers(-1, 5 * BLOCK), max_size=30), st.binary(min_size=1, max_size=3))
def test_what_a_kill_left_unrecorded_counts_only_where_it_is_whole(tmp_path_factory, reached, pattern):
    """Several writers, each at a place of its own, got this far; some blocks end with zeros, as weights may."""
    size = 60 * BLOCK + 77
    data = (pattern * (size // len(pattern) + 1))[:size]
    path = tmp_path_factory.getbasetemp() / "k.part"
    there = bytearray(-(-size // BLOCK))
    with open(path, "wb") as file:
        for writer, count in enumerate(reached):
            first = writer * 2 * BLOCK
            end = min(first + min(count, 2 * BLOCK), size)
            if end > first:
                file.seek(first)
                file.write(data[first:end])
                there[first // BLOCK : end // BLOCK] = b"\x01" * (end // BLOCK - first // BLOCK)
    pieces = Pieces(size)
    pieces.mark_written(path)
    for index, (claimed, whole) in enumerate(zip(pieces.blocks, there)):
        assert claimed == (whole and data[min((index + 1) * BLOCK, size) - 1] != 0)


def test_after_a_new_start_of_the_machine_only_the_record_counts(tmp_path: Path):
    identity = Identity(4 * PIECE, '"a"')
    for boot, there in ((None, PIECE), ("another", 0)):
        staging = Staging(tmp_path, "k")
        staging.resume(identity)
        staging.part.write_bytes(b"x" * PIECE)
        if boot:
            staging.clear()
            staging.resume(identity)
            staging.about.write_text(json.dumps({**json.loads(staging.about.read_text()), "boot": boot}))
            staging.part.write_bytes(b"x" * PIECE)
        assert Staging(tmp_path, "k").resume(identity).done_bytes == staging.bytes_there() == there


def test_real_heads_of_models_are_no_error_pages():
    header = b'{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}'
    heads = {"m.safetensors": len(header).to_bytes(8, "little") + header, "m.pt": b"PK\x03\x04" + bytes(60), "m.gguf": b"GGUF\x03\x00\x00\x00"}
    heads |= {"m.json": b'{"a": 1}', "page.html": b"<html>", "notes.txt": b"hello", "": bytes(range(256)), "m.bin": b"\x80\x02}q\x00X"}
    assert not [name for name, head in heads.items() if checks.error_page(head, name)]


def test_a_sum_is_that_of_the_whole_file(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"abc" * 3_000_000)
    import hashlib

    assert checks.sha256(tmp_path / "file") == hashlib.sha256(b"abc" * 3_000_000).hexdigest()
