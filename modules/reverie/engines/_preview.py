"""Small pictures while a task runs: latents → RGB by a tiny autoencoder (TAESD) where the model's is here, else by a linear
map, which costs nothing beside a step."""

from __future__ import annotations

import functools
import io
import logging
import time
from pathlib import Path

log = logging.getLogger("reverie.worker")

EDGE, EVERY_S = 256, 0.15
TINY_EDGE = 48  # latent pixels that the tiny autoencoder is given along the longer side: 384 pixels of preview

# Rows are latent channels, columns RGB in -1..1; the last row is the offset. The values that the field uses
# (found by linear regression over decoded pictures; the same numbers are in ComfyUI and A1111).
FACTORS = {
    "sd15": (
        (0.3512, 0.2297, 0.3227),
        (0.3250, 0.4974, 0.2350),
        (-0.2829, 0.1762, 0.2721),
        (-0.2120, -0.2616, -0.7177),
        (0.0, 0.0, 0.0),
    ),
    "sdxl": (
        (0.3651, 0.4232, 0.4341),
        (-0.2533, -0.0042, 0.1068),
        (0.1076, 0.1111, -0.0362),
        (-0.3165, -0.2492, -0.2188),
        (0.1084, -0.0175, -0.0011),
    ),
    "sd3": (
        (-0.0922, -0.0175, 0.0749),
        (0.0311, 0.0633, 0.0954),
        (0.1994, 0.0927, 0.0458),
        (0.0856, 0.0339, 0.0902),
        (0.0587, 0.0272, -0.0496),
        (-0.0006, 0.1104, 0.0309),
        (0.0978, 0.0306, 0.0427),
        (-0.0042, 0.1038, 0.1358),
        (-0.0194, 0.0020, 0.0669),
        (-0.0488, 0.0130, -0.0268),
        (0.0922, 0.0988, 0.0951),
        (-0.0278, 0.0524, -0.0542),
        (0.0332, 0.0456, 0.0895),
        (-0.0069, -0.0030, -0.0810),
        (-0.0596, -0.0465, -0.0293),
        (-0.1448, -0.1463, -0.1189),
        (0.2394, 0.2135, 0.1925),
    ),
    "flux": (
        (-0.0346, 0.0244, 0.0681),
        (0.0034, 0.0210, 0.0687),
        (0.0275, -0.0668, -0.0433),
        (-0.0174, 0.0160, 0.0617),
        (0.0859, 0.0721, 0.0329),
        (0.0004, 0.0383, 0.0115),
        (0.0405, 0.0861, 0.0915),
        (-0.0236, -0.0185, -0.0259),
        (-0.0245, 0.0250, 0.1180),
        (0.1008, 0.0755, -0.0421),
        (-0.0515, 0.0201, 0.0011),
        (0.0428, -0.0012, -0.0036),
        (0.0817, 0.0765, 0.0749),
        (-0.1264, -0.0522, -0.1103),
        (-0.0280, -0.0881, -0.0499),
        (-0.1262, -0.0982, -0.0778),
        (-0.0329, -0.0718, -0.0851),
    ),
}
_SAME_LATENTS = {"sd21": "sd15", "sdxl-refiner": "sdxl", "zimage": "flux"}


