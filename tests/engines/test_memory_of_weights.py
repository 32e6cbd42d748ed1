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
@pytest.mark.parametrize("lay", ["packed", "channels last"])
def test_a_new_layout_gives_the_files_pages_back(tmp_path, lay):
    from safetensors.torch import load_file, save_file

    kernels = {f"{i}.weight": torch.randn(256, 256, 3, 3) for i in range(40)}
    size = sum(kernel.nbytes for kernel in kernels.values())
    expected = kernels["7.weight"].clone()
    kernels |= {f"{i}.bias": torch.zeros(256) for i in range(40)}  # these stay where they are, and the file with them
    save_file(kernels, tmp_path / "weights.safetensors")
    del kernels
    with torch.device("meta"):
        part = torch.nn.Sequential(*(torch.nn.Conv2d(256, 256, 3) for _ in range(40)))
    if lay == "packed":
        if not _speed.can_pack():
            pytest.skip("this torch cannot pack")
        with torch.inference_mode():  # the libraries' own pages come first
            _speed.pack(torch.nn.Conv2d(256, 256, 3).requires_grad_(False))(torch.randn(1, 256, 3, 3))
    before = resident()
    part.load_state_dict(load_file(tmp_path / "weights.safetensors"), assign=True)
    if lay == "packed":
        _speed.pack(part)
        with torch.inference_mode():
            for layer in part:
                layer(torch.randn(1, 256, 3, 3))
    else:
        _speed._channels_last(part)
        assert part[7].weight.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(part[7].weight, expected)
    assert resident() - before < 1.25 * size + 16 * MIB
