"""Drawings of scenes: the same picture at every size, in six styles."""
import argparse
import random
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).resolve().parent))

from draw_objects import OBJECT, person                                   # noqa: E402
from draw_pen import FINISH, PIXEL_ROWS, Pen, pixelate, scale             # noqa: E402
from draw_places import Env, outdoors_back, outdoors_front                # noqa: E402
from draw_rooms import PLACE_IN                                           # noqa: E402
from scenes import INDOORS, STYLES, full_caption, sample_scene, vocabulary  # noqa: E402

LIGHT_RGB = {"yellow": (255, 222, 50), "orange": (250, 136, 22), "red": (220, 38, 32), "white": (252, 252, 248)}
CENTRE = {"left": .25, "middle": .5, "right": .75}           # of the object group, in picture widths
SLOTS = {"left": (.58, .74, .9), "middle": (.11, .89, .24), "right": (.1, .26, .42)}   # of the people's feet
BACKDROPS = 3                                                # ways to draw each place
GROUP = .5                                                   # widest group, in picture widths (heights if portrait)


def colours() -> dict[str, tuple[int, int, int]]:
    """Middle sRGB value of every colour name."""
    return {name: tuple(rgb) for name, rgb in vocabulary()["colour"].items()}


def varied(rgb, rng):
    """A colour slightly lighter or darker than its middle."""
    return scale(rgb, rng.uniform(.92, 1.06))


def layout(count: int, height: float, ratio: float, room: float) -> list[tuple[float, float, float]]:
    """Offsets (dx, dy) and height of each member of a group, the far ones first."""
    if count == 1:
        h = min(height, room / ratio)
        return [(0, 0, h)]
    h = height * (.8, .68, .58)[count - 2]
    if count * h * ratio * 1.12 <= room:
        step = max(h * ratio * 1.12, min(.12, room / count))
        return [(step * (i - (count - 1) / 2), -.03 * (i % 2), h) for i in range(count)]
    h = min(height * .66, .25, room / 2 / ratio / 1.06)
    step, up = max(h * ratio * 1.06, .14), h * .97
    if count == 2:
        h = min(height * .74, room * .62 / ratio)
        dx = (room - h * ratio) / 2
        return [(-dx, -min(.15, h * .62), h), (dx, 0, h)]
    if count == 3:
        return [(0, -up, h), (-step / 2, 0, h), (step / 2, 0, h)]
    return [(-step / 2, -up, h), (step / 2, -up, h), (-step / 2, 0, h), (step / 2, 0, h)]


def draw_group(pen, scene, rng, rgb):
    """The object, as many times as stated, each with its shadow on the ground."""
    shape, height, ratio = OBJECT[scene.object]
    x = pen.w * (CENTRE[scene.position] + rng.uniform(-.025, .025))
    y, flip = rng.uniform(.86, .9), rng.choice((-1, 1))
    dim = .35 if scene.time == "night" else .5
    members = layout(scene.count, height * rng.uniform(.94, 1.04), ratio, GROUP * min(1, pen.w))
    for dx, dy, h in sorted(members, key=lambda m: m[1]):
        if not pen.wire:
            pen.ell(x + dx + .015, y + dy, h * ratio * .52, .018, scale((90, 86, 92), dim), line=0)
        shape(pen.at(x + dx, y + dy, h, flip), rgb)
        pen.mark("object", x + dx, y + dy - h / 2, h * ratio / 2, h / 2)


def draw_people(pen, scene, rng, rgbs):
    """Figures on the side that the object leaves free, in the order of the list from left to right."""
    slots = sorted(SLOTS[scene.position][:len(scene.people)])
    if len(scene.people) == 1:
        slots = [rng.choice(SLOTS[scene.position][:2])]
    for u, who in zip(slots, scene.people):
        x, y = min(max(pen.w * u + rng.uniform(-.012, .012), .1), pen.w - .11), rng.uniform(.92, .96)
        if not pen.wire:
            pen.ell(x + .01, y, .08, .014, scale((84, 80, 88), .45), line=0)
        person(pen, x, y, who, varied(rgbs[who.colour], rng), rng)
        pen.mark("person", x, y - .2, .1, .2)


def draw(scene, size: int = 128, seed: int = 0, aspect: float = 1.0) -> Image.Image:
    """The scene as an RGB picture `size` pixels high; scene and seed decide it, at every size."""
    return draw_marked(scene, size, seed, aspect)[0]


def draw_marked(scene, size: int = 128, seed: int = 0, aspect: float = 1.0) -> tuple[Image.Image, list]:
    """The drawing, and where its objects, people and light are: (kind, left, top, right, bottom) in picture heights."""
    width = max(8, round(size * aspect / 8) * 8)
    rows = PIXEL_ROWS if scene.style == "pixel art" else size
    pen = Pen(scene.style, scene.time, rows * 2, 2 * max(4, round(width * rows / size)))
    rngs = {part: random.Random(f"{seed}/{part}") for part in ("light", "object", "people", "weather")}
    rngs["place"] = random.Random(f"{seed % BACKDROPS}/{scene.place}")
    rgbs = colours()
    side = {"left": (.7, .85), "middle": (.15, .85), "right": (.15, .3)}[scene.position]
    light_xy = (pen.w * rngs["light"].choice(side), rngs["light"].uniform(.17, .2))
    light_rgb = LIGHT_RGB.get(scene.light_colour, (255, 255, 255))
    indoors = scene.place in INDOORS
    env = Env(pen, scene, rngs["place"], light_xy, light_rgb, indoors)
    if indoors:
        PLACE_IN[scene.place](env)
    else:
        outdoors_back(env)
    draw_group(pen, scene, rngs["object"], varied(rgbs[scene.colour], rngs["object"]))
    draw_people(pen, scene, rngs["people"], rgbs)
    if not indoors:
        env.rng = rngs["weather"]
        outdoors_front(env)
    small = pen.im.reduce(2)
    a = np.asarray(small)
    out = np.clip(FINISH[scene.style](pen, a, seed), 0, 255).astype(np.uint8)
    if scene.style == "pixel art":
        return pixelate(Image.fromarray(np.ascontiguousarray(out)), width, size), pen.marks
    return Image.fromarray(np.ascontiguousarray(out)), pen.marks


def sheet(n: int, seed: int, style: str | None, size: int = 192) -> Image.Image:
    """A contact sheet of random scenes with their captions."""
    rng, cols = random.Random(seed), 8
    out = Image.new("RGB", (cols * (size + 8), -(-n // cols) * (size + 56)), (250, 250, 250))
    pen = ImageDraw.Draw(out)
    for i in range(n):
        scene = sample_scene(rng)
        scene = type(scene)(**{**scene.__dict__, "style": style or STYLES[i % len(STYLES)]})
        x, y = i % cols * (size + 8) + 4, i // cols * (size + 56) + 4
        out.paste(draw(scene, size, seed=seed * 1000 + i), (x, y))
        words, lines = full_caption(scene).split(), [""]
        for word in words:
            if len(lines[-1]) + len(word) > 33:
                lines.append("")
            lines[-1] += word + " "
        pen.multiline_text((x, y + size + 1), "\n".join(lines), fill=(20, 20, 20), spacing=1, font_size=10)
    return out


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sheet", type=Path, required=True)
    parser.add_argument("--n", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--style", choices=STYLES)
    args = parser.parse_args()
    sheet(args.n, args.seed, args.style).save(args.sheet)


if __name__ == "__main__":
    main()
