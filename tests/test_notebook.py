"""The five cells: as built, on an empty machine, and run for real by papermill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import nbformat
import pytest

import build_notebook
import cells
import home
import setup

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebook" / "Reverie.ipynb"
TALE = """CHAPTER ONE

The Boat

At dawn a red boat lay by the sea, and the fisherman sang to the calm water.

* * *

At night the castle on the hill was dark under the moon, and snow fell on the tower.

* * *

At noon a farmer stood by the green tree in the field, in the bright sun.
"""


# ------------------------------------------------------------------------------------------------------ as it is built


def test_the_committed_notebook_is_the_built_one():
    assert NOTEBOOK.read_text("utf-8") == build_notebook.text()


def test_five_code_cells_with_titles_and_nothing_else():
    book = nbformat.read(NOTEBOOK, as_version=4)
    assert [cell.cell_type for cell in book.cells] == ["code"] * 5
    assert [cell.source.split("\n")[0] for cell in book.cells] == [
        "#@title 1 Setup", "#@title 2 Choose", "#@title 3 Download", "#@title 4 Launch", "#@title 5 Create & care"
    ]
    assert not any("tags" in cell.metadata or cell.outputs for cell in book.cells)


def test_cells_after_the_first_are_a_few_lines_that_call_scripts():
    for source in build_notebook.CELLS[1:]:
        title, first, *calls = source.split("\n")
        assert calls and all(line.startswith("setup.load(") for line in calls) and len(calls) <= 2


def test_no_python_warns_of_a_cell():
    """An escape that is none is a warning under cell 1 from Python 3.12 on."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for source in build_notebook.CELLS:
            compile(source, "cell", "exec")


@pytest.mark.parametrize("source", build_notebook.CELLS[1:])
def test_a_cell_before_the_first_is_one_sentence(source):
    with pytest.raises(SystemExit, match="^Run cell 1 first"):
        exec(source, {})


# ------------------------------------------------------------------------------------------------- what cells are given


def test_papermill_s_parameters_are_the_plain_names():
    given = cells.parameters({"text": "a.md", "steps": 4, "seed": True, "_root": "x", "In": [], "sys": sys, "REVERIE_SOURCE": "z"})
    assert given == {"text": "a.md", "steps": 4, "seed": True}


@pytest.mark.parametrize("given, said", [({"webui": "nope"}, "There is no WebUI 'nope'"), ({"tunnel": "nope"}, "There is no tunnel 'nope'")])
def test_a_webui_and_a_tunnel_that_there_are_not_are_told_in_cell_2(storage, given, said):
    from reverie.errors import ReverieError

    with pytest.raises(ReverieError, match=said):
        cells.check(given)
    cells.check({"webui": "comfyui", "tunnel": "cloudflared"})


def kernel_says(code: str, allow_stdin: bool) -> str:
    """What a real kernel prints, asked as a notebook page asks (it takes input) or as papermill does (it takes none)."""
    from jupyter_client.manager import start_new_kernel

    heard: list[str] = []
    env = {name: value for name, value in os.environ.items() if name != "REVERIE_HEADLESS"}
    manager, client = start_new_kernel(startup_timeout=120, kernel_name="python3", env=env)
    try:
        look = lambda message: heard.append(message["content"].get("text", ""))  # noqa: E731
        client.execute_interactive(code, allow_stdin=allow_stdin, timeout=120, output_hook=look)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return "".join(heard)


@pytest.mark.parametrize("allow_stdin", [True, False])
def test_a_page_that_takes_input_is_not_headless(allow_stdin):
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r})\nimport cells; print(cells.headless())"
    assert kernel_says(code, allow_stdin).strip() == str(not allow_stdin)


def test_an_error_that_a_person_can_mend_is_its_sentence_alone():
    from reverie.errors import BadInput

    with pytest.raises(setup.Halt) as halted, cells.plainly():
        raise BadInput("That is wrong.", "Mend it.")
    assert halted.value._render_traceback_() == ["That is wrong. Mend it."]


