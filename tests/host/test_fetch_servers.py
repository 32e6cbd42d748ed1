"""What servers do: addresses expire, connections are cut, files change, pages come instead of models. Either way ends with the right
file or a sentence."""

import time

import pytest
from fetching import both_ways, digest, is_right, left_of, stop_at
from file_server import noise

from reverie.errors import DiskFull, FetchFailed, Interrupted, TokenNeeded
from reverie.host.fetch import Order, fetch, resumable
from reverie.host.resources import Address

DATA = noise(5_000_000, seed=1)
OTHER = noise(5_000_000, seed=2)
PAGE = b"\n<!DOCTYPE html><html><head><title>Log in</title></head></html>"


@both_ways
def test_a_fresh_address_is_asked_for_when_one_expires(server, ask, way):
    served = server.add("model.safetensors", DATA, signed_requests=3, etag='"a"')
    asked = []
    assert is_right(ask(way=way, address=lambda: asked.append(1) or Address(server.sign("model.safetensors")), patience_s=20), DATA)
    assert len(asked) > 1 and served.sent < 2 * len(DATA)


@both_ways
def test_an_address_that_is_already_old_is_replaced(server, ask, way):
    server.add("model.safetensors", DATA, signed_requests=100)
    addresses = iter([server.url("model.safetensors") + "?X-Signature=old", server.sign("model.safetensors")])
    assert is_right(ask(way=way, address=lambda: Address(next(addresses))), DATA)


@both_ways
def test_redirects_to_signed_addresses_are_followed_once(server, ask, way):
    served = server.add("model.safetensors", DATA, signed_requests=1000)
    assert is_right(ask(way=way, address=lambda: Address(server.url("go/model.safetensors"))), DATA)
    assert len(server.signatures) == 1 and served.requests > 1


@both_ways
def test_cut_connections_are_taken_up_again(server, ask, way):
    served = server.add("model.safetensors", DATA, cut_after=300_000, cuts=30, etag='"a"')
    assert is_right(ask(way=way, patience_s=30), DATA) and served.cuts < 30


@both_ways
def test_a_server_without_ranges_gives_it_over_one_connection_from_the_beginning(server, ask, way):
    served = server.add("model.safetensors", DATA, ranges=False, cut_after=3_000_000, cuts=2)
    assert is_right(ask(way=way, patience_s=30), DATA) and served.cuts == 0


@both_ways
def test_a_server_that_does_not_tell_the_length_gives_it_whole_or_not_at_all(server, ask, way, tmp_path):
    served = server.add("model.safetensors", DATA, ranges=False, chunked=True, cut_after=3_000_000, cuts=1)
    assert is_right(ask(way=way, patience_s=30), DATA) and served.cuts == 0
    (tmp_path / "downloads/k.whole").unlink()
    served.cuts = 1_000_000
    assert isinstance(ask(way=way), FetchFailed)
    assert not (tmp_path / "downloads/k.whole").exists()


