"""Backgrounds: sky, weather and the fourteen places; lengths in picture heights."""
import math

from draw_pen import circle, mix, scale

HORIZON = .56
SKY = {"dawn": ((150, 160, 215), (255, 188, 168)), "day": ((74, 144, 226), (196, 228, 250)),
       "dusk": ((92, 48, 120), (250, 132, 48)), "night": ((8, 12, 42), (36, 52, 112))}
TINT = {"dawn": (1.0, .86, .84), "day": (1.0, 1.0, 1.0), "dusk": (.84, .6, .56), "night": (.34, .41, .62)}
INDOOR_TINT = {"dawn": (1.02, .88, .84), "day": (1.0, 1.0, 1.0), "dusk": (.92, .66, .48), "night": (.42, .46, .68)}
# weather -> grey of the sky by day, share of it
GREY = {"clear": ((255, 255, 255), 0), "cloudy": ((180, 188, 198), .28), "rain": ((112, 120, 134), .5),
        "snow": ((214, 220, 230), .35), "fog": ((214, 216, 218), .5), "storm": ((46, 48, 62), .62)}


class Env:
    """What a background needs to know: pen, scene, random numbers, colours of the hour."""

    def __init__(self, pen, scene, rng, light_xy, light_rgb, indoors):
        self.p, self.scene, self.rng, self.w = pen, scene, rng, pen.w
        self.time, self.weather, self.indoors = scene.time, scene.weather, indoors
        self.light_xy, self.light_rgb = light_xy, light_rgb
        top, low = SKY[self.time]
        grey, share = GREY[self.weather or "clear"]
        grey = scale(grey, TINT[self.time])
        self.top, self.low = mix(top, grey, share), mix(low, grey, share * .75)
        self.tint = (INDOOR_TINT if indoors else TINT)[self.time]
        self.dim = .72 if self.weather == "storm" else .86 if self.weather == "rain" else 1.0

    def c(self, rgb):
        """Scenery colour under the hour's light."""
        return scale(scale(rgb, self.tint), self.dim)

    def ground(self, rgb):
        """Ground colour, white under snow."""
        return self.c((236, 240, 246)) if self.weather == "snow" else self.c(rgb)

    def near_light(self, x, y, r):
        return self.scene.light and math.hypot(x - self.light_xy[0], y - self.light_xy[1]) < r


def ridge(env, base, amp, n, colour, bottom=1.0, line=.7):
    """A rolling outline filled down to `bottom`."""
    ph, fr = env.rng.uniform(0, 6), env.rng.uniform(.8, 1.3)
    pts = [(env.w * i / n, base - amp * (math.sin(ph + fr * 5 * i / n) * .6 + math.sin(ph * 2 + fr * 11 * i / n) * .4))
           for i in range(n + 1)]
    env.p.poly([(-.02, pts[0][1]), *pts, (env.w + .02, pts[-1][1]), (env.w + .02, bottom + .02), (-.02, bottom + .02)],
               colour, line=line)


def light_disc(env, x, y, r):
    """Sun with rays, or a crescent moon."""
    p, c = env.p, env.light_rgb
    p.mark("light", x, y, 1.3 * r, 1.3 * r)
    if env.scene.light == "sun":
        for i in range(12):
            a = i * math.tau / 12
            q = r * (1.75 if i % 2 else 1.5)
            p.line([(x + r * 1.15 * math.cos(a), y + r * 1.15 * math.sin(a)),
                    (x + q * math.cos(a), y + q * math.sin(a))], c, r * .2, spot=True)
        p.ell(x, y, r, r, c, spot=True, line=.8)
        return
    a0 = 1.15
    outer = [(x + r * math.cos(a), y + r * math.sin(a)) for a in [a0 + (math.tau - 2 * a0) * i / 22 for i in range(23)]]
    tip = r * math.sin(a0)
    cx, q = x + r * math.cos(a0) + r * .12, math.hypot(tip, r * .12)
    b0 = math.atan2(tip, -r * .12)
    inner = [(cx + q * math.cos(b), y + q * math.sin(b)) for b in
             [-b0 + (2 * b0 - math.tau) * i / 14 for i in range(15)]]
    p.poly(outer + inner, c, spot=True, line=.8)


