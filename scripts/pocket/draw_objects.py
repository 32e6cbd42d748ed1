"""Objects and people; each is drawn in its own frame (foot at v = 0, top at v = 1)."""
import math

from draw_pen import circle, mix, scale

DARK = (42, 36, 40)
SKIN = (236, 190, 156)
STEEL = (120, 124, 134)
WOOD = (92, 62, 42)
GLASS = (38, 46, 66)


def shades(c):
    """Light side, colour, shadow side."""
    return mix(c, (255, 255, 255), .28), c, scale(c, .7)


def house(f, c):
    lt, md, dk = shades(c)
    f.rect(.22, .62, .34, .98, dk)
    f.rect(-.46, 0, .46, .56, md)
    f.rect(.2, 0, .46, .56, dk)
    f.poly([(-.58, .54), (-.34, .95), (.34, .95), (.58, .54)], scale(c, .58))
    f.rect(-.1, 0, .1, .36, DARK)
    f.rect(-.38, .2, -.2, .42, (250, 226, 140))
    f.rect(.26, .2, .4, .42, (250, 226, 140))


def castle(f, c):
    lt, md, dk = shades(c)
    f.rect(-.34, 0, .34, .52, md)
    for u in (-.28, -.12, .04, .2):
        f.rect(u, .52, u + .09, .6, md)
    for u, top, col in ((-.42, .74, lt), (.42, .74, dk), (0, .84, md)):
        f.rect(u - .12, 0 if u else .3, u + .12, top, col)
        f.poly([(u - .16, top - .01), (u, top + .24 - .08 * (u == 0)), (u + .16, top - .01)], scale(c, .55))
        f.rect(u - .03, top - .2, u + .03, top - .07, DARK, line=0)
    f.poly([(-.1, 0), (-.1, .2), (0, .28), (.1, .2), (.1, 0)], DARK)


def tower(f, c):
    lt, md, dk = shades(c)
    f.poly([(-.17, 0), (-.12, .7), (.12, .7), (.17, 0)], md)
    f.poly([(.05, 0), (.04, .7), (.12, .7), (.17, 0)], dk, line=0)
    f.rect(-.17, .68, .17, .76, lt)
    f.rect(-.09, .76, .09, .86, (250, 232, 150))
    f.poly([(-.15, .86), (0, 1), (.15, .86)], scale(c, .6))
    for v in (.2, .42):
        f.rect(-.05, v, .03, v + .11, DARK, line=0)
    f.rect(-.06, 0, .06, .13, DARK, line=0)


def statue(f, c):
    lt, md, dk = shades(c)
    f.rect(-.24, 0, .24, .1, dk)
    f.rect(-.19, .1, .19, .28, md)
    f.poly([(-.14, .28), (-.1, .6), (-.14, .8), (.14, .8), (.1, .6), (.16, .28)], lt)
    f.poly([(.02, .28), (.02, .8), (.14, .8), (.1, .6), (.16, .28)], md, line=0)
    f.line([(.12, .78), (.26, .98)], md, .075)
    f.line([(-.12, .77), (-.2, .6), (-.08, .52)], lt, .07)
    f.ell(0, .89, .075, .09, lt)


def tree(f, c):
    lt, md, dk = shades(c)
    f.poly([(-.07, 0), (-.04, .45), (.04, .45), (.08, 0)], WOOD, spot=False)
    for u, v, r, col in ((.16, .5, .18, dk), (-.18, .52, .19, md), (.14, .72, .18, md), (-.04, .78, .21, lt),
                         (0, .58, .2, md)):
        f.ell(u, v, r, r, col, line=.8)
    f.ell(-.06, .76, .13, .12, lt, line=0)


def boat(f, c):
    lt, md, dk = shades(c)
    f.line([(0, .2), (0, 1)], WOOD, .04, spot=False)
    f.poly([(-.04, .3), (-.04, .95), (-.48, .32)], (246, 242, 230))
    f.poly([(.04, .32), (.04, .9), (.4, .32)], mix(c, (255, 255, 255), .12))
    f.poly([(-.6, .26), (.6, .26), (.42, 0), (-.42, 0)], md)
    f.poly([(-.52, .13), (.5, .13), (.42, 0), (-.42, 0)], dk, line=0)


