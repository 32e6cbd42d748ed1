"""Run the notebook without anybody watching: papermill, one line per cell, and where the results lie. Standard library only."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import installing

NOISE = re.compile("|".join((
    "Input Notebook", "Working directory", "Output Notebook", "Passed unknown parameter",
    "Input notebook does not contain", "Executing notebook with kernel", r"\[IPKernelApp\]", "Ending Cell",
    "Black is not installed", r"0\.00s - ", "<IPython", r"(?:HTML|VBox|HBox|Output)\(", "Traceback", "  File ",
    r"papermill\.exceptions", r"^\s*\^", "^-{20}", "Exception encountered",
)))


class Cells:
    """papermill's log as lines for people: which cell of how many, when, and what it prints."""

    def __init__(self, titles: list[str], injected: bool, say):
        self.titles, self.offset, self.say, self.started, self.failing = titles, int(injected), say, time.monotonic(), False

    def line(self, line: str) -> None:
        if found := re.match(r"Executing Cell (\d+)-", line):
            number = int(found[1]) - self.offset
            if number >= 1:
                self.say(f"[{time.monotonic() - self.started:4.0f} s] {self.titles[number - 1]}")
        elif line.startswith("Traceback"):
            self.failing = True
        elif line.strip() and not self.failing and not NOISE.search(line):
            self.say(f"         {line}")


def run_notebook(target, parameters: list[tuple[str, str]]) -> int:
    """Run notebook/Reverie.ipynb with these parameters; 0 when all cells passed. The finished notebook and results are kept."""
    folder = installing.STORAGE / "outputs" / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    source, out, result = installing.ROOT / "notebook" / "Reverie.ipynb", folder / "last.ipynb", folder / "last.json"
    result.unlink(missing_ok=True)
    titles = [first_line(cell).removeprefix("#@title").strip() for cell in cells_of(source)]
    command = [
        target.python, "-m", "papermill", str(source), str(out), "--cwd", str(installing.ROOT), "--no-progress-bar", "--log-output",
        "--start-timeout", "120", "--execution-timeout", str(installing.RUN_S), "-k", "python3",
    ]
    for name, value in parameters:
        command += ["-p", name, value]
    env = {"REVERIE_HEADLESS": "1", "REVERIE_ROOT": str(installing.ROOT), "PYTHONUNBUFFERED": "1"}
    code, _ = installing.run(command, installing.RUN_S, Cells(titles, bool(parameters), installing.say).line, env)
    if code:
        raise installing.Halt(f"{sentence_of(out) or 'The notebook did not finish.'}\n(the notebook as it ran: {out}; the log: {installing.LOG})")
    tell_results(result, installing.say)
    return 0


def cells_of(path: Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def first_line(cell: dict) -> str:
    return "".join(cell["source"]).split("\n", 1)[0]


def sentence_of(path: Path) -> str:
    """The error of the first cell that failed: its sentence, without the traceback."""
    try:
        for cell in cells_of(path):
            for output in cell.get("outputs", []):
                if output["output_type"] == "error":
                    return output["evalue"] or output["ename"]
    except (OSError, ValueError, KeyError):
        pass
    return ""


def tell_results(path: Path, say) -> None:
    try:
        result = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return say("The cells passed and left no list of results.")
    pictures = result.get("pictures", [])
    say(f"\n{len(pictures)} picture{'' if len(pictures) == 1 else 's'}" + (f", {result['failed']} failed" if result.get("failed") else ""))
    for folder in sorted({str(Path(picture).parent) for picture in pictures}):
        say(f"  pictures    {folder}")
    for name, key in (("storyboard", "storyboard"), ("book", "epub"), ("comic", "pdf"), ("short film", "animatic")):
        if result.get(key):
            say(f"  {name:<11} {result[key]}")
