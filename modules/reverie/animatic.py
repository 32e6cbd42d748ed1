"""Scenes with pictures become a short film: slow camera moves, crossfades, a card for each chapter, captions.

Each picture is split into luma and chroma once, at a size near the film's. A frame is then one bilinear resample of each plane
from a window with subpixel borders (so nothing jumps from pixel to pixel), with no conversion of colours: some milliseconds of one core.
"""

from __future__ import annotations

import io
import statistics
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator

from reverie import film_plan, media, storyboard
from reverie.film_plan import FADE_S, FPS, Clip
from reverie.lettering import shape

SIZES = ((768, 432), (576, 432), (432, 576), (432, 768))  # pixels; square pictures take 576x432
CRF, PRESET, KEYFRAME_S = 20, "superfast", 4  # superfast: half the time of veryfast, some more bytes
SMPTE170M, LIMITED_RANGE = 6, 1  # the matrix that Pillow's YCbCr has, and the range that players expect
REPORT_FRAMES = 12  # progress is yielded, and stopping is possible, this often
CAPTION_FADE_S = 0.4
INK = (14, 16, 20)


def build(title: str, rows: list[dict[str, Any]], out_path, size: tuple[int, int] | None = None) -> Iterator[float]:
    """Write the film of `rows` (storyboard rows; scenes without a picture are left out) as H.264 in MP4; yields fractions 0..1.

    `size` in pixels, by default the one that fits the pictures. Closing the generator leaves what was there before. Nothing is
    written where no scene has a picture.
    """
    clips = film_plan.clips(title, rows)
    if clips:
        with media.staged(Path(out_path)) as part:
            yield from _encode(clips, size or size_for(rows), part)


def join(films: list[Path], out_path) -> None:
    """Write films of one size, made by `build`, one after the other into one, as they are."""
    import av

    with media.staged(Path(out_path)) as part, av.open(str(part), "w", format="mp4", options={"movflags": "+faststart"}) as whole:
        stream, begin = None, 0
        for film in films:
            with av.open(str(film)) as one:
                own = one.streams.video[0]
                stream = stream or whole.add_stream_from_template(own)
                for packet in one.demux(own):
                    if packet.dts is None:  # the mark of the end
                        continue
                    packet.dts, packet.pts, packet.stream = packet.dts + begin, packet.pts + begin, stream
                    whole.mux(packet)
                begin += round(own.frames / FPS / own.time_base)


def size_for(rows: list[dict[str, Any]]) -> tuple[int, int]:
    """The one of SIZES, in pixels, that cuts least off the usual picture."""
    from PIL import Image

    aspects = []
    for row in (row for chapter in film_plan.chapters(rows) for row in chapter):
        with Image.open(storyboard.images(row)[0]) as picture:
            aspects.append(picture.width / picture.height)
    usual = statistics.median(aspects)
    return max(SIZES, key=lambda size: round(min(usual, size[0] / size[1]) / max(usual, size[0] / size[1]), 3))


def _encode(clips: list[Clip], size: tuple[int, int], path: Path) -> Iterator[float]:
    import av

    total = round(clips[-1].end * FPS)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": str(CRF), "preset": PRESET, "g": str(KEYFRAME_S * FPS)})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.thread_count = 2
        context.colorspace, context.color_range = SMPTE170M, LIMITED_RANGE
        for number, planes in enumerate(_ahead(_frames(clips, size, total))):
            container.mux(stream.encode(_video_frame(planes, size, number)))
            if number % REPORT_FRAMES == 0:
                yield number / total
        container.mux(stream.encode())