def wheel(f, u, v, r, spoke=WOOD):
    f.ell(u, v, r, r, DARK)
    f.ell(u, v, r * .68, r * .68, (222, 208, 180))
    f.line([(u - r * .7, v), (u + r * .7, v)], spoke, .03, spot=False)
    f.line([(u, v - r * .7), (u, v + r * .7)], spoke, .03, spot=False)


def carriage(f, c):
    lt, md, dk = shades(c)
    f.poly([(-.5, .3), (-.62, .98), (.62, .98), (.5, .3)], md)
    f.poly([(-.66, .88), (.66, .88), (.6, 1), (-.6, 1)], dk)
    f.rect(-.42, .52, -.14, .8, (236, 232, 214))
    f.rect(.14, .52, .42, .8, (236, 232, 214))
    f.rect(-.09, .34, .09, .82, lt)
    f.line([(.5, .36), (.85, .3)], WOOD, .05)
    wheel(f, -.4, .24, .24)
    wheel(f, .4, .24, .24)


def gear(f, u, v, r, c):
    pts = []
    for i in range(20):
        q = r * (1.22 if i % 4 < 2 else .92)
        pts.append((u + q * math.cos(i * math.tau / 20), v + q * math.sin(i * math.tau / 20)))
    f.poly(pts, c)
    f.ell(u, v, r * .38, r * .38, DARK)


def machine(f, c):
    lt, md, dk = shades(c)
    f.rect(.18, .6, .36, 1, dk)
    f.rect(-.52, .06, .52, .66, md)
    f.rect(-.52, .06, .52, .2, dk)
    f.rect(-.58, 0, .58, .07, DARK)
    gear(f, -.22, .42, .19, lt)
    gear(f, .16, .36, .13, STEEL)
    f.ell(.38, .5, .08, .08, (245, 240, 210))
    f.line([(-.4, .66), (-.48, .95)], STEEL, .05)
    f.ell(-.48, .95, .06, .06, (210, 60, 50))


def horse(f, c):
    lt, md, dk = shades(c)
    f.poly([(-.46, .6), (-.62, .5), (-.62, .2), (-.54, .3), (-.48, .46)], scale(c, .5))
    for u, col in ((-.32, dk), (.22, dk)):
        f.rect(u + .08, 0, u + .16, .4, col)
    for u in (-.42, .24):
        f.poly([(u, 0), (u - .01, .45), (u + .13, .45), (u + .09, 0)], md)
    f.ell(-.06, .52, .42, .19, md)
    f.poly([(.18, .52), (.3, .86), (.4, 1), (.47, .92), (.68, .76), (.64, .66), (.46, .7), (.38, .46)], md)
    f.poly([(.16, .64), (.28, .92), (.4, 1), (.36, .84), (.24, .58)], scale(c, .5))
    f.ell(.48, .83, .022, .022, DARK, line=0)


def dog(f, c):
    lt, md, dk = shades(c)
    f.line([(-.5, .52), (-.72, .86)], md, .1)
    for u, col in ((-.34, dk), (.3, dk)):
        f.rect(u, 0, u + .12, .36, col)
    for u in (-.5, .16):
        f.rect(u, 0, u + .13, .4, md)
    f.poly([(-.56, .34), (-.54, .66), (.34, .7), (.42, .3)], md)
    f.ell(.42, .76, .23, .21, md)
    f.poly([(.52, .86), (.84, .76), (.82, .62), (.5, .6)], lt)
    f.poly([(.24, .92), (.2, .56), (.36, .66), (.4, .92)], dk)
    f.ell(.82, .74, .05, .05, DARK, line=0)
    f.ell(.5, .82, .035, .035, DARK, line=0)


def bird(f, c):
    lt, md, dk = shades(c)
    for u in (-.06, .08):
        f.line([(u, .3), (u + .02, 0), (u + .12, 0)], (215, 130, 40), .04)
    f.poly([(-.3, .44), (-.78, .34), (-.74, .2), (-.2, .3)], dk)
    f.ell(0, .48, .36, .25, md)
    f.ell(.26, .76, .2, .19, md)
    f.poly([(.43, .82), (.7, .74), (.43, .68)], (240, 165, 40))
    f.poly([(.14, .58), (-.5, .5), (-.22, .34), (.08, .38)], dk)
    f.ell(.32, .8, .04, .04, DARK, line=0)


