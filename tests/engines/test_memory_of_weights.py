"""Weights that are laid out anew are not in memory twice."""

import sys

import pytest

torch = pytest.importorskip("torch")

from reverie.engines import _speed  # noqa: E402

MIB = 2**20


def resident() -> int:
    """Bytes of this process in memory, mapped files included."""
    lines = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    return int(lines["VmRSS"].split()[0]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_new_layout_gives_the_files_pages_back(tmp_path):
    from safetensors.torch import load_file, save_file

    kernels = {f"{i}.weight": torch.randn(256, 256, 3, 3) for i in range(40)}
    size = sum(kernel.nbytes for kernel in kernels.values())
    expected = kernels["7.weight"].clone()
    kernels |= {f"{i}.bias": torch.zeros(256) for i in range(40)}  # these stay where they are, and the file with them
    save_file(kernels, tmp_path / "weights.safetensors")
    del kernels
    with torch.device("meta"):
        part = torch.nn.Sequential(*(torch.nn.Conv2d(256, 256, 3) for _ in range(40)))
    before = resident()
    part.load_state_dict(load_file(tmp_path / "weights.safetensors"), assign=True)
    _speed._channels_last(part)
    assert resident() - before < 1.25 * size + 8 * MIB
    assert part[7].weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(part[7].weight, expected)
