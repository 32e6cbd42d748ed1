"""Make a loaded model fast on its device without changing what it draws.

On a processor the pictures stay "channels last" from the first convolution to the last one: then a feature map is its
own list of tokens, and nothing is copied between convolutions and attention.
"""

from __future__ import annotations

import functools

from reverie.engines import _device


def prepare(pipe, device) -> None:
    """Put the parts into the layout and the number formats that the device is fast with, and keep latents exact."""
    for part in (pipe.unet, pipe.vae):
        part.eval().requires_grad_(False)
    if device.kind == "cpu":
        _channels_last(pipe.unet)
        if type(pipe.vae).__name__ == "AutoencoderKL":  # without it every convolution copies its picture twice
            _channels_last(pipe.vae)
    _cast_unet(pipe.unet, device.unet, device.kind == "cpu")
    _cast_vae(pipe.vae, device.vae)


def _channels_last(part) -> None:
    """Lay the convolutions' weights out anew, one by one, so that they are never all in memory twice."""
    import torch

    for weight in part.parameters():
        if weight.ndim == 4 and not weight.is_contiguous(memory_format=torch.channels_last):
            old = weight.data
            weight.data = old.contiguous(memory_format=torch.channels_last)
            _device.let_go(old)


def _cast_unet(unet, dtype, last: bool) -> None:
    """The pipeline keeps its latents in the text encoder's format, the UNet computes in its own."""
    import torch

    original = unet.forward
    text = [None, None]  # the prompt as it came and as it is used: converted once, not at each step

    @functools.wraps(original)
    def forward(sample, timestep, encoder_hidden_states, *args, **kwargs):
        added = kwargs.get("added_cond_kwargs")
        if added:
            kwargs["added_cond_kwargs"] = {name: value.to(dtype) for name, value in added.items()}
        if kwargs.get("timestep_cond") is not None:  # the guidance of models distilled for few steps
            kwargs["timestep_cond"] = kwargs["timestep_cond"].to(dtype)
        if text[0] is not encoder_hidden_states:
            text[:] = [encoder_hidden_states, encoder_hidden_states.to(dtype)]
        laid = sample.to(dtype)
        laid = laid.contiguous(memory_format=torch.channels_last) if last else laid
        result = original(laid, timestep, text[1], *args, **kwargs)
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
