"""Indoor places; the hour shows through their windows and on their walls."""
import math

from draw_pen import circle, mix, scale
from draw_places import light_disc

FLOOR = .66


def pane(env, x0, y0, x1, y1, arch=False, lit=False, frame=(110, 80, 54)):
    """A window on the sky; the lit one shows the sun or the moon."""
    p, c = env.p, env.c(frame)
    cx, r = (x0 + x1) / 2, (x1 - x0) / 2
    g = .016
    if arch:
        p.poly([(x0 - g, y1 + g), *circle(cx, y0 + r, r + g, 24, math.pi)[:13], (x1 + g, y1 + g)], c)
        p.poly([(x0, y1), *circle(cx, y0 + r, r, 24, math.pi)[:13], (x1, y1)], mix(env.top, env.low, .25), line=.5)
    else:
        p.rect(x0 - g, y0 - g, x1 + g, y1 + g, c)
        p.rect(x0, y0, x1, y1, env.top, line=.5)
    for i in range(1, 5):
        a, b = (y0 + (y1 - y0) * i / 5, y0 + (y1 - y0) * (i + 1) / 5)
        if arch and a < y0 + r:
            continue
        if not p.wire:
            p.rect(x0 + .003, a, x1 - .003, b - .003, mix(env.top, env.low, (i + 1) / 5), line=0)
    if env.time == "night":
        for _ in range(7):
            p.ell(env.rng.uniform(x0 + .01, x1 - .01), env.rng.uniform(y0 + .03, y1 - .06), .005, .005, (240, 240, 255), line=0)
    p.poly([(x0, y1), (x0, y1 - .045), (cx, y1 - .07), (x1, y1 - .03), (x1, y1)], scale(env.low, .5), line=.4)
    if lit and env.scene.light:
        light_disc(env, cx, y0 + (y1 - y0) * .42, min(.075, r * .6))
    if not (lit and env.scene.light):
        p.line([(cx, y0), (cx, y1)], c, .012)
        p.line([(x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2)], c, .012)
    p.rect(x0 - .03, y1 + g, x1 + .03, y1 + g + .022, c, line=.7)


def patch(env, x, w):
    """The window's light on the floor."""
    floor = mix(env.low, (255, 250, 235), .25)
    env.p.poly([(x - w, .72), (x + w, .72), (x + w * 1.7 + .06, .94), (x - w * 1.1 + .06, .94)],
               mix(env.c((150, 120, 92)), floor, .45), line=0)


def window_x(env):
    """The side away from the object."""
    return env.w * {"left": .7, "middle": .22, "right": .3}[env.scene.position]


def boards(env, c, n=7):
    env.p.rect(-.02, FLOOR, env.w + .02, 1.02, c)
    for i in range(-3, n + 4):
        u = i / n
        env.p.line([(env.w * u, FLOOR), (env.w * (.5 + (u - .5) * 2.2), 1.02)], scale(c, .74), .006)


def room(env):
    p = env.p
    wall = env.c((216, 196, 160))
    p.rect(-.02, -.02, env.w + .02, FLOOR, wall, line=0)
    for i in range(12):
        p.line([(env.w * (i + .5) / 12, 0), (env.w * (i + .5) / 12, .5)], scale(wall, .92), .012)
    p.rect(-.02, .52, env.w + .02, FLOOR, env.c((152, 112, 78)))
    boards(env, env.c((160, 116, 76)))
    x = window_x(env)
    patch(env, x, .15)
    pane(env, x - .15, .1, x + .15, .46, lit=True)
    for s in (-1, 1):
        p.poly([(x + s * .13, .07), (x + s * .23, .07), (x + s * .21, .5), (x + s * .17, .3)], env.c((168, 92, 96)))
    p.line([(x - .26, .07), (x + .26, .07)], env.c((90, 66, 48)), .016)
    y = env.w - x + (.04 if env.scene.position == "middle" else 0)
    p.rect(y - .11, .14, y + .11, .34, env.c((170, 130, 60)))
    p.rect(y - .085, .165, y + .085, .315, env.c((196, 214, 200)), line=.6)
    p.poly([(y - .085, .315), (y - .03, .23), (y + .02, .28), (y + .05, .25), (y + .085, .315)], env.c((112, 136, 104)), line=.5)


