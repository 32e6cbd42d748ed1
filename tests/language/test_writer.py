"""A language model reads a book: what it claims is kept only where the text says so, and nobody's own words are changed."""

import json
import re
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from language_server import language_server

from reverie import language
from reverie.language import chapters, model, people, quotes, scenes, writer

STORY = """# Chapter 1: The Gate

Emma Hale stood in the garden at dawn. She was a tall woman with grey hair, and she wore a long green cloak. Rain fell on the
white statue. “Come in, Dr. Hale,” said Tom, who was barely nine years old.

* * *

That night Emma walked through the forest; the *old* lantern shook in her hand. Tom was far away, and she feared the dark.
"""


def said(value, quote):
    return {"value": value, "quote": quote}


PEOPLE = {"people": [
    {"name": "Emma Hale",
     "aliases": [said("Dr. Hale", "Come in, Dr. Hale"), said("The Colonel", "said the Colonel")],
     "kind": said("woman", "She was a tall woman"), "age": said("", ""),
     "look": said("a tall woman with grey hair", "a tall woman with grey hair"),
     "clothes": said("long green cloak", "she wore a long green cloak")},
    {"name": "Tom", "aliases": [], "kind": said("child", "barely nine years old"), "age": said("9", "barely nine years old"),
     "look": said("a boy with red hair", "Tom had fiery red hair"), "clothes": None},
    {"name": "Gandalf", "aliases": [], "kind": said("man", "in the garden at dawn")},
]}
FIRST = {
    "characters": [said("Tom", "said Tom, who was"), said("Dr. Hale", '"Come in, Dr. Hale,"')],
    "setting": said("Garden with a white statue", "Rain fell on the white statue"),
    "place": said("garden", "in the garden at dawn"), "time": said("dawn", "in the garden at dawn"),
    "mood": said("tender", "Come in, Dr. Hale"),
    "action": said("Tom waving at the gate.", "said Tom, who was") | {"who": "Tom"},
}
SECOND = {
    "characters": [said("Emma", "Emma walked through the forest")],
    "setting": said("moonlit beach", "the waves broke on the beach"), "place": said("sea", "the waves broke on the beach"),
    "time": said("night", "That night Emma walked"), "mood": said("grumpy", "she feared the dark"),
    "action": said("holding up a shaking lantern", "the old lantern shook in her hand") | {"who": "Emma Hale"},
}
ANSWERS = [("The text, from chapter", PEOPLE), ("She was a tall woman", FIRST), ("old* lantern", SECOND)]


@pytest.fixture
def there():
    with language_server(answers=ANSWERS) as server:
        yield server


@pytest.fixture
def story(tmp_path):
    path = tmp_path / "story.md"
    path.write_text(STORY)
    return path


def read(there, story, tmp_path, **more):
    """(the reading, the writer) with the server's model."""
    server = model.Server("ollama", "ollama", "reader:8b", there.url, seconds=30.0)
    with model.LanguageModel(server) as asked:
        scribe = writer.Writer(asked, tmp_path / "cache")
        return language.read(story, writer=scribe, **more), scribe


def claims_of(reading):
    of_scenes = [claim for row in reading.rows for claim in row["claims"]]
    return of_scenes + [claim for told in reading.claims.values() for claim in told]


def chapter_text():
    return STORY.partition("\n\n")[2]


def test_what_the_text_says_comes_into_the_sheet_and_the_shots(there, story, tmp_path):
    reading, scribe = read(there, story, tmp_path)
    emma, tom = (next(p for p in reading.cast.values() if name in p.name) for name in ("Emma", "Tom"))
    assert (emma.kind, emma.look) == ("woman", "a tall woman with grey hair")
    assert (emma.clothes, emma.colour) == ("long green cloak", "green")
    assert "Dr. Hale" in (emma.name, *emma.aliases) and (tom.kind, tom.age) == ("child", "9")
    assert any(re.match(r"long green cloak: chapter 1, paragraph \d, characters \d+-\d+", line) for line in emma.evidence)
    first, second = reading.rows
    assert first["characters"] == ["Tom", emma.name] and first["setting"] == "garden with a white statue"
    assert (first["time"], first["mood"], first["action"]) == ("at dawn", "tender", "waving at the gate")
    assert (second["characters"], second["time"]) == ([emma.name], "at night")
    assert second["action"] == "holding up a shaking lantern"
    assert "waving at the gate" not in second["prompt"] and len(there.asked) == 3


