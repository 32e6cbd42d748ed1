"""Build notebook/Reverie.ipynb: five code cells, the same bytes every time.

    python scripts/build_notebook.py            write it
    python scripts/build_notebook.py --check    exit 1 if the file in the repository is another
"""

from __future__ import annotations

import sys
from pathlib import Path

PLACE = Path(__file__).resolve().parents[1] / "notebook" / "Reverie.ipynb"

SETUP = '''#@title 1 Setup
import io, os, pathlib, shutil, subprocess, sys, tempfile, urllib.request, zipfile

def _project(source, here=pathlib.Path.cwd(), mark="modules/reverie/__init__.py"):
    """The folder of SD-Reverie: where it is already, else fetched from `source` (zip, URL of a zip, folder, git address)."""
    places = [os.environ.get("REVERIE_ROOT"), source, here, *here.parents, here / "sd-reverie", pathlib.Path.home() / "sd-reverie"]
    for place in places:
        if place and (pathlib.Path(place).expanduser() / mark).is_file():
            return pathlib.Path(place).expanduser().resolve()
    if not source:
        sys.exit("SD-Reverie is not here. Say where it is, and run this cell again: os.environ['REVERIE_SOURCE'] = a zip file, "
                 "the URL of a zip, a folder or a git address.")
    free = next(p for p in (here, pathlib.Path.home(), pathlib.Path(tempfile.gettempdir())) if os.access(p, os.W_OK))
    with tempfile.TemporaryDirectory(dir=free) as work:
        try:
            if source.split("?")[0].endswith(".zip"):
                data = urllib.request.urlopen(source, timeout=120).read() if "://" in source else pathlib.Path(source).expanduser().read_bytes()
                zipfile.ZipFile(io.BytesIO(data)).extractall(work)
            else:
                subprocess.run(["git", "clone", "-q", "--depth", "1", source, work + "/sd-reverie"], check=True, timeout=600)
            shutil.move(next(pathlib.Path(work).rglob(mark)).parents[2], free / "sd-reverie")
        except (OSError, ValueError, zipfile.BadZipFile, subprocess.SubprocessError, StopIteration) as error:
            sys.exit(f"SD-Reverie could not be fetched from {source}: {error or 'it is not in there'}. Check REVERIE_SOURCE.")
    return free / "sd-reverie"

_root = _project(globals().get("REVERIE_SOURCE") or os.environ.get("REVERIE_SOURCE"))
sys.path[:0] = [str(_root / "modules"), str(_root / "scripts")]
import setup
setup.notebook()'''

CELLS = (
    SETUP,
    '#@title 2 Choose\nsetup.load("widgets-en").main(globals())',
    '#@title 3 Download\nsetup.load("downloading-en").main(globals())',
    '#@title 4 Launch\nsetup.load("launch").main(globals())',
    '#@title 5 Create & care\nsetup.load("studio").main(globals())\nsetup.load("auto-cleaner").main(globals())',
)


def text() -> str:
    """The notebook as it lies in the file."""
    import nbformat

    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{number}") for number, source in enumerate(CELLS, 1)]
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}, "colab": {"name": "Reverie.ipynb"}}
    book = nbformat.v4.new_notebook(cells=cells, metadata=metadata, nbformat=4, nbformat_minor=5)
    nbformat.validate(book)
    return nbformat.writes(book, version=4) + "\n"


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        same = PLACE.exists() and PLACE.read_text("utf-8") == text()
        print("the notebook is as built" if same else f"{PLACE} differs from what this script builds: run it without --check")
        return 0 if same else 1
    PLACE.parent.mkdir(exist_ok=True)
    PLACE.write_text(text(), "utf-8")
    print(f"{PLACE}: {len(CELLS)} cells")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
