"""A language model's server for tests: a real one on a port, that speaks as Ollama and OpenAI-compatible servers do."""

import contextlib
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LanguageServer:
    """Answers a question with the first of `answers`, (needle, answer) pairs, whose needle is in what the user says.

    `replies` come before, one for each question: a text is said as it is, a function is called with the request's handler
    and does what it likes. `models` are there, `key` is wanted when set, `refuses` names what a request must not have.
    """

    def __init__(self):
        self.models, self.key, self.refuses = ["reader:8b"], "", {}
        self.answers, self.replies, self.asked = [], [], []
        self.unloaded, self.slow_s = 0, 0.0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"home": self}))
        self._http.daemon_threads = True
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        self._http.shutdown()
        self._http.server_close()

    def reply(self, messages):
        told = "\n".join(message["content"] for message in messages if message["role"] == "user")
        return next((json.dumps(answer) for needle, answer in self.answers if needle in told), "{}")


class _Handler(BaseHTTPRequestHandler):
    home = None

    def log_message(self, *_):
        pass

    def send(self, status, answer, **headers):
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):  # whoever asked may have gone
            self.wfile.write(data)

    def refused(self):
        """What an OpenAI-compatible server says without the key it wants."""
        if self.home.key and self.headers["Authorization"] != f"Bearer {self.home.key}":
            self.send(401, {"error": {"message": f"Incorrect API key provided: {self.headers['Authorization']}"}})
            return True
        return False

    def do_GET(self):
        if self.refused():
            return
        if self.path == "/api/tags":
            self.send(200, {"models": [{"name": name, "model": name, "size": 1} for name in self.home.models]})
        elif self.path == "/v1/models":
            self.send(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.home.models]})
        else:
            self.send(404, b"404 page not found", Content_Type="text/plain")

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.refused():
            return
        if self.path == "/api/generate" and request.get("keep_alive") == 0:
            self.home.unloaded += 1
            self.send(200, {"model": request["model"], "response": "", "done": True, "done_reason": "unload"})
        elif self.path == "/api/chat":
            self.chat(request, request.get("format"), self.ollama)
        elif self.path == "/v1/chat/completions":
            self.chat(request, request.get("response_format"), self.openai)
        else:
            self.send(404, b"404 page not found", Content_Type="text/plain")

    def chat(self, request, form, say):
        self.home.asked.append(request)
        time.sleep(self.home.slow_s)
        for name, refusal in self.home.refuses.items():
            if name in request or name == form or isinstance(form, dict) and form.get("type") == name:
                return self.send(*refusal)
        if request["model"] not in self.home.models:
            said = f"model '{request['model']}' not found"
            return self.send(404, {"error": said if say == self.ollama else {"message": said, "code": "model_not_found"}})
        reply = self.home.replies.pop(0) if self.home.replies else self.home.reply(request["messages"])
        return reply(self) if callable(reply) else say(request, reply)

    def ollama(self, request, text, reason="stop"):
        self.send(200, {"model": request["model"], "created_at": "2026-01-01T00:00:00Z", "done_reason": reason, "done": True,
                        "message": {"role": "assistant", "content": text}, "eval_count": 12})

    def openai(self, request, text, reason="stop"):
        message = {"role": "assistant", "content": text, "refusal": None}
        self.send(200, {"id": "x", "object": "chat.completion", "model": request["model"], "usage": {"total_tokens": 9},
                        "choices": [{"index": 0, "message": message, "finish_reason": reason}]})


@contextmanager
def language_server(**set_up):
    server = LanguageServer()
    for name, value in set_up.items():
        setattr(server, name, value)
    try:
        yield server
    finally:
        server.close()
