"""Aligned columns for the terminal."""

from __future__ import annotations

import shutil
import sys
from typing import Sequence

import click


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their longest value; on a terminal the last one is cut to fit the line, in a pipe it is whole."""
    widths = [max(len(str(row[column])) for row in (head, *rows)) for column in range(len(head) - 1)]
    room = shutil.get_terminal_size().columns - sum(widths) - 2 * len(widths) if sys.stdout.isatty() else 0
    click.echo(click.style(_line(head, widths, 0), bold=True))
    for row in rows:
        click.echo(_line(row, widths, room))


def _line(row: Sequence[str], widths: Sequence[int], room: int) -> str:
    *cells, last = (" ".join(str(cell).split()) for cell in row)
    if room > 20 and len(last) > room:
        last = last[: room - 1] + "…"
    return "  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths)), last]).rstrip()