def cloud(env, x, y, s, c):
    p = env.p
    for dx, dy, r in ((-.9, .1, .5), (.9, .12, .48), (-.35, -.2, .6), (.35, -.12, .58)):
        p.ell(x + dx * s, y + dy * s, r * s * 1.15, r * s, c, line=.7)
    p.ell(x, y + .12 * s, 1.15 * s, .42 * s, c, line=0)


def clouds(env):
    n, c = {"cloudy": (5, (240, 242, 246)), "rain": (6, (128, 136, 150)), "snow": (3, (226, 230, 238)),
            "storm": (7, (70, 72, 88))}.get(env.weather, (0, None))
    for i in range(n):
        x, y = env.w * (i + env.rng.uniform(.2, .8)) / n, env.rng.uniform(.06, .26)
        s = env.rng.uniform(.06, .1)
        if not env.near_light(x, y, .21):
            cloud(env, x, y, s, mix(env.c(c), env.low, .18))


def sky(env):
    p = env.p
    p.gradient(env.top, env.low, 0, HORIZON + .12)
    if env.time == "night":
        for _ in range(26 if env.weather == "clear" else 10):
            x, y, r = env.rng.uniform(0, env.w), env.rng.uniform(0, .45), env.rng.uniform(.003, .006)
            p.ell(x, y, r, r, (235, 238, 255), line=0)
    if env.time in ("dawn", "dusk"):
        for i in range(3):
            x, y = env.rng.uniform(0, env.w), env.rng.uniform(.36, .5)
            p.poly([(x - .2, y), (x, y - .012), (x + .2, y), (x, y + .01)], mix(env.low, (255, 235, 205), .5), line=0)
    if env.scene.light:
        light_disc(env, *env.light_xy, .1)
    clouds(env)


def tuft(env, c, y0, y1, n):
    for _ in range(n):
        x, y = env.rng.uniform(0, env.w), env.rng.uniform(y0, y1)
        s = .012 + .03 * (y - .5)
        for dx in (-.6, 0, .6):
            env.p.line([(x, y), (x + dx * s, y - s)], c, .006)


def field(env):
    ridge(env, .54, .05, 14, env.ground((128, 168, 130)))
    ridge(env, .6, .03, 14, env.ground((120, 176, 84)))
    ridge(env, .7, .02, 14, env.ground((104, 164, 66)))
    c = env.c((120, 86, 56))
    for i in range(9):
        x = env.w * (i + .5) / 9
        env.p.rect(x - .008, .59, x + .008, .68, c, line=.5)
    env.p.line([(0, .62), (env.w, .62)], c, .012)
    env.p.line([(0, .655), (env.w, .655)], c, .012)
    tuft(env, env.c((66, 118, 44)), .72, 1, 26)


def trunk(env, x, y, r, c):
    env.p.poly([(x - r, -.02), (x - r * .9, y - .08), (x - r * 1.7, y), (x + r * 1.7, y), (x + r * .9, y - .08),
                (x + r, -.02)], c)


def forest(env):
    p, rng = env.p, env.rng
    ridge(env, .42, .05, 16, env.c((52, 96, 66)))
    p.rect(-.02, .62, env.w + .02, 1.02, env.ground((74, 98, 50)))
    for i in range(8):
        x = env.w * (i + rng.uniform(.25, .75)) / 8
        if not env.near_light(x, .12, .16):
            trunk(env, x, rng.uniform(.62, .68), rng.uniform(.016, .026), env.c((94, 66, 44)))
    for i in range(11):
        x, y, r = env.w * i / 10, rng.uniform(-.02, .07), rng.uniform(.09, .13)
        if not env.near_light(x, y, .22):
            p.ell(x, y, r * 1.15, r, env.c(rng.choice(((44, 112, 52), (58, 128, 58), (36, 94, 50)))), line=.7)
    for i in range(9):
        x, r = env.w * (i + rng.uniform(0, 1)) / 9, rng.uniform(.03, .055)
        p.ell(x, .66, r * 1.3, r, env.ground((62, 120, 52)), line=.7)
    tuft(env, env.c((44, 74, 32)), .74, 1, 16)


