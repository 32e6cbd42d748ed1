"""The queue and the library on a real SQLite file."""

import sqlite3
import subprocess
import sys
import threading

import psutil
import pytest

from reverie.errors import EngineFailed, NotFound, StoreFailed
from reverie.store import Store, schema, sessions
from reverie.store.jobs import MAX_DEATHS, TRANSITIONS
from reverie.types import Asset, Task


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "reverie.sqlite3")
    yield store
    store.close()


@pytest.fixture
def session(store):
    return store.sessions.create("generate", "test", {"prompt": "a"})


def put(store, session, number=0, **more):
    task = Task(prompt=f"picture {number}", **more)
    return store.jobs.put(task, task.key(), session)[0]


def asset_of(job, index=0, **more):
    return Asset(id=f"{index:02d}" + job.id * 2, job=job.id, index=index, path=f"{job.id}_{index}.png",
                 recipe=job.task.model_dump(mode="json"), created_at=1.0 + index, **more)


def test_same_task_is_the_same_job(store, session):
    first, new = store.jobs.put(Task(prompt="a"), "key", session)
    again, new_again = store.jobs.put(Task(prompt="a"), "key", session)
    assert (new, new_again) == (True, False) and first.id == again.id


def test_claim_takes_priority_then_age_and_only_wanted_sessions(store, session):
    other = store.sessions.create("generate")
    put(store, other, 9)
    first, second = put(store, session, 1), put(store, session, 2)
    urgent = store.jobs.put(Task(prompt="urgent"), "u", session, priority=5)[0]
    claimed = [store.jobs.claim("n", [session]).id for _ in range(3)]
    assert claimed == [urgent.id, first.id, second.id]
    assert store.jobs.claim("n", [session]) is None


