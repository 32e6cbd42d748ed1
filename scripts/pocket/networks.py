"""The parts of `pocket`: tokenizer, text encoder, autoencoder, unet and scheduler, and their diffusers folder."""
import copy
import json
import shutil
from pathlib import Path

import torch
from torch import nn

from scripts.pocket.scenes import words

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "assets" / "models" / "pocket"
LENGTH = 64                       # tokens of a prompt
SPECIAL = ("<unk>", "<bos>", "<pad>", "<eos>")      # CLIP reads an `eos_token_id` of 2 in an old way: eos is 3
LATENT = 4                        # channels of a latent; 128x128 pixels are 16x16 of them
GRID = 16
WIDTHS = (96, 192, 256)           # of the unet at 16, 8 and 4 latents a side
ATTENTION = (False, True, True)   # attention by level; the 4x4 middle has it too
HEADS = (3, 6, 8)
TOKENIZER_CLASS = "PreTrainedTokenizerFast"
TEXT = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4}


def vocabulary_ids() -> dict[str, int]:
    """Word -> token: the special ones, then every word of a caption; punctuation has no token."""
    known = [word for word in words() if word.isalpha()]
    return {word: index for index, word in enumerate([*SPECIAL, *known])}


def build_tokenizer(length: int = LENGTH):
    """Word-level tokenizer that lower-cases and leaves punctuation and unknown words out."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast
    ids = vocabulary_ids()
    known = "|".join(sorted((word for word in ids if word.isalpha()), key=len, reverse=True))
    inner = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence([
        normalizers.NFC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"[^\p{L}\p{N}]+"), " "),
        normalizers.Replace(Regex(rf"(?<![\p{{L}}\p{{N}}])(?!(?:{known})(?![\p{{L}}\p{{N}}]))[\p{{L}}\p{{N}}]+"), ""),
        normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()])
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", ids["<bos>"]), ("<eos>", ids["<eos>"])])
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", bos_token="<bos>", eos_token="<eos>",
                                   pad_token="<pad>", model_max_length=length, padding_side="right")


def text_config(**changes):
    """Configuration of the text transformer."""
    from transformers import CLIPTextConfig
    ids = vocabulary_ids()
    values = {**TEXT, "vocab_size": len(ids), "max_position_embeddings": LENGTH, "hidden_act": "gelu",
              "projection_dim": TEXT["hidden_size"], "bos_token_id": ids["<bos>"], "eos_token_id": ids["<eos>"],
              "pad_token_id": ids["<pad>"]}
    return CLIPTextConfig(**{**values, **changes})


def build_text_encoder():
    """Text transformer: token ids [b, 64] -> states [b, 64, 256]."""
    from transformers import CLIPTextModel
    return CLIPTextModel(text_config())


def build_vae():
    """Autoencoder: pictures [b, 3, 128, 128] in -1..1 <-> latents [b, 4, 16, 16] of about unit variance."""
    from diffusers import AutoencoderTiny
    widths = (48,) * 4
    return AutoencoderTiny(encoder_block_out_channels=widths, decoder_block_out_channels=widths,
                           num_encoder_blocks=(0, 1, 1, 3), num_decoder_blocks=(3, 3, 1, 0), latent_channels=LATENT,
                           scaling_factor=1.0)


def build_unet(widths=WIDTHS, attention=ATTENTION, heads=HEADS):
    """Denoiser: noisy latents [b, 4, 16, 16], step [b] and text states [b, 64, 256] -> velocity."""
    from diffusers import UNet2DConditionModel
    down = ["CrossAttnDownBlock2D" if with_text else "DownBlock2D" for with_text in attention]
    up = ["CrossAttnUpBlock2D" if with_text else "UpBlock2D" for with_text in reversed(attention)]
    unet = UNet2DConditionModel(
        sample_size=GRID, in_channels=LATENT, out_channels=LATENT, down_block_types=down, up_block_types=up,
        block_out_channels=widths, layers_per_block=1, cross_attention_dim=TEXT["hidden_size"],
        attention_head_dim=heads, norm_num_groups=16, use_linear_projection=True)
    return quiet_start(unet)


def quiet_start(unet):
    """Every residual branch begins at zero, which speeds up the first minutes of training."""
    for name, module in unet.named_modules():
        if name.endswith((".conv2", ".proj_out")) or name == "conv_out":
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return unet


def build_scheduler():
    """Stable Diffusion's noise schedule with velocity prediction."""
    from diffusers import DDIMScheduler
    return DDIMScheduler(beta_start=.00085, beta_end=.012, beta_schedule="scaled_linear", num_train_timesteps=1000,
                         prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=False,
                         set_alpha_to_one=True, steps_offset=1)


def fresh(folder: Path) -> Path:
    """An empty folder next to the wanted one, to be filled and then put in its place."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    return part


def put_in_place(part: Path, folder: Path) -> None:
    """Moves every file of a finished folder over its older namesake, each in one step."""
    for path in sorted(p for p in part.rglob("*") if p.is_file()):
        target = folder / path.relative_to(part)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.chmod(0o644)
        path.replace(target)
    shutil.rmtree(part)


def save_pipeline(unet, text_encoder, vae, folder: Path = MODEL) -> None:
    """Writes the diffusers folder in half precision; readers never see a half-written file.

    The text encoder stays in single precision: transformers loads what is stored, diffusers loads single precision
    unless told otherwise, and a plain `from_pretrained` must give both the same type.
    """
    from diffusers import StableDiffusionPipeline
    pipe = StableDiffusionPipeline(vae=stored(vae), text_encoder=stored(text_encoder, torch.float32),
                                   tokenizer=build_tokenizer(), unet=stored(unet), scheduler=build_scheduler(),
                                   safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    part = fresh(Path(folder))
    pipe.save_pretrained(part, safe_serialization=True)
    edit_json(part / "model_index.json", tokenizer=["transformers", TOKENIZER_CLASS])
    edit_json(part / "tokenizer" / "tokenizer_config.json", tokenizer_class=TOKENIZER_CLASS)
    for config in part.rglob("*.json"):
        if "_name_or_path" in config.read_text(encoding="utf-8"):
            edit_json(config)
    put_in_place(part, Path(folder))


def edit_json(path: Path, **changes) -> None:
    """Sets values of a JSON file and drops the trace of where it came from."""
    values = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    values.pop("_name_or_path", None)
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def stored(module, dtype=torch.float16):
    """A copy for storing, on the CPU and in `dtype`; the original stays as it is."""
    twin = copy.deepcopy(module).cpu()
    for tensor in [*twin.parameters(), *twin.buffers()]:
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype).contiguous()
    return twin


def load_parts(folder: Path = MODEL):
    """unet, text encoder and autoencoder of a saved folder, in single precision."""
    from diffusers import AutoencoderTiny, UNet2DConditionModel
    from transformers import CLIPTextModel
    return (UNet2DConditionModel.from_pretrained(folder, subfolder="unet", torch_dtype=torch.float32),
            CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", dtype=torch.float32),
            AutoencoderTiny.from_pretrained(folder, subfolder="vae", torch_dtype=torch.float32))


def alphas(device="cpu") -> torch.Tensor:
    """Signal share (cumulative alpha) of each of the 1000 steps."""
    return build_scheduler().alphas_cumprod.to(device)
