"""Models of the real architectures with small random weights, built in a second or two: for tests and benchmarks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORDS = "a the red green blue house tree boat castle at by in of day night dawn dusk snow rain left right two three".split()

SD_SCHEDULE = dict(
    num_train_timesteps=1000,
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    steps_offset=1,
    clip_sample=False,
    set_alpha_to_one=False,
)


def pocket(folder: Path, seed: int = 0, channels=(32, 64), prediction: str = "v_prediction") -> Path:
    """A folder laid out as the embedded model: tiny autoencoder (f=4, 8 latent channels), word tokenizer, v-prediction."""
    import torch
    from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=32,
        in_channels=8,
        out_channels=8,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * len(channels),
        up_block_types=("CrossAttnUpBlock2D",) * len(channels),
        cross_attention_dim=64,
        attention_head_dim=2,
        norm_num_groups=8,
    )
    widths = (16, 16, 16)
    vae = AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        latent_channels=8,
    )
    tokenizer = word_tokenizer()
    pipe = StableDiffusionPipeline(
        unet=unet,
        vae=vae,
        text_encoder=text_encoder(64, len(tokenizer), tokenizer),
        tokenizer=tokenizer,
        scheduler=DDIMScheduler(**SD_SCHEDULE, prediction_type=prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return _save(pipe, folder)


def sd15(folder: Path, seed: int = 0, weights: str = "small", guided: bool = False) -> Path:
    """SD1.5: four stages, a KL autoencoder, CLIP. `weights='real'` has the real sizes (860 M in the UNet), random;
    `guided`: a UNet that is told the guidance, as latent consistency models have."""
    import torch
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    torch.manual_seed(seed)
    config = configs("sd15") if weights == "real" else configs("sd15", SMALL["sd15"])
    tokenizer = clip_tokenizer()
    pipe = StableDiffusionPipeline(
        unet=UNet2DConditionModel.from_config({**config["unet"], "time_cond_proj_dim": 256 if guided else None}),
        vae=AutoencoderKL.from_config(config["vae"]),
        text_encoder=_clip(config["text_encoder"]),
        tokenizer=tokenizer,
        scheduler=PNDMScheduler.from_config(config["scheduler"]),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return _save(pipe, folder)


def sdxl(folder: Path, seed: int = 0, weights: str = "small") -> Path:
    """SDXL: three stages, two text encoders, added time and size embeddings; `weights="real"`: the real sizes, in float16."""
    import torch
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    torch.manual_seed(seed)
    config = configs("sdxl", None if weights == "real" else SMALL["sdxl"])
    pipe = StableDiffusionXLPipeline(
        unet=UNet2DConditionModel.from_config(config["unet"]),
        vae=AutoencoderKL.from_config(config["vae"]),
        text_encoder=_clip(config["text_encoder"]),
        text_encoder_2=_clip(config["text_encoder_2"], projection=True),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(pad="!"),
        scheduler=EulerDiscreteScheduler.from_config(config["scheduler"]),
    )
    return _save(pipe.to(torch.float16) if weights == "real" else pipe, folder)


def sd21(folder: Path, seed: int = 0, weights: str = "small") -> Path:
    """SD2.1, and SD-Turbo, which has its shape: open_clip's text encoder, 1024 numbers wide in the real one (`weights="real"`)."""
    import torch
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    torch.manual_seed(seed)
    config = configs("sd21", None if weights == "real" else SMALL["sd21"])
    pipe = StableDiffusionPipeline(
        unet=UNet2DConditionModel.from_config(config["unet"]),
        vae=AutoencoderKL.from_config(config["vae"]),
        text_encoder=_clip(config["text_encoder"]),
        tokenizer=clip_tokenizer(pad="!"),
        scheduler=PNDMScheduler.from_config(config["scheduler"]),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return _save(pipe, folder)


def refiner(folder: Path, seed: int = 0) -> Path:
    """The SDXL refiner: the second text encoder alone, and an aesthetic score instead of the target size."""
    import torch
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline, UNet2DConditionModel

    torch.manual_seed(seed)
    config = configs("sdxl-refiner", SMALL["sdxl-refiner"])
    pipe = StableDiffusionXLImg2ImgPipeline(
        unet=UNet2DConditionModel.from_config(config["unet"]),
        vae=AutoencoderKL.from_config(config["vae"]),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=_clip(config["text_encoder_2"], projection=True),
        tokenizer_2=clip_tokenizer(pad="!"),
        scheduler=EulerDiscreteScheduler.from_config(config["scheduler"]),
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
    )
    return _save(pipe, folder)


# What the small models change in the real configurations.
_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "projection_dim": 32}
_TEXT_2 = {**_TEXT, "hidden_act": "gelu", "hidden_size": 64, "projection_dim": 64}
_VAE = {"block_out_channels": [16, 16, 32, 32], "norm_num_groups": 8}
SMALL = {
    "sd21": {
        "unet": {
            "block_out_channels": [16, 16, 32, 32],
            "cross_attention_dim": 64,
            "attention_head_dim": [2, 2, 4, 4],
            "norm_num_groups": 8,
            "sample_size": 8,
        },
        "vae": _VAE,
        "text_encoder": _TEXT_2,
    },
    "sdxl-refiner": {
        "unet": {
            "block_out_channels": [16, 16, 32, 32],
            "cross_attention_dim": 64,
            "attention_head_dim": [2, 2, 4, 4],
            "transformer_layers_per_block": 2,
            "norm_num_groups": 8,
            "sample_size": 8,
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 64 + 5 * 8,
        },
        "vae": _VAE,
        "text_encoder_2": _TEXT_2,
    },
    "sd15": {
        "unet": {
            "block_out_channels": [16, 16, 32, 32],
            "cross_attention_dim": 32,
            "attention_head_dim": 2,
            "norm_num_groups": 8,
            "sample_size": 8,
        },
        "vae": _VAE,
        "text_encoder": _TEXT,
    },
    "sdxl": {
        "unet": {
            "block_out_channels": [16, 16, 32],
            "cross_attention_dim": 32 + 64,
            "attention_head_dim": [2, 2, 4],
            "transformer_layers_per_block": [1, 1, 2],
            "norm_num_groups": 8,
            "sample_size": 8,
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 64 + 6 * 8,
        },
        "vae": _VAE,
        "text_encoder": _TEXT,
        # Another width than the first one's, as in the real model: that is how a loader tells them apart.
        "text_encoder_2": _TEXT_2,
    },
}


