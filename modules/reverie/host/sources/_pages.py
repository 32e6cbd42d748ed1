"""What an answer is that is no file: pages and error messages, however they are marked."""

from __future__ import annotations

import html
import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Iterator

from reverie.errors import FetchFailed

if TYPE_CHECKING:
    from reverie.host.sources._asking import Answer


@contextmanager
def reading(hub: str) -> Iterator[None]:
    """While a hub's data is read: FetchFailed where a field of it is not of the kind that it always was."""
    try:
        yield
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise FetchFailed(f"{hub}'s answer is not what it used to be ({type(error).__name__}).", "Try again later, or update this project.") from error


def kind(answer: Answer) -> str:
    """What an answer is that is no model's file: "a web page ("Log in")", "an error message (…)"; "" for a file."""
    start = answer.body[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if answer.type in ("text/html", "application/xhtml+xml") or start[:15].lower().startswith((b"<!doctype html", b"<html")):
        return f"a web page{_quoted(_title(answer.body))}"
    if start.startswith((b"<?xml", b"<Error>")) or answer.type in ("application/xml", "text/xml"):
        return f"an error message{_quoted(_between(answer.body, b'<Message>', b'</Message>'))}"
    if answer.type in ("application/json", "application/problem+json"):
        return f"an error message{_quoted(said(answer))}"
    return ""


def said(answer: Answer) -> str:
    """What a hub's JSON says of an error; "" if nothing."""
    try:
        data = json.loads(answer.body)
        told = data.get("message") or data.get("error") or ""
        told = told.get("message") or told.get("name") or "" if isinstance(told, dict) else told
    except (ValueError, AttributeError, RecursionError):
        return ""
    return " ".join(str(told).split())[:200].rstrip(".")


def _title(body: bytes) -> str:
    found = re.search(rb"<title[^>]*>(.*?)</title", body[:65536], re.DOTALL | re.IGNORECASE)
    return _plain(found[1]) if found else ""


def _between(body: bytes, start: bytes, end: bytes) -> str:
    return _plain(body.partition(start)[2].partition(end)[0]) if start in body and end in body else ""


def _plain(text: bytes) -> str:
    plain = " ".join(html.unescape(text[:400].decode("utf-8", "replace")).split())
    return "".join(sign for sign in plain if sign.isprintable())[:120].rstrip(".")


def _quoted(text: str) -> str:
    return f' ("{text}")' if text else ""
