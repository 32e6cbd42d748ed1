"""The studio with a small engine that draws flat colours: what is asked for is made once, whatever happens in between."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace

import pytest
from flat_engine import FlatEngine
from PIL import Image

from reverie import recipes, settings
from reverie.errors import BadInput, Cancelled, ModelMissing, NotFound, StoreFailed
from reverie.studio import Studio, make_task


@pytest.fixture
def home(tmp_path):
    return replace(settings.load(), storage=tmp_path / "storage")


@pytest.fixture
def engine():
    return FlatEngine()


@pytest.fixture
def studio(home, engine):
    with Studio.open(home, open_engine=lambda name, settings: engine) as studio:
        yield studio


def ask(studio, prompt="a", **more):
    return studio.submit(make_task(prompt=prompt, width=16, height=16, **more), studio.session("generate"))


def run(studio, *jobs):
    return list(studio.follow(jobs))


def test_task_becomes_pictures_with_recipes(studio):
    job = ask(studio, count=3, seed=5)
    assert run(studio, job)[-1].kind == "succeeded"
    paths = studio.pictures(job)
    assert [recipes.read(path)["seed"] for path in paths] == [5, 6, 7]
    assert [asset.recipe["prompt"] for asset in studio.library.of_job(job.id)] == ["a"] * 3


def test_same_task_again_is_not_made_again(studio, engine):
    first = ask(studio)
    run(studio, first)
    again = ask(studio)
    assert again.id == first.id and [event.kind for event in run(studio, again)] == ["succeeded"]
    assert len(engine.made) == 1


def test_deleted_picture_is_made_again(studio, engine):
    job = ask(studio)
    run(studio, job)
    studio.pictures(job)[0].unlink()
    again = ask(studio)
    assert run(studio, again)[-1].kind == "succeeded" and studio.pictures(job)[0].exists() and len(engine.made) == 2
    assert studio.library.count() == 1


@pytest.mark.parametrize("prompt, words, kind", [
    ("fails", "It failed. Try another.", "EngineFailed"), ("memory", "The device is full. Try 512x512.", "OutOfMemory"),
    ("bug", "KeyError: 'x'. This is a bug", "EngineFailed"), ("short", "made 0 of 1 pictures", "EngineFailed"),
])
def test_failure_ends_its_job_only(studio, prompt, words, kind):
    bad, good = ask(studio, prompt), ask(studio, "good")
    events = run(studio, bad, good)
    assert words in next(event for event in events if event.kind == "failed").error
    assert studio.store.jobs.get(bad.id).error_class == kind and studio.store.jobs.get(good.id).state == "succeeded"


def test_failed_task_is_tried_again_when_asked_again(studio):
    bad = ask(studio, "fails")
    run(studio, bad)
    assert ask(studio, "fails").state == "queued"


def test_cancel_stops_running_and_waiting_jobs(studio):
    session = studio.session("generate")
    jobs = [studio.submit(make_task(prompt=f"slow {n}", width=16, height=16), session) for n in range(3)]
    events = studio.follow(jobs)
    next(event for event in events if event.kind == "progress")
    started = time.monotonic()
    assert studio.cancel(session) == 3
    assert [event.kind for event in events][-1] == "cancelled" and time.monotonic() - started < 2
    assert {job.state for job in studio.store.jobs.find(session=session)} == {"cancelled"}


def small(prompt):
    return make_task(prompt=prompt, width=16, height=16)


def ends(events):
    return [event.kind for event in events if event.kind in ("succeeded", "failed", "cancelled")]


def test_cancelled_run_leaves_to_another_what_that_had_asked_for(studio, engine):
    first, second = studio.session("generate"), studio.session("generate")
    theirs = [studio.submit(small(prompt), first) for prompt in ("slow", "waits")]
    mine = [studio.submit(small(prompt), second) for prompt in ("slow", "waits", "slow, my own")]
    studio.cancel(second)
    assert ends(studio.follow(mine)) == ["cancelled"] * 3
    assert ends(studio.follow(theirs)) == ["succeeded"] * 2
    assert [task.prompt for task in engine.made] == ["slow", "waits"]


def test_job_that_another_run_cancelled_is_made_for_the_one_that_still_wants_it(studio, engine):
    first, second = studio.session("generate"), studio.session("generate")
    theirs = [studio.submit(small(prompt), first) for prompt in ("slow", "waits")]
    mine = [studio.submit(small(prompt), second) for prompt in ("slow", "waits")]
    next(event for event in studio.follow(theirs) if event.kind == "progress")
    assert studio.cancel(first) == 2
    assert ends(studio.follow(mine)) == ["succeeded"] * 2
    assert sorted(task.prompt for task in engine.made) == ["slow", "waits"]


def test_cancelled_session_takes_no_more_jobs(studio):
    session = studio.session("generate")
    studio.submit(small("slow"), session)
    studio.cancel(session)
    with pytest.raises(Cancelled):
        studio.submit(small("slow, the next"), session)
    assert studio.store.jobs.find(state="queued") == []


def test_dispatcher_that_broke_is_replaced_when_something_is_asked_for_again(studio, engine):
    with studio.store.begin() as db:
        db.exec_driver_sql("CREATE TRIGGER full BEFORE UPDATE ON jobs WHEN NEW.state IN ('succeeded', 'failed') "
                           "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END")
    with pytest.raises(StoreFailed, match="disk is full.*Free some disk space"):
        run(studio, ask(studio))
    with studio.store.begin() as db:
        db.exec_driver_sql("DROP TRIGGER full")
    assert ends(run(studio, ask(studio))) == ["succeeded"]
    assert ends(run(studio, ask(studio, "another"))) == ["succeeded"] and engine.closed == 0
    studio.close()
    assert engine.closed == 1, "one engine, handed from one dispatcher to the next"


def test_progress_arrives_with_previews(studio):
    events = run(studio, ask(studio, "slow"))
    fractions = [event.fraction for event in events if event.kind == "progress"]
    assert len(fractions) > 5 and fractions == sorted(fractions) and any(event.preview for event in events)


def test_closing_puts_the_running_job_back_and_ends_the_engine(home, engine):
    with Studio.open(home, open_engine=lambda name, settings: engine) as studio:
        job = ask(studio, "slow")
        next(event for event in studio.follow([job]) if event.kind == "progress")
    assert engine.closed == 1
    with Studio.open(home, open_engine=lambda name, settings: engine) as studio:
        assert studio.store.jobs.get(job.id).state == "queued"
        time.sleep(0.3)
        assert studio.store.jobs.get(job.id).state == "queued", "nobody asked for it again"
        assert run(studio, ask(studio, "slow"))[-1].kind == "succeeded"


@pytest.fixture
def pair(home):
    engine = FlatEngine(at_once=2)
    with Studio.open(home, open_engine=lambda name, settings: engine) as studio:
        studio.engine = engine
        yield studio


def until_both_run(studio, jobs):
    running = set()
    for event in studio.follow(jobs):
        running |= {event.job} if event.kind == "progress" else set()
        if len(running) == 2:
            return


def test_as_many_jobs_run_at_once_as_the_engine_does(pair):
    jobs = [ask(pair, f"together {number}", count=2) for number in range(6)]  # in an engine that waits until two are drawn
    assert ends(run(pair, *jobs)) == ["succeeded"] * 6
    assert [len(pair.pictures(job)) for job in jobs] == [2] * 6 and pair.library.count() == 12


def test_progress_of_each_job_that_runs_is_told(pair):
    jobs = [ask(pair, f"slow {number}") for number in range(2)]
    told = {job.id: [] for job in jobs}
    for event in run(pair, *jobs):
        told[event.job] += [event.fraction] * (event.kind == "progress")
    assert all(len(fractions) > 5 and fractions == sorted(fractions) for fractions in told.values())


def test_cancel_ends_its_own_job_and_not_the_one_beside_it(pair):
    mine, other = ask(pair, "slow, mine"), ask(pair, "slow, the other")
    until_both_run(pair, [mine, other])
    pair.cancel(mine.session)
    assert ends(run(pair, mine)) == ["cancelled"] and ends(run(pair, other)) == ["succeeded"]
    assert [task.prompt for task in pair.engine.made] == ["slow, the other"]


def test_job_that_fails_leaves_the_one_beside_it(pair):
    bad, good = ask(pair, "fails"), ask(pair, "slow")
    assert ends(run(pair, bad, good)) == ["failed", "succeeded"]


def test_closing_puts_all_running_jobs_back(home):
    with Studio.open(home, open_engine=lambda name, settings: FlatEngine(at_once=2)) as studio:
        jobs = [ask(studio, f"slow {number}") for number in range(3)]
        until_both_run(studio, jobs)
    with Studio.open(home, open_engine=lambda name, settings: FlatEngine(at_once=2)) as studio:
        assert [(studio.store.jobs.get(job.id).state, studio.store.jobs.get(job.id).deaths) for job in jobs] == [("queued", 0)] * 3


def test_dispatcher_that_broke_puts_back_what_runs_beside_before_another_takes_over(pair):
    with pair.store.begin() as db:
        db.exec_driver_sql("CREATE TRIGGER full BEFORE UPDATE ON jobs WHEN NEW.state IN ('succeeded', 'failed') "
                           "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END")
    slow, quick = ask(pair, "slow"), ask(pair, "quick")
    with pytest.raises(StoreFailed, match="disk is full"):
        run(pair, slow, quick)
    with pair.store.begin() as db:
        db.exec_driver_sql("DROP TRIGGER full")
    jobs = [ask(pair, "slow"), ask(pair, "quick")]
    assert ends(run(pair, *jobs)) == ["succeeded"] * 2 and pair.library.count() == 2
    assert pair.store.jobs.get(jobs[0].id).deaths == 0, "it was put back, not lost"


def test_second_studio_follows_while_the_first_works_and_takes_over_when_it_ends(home, engine):
    other = FlatEngine()
    first = Studio.open(home, open_engine=lambda name, settings: engine)
    with Studio.open(home, open_engine=lambda name, settings: other) as second:
        run(first, ask(first))
        mine = ask(second, "mine")
        assert run(second, mine)[-1].kind == "succeeded" and not other.made
        slow = ask(second, "slow")
        next(event for event in second.follow([slow]) if event.kind == "progress")
        threading.Timer(0.2, first.close).start()
        assert run(second, ask(second, "slow"))[-1].kind == "succeeded"
        assert [task.prompt for task in other.made] == ["slow"]


def test_job_that_ran_for_a_process_that_died_is_taken_over_by_who_follows_it(home, engine, studio):
    gone = studio.session("generate")
    job = studio.store.jobs.put(make_task(prompt="a", width=16, height=16), studio.key(make_task(prompt="a", width=16, height=16)), gone)[0]
    studio.store.jobs.claim("local", [gone])
    with studio.store.begin() as db:
        db.exec_driver_sql("UPDATE sessions SET owner = '999999:1.00' WHERE id = ?", (gone,))
    mine = ask(studio)
    assert mine.id == job.id and mine.state == "running"
    assert run(studio, mine)[-1].kind == "succeeded" and len(engine.made) == 1


def test_task_without_its_model_is_refused_before_it_is_stored(studio):
    with pytest.raises(ModelMissing):
        ask(studio, model="no-such-model")
    assert studio.store.jobs.find() == []


def test_task_fields_are_checked_in_one_sentence():
    with pytest.raises(BadInput, match=r"width: 100 is not divisible by 8; nearest: 96.*steps: .*greater than or equal to 1"):
        make_task(width=100, steps=0)


def test_input_pictures_are_kept_and_checked(studio, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "in.png")
    asset_id = studio.take_in(tmp_path / "in.png")
    assert studio.input_path(asset_id).read_bytes() == (tmp_path / "in.png").read_bytes()
    (tmp_path / "cut.png").write_bytes((tmp_path / "in.png").read_bytes()[:40])
    with pytest.raises(BadInput, match="not a picture"):
        studio.take_in(tmp_path / "cut.png")
    with pytest.raises(NotFound):
        studio.input_path("0" * 64)


CHILD = """
    import os, sys
    from dataclasses import replace
    from pathlib import Path
    sys.path[:0] = [{tests!r}]
    from flat_engine import FlatEngine
    from reverie import settings
    from reverie.studio import Studio, make_task
    home = replace(settings.load(), storage=Path({storage!r}))
    with Studio.open(home, open_engine=lambda name, settings: FlatEngine({at_once})) as studio:
        session = studio.session("generate")
        jobs = [studio.submit(make_task(prompt="p", seed=n, count=2, width=64, height=64), session) for n in range(0, 80, 2)]
        for event in studio.follow(jobs):
            print(event.kind, flush=True)
"""


@pytest.mark.parametrize("at_once", [1, 3])
def test_run_killed_at_any_moment_carries_on_without_a_lost_or_doubled_picture(home, at_once):
    code = textwrap.dedent(CHILD.format(at_once=at_once, tests=os.path.dirname(__file__), storage=str(home.storage)))
    kills = 0
    for lines_until_kill in (3, 17, 40, 61, None):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for number, _ in enumerate(child.stdout):
            if number == lines_until_kill:
                child.send_signal(signal.SIGKILL)
        code_of_exit = child.wait(timeout=60)
        kills += code_of_exit == -signal.SIGKILL  # the last ones may be done before
        assert code_of_exit == 0 or code_of_exit == -signal.SIGKILL and lines_until_kill is not None
    assert kills >= 2
    with Studio.open(home) as studio:
        jobs = studio.store.jobs.find()
        assert {job.state for job in jobs} == {"succeeded"} and len(jobs) == 40
        assert studio.library.count() == 80
        files = sorted((home.storage / "outputs" / "pictures").rglob("*"))
        pictures = [path for path in files if path.is_file() and path.suffix == ".png"]
        assert len(pictures) == 80 and {studio.path(asset) for asset in studio.library.list(1000)} == set(pictures)
