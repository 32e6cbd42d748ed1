"""Pen that draws in unit coordinates (height = 1, y downwards) and puts shapes into a style's colours."""
import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

BLACK = (18, 16, 20)
SPOT_ALPHA = 200                 # alpha of pixels that keep their colour in ink and noir; others have 255
PIXEL_ROWS = 64                  # rows of a pixel art picture, whatever its size
WIRE_BACK = {"dawn": (62, 16, 40), "day": (6, 46, 70), "dusk": (56, 26, 2), "night": (4, 4, 18)}
NOIR_TONE = {"dawn": (1.06, .93, .95), "day": (1.0, 1.0, 1.0), "dusk": (1.06, .88, .68), "night": (1.2, 1.36, 1.7)}
INK_PAPER = {"dawn": (255, 222, 220), "day": (250, 250, 244), "dusk": (246, 198, 148), "night": (168, 178, 214)}


def mix(a, b, t):
    """Colour between a (t = 0) and b (t = 1)."""
    return tuple(int(u + (v - u) * t) for u, v in zip(a[:3], b[:3]))


def scale(c, f):
    """Colour multiplied by a number or by three."""
    f = f if isinstance(f, tuple) else (f, f, f)
    return tuple(max(0, min(255, int(u * v))) for u, v in zip(c, f))


def luminance(c):
    """0..255."""
    return .3 * c[0] + .59 * c[1] + .11 * c[2]


def tone_graphic(pen, c, spot):
    return c


def tone_watercolour(pen, c, spot):
    return mix(c, (252, 248, 238), .06 if spot else .24)


def tone_ink(pen, c, spot):
    if spot:
        return c
    g = 110 + .57 * luminance(c)
    return (int(g),) * 3


def tone_noir(pen, c, spot):
    if spot:
        return c
    g = luminance(c) / 255
    g = g * .45 + .55 * g * g * (3 - 2 * g)
    return scale((235 * g,) * 3, NOIR_TONE[pen.time])


def tone_wire(pen, c, spot):
    return mix(pen.back, c, .34 if spot else .05)


def edge_black(pen, c, spot):
    return BLACK


def edge_watercolour(pen, c, spot):
    return scale(c, .62)


def edge_noir(pen, c, spot):
    return (10, 10, 12)


def edge_wire(pen, c, spot):
    if spot:
        return scale(c, 1.3 if max(c) < 160 else 1.12)
    return mix(pen.back, mix(c, (205, 225, 235), .5), .55)


# style -> fill colour, outline colour, outline width in heights
STYLE = {"graphic novel": (tone_graphic, edge_black, .0085), "watercolour": (tone_watercolour, edge_watercolour, .005),
         "ink": (tone_ink, edge_black, .0085), "noir": (tone_noir, edge_noir, .007),
         "wireframe": (tone_wire, edge_wire, .011), "pixel art": (tone_graphic, edge_black, .010)}


