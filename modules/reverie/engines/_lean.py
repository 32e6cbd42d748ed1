"""The UNet's blocks with fewer passes over memory, for inference on a processor: the same arithmetic, less of it twice.

Each block gets a `forward` of its own where its configuration is the plain one of Stable Diffusion; any other is left
as it is. What they leave out: copies between "image" and "token" layout, divisions by one, new tensors where the old
one is not needed any more, and the keys and values of a prompt that the last step already had.
"""

from __future__ import annotations

import functools

from reverie.engines import _device

ROWS = 512  # of the feed-forward at once: its eightfold width then stays in the cache


def rewrite(unet) -> None:
    """Give every plain block of `unet` its lean forward."""
    from diffusers.models.attention import BasicTransformerBlock
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    lean = {ResnetBlock2D: _resnet, Transformer2DModel: _transformer, BasicTransformerBlock: _block}
    for module in unet.modules():
        make = lean.get(type(module))
        forward = make(module) if make else None
        if forward:
            module.forward = forward


def _resnet(block):
    import torch.nn.functional as F

    plain = (
        block.time_embedding_norm == "default"
        and block.upsample is None
        and block.downsample is None
        and type(block.nonlinearity).__name__ == "SiLU"
        and block.output_scale_factor == 1
        and block.time_emb_proj is not None
        and not block.skip_time_act
    )
    if not plain:
        return None

    def forward(x, temb, *_, **__):
        hidden = block.conv1(F.silu(block.norm1(x), inplace=True))
        hidden += block.time_emb_proj(F.silu(temb))[:, :, None, None]
        hidden = block.conv2(F.silu(block.norm2(hidden), inplace=True))
        hidden += x if block.conv_shortcut is None else _one_by_one(block.conv_shortcut, x)
        return hidden

    return forward


def _one_by_one(layer, x):
    """A 1×1 convolution (or linear layer) over the channels of (N, C, H, W): one matrix product."""
    import torch.nn.functional as F

    weight = layer.weight.flatten(1)
    return F.linear(x.permute(0, 2, 3, 1), weight, layer.bias).permute(0, 3, 1, 2)


def _transformer(model):
    import torch.nn.functional as F

    if not getattr(model, "is_input_continuous", False) or getattr(model, "caption_projection", None) is not None:
        return None

    def forward(hidden_states, encoder_hidden_states=None, *_, return_dict=True, **__):
        count, channels, height, width = hidden_states.shape
        tokens = model.norm(hidden_states).permute(0, 2, 3, 1).reshape(count, height * width, channels)
        tokens = F.linear(tokens, model.proj_in.weight.flatten(1), model.proj_in.bias)
        for block in model.transformer_blocks:
            tokens = block(tokens, encoder_hidden_states=encoder_hidden_states)
        tokens = F.linear(tokens, model.proj_out.weight.flatten(1), model.proj_out.bias)
        result = tokens.view(count, height, width, channels).permute(0, 3, 1, 2)
        result += hidden_states
        return (result,) if not return_dict else _output()(sample=result)

    return forward


@functools.lru_cache(maxsize=1)
def _output():
    from diffusers.models.modeling_outputs import Transformer2DModelOutput

    return Transformer2DModelOutput


def _block(block):
    plain = (
        block.norm_type == "layer_norm"
        and block.pos_embed is None
        and block.attn2 is not None
        and getattr(block, "_chunk_size", None) is None
        and all(_plain_attention(attention) for attention in (block.attn1, block.attn2))
        and type(block.ff.net[0]).__name__ == "GEGLU"
    )
    if not plain or block.attn1.is_cross_attention or block.only_cross_attention:
        return None
    self_attention, cross_attention = _self_attention(block.attn1), _cross_attention(block.attn2)
    feed_forward = _feed_forward(block.ff)

    def forward(hidden_states, attention_mask=None, encoder_hidden_states=None, *_, **__):
        hidden = hidden_states + self_attention(block.norm1(hidden_states))
        hidden += cross_attention(block.norm2(hidden), encoder_hidden_states)
        hidden += feed_forward(block.norm3(hidden))
        return hidden

    return forward


def _plain_attention(attention) -> bool:
    return (
        attention.group_norm is None
        and attention.spatial_norm is None
        and not attention.norm_cross
        and getattr(attention, "norm_q", None) is None
        and attention.to_q.bias is None
        and not attention.residual_connection
        and attention.rescale_output_factor == 1
    )


def _heads(x, heads: int):
    """(N, T, heads × D) → (N, heads, T, D) without a copy."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _join(attention, x):
    import torch.nn.functional as F

    out = attention.to_out[0]
    return F.linear(x.transpose(1, 2).flatten(2), out.weight, out.bias)


def _self_attention(attention):
    import torch
    import torch.nn.functional as F

    parts = (attention.to_q, attention.to_k, attention.to_v)
    weight = torch.cat([part.weight for part in parts])
    start = 0
    for part in parts:  # the three share the one matrix, so that it is not kept twice
        rows, old = part.weight.shape[0], part.weight.data
        part.weight = torch.nn.Parameter(weight[start : start + rows], requires_grad=False)
        _device.let_go(old)
        start += rows

    def attend(x):
        q, k, v = (_heads(part, attention.heads) for part in F.linear(x, weight).chunk(3, dim=-1))
        return _join(attention, F.scaled_dot_product_attention(q, k, v, scale=attention.scale))

    return attend


def _cross_attention(attention):
    """Attention to the prompt. Its keys and values are those of the last step while the prompt is the same tensor."""
    import torch.nn.functional as F

    last = []

    def attend(x, text):
        if text is None:
            text = x
        if not last or last[0] is not text:
            last[:] = [text, *(_heads(F.linear(text, part.weight), attention.heads) for part in (attention.to_k, attention.to_v))]
        q = _heads(F.linear(x, attention.to_q.weight), attention.heads)
        return _join(attention, F.scaled_dot_product_attention(q, last[1], last[2], scale=attention.scale))

    return attend


def _feed_forward(ff):
    import torch
    import torch.nn.functional as F

    wide, narrow = ff.net[0].proj, ff.net[2]

    def forward(x):
        rows = x.flatten(0, 1)
        out = torch.empty_like(rows)
        for part, target in zip(rows.split(ROWS), out.split(ROWS)):
            values, gate = F.linear(part, wide.weight, wide.bias).chunk(2, dim=-1)
            torch.addmm(narrow.bias, values.mul_(F.gelu(gate)), narrow.weight.T, out=target)
        return out.view(x.shape)

    return forward