def _ahead(frames):
    """The same frames, the next one already being made while this one is encoded."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, frames, None)
        while (frame := coming.result()) is not None:
            coming = pool.submit(next, frames, None)
            yield frame


def _video_frame(planes, size: tuple[int, int], number: int):
    import av
    import numpy as np

    width, height = size
    data = np.frombuffer(b"".join(plane.tobytes() for plane in planes), np.uint8)
    frame = av.VideoFrame.from_ndarray(data.reshape(height * 3 // 2, width), format="yuv420p")
    frame.pts = number
    return frame


def _frames(clips: list[Clip], size: tuple[int, int], total: int):
    """The film frame by frame, as planes; no more than two clips are open at a time."""
    stills: dict[int, _Still] = {}
    black = _planes_of(_plain(size))
    ends = [clip.start for clip in clips if clip.is_card][1:] + [clips[-1].end]  # of the chapters, each of which goes dark
    for number in range(total):
        now = number / FPS
        playing = [i for i, clip in enumerate(clips) if clip.start <= now < clip.end]
        stills = {i: stills.get(i) or _Still(clips[i], size) for i in playing}
        planes = stills[playing[0]].at(now)
        for i in playing[1:]:
            planes = _blend(planes, stills[i].at(now), film_plan.ease((now - clips[i].start) / FADE_S))
        left = next(end for end in ends if end > now) - now
        yield planes if left >= FADE_S else _blend(black, planes, film_plan.ease(left / FADE_S))


@dataclass
class _Still:
    """A clip's picture, ready to be filmed."""

    clip: Clip
    size: tuple[int, int]
    planes: tuple = field(init=False)
    words: tuple | None = field(init=False)

    def __post_init__(self):
        picture = _card(self.clip, self.size) if self.clip.is_card else media.open_picture(self.clip.picture)
        sharp = film_plan.window(0.0, 0.0, film_plan.TIGHTEST, picture.size, self.size)
        scale = self.size[0] / (sharp[2] - sharp[0])  # so that the closest view has a pixel of its own for each of the film's
        self.planes = _planes_of(_scaled(picture, scale))
        self.words = _caption(self.clip.caption, self.size) if self.clip.caption and not self.clip.is_card else None

    def at(self, now: float) -> tuple:
        """The planes of the frame at `now`, in seconds of the film."""
        from PIL import Image

        luma = self.planes[0]
        box = film_plan.view(self.clip, now, luma.size, self.size)
        frame = []
        for plane, size in zip(self.planes, _plane_sizes(self.size), strict=True):
            ratio = (plane.width / luma.width, plane.height / luma.height) * 2
            edges = [edge * part for edge, part in zip(box, ratio, strict=True)]
            inside = (max(0.0, edges[0]), max(0.0, edges[1]), min(plane.width, edges[2]), min(plane.height, edges[3]))
            frame.append(plane.resize(size, Image.Resampling.BILINEAR, box=inside))
        return self._captioned(frame, min(1.0, (now - self.clip.start - FADE_S / 2) / CAPTION_FADE_S))

    def _captioned(self, frame: list, strength: float) -> tuple:
        if self.words and strength > 0:
            for plane, (ink, mask, top) in zip(frame, self.words, strict=True):
                plane.paste(ink, (0, top), mask if strength == 1 else mask.point(lambda level: int(level * strength)))
        return tuple(frame)


