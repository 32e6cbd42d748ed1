"""Files are fetched whole and checked, carried on where they were left, and stopped at once; by aria2 and by aiohttp alike."""

import asyncio
import threading
import time

import pytest
from fetching import both_ways, digest, is_right, needs_aria2, stop_at
from file_server import noise

from reverie.errors import BadInput, Busy, FetchFailed, Interrupted
from reverie.host.fetch import Order, fetch, resumable
from reverie.host.fetch.staging import Lock
from reverie.host.resources import Address

DATA = noise(6_000_000)


@both_ways
@pytest.mark.parametrize("size", [1, 4096, 16_384, 1_048_576, 1_048_577, 6_000_000])
def test_a_file_is_fetched_whole_and_its_sum_is_told(server, ask, way, size):
    server.add("model.safetensors", DATA[:size])
    assert is_right(ask(way=way), DATA[:size])


@both_ways
def test_a_file_comes_over_several_connections_and_every_byte_once(server, ask, way):
    served = server.add("model.safetensors", DATA, rate=1_000_000, etag='"a"')
    assert is_right(ask(way=way, size=len(DATA), sha256=digest(DATA)), DATA)
    assert served.peak >= 3 and served.sent < 1.2 * len(DATA)


@both_ways
def test_what_a_stopped_run_left_is_not_fetched_again(server, ask, way, tmp_path):
    served = server.add("model.safetensors", DATA, rate=400_000, etag='"a"')
    seen, cancelled = stop_at(2_000_000)
    assert isinstance(ask(way=way, on_progress=seen, cancelled=cancelled), Interrupted)
    there = resumable(tmp_path / "downloads", "k")
    served.sent, served.rate = 0, 0
    assert 1_000_000 < there < len(DATA)
    assert is_right(ask(way=way), DATA) and served.sent <= len(DATA) - there + 300_000
    assert resumable(tmp_path / "downloads", "k") == len(DATA) and resumable(tmp_path / "downloads", "other") == 0


@needs_aria2
@pytest.mark.parametrize("first, second", [("aria2", "aiohttp"), ("aiohttp", "aria2")])
def test_each_way_carries_on_what_the_other_began(server, ask, first, second, tmp_path):
    data = DATA * 6
    served = server.add("model.safetensors", data, rate=1_000_000, etag='"a"')
    seen, cancelled = stop_at(18_000_000)
    assert isinstance(ask(way=first, on_progress=seen, cancelled=cancelled), Interrupted)
    there = resumable(tmp_path / "downloads", "k")
    served.sent, served.rate = 0, 0
    assert is_right(ask(way=second), data) and there > 12_000_000 and served.sent <= len(data) - there * 2 / 3


@both_ways
def test_a_file_that_is_finished_is_not_fetched_again(server, ask, way):
    served = server.add("model.safetensors", DATA)
    assert is_right(ask(way=way), DATA)
    served.sent = 0
    assert is_right(ask(way=way, sha256=digest(DATA)), DATA) and served.sent == 0


@both_ways
def test_stopping_is_quick_and_leaves_nothing_running(server, ask, way):
    import psutil

    server.add("model.safetensors", DATA, rate=50_000)
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    seen, cancelled = stop_at(100_000)
    stopped_at = []
    result = ask(way=way, on_progress=seen, cancelled=lambda: cancelled() and not stopped_at.append(time.monotonic()))
    assert isinstance(result, Interrupted) and "stopped" in str(result)
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("fetch-")]


@both_ways
def test_progress_comes_from_one_thread_in_order_and_ends_with_done(server, ask, way):
    server.add("model.safetensors", DATA, rate=500_000)
    told, threads, times = [], set(), []

    def listen(progress):
        told.append(progress), threads.add(threading.get_ident()), times.append(time.monotonic())

    ask(way=way, on_progress=listen, title="A model", size=len(DATA))
    assert threads == {threading.get_ident()} and {progress.title for progress in told} == {"A model"}
    assert [progress.done_bytes for progress in told] == sorted(progress.done_bytes for progress in told)
    assert told[-1].state == "done" and told[-1].done_bytes == told[-1].size == len(DATA)
    assert max(progress.bytes_per_s for progress in told) > 0
    assert len(told) <= 4 * (times[-1] - times[0]) + 3


@both_ways
def test_one_that_fails_does_not_stop_the_others(server, way, tmp_path):
    for number in range(5):
        server.add(f"m{number}.pt", DATA[number:])
    orders = [Order(f"k{n}", lambda n=n: Address(server.url(f"m{n}.pt" if n != 2 else "gone.pt")), name=f"m{n}.pt") for n in range(5)]
    results = fetch(orders, tmp_path, way=way, at_once=2, patience_s=1)
    assert isinstance(results["k2"], FetchFailed) and "404" in str(results["k2"])
    assert [results[f"k{n}"].path.read_bytes() == DATA[n:] for n in (0, 1, 3, 4)] == [True] * 4


@both_ways
def test_it_works_where_an_event_loop_runs(server, ask, way):
    server.add("model.safetensors", DATA)

    async def cell():
        return ask(way=way)

    assert is_right(asyncio.run(cell()), DATA)


def test_a_file_that_another_run_fetches_is_left_to_it(server, ask, tmp_path):
    served = server.add("model.safetensors", DATA)
    (tmp_path / "downloads").mkdir()
    lock = Lock(tmp_path / "downloads" / "k.lock")
    assert lock.take() and not Lock(lock.path).take()
    result = ask(cancelled=lambda: True)
    assert isinstance(result, Busy) and "another run" in str(result) and not served.requests
    lock.release()
    assert is_right(ask(), DATA)


def test_a_mistake_in_the_program_is_not_hidden_and_stops_no_other(server, tmp_path):
    server.add("m.pt", DATA)
    orders = [Order("bad", lambda: 1 / 0), Order("good", lambda: Address(server.url("m.pt")))]
    with pytest.raises(ZeroDivisionError):
        fetch(orders, tmp_path)
    assert (tmp_path / "good.whole").read_bytes() == DATA


def test_an_unknown_way_is_refused(tmp_path):
    with pytest.raises(BadInput, match="carrier pigeon"):
        fetch([], tmp_path, way="carrier pigeon")