def library(env):
    p, rng = env.p, env.rng
    p.rect(-.02, -.02, env.w + .02, FLOOR, env.c((92, 60, 40)), line=0)
    x, half = window_x(env), .13
    books = [env.c(c) for c in ((150, 64, 54), (64, 92, 120), (84, 116, 80), (190, 154, 92), (116, 80, 116), (206, 192, 164))]
    for row in range(4):
        y1 = .15 + row * .165
        u = .01
        while u < env.w - .01:
            bw, bh = rng.uniform(.02, .036), rng.uniform(.095, .135)
            if not x - half - .06 < u + bw / 2 < x + half + .06:
                p.rect(u, y1 - bh, u + bw, y1, rng.choice(books), line=.4)
            u += bw + (.03 if rng.random() < .07 else 0)
        p.rect(-.02, y1, env.w + .02, y1 + .022, env.c((124, 84, 54)), line=.6)
    boards(env, env.c((128, 88, 58)))
    p.rect(x - half - .045, 0, x + half + .045, FLOOR, env.c((150, 112, 78)))
    patch(env, x, half)
    pane(env, x - half, .06, x + half, .5, arch=True, lit=True)
    v = env.w - x + .06
    for s in (-.05, .05):
        p.line([(v + s, .02), (v + s * 1.5, .74)], env.c((190, 146, 92)), .015)
    for i in range(6):
        p.line([(v - .06, .1 + i * .11), (v + .06, .1 + i * .11)], env.c((190, 146, 92)), .012)


def flask(env, x, y, s, c, kind):
    p = env.p
    if kind:
        p.poly([(x - s * .18, y - s), (x + s * .18, y - s), (x + s * .18, y - s * .6), (x + s * .55, y), (x - s * .55, y),
                (x - s * .18, y - s * .6)], env.c((222, 236, 240)), line=.6)
        p.poly([(x - s * .34, y - s * .36), (x + s * .34, y - s * .36), (x + s * .55, y), (x - s * .55, y)], c, line=.4)
    else:
        p.rect(x - s * .26, y - s * 1.05, x + s * .26, y, env.c((222, 236, 240)), line=.6)
        p.rect(x - s * .26, y - s * .6, x + s * .26, y, c, line=.4)


def laboratory(env):
    p, rng = env.p, env.rng
    wall = env.c((178, 202, 204))
    p.rect(-.02, -.02, env.w + .02, FLOOR, wall, line=0)
    for i in range(1, 10):
        p.line([(env.w * i / 10, 0), (env.w * i / 10, FLOOR)], scale(wall, .9), .005)
    for i in range(1, 7):
        p.line([(0, i * .1), (env.w, i * .1)], scale(wall, .9), .005)
    x = window_x(env)
    glass = [mix(env.c(c), c, .4) for c in ((90, 200, 120), (230, 120, 170), (90, 170, 230), (240, 190, 80), (170, 110, 220))]
    pane(env, x - .14, .1, x + .14, .42, lit=True, frame=(120, 132, 140))
    lo, hi = ((.02, x - .2) if x > env.w / 2 else (x + .2, env.w - .02))
    for y in (.2, .4):
        u = lo + .04
        while u < hi - .03:
            flask(env, u, y, rng.uniform(.07, .095), rng.choice(glass), rng.random() < .6)
            u += rng.uniform(.085, .11)
        p.rect(lo, y, hi, y + .02, env.c((128, 100, 76)), line=.7)
    floor = env.c((150, 156, 160))
    p.rect(-.02, FLOOR, env.w + .02, 1.02, floor)
    for i in range(-4, 12):
        p.line([(env.w * i / 8, FLOOR), (env.w * (.5 + (i / 8 - .5) * 2.2), 1.02)], scale(floor, .8), .006)
    for y in (.71, .79, .9):
        p.line([(0, y), (env.w, y)], scale(floor, .8), .006)
    p.rect(-.02, .56, env.w + .02, .59, env.c((226, 226, 220)))
    p.rect(-.02, .59, env.w + .02, .7, env.c((106, 126, 136)))
    for u in (x - .09, x + .02, x + .1):
        flask(env, u, .56, .075, rng.choice(glass), True)


