"""Bytes of a text file to text, whatever editor wrote them."""

from __future__ import annotations

import codecs
import re

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
        raise BadInput(f"'{name}' is not a text file.", "Export the book as .md, .txt, .epub or .docx and give that.")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\x1a", "")


def decode_markup(data: bytes, name: str = "the file") -> str:
    """Text of an XML or HTML file: UTF-8 wherever it is that, else what its first line declares, else as `decode`."""
    if data[:2] in (b"<\0", b"\0<"):
        data = (codecs.BOM_UTF16_LE if data[1] == 0 else codecs.BOM_UTF16_BE) + data
    declared = re.search(rb"""(?:encoding|charset)\s*=\s*["']?\s*([\w.:-]+)""", data[:1024], re.I)
    if declared and not data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            try:
                encoding = codecs.lookup(declared[1].decode("ascii"))
                if encoding._is_text_encoding and encoding.name not in ("utf-8", "utf-16", "iso8859-1", "ascii"):
                    data = encoding.decode(data, "replace")[0].encode("utf-8", "replace")
            except (LookupError, UnicodeError, ValueError):
                pass  # an encoding that nobody knows: as if none were declared
    return decode(data, name)


def _windows_1252(error):
    # Old editors paste Windows-1252 quotes into UTF-8 files: only the bytes that are not UTF-8 are read that way.
    bad = error.object[error.start:error.end]
    return bad.decode("cp1252", errors="replace"), error.end


codecs.register_error("reverie-windows-1252", _windows_1252)
