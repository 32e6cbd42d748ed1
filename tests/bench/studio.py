"""What studio, store and library cost per picture, with an engine that takes no time: submit, claim, PNG, library, events.

    python tests/bench/studio.py [--count 100] [--size 512]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "modules"))


class ReadyEngine:
    """Hands out one picture that it has made before: a gradient with noise, as dear to compress as a drawing."""

    def __init__(self, size: int):
        import numpy
        from PIL import Image

        ramp = numpy.linspace(0, 200, size)[None, :, None] + numpy.random.default_rng(0).normal(0, 6, (size, size, 3))
        self._image = Image.fromarray(ramp.clip(0, 255).astype("uint8"))

    def capabilities(self):
        return {"at_once": 1}

    def run(self, task, inputs, emit, cancelled):
        from reverie.engines import Picture, Progress

        for step in range(task.steps):
            emit(Progress((step + 1) / task.steps))
        return [Picture(self._image, task.seed)]

    def close(self) -> None:
        """Nothing to end."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--size", type=int, default=128, help="pixels")
    parser.add_argument("--model", default="pocket", help="whose fingerprint goes into the key")
    given = parser.parse_args()

    from reverie import media, settings
    from reverie.studio import Studio, make_task

    engine = ReadyEngine(given.size)
    started = time.perf_counter()
    for _ in range(20):
        media.encode_png(engine._image, make_task().model_dump(mode="json"))
    png_ms = (time.perf_counter() - started) / 20 * 1000
    times_ms = []
    with tempfile.TemporaryDirectory() as folder:
        home = replace(settings.load(), storage=Path(folder))
        with Studio.open(home, open_engine=lambda name, settings: engine) as studio:
            session = studio.session("bench")
            for seed in range(given.count):
                started = time.perf_counter()
                job = studio.submit(make_task(seed=seed, model=given.model, width=given.size, height=given.size), session)
                assert list(studio.follow([job]))[-1].kind == "succeeded"
                times_ms.append((time.perf_counter() - started) * 1000)
    print(f"{given.count} pictures of {given.size}x{given.size}, one after the other")
    print(f"overhead per picture: median {statistics.median(times_ms):.1f} ms, worst {max(times_ms):.1f} ms (of it PNG encoding {png_ms:.1f} ms)")


if __name__ == "__main__":
    main()