class Pen:
    """Draws on an RGBA image `size` pixels high; every length is in picture heights."""

    def __init__(self, style, time, size, width):
        self.style, self.time, self.k = style, time, size
        self.w = width / size
        self.back = WIRE_BACK[time]
        self.tone, self.edge, self.thick = STYLE[style]
        self.wire = style == "wireframe"
        self.im = Image.new("RGBA", (width, size), (*self.back, 255))
        self.d = ImageDraw.Draw(self.im)
        self.marks = []

    def mark(self, kind, x, y, rx, ry):
        """Notes what lies about (x, y): (kind, left, top, right, bottom)."""
        self.marks.append((kind, *(round(v, 3) for v in (x - rx, y - ry, x + rx, y + ry))))

    def fill(self, c, spot):
        return (*self.tone(self, c, spot), SPOT_ALPHA if spot else 255)

    def poly(self, pts, c, spot=False, line=1.0):
        """A closed shape; `line` multiplies the outline's width, 0 for none (in wireframe then thin)."""
        k = self.k
        px = [(x * k, y * k) for x, y in pts]
        self.d.polygon(px, fill=self.fill(c, spot))
        if self.wire and line == 0:
            line = .6
        if line > 0:
            e = (*self.edge(self, c, spot), SPOT_ALPHA if spot else 255)
            self.d.line(px + px[:2], fill=e, width=max(1, round(self.thick * line * k)), joint="curve")

    def rect(self, x0, y0, x1, y1, c, spot=False, line=1.0):
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], c, spot, line)

    def ell(self, x, y, rx, ry, c, spot=False, line=1.0):
        """An ellipse about (x, y)."""
        k = self.k
        if self.wire and line == 0:
            line = .6
        e = (*self.edge(self, c, spot), SPOT_ALPHA if spot else 255) if line > 0 else None
        self.d.ellipse([(x - rx) * k, (y - ry) * k, (x + rx) * k, (y + ry) * k], fill=self.fill(c, spot), outline=e,
                       width=max(1, round(self.thick * line * k)) if line > 0 else 0)

    def line(self, pts, c, w, spot=False):
        """An open stroke `w` wide."""
        k = self.k
        fill = (*self.edge(self, c, spot), SPOT_ALPHA if spot else 255) if self.wire else self.fill(c, spot)
        if self.wire:
            w = min(w, self.thick)
        self.d.line([(x * k, y * k) for x, y in pts], fill=fill, width=max(1, round(w * k)), joint="curve")

    def gradient(self, top, bottom, y0=0.0, y1=1.0):
        """A vertical blend over the whole width."""
        a, b = round(y0 * self.k), round(y1 * self.k)
        if b <= a:
            return
        t = np.linspace(0, 1, b - a)[:, None]
        lo, hi = (np.array(self.tone(self, c, False), float) for c in (top, bottom))
        if self.wire:
            lo, hi = np.array(mix(self.back, (0, 0, 0), .25), float), np.array(mix(self.back, (255, 255, 255), .06))
        col = (lo + (hi - lo) * t).astype(np.uint8)[:, None, :]
        strip = Image.fromarray(np.ascontiguousarray(col)).convert("RGBA").resize((self.im.width, b - a))
        self.im.paste(strip, (0, a))

    def veil(self, c, t):
        """Blend the whole picture towards one colour."""
        solid = Image.new("RGBA", self.im.size, (*self.tone(self, c, False), 255))
        self.im = Image.blend(self.im, solid, t)
        self.d = ImageDraw.Draw(self.im)

    def at(self, x, y, h, flip=1):
        return Frame(self, x, y, h, flip)


class Frame:
    """A pen in an object's own coordinates: u to the right from its axis, v upwards from its foot, height = 1."""

    def __init__(self, pen, x, y, h, flip):
        self.pen, self.x, self.y, self.h, self.flip = pen, x, y, h, flip

    def pt(self, u, v):
        return self.x + self.flip * u * self.h, self.y - v * self.h

    def poly(self, pts, c, spot=True, line=1.0):
        self.pen.poly([self.pt(u, v) for u, v in pts], c, spot, line)

    def rect(self, u0, v0, u1, v1, c, spot=True, line=1.0):
        self.poly([(u0, v0), (u1, v0), (u1, v1), (u0, v1)], c, spot, line)

    def ell(self, u, v, ru, rv, c, spot=True, line=1.0):
        x, y = self.pt(u, v)
        self.pen.ell(x, y, ru * self.h, rv * self.h, c, spot, line)

    def line(self, pts, c, w, spot=True):
        self.pen.line([self.pt(u, v) for u, v in pts], c, w * self.h, spot)


@lru_cache(maxsize=16)
def grid(w, h):
    """x and y of the pixel centres, in heights."""
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    return (x + .5) / h, (y + .5) / h


def stripes(coord, per_height, duty):
    """0..1 ink of parallel lines, `per_height` of them in a height."""
    f = np.abs((coord * per_height) % 1 - .5) * 2
    return np.clip((duty - f) * 4 + .5, 0, 1)


@lru_cache(maxsize=16)
def hatching(w, h):
    """Three layers of strokes; like every texture they repeat after 1/16 of the height, one latent of `pocket`."""
    x, y = grid(w, h)
    return stripes(x + y, 16, .3), stripes(x - y, 16, .3), stripes(y, 16, .3)