@pytest.fixture
def storage(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("REVERIE_STORAGE", str(tmp_path / "storage"))
    return tmp_path / "storage"


def test_what_is_chosen_is_kept_and_what_is_given_wins(storage):
    from reverie.host import choices

    choices.save(choices.Choices(model="sd15"))
    assert cells.chosen({}) == {"engine": "diffusers", "model": "sd15"}
    assert cells.chosen({"model": "pocket"})["model"] == "pocket"


def test_what_an_older_version_kept_is_read(storage):
    storage.mkdir()
    (storage / "settings.json").write_text('{"engine": "diffusers", "model": "sd15"}')
    assert cells.chosen({})["model"] == "sd15"
    (storage / "settings.json").write_text("broken")
    assert cells.chosen({}) == {"engine": "diffusers", "model": "pocket"}


def test_choices_of_cell_two_are_parameters_too(storage, capsys, monkeypatch):
    from reverie.errors import BadInput

    monkeypatch.setenv("REVERIE_HEADLESS", "1")
    given = {"webui": "comfyui", "models": "sd15, sdxl-base", "loras": ["https://example.org/moon.safetensors", "ink:0.5"], "tunnel": False}
    setup.load("widgets-en").main(given)
    assert capsys.readouterr().out == "engine diffusers, model pocket · comfyui · 3 to have: sd15, sdxl-base, moon.safetensors\n"
    assert cells.drawing(given)["loras"] == "ink:0.5"
    assert cells.drawing({"loras": "ink:0.5, moon"}) == {"loras": "ink:0.5, moon"}
    for wrong, said in (({"modells": "sd15"}, "Did you mean 'models'"), ({"launch_options": "--a; b"}, "belongs to a shell"), ({"port": "x"}, "port")):
        with pytest.raises(BadInput, match=said):
            cells.check(wrong)


def test_a_model_cut_short_is_told(tmp_path):
    from reverie import models
    from reverie.errors import BadInput

    path = home.storage(tmp_path) / "models/diffusers/pocket"
    if not path.exists():
        pytest.skip("the embedded model is here and is not to be damaged")
    download = setup.load("downloading-en")
    assert "whole" in download.verify(models.inspect(path))
    weights = download.weights(path)[0]
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BadInput, match="cut short"):
        download.verify(models.inspect(path))


def test_care_tells_of_a_storage_that_is_not_there_yet(storage, capsys):
    setup.load("auto-cleaner").main()
    assert capsys.readouterr().out.startswith(f"storage {storage}: 0 B, ") and not storage.exists()


def test_an_engine_that_does_not_answer_is_told():
    from reverie.errors import EngineFailed

    with pytest.raises(EngineFailed, match="does not answer within 0.01 s"):
        setup.load("launch").answers(within_s=0.01)


# ---------------------------------------------------------------------------------------------------- run for real


def papermill(out: Path, *parameters: str, **env: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "papermill", str(NOTEBOOK), str(out), "--cwd", str(ROOT), "--no-progress-bar", *parameters]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, env={**os.environ, **env})


def outputs(out: Path) -> str:
    return "".join(o.get("text", "") for cell in nbformat.read(out, as_version=4).cells for o in cell.outputs)


def test_all_five_cells_draw_a_text_and_the_second_time_nothing_is_redone(tmp_path):
    if not setup.is_done_here():
        pytest.skip("this Python was not set up by setup.py; cell 1 would install into it")
    storage = home.storage(tmp_path / "storage")
    (tmp_path / "tale.md").write_text(TALE)
    given = ["-p", "text", str(tmp_path / "tale.md"), "-p", "steps", "2", "-p", "chapters", "1", "-p", "engine", "diffusers", "-p", "model", "pocket"]
    first = papermill(tmp_path / "out.ipynb", *given, REVERIE_STORAGE=str(storage))
    assert first.returncode == 0, first.stderr[-2000:]
    result = json.loads((storage / "outputs/runs/last.json").read_text())
    pictures = [Path(path) for path in result["pictures"]]
    assert len(pictures) == 3 and Path(result["storyboard"]).is_file()
    assert "storyboard: " in outputs(tmp_path / "out.ipynb") and "engine diffusers, model pocket" in outputs(tmp_path / "out.ipynb")
    drawn = [path.stat().st_mtime_ns for path in pictures]

    command = [sys.executable, str(ROOT / "scripts/setup.py"), "--run", *given]
    second = subprocess.run(command, capture_output=True, text=True, timeout=900, env={**os.environ, "REVERIE_STORAGE": str(storage)})
    assert second.returncode == 0, second.stderr[-2000:]
    assert "5 Create & care" in second.stdout and f"storyboard  {result['storyboard']}" in second.stdout
    assert [path.stat().st_mtime_ns for path in pictures] == drawn


def test_a_parameter_that_nothing_has_ends_the_run_with_one_sentence(tmp_path):
    if not setup.is_done_here():
        pytest.skip("this Python was not set up by setup.py; cell 1 would install into it")
    command = [sys.executable, str(ROOT / "scripts/setup.py"), "--run", "-p", "chpaters", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env={**os.environ, "REVERIE_STORAGE": str(tmp_path)})
    assert done.returncode == 1 and "There is no parameter 'chpaters'. Did you mean 'chapters'?" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr and "3 Download" not in done.stdout
