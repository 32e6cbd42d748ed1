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


def sd15(folder: Path, seed: int = 0, weights: str = "small") -> Path:
    """SD1.5: four stages, a KL autoencoder, CLIP. `weights='real'` has the real sizes (860 M in the UNet), random."""
    import torch
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    torch.manual_seed(seed)
    config = configs("sd15") if weights == "real" else configs("sd15", SMALL["sd15"])
    tokenizer = clip_tokenizer()
    pipe = StableDiffusionPipeline(
        unet=UNet2DConditionModel.from_config(config["unet"]),
        vae=AutoencoderKL.from_config(config["vae"]),
        text_encoder=_clip(config["text_encoder"]),
        tokenizer=tokenizer,
        scheduler=PNDMScheduler.from_config(config["scheduler"]),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return _save(pipe, folder)


def sdxl(folder: Path, seed: int = 0) -> Path:
    """SDXL: three stages, two text encoders, added time and size embeddings."""
    import torch
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    torch.manual_seed(seed)
    config = configs("sdxl", SMALL["sdxl"])
    pipe = StableDiffusionXLPipeline(
        unet=UNet2DConditionModel.from_config(config["unet"]),
        vae=AutoencoderKL.from_config(config["vae"]),
        text_encoder=_clip(config["text_encoder"]),
        text_encoder_2=_clip(config["text_encoder_2"], projection=True),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(pad="!"),
        scheduler=EulerDiscreteScheduler.from_config(config["scheduler"]),
    )
    return _save(pipe, folder)


# What the small models change in the real configurations.
_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "projection_dim": 32}
_VAE = {"block_out_channels": [16, 16, 32, 32], "norm_num_groups": 8}
SMALL = {
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
            "cross_attention_dim": 64,
            "attention_head_dim": [2, 2, 4],
            "transformer_layers_per_block": [1, 1, 2],
            "norm_num_groups": 8,
            "sample_size": 8,
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 32 + 6 * 8,
        },
        "vae": _VAE,
        "text_encoder": _TEXT,
        "text_encoder_2": {**_TEXT, "hidden_act": "gelu"},
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
    shutil.copytree(ROOT / "assets" / "configs" / "clip", root / "assets" / "configs" / "clip")
    return root / "assets"


def clip_tokenizer(pad: str = "<|endoftext|>"):
    from reverie.engines._loading import clip_tokenizer

    return clip_tokenizer(ROOT / "assets", pad)


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
