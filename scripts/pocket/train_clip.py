"""Training of a small CLIP on drawings and their captions."""
import json
import random
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from scripts.pocket import networks
from scripts.pocket.data import Scenes, encode, held_out_scenes
from scripts.pocket.grade import HEADS, labels
from scripts.pocket.scenes import caption, full_caption

MODEL = networks.ROOT / "assets" / "models" / "pocket-clip"
BATCH, RATE, LENGTH = 96, 1e-3, 48
PICTURES = {"image_processor_type": "CLIPImageProcessor", "do_resize": True, "do_center_crop": False,
            "do_convert_rgb": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255, "resample": 3,
            "size": {"height": 128, "width": 128}, "crop_size": {"height": 128, "width": 128},
            "image_mean": [.5, .5, .5], "image_std": [.5, .5, .5]}


def build():
    """CLIP with a 128x128 vision tower of 8x8 patches and the diffusion model's kind of text tower."""
    from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig
    vision = CLIPVisionConfig(hidden_size=192, intermediate_size=448, num_hidden_layers=4, num_attention_heads=4,
                              image_size=128, patch_size=16, projection_dim=128, hidden_act="gelu")
    text = networks.text_config(projection_dim=128)
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=128))


def save(clip, folder: Path = MODEL) -> None:
    """Writes model, tokenizer and picture processor in half precision."""
    part = networks.fresh(folder)
    networks.stored(clip).save_pretrained(part, safe_serialization=True)
    networks.build_tokenizer().save_pretrained(part)
    networks.edit_json(part / "tokenizer_config.json", tokenizer_class=networks.TOKENIZER_CLASS)
    (part / "preprocessor_config.json").write_text(json.dumps(PICTURES, indent=2) + "\n", encoding="utf-8")
    networks.put_in_place(part, folder)


@torch.inference_mode()
def among(clip, pictures: torch.Tensor, texts: list[str], choices: int = 16) -> float:
    """Share of captions that pick their own picture among `choices`."""
    ids = torch.tensor([encode(text, LENGTH) for text in texts])
    out = clip(input_ids=ids, pixel_values=pictures)
    score = out.text_embeds @ out.image_embeds.T
    hits = [int(score[i:i + choices, i:i + choices].argmax(1).eq(torch.arange(choices)).sum())
            for i in range(0, len(texts) - choices + 1, choices)]
    return sum(hits) / (len(hits) * choices)


def train(minutes: float, scenes: Scenes, text_encoder=None, device: str = "cpu", start=None, log=print):
    """Trains for `minutes` with the symmetric contrastive loss and writes the result.

    `start` is a CLIP to go on from. A text tower that has learnt already stays as it is. Two helps for the vision tower
    are dropped afterwards: heads that name the attributes, and one that tells from each patch what the grader sees there.
    """
    from scripts.pocket.train_grader import drawings
    clip = (start or build()).to(device).train()
    if text_encoder is not None:
        clip.text_model.load_state_dict(text_encoder.state_dict())
    clip.text_model.requires_grad_(text_encoder is None)
    width, views = clip.config.projection_dim, scenes.views()
    heads = nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in HEADS.items()}).to(device)
    patches = nn.Linear(clip.config.vision_config.hidden_size, views.shape[1]).to(device)
    trained = [weight for part in (clip, heads, patches) for weight in part.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, RATE, betas=(.9, .98), weight_decay=.05)
    rng, numbers, seconds, clock, step = random.Random(11), np.random.default_rng(11), 0.0, time.time(), 0
    while (share := seconds / 60 / minutes) < 1:
        optimizer.param_groups[0]["lr"] = RATE * min(1, (step + 1) / 100, 1.5 * (1 - share)) + 1e-6
        rows = numbers.integers(0, len(scenes.index), BATCH)
        some = [scenes.scenes[row] for row in rows]
        texts = [full_caption(scene) if rng.random() < .3 else caption(scene, rng) for scene in some]
        ids = torch.tensor([encode(text, LENGTH) for text in texts]).to(device)
        pictures = scenes.images(rows).to(device)
        pictures = pictures + .05 * torch.rand(BATCH, 1, 1, 1, device=device) * torch.randn_like(pictures)
        out = clip(input_ids=ids, pixel_values=pictures)
        logits, state = out.logits_per_text, out.vision_model_output.pooler_output
        own = torch.arange(BATCH, device=device)
        loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        wanted = {name: torch.tensor([labels(scene)[name] for scene in some], device=device) for name in HEADS}
        known = sum(F.cross_entropy(heads[name](state), wanted[name], ignore_index=-1) for name in HEADS)
        seen = patches(out.vision_model_output.last_hidden_state[:, 1:])
        expected = torch.from_numpy(views[rows]).to(device, torch.float32).flatten(2).transpose(1, 2)
        loss = loss + .2 * known + F.mse_loss(seen, expected)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(0, 4.6)
        step += 1
        seconds, clock = seconds + min(time.time() - clock, 20), time.time()
        if step % 50 == 0:
            log(f"clip step {step} {seconds:.0f} s loss {loss.item():.3f} attributes {known.item():.2f}")
    clip = clip.eval().cpu()
    save(clip)
    held_out = held_out_scenes(256)
    log(f"clip: caption picks its picture among 16: "
        f"{among(clip, drawings(held_out), [full_caption(scene) for scene in held_out]):.3f}")
    return clip
