"""How many tokens a text encoder makes of a prompt: by the model's own tokenizer where it is here, else by an over-estimate."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from reverie.families import FAMILIES, Family
from reverie.settings import config

CLIP_LIMIT = 75  # 77 with the marks of beginning and end
QWEN_FRAME = 16  # more tokens than a chat model is given around a person's words
QWEN_MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")  # the first of its marks, in their places


@dataclass(frozen=True)
class Counter:
    """`count` gives a text's tokens without the encoder's own marks; more than `limit` are not read."""

    count: Callable[[str], int]
    limit: int
    estimated: bool = False


def counter(model: Path | None, family: str, assets: Path) -> Counter | None:
    """The counter of the model in the folder or file `model`: its tokenizers, or CLIP's for the SD families; None when neither is here.

    Of several tokenizers (SDXL has two) the one that makes most counts. Loads no torch and no transformers.
    """
    row = FAMILIES.get(family)
    if row and row.flow:
        return _longest(model, row, assets)
    folders = sorted(model.glob("tokenizer*")) if model is not None and model.is_dir() else []
    found = [c for folder in folders if (c := _of_folder(folder, model)) is not None]
    if not found and family in config("prompts")["clip"]:
        found = [c for c in [_clip(assets / "configs" / "clip" / "merges.txt")] if c is not None]
    if not found:
        return None
    return found[0] if len(found) == 1 else Counter(lambda text: max(c.count(text) for c in found), min(c.limit for c in found))


def _longest(model: Path | None, family: Family, assets: Path) -> Counter | None:
    """The counter of the longest text encoder: the others of such a model read only the beginning, and are meant to."""
    part, kind = list(family.tokenizers.items())[-1]
    found = _of_folder(model / part, model) if model is not None and model.is_dir() else None
    if not found:
        try:
            tokenizer = t5(assets / "configs" / "t5" / "tokenizer.json.gz") if kind == "t5" else _qwen(assets / "configs" / "qwen" / "merges.txt.gz")
        except OSError:
            return None
        found = Counter(lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids), family.words)
    return Counter(found.count, min(found.limit, family.words - QWEN_FRAME if kind == "qwen" else family.words - 2))


def _of_folder(folder: Path, model: Path) -> Counter | None:
    whole, vocab, merges = folder / "tokenizer.json", folder / "vocab.json", folder / "merges.txt"
    if not whole.is_file() and not (vocab.is_file() and merges.is_file()):
        return None
    try:
        if whole.is_file():
            from tokenizers import Tokenizer

            tokenizer = Tokenizer.from_file(str(whole))
        else:
            tokenizer = _bpe(json.loads(vocab.read_text("utf-8")), _pairs(merges))
    except Exception:  # a tokenizer that cannot be read must not stop a dry run: the estimate serves
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoder = model / folder.name.replace("tokenizer", "text_encoder") / "config.json"
    lengths = [_number(folder / "tokenizer_config.json", "model_max_length"), _number(encoder, "max_position_embeddings")]
    limit = min([n for n in lengths if 2 < n < 10**6] or [CLIP_LIMIT + 2])
    return Counter(lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids), limit - 2)


def _number(path: Path, key: str) -> int:
    try:
        return int(json.loads(path.read_text("utf-8")).get(key) or 0)
    except (OSError, ValueError, AttributeError, TypeError, OverflowError):
        return 0


@lru_cache(maxsize=2)
def _clip(merges: Path) -> Counter | None:
    try:
        tokenizer = _bpe(*clip_vocabulary(merges))
    except (OSError, ImportError, ValueError):
        return None
    return Counter(lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids), CLIP_LIMIT)


def clip_vocabulary(merges: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """OpenAI's CLIP tokenizer from its merges: (vocabulary, merges). The one follows from the other: each byte as a
    printable letter in the order of OpenAI's `bytes_to_unicode`, the same at a word's end, the merges, the two marks.
    """
    pairs, letters = _pairs(merges), _byte_letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, pairs)]
    return {word: index for index, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}, pairs


def qwen_vocabulary(merges: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Qwen's tokenizer (the second and the third generation have the same) from its merges: (vocabulary, merges)."""
    pairs = _pairs(merges)
    words = [*_byte_letters(), *map("".join, pairs)]
    return {word: index for index, word in enumerate([*words, *QWEN_MARKS])}, pairs


@lru_cache(maxsize=1)
def _qwen(merges: Path):
    """Qwen's byte pair encoding with the `tokenizers` library (its split pattern is that of Qwen2Tokenizer in transformers)."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    vocab, pairs = qwen_vocabulary(merges)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=pairs))
    tokenizer.normalizer = normalizers.NFC()
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(words), behavior="isolated"),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return tokenizer


@lru_cache(maxsize=1)
def t5(path: Path):
    """The tokenizer of T5 1.1, as the `tokenizers` library has it."""
    from tokenizers import Tokenizer

    with gzip.open(path, "rt", encoding="utf-8") as file:
        return Tokenizer.from_str(file.read())


def _byte_letters() -> list[str]:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [*map(chr, printable), *(chr(256 + index) for index in range(256 - len(printable)))]


def _pairs(path: Path) -> list[tuple[str, str]]:
    data = path.read_bytes()
    lines = (gzip.decompress(data) if path.suffix == ".gz" else data).decode().splitlines()
    return [tuple(line.split()) for line in lines if len(line.split()) == 2 and not line.startswith("#version")]


def _bpe(vocab: dict[str, int], pairs):
    """CLIP's byte pair encoding with the `tokenizers` library (its split pattern is the one of openai/CLIP)."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=pairs, end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(words), behavior="removed", invert=True),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return tokenizer


def estimate_tokens(text: str) -> int:
    """At least as many tokens as CLIP's tokenizer makes of ordinary English: an over-estimate, for when it is not at hand.

    A short or known word is one token (its vocabulary holds the 40 000 commonest), names and rare words are several.
    """
    total = 0
    for word in re.findall(r"[A-Za-z]+|\d|[^\w\s]|[^\W\d]+|_", text):
        known = len(word) < 12 and word.lower() in _common()
        letters = 5 if word.islower() and word.isascii() else 3
        total += 1 if known else -(-len(word.encode()) // letters)
    return total


@lru_cache(maxsize=1)
def _common() -> frozenset[str]:
    files = (config(name) for name in ("lexicon", "prompts", "styles", "pocket"))
    texts = (str({section: words for section, words in file.items() if section != "patterns"}) for file in files)
    return frozenset(word for text in texts for word in re.findall(r"[a-z]+", text.lower()))