def test_two_claimers_never_get_the_same_job(store, session):
    for number in range(40):
        put(store, session, number)
    claimed = []

    def claim_all():
        while job := store.jobs.claim("n", [session]):
            claimed.append(job.id)

    threads = [threading.Thread(target=claim_all) for _ in range(4)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert len(claimed) == 40 == len(set(claimed))


@pytest.mark.parametrize("state", sorted(TRANSITIONS))
def test_only_listed_transitions_are_allowed(store, session, state):
    job = put(store, session)
    way = {"queued": [], "running": ["running"]}.get(state, ["running", state] if state in TRANSITIONS["running"] else [state])
    for step in way:
        job = store.jobs.move(job.id, step)
    for target in TRANSITIONS:
        if target not in TRANSITIONS[state]:
            with pytest.raises(StoreFailed, match="cannot become"):
                store.jobs.move(job.id, target)


def test_job_that_is_running_at_every_sudden_end_is_quarantined(store, session):
    put(store, session)
    for _ in range(MAX_DEATHS):
        job = store.jobs.claim("n", [session])
        store.jobs.requeue_orphans()
    job = store.jobs.get(job.id)
    assert job.state == "quarantined" and "broke off 3 times" in job.error
    again = store.jobs.ask_again(job, session, [])
    assert (again.state, again.deaths) == ("queued", 0)


def test_job_that_was_handed_back_often_is_not_taken_for_one_that_kills(store, session):
    put(store, session)
    for _ in range(MAX_DEATHS):
        store.jobs.move(store.jobs.claim("n", [session]).id, "queued")
    job = store.jobs.claim("n", [session])
    assert store.jobs.requeue_orphans() == 1
    assert (store.jobs.get(job.id).state, store.jobs.get(job.id).deaths) == ("queued", 1)


def test_job_that_may_kill_runs_alone_so_that_no_other_is_blamed(store, session):
    killer, other = put(store, session, 0), put(store, session, 1)
    for _ in range(MAX_DEATHS - 1):
        running = []
        while job := store.jobs.claim("n", [session], beside=running):
            running.append(job)
        assert [job.id for job in running] == [killer.id, other.id]
        store.jobs.requeue_orphans()
    (alone,) = [store.jobs.claim("n", [session])]
    assert alone.id == killer.id and store.jobs.claim("n", [session], beside=[alone]) is None
    store.jobs.requeue_orphans()
    assert store.jobs.get(killer.id).state == "quarantined"
    assert store.jobs.claim("n", [session], beside=[put(store, session, 2)]) is None, "the other waits until it is alone"
    assert store.jobs.claim("n", [session]).id == other.id


def test_engine_that_is_full_gets_no_more_and_others_do(store, session):
    first, second = put(store, session, 1, engine="one"), put(store, session, 2, engine="two")
    assert store.jobs.claim("n", [session], full=["one"]).id == second.id
    assert store.jobs.claim("n", [session], full=["one", "two"]) is None
    assert store.jobs.claim("n", [session]).id == first.id


def test_waiting_job_stays_with_its_session_while_that_lives(store, session):
    job, other = put(store, session), store.sessions.create("generate")
    assert store.jobs.ask_again(job, other, [session]).session == session
    assert store.jobs.ask_again(job, other, []).session == other


def test_finish_records_pictures_and_success_together(store, session):
    put(store, session)
    job = store.jobs.claim("n", [session])
    store.library.finish(job, [asset_of(job, 0), asset_of(job, 1)])
    assert store.jobs.get(job.id).state == "succeeded"
    assert [asset.index for asset in store.library.of_job(job.id)] == [0, 1]
    kinds = [event.kind for event in store.jobs.events([job.id])]
    assert kinds == ["queued", "started", "asset", "asset", "succeeded"]


def test_finishing_a_job_that_does_not_run_records_nothing(store, session):
    job = put(store, session)
    with pytest.raises(StoreFailed):
        store.library.finish(job, [asset_of(job)])
    assert store.library.of_job(job.id) == [] and store.library.count() == 0


def test_cancel_ends_waiting_jobs_at_once_and_marks_running_ones(store, session):
    put(store, session, 1)
    running = store.jobs.claim("n", [session])
    waiting = put(store, session, 2)
    assert store.jobs.request_cancel([running.id, waiting.id, "unknown"]) == 2
    assert store.jobs.get(waiting.id).state == "cancelled"
    assert store.jobs.get(running.id).state == "running" and store.jobs.cancel_requested(running.id)


def test_progress_keeps_the_last_preview_and_is_gone_with_the_job(store, session):
    put(store, session)
    job = store.jobs.claim("n", [session])
    store.jobs.report(job.id, 0.2, b"jpeg", "loads")
    store.jobs.report(job.id, 0.4)
    event = store.jobs.events([job.id])[-1]
    assert (event.kind, event.fraction, event.note, event.preview) == ("progress", 0.4, "loads", "anBlZw==")
    store.jobs.move(job.id, "failed", EngineFailed("It broke.", "Try again."))
    assert store.jobs.events([job.id])[-1].kind == "failed"
    assert store.jobs.get(job.id).error == "It broke. Try again."


def test_library_finds_by_words_and_by_beginning_of_the_id(store, session):
    for number in range(3):
        put(store, session, number)
        job = store.jobs.claim("n", [session])
        store.library.finish(job, [asset_of(job)])
    assert len(store.library.list(words="picture 1")) == 1
    assert store.library.list(words="100%") == []
    found = store.library.list()[0]
    assert store.library.get(found.id[:12]) == found
    with pytest.raises(NotFound):
        store.library.get("zz*zzz")


def test_beginning_that_two_pictures_share_names_neither(store, session):
    for number, name in enumerate(("abcdef1", "abcdef1", "abcdef2")):
        put(store, session, number)
        job = store.jobs.claim("n", [session])
        store.library.finish(job, [asset_of(job).model_copy(update={"id": name})])
    assert store.library.get("abcdef1").id == "abcdef1", "the same bytes, made twice"
    with pytest.raises(NotFound):
        store.library.get("abcdef")


def test_sessions_of_dead_processes_are_not_wanted(store, session):
    put(store, session)
    gone = store.sessions.create("generate")
    put(store, gone, 2)
    with store.begin() as db:
        db.exec_driver_sql("UPDATE sessions SET owner = '999999:1.00' WHERE id = ?", (gone,))
    assert store.sessions.wanted() == [session]


def test_processes_live_on_when_somebody_sets_the_clock(store, session, monkeypatch):
    put(store, session)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        other = store.sessions.create("generate")
        put(store, other, 2)
        with store.begin() as db:
            db.exec_driver_sql("UPDATE sessions SET owner = ? WHERE id = ?", (sessions.process(child.pid), other))
        if sys.platform == "linux":
            monkeypatch.setattr(psutil.Process, "create_time", lambda self: 1.0)
        assert set(store.sessions.wanted()) == {session, other}
        child.stdin.close()
    assert store.sessions.wanted() == [session]


def test_folder_may_have_any_name(tmp_path):
    store = Store(tmp_path / "what?now=#1 %20" / "reverie.sqlite3")
    put(store, store.sessions.create("generate"))
    store.close()
    assert store.path.exists() and [path.name for path in tmp_path.iterdir()] == ["what?now=#1 %20"]


@pytest.mark.parametrize("name", ["file/storage", "loop/storage", "long" * 100])
def test_folder_that_cannot_be_made_is_one_sentence(tmp_path, name):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(StoreFailed, match="cannot be written.*Choose another folder"):
        Store(tmp_path / name / "reverie.sqlite3")


def test_database_of_the_first_version_keeps_its_jobs(tmp_path):
    path = tmp_path / "old.sqlite3"
    with sqlite3.connect(path) as db:
        for statement in schema.MIGRATIONS[0]:
            db.execute(statement)
        db.execute("INSERT INTO sessions (id, flow, created_at) VALUES ('s', 'generate', 1)")
        db.execute("INSERT INTO jobs (id, key, session, task, state, attempt, lease_until, created_at) "
                   "VALUES ('j', 'k', 's', ?, 'running', 2, 9, 1)", (Task(prompt="old").model_dump_json(),))
        db.execute("PRAGMA user_version = 1")
    db.close()
    store = Store(path)
    assert store.jobs.requeue_orphans() == 1
    job = store.jobs.get("j")
    assert (job.task.prompt, job.state, job.deaths) == ("old", "queued", 1)
    store.close()


def test_database_of_a_newer_program_is_refused(tmp_path):
    path = tmp_path / "new.sqlite3"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 999")
    with pytest.raises(StoreFailed, match="Update SD-Reverie"):
        Store(path)


def test_damaged_database_is_one_sentence(tmp_path):
    path = tmp_path / "bad.sqlite3"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreFailed, match="not a database.*Move the file away"):
        Store(path)


def test_backup_is_a_whole_copy(store, session, tmp_path):
    put(store, session)
    store.backup(tmp_path / "copy.sqlite3")
    copy = Store(tmp_path / "copy.sqlite3")
    assert len(copy.jobs.find(session=session)) == 1
    copy.close()
