"""Painting on a start picture: what is kept is kept to the letter, what is new is painted, at a size that suits the model."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reverie import retouch
from reverie.errors import BadInput
from reverie.types import Retouch, Task

RED = (250, 3, 3)


def speckled(width, height):
    """A picture in which no two neighbours are alike, without red in it."""
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 200, (height, width, 3), np.uint8)
    pixels[..., 0] = 40
    return Image.fromarray(pixels)


def near(new, distance):
    """Where something new lies at most `distance` pixels off, also across corners: bool like `new`."""
    padded, found = np.pad(new, distance), np.zeros_like(new)
    for dy in range(2 * distance + 1):
        for dx in range(2 * distance + 1):
            found |= padded[dy : dy + new.shape[0], dx : dx + new.shape[1]]
    return found


@pytest.mark.parametrize("text, sides", [
    ("256", (256,) * 4), ("all 64", (64,) * 4), ("left 128, right 96", (128, 0, 96, 0)), ("right=64", (0, 0, 64, 0)),
    ("up 8 down 16", (0, 8, 0, 16)), ("All: 8px; TOP 32px", (8, 32, 8, 8)), ("left64", (64, 0, 0, 0)),
])
def test_what_to_put_on_is_said_in_words(text, sides):
    assert retouch.parse_outpaint(text) == sides


@pytest.mark.parametrize("text", ["rihgt 64", "left", "64 128", "left 64 32", "-64", "left 1.5", "0", "all 0", ","])
def test_what_is_no_such_words_is_refused_with_examples(text):
    with pytest.raises(BadInput, match="left 128, right 128"):
        retouch.parse_outpaint(text)


def test_a_canvas_is_rounded_up_where_something_is_put_on_and_nowhere_else():
    assert retouch.rounded((100, 50), (0, 0, 30, 0)) == (0, 0, 36, 0)
    assert retouch.rounded((100, 50), (3, 1, 0, 1)) == (4, 1, 0, 5)
    assert retouch.rounded((96, 48), (8, 0, 8, 0)) == (8, 0, 8, 0)


def a_task(plan):
    how, (width, height) = plan
    return Task(kind="inpaint", width=width, height=height, retouch=how)


@st.composite
def cases(draw):
    size = draw(st.integers(9, 70)), draw(st.integers(9, 70))
    extend = draw(st.tuples(*[st.sampled_from([0, 0, 1, 8, 30])] * 4))
    white = None
    if not any(extend) or draw(st.booleans()):
        white = np.zeros(size[::-1], bool)
        x, y = draw(st.integers(0, size[0] - 1)), draw(st.integers(0, size[1] - 1))
        white[y : y + draw(st.integers(1, 40)), x : x + draw(st.integers(1, 40))] = True
    native = draw(st.sampled_from([(64, 64), (32, 48), (16, 16)]))
    return size, white, extend, draw(st.integers(0, 5)), draw(st.integers(0, 9)), native, draw(st.sampled_from(retouch.AREAS))


@given(cases())
def test_beyond_grow_and_blur_no_value_changes_and_what_is_new_is_the_engines(tmp_path_factory, case):
    size, white, extend, grow, blur, *_ = case
    folder, start = tmp_path_factory.mktemp("in"), speckled(*size)
    inputs = [folder / "start.png"]
    start.save(inputs[0])
    if white is not None:
        inputs.append(folder / "mask.png")
        Image.fromarray(white.astype(np.uint8) * 255).save(inputs[1])
    task = a_task(retouch.plan(*case))
    assert task.width % 16 == task.height % 16 == 0
    with retouch.prepare(task, inputs) as (files, finish):
        for file in files:
            assert Image.open(file).size == (task.width, task.height)
        made = np.asarray(finish(Image.new("RGB", (task.width, task.height), RED)))
    left, top, right, bottom = extend
    new = np.pad(np.zeros(size[::-1], bool) if white is None else white, ((top, bottom), (left, right)))
    new[:top], new[top + size[1] :], new[:, :left], new[:, left + size[0] :] = (True,) * 4
    old = np.pad(np.asarray(start), ((top, bottom), (left, right), (0, 0)))
    assert made.shape == old.shape
    assert (made[near(new, grow)] == RED).all()
    kept = ~near(new, grow + blur)
    assert (made[kept] == old[kept]).all()
    assert not any(file.exists() for file in files)


def test_the_new_part_fades_into_the_old_one_step_by_step(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "start.png")
    task = a_task(retouch.plan((64, 64), None, (0, 0, 64, 0), 4, 16, (128, 128)))
    with retouch.prepare(task, [tmp_path / "start.png"]) as (_, finish):
        row = np.asarray(finish(Image.new("RGB", (task.width, task.height), (255, 255, 255))))[32, :, 0].astype(int)
    assert (row[:44] == 0).all() and (row[60:] == 255).all() and 100 < row[52] < 155
    assert (np.diff(row) >= 0).all() and np.diff(row).max() < 40


def test_an_engine_paints_all_that_will_be_seen_of_it_in_whole_latent_pixels(tmp_path):
    speckled(64, 64).save(tmp_path / "start.png")
    task = a_task(retouch.plan((64, 64), None, (0, 0, 64, 0), 4, 9, (128, 128)))
    with retouch.prepare(task, [tmp_path / "start.png"]) as (files, finish):
        mask = np.asarray(Image.open(files[1]))
        assert set(np.unique(mask)) == {0, 255}
        assert (mask.reshape(mask.shape[0] // 8, 8, mask.shape[1] // 8, 8).std((1, 3)) == 0).all()
        white = Image.new("RGB", (task.width, task.height), (255, 255, 255))
        blind = Image.composite(white, Image.open(files[0]), Image.open(files[1]))
        assert (np.asarray(finish(white)) == np.asarray(finish(blind))).all()


def test_what_is_laid_under_a_new_part_has_the_pictures_colours_and_no_shapes(tmp_path):
    picture = Image.new("RGB", (64, 64), (40, 60, 200))
    picture.paste((200, 120, 30), (0, 32, 64, 64))
    picture.save(tmp_path / "start.png")
    task = a_task(retouch.plan((64, 64), None, (0, 0, 64, 0), 0, 0, (128, 64)))
    with retouch.prepare(task, [tmp_path / "start.png"]) as (files, _):
        under = np.asarray(Image.open(files[0]), float)[:64, 72:128]
    sky, ground = under[:20].mean((0, 1)), under[44:].mean((0, 1))
    assert sky[2] > sky[0] + 60 and ground[0] > ground[2] + 60
    assert under.std() > 10 and abs(under.mean() - 128) > 5


@pytest.mark.parametrize("size, white, extend, area, box, paint", [
    # a model of 128x128 paints on at its own size, with as much of the old picture as fits
    ((128, 128), None, (0, 0, 64, 0), "auto", (64, 0, 192, 128), (128, 128)),
    ((1000, 128), None, (0, 0, 32, 0), "auto", (904, 0, 1032, 128), (128, 128)),
    ((128, 128), None, (0, 0, 64, 0), "whole", (0, 0, 192, 128), (192, 128)),
    # a mask in a large picture: a window of the model's size around it
    ((1000, 800), (400, 300, 60, 60), (0, 0, 0, 0), "auto", (366, 266, 494, 394), (128, 128)),
    # a tiny one: enlarged, but not without end
    ((1000, 800), (400, 300, 4, 4), (0, 0, 0, 0), "auto", (380, 280, 424, 324), (128, 128)),
    ((128, 128), (40, 40, 30, 30), (0, 0, 0, 0), "masked", (20, 20, 90, 90), (128, 128)),
    # one that is not divisible: a little more is painted than is shown
    ((129, 125), (0, 0, 129, 125), (0, 0, 0, 0), "auto", (0, 0, 144, 128), (144, 128)),
    # more than the model can hold: painted smaller
    ((512, 512), (0, 0, 512, 512), (0, 0, 0, 0), "auto", (0, 0, 512, 512), (192, 192)),
])
def test_a_model_sees_a_part_that_it_can_hold(size, white, extend, area, box, paint):
    mask = None
    if white:
        mask, (x, y, wide, high) = np.zeros(size[::-1], bool), white
        mask[y : y + high, x : x + wide] = True
    assert retouch.plan(size, mask, extend, 4, 8, (128, 128), area) == (Retouch(extend=extend, box=box, grow=4, blur=8), paint)


def test_a_mask_of_the_same_shape_is_brought_to_size_and_another_is_refused(tmp_path):
    mask = Image.new("L", (50, 40))
    mask.paste(255, (0, 0, 25, 40))
    mask.save(tmp_path / "m.png")
    white = retouch.read_mask(tmp_path / "m.png", (100, 80))
    assert white.shape == (80, 100) and white[:, :48].all() and not white[:, 52:].any()
    with pytest.raises(BadInput, match="The mask is 50x40 and the start picture 64x64"):
        retouch.read_mask(tmp_path / "m.png", (64, 64))


def test_a_mask_painted_on_a_transparent_ground_is_what_was_painted(tmp_path):
    mask = Image.new("RGBA", (20, 10), (255, 255, 255, 0))
    mask.paste((255, 255, 255, 255), (0, 0, 5, 10))
    mask.save(tmp_path / "m.png")
    white = retouch.read_mask(tmp_path / "m.png", (20, 10))
    assert white[:, :5].all() and not white[:, 5:].any()


def test_a_canvas_beyond_all_measure_is_refused():
    with pytest.raises(BadInput, match="199999x199999 is too large"):
        retouch.plan((1, 1), None, (99999,) * 4, 0, 0, (128, 128))
