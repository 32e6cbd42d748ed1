"""The house's own rules: imports run downwards, heavy libraries load late, nothing in the tree tells of where it was made."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "modules" / "reverie"
LAYERS = {"faces": 5, "pipelines": 4, "studio": 3, "dispatcher": 3, "nodes": 3, "engines": 2, "host": 2}  # everything else is ground: 1
GROUND = 1
LATE = {"torch", "diffusers", "transformers", "accelerate", "peft", "gradio", "ray", "papermill", "sqlalchemy", "aiohttp", "aria2p", "lz4", "segno", "pyngrok"}
OWN_PROCESS = {"engines/worker.py", "host/gate/proxy.py"}  # these start as processes of their own and may load what they like
MODULES = sorted(PACKAGE.rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def layer(dotted: str) -> int:
    """`reverie.engines.worker` → 2"""
    parts = dotted.split(".")
    return LAYERS.get(parts[1], GROUND) if len(parts) > 1 else GROUND


def imports(tree: ast.AST, here: str) -> set[str]:
    """Dotted names of everything that is imported, `from reverie import models` as reverie.models."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here.split(".")[: -node.level or None] + [node.module or ""]).strip(".") if node.level else node.module
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def at_the_top(tree: ast.Module) -> ast.Module:
    """The statements that run when the module is imported: no function bodies, nothing only for type checkers."""
    todo, kept = list(tree.body), []
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            kept.append(node)
        todo += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return ast.Module(kept, [])


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_run_only_downwards(path):
    here = "reverie." + path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
    mine = layer(here)
    for wanted in imports(ast.parse(path.read_text("utf-8")), here):
        if not wanted.startswith("reverie"):
            continue
        assert layer(wanted) <= mine, f"{here} imports {wanted}, which lies above it"
        beside = {here.split(".")[1], wanted.split(".")[1] if "." in wanted else ""}
        if "host" in beside and beside != {"host"}:
            assert mine == LAYERS["faces"] or layer(wanted) == GROUND, f"{here} imports {wanted}: only faces may use host, and host only the ground"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_heavy_libraries_load_inside_functions(path):
    top = imports(at_the_top(ast.parse(path.read_text("utf-8"))), "reverie")
    if name(path) not in OWN_PROCESS:
        assert not {wanted.split(".")[0] for wanted in top} & LATE


def test_modules_is_no_package():
    assert not (ROOT / "modules" / "__init__.py").exists()


def files() -> list[Path]:
    """Everything that belongs to the project: what git keeps or would keep; without git, what is no runtime data."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    if listing.returncode == 0 and listing.stdout:
        return [ROOT / found for found in listing.stdout.split("\0") if found and (ROOT / found).is_file()]
    return [path for path in ROOT.rglob("*") if path.is_file() and not {".venv", ".git", "storage", "__pycache__"} & set(path.parts)]


TEXT = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".ipynb", ".json", ".html", ".css", ".js", ""}
STRANGE = re.compile("|".join(["/" + r"work/(main|shared)", r"\.\./" + "shared", "/opt/" + r"(wheels|pypi)", "(?i:issue) #" + r"?\d", "/root" + "/", "TO" + "DO", "FIX" + "ME"]))


def test_no_file_tells_of_the_machine_it_was_written_on():
    found = []
    for path in files():
        if path.suffix in TEXT and "samples" not in path.parts and path.stat().st_size < 2_000_000:
            text = path.read_text("utf-8", errors="replace")
            found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in STRANGE.finditer(text)]
    assert not found


def test_constraints_name_exact_versions_and_no_addresses():
    lines = [line.split("#")[0].strip() for line in (ROOT / "configs" / "constraints.txt").read_text("utf-8").splitlines()]
    for line in filter(None, lines):
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*(; [a-z_]+ >= '[0-9.]+')?", line), line
    assert "torch==2.13.0" in lines and not any(line.startswith(("torchvision", "torchaudio", "nvidia")) for line in lines)
