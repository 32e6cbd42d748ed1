"""What every engine must do. A test class inherits `EngineContract` and gives the fixtures `engine` and `task`.

    engine   an open engine that stays usable from test to test
    task     a small Task it can do in a second or two, with at least four steps
"""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from reverie.errors import BadInput, Cancelled, ModelMissing


def never() -> bool:
    return False


class Heard:
    """Collects an engine's progress, and cancels after `stop_after` of its steps."""

    def __init__(self, stop_after: int = 0):
        self.all = []
        self.stop_after = stop_after

    def __call__(self, progress) -> None:
        self.all.append(progress)

    @property
    def steps(self) -> list:
        return [p for p in self.all if p.fraction > 0]

    def cancelled(self) -> bool:
        return bool(self.stop_after) and len(self.steps) >= self.stop_after


def difference(one, other) -> float:
    """Mean difference of two pictures in grey levels (0..255)."""
    return float(np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)).mean())


class EngineContract:
    def test_capabilities_name_kinds_and_samplers(self, engine):
        said = engine.capabilities()
        assert said["name"] and "txt2img" in said["kinds"] and said["samplers"]

    def test_a_task_makes_a_picture_of_its_size(self, engine, task):
        (picture,) = engine.run(task, [], lambda p: None, never)
        assert picture.image.size == (task.width, task.height)
        assert picture.image.mode == "RGB"
        assert picture.seed == task.seed

    def test_progress_rises_with_every_step_and_ends_at_one(self, engine, task):
        heard = Heard()
        engine.run(task, [], heard, never)
        fractions = [p.fraction for p in heard.all]
        assert fractions == sorted(fractions)
        assert len(heard.steps) >= task.steps
        assert fractions[-1] == pytest.approx(1.0)

    def test_the_first_note_says_in_one_line_how_it_runs(self, engine, task):
        heard = Heard()
        engine.run(task, [], heard, never)
        notes = [p.note for p in heard.all if p.note]
        assert notes and all("\n" not in note for note in notes)

    def test_previews_are_small_jpegs(self, engine, task):
        if not engine.capabilities().get("previews"):
            pytest.skip("this engine has no previews")
        heard = Heard()
        engine.run(task, [], heard, never)
        previews = [p.preview for p in heard.all if p.preview]
        assert previews
        with Image.open(io.BytesIO(previews[0])) as image:
            image.load()
            assert image.format == "JPEG" and max(image.size) <= 256

    def test_the_same_seed_draws_the_same_picture(self, engine, task):
        (one,) = engine.run(task, [], lambda p: None, never)
        (same,) = engine.run(task, [], lambda p: None, never)
        (other,) = engine.run(task.model_copy(update={"seed": task.seed + 1}), [], lambda p: None, never)
        assert difference(one.image, same.image) == 0
        assert difference(one.image, other.image) > 1

    def test_picture_i_of_a_batch_is_the_picture_of_its_seed_alone(self, engine, task):
        batch = engine.run(task.model_copy(update={"count": 3}), [], lambda p: None, never)
        assert [p.seed for p in batch] == [task.seed, task.seed + 1, task.seed + 2]
        for index, picture in enumerate(batch):
            (alone,) = engine.run(task.model_copy(update={"count": 3}).one(index), [], lambda p: None, never)
            assert difference(alone.image, picture.image) < 1.5

    def test_image_to_image_at_low_strength_stays_near_the_start(self, engine, task, tmp_path):
        if "img2img" not in engine.capabilities()["kinds"]:
            pytest.skip("this engine has no image to image")
        start = tmp_path / "start.png"
        engine.run(task, [], lambda p: None, never)[0].image.save(start)
        weak, strong = (
            engine.run(task.model_copy(update={"kind": "img2img", "denoise": d, "seed": 99}), [start], lambda p: None, never)
            for d in (0.2, 1.0)
        )
        with Image.open(start) as image:
            assert difference(weak[0].image, image) < difference(strong[0].image, image)

    def test_cancelling_stops_within_one_step_and_the_engine_lives_on(self, engine, task):
        heard = Heard(stop_after=2)
        with pytest.raises(Cancelled):
            engine.run(task.model_copy(update={"steps": 50}), [], heard, heard.cancelled)
        assert len(heard.steps) <= 4
        assert engine.run(task, [], lambda p: None, never)

    def test_cancelled_before_it_began_makes_nothing(self, engine, task):
        with pytest.raises(Cancelled):
            engine.run(task, [], lambda p: None, lambda: True)

    def test_an_unknown_sampler_is_refused_with_the_names_there_are(self, engine, task):
        with pytest.raises(BadInput, match="euler"):
            engine.run(task.model_copy(update={"sampler": "warp drive"}), [], lambda p: None, never)

    def test_a_missing_model_says_how_to_get_it(self, engine, task):
        with pytest.raises(ModelMissing) as caught:
            engine.run(task.model_copy(update={"model": "no-such-model"}), [], lambda p: None, never)
        assert caught.value.next_step

    def test_what_it_says_it_does_at_once_it_does_at_once(self, engine, task):
        number = engine.capabilities().get("at_once", 1)
        all_draw, fractions = threading.Barrier(number, timeout=300), [[] for _ in range(number)]

        def draw(index):
            def listen(progress):
                if progress.fraction > 0 and not any(fractions[index]):
                    all_draw.wait()  # nobody comes past here before all draw
                fractions[index].append(progress.fraction)

            return engine.run(task.model_copy(update={"seed": index}), [], listen, never)[0].seed

        with ThreadPoolExecutor(number) as threads:
            assert list(threads.map(draw, range(number))) == list(range(number))
        assert all(own == sorted(own) and own[-1] == pytest.approx(1.0) for own in fractions)

    def test_closing_twice_is_harmless_and_it_opens_again(self, engine, task):
        engine.close()
        engine.close()
        assert engine.run(task, [], lambda p: None, never)