def mountains(env):
    p, rng = env.p, env.rng
    centres = (.16, .52, .86)
    for i in (0, 2, 1):
        x, top, half = env.w * (centres[i] + rng.uniform(-.05, .05)), rng.uniform(.17, .27), rng.uniform(.28, .34)
        if env.near_light(x, top, .24):
            top = .34
        body, dark = env.c((134, 132, 146)), env.c((92, 92, 112))
        p.poly([(x - half, .64), (x - half * .4, top + .16), (x, top), (x + half * .45, top + .19), (x + half, .64)], body)
        p.poly([(x, top), (x + half * .45, top + .19), (x + half, .64), (x + .02, .64), (x + .05, top + .2)], dark, line=0)
        s = env.c((250, 250, 255))
        p.poly([(x, top), (x - half * .3, top + .12), (x - .06, top + .1), (x - .02, top + .15), (x + .04, top + .1),
                (x + half * .32, top + .135)], s, line=.7)
    ridge(env, .63, .02, 12, env.ground((120, 118, 108)))
    for _ in range(7):
        x, y, r = rng.uniform(0, env.w), rng.uniform(.66, .98), rng.uniform(.02, .05)
        p.poly([(x - r, y), (x - r * .6, y - r), (x + r * .3, y - r * 1.1), (x + r, y)], env.ground((140, 138, 136)), line=.7)


def desert(env):
    p, rng = env.p, env.rng
    ridge(env, .54, .05, 14, env.ground((226, 180, 110)))
    ridge(env, .64, .05, 14, env.ground((238, 200, 128)))
    ridge(env, .78, .03, 14, env.ground((246, 214, 146)))
    for x, s in ((env.w * rng.uniform(.04, .1), 1.1), (env.w * rng.uniform(.9, .96), 1), (env.w * rng.uniform(.45, .6), .7)):
        c, y, h = env.c((70, 128, 70)), .68, .3 * s
        p.line([(x, y), (x, y - h)], c, .042 * s)
        p.line([(x - .06 * s, y - h * .8), (x - .06 * s, y - h * .5), (x, y - h * .45)], c, .03 * s)
        p.line([(x + .06 * s, y - h * .9), (x + .06 * s, y - h * .65), (x, y - h * .6)], c, .03 * s)
    for _ in range(9):
        x, y = rng.uniform(0, env.w), rng.uniform(.7, .97)
        p.line([(x, y), (x + .05, y - .008), (x + .1, y)], env.c((206, 158, 92)), .006)


def sea(env):
    p, rng = env.p, env.rng
    p.rect(-.02, .5, env.w + .02, 1.02, env.c((44, 112, 172)))
    for _ in range(34):
        y = .52 + .28 * rng.random() ** .8
        x, s = rng.uniform(-.05, env.w), .03 + .14 * (y - .5)
        p.line([(x, y), (x + s * .5, y - s * .16), (x + s, y)], mix(env.c((44, 112, 172)), (255, 255, 255), .5), .009)
    ph = rng.uniform(0, 6)
    edge = [(env.w * i / 16, .82 + .014 * math.sin(ph + i * .9)) for i in range(17)]
    for lift, c in ((0, env.c((244, 248, 250))), (.022, env.ground((232, 206, 150)))):
        p.poly([*((x, y + lift) for x, y in edge), (env.w + .02, 1.02), (-.02, 1.02)], c, line=.4)