def configs(family: str, changes: dict | None = None) -> dict[str, dict]:
    """The shipped configuration of a family by part, with `changes`."""
    found = {}
    for path in sorted((ROOT / "assets" / "configs" / family).glob("*/*.json")):
        part = path.parent.name
        found[part] = {**json.loads(path.read_text()), **(changes or {}).get(part, {})}
    return found


def small_assets(root: Path) -> Path:
    """A copy of `assets/configs` under `root` whose models are small, for loading small single files."""
    for family, changes in SMALL.items():
        target = root / "assets" / "configs" / family
        shutil.copytree(ROOT / "assets" / "configs" / family, target)
        for part, config in configs(family, changes).items():
            (path,) = (target / part).glob("*.json")
            path.write_text(json.dumps(config))
    for tokenizer in ("clip", "t5", "qwen"):
        shutil.copytree(ROOT / "assets" / "configs" / tokenizer, root / "assets" / "configs" / tokenizer)
    return root / "assets"


def clip_tokenizer(pad: str = "<|endoftext|>"):
    from reverie.engines import _tokenizers

    return _tokenizers.of("sd21" if pad == "!" else "sd15", ROOT / "assets")["tokenizer"]


def word_tokenizer():
    """A tokenizer that knows a few words and gives the rest one id."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocab = {word: index for index, word in enumerate(["<pad>", "<unk>", *WORDS, "<start>", "<end>"])}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", vocab["<start>"]), ("<end>", vocab["<end>"])]
    )
    names = dict(bos_token="<start>", eos_token="<end>", unk_token="<unk>", pad_token="<pad>")
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=32, **names)


def text_encoder(width: int, words: int, tokenizer):
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=words,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _clip(config: dict, projection: bool = False):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(CLIPTextConfig(**config))


def _save(pipe, folder: Path) -> Path:
    pipe.save_pretrained(folder, safe_serialization=True)
    return folder


# ------------------------------------------------------------------------- the original (LDM) layout of single files


PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")


def single_file(folder: Path, target: Path, parts: tuple[str, ...] = PARTS) -> Path:
    """A diffusers folder, or some of its parts, as one `.safetensors` file with the names that files in the field have."""
    from safetensors.torch import load_file, save_file

    tensors = {}
    two = all((folder / part).is_dir() for part in ("text_encoder", "text_encoder_2"))
    open_clip = {"text_encoder": "cond_stage_model.model.", "text_encoder_2": f"conditioner.embedders.{int(two)}.model."}
    for part in parts:
        for path in sorted((folder / part).glob("*.safetensors")):
            gelu = "text" in part and json.loads((folder / part / "config.json").read_text())["hidden_act"] == "gelu"
            renamed = _ldm_open_clip(load_file(path), open_clip[part]) if gelu else _RENAMERS[part](load_file(path), two)
            tensors.update(renamed)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, target)
    return target


_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def _ldm_unet(state: dict, _) -> dict:
    """Names of diffusers' UNet (two layers a block) → `model.diffusion_model.…`."""
    stages = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("down_blocks."))
    return {f"model.diffusion_model.{_ldm_unet_name(name, stages, state)}": tensor for name, tensor in state.items()}


