"""What the browser finds on CivitAI: hubs on loopback with more models than fit a page, and pictures that are pictures."""

from __future__ import annotations

import contextlib
import io
import os

import numpy as np
import safetensors.numpy
from host.hub_servers import Hubs, picture
from PIL import Image

MODEL, LORA = "moon_0.safetensors", "ink.safetensors"
SD15 = ["cond_stage_model.transformer.text_model.embeddings.position_ids", "model.diffusion_model.out.2.weight", "first_stage_model.decoder.conv_in.weight"]


@contextlib.contextmanager
def hubs():
    """The hubs; their `link` is the address of a LoRA that lies on no hub."""
    with Hubs() as hubs:
        for number in range(14):
            url = hubs.add_file(f"shots/{number}.jpeg", jpeg(number), type="image/jpeg")
            image = {**picture(hubs.storage, number, "image"), "url": url}
            files = {f"moon_{number}.safetensors": tensors(SD15, 2_000_000 + 1000 * number), f"moon_{number}_full.safetensors": 4_000_000}
            hubs.add_model(
                f"Moonlight {number}", "LORA" if number % 3 else "Checkpoint", "SDXL 1.0" if number % 2 else "SD 1.5", files, images=[image],
                trained_words=["moonlit", "silver sea"] if number % 3 else (), early="2999-01-01T00:00:00Z" if number == 1 else "",
            )
        hubs.link = hubs.add_file(LORA, tensors(["lora_unet_down.lora_up.weight"], 1_500_000))
        yield hubs


def tensors(names: list[str], size: int) -> bytes:
    """A whole safetensors file of about so many bytes."""
    return safetensors.numpy.save({name: np.frombuffer(os.urandom(size // len(names)), np.uint8) for name in names})


def jpeg(number: int) -> bytes:
    """A sky over a sea, in a colour of its own."""
    sky, sea = Image.linear_gradient("L").resize((360, 300)), Image.linear_gradient("L").rotate(180).resize((360, 150))
    shown = Image.new("RGB", (360, 450))
    hue = 17 * number
    shown.paste(Image.merge("RGB", [sky.point(lambda v: (v + hue) % 200), sky.point(lambda v: 40 + v // 2), sky.point(lambda v: 90 + v // 2)]), (0, 0))
    shown.paste(Image.merge("RGB", [sea.point(lambda v: v // 4), sea.point(lambda v: 30 + v // 3), sea.point(lambda v: (60 + v // 2 + hue) % 255)]), (0, 300))
    out = io.BytesIO()
    shown.save(out, "JPEG")
    return out.getvalue()