def test_a_claim_without_a_true_quote_is_left_out_and_counted(there, story, tmp_path):
    reading, scribe = read(there, story, tmp_path)
    plain = language.read(story).rows
    assert "Gandalf" not in reading.cast and "The Colonel" not in str(reading.cast) and "red hair" not in str(reading.cast)
    assert "beach" not in reading.rows[1]["setting"] and reading.rows[1]["setting"] == plain[1]["setting"]
    assert reading.rows[1]["mood"] == plain[1]["mood"] != "grumpy"
    assert scribe.unquoted == 5 and any("5 left out because what they quote is not there" in note for note in reading.notes)


def test_every_claim_keeps_the_characters_it_stands_on(there, story, tmp_path):
    reading, scribe = read(there, story, tmp_path)
    text = chapters.read(story)[0].text
    claims = claims_of(reading)
    assert len(claims) > 12 and f"{len(claims)} claims traced" in " ".join(reading.notes)
    for claim in claims:
        assert text[claim["start"]:claim["end"]] == claim["quote"] and claim["chapter"] == 1
    deed = next(claim for claim in claims if claim["what"] == "action" and claim["scene"] == 2)
    assert deed["quote"] == "the *old* lantern shook in her hand"


def test_a_second_run_asks_nothing_and_one_cut_short_carries_on(there, story, tmp_path):
    there.replies = [json.dumps(PEOPLE), lambda handler: handler.send(500, {"error": "llama runner process has terminated"})]
    halfway, scribe = read(there, story, tmp_path)
    assert "llama runner" in halfway.notes[-1] and len(there.asked) == 2 and scribe.asked == 1
    there.asked.clear()
    whole, _ = read(there, story, tmp_path)
    assert len(there.asked) == 2
    there.asked.clear()
    again, scribe = read(there, story, tmp_path)
    assert not there.asked and scribe.known == 3 and again.rows == whole.rows and again.cast == whole.cast
    story.write_text(STORY.replace("Rain fell", "Snow fell"))
    read(there, story, tmp_path)
    assert len(there.asked) == 2  # the chapter's people and the scene that changed


def test_answers_outlive_the_server(there, story, tmp_path):
    whole, _ = read(there, story, tmp_path)
    there.models = []
    again, scribe = read(there, story, tmp_path)
    assert again.rows == whole.rows and not scribe.failure


@pytest.mark.parametrize("trouble", ["no model", "garbage", "slow"])
def test_where_the_model_fails_the_rules_result_stands_and_one_note_says_why(there, story, tmp_path, trouble):
    there.models = [] if trouble == "no model" else there.models
    there.replies = ["Once upon a time"] * 9 if trouble == "garbage" else []
    there.slow_s = 2 if trouble == "slow" else 0
    server = model.Server("ollama", "ollama", "reader:8b", there.url, seconds=0.5 if trouble == "slow" else 30)
    with model.LanguageModel(server) as asked:
        reading = language.read(story, writer=writer.Writer(asked, tmp_path / "cache"))
    plain = language.read(story)
    assert reading.rows == plain.rows and reading.cast == plain.cast
    told = [note for note in reading.notes if note not in plain.notes and "rules stand in" in note]
    why = {"no model": "not on ollama", "garbage": "does not fit", "slow": "within 0.5 s"}[trouble]
    assert len(told) == (2 if trouble == "garbage" else 1) and why in told[-1]
    assert len(there.asked) == {"no model": 1, "garbage": 6, "slow": 1}[trouble]


