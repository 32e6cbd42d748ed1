"""A language model is asked over both protocols, by a real server that behaves and misbehaves as real ones do."""

import contextlib
import json
import logging
import os
import socket
import time

import pytest
from language_server import language_server
from pydantic import BaseModel

from reverie.errors import BadAnswer, BadInput, Unanswered
from reverie.language import model
from reverie.language.model import LanguageModel, Server

SECRET = "sk-very-secret-key"


class Inner(BaseModel):
    value: str = ""


class Shot(BaseModel):
    place: str
    people: list[Inner] = []


GOOD = json.dumps({"place": "garden", "people": [{"value": "Emma"}]})
QUESTION = [{"role": "system", "content": "Read."}, {"role": "user", "content": "Where is Emma?"}]


@pytest.fixture
def there():
    with language_server(answers=[("Emma", json.loads(GOOD))]) as server:
        yield server


@pytest.fixture(params=["ollama", "openai"])
def protocol(request):
    return request.param


def asking(there, protocol="ollama", **more):
    return LanguageModel(Server(**{"name": protocol, "protocol": protocol, "model": "reader:8b", "seconds": 20.0,
                                   "address": there.url + ("/v1" if protocol == "openai" else ""), **more}))


def test_an_answer_is_a_whole_object_and_the_server_gets_the_schema(there, protocol):
    with asking(there, protocol, context=6000) as asked:
        assert asked.ask(QUESTION, Shot) == Shot(place="garden", people=[Inner(value="Emma")])
    sent = there.asked[0]
    schema = sent["format"] if protocol == "ollama" else sent["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["place", "people"] and schema["additionalProperties"] is False
    assert schema["$defs"]["Inner"]["required"] == ["value"] and '"default"' not in json.dumps(schema)
    assert json.dumps(schema) in sent["messages"][0]["content"] and sent["stream"] is False
    if protocol == "ollama":
        assert sent["think"] is False and sent["options"] == {"temperature": 0, "num_ctx": 6000, "num_predict": 2000}
    else:
        assert sent["max_tokens"] == 2000 and sent["response_format"]["json_schema"]["strict"] is True


def test_ollama_is_asked_to_give_the_memory_back_once_it_was_used(there):
    with asking(there):
        pass
    assert there.unloaded == 0
    with asking(there) as asked:
        asked.ask(QUESTION, Shot)
    assert there.unloaded == 1


@pytest.mark.parametrize("wrong", ["She is in the garden.", '{"place": 3}', "", '{"place": "gar', "[1, 2]", "{" * 3000])
def test_an_answer_that_does_not_fit_is_repaired_once(there, protocol, wrong):
    there.replies = [wrong]
    with asking(there, protocol) as asked:
        assert asked.ask(QUESTION, Shot).place == "garden"
    first, second = there.asked
    assert second["messages"][:2] == first["messages"]
    assert [message["role"] for message in second["messages"][2:]] == ["assistant", "user"]
    assert "cannot be used" in second["messages"][3]["content"]


def test_an_answer_that_never_fits_is_an_error_of_one_sentence(there):
    there.replies = ["no", "no"]
    with asking(there) as asked, pytest.raises(BadAnswer, match="does not fit: it is no JSON object"):
        asked.ask(QUESTION, Shot)


def test_an_answer_in_a_fence_after_thoughts_is_found(there):
    there.replies = [f"<think>She {{is}} in</think>Here you are:\n```json\n{GOOD}\n```\nAnything else?"]
    with asking(there) as asked:
        assert asked.ask(QUESTION, Shot).place == "garden"


@pytest.mark.parametrize("protocol", ["ollama", "openai"])
def test_an_answer_cut_short_is_told_so(there, protocol):
    there.replies = [lambda handler: getattr(handler, protocol)({"model": "reader:8b"}, '{"place": "gar', "length")]
    with asking(there, protocol) as asked:
        asked.ask(QUESTION, Shot)
    assert "cut off" in there.asked[1]["messages"][3]["content"]


def test_a_server_that_knows_no_schemas_is_asked_in_plainer_forms_and_this_is_remembered(there):
    unknown = 400, {"error": {"message": "This response_format type is unavailable now", "type": "invalid_request_error"}}
    there.refuses = {"json_schema": unknown}
    with asking(there, "openai") as asked:
        assert asked.ask(QUESTION, Shot).place == asked.ask(QUESTION, Shot).place == "garden"
    assert [sent["response_format"]["type"] for sent in there.asked] == ["json_schema", "json_object", "json_object"]
    there.refuses, there.asked = {"response_format": (422, {"detail": "extra fields not permitted"})}, []
    with asking(there, "openai") as asked:
        assert asked.ask(QUESTION, Shot).place == "garden"
    assert len(there.asked) == 3 and "response_format" not in there.asked[2]


def test_an_old_ollama_that_wants_format_to_be_a_word_is_asked_for_json(there):
    refusal = "json: cannot unmarshal object into Go struct field ChatRequest.format of type string"
    there.refuses = {"object": (400, {"error": refusal})}
    with asking(there) as asked:
        assert asked.ask(QUESTION, Shot).place == "garden"
    assert there.asked[1]["format"] == "json"


def test_settings_that_a_model_refuses_are_left_out(there):
    tokens = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    warmth = "Unsupported value: 'temperature' does not support 0 with this model."
    there.refuses = {"max_tokens": (400, {"error": {"message": tokens}}), "temperature": (400, {"error": {"message": warmth}})}
    with asking(there, "openai", context=6000) as asked:
        assert asked.ask(QUESTION, Shot).place == "garden"
    last = there.asked[-1]
    assert last["max_completion_tokens"] == 2000 and not {"temperature", "max_tokens"} & set(last)
    assert last["response_format"]["type"] == "json_schema"


def test_a_model_that_is_not_there_is_said_with_what_to_do(there, protocol):
    with asking(there, protocol, model="absent:70b") as asked, pytest.raises(Unanswered, match="is not on") as error:
        asked.ask(QUESTION, Shot)
    told = str(error.value)
    assert "'absent:70b'" in told and ("ollama pull absent:70b" in told) == (protocol == "ollama")
    assert str(there.port) not in told
    with asking(there, protocol, model="absent:70b") as asked, pytest.raises(Unanswered, match="reader:8b"):
        asked.check()


def test_a_model_without_a_name_is_the_only_one_there(there):
    with asking(there, "openai", model="") as asked:
        assert asked.name == "reader:8b" and asked.ask(QUESTION, Shot).place == "garden"
    there.models = ["one", "two"]
    with asking(there, "openai", model="") as asked, pytest.raises(Unanswered, match="There are: one, two"):
        asked.ask(QUESTION, Shot)


def trickle(handler):
    """A server that always has a little more to say."""
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(100):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.1)


