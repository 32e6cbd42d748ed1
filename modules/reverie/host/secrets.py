"""Tokens: from the environment, the file that only its owner may read, the platform's own store, or another program's login.

They are never written anywhere but into that file, and nothing here logs or shows one.
"""

from __future__ import annotations

import importlib
import os
import re
import tempfile
import threading
from pathlib import Path

from reverie import settings as settings_module
from reverie.errors import BadInput
from reverie.host import platform

LOCK_S = 30
STORE_S = 20  # a platform's store can block for ever, for instance where a person has to allow it and nobody is there

# Our name → what else it is called by the notebooks and tools that people come from.
NAMES = {
    "CIVITAI_TOKEN": ("CIVITAI_API_TOKEN", "CIVITAI_API_KEY"),
    "HF_TOKEN": ("HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN", "HUGGINGFACEHUB_API_TOKEN"),
    "NGROK_AUTHTOKEN": ("NGROK_TOKEN", "NGROK_AUTH_TOKEN"),
    "ZROK_TOKEN": ("ZROK_ENABLE_TOKEN",),
}
_BLOCKED = "the store did not answer"
_stored: dict[str, str] = {}  # what the platform's store answered, "" included: it is asked once a name


def token(name: str) -> str:
    """The secret called `name` (or one of its other names); "" where there is none."""
    return _find(name)[0]


def where(name: str) -> str:
    """Where `token(name)` comes from, for people to read; "" where there is none."""
    return _find(name)[1]


def keep(name: str, value: str) -> Path:
    """Write a secret into storage/secrets.env, which only its owner may read; an empty value takes it out. The file's path.

    BadInput where name or value cannot stand in such a file.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise BadInput(f"'{name}' is no name for a secret.", "Use letters, digits and underscores, as in HF_TOKEN.")
    value = value.strip()
    if not value.isprintable() or any(mark in value for mark in "\"'"):
        raise BadInput(f"What was given for {name} has line breaks, quotes or control characters in it.", "Copy the token alone.")
    from filelock import FileLock

    path = file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(".secrets.lock"), timeout=LOCK_S):
        _write(path, name, value)
    return path


def file() -> Path:
    return settings_module.load().storage / "secrets.env"


def _write(path: Path, name: str, value: str) -> None:
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    lines = [line for line in lines if line.partition("=")[0].strip() != name] + [f"{name}={value}"] * bool(value)
    handle, staged = tempfile.mkstemp(dir=path.parent, prefix=".secrets")  # 0600 from the first byte on
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write("".join(f"{line}\n" for line in lines))
        out.flush()
        os.fsync(out.fileno())
    os.replace(staged, path)


def _find(name: str) -> tuple[str, str]:
    names = (name, *NAMES.get(name, ()))
    for known in names:
        if value := os.environ.get(known, "").strip():
            return value, f"the environment ({known})"
    if value := settings_module.secret(*names):
        return value, str(file())
    here = platform.here()
    for known in names:
        if here.secrets and (value := _from_store(here.secrets, known)):
            return value, f"the secrets of {here.name} ({known})"
    if name == "HF_TOKEN" and (value := _of_huggingface()):
        return value, "the login of huggingface_hub"
    return "", ""


def _from_store(store: str, name: str) -> str:
    """What the platform's store has under that name. A store that blocks is given up after STORE_S, and not asked again."""
    if name not in _stored and _BLOCKED not in _stored:
        answers: list[str] = []

        def ask() -> None:
            try:
                answers.append(str(STORES[store](name) or ""))
            except Exception:  # not there, not allowed, no network: all the same to us, and no word of it is ours to show
                answers.append("")

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(STORE_S)
        _stored[name if answers else _BLOCKED] = answers[0].strip() if answers else ""
    return _stored.get(name, "")


def _colab(name: str) -> str:
    return importlib.import_module("google.colab.userdata").get(name)


def _kaggle(name: str) -> str:
    return importlib.import_module("kaggle_secrets").UserSecretsClient().get_secret(name)


STORES = {"google.colab.userdata": _colab, "kaggle_secrets": _kaggle}


def _of_huggingface() -> str:
    """The token that `hf auth login` left; read from its file, since importing huggingface_hub takes a while."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface")
    try:
        return Path(os.environ.get("HF_TOKEN_PATH") or home / "token").expanduser().read_text("utf-8").strip()
    except (OSError, ValueError):
        return ""
