"""Make a loaded model fast on its device without changing what it draws.

On a processor the pictures stay "channels last" from the first convolution to the last one: then a feature map is its
own list of tokens, 1×1 convolutions are plain matrix products, and nothing is copied between them (`_lean`). Where
float32 is the faster format, the 3×3 convolutions of the large stages go through `_winograd`.
"""

from __future__ import annotations

import functools
import time

WINOGRAD_GAIN = 1.2  # a layer's own measurement must show at least that
WINOGRAD_SHARE = 0.12  # of the UNet's size, for what the transformed weights are larger
MEASURED_CHANNELS = 320  # wider layers only gain more


def prepare(pipe, device) -> None:
    """Put the parts into the layout and the number formats that the device is fast with, and keep latents exact."""
    import torch

    from reverie.engines import _lean

    for part in (pipe.unet, pipe.vae):
        part.eval().requires_grad_(False)
    if device.kind == "cpu":
        pipe.unet.to(memory_format=torch.channels_last)
        if device.unet == torch.float32:
            _use_winograd(pipe.unet)
        _lean.rewrite(pipe.unet)
        if type(pipe.vae).__name__ == "AutoencoderKL":  # without it every convolution copies its picture twice
            pipe.vae.to(memory_format=torch.channels_last)
    _cast_unet(pipe.unet, device.unet, device.kind == "cpu")
    _cast_vae(pipe.vae, device.vae)


def _use_winograd(unet, gains=None) -> None:
    """Transform the 3×3 convolutions of the stages with the most pixels first, while the memory share lasts.

    `gains(inputs, outputs)` says whether a layer of that many channels is worth it (default: measured here).
    """
    gains = gains or _gains
    budget = int(WINOGRAD_SHARE * sum(weight.numel() for weight in unet.parameters()))
    for stage in _stages(unet):
        for conv in [layer for layer in stage.modules() if _fits(layer)]:
            extra = conv.weight.numel() * 3
            if extra > budget:
                return
            if gains(*(min(width, MEASURED_CHANNELS) for width in (conv.in_channels, conv.out_channels))):
                budget -= extra
                _replace(conv)


def _stages(unet):
    """Pairs of down and up blocks from the finest to the coarsest."""
    for down, up in zip(unet.down_blocks, reversed(unet.up_blocks)):
        yield up
        yield down


def _fits(layer) -> bool:
    import torch

    return (
        isinstance(layer, torch.nn.Conv2d)
        and layer.kernel_size == (3, 3)
        and layer.stride == (1, 1)
        and layer.padding == (1, 1)
        and layer.groups == 1
        and layer.dilation == (1, 1)
        and layer.bias is not None
    )


@functools.lru_cache(maxsize=None)
def _gains(inputs: int, outputs: int) -> bool:
    """Whether Winograd is faster for such a layer here, on one small picture and one thread (a few ms, once)."""
    import torch

    from reverie.engines import _winograd

    if inputs * outputs < 96 * 96:  # the transforms cost more than the products
        return False
    picture = torch.randn(1, inputs, 32, 32).contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(outputs, inputs, 3, 3).contiguous(memory_format=torch.channels_last)
    bias, weights = torch.zeros(outputs), torch.randn(36, inputs, outputs)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            direct = _seconds(lambda: torch.nn.functional.conv2d(picture, kernel, bias, padding=1))
            return direct > WINOGRAD_GAIN * _seconds(lambda: _winograd.convolve(picture, weights, bias))
    finally:
        torch.set_num_threads(threads)


def _seconds(work) -> float:
    best = float("inf")
    for _ in range(3):
        begun = time.thread_time()
        work()
        best = min(best, time.thread_time() - begun)
    return best


def _replace(conv) -> None:
    """The layer computes by Winograd from now on; its own weights are given back."""
    import torch

    from reverie.engines import _winograd

    weights, bias = _winograd.transform(conv.weight), conv.bias
    conv.weight = torch.nn.Parameter(torch.empty(0), requires_grad=False)
    conv.forward = lambda picture: _winograd.convolve(picture, weights, bias)


def _cast_unet(unet, dtype, last: bool) -> None:
    """The pipeline keeps its latents in the text encoder's format, the UNet computes in its own."""
    import torch

    original = unet.forward
    text = [None, None]  # the prompt as it came and as it is used: the same tensor each step, as `_lean` expects

    @functools.wraps(original)
    def forward(sample, timestep, encoder_hidden_states, *args, **kwargs):
        added = kwargs.get("added_cond_kwargs")
        if added:
            kwargs["added_cond_kwargs"] = {name: value.to(dtype) for name, value in added.items()}
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
