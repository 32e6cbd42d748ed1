"""Several workers of one engine: they draw at the same time, and what happens to one happens to it alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("torch")

from reverie.engines import open_engine  # noqa: E402
from reverie.errors import Cancelled, WorkerDied  # noqa: E402
from reverie.settings import Settings  # noqa: E402
from reverie.studio import Studio  # noqa: E402
from reverie.types import Task  # noqa: E402

import small  # noqa: E402
from contract import EngineContract, difference, never  # noqa: E402

WAIT_S = 120
QUIET = lambda progress: None


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Settings:
    root = tmp_path_factory.mktemp("house")
    settings = Settings(root=root, storage=root / "storage", device="cpu,cpu")
    for name, seed in (("sketch", 0), ("other", 1)):
        small.pocket(settings.models / "diffusers" / name, seed=seed)
    return settings


@pytest.fixture(scope="module")
def both(house):
    engine = open_engine("diffusers", house, dtype="float32")
    yield engine
    engine.close()


def a_task(**changes) -> Task:
    return Task(**{**dict(prompt="a red house at dawn", model="sketch", width=32, height=32, steps=4, seed=5, sampler="euler"), **changes})


class Meeting:
    """Listeners of two jobs, each of which goes on only when the other is being drawn too."""

    def __init__(self):
        self.met = threading.Event()
        self._barrier = threading.Barrier(2, self.met.set, WAIT_S)

    def listener(self):
        met = []

        def listen(progress):
            if progress.fraction > 0 and not met:
                met.append(self._barrier.wait())

        return listen


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition) -> None:
    give_up = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


class TestTwoWorkers(EngineContract):
    @pytest.fixture
    def engine(self, both):
        return both

    @pytest.fixture
    def task(self):
        return a_task()


def test_two_jobs_are_drawn_at_once_by_two_processes_with_a_log_each(both, house):
    meeting, seeds = Meeting(), (3, 4)
    with ThreadPoolExecutor() as threads:
        runs = [threads.submit(both.run, a_task(seed=seed), [], meeting.listener(), never) for seed in seeds]
        pictures = [run.result()[0].image for run in runs]
    for seed, picture in zip(seeds, pictures):
        assert difference(picture, both.run(a_task(seed=seed), [], QUIET, never)[0].image) < 0.5
    assert difference(*pictures) > 1
    assert len({worker.pid for worker in both.workers}) == 2 and both.capabilities()["at_once"] == 2
    assert {path.name for path in (house.storage / "logs").iterdir()} == {"worker-cpu.log", "worker-cpu-2.log"}


def test_cancelling_one_job_leaves_the_other(both):
    meeting, stop, stopped = Meeting(), threading.Event(), threading.Event()
    meet = meeting.listener()

    def until_the_other_has_stopped(progress):
        meet(progress)
        if progress.fraction > 0:
            stop.set()
            assert stopped.wait(WAIT_S)

    with ThreadPoolExecutor() as threads:
        one = threads.submit(both.run, a_task(steps=1000, count=50), [], meeting.listener(), stop.is_set)
        other = threads.submit(both.run, a_task(seed=8), [], until_the_other_has_stopped, never)
        with pytest.raises(Cancelled):
            one.result()
        stopped.set()
        assert len(other.result()) == 1


def test_a_worker_that_is_killed_ends_its_job_only_and_is_started_again(both):
    meeting, died = Meeting(), threading.Event()
    meets = [meeting.listener(), meeting.listener()]

    def draw(number):
        def listen(progress):
            meets[number](progress)
            if progress.fraction > 0 and not killed:
                killed.append(both.workers[0].pid)
                os.kill(killed[0], signal.SIGKILL)

        try:
            return both.run(a_task(seed=number, steps=50), [], listen, never)
        except WorkerDied:
            died.set()

    killed = []
    with ThreadPoolExecutor() as threads:
        results = list(threads.map(draw, (0, 1)))
    assert died.is_set() and results.count(None) == 1
    assert both.run(a_task(), [], QUIET, never) and killed[0] not in [worker.pid for worker in both.workers]


def test_a_job_goes_to_the_worker_that_has_its_model(both):
    both.close()
    for name in ("sketch", "other", "sketch", "other", "other"):
        both.run(a_task(model=name), [], QUIET, never)
    assert sorted(both.capabilities()["loaded"]) == [["other"], ["sketch"]]


def test_a_run_that_waits_for_a_free_worker_can_be_cancelled(both):
    meeting, stop = Meeting(), threading.Event()
    with ThreadPoolExecutor() as threads:
        runs = [threads.submit(both.run, a_task(steps=1000, seed=seed), [], meeting.listener(), stop.is_set) for seed in (1, 2)]
        assert meeting.met.wait(WAIT_S)
        asked = []
        with pytest.raises(Cancelled, match="before it began"):
            both.run(a_task(), [], QUIET, lambda: asked.append(1) or len(asked) > 3)
        stop.set()
        assert all(isinstance(run.exception(), Cancelled) for run in runs)


def test_closing_ends_all_workers_and_what_they_had_in_hand(both):
    meeting = Meeting()
    with ThreadPoolExecutor() as threads:
        runs = [threads.submit(both.run, a_task(steps=1000, seed=seed), [], meeting.listener(), never) for seed in (1, 2)]
        assert meeting.met.wait(WAIT_S)
        pids = [worker.pid for worker in both.workers]
        both.close()
        assert all(run.exception() for run in runs)
    assert not any(lives(pid) for pid in pids)
    assert both.run(a_task(), [], QUIET, never)


PARENT = """
    import threading, time
    from pathlib import Path
    from reverie.engines import open_engine
    from reverie.settings import Settings
    from reverie.types import Task
    root = Path({root!r})
    engine = open_engine("diffusers", Settings(root=root, storage=root / "storage"), device="cpu,cpu", dtype="float32")
    barrier = threading.Barrier(3)
    def draw(seed):
        met = []
        listen = lambda progress: met or met.append(barrier.wait())
        engine.run(Task(prompt="a", model="sketch", width=32, height=32, steps=1000, count=50, seed=seed), [], listen, lambda: False)
    for seed in (1, 2):
        threading.Thread(target=draw, args=(seed,), daemon=True).start()
    barrier.wait()
    print(*(worker.pid for worker in engine.workers), flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_worker_outlives_a_parent_that_is_killed(house):
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(PARENT.format(root=str(house.root)))], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2 and all(map(lives, pids))
    parent.kill()
    parent.wait()
    wait_until(lambda: not any(map(lives, pids)))


def test_the_studio_draws_two_jobs_at_once_and_keeps_both(house):
    with Studio.open(house, dtype="float32") as studio:
        session = studio.session("generate")
        jobs = [studio.submit(a_task(seed=seed, steps=20, count=6), session) for seed in (100, 200)]
        events = list(studio.follow(jobs))
        kinds = [event.kind for event in events if event.id]
        assert kinds.index("succeeded") > [index for index, kind in enumerate(kinds) if kind == "started"][1]
        halves = [{event.job for event in events[:index]} for index, event in enumerate(events) if event.kind == "succeeded"]
        assert len(halves[0]) == 2 and {event.job for event in events if event.kind == "progress"} == {job.id for job in jobs}
        assert [len(studio.pictures(job)) for job in jobs] == [6, 6]
