"""Bytes of a text file to text, whatever editor wrote them."""

from __future__ import annotations

import codecs

from reverie.errors import BadInput


def decode(data: bytes, name: str = "the file") -> str:
    """Text of a file in UTF-8, UTF-16 with its mark, Windows-1252, or a mixture; BadInput for a binary file."""
    for mark, encoding in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if data.startswith(mark):
            text = data.decode(encoding, errors="replace")
            break
    else:
        text = data.decode("utf-8", errors="reverie-windows-1252")
    controls = sum(1 for c in text[:65536] if c < " " and c not in "\t\n\r\f\v\x1a")
    if "\0" in text[:65536] or controls > 2 + len(text[:65536]) // 200:
        raise BadInput(f"'{name}' is not a text file.", "Export the book as .md or .txt and give that.")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\x1a", "")


def _windows_1252(error):
    # Old editors paste Windows-1252 quotes into UTF-8 files: only the bytes that are not UTF-8 are read that way.
    bad = error.object[error.start:error.end]
    return bad.decode("cp1252", errors="replace"), error.end


codecs.register_error("reverie-windows-1252", _windows_1252)