def test_a_persons_own_sheet_stays_and_a_note_tells_of_other_words(there, story, tmp_path):
    sheet = tmp_path / "own.yaml"
    sheet.write_text("Emma: {kind: woman, look: a short woman, clothes: blue coat, aliases: [Emma Hale, Dr. Hale]}\n")
    before = sheet.read_text()
    reading, _ = read(there, story, tmp_path, kept=sheet)
    assert (reading.cast["Emma"].look, reading.cast["Emma"].clothes) == ("a short woman", "blue coat")
    assert sheet.read_text() == before and "Emma" not in reading.new
    assert any("describe Emma in other words" in note for note in reading.notes)
    assert reading.rows[1]["characters"] == ["Emma"]


def test_two_names_become_one_person_only_where_a_true_quote_has_both(there, tmp_path):
    story = tmp_path / "story.md"
    story.write_text("# Chapter 1\n\nPip said no. William, whom all of us called Pip, went home. “Go,” said Joe.\n")
    person = {"name": "William", "kind": said("man", "William, whom all")}
    for quote, names in (("William, whom all of us called Pip", 1), ("Pip said no", 2), ("William is Pip", 2)):
        people = {"people": [person | {"aliases": [said("Pip", quote)]}]}
        there.answers = [("The text, from", people), ("", {"characters": []})]
        cast = read(there, story, tmp_path / str(len(quote)))[0].cast
        assert len([name for name in cast if name in ("William", "Pip")]) == names


def test_a_name_of_two_people_is_nobodys(there, tmp_path):
    story = tmp_path / "story.md"
    story.write_text("# Chapter 1\n\nEmma and Tom were in the garden. The Doctor wore a red coat and waited there, and so did Ann.\n")
    names = {"Emma": ("the Doctor",), "Tom": ("the Doctor", "Ann"), "Ann": ()}
    everyone = {name: people.Person(name, aliases=aliases) for name, aliases in names.items()}
    red, too = "The Doctor wore a red coat", "and so did Ann"
    bob = {"name": "Bob", "aliases": [said("the Doctor", red)], "kind": said("man", too)}
    there.answers = [
        ("The text, from", {"people": [{"name": "The Doctor", "kind": said("man", red), "clothes": said("a red coat", red)}, bob]}),
        ("", {"characters": [said("the Doctor", red), said("Ann", too)]}),
    ]
    with model.LanguageModel(model.Server("ollama", "ollama", "reader:8b", there.url, seconds=30.0)) as asked:
        scribe, book = writer.Writer(asked, tmp_path / "cache"), chapters.read(story)
        assert language.finished(scribe.people(book, everyone)) == everyone and not scribe.heard
        told, _ = language.finished(scribe.shots(scenes.split(book[0]), {1: book[0]}, everyone))[1, 1]
    assert told.people == ("Ann",), "her own name is hers, whoever else is called so"


@pytest.mark.parametrize("name", ["off", " OFF ", "", "none", "False"])
def test_no_writer_is_wanted_where_its_name_says_so(name):
    assert not model.is_wanted(name) and model.is_wanted("ollama") and model.is_wanted("offline")


def test_a_long_chapter_is_asked_in_pieces(there, tmp_path):
    story = tmp_path / "long.md"
    story.write_text("# Chapter 1\n\n" + "\n\n".join(f"Emma said the word number {n} and looked up." for n in range(400)))
    there.answers = [("", {"people": []})]
    server = model.Server("ollama", "ollama", "reader:8b", there.url, context=3000, seconds=30.0)
    with model.LanguageModel(server) as asked:
        language.read(story, writer=writer.Writer(asked, tmp_path / "cache"))
    sent = [sum(len(m["content"].encode()) for m in request["messages"]) for request in there.asked]
    assert len(sent) > 3 and max(sent) <= 3000 * 3 * 2 // 3


# --------------------------------------------------------------------------------------------------- properties


@settings(deadline=None)
@given(st.text("ab .\n”—é本", max_size=400), st.integers(10, 120))
def test_pieces_lose_nothing_and_are_never_too_long(text, most):
    spans = writer.pieces(text, most)
    assert "".join(text[a:b] for a, b in spans) == text
    assert all(len(text[a:b].encode()) <= most for a, b in spans)