@pytest.mark.parametrize("slow_s, replies", [(3.0, []), (0, [trickle])], ids=["slow", "trickling"])
def test_a_server_is_left_after_the_time_given(there, slow_s, replies):
    there.slow_s, there.replies = slow_s, list(replies)
    started = time.monotonic()
    with asking(there, seconds=0.5) as asked, pytest.raises(Unanswered, match="within 0.5 s"):
        asked.ask(QUESTION, Shot)
    assert time.monotonic() - started < 8


def test_a_server_that_is_down_is_said(protocol):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    server = Server(protocol, protocol, "reader:8b", f"http://127.0.0.1:{port}")
    with LanguageModel(server) as asked, pytest.raises(Unanswered, match="does not answer") as error:
        asked.ask(QUESTION, Shot)
    assert f"REVERIE_{protocol.upper()}_URL" in str(error.value) and str(port) not in str(error.value)


def test_a_busy_server_is_asked_again(there):
    there.replies = [lambda handler: handler.send(503, {"error": "server busy, please try again."}, Retry_After="1")]
    with asking(there) as asked:
        assert asked.ask(QUESTION, Shot).place == "garden"


@pytest.mark.parametrize("answer", [
    b"<html><h1>Welcome</h1></html>", {"choices": []}, {"error": "out of memory"}, {"choices": [{"message": None}]}])
def test_a_server_of_another_kind_is_an_error_of_one_sentence(there, protocol, answer):
    there.replies = [lambda handler: handler.send(200, answer)]
    with asking(there, protocol) as asked, pytest.raises(Unanswered):
        asked.ask(QUESTION, Shot)