def _plane_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    half = (size[0] // 2, size[1] // 2)
    return [size, half, half]


def _planes_of(picture) -> tuple:
    """An RGB picture as Y, Cb and Cr in video range, the colours at half size."""
    from PIL import Image

    luma, *chroma = picture.convert("YCbCr").split()
    half = (max(1, picture.width // 2), max(1, picture.height // 2))
    colours = [plane.resize(half, Image.Resampling.BOX).point(lambda level: round(128 + (level - 128) * 224 / 255)) for plane in chroma]
    return luma.point(lambda level: round(16 + level * 219 / 255)), *colours


def _blend(first: tuple, second: tuple, weight: float) -> tuple:
    from PIL import Image

    return tuple(Image.blend(a, b, weight) for a, b in zip(first, second, strict=True))


def _scaled(picture, scale: float):
    from PIL import Image

    if 1 <= scale < 1.05:
        return picture
    return picture.resize((max(2, round(picture.width * scale)), max(2, round(picture.height * scale))), Image.Resampling.LANCZOS)


def _plain(size: tuple[int, int]):
    from PIL import Image

    return Image.new("RGB", size, INK)


def _caption(text: str, size: tuple[int, int]) -> list[tuple]:
    """For each plane: what to paint, where it shows, and its top row. White letters with a soft shadow, on a light shade."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFilter

    width, height = size
    block = shape(text, round(width * 0.86), height // 5, round(height / 19 if width > height else width / 19), round(min(size) / 24))
    margin = round(height * 0.06)  # of the safe area
    tall = min(height, (block.height + margin + round(height * 0.09)) // 2 * 2)
    letters, shadow = Image.new("L", (width, tall)), Image.new("L", (width, tall))
    top = tall - margin - block.height
    block.draw(ImageDraw.Draw(letters), width / 2, top, 255, centred=True)
    block.draw(ImageDraw.Draw(shadow), width / 2, top, 255, centred=True, stroke_width=2, stroke_fill=255)
    white = np.asarray(letters, np.float32) / 255
    dark = np.asarray(shadow.filter(ImageFilter.GaussianBlur(1.6)), np.float32) / 255
    rise = np.minimum(1, np.linspace(0, 2, tall, dtype=np.float32))[:, None]
    shade = 1 - (1 - 0.5 * rise * rise * (3 - 2 * rise)) * (1 - 0.85 * dark)
    covered = 1 - (1 - shade) * (1 - white)
    luma = 16 + 219 * white / np.maximum(covered, 1e-3)
    mask = Image.fromarray(np.uint8(covered * 255 + 0.5))
    half = (width // 2, tall // 2)
    grey = (Image.new("L", half, 128), mask.resize(half, Image.Resampling.BOX), (height - tall) // 2)
    return [(Image.fromarray(np.uint8(np.minimum(luma, 235))), mask, height - tall), grey, grey]


def _card(clip: Clip, size: tuple[int, int]):
    """A chapter's title before its first picture, dark and out of focus; a little larger than the film, so that it can move."""
    from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

    picture = ImageOps.fit(media.open_picture(clip.picture), (size[0] // 4, size[1] // 4), Image.Resampling.BOX)
    blurred = ImageEnhance.Brightness(picture.filter(ImageFilter.GaussianBlur(5))).enhance(0.42)
    card = ImageOps.fit(blurred, size, Image.Resampling.BICUBIC)
    width, height = size
    pen = ImageDraw.Draw(card)
    above = shape(clip.kicker, round(width * 0.7), height // 8, round(min(size) / 20))
    block = shape(clip.caption, round(width * 0.76), round(height * 0.45), round(min(size) / 8), round(min(size) / 18), bold=True)
    gap = round(height * 0.035) if above.lines else 0
    top = (height - above.height - gap - block.height) / 2
    above.draw(pen, width / 2, top, (226, 222, 212), centred=True)
    block.draw(pen, width / 2, top + above.height + gap, (255, 255, 255), centred=True)
    return card


def subtitles(title: str, rows: list[dict[str, Any]]) -> str:
    """The captions, whole, as SubRip text with the film's times."""
    out = io.StringIO()
    spoken = [clip for clip in film_plan.clips(title, rows) if clip.subtitle]
    for number, clip in enumerate(spoken, 1):
        out.write(f"{number}\n{_stamp(clip.start + FADE_S / 2)} --> {_stamp(clip.end - FADE_S / 2)}\n{clip.subtitle}\n\n")
    return out.getvalue()


def _stamp(seconds: float) -> str:
    thousandths = round(seconds * 1000)
    return f"{thousandths // 3_600_000:02d}:{thousandths // 60_000 % 60:02d}:{thousandths // 1000 % 60:02d},{thousandths % 1000:03d}"
