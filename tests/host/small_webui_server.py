"""The `main.py` of a small WebUI of ComfyUI's shape: its command line, its HTTP paths and its WebSocket, no model behind them.

Python's own library only: it runs in an environment in which nothing is installed.
"""

import argparse
import base64
import hashlib
import json
import os
import struct
import sys
import threading
import time
import uuid
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

HOME = Path(__file__).resolve().parent
OPTIONS = argparse.ArgumentParser()
OPTIONS.add_argument("--listen", default="127.0.0.1")
OPTIONS.add_argument("--port", type=int, default=8188)
OPTIONS.add_argument("--extra-model-paths-config", nargs="*", default=[])
OPTIONS.add_argument("--output-directory", default=str(HOME / "output"))
for flag in ("--cpu", "--lowvram", "--disable-auto-launch"):
    OPTIONS.add_argument(flag, action="store_true")
OPTIONS.add_argument("--die", default="", help="end at once with this as the last line, as a WebUI that cannot start does")
OPTIONS.add_argument("--wait", type=float, default=0, help="seconds before it answers")

SOCKETS: list = []
HISTORY: dict = {}
MANY = threading.Lock()


def read_paths(path):
    """(folder, place) of an extra_model_paths.yaml: sections with a base_path, one path a line, or several after `|`."""
    base, key = "", ""
    for line in Path(path).read_text("utf-8").splitlines():
        text, deep = line.strip(), len(line) - len(line.lstrip())
        if not text or text.startswith("#"):
            continue
        name, colon, value = text.partition(": ") if ": " in text else text.partition(":")
        value = value.strip().strip("'\"")
        if deep == 0:
            base = ""
        elif deep <= 2 and name == "base_path":
            base = value
        elif deep <= 2 and name != "is_default" and colon:
            key = name
            if value not in ("|", "|-"):
                yield key, Path(base) / value
        elif deep > 2:
            yield key, Path(base) / text


def models(folder):
    places = [HOME / "models" / folder, *(place for file in ARGS.extra_model_paths_config for name, place in read_paths(file) if name == folder)]
    found = (path for place in places for path in place.rglob("*") if path.is_file() and not path.name.startswith("put_"))
    return sorted({path.name for path in found})


def picture(text):
    """A PNG of 8x8 pixels in a colour that comes of the text."""
    pixel = hashlib.sha256(text.encode()).digest()[:3]
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = zlib.compress((b"\0" + pixel * 8) * 8)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def frame(data, opcode=1):
    size = struct.pack(">B", len(data)) if len(data) < 126 else struct.pack(">BH", 126, len(data)) if len(data) < 65536 else struct.pack(">BQ", 127, len(data))
    return bytes([0x80 | opcode]) + size + data


def tell(kind, **data):
    message = frame(json.dumps({"type": kind, "data": data}).encode())
    with MANY:
        for write in list(SOCKETS):
            try:
                write(message)
            except OSError:
                SOCKETS.remove(write)


def draw(prompt_id, graph):
    tell("execution_start", prompt_id=prompt_id)
    for step in (1, 2, 3):
        tell("progress", value=step, max=3, prompt_id=prompt_id, node="3")
    name = f"ComfyUI_{len(HISTORY) + 1:05d}_.png"
    Path(ARGS.output_directory).mkdir(parents=True, exist_ok=True)
    (Path(ARGS.output_directory) / name).write_bytes(picture(json.dumps(graph)))
    output = {"images": [{"filename": name, "subfolder": "", "type": "output"}]}
    HISTORY[prompt_id] = {"prompt": [1, prompt_id, graph, {}, []], "outputs": {"9": output}, "status": {"status_str": "success", "completed": True}}
    tell("executed", node="9", output=output, prompt_id=prompt_id)
    tell("execution_success", prompt_id=prompt_id)
    tell("executing", node=None, prompt_id=prompt_id)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *values):
        print(format % values, flush=True)

    def answer(self, body, kind="application/json", code=200):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        url = urlparse(self.path)
        path = url.path.removeprefix("/api")
        if path == "/":
            self.answer(b"<!doctype html><title>Small WebUI</title><h1>Small WebUI</h1>", "text/html")
        elif path == "/system_stats":
            system = {"os": os.name, "comfyui_version": "0.3.64", "python_version": sys.version, "argv": sys.argv, "prefix": sys.prefix}
            self.answer({"system": system, "devices": [{"name": "cpu", "type": "cpu", "index": 0, "vram_total": 0, "vram_free": 0}]})
        elif path == "/models":
            self.answer(sorted(folder.name for folder in (HOME / "models").iterdir()))
        elif path.startswith("/models/"):
            self.answer(models(path.split("/")[2]))
        elif path == "/queue":
            self.answer({"queue_running": [], "queue_pending": []})
        elif path.startswith("/history"):
            wanted = path.split("/")[2:]
            self.answer({key: value for key, value in HISTORY.items() if not wanted or key == wanted[0]})
        elif path == "/view":
            file = Path(ARGS.output_directory) / Path(parse_qs(url.query).get("filename", [""])[0]).name
            self.answer(file.read_bytes(), "image/png") if file.is_file() else self.answer({"error": "no such file"}, code=404)
        elif path == "/ws" and "websocket" in self.headers.get("Upgrade", "").lower():
            self.socket()
        else:
            self.answer({"error": "not found"}, code=404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            asked = json.loads(body or b"{}")
        except ValueError:
            return self.answer({"error": "bad JSON"}, code=500)
        if not self.path.endswith("/prompt") or not asked.get("prompt"):
            return self.answer({"error": {"type": "no_prompt", "message": "No prompt provided", "details": "", "extra_info": {}}, "node_errors": {}}, code=400)
        prompt_id = asked.get("prompt_id") or str(uuid.uuid4())
        self.answer({"prompt_id": prompt_id, "number": len(HISTORY) + 1, "node_errors": {}})
        threading.Thread(target=draw, args=(prompt_id, asked["prompt"]), daemon=True).start()

    def socket(self):
        """ComfyUI's: `status` at once, `feature_flags` answered, events of every prompt to all."""
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())):
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        write = self.connection.sendall
        write(frame(json.dumps({"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}}, "sid": uuid.uuid4().hex}}).encode()))
        SOCKETS.append(write)
        try:
            while (message := self.receive()) is not None:
                opcode, data = message
                if opcode == 9:
                    write(frame(data, 10))
                elif opcode == 1 and b"feature_flags" in data:
                    write(frame(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}).encode()))
            write(frame(b"", 8))
        except OSError:
            pass
        finally:
            with MANY:
                SOCKETS[:] = [other for other in SOCKETS if other is not write]

    def receive(self):
        head = self.rfile.read(2)
        if len(head) < 2 or head[0] & 15 == 8:
            return None
        size = head[1] & 127
        if size > 125:
            size = int.from_bytes(self.rfile.read(2 if size == 126 else 8), "big")
        mask = self.rfile.read(4) if head[1] & 128 else b"\0\0\0\0"
        return head[0] & 15, bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.rfile.read(size)))


if __name__ == "__main__":
    ARGS = OPTIONS.parse_args()
    if ARGS.die:
        sys.exit(ARGS.die)
    print(f"Small WebUI under Python {sys.version.split()[0]} of {sys.prefix}", flush=True)
    time.sleep(ARGS.wait)
    server = ThreadingHTTPServer((ARGS.listen, ARGS.port), Handler)
    server.daemon_threads = True
    print(f"To see the GUI go to: http://{ARGS.listen}:{server.server_address[1]}", flush=True)
    server.serve_forever()