def _ldm_unet_name(name: str, stages: int, state: dict) -> str:
    head, *rest = name.split(".")
    fixed = {
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "time_embedding": "time_embed",
        "add_embedding": "label_emb.0",
    }
    if head in fixed:
        tail = {"linear_1": "0", "linear_2": "2"}.get(rest[0], rest[0])
        return ".".join([fixed[head], tail, *rest[1:]])
    if head == "mid_block":
        kind, index, *tail = rest
        place = {"resnets": 2 * int(index), "attentions": 1}[kind]
        return ".".join(["middle_block", str(place), *_inside(kind, tail)])
    block, kind, layer, *tail = rest
    if head == "down_blocks":
        number = 3 * int(block) + 1 + (2 if kind == "downsamplers" else int(layer))
        inner = ["0", "op", *tail[1:]] if kind == "downsamplers" else [str(int(kind == "attentions")), *_inside(kind, tail)]
        return ".".join(["input_blocks", str(number), *inner])
    number = 3 * int(block) + (2 if kind == "upsamplers" else int(layer))
    if kind == "upsamplers":
        attends = any(key.startswith(f"up_blocks.{block}.attentions.") for key in state)
        inner = ["2" if attends else "1", *tail]
    else:
        inner = [str(int(kind == "attentions")), *_inside(kind, tail)]
    return ".".join(["output_blocks", str(number), *inner])


def _inside(kind: str, tail: list[str]) -> list[str]:
    return [_RESNET.get(tail[0], tail[0]), *tail[1:]] if kind == "resnets" else tail


_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}


def _ldm_vae(state: dict, _) -> dict:
    stages = 1 + max(int(name.split(".")[2]) for name in state if ".up_blocks." in name)
    renamed = {}
    for name, tensor in state.items():
        parts = name.split(".")
        if len(parts) > 2 and parts[2].isdigit() and parts[1] in ("down_blocks", "up_blocks"):
            stage = int(parts[2]) if parts[1] == "down_blocks" else stages - 1 - int(parts[2])
            side = parts[1].split("_")[0]
            if parts[3] == "resnets":
                parts = [parts[0], side, str(stage), "block", parts[4], *parts[5:]]
            else:
                parts = [parts[0], side, str(stage), parts[3].removesuffix("rs").removesuffix("e") + "e", *parts[5:]]
                parts[3] = {"down": "downsample", "up": "upsample"}[side]
        elif len(parts) > 2 and parts[1] == "mid_block":
            if parts[2] == "resnets":
                parts = [parts[0], "mid", f"block_{int(parts[3]) + 1}", *parts[4:]]
            else:
                tail = [part for part in parts[5:] if part != "0"]
                parts = [parts[0], "mid", "attn_1", _VAE_ATTENTION[parts[4]], *tail]
                tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        elif len(parts) > 1 and parts[1] == "conv_norm_out":
            parts[1] = "norm_out"
        parts = ["nin_shortcut" if part == "conv_shortcut" else part for part in parts]
        renamed["first_stage_model." + ".".join(parts)] = tensor
    return renamed


def _ldm_clip(state: dict, is_sdxl: bool) -> dict:
    prefix = "conditioner.embedders.0.transformer." if is_sdxl else "cond_stage_model.transformer."
    return {prefix + (name if name.startswith("text_model.") else f"text_model.{name}"): t for name, t in state.items()}


_OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def _ldm_open_clip(state: dict, prefix: str) -> dict:
    """A text encoder in open_clip's names: q, k and v are one matrix there, and there is always a projection."""
    import torch

    renamed = {}
    width = next(tensor for name, tensor in state.items() if name.endswith("token_embedding.weight")).shape[1]
    state = {"text_projection.weight": torch.eye(width), **state}
    state = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
    for name, tensor in state.items():
        if name.startswith("encoder.layers.") and ".self_attn." in name and "out_proj" not in name:
            layer, what = name.split(".")[2], name.split(".")[-1]
            if ".q_proj." in name:
                stacked = [state[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
                renamed[f"{prefix}transformer.resblocks.{layer}.attn.in_proj_{what}"] = torch.cat(stacked)
        elif name.startswith("encoder.layers."):
            tail = name.removeprefix("encoder.layers.")
            for old, new in _OPEN_CLIP.items():
                tail = tail.replace(old, new)
            renamed[f"{prefix}transformer.resblocks.{tail}"] = tensor
        else:
            fixed = {
                "embeddings.token_embedding.weight": "token_embedding.weight",
                "embeddings.position_embedding.weight": "positional_embedding",
                "final_layer_norm.weight": "ln_final.weight",
                "final_layer_norm.bias": "ln_final.bias",
                "text_projection.weight": "text_projection",
            }
            renamed[prefix + fixed[name]] = tensor.T if name == "text_projection.weight" else tensor
    return renamed


_RENAMERS = {"unet": _ldm_unet, "vae": _ldm_vae, "text_encoder": _ldm_clip}


# ------------------------------------------------------------------------------------------- LoRAs and embeddings


def embedding(model: Path, target: Path, text: str) -> Path:
    """An embedding that means `text`: the rows of its tokens, as the model in that folder knows them."""
    import torch
    from safetensors.torch import load_file, save_file

    ids = torch.tensor(clip_tokenizer()(text, add_special_tokens=False).input_ids)
    rows = []
    for part in ("text_encoder", "text_encoder_2"):
        for path in sorted((model / part).glob("*.safetensors")):
            state = load_file(path)
            rows.append(next(state[name] for name in state if name.endswith("token_embedding.weight"))[ids].clone())
    names = ("clip_l", "clip_g") if len(rows) == 2 else ("emb_params",)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(zip(names, rows)), target)
    return target


def lora(model: Path, target: Path, merged: Path | None = None, weight=1.0, style="kohya", seed=0) -> Path:
    """A random LoRA for the model in that folder, as `style` (kohya, peft) names its tensors; with `merged`, also a copy
    of the model whose own weights have `weight` times the LoRA in them."""
    import torch
    from safetensors.torch import load_file, save_file

    rank, alpha = 2, 1.0 if style == "kohya" else 2.0
    chance = torch.Generator().manual_seed(seed)
    is_sdxl, tensors = (model / "text_encoder_2").is_dir(), {}
    if merged:
        shutil.copytree(model, merged)
    for part in ("unet", "transformer", "text_encoder", "text_encoder_2"):
        for path in sorted((model / part).glob("*.safetensors")):
            state = load_file(path)
            wanted = [name.removesuffix(".weight") for name in state if _has_lora(name)]
            for module in wanted:
                own = state[f"{module}.weight"]
                down = 0.2 * torch.randn(rank, own.shape[1], generator=chance)
                up = 0.2 * torch.randn(own.shape[0], rank, generator=chance)
                down, up = (m.reshape(*m.shape, *[1] * (own.ndim - 2)) for m in (down, up))
                names = _LORA_NAMES[style](part, module, is_sdxl, state)
                tensors |= dict(zip(names, (down, up, torch.tensor(alpha))))
                change = (up.flatten(1) @ down.flatten(1)).reshape(own.shape)
                state[f"{module}.weight"] = own + weight * alpha / rank * change
            if merged:
                save_file(state, merged / part / path.name, metadata={"format": "pt"})
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, target)
    return target


def _has_lora(name: str) -> bool:
    """Attention, feed-forward and projections: what LoRAs in the field change."""
    in_unet = (".to_q.", ".to_k.", ".to_v.", ".to_out.0.", ".ff.net.", ".proj_in.")
    in_text = (".q_proj.", ".k_proj.", ".v_proj.", ".out_proj.", ".fc1.", ".fc2.")
    return name.endswith("weight") and any(part in name for part in in_unet + in_text)


def _kohya_names(part: str, module: str, is_sdxl: bool, state: dict) -> tuple[str, str, str]:
    if part == "unet":
        if is_sdxl:
            stages = len(SMALL["sdxl"]["unet"]["block_out_channels"])
            module = _ldm_unet_name(f"{module}.weight", stages, state).removesuffix(".weight")
        prefix = "lora_unet_"
    else:
        prefix = {"text_encoder_2": "lora_te2_"}.get(part, "lora_te1_" if is_sdxl else "lora_te_")
        module = module if module.startswith("text_model.") else f"text_model.{module}"
    name = prefix + module.replace(".", "_")
    return f"{name}.lora_down.weight", f"{name}.lora_up.weight", f"{name}.alpha"


def _peft_names(part: str, module: str, *_) -> tuple[str, str]:
    return f"{part}.{module}.lora_A.weight", f"{part}.{module}.lora_B.weight"


_LORA_NAMES = {"kohya": _kohya_names, "peft": _peft_names}
