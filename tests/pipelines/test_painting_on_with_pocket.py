"""The embedded model really paints on: no seam, nothing of the old picture lost."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from reverie import settings
from reverie.pipelines import generate
from reverie.studio import Studio

PROMPT = "one blue boat, on the sea, at dusk, yellow moon"


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    with Studio.open(replace(settings.load(), storage=tmp_path_factory.mktemp("storage")), device="cpu") as studio:
        yield studio


def draw(studio, **params):
    updates = generate.run(studio, generate.Params(**{"prompt": PROMPT, "steps": 8, **params}))
    return next(update.path for update in updates if update.kind == "picture")


def steps(pixels):
    """How much the picture changes from each column to the next, mean grey levels."""
    return np.abs(np.diff(pixels.astype(float), axis=1)).mean((0, 2))


def test_a_picture_goes_on_at_its_right_without_a_seam(studio):
    first = draw(studio, seed=3)
    old = np.asarray(Image.open(first))
    made = np.asarray(Image.open(draw(studio, prompt="sea, at dusk", init=str(first), outpaint="right 64", seed=5)))
    assert made.shape == (128, 192, 3) and (made[:, :108] == old[:, :108]).all()
    change = steps(made)
    assert change[104:132].max() < 1.5 * max(change[20:104].max(), change[136:180].max())
    assert made[:, 136:184].std() > 15
    rows_before, rows_after = made[:, 86:108].mean((1, 2)), made[:, 136:158].mean((1, 2))
    assert np.corrcoef(rows_before, rows_after)[0, 1] > 0.6  # sky, sea and shore go on where they were


def test_what_is_masked_follows_the_prompt_and_the_rest_stays(studio, tmp_path):
    first = draw(studio, seed=3)
    old, mask = np.asarray(Image.open(first)), Image.new("L", (128, 128))
    ImageDraw.Draw(mask).rectangle((0, 60, 70, 118), fill=255)
    mask.save(tmp_path / "mask.png")
    prompt = PROMPT.replace("blue", "red")
    made = np.asarray(Image.open(draw(studio, prompt=prompt, init=str(first), mask=str(tmp_path / "mask.png"), seed=5, strength=1.0)))
    assert (made[:48] == old[:48]).all() and (made[:, 84:] == old[:, 84:]).all()
    redness = made[60:118, :70, 0].astype(int) - made[60:118, :70, 2] - (old[60:118, :70, 0].astype(int) - old[60:118, :70, 2])
    assert redness.mean() > 8
