"""What processes of ours are given to work in."""

import subprocess
import sys

import reverie
from reverie import settings


def test_child_finds_the_package_keeps_what_it_was_given_and_fetches_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("MINE", "kept")
    (tmp_path / "mine.py").write_text("")
    said = "import os, mine, reverie; print(reverie.__file__, os.environ['MINE'], os.environ['HF_HUB_OFFLINE'])"
    child = subprocess.run([sys.executable, "-c", said], env=settings.child_environment(), cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert child.stdout.split() == [reverie.__file__, "kept", "1"]


def test_only_one_place_writes_the_environment_of_children():
    texts = {path.name: path.read_text("utf-8") for path in (settings.ROOT / "modules" / "reverie").rglob("*.py")}
    assert [name for name, text in texts.items() if "HF_HUB_OFFLINE" in text] == ["settings.py"]