@both_ways
@pytest.mark.parametrize(
    "before, after", [({"etag": '"a"'}, {"etag": '"b"'}), ({"modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, {"modified": ""}), ({}, {})]
)
def test_halves_of_two_files_are_never_joined(server, ask, way, before, after):
    """Of the same length, and no sum known: by ETag, by date; and where the server tells neither, nothing is carried on."""
    server.add("model.safetensors", DATA, rate=400_000, **before)
    seen, cancelled = stop_at(1_500_000)
    assert isinstance(ask(way=way, on_progress=seen, cancelled=cancelled), Interrupted)
    server.add("model.safetensors", OTHER, **after)
    assert is_right(ask(way=way), OTHER)


@both_ways
def test_a_file_that_changes_under_way_is_fetched_anew(server, ask, way):
    server.add("model.safetensors", DATA, etag='"a"', cut_after=500_000, cuts=3, later=(6, OTHER, '"b"'))
    assert is_right(ask(way=way, patience_s=30), OTHER)


@both_ways
def test_a_shorter_file_than_before_is_fetched_anew(server, ask, way):
    server.add("model.safetensors", DATA, rate=400_000, etag='"a"')
    seen, cancelled = stop_at(1_500_000)
    ask(way=way, on_progress=seen, cancelled=cancelled)
    server.add("model.safetensors", DATA[:2_000_000], etag='"a"')
    assert is_right(ask(way=way), DATA[:2_000_000])


@both_ways
@pytest.mark.parametrize(
    "body, kind, what",
    [
        (PAGE * 100, "text/html", "an HTML page"),
        (PAGE, "application/octet-stream", "an HTML page"),
        (b'{"error": "Unauthorized"}', "application/json", "a JSON message"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "application/xml", "an XML message"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "text/plain", "a Git LFS pointer"),
        (b"Entry not found", "text/plain", "a text"),
        (b"", "application/octet-stream", "an empty file"),
    ],
)
def test_an_error_page_is_never_saved_as_a_model(server, ask, way, tmp_path, body, kind, what):
    server.add("model.safetensors", body, content_type=kind)
    result = ask(way=way, size=7_000_000)
    assert isinstance(result, FetchFailed) and what in str(result) and left_of(tmp_path / "downloads") == []


@both_ways
def test_an_error_page_does_not_spoil_what_is_there(server, ask, way, tmp_path):
    """A login page of a café's network, say, in the middle of a large file."""
    served = server.add("model.safetensors", DATA, rate=400_000, etag='"a"')
    seen, cancelled = stop_at(2_000_000)
    ask(way=way, on_progress=seen, cancelled=cancelled)
    there = resumable(tmp_path / "downloads", "k")
    server.add("model.safetensors", PAGE, content_type="text/html")
    assert isinstance(ask(way=way), FetchFailed)
    assert resumable(tmp_path / "downloads", "k") == there > 1_000_000
    server.files["model.safetensors"] = served
    assert is_right(ask(way=way), DATA)


@both_ways
def test_a_json_file_may_be_json_and_empty_texts_are_files(server, ask, way, tmp_path):
    server.add("config.json", b'{"a": 1}', content_type="application/json")
    server.add("empty.txt", b"")
    assert is_right(ask("config.json", way=way), b'{"a": 1}')
    (tmp_path / "downloads/k.whole").unlink()
    assert is_right(ask("empty.txt", way=way), b"")


@both_ways
def test_a_wrong_sum_is_fetched_once_more_and_then_told(server, ask, way, tmp_path):
    served = server.add("model.safetensors", DATA, etag='"a"')
    result = ask(way=way, sha256=digest(OTHER))
    assert isinstance(result, FetchFailed) and digest(OTHER) in str(result) and digest(DATA) in str(result)
    assert 2 * len(DATA) <= served.sent < 2.5 * len(DATA) and left_of(tmp_path / "downloads") == []


@both_ways
def test_a_wrong_sum_that_was_an_accident_is_mended(server, ask, way):
    """What is there is damaged: its sum says so, and it is fetched from the beginning."""
    server.add("model.safetensors", DATA, rate=400_000, etag='"a"')
    seen, cancelled = stop_at(1_500_000)
    ask(way=way, on_progress=seen, cancelled=cancelled, sha256=digest(OTHER))
    server.add("model.safetensors", OTHER, etag='"b"')
    told = []
    assert is_right(ask(way=way, sha256=digest(OTHER), on_progress=told.append), OTHER) and "sum" in told[-1].note


@both_ways
def test_a_size_that_was_announced_otherwise_is_refused_before_anything_moves(server, ask, way):
    served = server.add("model.safetensors", DATA)
    result = ask(way=way, size=len(DATA) + 1)
    assert isinstance(result, FetchFailed) and "5000000" in str(result) and "5000001" in str(result) and served.sent < 10_000


@both_ways
@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_that_promises_more_than_it_has_is_given_up(server, ask, way, tmp_path, ranges):
    server.add("model.safetensors", DATA[:100_000], told_length=2_000_000, ranges=ranges)
    result = ask(way=way)
    assert isinstance(result, FetchFailed) and "k.whole" not in left_of(tmp_path / "downloads")


@both_ways
@pytest.mark.parametrize("status, error", [(401, TokenNeeded), (403, TokenNeeded), (404, FetchFailed), (410, FetchFailed), (418, FetchFailed)])
def test_refusals_are_told_apart_and_keep_no_address(server, ask, way, status, error):
    server.add("model.safetensors", DATA, refusals=[(status, {})] * 20)
    result = ask(way=way, title="A model")
    assert type(result) is error and str(status) in str(result) and "Signature" not in str(result)


@both_ways
def test_a_server_that_asks_to_wait_is_waited_for(server, ask, way):
    server.add("model.safetensors", DATA, refusals=[(429, {"Retry-After": "1"}), (503, {}), (500, {})])
    began = time.monotonic()
    assert is_right(ask(way=way, patience_s=0.1), DATA)
    assert time.monotonic() - began >= 1


@both_ways
def test_a_server_that_asks_to_wait_for_hours_is_told(server, ask, way):
    server.add("model.safetensors", DATA, refusals=[(429, {"Retry-After": "7200"})])
    result = ask(way=way)
    assert isinstance(result, FetchFailed) and "7200 s" in str(result)


@both_ways
def test_a_server_that_allows_few_connections_is_asked_over_few(server, ask, way):
    served = server.add("model.safetensors", DATA, rate=2_000_000, at_most=3, etag='"a"')
    assert is_right(ask(way=way, patience_s=30), DATA) and served.peak <= 3


@both_ways
def test_nobody_there_is_a_sentence(ask, way, server):
    server.close()
    result = ask(way=way, address=lambda: Address(f"http://127.0.0.1:{server.port}/m?token=abc"))
    assert isinstance(result, FetchFailed) and "abc" not in str(result)


@both_ways
@pytest.mark.parametrize("address", ["nonsense", "http://", "ftp://127.0.0.1/m", "http://[::1/m", "http://127.0.0.1:99999/m"])
def test_an_address_that_is_none_is_a_sentence(ask, way, address):
    assert isinstance(ask(way=way, address=lambda: Address(address)), FetchFailed)


@both_ways
def test_redirects_in_a_circle_are_a_sentence(ask, way, server):
    result = ask(way=way, address=lambda: Address(server.url("round")))
    assert isinstance(result, FetchFailed) and "circles" in str(result)


@both_ways
def test_headers_go_to_their_host_and_to_no_other(server, ask, way, tmp_path):
    secret = {"Authorization": "Bearer geheim"}
    served = server.add("model.safetensors", DATA, wants=secret)
    assert is_right(ask(way=way, address=lambda: Address(server.url("model.safetensors"), secret)), DATA)
    (tmp_path / "downloads/k.whole").unlink()
    served.wants, served.headers_seen = {}, []
    assert is_right(ask(way=way, address=lambda: Address(server.url("to/model.safetensors"), secret)), DATA)
    assert served.headers_seen and not any("Authorization" in headers for headers in served.headers_seen)


@both_ways
def test_a_file_larger_than_the_disk_is_refused_before_anything_moves(server, ask, way, tmp_path):
    served = server.add("model.safetensors", DATA, told_length=10**15)
    result = ask(way=way)
    assert isinstance(result, DiskFull) and "GB are missing" in str(result) and served.requests == 1


@both_ways
def test_two_files_do_not_count_on_the_same_room(server, way, tmp_path):
    import shutil

    most = shutil.disk_usage(tmp_path).free * 2 // 3
    server.add("a.pt", DATA, told_length=most, rate=100_000)
    server.add("b.pt", DATA, told_length=most, rate=100_000)
    orders = [Order(name, lambda name=name: Address(server.url(f"{name}.pt"))) for name in "ab"]
    failed = []
    results = fetch(orders, tmp_path, lambda told: failed.append(told) if told.state == "failed" else None, lambda: bool(failed), way=way)
    assert sum(isinstance(result, DiskFull) for result in results.values()) == 1
