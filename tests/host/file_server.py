"""A loopback HTTP server with the habits of real ones: ranges, throttled connections, signed addresses that expire, cut connections,
error pages with status 200, refusals, wrong lengths, files that change. It counts what it sends.

    python tests/host/file_server.py --size 200000000 --rate 2000000     for benches: prints its address, serves /file, tells /counts
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """One file and how it is given. `rate`: bytes per second of one connection; `cut_after`: bytes of a body, `cuts` times;
    `refusals`: answers (status, headers) that come first, one per request; `signed_requests`: for how many requests a signed
    address is good; `told_length`: what Content-Length says instead; `later`: (number of requests, data) after which it is another
    file; `at_most`: connections at once, more are answered with 429."""

    data: bytes
    content_type: str = "application/octet-stream"
    etag: str = ""
    modified: str = ""
    rate: float = 0
    ranges: bool = True
    chunked: bool = False
    cut_after: int = 0
    cuts: int = 1_000_000
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    signed_requests: int = 0
    told_length: int = 0
    later: tuple[int, bytes, str] | None = None
    at_most: int = 0
    wants: dict[str, str] = field(default_factory=dict)
    requests: int = 0
    sent: int = 0
    at_work: int = 0
    peak: int = 0
    headers_seen: list[dict[str, str]] = field(default_factory=list)


class FileServer:
    """Files by path. `url(path)` is where one is, `sign(path)` an address that expires, `/go/PATH` redirects to a signed one."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.signatures: dict[str, int] = {}
        self.lock = threading.Lock()
        self._numbers = itertools.count(1)
        handler = type("Bound", (_Handler,), {"owner": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def add(self, path: str, data: bytes, **habits) -> Served:
        self.files[path] = Served(data, **habits)
        return self.files[path]

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def sign(self, path: str) -> str:
        with self.lock:
            signature = f"s{next(self._numbers)}"
            self.signatures[signature] = self.files[path].signed_requests or 1_000_000
        return f"{self.url(path)}?X-Signature={signature}%2Fa+b&name=a%20b"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """Connections that the other side ends are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FileServer
    disable_nagle_algorithm = True

    def setup(self):
        # What waits in the kernel when a connection ends was never fetched: keep that little, it is counted.
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
        super().setup()

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        path, _, query = self.path.lstrip("/").partition("?")
        if path == "counts":
            return self._answer(200, json.dumps({name: file.sent for name, file in self.owner.files.items()}).encode())
        if path.startswith("go/") and path[3:] in self.owner.files:
            return self._answer(302, b"", {"Location": self.owner.sign(path[3:])})
        if path.startswith("round"):
            return self._answer(302, b"", {"Location": "/" + path})
        if path.startswith("to/"):  # to another host: the same server by its other name
            return self._answer(302, b"", {"Location": f"http://localhost:{self.owner.port}/{path[3:]}"})
        file = self.owner.files.get(path)
        if file is None:
            return self._answer(404, b"Not Found")
        with self.owner.lock:
            refusal = self._refusal(file, query)
            if not refusal:
                file.at_work += 1
                file.peak = max(file.peak, file.at_work)
        if refusal:
            return self._answer(*refusal)
        try:
            self._serve(file)
        finally:
            with self.owner.lock:
                file.at_work -= 1

    def _refusal(self, file: Served, query: str):
        file.requests += 1
        file.headers_seen.append(dict(self.headers))
        if file.later and file.requests > file.later[0]:
            _, file.data, file.etag = file.later
            file.later = None
        if file.refusals:
            status, headers = file.refusals.pop(0)
            return status, b'{"error":"refused"}', headers
        if any(self.headers.get(name) != value for name, value in file.wants.items()):
            return 401, b'{"error":"log in"}', {}
        if file.signed_requests:
            left = self.owner.signatures.get(re.sub(r".*X-Signature=(s\d+)%2Fa\+b&name=a%20b$", r"\1", query), 0)
            if left <= 0:
                return 403, b"<?xml version='1.0'?><Error>expired</Error>", {"Content-Type": "application/xml"}
            self.owner.signatures[re.sub(r".*X-Signature=(s\d+).*", r"\1", query)] = left - 1
        if file.at_most and file.at_work >= file.at_most:
            return 429, b"", {"Retry-After": "1"}
        return None

    def _serve(self, file: Served) -> None:
        data, start, end, status = memoryview(file.data), 0, len(file.data), 200
        headers = {"Content-Type": file.content_type, "ETag": file.etag, "Last-Modified": file.modified}
        asked = re.match(r"bytes=(\d+)-(\d*)$", self.headers.get("Range", ""))
        fits = self.headers.get("If-Range") in (None, file.etag, file.modified)
        if asked and file.ranges and fits:
            start, end = int(asked[1]), min(int(asked[2] or len(data)) + 1, len(data))
            if start >= len(data):
                return self._answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.told_length or len(data)}"
        self.send_response(status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        if file.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(end - start if status == 206 else file.told_length or end - start))
        self.end_headers()
        self._body(file, data[start:end])

    def _body(self, file: Served, body: memoryview) -> None:
        at, began = 0, time.monotonic()
        step = int(file.rate / 50) or 256 * 1024
        while at < len(body):
            part = body[at : at + step]
            if file.cut_after and file.cuts > 0 and at + len(part) > file.cut_after:
                with self.owner.lock:
                    file.cuts -= 1
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part) if file.chunked else part)
            at += len(part)
            with self.owner.lock:
                file.sent += len(part)
            if file.rate and (ahead := at / file.rate - (time.monotonic() - began)) > 0:
                time.sleep(ahead)
        if file.chunked:
            self.wfile.write(b"0\r\n\r\n")
        if file.told_length > len(file.data):
            self.close_connection = True

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes in which no part is like another."""
    return random.Random(seed).randbytes(size)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=200_000_000)
    parser.add_argument("--rate", type=float, default=2_000_000)
    arguments = parser.parse_args()
    server = FileServer()
    data = os.urandom(arguments.size)
    server.add("file", data, rate=arguments.rate, etag='"one"')
    print(json.dumps({"url": server.url("file"), "counts": server.url("counts"), "sha256": hashlib.sha256(data).hexdigest()}), flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
