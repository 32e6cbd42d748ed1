"""Whole safetensors files of a few kilobytes, told apart by what their tensors are called."""

from __future__ import annotations

import json
import os
import struct

SD15 = ("cond_stage_model.transformer.text_model.embeddings.position_ids", "model.diffusion_model.out.2.weight", "first_stage_model.decoder.conv_in.weight")
LORA = ("lora_unet_down.lora_up.weight", "lora_unet_down.lora_down.weight")
DENOISER = ("double_blocks.0.img_attn.norm.key_norm.scale", "single_blocks.0.linear1.weight", "img_in.weight")


def tensors(*names: str, size: int = 30_000) -> bytes:
    """A whole safetensors file of about that many random bytes, with one tensor under each name."""
    each = max(4, size // len(names)) // 4 * 4
    entries = {name: {"dtype": "U8", "shape": [each], "data_offsets": [each * i, each * (i + 1)]} for i, name in enumerate(names)}
    head = json.dumps(entries).encode()
    return struct.pack("<Q", len(head)) + head + os.urandom(each * len(names))