TEXT = re.sub(r"\s+", " ", chapter_text()).strip()
WORDS = [(m.start(), m.end()) for m in re.finditer(r"[\w.]+", TEXT)]


@settings(deadline=None)
@given(st.integers(0, len(WORDS) - 4), st.integers(1, 3), st.sampled_from(["  ", "\n", "\t "]), st.booleans())
def test_a_quote_is_found_however_its_blanks_and_marks_are_written(first, more, blank, curly):
    start, end = WORDS[first][0], WORDS[first + more][1]
    quote = TEXT[start:end].replace(" ", blank).replace("*", "")
    quote = f"“{quote}”" if curly else quote.replace("“", '"').replace("”", '"')
    found = quotes.find(TEXT, quote)
    assert found and TEXT[slice(*found)].strip(".*") in TEXT
    assert re.findall(r"\w+", TEXT[slice(*found)]) == re.findall(r"\w+", quote)


@settings(deadline=None)
@given(st.text("abehmnot ”'", max_size=12))
def test_what_is_not_in_the_text_is_not_found(quote):
    found = quotes.find(TEXT, quote, 1)
    letters = re.findall(r"\w+", quote)
    assert (found is None) or re.findall(r"\w+", TEXT[slice(*found)]) == letters
    assert quotes.find(TEXT, "ma Ha") is None and quotes.find(TEXT, "Emma") is None


some_quotes = st.one_of(
    st.integers(0, len(WORDS) - 6).flatmap(lambda i: st.integers(1, 5).map(lambda n: TEXT[WORDS[i][0]:WORDS[i + n][1]])),
    st.sampled_from(["she rode a white horse", "Emma Hale laughed", "", "the", "Tom Tom Tom", "in the cellar at dawn"]),
    st.text(max_size=20))
some_values = st.one_of(
    st.sampled_from(["woman", "man", "night", "dawn", "sea", "garden", "Emma", "Tom", "Dr. Hale", "a tall man with red hair",
                     "red coat", "walking home", "{a|b}", "__x__", "<lora:x:1>", "99"]),
    st.text(max_size=15))
saids = st.builds(said, some_values, some_quotes)
OF_PERSON, OF_SCENE = ("kind", "age", "look", "clothes"), ("setting", "place", "time", "mood")
persons = st.fixed_dictionaries(
    {"name": some_values, "aliases": st.lists(saids, max_size=2), **dict.fromkeys(OF_PERSON, saids)})
actions = st.builds(lambda one, who: one | {"who": who}, saids, some_values)
shots = st.fixed_dictionaries(
    {"characters": st.lists(saids, max_size=3), "action": actions, **dict.fromkeys(OF_SCENE, saids)})


@settings(max_examples=30, deadline=None)
@given(st.lists(persons, max_size=3), shots)
def test_no_claim_without_a_quote_that_is_in_the_text(tmp_path_factory, people, shot):
    folder = tmp_path_factory.mktemp("any")
    (folder / "story.md").write_text(STORY)
    answers = {writer.PeopleSaid: {"people": people}, writer.ShotSaid: shot}
    asked = SimpleNamespace(server=SimpleNamespace(model="any"), room=lambda *_: 9000,
                            ask=lambda messages, form: form.model_validate(answers[form]))
    reading = language.read(folder / "story.md", writer=writer.Writer(asked, folder / "cache"), family="sdxl")
    text = chapters.read(folder / "story.md")[0].text
    given = [one["quote"] for person in people for one in (*person["aliases"], *(person[what] for what in OF_PERSON))]
    given += [one["quote"] for one in (*shot["characters"], shot["action"], *(shot[what] for what in OF_SCENE))]
    given += [person["name"] for person in people]
    for claim in claims_of(reading):
        assert claim["quote"] and text[claim["start"]:claim["end"]] == claim["quote"]
        assert any(re.findall(r"\w+", quote.replace("_", "")) == re.findall(r"\w+", claim["quote"]) for quote in given)
    for row in reading.rows:
        assert row["prompt"] and not re.search(r"[{}<>|_]", row["prompt"])
