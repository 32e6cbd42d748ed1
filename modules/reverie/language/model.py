"""A language model behind an HTTP server, asked for one object at a time: Ollama, or whatever speaks OpenAI's API.

    with LanguageModel(server("ollama")) as model:
        shot = model.ask([{"role": "user", "content": "…"}], Shot)     # an instance of Shot, a pydantic model

The servers are rows of configs/writer.yaml; their addresses and keys come from the environment and stand in no message.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import re
import time
from dataclasses import dataclass, field
from typing import Any, Callable, TypeVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ValidationError

from reverie import settings
from reverie.errors import BadAnswer, BadInput, Unanswered
from reverie.types import validation_sentence

Wanted = TypeVar("Wanted", bound=BaseModel)
Messages = list[dict[str, str]]

OFF = "off"
_MEAN_OFF = frozenset({"", "none", "false"})
CONNECT_S = 5.0
ANSWER_SHARE = 3          # the answer may have this part of the context
BYTES_A_TOKEN = 3         # an English token has four and more, a Chinese character is three bytes and about one token
_MOST_BYTES = 4 << 20     # of an answer
_BUSY, _WAITS_S, _LONGEST_WAIT_S = (429, 503), (2.0, 8.0), 60.0
_MARGIN_BYTES = 2500      # for the repair round, and for what a chat template adds
_REPEATED = 1200          # characters of a wrong answer that are shown to the model again
_UNLOAD_S = 5.0


@dataclass(frozen=True)
class Server:
    """Where a language model is, and which. `address` and `key` are left out of its text, so that no log can have them.

    `model` may be empty where the server has just one. `context` are tokens of question and answer together.
    """

    name: str
    protocol: str
    model: str
    address: str = field(repr=False)
    key: str = field(default="", repr=False)
    context: int = 8192
    seconds: float = 300.0


@dataclass(frozen=True)
class _Protocol:
    """What differs between the APIs. `formats`: how the answer's form is asked for, the strictest first."""

    chat: str
    models: str
    body: Callable[[Server], dict[str, Any]]
    formats: Callable[[dict], tuple[dict[str, Any], ...]]
    said: Callable[[dict], tuple[Any, bool]]     # (text, whether it was cut short)
    listed: Callable[[dict], list[str]]
    fetch: str                                   # what to do about a model that is not there


def _first_choice(choice: dict) -> tuple[Any, bool]:
    return choice["message"]["content"], choice.get("finish_reason") == "length"


