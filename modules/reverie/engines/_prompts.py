"""Prompts as Stable Diffusion's users write them → the text encoders' embeddings.

    (word)  ((word))   1.1 times as strong, 1.21 times …        [word]   1.1 times weaker
    (word:1.3)         as strong as the number says             \\( \\) \\[ \\] \\\\   these letters themselves
    BREAK              the rest goes into the next chunk

The syntax and what it does are those of the A1111 family: a prompt longer than the encoder's 75 tokens is read in
chunks of 75, broken at a comma where one is near; a token's embedding is multiplied by its weight.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Any

from reverie.additions import word
from reverie.families import FAMILIES

STRONGER = 1.1
NEAR = 20  # tokens before a chunk's end, within which it is rather broken at a comma
_PART = re.compile(r"\\[()\[\]\\]|[(\[\])]|:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)|\bBREAK\b|[^\\()\[\]:B]+|.", re.DOTALL)
_CLOSES = {")": "(", "]": "["}


@dataclass(frozen=True)
class Piece:
    """A stretch of prompt with one weight; `breaks` ends the chunk before it."""

    text: str
    weight: float = 1.0
    breaks: bool = False


@dataclass(frozen=True)
class Token:
    """One token of a chunk; `vector` numbers the embedding's row that stands in its place."""

    id: int
    weight: float = 1.0
    embedding: str = ""
    vector: int = 0


def parse(prompt: str) -> list[Piece]:
    """The prompt's pieces, neighbours of one weight together. Brackets without a partner are letters or close at the end."""
    texts: list[list] = []  # [text, weight, breaks]
    opened: list[tuple[str, int]] = []

    def weigh(start: int, factor: float) -> None:
        for piece in texts[start:]:
            piece[1] *= factor

    for part in _PART.finditer(prompt):
        said, number = part[0], part[1]
        if said in ("(", "["):
            opened.append((said, len(texts)))
        elif number and opened and opened[-1][0] == "(":
            weigh(opened.pop()[1], float(number))
        elif said in _CLOSES and opened and opened[-1][0] == _CLOSES[said]:
            weigh(opened.pop()[1], STRONGER if said == ")" else 1 / STRONGER)
        elif said == "BREAK":
            texts.append(["", 1.0, True])
        else:
            texts.append([said[1:] if len(said) == 2 and said[0] == "\\" else said, 1.0, False])
    for bracket, start in reversed(opened):
        weigh(start, STRONGER if bracket == "(" else 1 / STRONGER)
    return _joined(texts)


def _joined(texts: list[list]) -> list[Piece]:
    pieces: list[Piece] = []
    for text, weight, breaks in texts:
        last = pieces[-1] if pieces else None
        if breaks:
            pieces.append(Piece("", 1.0, True))
        elif last and (last.weight == weight or not last.text):
            pieces[-1] = Piece(last.text + text, weight, last.breaks)
        else:
            pieces.append(Piece(text, weight))
    return pieces or [Piece("")]


def chunks(
    pieces: list[Piece], ids, limit: int, comma: int, embeddings: dict[str, int] | None = None
) -> list[list[Token]]:
    """Tokens in chunks of at most `limit`. `ids(text)` gives a text's token ids, `comma` is the comma's id,
    `embeddings` says how many rows each embedding has that may be named."""
    done: list[list[Token]] = []
    chunk: list[Token] = []
    for piece in pieces:
        if piece.breaks:
            done.append(chunk)
            chunk = []
        for group in _groups(piece, ids, embeddings or {}):
            if len(chunk) + len(group) > limit:
                keep = _break_at(chunk, limit, comma) if len(group) == 1 else len(chunk)
                done.append(chunk[:keep])
                chunk = chunk[keep:]
            chunk += group[:limit]
    return [*done, chunk]


def _groups(piece: Piece, ids, embeddings: dict[str, int]):
    """The piece's tokens one by one; those of an embedding stay together."""
    names = "|".join(f"(?P<e{index}>{word(name)})" for index, name in enumerate(embeddings))
    at = 0
    for found in re.finditer(names, piece.text) if names else ():
        yield from ([Token(id, piece.weight)] for id in ids(piece.text[at : found.start()]))
        name = list(embeddings)[int(found.lastgroup[1:])]
        yield [Token(0, piece.weight, name, row) for row in range(embeddings[name])]
        at = found.end()
    yield from ([Token(id, piece.weight)] for id in ids(piece.text[at:]))