@lru_cache(maxsize=64)
def noise(seed, cells, w, h):
    """Smooth noise about 0, `cells` in a height, the same at every size."""
    n = np.random.default_rng(seed).standard_normal((cells, max(1, round(cells * w / h)))).astype(np.float32)
    return np.asarray(Image.fromarray(n).resize((w, h), Image.BICUBIC))


def finish_ink(pen, a, seed):
    """Paper tinted by the hour, hatching where the drawing is dark, flat washes where it is coloured."""
    h, w = a.shape[:2]
    rgb, spot = a[..., :3].astype(np.float32), a[..., 3] < 245
    lum = rgb[..., 1] / 255
    h1, h2, h3 = hatching(w, h)
    dark = (h1 * np.clip((.8 - lum) * 6, 0, 1) * .4, h2 * np.clip((.65 - lum) * 8, 0, 1) * .35,
            h3 * np.clip((.545 - lum) * 9, 0, 1) * .35)
    keep = (1 - dark[0]) * (1 - dark[1]) * (1 - dark[2]) * np.clip((lum - .1) / .3, 0, 1)
    paper = np.array(INK_PAPER[pen.time], np.float32) * (.8 + .2 * np.clip(lum * 1.3, 0, 1))[..., None]
    return np.where(spot[..., None], rgb, paper * keep[..., None] + 14 * (1 - keep[..., None]))


def finish_noir(pen, a, seed):
    """Corners fall into shadow; colour stays on the object, the clothes and the light."""
    h, w = a.shape[:2]
    x, y = grid(w, h)
    rgb, spot = a[..., :3].astype(np.float32), a[..., 3] < 245
    side = 1 if seed % 2 else -1
    far = ((x / (w / h) - .5) * 1.5) ** 2 + ((y - .48) * 1.5) ** 2
    slant = np.clip((side * (x / (w / h) - .5) + (y - .5) * .5 + .48) * 5, .62, 1)
    shade = np.clip(1.18 - .8 * far, .25, 1.1) * slant
    return np.where(spot[..., None], rgb, rgb * shade[..., None])


def finish_watercolour(pen, a, seed):
    """Soft edges, an uneven wash and an uneven margin of bare paper."""
    h, w = a.shape[:2]
    im = Image.fromarray(a[..., :3]).filter(ImageFilter.GaussianBlur(h / 128 * .55))
    rgb = np.asarray(im).astype(np.float32)
    wash = 1 + .05 * noise(0, 6, w, h)
    x, y = grid(w, h)
    margin = np.minimum(np.minimum(x, w / h - x), np.minimum(y, 1 - y)) + .009 * noise(200, 14, w, h)
    m = np.clip((margin - .018) * 60, 0, 1)[..., None]
    return (rgb * wash[..., None] + 8) * m + np.array((250, 246, 236), np.float32) * (1 - m)


def finish_graphic(pen, a, seed):
    """Flat colours with a light halftone in the darker corner."""
    h, w = a.shape[:2]
    x, y = grid(w, h)
    rgb = a[..., :3].astype(np.float32)
    r = np.hypot(((x + y) * 16) % 1 - .5, ((x - y) * 16) % 1 - .5)
    dots = np.clip(((.34 - y) * 1.1 - r) * 6 + .5, 0, 1) * (a[..., 3] > 245)
    return rgb * (1 - .16 * dots)[..., None]


def finish_plain(pen, a, seed):
    return a[..., :3]


FINISH = {"graphic novel": finish_graphic, "watercolour": finish_watercolour, "ink": finish_ink, "noir": finish_noir,
          "wireframe": finish_plain, "pixel art": finish_plain}


def pixelate(im, width, height):
    """Few colours, then blocks."""
    a = np.asarray(im)[..., :3].astype(np.int16)
    a = np.minimum(a // 28 * 28 + 14, 250).astype(np.uint8)
    return Image.fromarray(a).resize((width, height), Image.NEAREST)


def circle(x, y, r, n=18, start=0.0):
    """Points on a circle."""
    return [(x + r * math.cos(start + i * math.tau / n), y + r * math.sin(start + i * math.tau / n)) for i in range(n)]
