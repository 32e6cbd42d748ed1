"""Painting on a start picture: a part of it anew (inpaint), or more around it (outpaint), and the rest as it was.

`plan` says which part an engine is to paint and how large; `prepare` gives that part and its mask to the engine as plain files
and puts what comes back into the start picture. Engines know nothing of it: they do the task kind `inpaint` at one size.

What is kept is kept to the letter: the new part fades into the old one within `blur` pixels, and beyond them no value changes.
"""

from __future__ import annotations

import contextlib
import math
import re
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterator

from reverie import media
from reverie.errors import BadInput
from reverie.types import Retouch, Task

Box = tuple[int, int, int, int]

SIDES = {"left": 0, "top": 1, "up": 1, "right": 2, "bottom": 3, "down": 3}
MOST_PIXELS = 1 << 26  # of a canvas: 8192x8192
AREAS = ("auto", "whole", "masked")
ROOMY = 2.25  # times its own size, a model still paints one picture and not two
MUCH_SMALLER = 8  # times smaller than what would be painted around it: that part is enlarged
MOST_ENLARGED = 4
STEP = 16  # every family of models paints sizes divisible by this
LATENT = 8  # pixels of a latent pixel's edge: a mask cannot be finer
GRAIN = 0.3  # of what is laid under new parts: its share of the picture's own contrast

_PART = r"(?:(all|left|right|top|up|bottom|down)\s*[:=]?\s*)?(\d{1,5})(?:\s*px)?"
_NEXT = 'Write --outpaint "left 128, right 128", "all 64" or "256".'


def parse_outpaint(text: str) -> Box:
    """`'left 128, top 64'`, `'all 64'` or `'256'` → pixels at left, top, right, bottom. BadInput if it says something else."""
    found = re.findall(_PART, text.lower())
    whole = re.fullmatch(rf"\s*{_PART}(?:[\s,;]+{_PART})*\s*", text.lower())
    if not whole or len(found) > 1 and not all(side for side, _ in found):
        raise BadInput(f"'{text}' does not say what to put on at which side.", _NEXT)
    sides = [0, 0, 0, 0]
    for side, pixels in found:
        for index in {SIDES[side]} if side in SIDES else range(4):
            sides[index] = max(sides[index], int(pixels))
    if not any(sides):
        raise BadInput(f"'{text}' puts nothing on at any side.", _NEXT)
    return tuple(sides)


def rounded(size: tuple[int, int], extend: Box) -> Box:
    """`extend` so that the canvas is divisible by 8 along every axis it puts something on: more at its right, bottom or only side."""
    left, top, right, bottom = extend
    wide, high = (-(size[0] + left + right) % 8, -(size[1] + top + bottom) % 8)
    left, right = (left, right + wide) if right else (left + wide, 0) if left else (0, 0)
    top, bottom = (top, bottom + high) if bottom else (top + high, 0) if top else (0, 0)
    return left, top, right, bottom


def read_mask(path: Path, size: tuple[int, int]):
    """A mask of `size`, bool array (height, width), True where white: what is painted anew. What is transparent is not.

    One of another size is brought to it if it has the same shape. BadInput if it has not, or nothing in it is white.
    """
    import numpy as np

    mask = media.open_picture(path, ground="black").convert("L")
    if abs(mask.width * size[1] - mask.height * size[0]) > max(size) * max(1, mask.width / size[0]):
        raise BadInput(f"The mask is {mask.width}x{mask.height} and the start picture {size[0]}x{size[1]}.",
                       "Paint the mask over a copy of the start picture: white where it is to change, black elsewhere.")
    white = np.asarray(mask if mask.size == size else mask.resize(size)) >= 128
    if not white.any():
        raise BadInput(f"Nothing in the mask {path.name} is white.", "Paint white what is to be painted anew.")
    return white