def flower(f, c):
    lt, md, dk = shades(c)
    f.line([(0, 0), (.02, .3), (0, .66)], (52, 120, 58), .05, spot=False)
    f.poly([(0, .12), (-.26, .34), (-.22, .14)], (62, 138, 66), spot=False)
    f.poly([(0, .2), (.26, .42), (.22, .2)], (50, 116, 56), spot=False)
    for i, (u, v) in enumerate(circle(0, .73, .17, 7)):
        f.ell(u, v, .115, .115, md if i % 2 else lt, line=.8)
    f.ell(0, .73, .1, .1, (96, 62, 28) if c[0] > 215 and c[1] > 180 and c[2] < 120 else (248, 206, 60))


def table(f, c):
    lt, md, dk = shades(c)
    for u in (-.56, .48):
        f.rect(u, .16, u + .09, .8, dk)
    for u in (-.72, .62):
        f.rect(u, 0, u + .1, .74, md)
    f.poly([(-.8, .72), (-.62, .98), (.62, .98), (.8, .72)], lt)
    f.rect(-.8, .6, .8, .73, md)


def chair(f, c):
    lt, md, dk = shades(c)
    f.rect(-.22, .08, -.14, .46, dk)
    f.rect(.3, .08, .37, .46, dk)
    f.poly([(-.36, .42), (-.3, 1), (.12, 1), (.1, .46)], md)
    f.poly([(-.26, .54), (-.22, .9), (.04, .9), (.03, .54)], lt)
    f.poly([(-.38, .4), (-.22, .52), (.4, .52), (.32, .4)], lt)
    f.rect(-.38, .32, .32, .41, md)
    f.rect(-.38, 0, -.29, .33, md)
    f.rect(.22, 0, .31, .33, md)


def bed(f, c):
    lt, md, dk = shades(c)
    f.rect(-.86, 0, -.74, 1, WOOD)
    f.rect(.76, 0, .86, .62, WOOD)
    f.rect(-.76, .14, .78, .36, dk)
    f.poly([(-.76, .34), (-.62, .62), (.68, .62), (.78, .34)], md)
    f.poly([(-.2, .34), (-.12, .62), (.68, .62), (.78, .34)], md)
    f.poly([(-.74, .5), (-.64, .76), (-.34, .74), (-.36, .48)], (248, 246, 240))


def lamp(f, c):
    lt, md, dk = shades(c)
    f.ell(0, .04, .18, .05, DARK)
    f.rect(-.028, .04, .028, .62, STEEL)
    f.ell(0, .6, .06, .05, (255, 240, 170))
    f.poly([(-.28, .6), (-.15, .98), (.15, .98), (.28, .6)], md)
    f.poly([(-.18, .6), (-.1, .98), (.02, .98), (0, .6)], lt, line=0)
    f.poly([(.14, .6), (.08, .98), (.15, .98), (.28, .6)], dk, line=0)


def fire(f, c):
    lt, md, dk = shades(c)
    f.poly([(-.3, .1), (-.4, .42), (-.24, .62), (-.2, .46), (-.06, 1), (.1, .6), (.2, .78), (.38, .42), (.28, .1)], md)
    f.poly([(-.18, .1), (-.2, .36), (-.06, .62), (.06, .4), (.14, .5), (.2, .3), (.16, .1)],
           mix(c, (255, 255, 255), .5), line=.5)
    f.poly([(-.42, 0), (-.42, .1), (.36, .2), (.38, .1)], WOOD)
    f.poly([(.42, 0), (.42, .1), (-.36, .2), (-.38, .1)], scale(WOOD, .75))


# object -> drawing, height of a single one (picture heights), width over height
OBJECT = {"house": (house, .42, 1.16), "castle": (castle, .5, 1.12), "tower": (tower, .56, .36),
          "statue": (statue, .48, .52), "tree": (tree, .54, .76), "boat": (boat, .42, 1.2),
          "carriage": (carriage, .32, 1.5), "machine": (machine, .38, 1.18), "horse": (horse, .37, 1.32),
          "dog": (dog, .29, 1.6), "bird": (bird, .31, 1.5), "flower": (flower, .44, .58), "table": (table, .28, 1.62),
          "chair": (chair, .42, .8), "bed": (bed, .27, 1.74), "lamp": (lamp, .48, .58), "fire": (fire, .36, .84)}


