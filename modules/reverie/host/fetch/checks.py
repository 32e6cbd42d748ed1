"""Whether bytes are what was asked for: no error page instead of a model, and the right sum."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath
from typing import Callable

HEAD_BYTES = 4096
_BINARY = set(
    ".safetensors .sft .ckpt .pt .pth .bin .gguf .onnx .pkl .npz .zip .7z .tar .gz .tgz .xz .lz4 .zst .whl"
    " .png .jpg .jpeg .webp .gif .mp4 .webm".split()
)
_TEXT = set(".html .htm .xhtml .xml .svg .json .txt .md .yaml .yml .csv .toml .ini .py .jinja".split())
_HTML = re.compile(rb"^(<!doctype\s+html|<html|<head|<body|<title|<script)\b", re.IGNORECASE)
_READ_BYTES = 4 * 1024 * 1024


def error_page(head: bytes, name: str, content_type: str = "") -> str:
    """What the first bytes of a file called `name` show it to be instead ("an HTML page", ...); "" where nothing speaks against it."""
    suffix = PurePosixPath(name).suffix.lower()
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if suffix in _TEXT:
        return ""
    if _HTML.match(text) or text.startswith(b"<!--") and b"<html" in text.lower():
        return "an HTML page"
    if text.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer instead of the file"
    if not _is_text(text):
        return "an empty file" if suffix in _BINARY and not head else ""
    if text[:1] in (b"{", b"[") and (suffix in _BINARY or "json" in content_type):
        return "a JSON message"
    if text.startswith(b"<?xml") and (suffix in _BINARY or "xml" in content_type):
        return "an XML message"
    return "a text" if suffix in _BINARY and content_type.startswith("text/") else ""


def _is_text(head: bytes) -> bool:
    """Whether there are letters and nothing that a text does not have; a letter may be cut at the end."""
    if not head or re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", head):
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return len(head) - error.start < 4 and len(head) >= HEAD_BYTES - 4
    return True


def first_bytes(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(HEAD_BYTES)


def sha256(path: Path, check_in: Callable[[], None] = lambda: None) -> str:
    """In lower case. `check_in` is called between reads, and may raise to end it."""
    total, buffer = hashlib.sha256(), memoryview(bytearray(_READ_BYTES))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            total.update(buffer[:count])
            check_in()
    return total.hexdigest()
