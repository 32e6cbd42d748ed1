"""A UNet in OpenVINO: converted once per model and kept on disk, compiled for each size with static shapes."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path

from reverie.engines import _device
from reverie.errors import Cancelled, OutOfMemory

KEPT_MODELS = 3  # on disk, 1.7 GB each for SD1.5
KEPT_SIZES = 2  # in memory, each with weights of its own
LOOK_EVERY_MS = 50  # at whether the job was cancelled, within a step
_PRECISIONS = {"torch.float32": "f32", "torch.bfloat16": "bf16", "torch.float16": "f16"}


def home(fingerprint: str, dtype, cache: Path) -> Path:
    """Where the converted UNet of a model lies. In float32 its weights are kept whole, else in float16."""
    kind = "whole" if str(dtype) == "torch.float32" else "half"
    return cache / "openvino" / f"{fingerprint[:24]}-{kind}"


def shell(unet, dtype, fingerprint: str, cache: Path, cancelled):
    """What a pipeline takes for its UNet: `unet`'s configuration, and a forward by OpenVINO that computes in `dtype`.

    (rows, channels, h, w) latents, a time, (rows, tokens, width) text and what the configuration asks for beside them.
    Raises Cancelled within a step.
    """
    import torch

    folder = home(fingerprint, dtype, cache)
    if (folder / "unet.xml").is_file():
        os.utime(folder)
    else:
        check_room(unet)
        _convert(unet, folder)
    model, extras = _Model(folder / "unet.xml", _PRECISIONS[str(dtype)], cancelled), _extras(unet.config)

    class Shell(torch.nn.Module):
        config, add_embedding = unet.config, getattr(unet, "add_embedding", None)  # SDXL's pipeline measures the latter
        device, down_blocks, mid_block, up_blocks = torch.device("cpu"), (), None, ()

        def forward(self, sample, timestep, encoder_hidden_states, timestep_cond=None, added_cond_kwargs=None, **_):
            beside = {"timestep_cond": timestep_cond, **(added_cond_kwargs or {})}
            given = sample, torch.as_tensor(timestep), encoder_hidden_states, *(beside[name] for name in extras)
            return (model(*(one.float().contiguous() for one in given)),)

    Shell.dtype = dtype
    return Shell()


def check_room(unet, free: float | None = None) -> None:
    """OutOfMemory where `free` bytes (default: what is free now) are too few to convert: it takes the weights in float32 twice."""
    if free is None:
        free = _device.free_main_bytes()
    needs = 2 * 4 * sum(weight.numel() for weight in unet.parameters())
    if needs > free:
        what = f"To convert the model for OpenVINO takes {needs / 2**30:.1f} GB of memory, and {free / 2**30:.1f} GB are free."
        raise OutOfMemory(what, "Close other programs, or set REVERIE_ACCELERATE to nothing.")


class _Model:
    """The converted UNet, compiled for the sizes that came last."""

    def __init__(self, path: Path, precision: str, cancelled):
        self._path, self._precision, self._cancelled = path, precision, cancelled
        self._requests: OrderedDict = OrderedDict()

    def __call__(self, *given):
        import torch

        request = self._request(tuple(tuple(one.shape) for one in given))
        arrays = [one.numpy() for one in given]  # must stay until the end
        request.start_async(arrays, share_inputs=True)
        while not request.wait_for(LOOK_EVERY_MS):
            if self._cancelled():
                request.cancel()
                with contextlib.suppress(RuntimeError):  # says that it was cancelled
                    request.wait()
                raise Cancelled("Cancelled.")
        return torch.from_numpy(request.get_output_tensor(0).data.copy())

    def _request(self, shapes: tuple):
        if shapes not in self._requests:
            openvino = _library()
            while len(self._requests) >= KEPT_SIZES:
                self._requests.popitem(last=False)
            core = openvino.Core()
            model = core.read_model(self._path)
            model.reshape({port: list(shape) for port, shape in zip(model.inputs, shapes)})
            how = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": self._precision}
            if os.environ.get("OMP_NUM_THREADS"):
                how["INFERENCE_NUM_THREADS"] = int(os.environ["OMP_NUM_THREADS"])
            self._requests[shapes] = core.compile_model(model, "CPU", how).create_infer_request()
        self._requests.move_to_end(shapes)
        return self._requests[shapes]


def _library():
    """OpenVINO without its telemetry: nothing is sent anywhere."""
    sys.modules.setdefault("openvino_telemetry", None)
    import openvino

    return openvino


def _convert(unet, folder: Path) -> None:
    """Write the UNet into `folder`, for any size; the models used longest ago make room."""
    import torch

    openvino, given = _library(), _examples(unet.config)
    names = _extras(unet.config)

    class Traced(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unet = unet.eval().float()

        def forward(self, sample, timestep, text, *extras):
            beside = dict(zip(names, extras))
            cond = beside.pop("timestep_cond", None)
            return self.unet(sample, timestep, text, timestep_cond=cond, added_cond_kwargs=beside or None, return_dict=False)[0]

    with torch.no_grad():
        model = openvino.convert_model(Traced(), example_input=given)
    model.reshape({port: _open(one) for port, one in zip(model.inputs, given)})
    folder.parent.mkdir(parents=True, exist_ok=True)
    others = sorted((one for one in folder.parent.iterdir() if one.is_dir()), key=lambda one: one.stat().st_mtime)
    for old in others[: max(0, len(others) - KEPT_MODELS + 1)]:
        shutil.rmtree(old, ignore_errors=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        openvino.save_model(model, made / "unet.xml", compress_to_fp16=folder.name.endswith("half"))
        if not folder.exists():  # another process was as quick
            made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _extras(config) -> list[str]:
    """Inputs beside latents, time and text: SDXL's added ones, the guidance of models distilled for few steps."""
    added = ["text_embeds", "time_ids"] if config.addition_embed_type == "text_time" else []
    return [*added, *(["timestep_cond"] if config.time_cond_proj_dim else [])]


def _examples(config) -> tuple:
    import torch

    rows, side, width = 2, 16, config.cross_attention_dim
    given = [torch.randn(rows, config.in_channels, side, side), torch.tensor(1.0), torch.randn(rows, 77, width)]
    for name in _extras(config):
        if name == "time_ids":
            given.append(torch.randn(rows, 6))
        elif name == "text_embeds":
            given.append(torch.randn(rows, config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim))
        else:
            given.append(torch.randn(rows, config.time_cond_proj_dim))
    return tuple(given)


def _open(example) -> list[int]:
    """The example's shape with rows, places and tokens left open."""
    if example.ndim == 4:
        return [-1, example.shape[1], -1, -1]
    return [-1, -1, example.shape[2]] if example.ndim == 3 else [-1, *example.shape[1:]] if example.ndim else []
