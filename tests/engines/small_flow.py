"""Small random models of the families that are transformers trained by flow matching, as folders and as single files."""

from __future__ import annotations

from pathlib import Path

import small

_T5 = {"d_model": 32, "d_ff": 64, "d_kv": 8, "num_layers": 2, "num_heads": 4}
_TEXT_2 = {**small._TEXT, "hidden_act": "gelu", "hidden_size": 64, "intermediate_size": 64, "projection_dim": 64}
_VAE = {"block_out_channels": [16, 16, 32, 32], "norm_num_groups": 8, "layers_per_block": 1}
_QWEN = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "max_window_layers": 3,
}  # fmt: skip
_SD3 = {
    "num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16, "caption_projection_dim": 32, "joint_attention_dim": 96,
    "pooled_projection_dim": 96, "pos_embed_max_size": 24, "sample_size": 8,
}  # fmt: skip
_ZIMAGE = {
    "dim": 96, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 4, "n_kv_heads": 4, "cap_feat_dim": 32, "axes_dims": [8, 8, 8],
    "axes_lens": [1024, 64, 64],
}  # fmt: skip
# diffusers takes Flux's checkpoints apart by the real width, 3072: a small one is of that width too, with one block of each kind.
_FLUX = {"num_layers": 1, "num_single_layers": 1, "joint_attention_dim": 32, "pooled_projection_dim": 32}
_FLUX_NARROW = {"num_attention_heads": 2, "attention_head_dim": 16, "axes_dims_rope": [4, 6, 6], "num_layers": 2, "num_single_layers": 2}

SMALL = {
    "flux": {"transformer": _FLUX, "vae": _VAE, "text_encoder": small._TEXT, "text_encoder_2": _T5},
    "flux-schnell": {"transformer": _FLUX},
    # T5's width is that of both CLIPs together, as the pipeline lays them one after the other.
    "sd3": {
        "transformer": _SD3, "vae": _VAE, "text_encoder": small._TEXT, "text_encoder_2": _TEXT_2, "text_encoder_3": {**_T5, "d_model": 96},
    },
    "sd35-medium": {"transformer": {**_SD3, "dual_attention_layers": [0]}},
    "sd3-medium": {"transformer": _SD3},
    "zimage": {"transformer": _ZIMAGE, "vae": _VAE, "text_encoder": _QWEN},
}  # fmt: skip
small.SMALL.update(SMALL)


def flux(folder: Path, seed: int = 0, variant: str = "flux", narrow: bool = True) -> Path:
    """Flux dev, or schnell, which is told no guidance. `narrow`: of a small width, which a single file cannot have."""
    return _build("flux", variant, folder, seed, _FLUX_NARROW if narrow else {})


def sd3(folder: Path, seed: int = 0, variant: str = "sd3") -> Path:
    """SD3.5 large; `sd35-medium` has a second attention in its first blocks."""
    return _build("sd3", variant, folder, seed)


def zimage(folder: Path, seed: int = 0) -> Path:
    return _build("zimage", "zimage", folder, seed)


def _build(family: str, variant: str, folder: Path, seed: int, changes: dict | None = None) -> Path:
    import diffusers
    import torch
    import transformers

    from reverie.engines import _tokenizers
    from reverie.families import FAMILIES

    torch.manual_seed(seed)
    config = {**small.configs(family, SMALL[family]), **small.configs(variant, SMALL[variant])}
    row = FAMILIES[family]
    encoders = {}
    for part, kind in row.encoders.items():
        cls = getattr(transformers, kind)
        encoders[part] = cls(cls.config_class(**config[part]))
    main = {**config["transformer"], **(changes or {})}
    kind = getattr(diffusers, main["_class_name"])
    if family == "flux":  # the wide one takes long to fill twice
        with torch.device("meta"):
            transformer = kind.from_config(main).to(torch.bfloat16).to_empty(device="cpu")
    else:
        transformer = kind.from_config(main)
    _fill(transformer)
    pipe = getattr(diffusers, row.pipelines[0])(
        transformer=transformer,
        vae=diffusers.AutoencoderKL.from_config(config["vae"]),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler.from_config(config["scheduler"]),
        **encoders,
        **_tokenizers.of(family, small.ROOT / "assets"),
    )
    return small._save(pipe, folder)


