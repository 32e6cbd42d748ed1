"""CivitAI, Hugging Face and Google Drive for tests: real servers on loopback ports that answer in the shapes of the real ones.

    with Hubs() as hubs:                          # from hub_servers import Hubs; outside tests/host: from host.hub_servers import Hubs
        version = hubs.add_model("Dream", files={"dream.safetensors": 100_000})      # bytes, or how many random bytes
        hubs.add_repo("me/tiny", {"model.safetensors": 50_000, "config.json": b"{}"})
        hubs.add_drive("1AbC…", "big.safetensors", 200_000, large=True)
        link = hubs.add_file("plain.safetensors", 5_000)
        hubs.use(monkeypatch)                     # the sources of this process ask here; or hubs.environment() for a child

Each hub is a host of its own (another port), as is the storage that signed addresses lead to: it refuses an Authorization
header, HEAD, and what `hubs.expire()` made old. `hubs.bytes_per_s` throttles each connection, `hubs.cut_after` ends every answer
after so many bytes, `hubs.busy` = n answers 429 to the next n requests. `hubs.requests` remembers (hub, method, path, headers).
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

CIVITAI_TOKEN, HF_TOKEN = "civitai-secret-1234", "hf_secret5678"
COMMIT = "a" * 40
HUBS = ("civitai", "huggingface", "drive", "storage")


def content(data: bytes | int) -> bytes:
    return os.urandom(data) if isinstance(data, int) else data


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Plain:
    """What a path of the storage host answers: `stall` never answers, `redirect` answers 302."""

    data: bytes
    status: int = 200
    type: str = "application/octet-stream"
    redirect: str = ""
    stall: bool = False
    headers: dict[str, str] = field(default_factory=dict)


class Hubs:
    def __init__(self):
        self.requests: list[tuple[str, str, str, dict]] = []
        self.bytes_per_s, self.cut_after, self.busy, self.retry_after = 0, 0, 0, "0"
        self.models: dict[int, dict] = {}
        self.blobs: dict[int, tuple[bytes, dict]] = {}  # CivitAI's file id → bytes and the switches of add_model
        self.repos: dict[str, dict] = {}
        self.drive_files: dict[str, dict] = {}
        self.plain: dict[str, Plain] = {}
        self._signed: dict[str, tuple[bytes, str]] = {}
        self._ids = itertools.count(101)
        self._stopping = threading.Event()
        self._servers = {name: _serve(self, name) for name in HUBS}
        self.civitai, self.huggingface, self.drive, self.storage = (
            f"http://127.0.0.1:{self._servers[name].server_address[1]}" for name in HUBS
        )

    def __enter__(self) -> Hubs:
        return self

    def __exit__(self, *_):
        self._stopping.set()
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    def environment(self, tokens: bool = False) -> dict[str, str]:
        """What makes the sources ask here; with `tokens` also the right secrets."""
        here = {"REVERIE_CIVITAI_URL": self.civitai, "HF_ENDPOINT": self.huggingface, "REVERIE_GDRIVE_URL": self.drive}
        return {**here, **({"CIVITAI_TOKEN": CIVITAI_TOKEN, "HF_TOKEN": HF_TOKEN} if tokens else {})}

    def use(self, monkeypatch, tokens: bool = False) -> Hubs:
        """Make the sources of this process ask here, with the right tokens or none."""
        from reverie.host import secrets
        from reverie.host.sources import _asking

        for name, others in secrets.NAMES.items():
            for known in (name, *others):
                monkeypatch.delenv(known, raising=False)
        monkeypatch.setenv("HF_TOKEN_PATH", os.devnull)
        for name, value in self.environment(tokens).items():
            monkeypatch.setenv(name, value)
        _asking.forget()
        return self

    def asked(self, hub: str) -> list[tuple[str, str, dict]]:
        return [(method, path, headers) for name, method, path, headers in self.requests if name == hub]

    def expire(self) -> None:
        """Every signed address that was given out is old from now on."""
        self._signed.clear()

    def sign(self, data: bytes, name: str) -> str:
        key = os.urandom(8).hex()
        self._signed[key] = (data, name)
        disposition = quote(f'attachment; filename="{name}"')
        return f"{self.storage}/bucket/{key}?X-Amz-Expires=86400&response-content-disposition={disposition}&X-Amz-Signature={key}"

    # ------------------------------------------------------------------------------------------------ what is there

    def add_model(
        self, name="Dream", type="Checkpoint", base_model="SD 1.5", files=None, *, model=None, nsfw=False, login=False, early="",
        disabled=False, stale=False, images=None, trained_words=(), details=None, version_name="v1.0",
    ) -> int:
        """A model of one version, or one more version of `model` (an id); returns the version's id.

        `files`: name → bytes or their number; `details`: name → what else its row says (type, metadata, hashes, …).
        `login`: downloads want a token; `early`: when its early access ends; `disabled`: nobody may download; `stale`: only
        the address with ?fileId= works.
        """
        version = next(self._ids)
        model = model or next(self._ids)
        home = self.models.setdefault(model, _model(model, name, type, nsfw))
        rows = []
        for file_name, data in (files if files is not None else {"dream.safetensors": 20_000}).items():
            file = next(self._ids)
            self.blobs[file] = content(data), {"login": login, "early": early, "disabled": disabled, "stale": stale, "name": file_name}
            said = (details or {}).get(file_name, {})
            rows.append(_file(file, file_name, self.blobs[file][0], f"{self.civitai}/api/download/models/{version}", not rows, said))
        pictures = images if images is not None else [picture(self.storage, 1, "image"), picture(self.storage, 2, "image")]
        home["modelVersions"].insert(0, _version(version, version_name, base_model, rows, pictures, trained_words, early, self.civitai))
        return version

    def model_of(self, version: int) -> dict:
        return next(model for model in self.models.values() if any(v["id"] == version for v in model["modelVersions"]))

    def add_repo(self, name: str, files: dict[str, bytes | int], *, gated=False, private=False, small=(".json", ".txt", ".md"), page=100) -> dict[str, bytes]:
        """A repository; files that end in `small` lie in git, the others in LFS. Returns path → bytes."""
        kept = {path: content(data) for path, data in files.items()}
        self.repos[name] = {"files": kept, "gated": gated, "private": private, "small": tuple(small), "page": page}
        return kept

    def add_drive(self, id: str, name: str, data: bytes | int, *, large=False, quota=False, private=False) -> bytes:
        self.drive_files[id] = {"name": name, "data": content(data), "large": large, "quota": quota, "private": private}
        return self.drive_files[id]["data"]

    def add_file(self, path: str, data: bytes | int = 1000, **how) -> str:
        """A file at a plain address of the storage host (see Plain for what it may do instead); returns the address."""
        self.plain[path] = Plain(content(data), **how)
        return f"{self.storage}/{quote(path)}"


# --------------------------------------------------------------------------------------------------- CivitAI's shapes


def picture(base: str, number: int, type: str, level: int = 1) -> dict:
    end = "mp4" if type == "video" else "jpeg"
    return {"id": number, "url": f"{base}/pictures/{number}.{end}", "nsfwLevel": level, "width": 64, "height": 64, "hash": "U00", "type": type}


def _model(id, name, type, nsfw) -> dict:
    stats = {"downloadCount": 1000 + id, "thumbsUpCount": 5}
    return {"id": id, "name": name, "description": "<p>It draws.</p>", "type": type, "nsfw": nsfw, "nsfwLevel": 31 if nsfw else 1,
            "poi": False, "mode": None, "creator": {"username": "painter", "image": None}, "tags": ["base model"], "stats": stats,
            "allowCommercialUse": ["Image"], "modelVersions": []}


def _file(id, name, data, url, primary, said) -> dict:
    pickled = not name.endswith((".safetensors", ".gguf", ".zip"))
    metadata = {"format": "PickleTensor" if pickled else "SafeTensor", "size": "pruned", "fp": "fp16"}
    digest = sha256(data).upper()
    row = {"id": id, "name": name, "type": "Model", "sizeKB": len(data) / 1024, "primary": primary, "pickleScanResult": "Success",
           "pickleScanMessage": "No Pickle imports", "virusScanResult": "Success", "metadata": metadata,
           "hashes": {"AutoV2": digest[:10], "SHA256": digest, "CRC32": "00000000"}, "downloadUrl": url if primary else f"{url}?type=Model"}
    return {**row, **said, "metadata": {**metadata, **said.get("metadata", {})}}


def _version(id, name, base_model, files, images, words, early, base) -> dict:
    return {"id": id, "index": 0, "name": name, "baseModel": base_model, "baseModelType": "Standard", "status": "Published",
            "publishedAt": "2025-05-01T10:00:00.000Z", "availability": "EarlyAccess" if early else "Public", "nsfwLevel": 1,
            "earlyAccessEndsAt": early or None, "usageControl": "Download", "trainedWords": list(words), "files": files, "images": images,
            "stats": {"downloadCount": 7}, "downloadUrl": f"{base}/api/download/models/{id}"}


class _Civitai:
    def answer(self, handler, hubs, url, query):
        path = url.path
        if found := re.fullmatch(r"/api/download/models/(\d+)", path):
            return self.download(handler, hubs, int(found[1]), query)
        if found := re.fullmatch(r"/api/v1/models/(\d+)", path):
            model = hubs.models.get(int(found[1]))
            return handler.json(200, model) if model else handler.json(404, {"error": f"No model with id {found[1]}"})
        if found := re.fullmatch(r"/api/v1/model-versions/(\d+)", path):
            return self.version(handler, hubs, lambda version: version["id"] == int(found[1]))
        if found := re.fullmatch(r"/api/v1/model-versions/by-hash/(\w+)", path):
            wanted = found[1].upper()
            return self.version(handler, hubs, lambda v: any(wanted in file["hashes"].values() for file in v["files"]))
        if path == "/api/v1/models":
            return self.search(handler, hubs, query)
        return handler.html(404, "<!DOCTYPE html><html><head><title>404 | Civitai</title></head><body>Not found</body></html>")

    def version(self, handler, hubs, fits):
        for model in hubs.models.values():
            for version in filter(fits, model["modelVersions"]):
                about = {key: model[key] for key in ("name", "type", "nsfw", "poi")}
                return handler.json(200, {**version, "modelId": model["id"], "model": about})
        return handler.json(404, {"error": "Model version not found"})

    def download(self, handler, hubs, version, query):
        files = next((v["files"] for m in hubs.models.values() for v in m["modelVersions"] if v["id"] == version), [])
        wanted = query.get("fileId")
        file = next((file for file in files if (str(file["id"]) == wanted if wanted else file["primary"])), None)
        if file is None or hubs.blobs[file["id"]][1]["stale"] and not wanted:
            return handler.json(404, {"error": "File not found"})
        data, how = hubs.blobs[file["id"]]
        known = handler.bearer() == CIVITAI_TOKEN or query.get("token") == CIVITAI_TOKEN
        if how["disabled"]:
            return handler.json(401, {"error": "Unauthorized", "message": "The creator of this asset has disabled downloads on this file"})
        if how["login"] and not known:
            return handler.json(401, {"error": "Unauthorized", "message": "The creator of this asset requires you to be logged in to download it"})
        if how["early"]:
            return handler.json(403, {"error": "Early Access", "deadline": how["early"], "message": "This asset is in Early Access. You can use Buzz to access it now!"})
        return handler.redirect(307, hubs.sign(data, how["name"]))

    def search(self, handler, hubs, query):
        if "page" in query and "query" in query:
            return handler.json(400, {"error": "Cannot use page param with query search. Use cursor-based pagination instead."})
        if not 1 <= int(query.get("limit", 20)) <= 100:
            return handler.json(400, {"error": {"name": "ZodError", "issues": [{"path": ["limit"], "message": "Too big"}]}})
        many = handler.many
        found = [
            model for model in hubs.models.values()
            if query.get("query", "").lower() in model["name"].lower()
            and (query.get("nsfw") == "true" or not model["nsfw"])
            and model["type"] in (many.get("types") or [model["type"]])
            and any(v["baseModel"] in (many.get("baseModels") or [v["baseModel"]]) for v in model["modelVersions"])
        ]
        start, limit = int(query.get("cursor", 0)), int(query.get("limit", 20))
        more = {"nextCursor": str(start + limit), "nextPage": f"{hubs.civitai}/api/v1/models?cursor={start + limit}"}
        handler.json(200, {"items": found[start : start + limit], "metadata": more if start + limit < len(found) else {}})


# ------------------------------------------------------------------------------------- Hugging Face's and Drive's shapes


class _HuggingFace:
    def answer(self, handler, hubs, url, query):
        path = unquote(url.path)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            repo = self.repo(handler, hubs, found[1])
            return repo and self.tree(handler, hubs, found[1], repo, found[2], int(query.get("cursor", 0)))
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            repo = self.repo(handler, hubs, found[1])
            return repo and self.file(handler, hubs, repo, found[2], found[3])
        return handler.html(404, "<!doctype html><html><head><title>404 – Hugging Face</title></head></html>")

    def repo(self, handler, hubs, name):
        repo, token = hubs.repos.get(name), handler.bearer()
        if token and token != HF_TOKEN and token != "hf_other":
            return handler.refuse(401, "", "Invalid credentials in Authorization header")
        if repo is None or repo["private"] and token != HF_TOKEN:
            return handler.refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        if repo.get("moved"):
            handler.redirect(307, handler.path.replace(name, repo["moved"], 1))
            return None
        if repo["gated"] and token != HF_TOKEN:
            why = "you are not in the authorized list" if token else "You must have access to it and be authenticated to access it"
            return handler.refuse(403 if token else 401, "GatedRepo", f"Access to model {name} is restricted. {why}.")
        return repo

    def tree(self, handler, hubs, name, repo, revision, start):
        if revision not in ("main", COMMIT):
            return handler.refuse(404, "RevisionNotFound", "Invalid rev id")
        rows = []
        for path, data in sorted(repo["files"].items()):
            row = {"type": "file", "oid": hashlib.sha1(data).hexdigest(), "size": len(data), "path": path}
            lfs = {"lfs": {"oid": sha256(data), "size": len(data), "pointerSize": 135}} if not path.endswith(repo["small"]) else {}
            rows.append({**row, **lfs})
        rows[:0] = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": folder} for folder in sorted({p.rpartition("/")[0] for p in repo["files"]} - {""})]
        end = start + repo["page"]
        more = f'<{hubs.huggingface}/api/models/{name}/tree/{revision}?recursive=true&expand=true&cursor={end}>; rel="next"'
        handler.json(200, rows[start:end], **({"Link": more} if end < len(rows) else {}))

    def file(self, handler, hubs, repo, revision, path):
        if revision not in ("main", COMMIT):
            return handler.refuse(404, "RevisionNotFound", "Invalid rev id")
        if path not in repo["files"]:
            return handler.refuse(404, "EntryNotFound", "Entry not found")
        data, commit = repo["files"][path], {"X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if path.endswith(repo["small"]):
            return handler.file(data, ETag=f'"{hashlib.sha1(data).hexdigest()}"', **commit)
        linked = {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{sha256(data)}"'}
        return handler.redirect(302, hubs.sign(data, path.rpartition("/")[2]), ETag=f'"{sha256(data)}"', **linked, **commit)


_FORM = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body><p class="uc-warning-caption">Google Drive
can't scan this file for viruses.</p><p><span class="uc-name-size"><a href="/open?id={id}">{name}</a> ({size})</span> is too large</p>
<form id="download-form" action="{base}/download" method="get"><input type="submit" id="uc-download-link" value="Download anyway"/>
<input type="hidden" name="id" value="{id}"><input type="hidden" name="export" value="download"><input type="hidden" name="confirm"
value="t"><input type="hidden" name="uuid" value="11111111-2222-3333-4444-555555555555"></form></body></html>"""
_QUOTA = """<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body><p class="uc-error-caption">Sorry, you can't
view or download this file at this time.</p><p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently.</p></body></html>"""


