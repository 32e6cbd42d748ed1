"""The tokenizers of single files, which do not carry them: made of what lies in `assets/configs`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from reverie.errors import ModelMissing
from reverie.families import FAMILIES
from reverie.language import tokens

# What Qwen's chat models are given around a person's words.
_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def of(family: str, assets: Path) -> dict[str, Any]:
    """The family's tokenizers by the pipeline's name for them. ModelMissing if the project's assets are not whole."""
    try:
        return {part: _MAKERS[kind](assets / "configs") for part, kind in FAMILIES[family].tokenizers.items()}
    except FileNotFoundError as error:
        raise ModelMissing(f"{error.filename} is missing, so no prompt can be read.", "Restore the project's assets.") from None


def _clip(configs: Path, pad: str = "<|endoftext|>"):
    """OpenAI's CLIP tokenizer, made of its merges."""
    from transformers import CLIPTokenizer

    vocab, merges = tokens.clip_vocabulary(configs / "clip" / "merges.txt")
    return CLIPTokenizer(vocab=vocab, merges=merges, pad_token=pad, model_max_length=77)


def _t5(configs: Path):
    from transformers import PreTrainedTokenizerFast

    names = dict(eos_token="</s>", unk_token="<unk>", pad_token="<pad>")
    return PreTrainedTokenizerFast(tokenizer_object=tokens.t5(configs / "t5" / "tokenizer.json.gz"), model_max_length=512, **names)


def _qwen(configs: Path):
    from transformers import Qwen2Tokenizer

    vocab, merges = tokens.qwen_vocabulary(configs / "qwen" / "merges.txt.gz")
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=merges, model_max_length=131072, chat_template=_CHAT)
    tokenizer.add_special_tokens({"additional_special_tokens": list(tokens.QWEN_MARKS[1:])})
    return tokenizer


# "clip!" is open_clip's: the same tokens, filled up with the token 0 ("!").
_MAKERS = {"clip": _clip, "clip!": functools.partial(_clip, pad="!"), "t5": _t5, "qwen": _qwen}
