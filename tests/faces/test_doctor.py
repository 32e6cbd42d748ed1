"""`reverie doctor` on machines that are well and on machines that are not."""

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from reverie import settings
from reverie.faces import cli_doctor
from reverie.store import Store


@pytest.fixture
def here(tmp_path):
    return replace(settings.load(), storage=tmp_path / "storage")


def test_every_check_is_a_finding_with_a_next_step_for_whatever_is_not_well(reverie):
    done = reverie("doctor", "--json")
    findings = json.loads(done.stdout)
    assert len(findings) == len(cli_doctor.CHECKS)
    assert all(finding["next_step"] for finding in findings if not finding["ok"])
    assert done.returncode == (0 if all(finding["ok"] for finding in findings) else 1)


def test_findings_are_lines_that_say_what_to_do(capsys):
    cli_doctor.tell([cli_doctor.Finding("disk", True, "80 GB free"), cli_doctor.Finding("models", False, "none", "Fetch one.")])
    assert capsys.readouterr().out.splitlines() == ["ok    disk      80 GB free", "warn  models    none", "                Fetch one."]


def test_a_sound_database_is_told_with_its_pictures(here):
    Store(here.database).close()
    assert cli_doctor.check_database(here).found == "sound, 0 pictures"


def test_a_damaged_database_is_a_warning_with_a_next_step(here):
    here.storage.mkdir()
    here.database.write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    finding = cli_doctor.check_database(here)
    assert not finding.ok and str(here.database) in finding.next_step


def test_the_doctor_changes_nothing(here):
    cli_doctor.examine(here)
    assert not here.storage.exists()


def test_a_check_that_breaks_is_a_finding_too(here):
    def check_card(settings):
        raise RuntimeError("CUDA driver initialization failed,\nyou might not have a card")

    finding = cli_doctor._try(check_card, here)
    assert not finding.ok and finding.next_step
    assert finding.name == "card"
    assert finding.found == "could not be looked at (CUDA driver initialization failed, you might not have a card)"


def test_a_foreign_database_is_a_warning(here):
    here.storage.mkdir()
    sqlite3.connect(here.database).close()
    here.database.write_bytes(b"")
    assert not cli_doctor.check_database(here).ok


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="wants a folder that nobody can write into, root neither")
def test_a_storage_where_nothing_can_be_written_is_a_warning_for_root_too(here):
    assert cli_doctor.check_storage(here).ok
    assert not cli_doctor.check_storage(replace(here, storage=Path("/proc/reverie"))).ok
