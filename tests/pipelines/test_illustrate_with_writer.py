"""A book is illustrated with a language model that reads it: from the parameters and the environment to files on disk."""

import json
import zipfile
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import yaml
from flat_engine import FlatEngine
from language_server import language_server

from reverie import settings
from reverie.errors import BadInput
from reverie.faces import cli_doctor
from reverie.pipelines import illustrate
from reverie.studio import Studio

STORY = """# Chapter 1: The Gate

Emma stood in the garden at dawn. She was a tall woman with grey hair. Rain fell on the white statue and Emma said nothing.

* * *

At night Emma walked through the forest. A red house burned, and Emma watched it.
"""
PEOPLE = {"people": [{"name": "Emma", "kind": {"value": "woman", "quote": "She was a tall woman"},
                      "look": {"value": "a tall woman with grey hair", "quote": "a tall woman with grey hair"}}]}
SHOT = {"characters": [{"value": "Emma", "quote": "and Emma watched it"}],
        "action": {"value": "watching a house burn", "who": "Emma", "quote": "A red house burned"},
        "mood": {"value": "joyful", "quote": "she laughed out loud"}}
KEY = "sk-very-secret-key"


@pytest.fixture
def there(monkeypatch):
    answers = [("The text, from chapter", PEOPLE), ("red house burned", SHOT), ("", {"characters": []})]
    with language_server(key=KEY, answers=answers) as server:
        monkeypatch.setenv("REVERIE_OPENAI_URL", f"{server.url}/v1")
        monkeypatch.setenv("REVERIE_OPENAI_KEY", KEY)
        yield server


@pytest.fixture
def studio(tmp_path, monkeypatch):
    monkeypatch.setenv("REVERIE_STORAGE", str(tmp_path / "storage"))
    home = replace(settings.load(), storage=tmp_path / "storage")
    with Studio.open(home, open_engine=lambda name, settings: FlatEngine()) as studio:
        yield studio


@pytest.fixture
def params(tmp_path):
    story = tmp_path / "my-story.md"
    story.write_text(STORY)
    return illustrate.Params(text=str(story), out=str(tmp_path / "out"), outputs="storyboard", writer="openai:reader:8b")


def run(studio, params, **more):
    return list(illustrate.run(studio, params.model_copy(update=more)))


def test_a_dry_run_asks_and_the_run_after_it_draws_without_asking(studio, params, there, tmp_path):
    dry = run(studio, params, dry_run=True)
    assert [update.kind for update in dry[:4]] == ["progress"] * 3 + ["plan"] and "scene 2" in dry[2].text
    assert len(there.asked) == 3 and dry[3].data[1]["action"] == "watching a house burn"
    assert any("left out because what they quote is not there" in update.text for update in dry if update.kind == "note")
    wet = run(studio, params)
    assert len(there.asked) == 3 and wet[-1].data["failed"] == 0 and len(wet[-1].data["pictures"]) == 2
    assert any("watching" in name for name in wet[-1].data["pictures"])
    sheet = yaml.safe_load((tmp_path / "out/characters.yaml").read_text())
    assert sheet["Emma"]["look"] == "a tall woman with grey hair"
    assert any("paragraph" in line for line in sheet["Emma"]["evidence"])
    claims = json.loads((tmp_path / "out/claims.json").read_text())
    of_scene = [claim for claim in claims["1"] if claim["scene"] == 2]
    assert [claim["what"] for claim in of_scene] == ["character", "action"]
    assert [claim["what"] for claim in claims["1"] if claim.get("person") == "Emma"] == ["name", "kind", "look"]
    assert illustrate.rows(params)[1]["claims"] == of_scene and len(there.asked) == 3


def test_nothing_that_is_written_has_the_key_or_the_address(studio, params, there, tmp_path):
    updates = run(studio, params)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()) + repr(updates).encode()
    assert KEY.encode() not in written and f"127.0.0.1:{there.port}".encode() not in written
    assert b"openai:reader:8b" in written


def test_a_persons_prompt_and_sheet_stay_as_they_are(studio, params, there, tmp_path):
    run(studio, params, writer="off")
    sheet = tmp_path / "out/characters.yaml"
    sheet.write_text("Emma: {kind: woman, look: a short woman, phrase: a short woman}\n")
    row = illustrate.rows(params.model_copy(update={"writer": "off"}))[1]
    illustrate.save_prompt(params, row["filename"], "my own words", "")
    updates = run(studio, params)
    assert sheet.read_text() == "Emma: {kind: woman, look: a short woman, phrase: a short woman}\n"
    rows = next(update.data for update in updates if update.kind == "plan")
    assert rows[1]["prompt"] == "my own words" and rows[1]["edited"]


def test_without_its_server_a_run_draws_what_the_rules_say(studio, params, there, monkeypatch):
    plain = illustrate.rows(params.model_copy(update={"writer": "off"}))
    there.close()
    updates = run(studio, params)
    rows = next(update.data for update in updates if update.kind == "plan")
    assert updates[-1].data["failed"] == 0 and [row["prompt"] for row in rows] == [row["prompt"] for row in plain]
    assert [update.text for update in updates if "REVERIE_OPENAI_URL" in update.text]


def test_a_run_that_is_closed_while_it_asks_keeps_the_answers(studio, params, there):
    updates = illustrate.run(studio, params)
    next(updates), next(updates)
    updates.close()
    assert len(there.asked) == 1
    run(studio, params)
    assert len(there.asked) == 3


def test_an_unknown_writer_is_said_at_once(studio, params):
    with pytest.raises(BadInput, match="off, ollama, openai"):
        run(studio, params, writer="gpt")


def test_the_doctor_says_whether_what_is_set_up_answers(there, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "OLLAMA_HOST"):
        monkeypatch.delenv(name, raising=False)
    home = settings.load()
    assert cli_doctor.check_writer(home) == cli_doctor.Finding("writer", True, "openai answers and has reader:8b")
    monkeypatch.setenv("REVERIE_OPENAI_MODEL", "absent")
    finding = cli_doctor.check_writer(home)
    assert not finding.ok and "'absent' is not on openai" in finding.found and "reader:8b" in finding.next_step
    monkeypatch.setenv("REVERIE_OPENAI_KEY", "wrong")
    assert "wants a key" in cli_doctor.check_writer(home).found and "wrong" not in str(cli_doctor.check_writer(home))
    there.close()
    assert "does not answer" in cli_doctor.check_writer(home).found
    for name in ("URL", "KEY", "MODEL"):
        monkeypatch.delenv(f"REVERIE_OPENAI_{name}")
    assert cli_doctor.check_writer(home).ok


def test_the_book_is_in_the_language_of_the_text(studio, tmp_path):
    story = tmp_path / "geschichte.md"
    story.write_text("# Kapitel 1\n\nDie Frau ging durch den Wald und sie war nicht allein. Der Mond stand auf dem Hügel, "
                     "und das Haus war dunkel.\n")
    params = illustrate.Params(text=str(story), out=str(tmp_path / "out"), outputs="epub")
    book = zipfile.ZipFile(run(studio, params)[-1].data["epub"])
    package = ElementTree.fromstring(book.read("book/package.opf"))
    assert package.find(".//{http://purl.org/dc/elements/1.1/}language").text == "de"
    pages = [package, *(ElementTree.fromstring(book.read(name)) for name in book.namelist() if name.endswith(".xhtml"))]
    assert {page.get("{http://www.w3.org/XML/1998/namespace}lang") for page in pages} == {"de"}