class Previewer:
    """Previews of one loaded model. A model without known factors learns its map from the pictures it decodes."""

    def __init__(self, family: str, channels: int, decode, tiny=None):
        import torch

        known = FACTORS.get(_SAME_LATENTS.get(family, family))
        self.map = torch.tensor(known) if known and len(known) == channels + 1 else None
        self._decode, self._tiny = decode, tiny
        self._due = 0.0

    def start(self) -> None:
        """A new task: the first preview may come at once."""
        self._due = 0.0

    def jpeg(self, scheduler, watched, unpack=lambda latents: latents) -> bytes:
        """A JPEG of the first picture as the model now foresees it; empty when it is too early for another one."""
        begun = time.monotonic()
        if begun < self._due or watched is None:
            return b""
        latent = unpack(foreseen(scheduler, *watched)[:1])
        data = _jpeg(self._pixels(latent))
        cost = time.monotonic() - begun
        self._due = time.monotonic() + max(EVERY_S, 15 * cost)  # never more than a fifteenth of the time
        return data

    def learn(self, latent, pixels) -> None:
        """Fit the map to one decoded picture: `latent` (C, h, w), `pixels` (3, H, W) in -1..1."""
        import torch

        if self.map is not None:
            return
        small = torch.nn.functional.adaptive_avg_pool2d(pixels.float(), latent.shape[-2:])
        rows = torch.cat([latent.float(), torch.ones_like(latent[:1]).float()]).flatten(1).T.cpu()
        solved = torch.linalg.lstsq(rows, small.flatten(1).T.cpu()).solution
        if torch.isfinite(solved).all():
            self.map = solved

    def _pixels(self, latent):
        import torch

        if self._tiny is not None:
            scale = min(1.0, TINY_EDGE / max(latent.shape[-2:]))
            small = torch.nn.functional.interpolate(latent.float(), scale_factor=scale, mode="area") if scale < 1 else latent
            with torch.inference_mode():
                return self._tiny.decode(small.to(self._tiny.device, self._tiny.dtype), return_dict=False)[0][0]
        if self.map is None:
            return self._decode(latent)[0]
        rows = latent[0].float().cpu()
        return torch.einsum("chw,ck->khw", rows, self.map[:-1]) + self.map[-1][:, None, None]


def load_tiny(path: Path | None, channels: int, device):
    """The tiny autoencoder in that folder (diffusers) or file (a decoder, as ComfyUI keeps them); None if there is none that
    can be read: previews are not worth a picture."""
    from diffusers import AutoencoderTiny
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path is None:
        return None
    try:
        if path.is_dir():
            tiny = AutoencoderTiny.from_pretrained(path, use_safetensors=True, local_files_only=True)
        else:
            tiny = AutoencoderTiny(latent_channels=channels)
            split = ((name.partition("."), tensor) for name, tensor in load_file(path).items())
            # The first layer of the original limits its input, which diffusers does without a layer.
            tiny.decoder.load_state_dict({f"layers.{int(number) - 1}.{rest}": tensor for (number, _, rest), tensor in split})
        if tiny.config.latent_channels != channels:
            raise ValueError(f"it has {tiny.config.latent_channels} latent channels and the model {channels}")
        return tiny.to(device.name, device.vae).eval().requires_grad_(False)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        log.warning("no previews by %s: %s", path, error)
        return None


class Watch:
    """Remembers what the scheduler was last given, as the pipelines' callback does not hand out the prediction."""

    def __init__(self, scheduler):
        self.last = None
        step = scheduler.step

        @functools.wraps(step)  # the pipelines look at its signature to know whether it takes a generator
        def watched(model_output, timestep, sample, *args, **kwargs):
            self.last = (model_output, timestep, sample)
            return step(model_output, timestep, sample, *args, **kwargs)

        scheduler.step = watched


def foreseen(scheduler, output, timestep, sample):
    """The clean latents that the model predicts at this step (x0), from its noise or velocity prediction."""
    if "FlowMatch" in type(scheduler).__name__:
        return sample - float(timestep) / scheduler.config.num_train_timesteps * output
    alphas = scheduler.alphas_cumprod
    index = min(max(int(round(float(timestep))), 0), len(alphas) - 1)
    alpha = float(alphas[index])
    if float(getattr(scheduler, "init_noise_sigma", 1.0)) > 1.5:  # this sampler's latents grow with sigma
        sample = sample * alpha**0.5
    kind = scheduler.config.prediction_type
    if kind == "v_prediction":
        return alpha**0.5 * sample - (1 - alpha) ** 0.5 * output
    if kind == "sample":
        return output
    return (sample - (1 - alpha) ** 0.5 * output) / max(alpha, 1e-4) ** 0.5


def _jpeg(pixels) -> bytes:
    from PIL import Image

    array = ((pixels.float().clamp(-1, 1) + 1) * 127.5).byte().permute(1, 2, 0).cpu().numpy()
    image = Image.fromarray(array)
    scale = EDGE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
