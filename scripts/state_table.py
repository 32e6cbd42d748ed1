#!/usr/bin/env python3
"""Write the table "Current state per cell" of DYNAMIC_STATE_PROMPT.md from the last headless run.

    python3 scripts/state_table.py [storage/outputs/runs/last.ipynb]
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAPER = ROOT / "DYNAMIC_STATE_PROMPT.md"
LAST_RUN = ROOT / "storage" / "outputs" / "runs" / "last.ipynb"
BEGIN, END = "<!-- state: begin -->", "<!-- state: end -->"


def table(notebook: dict) -> str:
    """A markdown table with a row per cell: title, status, seconds, the last line it printed."""
    lines = ["| cell | status | seconds | its last words |", "|---|---|---|---|"]
    for cell in notebook["cells"]:
        title = re.match(r"#@title\s*(.*)", "".join(cell["source"]))
        if title:
            run = cell["metadata"].get("papermill", {})
            status = "works" if run.get("status") == "completed" and not run.get("exception") else run.get("status", "not run")
            seconds = f"{run['duration']:.1f}" if run.get("duration") is not None else "–"
            lines.append(f"| {title[1].strip()} | {status} | {seconds} | {_last_words(cell)} |")
    return "\n".join(lines)


def _last_words(cell: dict) -> str:
    texts = ["".join(output.get("text", "")) for output in cell.get("outputs", []) if output.get("output_type") == "stream"]
    lines = [line.strip() for line in "".join(texts).splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    last = re.sub(r"(?<![\w.])/[\w./-]+", lambda path: Path(path[0]).name, last)  # no paths of the machine
    return last.replace("|", "\\|")[:160]


def main() -> int:
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else LAST_RUN
    if not source.exists():
        print(f"{source} does not exist. Run the cells first: python3 scripts/setup.py --run", file=sys.stderr)
        return 2
    text = PAPER.read_text("utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    PAPER.write_text(f"{before}{BEGIN}\n{table(json.loads(source.read_text('utf-8')))}\n{END}{after}", "utf-8")
    print(f"{PAPER.name}: state table written from {source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