def _break_at(chunk: list[Token], limit: int, comma: int) -> int:
    """How much of a full chunk stays in it: up to the last comma near its end."""
    for index in range(len(chunk) - 1, max(0, limit - NEAR) - 1, -1):
        if chunk[index].id == comma and not chunk[index].embedding:
            return index + 1
    return len(chunk)


# --------------------------------------------------------------------------------------------------------- encoding


def is_plain(prompt: str) -> bool:
    """Whether the prompt is read as it stands: no weights, escapes or breaks."""
    return parse(prompt) == [Piece(prompt)]


def encode(
    pipe, family: str, prompt: str, negative: str, guided: bool, embeddings: dict[str, dict[int, Any]]
) -> dict[str, Any]:
    """The prompts as arguments of the pipeline. `embeddings`: name → width of a text encoder → rows for it.

    What needs none of all this goes the pipeline's own way, which is the same for every picture drawn before.
    """
    import torch

    if FAMILIES[family].flow:
        return _by_pipeline(pipe, family, prompt, negative, guided)
    readers = _readers(pipe, family, embeddings)
    texts = [prompt, negative] if guided else [prompt]
    read = [[reader.chunks(text) for reader in readers] for text in texts]
    if (
        not embeddings
        and all(map(is_plain, texts))
        and (not FAMILIES[family].chunked or all(len(c) == 1 for text in read for c in text))
    ):
        return _plainly(pipe, prompt, negative, guided)
    length = max(len(chunked) for text in read for chunked in text)
    with torch.inference_mode():
        sides = [_side(readers, text, length) for text in read]
    if guided and not negative and getattr(pipe.config, "force_zeros_for_empty_prompt", False):
        sides[1] = tuple(torch.zeros_like(value) if value is not None else None for value in sides[0])
    names = [("prompt_embeds", "pooled_prompt_embeds"), ("negative_prompt_embeds", "negative_pooled_prompt_embeds")]
    return {name: value for pair, side in zip(names, sides) for name, value in zip(pair, side) if value is not None}


def count(pipe, family: str, prompt: str) -> tuple[int, int]:
    """(tokens of the prompt, tokens that the model reads of it)"""
    row = FAMILIES[family]
    if row.flow:
        tokenizer = getattr(pipe, list(row.tokenizers)[-1])
        tokens = len(tokenizer(plain(prompt), add_special_tokens=False, truncation=False).input_ids)
        return tokens, min(tokens, longest(pipe, family) - 2)
    reader = _readers(pipe, family, {})[0]
    tokens = sum(map(len, chunks(parse(prompt), reader.ids, 10**6, -1)))
    return tokens, tokens if row.chunked else min(tokens, reader.limit)


def longest(pipe, family: str) -> int:
    """Tokens that the longest text encoder of a flow model reads, with its own marks."""
    words = FAMILIES[family].words
    return 256 if family == "flux" and not pipe.transformer.config.guidance_embeds else words  # schnell was taught with 256


def plain(prompt: str) -> str:
    """The prompt without the marks of weights, for models that read sentences and no weights."""
    return " ".join("".join(" " if piece.breaks else piece.text for piece in parse(prompt)).split())


def _by_pipeline(pipe, family: str, prompt: str, negative: str, guided: bool) -> dict[str, Any]:
    import torch

    names = {
        "flux": ("prompt_embeds", "pooled_prompt_embeds"),
        "sd3": ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds"),
        "zimage": ("prompt_embeds", "negative_prompt_embeds"),
    }[family]
    guides = {"negative_prompt": plain(negative), "do_classifier_free_guidance": guided} if family != "flux" else {}
    others = {f"prompt_{number}": None for number in (2, 3)} if family == "sd3" else {}
    with torch.inference_mode():
        values = pipe.encode_prompt(
            prompt=plain(prompt), device=pipe._execution_device, max_sequence_length=longest(pipe, family), **others, **guides
        )
    return {name: value for name, value in zip(names, values) if value is not None and len(value)}