class _Drive:
    def answer(self, handler, hubs, url, query):
        file = hubs.drive_files.get(query.get("id", ""))
        if url.path not in ("/uc", "/download"):
            return handler.html(404, "<html><title>Error 404 (Not Found)!!1</title></html>")
        if file is None:
            return handler.html(404, "<html><head><title>Google Drive - Page Not Found</title></head></html>")
        if file["private"]:
            return handler.redirect(302, f"{hubs.drive}/ServiceLogin?continue=x")
        if file["quota"]:
            return handler.html(200, _QUOTA)
        if url.path == "/uc":
            return handler.redirect(303, f"{hubs.drive}/download?{url.query}")
        if file["large"] and "uuid" not in query:
            return handler.html(200, _FORM.format(id=query["id"], name=file["name"], size="2.1G", base=hubs.drive))
        name = f"attachment;filename=\"{file['name']}\";filename*=UTF-8''{quote(file['name'])}"
        handler.file(file["data"], **{"Content-Disposition": name})


class _Storage:
    def answer(self, handler, hubs, url, query):
        path = unquote(url.path).lstrip("/")
        if path.startswith("bucket/"):
            return self.signed(handler, hubs, path.removeprefix("bucket/"))
        if path.startswith("pictures/"):
            return handler.file(b"\xff\xd8\xff\xe0 a picture", **{"Content-Type": "image/jpeg"})
        plain = hubs.plain.get(path)
        if plain is None:
            return handler.html(404, "<html><title>404 Not Found</title></html>")
        if plain.stall:
            hubs._stopping.wait(60)
            handler.close_connection = True
            return
        if plain.redirect:
            return handler.redirect(302, plain.redirect)
        if plain.status != 200:
            return handler.say(plain.status, plain.data, **{"Content-Type": plain.type, **plain.headers})
        handler.file(plain.data, **{"Content-Type": plain.type, **plain.headers})

    def signed(self, handler, hubs, key):
        if handler.headers["Authorization"]:
            return handler.xml(400, "InvalidArgument", "Only one auth mechanism allowed")
        if key not in hubs._signed:
            return handler.xml(403, "AccessDenied", "Request has expired")
        if handler.command == "HEAD":
            return handler.xml(403, "SignatureDoesNotMatch", "The signature is for another method")
        data, name = hubs._signed[key]
        handler.file(data, **{"Content-Disposition": f'attachment; filename="{name}"', "ETag": f'"{sha256(data)[:32]}"'})


