"""Make a loaded model fast on its device without changing what it draws.

On a processor pictures stay "channels last" from the first convolution to the last one, and each convolution's weights
lie as oneDNN wants them: torch would lay them out anew in every call, which costs a UNet a third of its time.
"""

from __future__ import annotations

import functools

from reverie.engines import _device, _loading


def prepare(pipe, device) -> None:
    """Put the parts into the layout and the number formats that the device is fast with, and keep latents exact."""
    parts = _loading.denoiser(pipe), pipe.vae
    for part in parts:
        part.eval().requires_grad_(False)
    if device.kind == "cpu":
        for part in parts:
            pack(part) if can_pack() else _channels_last(part)
    if getattr(pipe, "unet", None) is not None:
        _cast_unet(pipe.unet, device.unet, device.kind == "cpu")
    else:
        _cast_transformer(pipe.transformer, device.unet)
    _cast_vae(pipe.vae, device.vae, device.kind == "cpu")


@functools.lru_cache(maxsize=1)
def can_pack() -> bool:
    """Whether this torch has the two oneDNN operators of `pack` (they are not public) and they compute what they should."""
    import torch

    try:
        with torch.inference_mode():
            layer, picture = torch.nn.Conv2d(8, 16, 3, padding=1).requires_grad_(False), torch.randn(1, 8, 4, 4)
            expected = layer(picture)
            return bool((pack(layer)(picture) - expected).abs().max() < 1e-4)
    except (AttributeError, RuntimeError):
        return False


def pack(part):
    """Give every plain convolution in `part` a forward of its own on packed weights; the dense ones are given back."""
    import torch

    for layer in part.modules():
        if type(layer) is torch.nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
            layer.forward = _packed(layer)
    return part


def _packed(layer):
    """The forward of a convolution. Its weights are packed for one size of pictures, anew when another size comes."""
    import torch

    how = list(layer.padding), list(layer.stride), list(layer.dilation), layer.groups
    shape = weights = None

    def forward(x):
        nonlocal shape, weights
        if x.shape != shape:
            dense = layer.weight.data if weights is None else weights.to_dense()
            weights, shape = torch.ops.mkldnn._reorder_convolution_weight(dense, *how, list(x.shape)), x.shape
            if layer.weight.numel():
                layer.weight.data = dense.new_empty((0, *dense.shape[1:]))  # LoRAs ask it for its dimensions
                _device.let_go(dense)
        return torch.ops.mkldnn._convolution_pointwise(x, weights, layer.bias, *how, "none", [], "")

    return forward


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

    @functools.wraps(original)
    def forward(sample, timestep, encoder_hidden_states, *args, **kwargs):
        added = kwargs.get("added_cond_kwargs")
        if added:
            kwargs["added_cond_kwargs"] = {name: value.to(dtype) for name, value in added.items()}
        if kwargs.get("timestep_cond") is not None:  # the guidance of models distilled for few steps
            kwargs["timestep_cond"] = kwargs["timestep_cond"].to(dtype)
        laid = sample.to(dtype)
        laid = laid.contiguous(memory_format=torch.channels_last) if last else laid
        result = original(laid, timestep, encoder_hidden_states.to(dtype), *args, **kwargs)
        return (result[0].to(sample.dtype), *result[1:]) if isinstance(result, tuple) else result

    unet.forward = forward


def _cast_transformer(transformer, dtype) -> None:
    """A start picture's latents come from the VAE as float32, the transformer computes in its own format."""
    import torch

    def cast(_, given, named):
        latents = named.get("hidden_states")
        return given, {**named, "hidden_states": latents.to(dtype)} if isinstance(latents, torch.Tensor) else named

    transformer.register_forward_pre_hook(cast, with_kwargs=True)


def _cast_vae(vae, dtype, last: bool) -> None:
    """Encode and decode in the VAE's own format, whatever comes in; latents and pixels come out as float32."""
    import torch

    encode, decode = vae.encode, vae.decode
    vae.register_to_config(force_upcast=False)  # SDXL's pipelines would turn its weights into float32 and back for every start picture
    layout = {"memory_format": torch.channels_last} if last else {}

    @functools.wraps(encode)
    def encode_cast(x, *args, **kwargs):
        result = encode(x.to(dtype, **layout), *args, **kwargs)
        if hasattr(result, "latent_dist"):
            from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

            result.latent_dist = DiagonalGaussianDistribution(result.latent_dist.parameters.float())
        else:
            result.latents = result.latents.float()
        return result

    @functools.wraps(decode)
    def decode_cast(z, *args, **kwargs):
        return decode(z.to(dtype, **layout), *args, **kwargs)

    vae.encode, vae.decode = encode_cast, decode_cast
