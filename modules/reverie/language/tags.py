"""Tags and text of XML or HTML, sound or broken, in time that grows with its length alone, whatever the text.

(The standard library's HTML parser takes hours for a few hundred kB of "<a <a <a"; no entity of a DTD is expanded here.)
"""

from __future__ import annotations

import html
import re
from typing import Iterator

_TAG = re.compile(r"""<(/?)([A-Za-z][^\s<>/"'=]*)((?:[^<>"']|"[^"<]*"|'[^'<]*')*)>""")
_LOOSE_TAG = re.compile(r"<(/?)([A-Za-z][^\s<>/\"'=]*)([^<>]*)>")
_ATTRIBUTE = re.compile(r"""([^\s=/>"']+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+)))?""")


def events(source: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """("start", name, attributes), ("end", name, {}) and ("text", text, {}); names in lower case, without prefixes."""
    at, absent = 0, set()

    def after(mark: str, start: int) -> int:
        found = -1 if mark in absent else source.find(mark, start)
        if found < 0:
            absent.add(mark)  # it is not looked for again: that keeps the work linear
            return -1
        return found + len(mark)

    while (tag := source.find("<", at)) >= 0:
        if tag > at:
            yield "text", html.unescape(source[at:tag]), {}
        if source.startswith("<![CDATA[", tag) and (end := after("]]>", tag)) > 0:
            yield "text", source[tag + 9:end - 3], {}
        elif source.startswith(("<!", "<?"), tag):
            end = _declaration_end(source, tag, after)
        elif match := _TAG.match(source, tag) or _LOOSE_TAG.match(source, tag):
            name, end = match[2].lower().rpartition(":")[2], match.end()
            if match[1]:
                yield "end", name, {}
            else:
                yield "start", name, {m[1].lower(): html.unescape(m[2] or m[3] or m[4] or "") for m in _ATTRIBUTE.finditer(match[3])}
                if match[3].endswith("/"):
                    yield "end", name, {}
        else:
            yield "text", "<", {}
            end = tag + 1
        at = end
    if at < len(source):
        yield "text", html.unescape(source[at:]), {}


def _declaration_end(source: str, at: int, after) -> int:
    """Behind a comment, a processing instruction or a DOCTYPE with all that it declares."""
    if source.startswith("<!--", at) and (end := after("-->", at + 4)) > 0:
        return end
    end = after(">", at)
    if source[at:at + 9].upper() == "<!DOCTYPE" and "[" in source[at:max(at, end)] and (subset := after("]", at)) > 0:
        end = after(">", subset)
    return end if end > 0 else at + 2
