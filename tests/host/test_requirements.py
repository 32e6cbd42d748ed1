"""pip in a WebUI's environment: without an index, from wheels made here, under what is there already."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import small_webui
from reverie.errors import HostFailed
from reverie.host import webuis
from reverie.host.webuis import cpu_torch, packages, requirements, venvs
from reverie.settings import ROOT, Settings


def wheel(folder, name, version, needs=()):
    """A package with nothing in it but its name, version and what it needs."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}/__init__.py", f"__version__ = '{version}'\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(f"Requires-Dist: {need}\n" for need in needs))
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "".join(f"{entry},,\n" for entry in archive.namelist()))


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """Where pip looks, and nowhere else."""
    folder = tmp_path / "wheels"
    for name, version, needs in (("torch", "1.0", ()), ("torch", "2.0", ()), ("numpy", "1.0", ()), ("numpy", "2.0", ()), ("aesthetic", "1", ("torch", "numpy>=2"))):
        wheel(folder, name, version, needs)
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(folder)), ("PIP_CONFIG_FILE", "/dev/null"), ("PIP_DISABLE_PIP_VERSION_CHECK", "1")):
        monkeypatch.setenv(name, value)
    return folder


@pytest.fixture
def python(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True, timeout=300)
    return webuis.interpreter(tmp_path / "venv")


def test_the_torch_that_is_there_stays_and_pip_comes_where_it_lacks(wheels, python, tmp_path):
    requirements.install(python, ["torch==1.0", "numpy==1.0"], tmp_path / "cache")
    requirements.install(python, ["--upgrade", "aesthetic"], tmp_path / "cache")
    have = requirements.installed(python)
    assert (have["torch"], have["aesthetic"]) == ("1.0", "1") and "pip" in have
    assert have["numpy"] == "2.0", "what stands in the way of a requirement may change, torch may not"


def test_another_torch_is_refused_rather_than_brought(wheels, python, tmp_path):
    requirements.install(python, ["torch==1.0"], tmp_path / "cache")
    with pytest.raises(HostFailed, match="pip could not install"):
        requirements.install(python, ["torch==2.0"], tmp_path / "cache")
    assert requirements.installed(python)["torch"] == "1.0"


def test_what_is_nowhere_is_said_with_pips_words(wheels, python, tmp_path):
    lines = []
    with pytest.raises(HostFailed, match="No matching distribution found for no-such-thing") as caught:
        requirements.install(python, ["no-such-thing"], tmp_path / "cache", lines.append)
    assert "\n" not in str(caught.value) and lines


@pytest.mark.skipif(requirements.has_nvidia() or sys.platform != "linux", reason="with a card CUDA is what is wanted")
def test_without_a_card_no_cuda_is_fetched(tmp_path, python, wheels):
    """The small build is taken where there is one; where there is none that is said before anything is fetched."""
    for old in wheels.glob("torch-*"):
        old.unlink()
    wheel(wheels, "torch", "9.0", ["nvidia-cublas"])
    wheel(wheels, "nvidia_cublas", "13")
    with pytest.raises(HostFailed, match="only the CUDA build"):
        requirements.install(python, ["aesthetic"] + ["torch"], tmp_path / "cache")
    assert not {"torch", "nvidia-cublas"} & requirements.installed(python).keys()
    pinned = next(line for line in (ROOT / "configs/constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    wheel(wheels, "torch", pinned.partition("==")[2])
    requirements.install(python, ["aesthetic", "torch"], tmp_path / "cache")
    assert f"torch=={requirements.installed(python)['torch']}" == pinned


def test_nothing_wanted_starts_nothing(tmp_path):
    requirements.install(tmp_path / "no" / "python", [], tmp_path / "cache")


def test_a_clone_gets_its_requirements_and_a_cut_off_one_is_mended(wheels, tmp_path):
    settings = Settings(root=ROOT, storage=tmp_path / "storage")
    made = tmp_path / "made"
    tree = small_webui.build(made / "tree")
    (tree / "requirements.txt").write_text("aesthetic\n")
    archive = made / "small.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(tree.rglob("*")):
            packed.write(path, path.relative_to(tree))
    small_webui.write_rows(settings.storage, small_webui.row(package=str(archive)))
    ui = webuis.find("small", settings)
    packages.install(ui, settings)
    folder = webuis.venv(ui, settings)
    assert requirements.installed(webuis.venv_python(ui, settings))["aesthetic"] == "1"
    next(folder.glob("lib/python*/site-packages/aesthetic-1.dist-info/RECORD")).unlink()
    (folder / webuis.RECEIPT).unlink()  # killed in the middle of pip
    packages.install(ui, settings)
    assert next(folder.glob("lib/python*/site-packages/aesthetic-1.dist-info/RECORD")).exists() and venvs.receipt(folder)["requirements"]


@pytest.mark.skipif(requirements.has_nvidia() or sys.platform != "linux", reason="with a card nothing is to be mended")
def test_a_torchvision_that_was_built_for_cuda_is_made_to_import_beside_a_small_torch(python):
    """As PyPI's behave: one asks for a name that its compiled part would have declared, the other cannot load its own."""
    site = Path(subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True, check=True).stdout.strip())
    for name, code in (
        ("torch", "from . import library, version\n"),
        ("torchvision", "import torch.library\nif 'nms' not in torch.library.known: raise RuntimeError('operator torchvision::nms does not exist')\n"),
        ("torchaudio", "import pathlib\nif list(pathlib.Path(__file__).parent.glob('lib/*.so')): raise OSError('Could not load this library: _torchaudio.so')\n"),
    ):
        (site / name).mkdir()
        (site / name / "__init__.py").write_text(code)
    (site / "torch" / "version.py").write_text("cuda = hip = None\n")
    (site / "torch" / "library.py").write_text("known = set()\nclass Library:\n    def __init__(self, *_): pass\n    def define(self, what): known.add(what.partition('(')[0])\n")
    (site / "torchaudio" / "lib").mkdir()
    (site / "torchaudio" / "lib" / "_torchaudio.so").write_bytes(b"")
    told = cpu_torch.fit(python)
    assert [line.split()[0] for line in told] == ["torchvision", "torchaudio"] and "without its compiled" in told[0]
    subprocess.run([python, "-c", "import torchvision, torchaudio"], check=True, timeout=120)
    assert cpu_torch.fit(python) == [], "it is told once"


@pytest.mark.parametrize("code", ["cuda, hip = '13.0', None", "cuda, hip = None, '6.4'"])
def test_a_torch_for_a_card_is_left_as_it_is(python, code):
    site = Path(subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True, check=True).stdout.strip())
    (site / "torch").mkdir()
    (site / "torch" / "__init__.py").write_text("from . import version\n")
    (site / "torch" / "version.py").write_text(code)
    (site / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    assert cpu_torch.fit(python) == [] and not list(site.glob("reverie*"))