def _readers(pipe, family: str, embeddings: dict[str, dict[int, Any]]) -> list[_Reader]:
    return [
        _Reader(pipe, suffix, family, embeddings)
        for suffix in ("", "_2")  # the refiner has the second alone
        if getattr(pipe, f"text_encoder{suffix}", None) is not None
    ]


def _plainly(pipe, prompt: str, negative: str, guided: bool) -> dict[str, Any]:
    import torch

    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    with torch.inference_mode():
        values = pipe.encode_prompt(
            prompt=prompt,
            negative_prompt=negative or None,
            device=pipe._execution_device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=guided,
        )
    return {name: value for name, value in zip(names, values) if value is not None}


def _side(readers: list[_Reader], read: list[list[list[Token]]], length: int):
    """(embeddings of shape (1, length × window, width), pooled or None) of one prompt, filled up with empty chunks."""
    import torch

    results = [reader.embed(chunked + [[]] * (length - len(chunked))) for reader, chunked in zip(readers, read)]
    dtype = results[-1][0].dtype
    return torch.cat([states.to(dtype) for states, _ in results], dim=-1), results[-1][1]


class _Reader:
    """One tokenizer with its text encoder."""

    def __init__(self, pipe, suffix: str, family: str, embeddings: dict[str, dict[int, Any]]):
        self.tokenizer, self.encoder = getattr(pipe, f"tokenizer{suffix}"), getattr(pipe, f"text_encoder{suffix}")
        self.device, self.family = pipe._execution_device, family
        self._is_xl = family.startswith("sdxl")
        width = self.encoder.config.hidden_size
        self.rows = {name: rows[width] for name, rows in embeddings.items()}
        self.limit = min(self.tokenizer.model_max_length, self.encoder.config.max_position_embeddings) - 2

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, truncation=False).input_ids

    def chunks(self, text: str) -> list[list[Token]]:
        comma = (self.ids(",") or [-1])[-1]
        found = chunks(parse(text), self.ids, self.limit, comma, {name: len(rows) for name, rows in self.rows.items()})
        return found if FAMILIES[self.family].chunked else found[:1]

    def embed(self, chunked: list[list[Token]]):
        """(weighted states of all chunks in a row, pooled state of the first or None)."""
        import torch

        marks = self.tokenizer
        pad = marks.pad_token_id
        rows = [
            [marks.bos_token_id, *(t.id for t in c), marks.eos_token_id] + [pad] * (self.limit - len(c))
            for c in chunked
        ]
        weights = [[1.0, *(t.weight for t in c), 1.0] + [1.0] * (self.limit - len(c)) for c in chunked]
        ids = torch.tensor(rows, device=self.device)
        with self._standing_in(chunked):
            if self._is_xl:
                result = self.encoder(ids, output_hidden_states=True)
                states, pooled = result.hidden_states[-2], result[0][:1] if result[0].ndim == 2 else None
            else:
                states, pooled = self.encoder(ids)[0], None
        factor = torch.tensor(weights, device=states.device, dtype=states.dtype)[..., None]
        if (factor != 1).any():
            weighted = states * factor
            if not self._is_xl:  # SDXL's second-last states have a mean near zero, which is nothing to keep
                weighted = weighted * (states.mean(dim=(1, 2), keepdim=True) / weighted.mean(dim=(1, 2), keepdim=True))
            states = weighted
        return states.reshape(1, -1, states.shape[-1]), pooled

    @contextlib.contextmanager
    def _standing_in(self, chunked: list[list[Token]]):
        """Embeddings' rows in the places of their tokens while this lasts; tokenizer and weights stay as they are."""

        def replace(module, inputs, output):
            output = output.clone()
            for number, chunk in enumerate(chunked):
                for place, token in enumerate(chunk, 1):
                    if token.embedding:
                        output[number, place] = self.rows[token.embedding][token.vector].to(output)
            return output

        hook = self.encoder.get_input_embeddings().register_forward_hook(replace)
        try:
            yield
        finally:
            hook.remove()
