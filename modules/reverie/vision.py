"""What a CLIP sees: texts and pictures as vectors that point the same way where they speak of the same.

The CLIP runs in a process of its own (`python -m reverie.vision`), like every model here: a crash or a full memory
ends the looking and not the notebook, stopping is ending the process, and its memory is free again afterwards. It
computes on the processor: a CLIP takes about a second a picture there, and a card's memory belongs to what draws.

    standard input    one line of JSON {clip, texts, pictures}; the process ends when this stream does
    standard output   lines of JSON: {scale}, then {vectors}, those of the texts first; or {error, what, next_step}

A vector is kept as text: base64 of little-endian float16 of length 1.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import subprocess
import sys
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Sequence

from reverie import errors, media, settings

BATCH = 8
TICK_S = 0.2  # a caller that waits hears at least that often, and may stop


@dataclass(frozen=True)
class Seen:
    """Vectors in the order of what was asked; `scale` is what the CLIP multiplies a cosine with before a softmax."""

    scale: float
    texts: list[str]
    pictures: list[str]


def look(clip: Path, texts: Sequence[str], pictures: Sequence[Path], log_file: Path) -> Iterator[float]:
    """Yields how far it is, 0..1, and gives back what the CLIP in the folder `clip` has Seen; closing it ends the work.

    Errors: BadInput (a picture that cannot be read), EngineFailed (the CLIP cannot be loaded), WorkerDied.
    """
    request = {"clip": str(clip), "texts": list(texts), "pictures": [str(path) for path in pictures]}
    scale, vectors, total = 1.0, [], max(1, len(texts) + len(pictures))
    with _Process(request, log_file) as process:
        while len(vectors) < len(texts) + len(pictures):
            yield len(vectors) / total
            message = process.next()
            if message is None:
                continue
            if "error" in message:
                raise errors.by_name(message["error"])(message["what"], message["next_step"])
            scale = message.get("scale", scale)
            vectors += message.get("vectors", [])
    return Seen(scale, vectors[: len(texts)], vectors[len(texts) :])


def cosines(some: Sequence[str], others: Sequence[str]):
    """Cosine of each of `some` vectors (rows) with each of the `others` (columns): float32 numpy array."""
    import numpy as np

    def array(vectors: Sequence[str]):
        rows = np.stack([np.frombuffer(base64.b64decode(vector), "<f2") for vector in vectors]).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    return array(some) @ array(others).T


class _Process:
    """The looking process from this side: what it says, and its end."""

    def __init__(self, request: dict[str, Any], log_file: Path):
        self._log_file, self._said = log_file, queue.Queue()
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with open(log_file, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "reverie.vision"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                env=settings.child_environment(),
                start_new_session=os.name == "posix",  # a Ctrl-C in the terminal is heard on this side only
            )
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended already: `next` says how

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            try:
                stream.close()
            except OSError:
                pass

    def next(self) -> dict[str, Any] | None:
        """Its next message, None when it has said nothing for a moment. WorkerDied when it is gone."""
        try:
            line = self._said.get(timeout=TICK_S)
        except queue.Empty:
            return None
        if line:
            return json.loads(line)
        code = self._process.wait()
        why = f"signal {-code}" if code < 0 else f"exit code {code}"
        remedy = f"Close other programs or take a smaller CLIP, and run it again. Details: {self._log_file}"
        raise errors.WorkerDied(f"The process that looks at the pictures ended ({why}).", remedy)

    def _listen(self) -> None:
        try:
            for line in self._process.stdout:
                self._said.put(line)
        except ValueError:
            return  # closed from this side
        self._said.put(b"")


# ------------------------------------------------------------------------------------------- inside the process


def main() -> None:
    """Answer the one request on standard input, then end."""
    request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes into the log
    try:
        for message in _answers(request):
            print(json.dumps(message), file=out, flush=True)
    except errors.ReverieError as error:
        told = {"error": type(error).__name__, "what": error.what, "next_step": error.next_step}
        print(json.dumps(told), file=out, flush=True)
    except Exception:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _end_with_the_parent() -> None:
    os.read(0, 1)
    os._exit(0)


def _answers(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    import torch

    model, tokenizer, processor = _load(Path(request["clip"]))
    longest, side = model.config.text_config.max_position_embeddings, model.config.vision_config.image_size
    with torch.inference_mode():
        yield {"scale": float(model.logit_scale.exp())}
        for texts in _batches(request["texts"]):
            tokens = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
            inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
            yield {"vectors": _written(model.text_projection(model.text_model(**inputs).pooler_output))}
        for paths in _batches(request["pictures"]):
            # Squeezed, not cropped: what stands at the sides of a wide picture is in its prompt too.
            images = [media.open_picture(Path(path)) for path in paths]
            whole = {"size": {"height": side, "width": side}, "do_center_crop": False}
            pixels = processor(images=images, **whole, return_tensors="pt").pixel_values
            yield {"vectors": _written(model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output))}


def _load(folder: Path):
    """Model in float32, tokenizer and picture processor. EngineFailed if any of them is not whole."""
    import torch
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    again = f"Fetch it again into {folder}"
    try:
        model, report = CLIPModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        parts = [kind.from_pretrained(folder, local_files_only=True) for kind in (AutoTokenizer, AutoImageProcessor)]
    except Exception as error:  # which ones, differs from version to version of the library
        traceback.print_exc()
        first = errors.first_line(error)
        raise errors.EngineFailed(f"The CLIP '{folder.name}' cannot be loaded: {first}.", again) from None
    if report["missing_keys"] or report.get("mismatched_keys"):
        raise errors.EngineFailed(f"The CLIP '{folder.name}' lacks weights.", again)
    return model.eval(), *parts


def _batches(things: list) -> Iterator[list]:
    return (things[start : start + BATCH] for start in range(0, len(things), BATCH))


def _written(vectors) -> list[str]:
    import torch

    halves = torch.nn.functional.normalize(vectors.float(), dim=-1).numpy().astype("<f2")
    return [base64.b64encode(half.tobytes()).decode() for half in halves]


if __name__ == "__main__":
    main()
