"""The plain pipeline with its UNet, or that and its VAE's decoder, in OpenVINO: for `engine.py`, which says how to run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import engine


def measure(args, vae: bool, half: bool) -> dict:
    """seconds, cpu and peak of one picture. Static shapes; what is converted is kept in `args.scratch`."""
    import openvino
    import torch
    from diffusers import StableDiffusionPipeline

    target = Path(args.scratch) / f"{Path(args.model).name}-{args.size}-{'half' if half else 'whole'}"
    if not (target / "vae.xml").exists():  # by a process of its own, whose memory and time do not count
        code = "import sys, openvino_sides as o; o.convert(*sys.argv[1:4], bool(int(sys.argv[4])))"
        command = [sys.executable, "-c", code, args.model, args.size, str(target), str(int(half))]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parent)
    how = {"PERFORMANCE_HINT": "LATENCY"}  # without a hint OpenVINO takes the format that the processor is best at
    if args.dtype != "auto":
        how["INFERENCE_PRECISION_HINT"] = {"float32": "f32", "bfloat16": "bf16"}[args.dtype]

    def part(name: str):
        request = openvino.Core().compile_model(target / f"{name}.xml", "CPU", how).create_infer_request()
        run = lambda *given: torch.from_numpy(request.infer([one.numpy() for one in given], share_inputs=True)[0].copy())
        return run

    unet = _Unet(json.loads((Path(args.model) / "unet" / "config.json").read_text()), part("unet"))
    pipe = StableDiffusionPipeline.from_pretrained(args.model, unet=unet, safety_checker=None, local_files_only=True)
    if vae:
        decode = part("vae")
        pipe.vae.decoder = None
        pipe.vae.decode = lambda latents, **_: (decode(latents),)
    return engine.draw_plainly(pipe, args)


def convert(model: str, size: str, target: str, half: bool) -> None:
    """Write unet.xml and vae.xml with their weights into `target`: two rows of latents, one picture."""
    import openvino
    import torch
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(model, safety_checker=None, local_files_only=True)
    width, height = (int(edge) // pipe.vae_scale_factor for edge in size.split("x"))
    latents = torch.randn(2, pipe.unet.config.in_channels, height, width)
    text = torch.randn(2, pipe.text_encoder.config.max_position_embeddings, pipe.unet.config.cross_attention_dim)

    class Unet(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unet = pipe.unet.eval()

        def forward(self, sample, timestep, text):
            return self.unet(sample, timestep, text, return_dict=False)[0]

    class Decoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.vae = pipe.vae.eval()

        def forward(self, latents):
            return self.vae.decode(latents, return_dict=False)[0]

    for name, part, given in (("unet", Unet(), (latents, torch.tensor(1.0), text)), ("vae", Decoder(), (latents[:1],))):
        with torch.no_grad():
            found = openvino.convert_model(part, example_input=given, input=[list(one.shape) for one in given])
        openvino.save_model(found, Path(target) / f"{name}.xml", compress_to_fp16=half)


def _Unet(config: dict, run):
    import torch
    from diffusers import ConfigMixin, ModelMixin
    from diffusers.configuration_utils import FrozenDict

    class Unet(ModelMixin, ConfigMixin):
        """What a pipeline asks of a UNet, without its weights."""

        dtype, device = torch.float32, torch.device("cpu")

        def __init__(self):
            super().__init__()
            self._internal_dict = FrozenDict(config)

        def forward(self, sample, timestep, encoder_hidden_states, **_):
            return (run(sample, torch.as_tensor(timestep, dtype=torch.float32), encoder_hidden_states),)

    return Unet()
