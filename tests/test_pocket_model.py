"""The embedded model: plain diffusers loads it, and it does what its card says."""
import os
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from scripts.pocket import data, grade, networks                 # noqa: E402
from scripts.pocket.scenes import caption, full_caption          # noqa: E402

MODEL = ROOT / "assets" / "models" / "pocket"
FOLDERS = [MODEL, MODEL.with_name("pocket-grader"), MODEL.with_name("pocket-clip")]
PROMPT = "two red houses on the left, a man in a blue coat standing, in the field, by day, clear, graphic novel"


@pytest.fixture(scope="module")
def pipe():
    """The model as any reader would load it."""
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(MODEL)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generator(seed: int = 0):
    """A seeded generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def low(picture) -> np.ndarray:
    """The picture's coarse layout: 8x8 brightness values, centred."""
    values = np.asarray(picture.convert("L").resize((8, 8), 4), float)
    return values - values.mean()


def test_folders_are_small_and_complete():
    sizes = [path.stat().st_size for folder in FOLDERS for path in folder.rglob("*") if path.is_file()]
    assert sum(sizes) < 60e6
    assert (MODEL / "model_index.json").exists() and (MODEL / "README.md").exists()


def test_text_to_image_is_native_128(pipe):
    picture = pipe(PROMPT, num_inference_steps=4, generator=generator()).images[0]
    assert picture.size == (128, 128)
    assert np.asarray(picture, float).std() > 10


def test_the_same_seed_gives_the_same_picture(pipe):
    first, second = (pipe(PROMPT, num_inference_steps=2, generator=generator(3)).images[0] for _ in range(2))
    assert (np.asarray(first) == np.asarray(second)).all()


def test_unknown_words_are_left_out(pipe):
    ids = pipe.tokenizer("Quixotic: one RED house, (zebra:1.3) at night!").input_ids
    assert ids == pipe.tokenizer("one red house at night").input_ids
    picture = pipe("zebra xylophone", num_inference_steps=1, generator=generator()).images[0]
    assert picture.size == (128, 128)


def test_training_encodes_as_the_tokenizer_does(pipe):
    import random
    rng = random.Random(0)
    for scene in data.held_out_scenes(40):
        text = data.stray(caption(scene, rng), rng)
        ids = pipe.tokenizer(text, padding="max_length", truncation=True).input_ids
        assert ids == data.encode(text, networks.LENGTH)


def test_image_to_image_keeps_the_layout(pipe):
    from scripts.pocket.draw import draw
    scene = data.held_out_scenes(3)[2]
    source = draw(scene, 128, 5)
    again = diffusers.StableDiffusionImg2ImgPipeline.from_pretrained(MODEL)
    picture = again(full_caption(scene), image=source, strength=.4, num_inference_steps=10,
                    generator=generator()).images[0]
    a, b = low(source), low(picture)
    assert (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()) > .6


def test_inpainting_leaves_the_rest_alone(pipe):
    from PIL import Image
    from scripts.pocket.draw import draw
    source = draw(data.held_out_scenes(1)[0], 128, 5)
    mask = Image.new("L", (128, 128))
    mask.paste(255, (64, 0, 128, 128))
    inpaint = diffusers.StableDiffusionInpaintPipeline.from_pretrained(MODEL)
    picture = inpaint(PROMPT, image=source, mask_image=mask, height=128, width=128, num_inference_steps=4,
                      generator=generator()).images[0]
    left = np.s_[:, :48]
    error = np.abs(np.asarray(picture, float)[left] - np.asarray(source, float)[left]).mean()
    assert picture.size == (128, 128) and error < 30


def test_the_autoencoder_keeps_a_drawing(pipe):
    from scripts.pocket.train_grader import drawings
    source = drawings(data.held_out_scenes(4))
    with torch.inference_mode():
        latents = pipe.vae.encode(source).latents
        back = pipe.vae.decode(latents).sample.clamp(-1, 1)
    assert latents.shape == (4, 4, 16, 16) and .6 < latents.std() < 1.5
    assert -10 * ((back - source).square().mean() / 4).log10() > 19


def test_the_grader_reads_drawings():
    from scripts.pocket.train_grader import drawings
    scenes = grade.held_out_list()[:24]
    shares = grade.right(grade.load(), drawings(scenes), [grade.stated(scene) for scene in scenes])
    assert min(shares.values()) > .85
    assert all(data.held_out(scene) for scene in scenes)


def test_pictures_show_what_held_out_captions_say(pipe):
    scenes = grade.held_out_list()[64:88]
    pictures = pipe([full_caption(scene) for scene in scenes], num_inference_steps=20, guidance_scale=4,
                    generator=[generator(i) for i in range(len(scenes))]).images
    shares = grade.right(grade.load(), grade.as_tensor(pictures), [grade.stated(scene) for scene in scenes])
    assert sum(shares.values()) / len(shares) > .8 and min(shares.values()) > .5


def test_clip_finds_the_caption():
    from scripts.pocket import train_clip
    from scripts.pocket.train_grader import drawings
    from transformers import CLIPModel
    clip = CLIPModel.from_pretrained(train_clip.MODEL, dtype=torch.float32).eval()
    scenes = data.held_out_scenes(16)
    assert train_clip.among(clip, drawings(scenes), [full_caption(scene) for scene in scenes]) > .75