def plan(size: tuple[int, int], white, extend: Box, grow: int, blur: int, native: tuple[int, int], area: str = "auto"):
    """(Retouch, width and height at which an engine paints) for a start picture of `size`; `white` as `read_mask` gives, or None.

    `native`: the model's own size. `area` is what the model sees: "whole", the whole canvas; "masked", what is new with a
    little around it, enlarged to the model's own size; "auto", as much as the model's own size holds, or "masked" when the
    new part is much smaller. BadInput if the canvas would be too large.
    """
    canvas = size[0] + extend[0] + extend[2], size[1] + extend[1] + extend[3]
    if canvas[0] * canvas[1] > MOST_PIXELS:
        edge = math.isqrt(MOST_PIXELS)
        raise BadInput(f"A picture of {canvas[0]}x{canvas[1]} is too large.", f"At most as many pixels as {edge}x{edge} has: put on less.")
    near = _cut(_inflated(_new_part(white, extend, canvas), grow + blur + min(native) // 16), canvas)
    seen = _moved(_at_least(near, native), canvas)
    small = _moved(_at_least(near, (min(native) // MOST_ENLARGED,) * 2, max(_size(near)) // 2), canvas)
    if area == "whole":
        seen = (0, 0, *canvas)
    elif area == "masked" or math.prod(_size(small)) * MUCH_SMALLER < math.prod(_size(seen)):
        seen = small
    paint = _paint_size(_size(seen), native)
    if paint is None:  # as it is, and a little more where that is not divisible
        paint = tuple(-(-edge // STEP) * STEP for edge in _size(seen))
        seen = (seen[0], seen[1], seen[0] + paint[0], seen[1] + paint[1])
    return Retouch(extend=extend, box=seen, grow=grow, blur=blur), paint


def told(task: Task, size: tuple[int, int], asked: str) -> str:
    """For people: how large the picture of a task with `retouch` becomes, and which part of it is painted how large.

    `size` is the start picture's, `asked` what `parse_outpaint` read, "" if nothing is put on.
    """
    extend = task.retouch.extend
    canvas = size[0] + extend[0] + extend[2], size[1] + extend[1] + extend[3]
    box = _cut(task.retouch.box, canvas)
    where = "all of it" if _size(box) == canvas else f"the part from {box[0]},{box[1]} to {box[2]},{box[3]}"
    seen = f"The model paints {where} at {task.width}x{task.height}."
    if not asked:
        return seen
    sides = ", ".join(f"{side} {pixels}" for side, pixels in zip(("left", "top", "right", "bottom"), extend, strict=True) if pixels)
    begin = "Put on" if extend == parse_outpaint(asked) else "Put on, rounded up to sizes divisible by 8"
    return f"{begin}: {sides}. The picture becomes {canvas[0]}x{canvas[1]}. {seen}"


@contextlib.contextmanager
def prepare(task: Task, inputs: list[Path]) -> Iterator[tuple[list[Path], Callable[[Any], Any]]]:
    """Yields the files an engine gets for this task, and what makes its picture the finished one (Pillow images, RGB).

    A task without `retouch` goes as it is. The files are gone afterwards.
    """
    if task.retouch is None:
        yield inputs, lambda image: image
        return
    import numpy as np
    from PIL import Image

    retouch, size = task.retouch, (task.width, task.height)
    start = media.open_picture(inputs[0])
    white = read_mask(inputs[1], start.size) if len(inputs) > 1 else None
    rows, columns = _Axis(start.height, retouch.extend[1::2], retouch.box[1::2]), _Axis(start.width, retouch.extend[::2], retouch.box[::2])
    soft = _soft(_hard(white, rows, columns), retouch.grow, retouch.blur)
    old = Image.fromarray(_filled(np.asarray(start), rows, columns))
    with tempfile.TemporaryDirectory(prefix="reverie-") as folder:
        files = [Path(folder) / "start.png", Path(folder) / "mask.png"]
        _scaled(old, size).save(files[0], compress_level=1)
        Image.fromarray(_for_latents(soft, size)).save(files[1])
        yield files, lambda image: _put_back(start, retouch, old, Image.fromarray(soft), image)


def _put_back(start, retouch: Retouch, old, soft, painted):
    """The canvas with the painted box in it, through the soft mask."""
    from PIL import Image

    left, top, right, bottom = retouch.extend
    canvas = Image.new("RGB", (start.width + left + right, start.height + top + bottom))
    canvas.paste(start, (left, top))
    canvas.paste(Image.composite(_scaled(painted, old.size), old, soft), retouch.box[:2])
    return canvas


# ------------------------------------------------------------------------------------------------------------- boxes


def _new_part(white, extend: Box, canvas: tuple[int, int]) -> Box:
    """The smallest box with all that is new, on the canvas."""
    boxes = [box for box, pixels in zip(
        ((0, 0, extend[0], canvas[1]), (0, 0, canvas[0], extend[1]), (canvas[0] - extend[2], 0, *canvas), (0, canvas[1] - extend[3], *canvas)),
        extend, strict=True) if pixels]
    if white is not None:
        rows, columns = white.any(1).nonzero()[0], white.any(0).nonzero()[0]
        x, y = extend[:2]
        boxes.append((int(columns[0]) + x, int(rows[0]) + y, int(columns[-1]) + 1 + x, int(rows[-1]) + 1 + y))
    left, top, right, bottom = zip(*boxes)
    return min(left), min(top), max(right), max(bottom)


def _size(box: Box) -> tuple[int, int]:
    return box[2] - box[0], box[3] - box[1]


def _inflated(box: Box, by: int) -> Box:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def _at_least(box: Box, size: tuple[int, int], edge: int = 0) -> Box:
    """`box`, with its middle where it was, at least `size` large and no edge shorter than `edge`."""
    wide, high = (max(now, least, edge) for now, least in zip(_size(box), size, strict=True))
    left, top = (box[0] + box[2] - wide) // 2, (box[1] + box[3] - high) // 2
    return left, top, left + wide, top + high


def _cut(box: Box, canvas: tuple[int, int]) -> Box:
    return max(box[0], 0), max(box[1], 0), min(box[2], canvas[0]), min(box[3], canvas[1])


def _moved(box: Box, canvas: tuple[int, int]) -> Box:
    """`box` moved onto the canvas, and cut where it is larger than that."""
    edges = []
    for low, high, end in ((box[0], box[2], canvas[0]), (box[1], box[3], canvas[1])):
        length = min(high - low, end)
        low = min(max(low, 0), end - length)
        edges.append((low, low + length))
    return edges[0][0], edges[1][0], edges[0][1], edges[1][1]


def _paint_size(size: tuple[int, int], native: tuple[int, int]) -> tuple[int, int] | None:
    """Width and height for a box that is too large or too small for the model; None if it can stay as it is."""
    pixels, own = math.prod(size), math.prod(native)
    if own / 2 <= pixels <= own * ROOMY:
        return None
    scale = math.sqrt((own if pixels < own else own * ROOMY) / pixels)
    return tuple(max(STEP, round(edge * scale / STEP) * STEP) for edge in size)


# ------------------------------------------------------------------------------------------------------------ pixels


class _Axis:
    """One axis of a box on the canvas, for each of its pixels: `beyond`, how far outside of the start picture it lies; `nearest`
    and `mirrored`, which pixel of that stands for it. What lies past the canvas repeats its last pixel."""

    def __init__(self, length: int, extend: tuple[int, int], box: tuple[int, int]):
        import numpy as np

        place = np.clip(np.arange(*box), 0, sum(extend) + length - 1) - extend[0]
        self.nearest = np.clip(place, 0, length - 1)
        self.beyond = np.abs(place - self.nearest)
        there_and_back = place % (2 * length)
        self.mirrored = np.minimum(there_and_back, 2 * length - 1 - there_and_back)


def _hard(white, rows: _Axis, columns: _Axis):
    """What is new in the box: bool (height, width)."""
    new = (rows.beyond > 0)[:, None] | (columns.beyond > 0)[None, :]
    return new if white is None else new | white[rows.nearest][:, columns.nearest]


def _soft(hard, grow: int, blur: int):
    """The mask through which the new part is put back, uint8: 255 within `grow` pixels of `hard`, 0 from `blur` pixels beyond that on."""
    import numpy as np

    half = blur // 2
    soft = hard.astype(np.float64)
    for axis in (0, 1):
        soft = (_mean(soft, grow + half, axis) > 0).astype(np.float64)
    for axis in (0, 1):  # twice a flat mean: a slope without corners that ends where it is said to
        soft = _mean(_mean(soft, half // 2, axis), half - half // 2, axis)
    return np.rint(np.clip(soft, 0, 1) * 255).astype(np.uint8)


def _mean(values, radius: int, axis: int):
    """The mean of the 2·radius + 1 values around each one along an axis; the last ones repeat at the edges."""
    import numpy as np

    padding = [(radius + 1, radius) if index == axis else (0, 0) for index in range(values.ndim)]
    sums = np.cumsum(np.pad(values, padding, mode="edge"), axis=axis)
    width = 2 * radius + 1
    ends = np.take(sums, range(width, sums.shape[axis]), axis) - np.take(sums, range(sums.shape[axis] - width), axis)
    return ends / width


def _filled(start, rows: _Axis, columns: _Axis):
    """The box with the start picture, uint8 (height, width, 3). Around it lies its mirror image, soft at once and softer with the
    distance, and grained: colours and light for a model to go on from, and no shapes.

    (Its last row stretched outwards would do for photographs; of a picture on white paper it knows only the paper.)
    """
    import numpy as np
    from PIL import Image, ImageFilter

    mirrored = start[rows.mirrored][:, columns.mirrored]
    beyond = np.maximum(rows.beyond[:, None], columns.beyond[None, :])[..., None]
    if not beyond.any():
        return mirrored
    picture, filled, radius = Image.fromarray(mirrored), mirrored.astype(np.float32), 1
    while radius < beyond.max():
        share = np.clip((beyond - radius) / radius, 0, 1)
        filled += share * (np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)), np.float32) - filled)
        radius *= 2
    grain = np.random.default_rng(0).standard_normal(beyond.shape, np.float32) * np.float32(GRAIN * start.std())
    filled += grain * np.clip(beyond / LATENT, 0, 1)
    return np.where(beyond > 0, np.clip(np.rint(filled), 0, 255).astype(np.uint8), mirrored)


def _for_latents(soft, size: tuple[int, int]):
    """The engine's mask, uint8 0 or 255 at `size`: all that is to be seen of its picture, in whole latent pixels."""
    import numpy as np
    from PIL import Image

    seen = np.asarray(Image.fromarray((soft > 0).astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)) > 0
    blocks = seen.reshape(size[1] // LATENT, LATENT, size[0] // LATENT, LATENT).any((1, 3))
    return np.kron(blocks, np.ones((LATENT, LATENT), np.uint8)).astype(np.uint8) * 255


def _scaled(image, size: tuple[int, int]):
    from PIL import Image

    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
