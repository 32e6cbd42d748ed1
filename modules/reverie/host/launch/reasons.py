"""Why a program ended, read from the last of its log: known causes and their remedies are in `configs/launch.yaml`. Pure."""

from __future__ import annotations

import re

from reverie.settings import config


def how(code: int | None) -> str:
    return "" if code is None else f" (killed by signal {-code})" if code < 0 else f" (exit status {code})"


def by_code(code: int | None) -> str:
    return "The system ended it, most likely for want of memory: close what else runs." if code in (-9, 137) else ""


def last_words(lines: list[str], most: int = 300) -> str:
    """The log's last lines that mean something: of a traceback its last line, else up to two lines."""
    meaning = [line.strip() for line in lines if re.search(r"\w", line)]
    cause = next((line for line in reversed(meaning[-40:]) if re.match(r"[\w.]*(Error|Exception|Exit|Interrupt)\b.*", line)), "")
    return (cause or " / ".join(meaning[-2:]))[:most]


def reason_in(lines: list[str]) -> dict | None:
    """The first known reason that a line of a log's end gives."""
    rows = config("launch")["reasons"]
    return next((row for row in rows if any(re.search(row["match"], line, re.IGNORECASE) for line in lines)), None)
