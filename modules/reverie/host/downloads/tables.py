"""A plan for people and programs: a table of text, the same in HTML, and JSON. Pure."""

from __future__ import annotations

from html import escape
from typing import Any

from reverie.host.downloads.planning import Plan, Row, size_text

WORDS = {"fetch": "fetch", "resume": "carry on", "link": "link", "skip": "here", "refused": "refused"}
HEAD = ("", "kind", "file", "size", "")
MAX_SHOWN = 60  # rows of a table; a folder of a hundred small files would bury what matters


def cells(row: Row) -> tuple[str, str, str, str, str]:
    """What is done, kind, name, size, and what else there is to say."""
    size = size_text(row.size) if row.size else "?" if row.action != "refused" else ""
    said = [f"{size_text(row.there)} of it are here"] * (row.action == "resume") + [row.reason] * bool(row.reason)
    said += [f"with {row.token}"] * bool(row.token and row.moves)
    return WORDS[row.action], row.kind, row.name, size, "; ".join([*said, *row.notes])


def summary(plan: Plan) -> list[str]:
    """What it comes to: how many files of which sort, bytes against the free room, and what is in the way."""
    count = {action: len(plan.of(action)) for action in WORDS}
    parts = []
    if number := count["fetch"] + count["resume"]:
        unknown = f" and {plan.unknown} of unknown size" if plan.unknown else ""
        carried = f", {count['resume']} of them carried on" if count["resume"] else ""
        parts.append(f"{_files(number)} to fetch, {size_text(plan.fetch_bytes)}{unknown}{carried}")
    parts += [f"{count['link']} to link"] * bool(count["link"]) + [f"{count['skip']} here already"] * bool(count["skip"])
    parts += [f"{count['refused']} refused"] * bool(count["refused"])
    lines = ["; ".join(parts) + f". Free: {size_text(plan.free_bytes)}." if parts else "Nothing was asked for."]
    if plan.copy_bytes:
        lines.append(f"No links can be made here, so copies take {size_text(plan.copy_bytes)} more.")
    if plan.unknown:
        lines.append(f"Whether there is room for the {_files(plan.unknown)} of unknown size shows only on the way.")
    if plan.lacking_bytes:
        lines.append(f"The disk is too small: {size_text(plan.lacking_bytes)} are missing.")
    return lines


def text(plan: Plan) -> str:
    """The table, aligned, then the summary."""
    rows, left_out = _shown(plan)
    table = [HEAD, *map(cells, rows)] if rows else []
    widths = [max(len(row[column]) for row in table) for column in range(4)] if table else []
    lines = ["  ".join([*(value.ljust(width) for value, width in zip(row, widths)), row[4]]).rstrip() for row in table]
    return "\n".join([*lines, *left_out, *summary(plan)])


def html(plan: Plan) -> str:
    """The same for a notebook; everything that came from a source is escaped."""
    rows, left_out = _shown(plan)
    head = "".join(f"<th>{escape(word)}</th>" for word in HEAD)
    body = "".join(f'<tr class="rv-plan-{row.action}">{"".join(f"<td>{escape(cell)}</td>" for cell in cells(row))}</tr>' for row in rows)
    table = f'<table class="rv-plan"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>' if rows else ""
    return table + "".join(f"<p>{escape(line)}</p>" for line in [*left_out, *summary(plan)])


def plain(plan: Plan) -> dict[str, Any]:
    """JSON's types alone."""
    sums = {name: getattr(plan, name) for name in ("fetch_bytes", "copy_bytes", "need_bytes", "free_bytes", "lacking_bytes", "unknown")}
    return {"rows": [_plain(row) for row in plan.rows], **sums}


def _plain(row: Row) -> dict[str, Any]:
    own = {name: getattr(row, name) for name in ("action", "kind", "name", "asked", "size", "there", "reason", "token")}
    source = {"url": row.resource.url, "sha256": row.resource.sha256, "family": row.resource.family} if row.resource else {}
    return {**own, "notes": list(row.notes), **source}


def _shown(plan: Plan) -> tuple[list[Row], list[str]]:
    """The rows to show: those that a person must know of first to stay, the others as far as there is room."""
    if len(plan.rows) <= MAX_SHOWN:
        return list(plan.rows), []
    weight = {"refused": 0, "resume": 1, "fetch": 1, "link": 2, "skip": 3}
    kept = sorted(sorted(range(len(plan.rows)), key=lambda i: (weight[plan.rows[i].action], -plan.rows[i].size, i))[:MAX_SHOWN])
    return [plan.rows[i] for i in kept], [f"… and {_files(len(plan.rows) - MAX_SHOWN)} more"]


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"