def river(env):
    p, rng = env.p, env.rng
    ridge(env, .56, .03, 12, env.ground((110, 148, 104)))
    p.rect(-.02, .6, env.w + .02, 1.02, env.ground((104, 150, 74)), line=.5)
    side, water = rng.choice((-1, 1)), env.c((58, 134, 196))
    left, right = [], []
    for i in range(15):
        t = i / 14
        y = .6 + .42 * t
        x = env.w * .5 + side * env.w * .3 * math.sin(t * 4.6) * (.35 + .65 * t)
        half = .05 + .26 * t
        left.append((x - half, y))
        right.append((x + half, y))
    p.poly(left + right[::-1], water)
    for _ in range(18):
        i = rng.randrange(1, 14)
        x = rng.uniform(left[i][0] + .02, right[i][0] - .06)
        p.line([(x, left[i][1]), (x + .05, left[i][1])], mix(water, (255, 255, 255), .5), .008)
    for i in range(7):
        x, r = env.w * (i + rng.uniform(.2, .8)) / 7, rng.uniform(.03, .05)
        p.ell(x, .585, r, r * 1.1, env.ground((72, 122, 66)), line=.7)
    for x in (.02, .05, env.w - .05, env.w - .02):
        p.line([(x, .95), (x + .01, .78)], env.c((80, 110, 46)), .01)
        p.ell(x + .01, .77, .011, .03, env.c((110, 70, 40)), line=.4)


def garden(env):
    p, rng = env.p, env.rng
    ridge(env, .52, .02, 10, env.c((110, 156, 110)))
    p.rect(-.02, .62, env.w + .02, 1.02, env.ground((122, 186, 84)), line=.5)
    hedge = env.ground((48, 122, 58))
    for i in range(6):
        x = env.w * (i + .5) / 6
        p.rect(x - env.w * .085, .5, x + env.w * .085, .66, hedge)
        p.ell(x, .46, .055, .06, hedge)
    p.poly([(env.w * .46, .66), (env.w * .54, .66), (env.w * .72, 1.02), (env.w * .28, 1.02)], env.ground((226, 206, 168)))
    for _ in range(34):
        x, y = rng.uniform(0, env.w), rng.uniform(.68, .99)
        if abs(x / env.w - .5) > .06 + (y - .66) * .5:
            c = env.c(rng.choice(((232, 92, 120), (250, 226, 110), (250, 250, 250), (200, 120, 220))))
            p.line([(x, y), (x, y + .02)], env.c((50, 110, 50)), .006)
            p.ell(x, y, .013, .013, c, line=.35)


def city(env):
    p, rng = env.p, env.rng
    lit = env.time in ("night", "dusk")
    x = -.03
    while x < env.w:
        bw, top = rng.uniform(.15, .23), rng.uniform(.14, .3)
        if env.near_light(x + bw / 2, .14, .24):
            top = rng.uniform(.32, .38)
        wall = env.c(rng.choice(((176, 160, 148), (150, 150, 160), (196, 178, 150), (160, 132, 120))))
        p.rect(x, top, x + bw, .66, wall)
        p.rect(x - .01, top - .02, x + bw + .01, top + .01, scale(wall, .75), line=.6)
        n = 3 if bw > .19 else 2
        y = top + .04
        while y < .56:
            for i in range(n):
                u = x + bw * (i + .5) / n
                on = lit and rng.random() < .7
                p.rect(u - .017, y, u + .017, y + .045, (252, 214, 96) if on else env.c((70, 84, 108)), line=.4)
            y += .085
        x += bw
    p.rect(-.02, .66, env.w + .02, .72, env.ground((178, 174, 170)))
    p.rect(-.02, .72, env.w + .02, 1.02, env.ground((112, 112, 120)))
    for i in range(5):
        u = env.w * (i + .3) / 5
        p.poly([(u, .86), (u + .09, .86), (u + .08, .88), (u - .01, .88)], env.ground((220, 216, 200)), line=0)


def column(env, x, y, r, h, c, broken):
    p = env.p
    top = y - h
    p.poly([(x - r, y), (x - r, top + (.03 if broken else 0)), (x, top - (.01 if broken else 0)),
            (x + r, top + (.05 if broken else 0)), (x + r, y)], c)
    p.rect(x + r * .3, top + .06, x + r, y, scale(c, .76), line=0)
    p.line([(x - r * .3, top + .05), (x - r * .3, y)], scale(c, .7), .006)
    p.rect(x - r * 1.5, y - .025, x + r * 1.5, y, c, line=.7)
    if not broken:
        p.rect(x - r * 1.5, top - .03, x + r * 1.5, top, c, line=.7)


