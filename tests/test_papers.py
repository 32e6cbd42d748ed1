"""README and the state paper speak of files that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_every_place_in_to_change_x_touch_y_exists():
    section = (ROOT / "README.md").read_text("utf-8").split("## To change X, touch Y")[1].split("##")[0]
    places = [place for row in section.splitlines() if row.startswith("|") for place in re.findall(r"`([\w./-]+/[\w./-]*|[\w-]+\.txt)`", row)]
    assert len(places) >= 15 and [place for place in places if not (ROOT / place).exists()] == []


def test_links_and_pictures_of_the_papers_exist():
    for paper in ("README.md", "DYNAMIC_STATE_PROMPT.md"):
        links = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / paper).read_text("utf-8"))
        assert [link for link in links if not (ROOT / link).exists()] == []


def test_commands_of_the_papers_name_files_that_exist():
    for paper in ("README.md", "DYNAMIC_STATE_PROMPT.md"):
        named = re.findall(r"\b((?:scripts|tests|notebook)/[\w./-]+\.(?:py|ipynb))", (ROOT / paper).read_text("utf-8"))
        assert named and [name for name in named if not (ROOT / name).exists()] == []


def test_state_table_has_a_row_per_cell():
    text = (ROOT / "DYNAMIC_STATE_PROMPT.md").read_text("utf-8")
    assert len(re.findall(r"^\| \d .*\| works \|", text.split("<!-- state: begin -->")[1].split("<!-- state: end -->")[0], re.M)) == 5
