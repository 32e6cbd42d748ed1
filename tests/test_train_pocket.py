"""Which weights a stage of pocket's training goes on from. The training itself is one step that leaves a mark."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from scripts import train_pocket  # noqa: E402
from scripts.pocket import networks, train_unet, train_vae  # noqa: E402


def mark(network) -> None:
    with torch.no_grad():
        last(network).bias += 1


def last(network):
    """The layer that is marked: the unet's last, the decoder's last."""
    return network.conv_out if hasattr(network, "conv_out") else network.decoder.layers[-1]


def marks(network, committed) -> int:
    """How often a network was marked since the committed one."""
    return round(float((last(network).bias - last(committed).bias).detach().mean()))


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Trains those stages with these flags; gives back (marks of the unet, marks of the decoder) of this run's pipeline."""
    def one_step(minutes, save, start=None, whole=True, workers=1, device="cpu"):
        mark(start)
        save(start)

    def one_step_of_unet(minutes, state, nets, saver, device="cpu", batch=1):
        mark(nets["unet"])
        for folder in saver.folders:
            networks.save_pipeline(nets["unet"], nets["text"], saver.vae, folder)

    reported = []
    monkeypatch.setattr(train_pocket, "RUN", tmp_path / "run")
    for name in ("encode_all", "view_all", "scenes_ready", "keep_memory"):
        monkeypatch.setattr(train_pocket, name, lambda *args: None)
    monkeypatch.setattr(train_pocket, "STAGES", {name: train_pocket.STAGES[name] for name in ("vae", "unet", "decoder")})
    monkeypatch.setattr(train_vae, "train", one_step)
    monkeypatch.setattr(train_vae, "report", lambda vae, scenes: reported.append(marks(vae, networks.load_parts()[2])))
    monkeypatch.setattr(train_unet, "train", one_step_of_unet)

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["train_pocket.py", "--minutes", "1", "--device", "cpu", *flags])
        threads = torch.get_num_threads()
        train_pocket.main()
        torch.set_num_threads(threads)
        unet, _, vae = networks.load_parts(tmp_path / "run" / "pipeline")
        committed = networks.load_parts()
        return marks(unet, committed[0]), marks(vae, committed[2]), reported

    return run


def test_stages_build_on_those_of_their_own_call_and_else_on_what_the_flags_say(trained):
    assert trained("--stage", "all", "--from", "assets") == (1, 2, [1, 2]), "the decoder goes on from this call's autoencoder, beside its unet"
    assert trained("--stage", "decoder")[:2] == (1, 3), "this run's"
    assert trained("--stage", "decoder", "--from", "assets")[:2] == (0, 1), "the committed ones"