def ruins(env):
    p, rng = env.p, env.rng
    ridge(env, .56, .03, 12, env.ground((150, 150, 112)))
    stone = env.c((206, 196, 172))
    p.rect(-.02, .64, env.w + .02, 1.02, env.ground((164, 154, 116)), line=.5)
    a = env.w * rng.choice((.32, .68))
    if env.near_light(a, .25, .3):
        a = env.w - a
    outer, inner = circle(a, .44, .17, 24, math.pi)[:13], circle(a, .44, .11, 24, math.pi)[:13]
    p.poly([(a - .17, .7), *outer, (a + .17, .7), (a + .11, .7), *inner[::-1], (a - .11, .7)], stone)
    for u in (.05, .18, .5, .82, .95):
        x = env.w * u
        if abs(x - a) > .2:
            h = rng.uniform(.16, .44)
            if env.near_light(x, .2, .2):
                h = .2
            column(env, x, rng.uniform(.68, .72), .032, h, stone, h < .4)
    for _ in range(7):
        x, y, s = rng.uniform(0, env.w), rng.uniform(.7, .97), rng.uniform(.02, .045)
        p.poly([(x - s, y), (x - s * .8, y - s), (x + s, y - s * .7), (x + s * .9, y)], stone, line=.7)


PLACE_OUT = {"field": field, "forest": forest, "mountains": mountains, "desert": desert, "sea": sea, "river": river,
             "garden": garden, "city": city, "ruins": ruins}


def lattice(env, step):
    """Points in staggered rows, in heights, and their numbers: falling rain and snow as a regular texture."""
    for row in range(-1, int(1 / step) + 1):
        for column in range(-1, int(env.w / step) + 2):
            yield row + column, (column + row % 2 / 2) * step, (row + .5 * (column % 2)) * step


def rain(env, step):
    p, c, ink = env.p, (215, 228, 245), env.p.style == "ink"
    if ink:
        c = (244, 246, 255) if env.time == "night" else (40, 40, 50)
    for _, x, y in lattice(env, step):
        p.line([(x, y), (x - .025, y + .07)], c, .008, spot=ink)


def snow(env):
    for number, x, y in lattice(env, 1 / 8):
        r = .014 if number % 2 else .01
        env.p.ell(x, y, r, r, (252, 252, 255), line=.5 if env.p.style == "ink" else 0)


def lightning(env):
    x = env.w * env.rng.uniform(.3, .7)
    if env.near_light(x, .15, .2):
        x = env.w - env.light_xy[0]
    pts = [(x, .1), (x + .07, .1), (x + .02, .25), (x + .075, .25), (x - .06, .52), (x - .02, .32), (x - .07, .32)]
    env.p.poly(pts, (255, 252, 200), spot=True, line=.7)


def fog_bands(env, n, lo, hi):
    c = mix(env.c((238, 240, 242)), (255, 255, 255), .2)
    for _ in range(n):
        x, y = env.rng.uniform(0, env.w), env.rng.uniform(lo, hi)
        env.p.ell(x, y, env.rng.uniform(.2, .4), env.rng.uniform(.012, .024), c, line=0)


def outdoors_back(env):
    """Sky and place, behind everybody."""
    sky(env)
    PLACE_OUT[env.scene.place](env)
    if env.weather == "storm":
        lightning(env)
    if env.weather == "fog":
        env.p.veil(env.c((225, 227, 230)), .2 if env.p.style == "ink" else .36)
        fog_bands(env, 9, .34, .74)


def outdoors_front(env):
    """Weather in front of everybody."""
    if env.weather in ("rain", "storm"):
        rain(env, 1 / 8 if env.weather == "rain" else 3 / 16)
    elif env.weather == "snow":
        snow(env)
    elif env.weather == "fog":
        env.p.veil(env.c((225, 227, 230)), .1)
        fog_bands(env, 3, .9, 1)
