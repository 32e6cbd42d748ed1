"""Make a loaded model fast on its device without changing what it draws."""

from __future__ import annotations

import functools


def prepare(pipe, device) -> None:
    """Put the parts into the layout and the number formats that the device is fast with, and keep latents exact."""
    import torch

    if device.kind == "cpu":
        pipe.unet.to(memory_format=torch.channels_last)
    _cast_unet(pipe.unet, device.unet)
    _cast_vae(pipe.vae, device.vae)


def _cast_unet(unet, dtype) -> None:
    """The pipeline keeps its latents in the text encoder's format, the UNet computes in its own."""
    original = unet.forward

    @functools.wraps(original)
    def forward(sample, timestep, encoder_hidden_states, *args, **kwargs):
        added = kwargs.get("added_cond_kwargs")
        if added:
            kwargs["added_cond_kwargs"] = {name: value.to(dtype) for name, value in added.items()}
        result = original(sample.to(dtype), timestep, encoder_hidden_states.to(dtype), *args, **kwargs)
        return (result[0].to(sample.dtype), *result[1:]) if isinstance(result, tuple) else result

    unet.forward = forward


def _cast_vae(vae, dtype) -> None:
    """Encode and decode in the VAE's own format, whatever comes in; latents and pixels come out as float32."""
    encode, decode = vae.encode, vae.decode

    @functools.wraps(encode)
    def encode_cast(x, *args, **kwargs):
        result = encode(x.to(dtype), *args, **kwargs)
        if hasattr(result, "latent_dist"):
            from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

            result.latent_dist = DiagonalGaussianDistribution(result.latent_dist.parameters.float())
        else:
            result.latents = result.latents.float()
        return result

    @functools.wraps(decode)
    def decode_cast(z, *args, **kwargs):
        return decode(z.to(dtype), *args, **kwargs)

    vae.encode, vae.decode = encode_cast, decode_cast