def legs(f, pose, c, foot=DARK):
    a, b = {"standing": (-.06, .06), "walking": (-.17, .17)}[pose]
    for u0, u1, k in ((-.04, a, .8), (.04, b, 1)):
        f.line([(u0, .42), (u1, .03)], scale(c, k), .085, spot=False)
        f.ell(u1 + .03, .025, .065, .03, foot, line=0)


def head(f, kind, hair, v=.875, u=0.0):
    if kind == "woman":
        f.ell(u - .02, v - .01, .095, .115, hair)
        f.ell(u - .05, v + .1, .05, .045, hair)
    f.ell(u + .015, v, .068, .082, SKIN, spot=False, line=.8)
    if kind == "man":
        f.rect(u - .075, v + .055, u + .085, v + .13, DARK)
        f.rect(u - .125, v + .04, u + .14, v + .065, DARK)
    elif kind == "child":
        f.poly([(u - .08, v - .02), (u - .07, v + .09), (u + .03, v + .115), (u + .095, v + .05), (u, v + .045)], hair)
    else:
        f.poly([(u - .08, v - .02), (u - .06, v + .09), (u + .04, v + .09), (u + .085, v + .02), (u, v + .035)], hair)


def upright(f, kind, c, pose, hair):
    """A standing or walking figure."""
    lt, md, dk = shades(c)
    swing = .16 if pose == "walking" else .03
    if kind != "woman" or pose == "walking":
        legs(f, pose, (58, 56, 70) if kind == "man" else (196, 150, 124))
    f.line([(-.1, .72), (-.17 - swing * .3, .56), (-.15 - swing, .44)], dk, .075)
    if kind == "woman":
        hem = .06 if pose == "standing" else .15
        f.poly([(-.09, .78), (-.08, .58), (-.25, hem), (.25, hem), (.08, .58), (.1, .78)], md)
        f.poly([(.03, .78), (.02, .58), (.08, hem), (.25, hem), (.08, .58), (.1, .78)], dk, line=0)
    else:
        low = .3 if kind == "man" else .34
        f.poly([(-.12, .79), (-.1, .55), (-.18, low), (.18, low), (.1, .55), (.13, .79)], md)
        f.poly([(.03, .79), (.03, low), (.18, low), (.1, .55), (.13, .79)], dk, line=0)
    f.line([(.11, .73), (.17 + swing * .4, .57), (.16 + swing, .46)], md, .075)
    f.ell(.16 + swing, .43, .032, .032, SKIN, spot=False, line=0)
    head(f, kind, hair)


def seated(f, kind, c, hair):
    """A figure on a block, in profile; the same head size as when upright."""
    lt, md, dk = shades(c)
    skin = (58, 56, 70) if kind == "man" else (196, 150, 124)
    f.rect(-.24, 0, .08, .26, (120, 112, 104), spot=False)
    f.line([(.22, .34), (.26, .04)], skin, .09, spot=False)
    f.ell(.3, .025, .075, .035, DARK, line=0)
    if kind == "woman":
        f.poly([(-.16, .24), (-.14, .4), (.2, .42), (.32, .3), (.34, .09), (.14, .09), (.1, .26)], md)
    else:
        f.poly([(-.16, .25), (-.16, .4), (.24, .42), (.27, .26)], dk)
    f.poly([(-.16, .3), (-.13, .68), (.11, .68), (.12, .34)], md)
    f.line([(.02, .62), (.1, .46), (.24, .46)], dk, .075)
    f.ell(.26, .46, .032, .032, SKIN, spot=False, line=0)
    head(f, kind, hair, .765)


KIND_HEIGHT = {"man": .43, "woman": .41, "child": .29}      # picture heights, upright
HAIRS = ((58, 40, 30), (96, 62, 34), (30, 26, 30), (168, 120, 62))


def person(pen, x, y, who, colour, rng):
    """One figure with its feet at (x, y)."""
    h = KIND_HEIGHT[who.kind] * rng.uniform(.95, 1.05)
    hair, flip = rng.choice(HAIRS), rng.choice((-1, 1))
    f = pen.at(x, y, h, flip)
    if who.pose == "sitting":
        seated(f, who.kind, colour, hair)
    else:
        upright(f, who.kind, colour, who.pose, hair)