def hall(env):
    p = env.p
    wall = env.c((196, 186, 172))
    p.rect(-.02, -.02, env.w + .02, FLOOR, wall, line=0)
    light, dark = env.c((226, 218, 202)), env.c((128, 112, 104))
    p.rect(-.02, FLOOR, env.w + .02, 1.02, light)
    rows = (FLOOR, .7, .755, .83, .93, 1.04)
    for j in range(5):
        y0, y1 = rows[j], rows[j + 1]
        k0, k1 = (1 + (y - FLOOR) * 3.6 for y in (y0, y1))
        for i in range(-9, 9):
            if (i + j) % 2 == 0:
                a, b = (i * .13, (i + 1) * .13)
                m = env.w / 2
                p.poly([(m + a * k0, y0), (m + b * k0, y0), (m + b * k1, y1), (m + a * k1, y1)], dark, line=0)
    lit_first = window_x(env)
    spots = [env.w * u for u in (.18, .5, .82)]
    main = min(spots, key=lambda s: abs(s - lit_first))
    for x in spots:
        pane(env, x - .085, .08, x + .085, .5, arch=True, lit=x == main, frame=(150, 140, 130))
    for u in (.02, .34, .66, .98):
        x = env.w * u
        p.rect(x - .035, -.02, x + .035, .7, env.c((222, 212, 196)))
        p.rect(x + .012, -.02, x + .035, .7, env.c((168, 156, 146)), line=0)
        p.rect(x - .055, .67, x + .055, .715, env.c((206, 196, 182)))
        p.rect(x - .055, .02, x + .055, .06, env.c((206, 196, 182)))


def cave(env):
    p, rng = env.p, env.rng
    rock = env.c((104, 92, 88))
    p.rect(-.02, -.02, env.w + .02, 1.02, rock, line=0)
    x = window_x(env)
    for k, c in ((1.55, scale(rock, .84)), (1.28, scale(rock, .68))):
        p.poly([(x + (.2 + rng.uniform(-.02, .03)) * k * math.cos(a), .38 + .27 * k * math.sin(a))
                for a in [i * math.tau / 12 for i in range(12)]], c, line=.5)
    rim = [(x + (.2 + rng.uniform(-.025, .025)) * math.cos(a), .36 + .27 * math.sin(a) * rng.uniform(.9, 1.05))
           for a in [i * math.tau / 14 for i in range(14)]]
    p.poly(rim, mix(env.top, env.low, .65), line=1.2)
    p.poly([(x - .16, .5), (x - .08, .45), (x + .01, .49), (x + .09, .44), (x + .16, .5), (x + .09, .57), (x - .09, .57)],
           scale(env.low, .55), line=.5)
    if env.time == "night":
        for _ in range(8):
            p.ell(x + rng.uniform(-.12, .12), .3 + rng.uniform(-.12, .12), .005, .005, (240, 240, 255), line=0)
    if env.scene.light:
        light_disc(env, x, .3, .075)
    floor = env.c((132, 114, 100))
    p.poly([(-.02, .66), (env.w * .2, .63), (env.w * .5, .64), (env.w * .8, .62), (env.w + .02, .66), (env.w + .02, 1.02),
            (-.02, 1.02)], floor)
    p.poly([(x - .15, .66), (x + .15, .66), (x + .3, .96), (x - .25, .96)], mix(floor, env.low, .35), line=0)
    for i in range(9):
        u, h = env.w * (i + rng.uniform(.1, .9)) / 9, rng.uniform(.07, .22)
        if abs(u - x) < .2:
            h *= .35
        p.poly([(u - .05, -.02), (u + .05, -.02), (u + rng.uniform(-.01, .01), h)], scale(rock, .62))
    for u in (.02, env.w - .02, env.w - .1):
        p.poly([(u - .05, .74), (u + .05, .74), (u, .74 - rng.uniform(.1, .2))], scale(rock, .72))


PLACE_IN = {"cave": cave, "room": room, "library": library, "laboratory": laboratory, "hall": hall}
