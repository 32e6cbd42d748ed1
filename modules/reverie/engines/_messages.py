"""Messages between the engine and its worker: a JSON head and raw bytes, each with its length before it. No pickle.

    4 bytes   length of the head, big-endian
    head      UTF-8 JSON object; "blobs" lists the lengths of the byte strings that follow
    blobs     one after the other
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

MAX_HEAD = 64 << 20


def write(stream: BinaryIO, head: dict[str, Any], *blobs: bytes) -> None:
    """Send one message and flush. OSError or ValueError when the other side is gone."""
    body = json.dumps({**head, "blobs": [len(blob) for blob in blobs]}, separators=(",", ":")).encode()
    stream.write(struct.pack(">I", len(body)) + body + b"".join(blobs))
    stream.flush()


def read(stream: BinaryIO) -> tuple[dict[str, Any], list[bytes]] | None:
    """The next message, None at the end of the stream. ValueError for bytes that are no message."""
    lead = _exactly(stream, 4)
    if lead is None:
        return None
    (length,) = struct.unpack(">I", lead)
    if length > MAX_HEAD:
        raise ValueError(f"a message head of {length} bytes")
    body = _exactly(stream, length)
    if body is None:
        return None
    head = json.loads(body)
    blobs = [_exactly(stream, size) for size in head.pop("blobs", [])]
    return None if any(blob is None for blob in blobs) else (head, blobs)


def _exactly(stream: BinaryIO, count: int) -> bytes | None:
    parts = []
    while count:
        part = stream.read(count)
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