def _fill(transformer) -> None:
    """Random numbers, also where a new model has zeros, which would hide what is mixed up. One row of them, begun elsewhere
    for each weight: half a thousand million numbers would take a minute to draw."""
    import torch

    row = 0.02 * torch.randn(1 << 20).to(torch.bfloat16)
    for index, weight in enumerate(transformer.parameters()):
        turned = row.roll(-index * 7919)
        weight.data.copy_(turned.repeat(-(-weight.numel() // len(row)))[: weight.numel()].view_as(weight)).add_(float(weight.ndim == 1))


# --------------------------------------------------------------------------------------- the original layout of files


def single_file(folder: Path, target: Path, family: str, parts: tuple[str, ...] = ("transformer",), eight_bits: bool = False) -> Path:
    """Parts of a folder as one file in the names that files in the field have: the transformer alone in its own, several
    with their prefixes. `eight_bits`: its matrices as float8 with a scale."""
    import torch
    from safetensors.torch import load_file, save_file

    prefixes = PREFIXES[family] if len(parts) > 1 else {}
    tensors = {}
    for part in parts:
        state = {name: tensor for path in sorted((folder / part).glob("*.safetensors")) for name, tensor in load_file(path).items()}
        for name, tensor in (_RENAMERS.get(part if part == "vae" else family if part == "transformer" else "text", dict)(state)).items():
            tensors[prefixes.get(part, "") + name] = tensor
    if eight_bits:
        for name in [name for name, tensor in tensors.items() if tensor.ndim == 2 and name.endswith(".weight")]:
            scale = tensors[name].float().abs().max() / 448
            tensors[name] = (tensors[name].float() / scale).to(torch.float8_e4m3fn)
            tensors[name.removesuffix("weight") + "scale_weight"] = scale
        tensors["scaled_fp8"] = torch.zeros(2).to(torch.float8_e4m3fn)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, target)
    return target


PREFIXES = {
    "flux": {
        "transformer": "model.diffusion_model.", "vae": "vae.", "text_encoder": "text_encoders.clip_l.transformer.",
        "text_encoder_2": "text_encoders.t5xxl.transformer.",
    },
    "sd3": {
        "transformer": "model.diffusion_model.", "vae": "first_stage_model.", "text_encoder": "text_encoders.clip_l.transformer.",
        "text_encoder_2": "text_encoders.clip_g.transformer.", "text_encoder_3": "text_encoders.t5xxl.transformer.",
    },
    "zimage": {"transformer": "model.diffusion_model.", "vae": "vae.", "text_encoder": "text_encoders.qwen3_4b.transformer."},
}  # fmt: skip


def _text(state: dict) -> dict:
    """The names of transformers as they were when these files were made."""
    if any(name.startswith("layers.") for name in state):
        return {f"model.{name}": tensor for name, tensor in state.items()}
    if any("SelfAttention" in name for name in state):
        return {name: tensor for name, tensor in state.items() if name != "encoder.embed_tokens.weight"}
    whole = ("text_model.", "text_projection.")
    return {name if name.startswith(whole) else f"text_model.{name}": tensor for name, tensor in state.items()}


def _vae(state: dict) -> dict:
    return {name.removeprefix("first_stage_model."): tensor for name, tensor in small._ldm_vae(state, False).items()}


def _fused(state: dict, names: list[str], target: str, kinds=("weight", "bias")) -> dict:
    """Matrices that are one in the original layout: q, k and v."""
    import torch

    return {f"{target}.{kind}": torch.cat([state.pop(f"{name}.{kind}") for name in names]) for kind in kinds if f"{names[0]}.{kind}" in state}


def _renamed(state: dict, names: dict[str, str]) -> dict:
    found = {}
    for name, tensor in state.items():
        for old, new in names.items():
            name = name.replace(old, new)
        found[name] = tensor
    return found


def _swapped(tensor):
    import torch

    return torch.cat(tensor.chunk(2)[::-1])


def _last(state: dict, done: dict) -> dict:
    """The last layer: what diffusers calls scale and shift stand the other way round."""
    for kind in ("weight", "bias"):
        done[f"final_layer.adaLN_modulation.1.{kind}"] = _swapped(state.pop(f"norm_out.linear.{kind}"))
        done[f"final_layer.linear.{kind}"] = state.pop(f"proj_out.{kind}")
    return done


def _flux(state: dict) -> dict:
    done = _last(state, {})
    for index in {name.split(".")[1] for name in state if name.startswith("transformer_blocks.")}:
        own, out = f"transformer_blocks.{index}.attn", f"double_blocks.{index}"
        done |= _fused(state, [f"{own}.to_{letter}" for letter in "qkv"], f"{out}.img_attn.qkv")
        done |= _fused(state, [f"{own}.add_{letter}_proj" for letter in "qkv"], f"{out}.txt_attn.qkv")
    for index in {name.split(".")[1] for name in state if name.startswith("single_transformer_blocks.")}:
        own = f"single_transformer_blocks.{index}"
        done |= _fused(state, [*(f"{own}.attn.to_{letter}" for letter in "qkv"), f"{own}.proj_mlp"], f"single_blocks.{index}.linear1")
    return done | _flux_names(state)


def _flux_names(state: dict) -> dict:
    common = {
        "time_text_embed.timestep_embedder.": "time_in.", "time_text_embed.text_embedder.": "vector_in.",
        "time_text_embed.guidance_embedder.": "guidance_in.", "linear_1": "in_layer", "linear_2": "out_layer",
        "context_embedder": "txt_in", "x_embedder": "img_in",
    }  # fmt: skip
    single = {
        "single_transformer_blocks": "single_blocks", ".norm.linear.": ".modulation.lin.", "proj_out": "linear2",
        "attn.norm_q.weight": "norm.query_norm.scale", "attn.norm_k.weight": "norm.key_norm.scale",
    }  # fmt: skip
    double = {
        "transformer_blocks": "double_blocks", "norm1_context.linear": "txt_mod.lin", "norm1.linear": "img_mod.lin",
        "attn.to_out.0": "img_attn.proj", "attn.to_add_out": "txt_attn.proj", "ff_context.net.0.proj": "txt_mlp.0",
        "ff_context.net.2": "txt_mlp.2", "ff.net.0.proj": "img_mlp.0", "ff.net.2": "img_mlp.2",
        "attn.norm_added_q.weight": "txt_attn.norm.query_norm.scale", "attn.norm_added_k.weight": "txt_attn.norm.key_norm.scale",
        "attn.norm_q.weight": "img_attn.norm.query_norm.scale", "attn.norm_k.weight": "img_attn.norm.key_norm.scale",
    }  # fmt: skip
    done = {}
    for name, tensor in state.items():
        names = single if name.startswith("single") else double if name.startswith("transformer_blocks") else common
        done |= _renamed({name: tensor}, names)
    return done


def _sd3(state: dict) -> dict:
    done = _last(state, {"pos_embed": state.pop("pos_embed.pos_embed")})
    count = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("transformer_blocks."))
    for index in range(count):
        own, out = f"transformer_blocks.{index}", f"joint_blocks.{index}"
        done |= _fused(state, [f"{own}.attn.to_{letter}" for letter in "qkv"], f"{out}.x_block.attn.qkv")
        done |= _fused(state, [f"{own}.attn.add_{letter}_proj" for letter in "qkv"], f"{out}.context_block.attn.qkv")
        done |= _fused(state, [f"{own}.attn2.to_{letter}" for letter in "qkv"], f"{out}.x_block.attn2.qkv")
        if index == count - 1:  # the last block forgets the text, so its scale and shift are the last layer's
            for kind in ("weight", "bias"):
                done[f"{out}.context_block.adaLN_modulation.1.{kind}"] = _swapped(state.pop(f"{own}.norm1_context.linear.{kind}"))
    return done | _renamed(state, {
        "pos_embed.proj": "x_embedder.proj", "time_text_embed.timestep_embedder.linear_": "t_embedder.mlp.",
        "time_text_embed.text_embedder.linear_": "y_embedder.mlp.", "mlp.1.": "mlp.0.", "transformer_blocks": "joint_blocks",
        "norm1_context.linear": "context_block.adaLN_modulation.1", "norm1.linear": "x_block.adaLN_modulation.1",
        "attn.norm_added_q": "context_block.attn.ln_q", "attn.norm_added_k": "context_block.attn.ln_k",
        "attn2.norm_q": "x_block.attn2.ln_q", "attn2.norm_k": "x_block.attn2.ln_k", ".attn.norm_q": ".x_block.attn.ln_q",
        ".attn.norm_k": ".x_block.attn.ln_k", "attn.to_add_out": "context_block.attn.proj", "attn2.to_out.0": "x_block.attn2.proj",
        ".attn.to_out.0": ".x_block.attn.proj", "ff_context.net.0.proj": "context_block.mlp.fc1",
        "ff_context.net.2": "context_block.mlp.fc2", "ff.net.0.proj": "x_block.mlp.fc1", "ff.net.2": "x_block.mlp.fc2",
    })  # fmt: skip


def _zimage(state: dict) -> dict:
    done = {}
    for block in {name.partition(".attention.")[0] for name in state if ".attention." in name}:
        done |= _fused(state, [f"{block}.attention.to_{letter}" for letter in "qkv"], f"{block}.attention.qkv")
    return done | _renamed(state, {
        "all_final_layer.2-1.": "final_layer.", "all_x_embedder.2-1.": "x_embedder.", ".attention.norm_k.": ".attention.k_norm.",
        ".attention.norm_q.": ".attention.q_norm.", ".attention.to_out.0.": ".attention.out.",
    })  # fmt: skip


_RENAMERS = {"flux": _flux, "sd3": _sd3, "zimage": _zimage, "vae": _vae, "text": _text}
