"""How a run is told: the bar for people, the results for whoever reads on."""

import os
import subprocess
import sys

import pytest

import home
from reverie.faces.cli_run import Outcome
from reverie.pipelines import Update

RUN = """
from pathlib import Path
from reverie.faces import cli_report
from reverie.pipelines import Update

with cli_report.choose(False, None) as report:
    report.take(Update("plan", data=[{}]))
    report.take(Update("note", text="a note"))
    report.take(Update("picture", path=Path("/somewhere/house.png"), fraction=1.0))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_beside_a_bar_on_the_terminal_results_go_through_the_pipe():
    reader, terminal = os.openpty()
    env = os.environ | {"PYTHONPATH": str(home.ROOT / "modules"), "TERM": "xterm"}
    done = subprocess.run([sys.executable, "-c", RUN], stdout=subprocess.PIPE, stderr=terminal, text=True, env=env, timeout=120)
    os.close(terminal)
    shown = os.read(reader, 1 << 16).decode()
    os.close(reader)
    assert done.stdout == "[1/1] /somewhere/house.png\n"
    assert "a note" in shown and "house.png" not in shown


def test_scenes_that_were_there_already_have_their_images_in_json(tmp_path):
    (tmp_path / "kept.png").touch()
    rows = [{"scene": number, "filename": name, "image": [tmp_path / name]} for number, name in enumerate(("kept.png", "failed.png"), 1)]
    outcome = Outcome()
    outcome.take(Update("plan", data=rows))
    kept, failed = outcome.rows()
    assert kept["images"] == [str(tmp_path / "kept.png")] and "images" not in failed
