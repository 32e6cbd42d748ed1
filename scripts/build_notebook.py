"""Build notebook/Reverie.ipynb: five code cells, the same bytes every time.

    python scripts/build_notebook.py            write it
    python scripts/build_notebook.py --check    exit 1 if the file in the repository is another
"""

from __future__ import annotations

import sys
from pathlib import Path

PLACE = Path(__file__).resolve().parents[1] / "notebook" / "Reverie.ipynb"

SETUP = '''#@title 1 Setup
import hashlib, os, pathlib, re, shutil, subprocess, sys, tempfile, urllib.request, zipfile

_MARK = "modules/reverie/__init__.py"

def _ways(source):
    """The addresses to try for one source: of a repository on GitHub the release's package first, its files without git last."""
    hub = re.fullmatch(r"https://github\\.com/[^/]+/[^/]+?(\\.git)?/?", source)
    base = source.rstrip("/").removesuffix(".git")
    return [base + "/releases/latest/download/sd-reverie.zip", source, base + "/archive/HEAD.zip"] if hub else [source]

def _fetch(address, work):
    """What lies at `address` (a zip, the URL of one, a git address) into the folder `work`; #sha256=... at its end is checked."""
    address, _, wanted = address.partition("#sha256=")
    if not address.split("?")[0].endswith(".zip"):
        env = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
        git = ["git", "clone", "-q", "--depth", "1", "--", address, os.path.join(work, "clone")]
        done = subprocess.run(git, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise OSError((done.stderr.strip().splitlines() or ["git failed"])[-1])
        return
    package = pathlib.Path(address).expanduser()
    if "://" in address:
        package = pathlib.Path(work, "package")
        with urllib.request.urlopen(address, timeout=60) as answer, open(package, "wb") as out:
            shutil.copyfileobj(answer, out, 1 << 20)
    if wanted and hashlib.sha256(package.read_bytes()).hexdigest() != wanted.lower():
        raise ValueError("its checksum is not the one given")
    zipfile.ZipFile(package).extractall(work)

def _place():
    """The first folder that can be written: here, home, the one for temporary files."""
    for place in (pathlib.Path.cwd(), pathlib.Path.home(), pathlib.Path(tempfile.gettempdir())):
        try:
            tempfile.TemporaryFile(dir=place).close()
            return place
        except OSError:
            pass
    sys.exit("No folder here can be written, and SD-Reverie needs one. Start the notebook in a folder of your own.")

def _project(sources):
    """The folder of SD-Reverie: where it is already, else fetched from the first source that has it."""
    here, home = pathlib.Path.cwd(), pathlib.Path.home()
    for place in (os.environ.get("REVERIE_ROOT"), *sources, here, *here.parents, here / "sd-reverie", home / "sd-reverie"):
        if place and (pathlib.Path(place).expanduser() / _MARK).is_file():
            return pathlib.Path(place).expanduser().resolve()
    if not sources:
        sys.exit("SD-Reverie is not here. Say where it is, and run this cell again: REVERIE_SOURCE = 'a zip, its URL, a folder or a git address'")
    target, wrong = _place() / "sd-reverie", []
    for address in [way for source in sources for way in _ways(source)]:
        try:
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".reverie-") as work:
                _fetch(address, work)
                os.rename(next(pathlib.Path(work).rglob(_MARK)).parents[2], target)
            return target
        except StopIteration:
            wrong.append(address + ": it is not in there")
        except (OSError, ValueError, zipfile.BadZipFile, subprocess.SubprocessError) as error:
            if (target / _MARK).is_file():  # another kernel was quicker
                return target
            wrong.append(f"{address}: {'move ' + str(target) + ' away, it is something else' if target.exists() else error}")
    sys.exit(f"SD-Reverie could not be fetched. {'; '.join(wrong)}. Mend REVERIE_SOURCE and run this cell again.")

_given = globals().get("REVERIE_SOURCE") or os.environ.get("REVERIE_SOURCE") or ""  # several: commas between, tried in turn
_root = _project([source.strip() for source in _given.split(",") if source.strip()])
sys.path[:0] = [path for path in (str(_root / "modules"), str(_root / "scripts")) if path not in sys.path]
import setup
setup.notebook()'''

FIRST = 'if "setup" not in globals(): raise SystemExit("Run cell 1 first: a new or restarted kernel knows nothing of SD-Reverie yet.")\n'

CELLS = (
    SETUP,
    f'#@title 2 Choose\n{FIRST}setup.load("widgets-en").main(globals())',
    f'#@title 3 Download\n{FIRST}setup.load("downloading-en").main(globals())',
    f'#@title 4 Launch\n{FIRST}setup.load("launch").main(globals())',
    f'#@title 5 Create & care\n{FIRST}setup.load("studio").main(globals())\nsetup.load("auto-cleaner").main(globals())',
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