# ------------------------------------------------------------------------------------------------------------ plumbing


def _serve(hubs: Hubs, name: str) -> ThreadingHTTPServer:
    role = {"civitai": _Civitai, "huggingface": _HuggingFace, "drive": _Drive, "storage": _Storage}[name]()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hubs": hubs, "hub": name, "role": role}))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


class _Server(ThreadingHTTPServer):
    daemon_threads, block_on_close, request_queue_size = True, False, 128

    def handle_error(self, request, client_address):
        pass  # whoever asked has gone: that is what many of these tests do


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        url = urlsplit(self.path)
        self.many = parse_qs(url.query, keep_blank_values=True)
        self.hubs.requests.append((self.hub, self.command, self.path, dict(self.headers)))
        if self.hubs.busy > 0:
            self.hubs.busy -= 1
            return self.json(429, {"error": "Too many requests"}, **{"Retry-After": self.hubs.retry_after})
        self.role.answer(self, self.hubs, url, {key: values[-1] for key, values in self.many.items()})

    do_HEAD = do_GET

    def bearer(self) -> str:
        return (self.headers["Authorization"] or "").removeprefix("Bearer ")

    def say(self, status: int, data: bytes, **headers) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._write(data)

    def json(self, status, answer, **headers):
        self.say(status, json.dumps(answer).encode(), **{"Content-Type": "application/json; charset=utf-8", **headers})

    def html(self, status, text):
        self.say(status, text.encode(), **{"Content-Type": "text/html; charset=utf-8"})

    def xml(self, status, code, message):
        self.say(status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode(), **{"Content-Type": "application/xml"})

    def redirect(self, status, location, **headers):
        self.say(status, b"", Location=location, **headers)

    def refuse(self, status, code, message):
        said = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self.json(status, {"error": message}, **said)

    def file(self, data: bytes, **headers):
        """Bytes with ranges, as a store of files gives them."""
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers["Range"] or "")
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **headers}
        if not found or found[0] == "bytes=-":
            return self.say(200, data, **headers)
        first = int(found[1]) if found[1] else max(0, len(data) - int(found[2]))
        last = min(int(found[2]), len(data) - 1) if found[1] and found[2] else len(data) - 1
        if first > last:
            return self.say(416, b"", **{**headers, "Content-Range": f"bytes */{len(data)}"})
        self.say(206, data[first : last + 1], **{**headers, "Content-Range": f"bytes {first}-{last}/{len(data)}"})

    def _write(self, data: bytes) -> None:
        cut = self.hubs.cut_after if len(data) > self.hubs.cut_after > 0 else 0
        with contextlib.suppress(OSError):
            for start in range(0, cut or len(data), 16384):
                self.wfile.write(data[start : min(start + 16384, cut or len(data))])
                if self.hubs.bytes_per_s and len(data) > 16384:
                    time.sleep(16384 / self.hubs.bytes_per_s)
        if cut:
            self.close_connection = True