def test_neither_key_nor_address_is_told(there, caplog):
    caplog.set_level(logging.DEBUG)
    there.key = "another"
    server = Server("openai", "openai", "reader:8b", f"{there.url}/v1", SECRET)
    with LanguageModel(server) as asked, pytest.raises(Unanswered) as refused:
        asked.ask(QUESTION, Shot)
    there.key = SECRET
    there.replies = [lambda handler: handler.send(418, {"error": f"{SECRET} at {there.url}/v1"})]
    with LanguageModel(server) as asked, pytest.raises(Unanswered) as other:
        asked.ask(QUESTION, Shot)
    with LanguageModel(server) as asked:
        assert asked.ask(QUESTION, Shot).place == "garden"
    told = f"{server!r} {refused.value} {other.value} {caplog.text}"
    assert SECRET not in told and str(there.port) not in told and "REVERIE_OPENAI_KEY" in told


# ------------------------------------------------------------------------------------------------ which server


@pytest.fixture
def environment(monkeypatch, tmp_path):
    for name in ["OLLAMA_HOST", "OPENAI_API_KEY", "OPENAI_BASE_URL", *(n for n in os.environ if n.startswith("REVERIE_O"))]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REVERIE_STORAGE", str(tmp_path))
    return monkeypatch


@pytest.mark.parametrize("said, meant", [
    ("127.0.0.1", "http://127.0.0.1:11434"), ("0.0.0.0:8000", "http://127.0.0.1:8000"), (":9999", "http://127.0.0.1:9999"),
    ("https://box.lan/", "https://box.lan"), ("http://box:1/api", "http://box:1"), ("[::1]:5", "http://[::1]:5"),
    ("http://me:pw@box:1/v1/", "http://me:pw@box:1")])
def test_an_address_of_ollama_is_read_as_ollama_reads_it(environment, said, meant):
    environment.setenv("OLLAMA_HOST", said)
    assert model.server("ollama").address == meant


@pytest.mark.parametrize("said, meant", [
    ("http://box:8000", "http://box:8000/v1"), ("https://api.deepseek.com/v1/", "https://api.deepseek.com/v1"),
    ("https://openrouter.ai/api/v1/chat/completions", "https://openrouter.ai/api/v1")])
def test_an_openai_compatible_address_may_be_written_in_many_ways(environment, said, meant):
    environment.setenv("REVERIE_OPENAI_URL", said)
    assert model.server("OpenAI:tiny").address == meant and model.server("openai:tiny").model == "tiny"


def test_a_key_that_others_know_goes_only_where_it_belongs(environment):
    environment.setenv("OPENAI_API_KEY", SECRET)
    assert model.server("openai").key == SECRET and model.server("lmstudio").key == ""
    environment.setenv("REVERIE_OPENAI_URL", "http://box:1")
    assert model.server("openai").key == ""
    environment.setenv("REVERIE_OPENAI_KEY", "own")
    assert model.server("openai").key == "own"


def test_secrets_may_lie_in_a_file_that_only_its_owner_reads(environment, tmp_path):
    secrets = tmp_path / "secrets.env"
    secrets.write_text("# mine\nREVERIE_OLLAMA_MODEL = 'qwen3:8b'\nREVERIE_OLLAMA_SECONDS=7\n")
    secrets.chmod(0o600)
    server = model.server("ollama")
    assert (server.model, server.seconds, server.context) == ("qwen3:8b", 7.0, 8192) and model.configured() == ["ollama"]
    environment.setenv("REVERIE_OLLAMA_MODEL", "phi4:14b")
    assert model.server("ollama").model == "phi4:14b" and model.server("ollama:hermes3:8b").model == "hermes3:8b"
    secrets.chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        model.server("ollama")


@pytest.mark.parametrize("writer", ["gpt", f"http://me:{SECRET}@box", "openai:"])
def test_an_unknown_server_is_said_without_what_may_be_secret(environment, writer):
    if writer == "openai:":
        assert model.server(writer).model == ""
        return
    with pytest.raises(BadInput, match="ollama") as error:
        model.server(writer)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("name, value", [
    ("CONTEXT", "many"), ("SECONDS", "-1"), ("URL", "http://box:port"), ("URL", "ftp://box"), ("KEY", "schlüssel")])
def test_a_setting_that_cannot_be_is_said_with_its_name(environment, name, value):
    environment.setenv(f"REVERIE_OLLAMA_{name}", value)
    with pytest.raises(BadInput, match=f"REVERIE_OLLAMA_{name}"):
        model.server("ollama")
