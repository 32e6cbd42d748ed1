"""Small pictures while a task runs: latents → RGB by a linear map, which costs nothing beside a step."""

from __future__ import annotations

import functools
import io
import time

EDGE, EVERY_S = 256, 0.15

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
}


class Previewer:
    """Previews of one loaded model. A model without known factors learns its map from the pictures it decodes."""

    def __init__(self, family: str, channels: int, decode):
        import torch

        known = FACTORS.get("sd15" if family == "sd21" else family)
        self.map = torch.tensor(known) if known and len(known) == channels + 1 else None
        self._decode = decode
        self._due = 0.0

    def start(self) -> None:
        """A new task: the first preview may come at once."""
        self._due = 0.0

    def jpeg(self, scheduler, watched) -> bytes:
        """A JPEG of the first picture as the model now foresees it; empty when it is too early for another one."""
        begun = time.monotonic()
        if begun < self._due or watched is None:
            return b""
        latent = foreseen(scheduler, *watched)[:1]
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

        if self.map is None:
            return self._decode(latent)[0]
        rows = latent[0].float().cpu()
        return torch.einsum("chw,ck->khw", rows, self.map[:-1]) + self.map[-1][:, None, None]


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
