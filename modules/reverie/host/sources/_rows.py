"""CivitAI's rows of models, versions and files, read with every field in doubt."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from reverie.host import names
from reverie.settings import config


@dataclass(frozen=True)
class Version:
    """`size` in bytes of what would be fetched; `early_access` says until when others must wait ("" = nobody must)."""

    id: int
    name: str
    base_model: str
    size: int = 0
    files: tuple[dict[str, Any], ...] = ()
    trained_words: tuple[str, ...] = ()
    preview: str = ""
    early_access: str = ""
    published: str = ""


@dataclass(frozen=True)
class Model:
    id: int
    title: str
    type: str
    base_models: tuple[str, ...] = ()
    creator: str = ""
    downloads: int = 0
    nsfw: bool = False
    preview: str = ""
    versions: tuple[Version, ...] = ()


@dataclass(frozen=True)
class Page:
    """`cursor` asks for the next page; "" after the last one."""

    items: tuple[Model, ...] = field(default=())
    cursor: str = ""


def is_pickled(file: dict[str, Any]) -> bool:
    format = str((file.get("metadata") or {}).get("format") or "")
    return format == "PickleTensor" or names.is_pickle(str(file.get("name") or ""))


def bytes_of(file: dict[str, Any]) -> int:
    """The size in bytes; 0 where it is told in rounded KiB, against which nothing could be held."""
    try:
        told = float(file.get("sizeKB") or 0) * 1024
        return max(0, round(told)) if abs(told - round(told)) < 0.01 else 0
    except (TypeError, ValueError, OverflowError):
        return 0


def sha256_of(file: dict[str, Any]) -> str:
    told = str((file.get("hashes") or {}).get("SHA256") or "").lower()
    return told if re.fullmatch(r"[0-9a-f]{64}", told) else ""


def family_of(base_model: str) -> str:
    return next((family for family, listed in config("sources")["families"].items() if base_model in listed), "")


def words_of(version: dict[str, Any]) -> list[str]:
    return [str(word) for word in version.get("trainedWords") or ()]


def early_access(version: dict[str, Any]) -> str:
    """Until when the version is for those who paid: a date in ISO 8601, "yes" where none is told, "" if it is for all."""
    ends = str(version.get("earlyAccessEndsAt") or (version.get("paidAccess") or {}).get("endsAt") or "")
    try:
        if ends and datetime.fromisoformat(ends.replace("Z", "+00:00")) <= datetime.now(timezone.utc):
            return ""
    except (ValueError, TypeError):
        pass
    return ends or ("yes" if version.get("availability") == "EarlyAccess" or version.get("paidAccess") else "")


def preview_of(version: dict[str, Any], level: int = 0) -> str:
    """The first picture, no video, that is not above that level of nudity (see configs/sources.yaml); "" if none is."""
    level = level or config("sources")["hubs"]["civitai"]["preview_nsfw_level"]
    for image in version.get("images") or ():
        url, rated = str(image.get("url") or ""), image.get("nsfwLevel")
        rated = rated if isinstance(rated, int) else 1 if image.get("nsfw") in (None, False, "None", "Soft") else 32
        if image.get("type", "image") == "image" and not url.lower().endswith((".mp4", ".webm")) and rated <= level and url.startswith("http"):
            return url
    return ""


def model_of(row: dict[str, Any], level: int) -> Model:
    versions = tuple(version_of(version, level) for version in row.get("modelVersions") or ())
    return Model(
        id=int(row.get("id") or 0),
        title=str(row.get("name") or ""),
        type=str(row.get("type") or ""),
        base_models=tuple(dict.fromkeys(version.base_model for version in versions if version.base_model)),
        creator=str((row.get("creator") or {}).get("username") or ""),
        downloads=int((row.get("stats") or {}).get("downloadCount") or 0),
        nsfw=bool(row.get("nsfw")),
        preview=next((version.preview for version in versions if version.preview), ""),
        versions=versions,
    )


def version_of(version: dict[str, Any], level: int) -> Version:
    files = tuple(file for file in version.get("files") or () if isinstance(file, dict))
    main = min(files, key=lambda file: (is_pickled(file), not file.get("primary")), default={})
    return Version(
        id=int(version.get("id") or 0),
        name=str(version.get("name") or ""),
        base_model=str(version.get("baseModel") or ""),
        size=bytes_of(main),
        files=files,
        trained_words=tuple(words_of(version)),
        preview=preview_of(version, level),
        early_access=early_access(version),
        published=str(version.get("publishedAt") or ""),
    )