_PROTOCOLS = {
    "ollama": _Protocol(
        "/api/chat", "/api/tags",
        lambda server: {"stream": False, "think": False, "options": {
            "temperature": 0, "num_ctx": server.context, "num_predict": server.context // ANSWER_SHARE}},
        lambda schema: ({"format": schema}, {"format": "json"}, {}),
        lambda answer: (answer["message"]["content"], answer.get("done_reason") == "length"),
        lambda answer: [str(model["name"]) for model in answer["models"]],
        "Fetch it (ollama pull {model})",
    ),
    "openai": _Protocol(
        "/chat/completions", "/models",
        lambda server: {"stream": False, "temperature": 0, "max_tokens": server.context // ANSWER_SHARE},
        lambda schema: (
            {"response_format": {"type": "json_schema", "json_schema": {
                "name": "answer", "strict": True, "schema": schema}}},
            {"response_format": {"type": "json_object"}},
            {},
        ),
        lambda answer: _first_choice(answer["choices"][0]),
        lambda answer: [str(model["id"]) for model in answer["data"]],
        "Load it there",
    ),
}


def names() -> list[str]:
    """The servers there are rows for."""
    return list(settings.config("writer")["servers"])


def is_wanted(writer: str) -> bool:
    """Whether `writer` names a server at all: OFF is none, and nor is what papermill or a shell may write for it."""
    return writer.strip().lower() not in {OFF, *_MEAN_OFF}


def server(writer: str) -> Server:
    """The server that `writer` names (`ollama`, or with another model `ollama:qwen3:8b`), the user's address and key."""
    name, _, model = writer.strip().partition(":")
    name = name.strip().lower()
    if name not in names() or model.startswith("//"):
        raise BadInput(f"There is no language model server '{name}'.",
                       f"Known are: {OFF}, {', '.join(names())}, each with or without a model: ollama:hermes3:8b. "
                       "An address goes into the environment, such as REVERIE_OPENAI_URL.")
    row = settings.config("writer")["usual"] | settings.config("writer")["servers"][name]
    own, known = _own_names(name), row.get("known", {})
    url = settings.secret(own["url"])
    key = settings.secret(own["key"], *([known["key"]] if "key" in known and not url else []))
    if not key.isascii() or not key.isprintable():
        raise BadInput(f"The key of {name} has letters that no key has.", f"Set {own['key']} anew.")
    return Server(
        name, row["protocol"], model.strip() or settings.secret(own["model"], *_listed(known, "model")) or row["model"],
        _address(url or settings.secret(*_listed(known, "url")) or row["url"], row["protocol"], own["url"]), key,
        int(_number(own["context"], row["context"], 1024)), _number(own["seconds"], row["seconds"], 0.05))


def configured() -> list[str]:
    """The servers of which the user has said anything."""
    rows = settings.config("writer")["servers"]
    return [name for name in rows if settings.secret(*_own_names(name).values(), *rows[name].get("known", {}).values())]


class LanguageModel:
    """One server's model. Remembers what the server does not understand, so that this is tried only once."""

    def __init__(self, server: Server):
        import httpx

        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)  # they log addresses
        self.server = server
        self._protocol = _PROTOCOLS[server.protocol]
        self._body, self._format, self._used = self._protocol.body(server), 0, False
        self._model = server.model
        local = urlsplit(server.address).hostname in ("127.0.0.1", "localhost", "::1")
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {server.key}"} if server.key else {}, trust_env=not local,
            timeout=httpx.Timeout(server.seconds, connect=min(CONNECT_S, server.seconds)))

    def __enter__(self) -> LanguageModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """The model's own name. Unanswered where none is named and the server has not exactly one."""
        if not self._model:
            there = self.models()
            if len(there) != 1:
                raise Unanswered(f"It is not said which model of {self.server.name} to ask.", self._choose(there))
            self._model = there[0]
        return self._model

    def ask(self, messages: Messages, schema: type[Wanted]) -> Wanted:
        """The model's answer as an instance of `schema`. An answer that does not fit is asked for once more.

        BadAnswer if it does not fit then either; Unanswered if the server is down, too slow, or refuses.
        """
        form = schema_of(schema)
        messages = _with_form(messages, form)
        answer, text, wrong = self._try(messages, form, schema)
        if answer is None:
            repair = settings.config("writer")["repair"].format(wrong=wrong)
            again = [{"role": "assistant", "content": text[:_REPEATED] or "{}"}, {"role": "user", "content": repair}]
            answer, _, wrong = self._try([*messages, *again], form, schema)
        if answer is None:
            raise BadAnswer(f"The answer of {self.name} does not fit: {wrong[:200]}.", "Try a larger model.")
        return answer

    def room(self, messages: Messages, schema: type[BaseModel]) -> int:
        """How many bytes of text fit into a question beside these messages."""
        tokens = self.server.context - self.server.context // ANSWER_SHARE
        said = sum(len(message["content"].encode()) for message in _with_form(messages, schema_of(schema)))
        return max(600, tokens * BYTES_A_TOKEN - said - _MARGIN_BYTES)

    def models(self) -> list[str]:
        """The names of the models on the server."""
        status, answer = self._call("GET", self._protocol.models)
        try:
            if status == 200:
                return self._protocol.listed(answer)
        except (KeyError, TypeError):
            status = 404
        raise self._refused(status, answer)

    def check(self) -> None:
        """Unanswered unless the server answers and has the model; without a tag Ollama means `:latest`."""
        there = self.models()
        if self.name not in there and f"{self.name}:latest" not in there:
            raise self._missing(there)

    def close(self) -> None:
        """Let go of the server; Ollama also gives the memory back, which pictures may need."""
        import httpx

        if self._used and self.server.protocol == "ollama":
            with contextlib.suppress(httpx.HTTPError):  # it does so by itself after five minutes
                unload = {"model": self._model, "keep_alive": 0}
                self._http.post(f"{self.server.address}/api/generate", json=unload, timeout=_UNLOAD_S)
        self._http.close()

    def _try(self, messages: Messages, form: dict, schema: type[Wanted]) -> tuple[Wanted | None, str, str]:
        """(the answer or None, its text, what is wrong with it)"""
        text, is_cut = self._say(messages, form)
        try:
            return schema.model_validate(_object_in(text)), text, ""
        except ValidationError as error:
            wrong = validation_sentence(error)
        except ValueError:
            wrong = "it is no JSON object"
        return None, text, "it was too long and is cut off" if is_cut else wrong[:600]

    def _say(self, messages: Messages, form: dict) -> tuple[str, bool]:
        """The text of an answer and whether it was cut short, in the strictest form that the server understands."""
        formats, number, refusal = self._protocol.formats(form), self._format, None
        while number < len(formats):
            body = {"model": self.name, "messages": messages} | self._body | formats[number]
            status, answer = self._call("POST", self._protocol.chat, body)
            if status == 200 and not answer.get("error"):
                self._format, self._used = number, True
                return self._text_of(answer)
            refusal = refusal or self._refused(status, answer)
            words = _error_of(answer)
            if status not in (400, 422) and not (status >= 500 and re.search(r"format|schema|grammar", words)):
                break
            number += not self._left_out(words)
        raise refusal

    def _text_of(self, answer: dict) -> tuple[str, bool]:
        try:
            text, is_cut = self._protocol.said(answer)
        except (KeyError, IndexError, TypeError):
            name, own = self.server.name, _own_names(self.server.name)
            raise Unanswered(f"{name} does not answer like a server of its kind.", f"Check {own['url']}.") from None
        return text if isinstance(text, str) else "", is_cut

    def _left_out(self, words: str) -> bool:
        """Whether a setting that the server complains of could be left out or said in another way."""
        if "max_completion_tokens" in words and "max_tokens" in self._body:
            self._body["max_completion_tokens"] = self._body.pop("max_tokens")
            return True
        return "temperature" in words and self._body.pop("temperature", None) is not None

    def _call(self, method: str, path: str, body: dict | None = None) -> tuple[int, dict]:
        """(status, answer); a server that is busy is asked again after a while."""
        for wait_s in (*_WAITS_S, None):
            status, answer, later_s = self._send(method, path, body)
            if status not in _BUSY or wait_s is None:
                break
            time.sleep(min(later_s or wait_s, _LONGEST_WAIT_S))
        return status, answer

    def _send(self, method: str, path: str, body: dict | None) -> tuple[int, dict, float]:
        import httpx

        name, own, data = self.server.name, _own_names(self.server.name), bytearray()
        until = time.monotonic() + self.server.seconds
        try:
            with self._http.stream(method, self.server.address + path, json=body) as response:
                for part in response.iter_bytes():
                    data += part
                    if len(data) > _MOST_BYTES:
                        raise Unanswered(f"{name} sent an answer without end.", f"Look at {own['url']}: is it a language model?")
                    if time.monotonic() > until:
                        raise httpx.ReadTimeout("")
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise Unanswered(f"{name} does not answer at its address.", f"Start it, or set {own['url']}.") from None
        except httpx.TimeoutException:
            raise Unanswered(f"{name} did not answer within {self.server.seconds:g} s.",
                             f"Choose a smaller model, or set {own['seconds']}.") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unanswered(f"{name} broke off ({type(error).__name__}).", "Look whether it still runs.") from None
        later = response.headers.get("retry-after", "")
        return response.status_code, _parsed(bytes(data)), float(later) if later.isdigit() else 0.0

    def _refused(self, status: int, answer: dict) -> Unanswered:
        name, words, own = self.server.name, _error_of(answer), _own_names(self.server.name)
        address = urlsplit(self.server.address)
        for secret in filter(None, (self.server.key, self.server.address, address.netloc, address.password)):
            words = words.replace(secret, "…")
        words = words[:200]  # only now: half a key is no longer found
        if status in (401, 403):
            return Unanswered(f"{name} wants a key, or refuses the one it was given.", f"Set {own['key']}.")
        if status == 404 and "model" in words.lower():
            return self._missing([])
        if status == 404:
            return Unanswered(f"{name} has nothing to ask at its address.", f"Check {own['url']}.")
        if status in _BUSY:
            return Unanswered(f"{name} is busy ({status}).", "Run it again later: what it has answered is kept.")
        return Unanswered(f"{name} answers with an error ({status}: {words or 'no word'}).", "Look into its log.")

    def _missing(self, there: list[str]) -> Unanswered:
        fetch = self._protocol.fetch.format(model=self._model)
        return Unanswered(f"The model '{self._model}' is not on {self.server.name}.",
                          f"{fetch}, or name another. {self._choose(there)}")

    def _choose(self, there: list[str]) -> str:
        example = there[0] if there else "MODEL"
        return f"Name one: {self.server.name}:{example}." + (f" There are: {', '.join(there[:8])}." if there else "")


@functools.lru_cache(maxsize=32)
def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a pydantic model in the strict form that servers ask for: every field required, no others."""

    def strict(node: Any) -> Any:
        if isinstance(node, list):
            return [strict(item) for item in node]
        if not isinstance(node, dict):
            return node
        if node.get("type") == "object" and "properties" in node:
            properties = {name: strict(value) for name, value in node["properties"].items()}
            left_out = ("title", "description", "properties")
            rest = {key: strict(value) for key, value in node.items() if key not in left_out}
            return rest | {"properties": properties, "required": list(properties), "additionalProperties": False}
        return {key: strict(value) for key, value in node.items() if key not in ("title", "default")}

    return strict(model.model_json_schema())


def _with_form(messages: Messages, form: dict) -> Messages:
    """The messages with the schema in the first one: servers that do not know schemas leave the model in the dark."""
    said = settings.config("writer")["form"].format(schema=json.dumps(form, ensure_ascii=False))
    is_there = bool(messages) and messages[0]["role"] == "system"
    before = messages[0]["content"] + "\n" if is_there else ""
    return [{"role": "system", "content": before + said}, *messages[is_there:]]


def _object_in(text: str) -> dict:
    """The JSON object of an answer, wherever it stands: after thoughts, in a fence. ValueError if there is none."""
    text = re.sub(r"<think>.*?</think>", "", text, flags=re.S)
    start = text.find("{")
    if start < 0:
        raise ValueError("no object")
    try:
        return json.JSONDecoder().raw_decode(text, start)[0]
    except RecursionError:
        raise ValueError("nested too deep") from None


def _parsed(data: bytes) -> dict:
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        return {"error": re.sub(r"<[^>]*>", " ", data.decode("utf-8", "replace"))}
    return answer if isinstance(answer, dict) else {"error": ""}


def _error_of(answer: dict) -> str:
    """What a server says is wrong, in one line. It may stand under `error`, `error.message`, `message` or `detail`."""
    error = answer.get("error") or answer.get("message") or answer.get("detail") or ""
    error = error.get("message", "") if isinstance(error, dict) else error
    return " ".join(str(error).split())


def _own_names(name: str) -> dict[str, str]:
    return {what: f"REVERIE_{name.upper()}_{what.upper()}" for what in ("url", "key", "model", "context", "seconds")}


def _listed(known: dict[str, str], what: str) -> list[str]:
    return [known[what]] if what in known else []


def _number(name: str, usual: float, least: float) -> float:
    text = settings.secret(name)
    try:
        value = float(text) if text else float(usual)
    except ValueError:
        value = -1.0
    if not least <= value < 1e7:
        raise BadInput(f"{name} is '{text}'.", f"Set it to a number, at least {least:g}.")
    return value


def _address(text: str, protocol: str, variable: str) -> str:
    """Where the API begins. As Ollama's own programs read it: no scheme means port 11434, and 0.0.0.0 this machine."""
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port, host = parts.port, parts.hostname or "127.0.0.1"
    except ValueError:
        raise BadInput(f"{variable} is no address.", "Write it as http://HOST:PORT.") from None
    if parts.scheme not in ("http", "https"):
        raise BadInput(f"{variable} begins with neither http:// nor https://.", "Write it as http://HOST:PORT.")
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    port = port or (11434 if protocol == "ollama" and "://" not in text else None)
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    end = r"(?:/api(?:/chat)?|/v1)?/*$" if protocol == "ollama" else r"(?:/chat/completions)?/*$"
    path = re.sub(end, "", parts.path) or ("/v1" if protocol == "openai" else "")
    return urlunsplit((parts.scheme, f"{user}{host}{f':{port}' if port else ''}", path, "", ""))
