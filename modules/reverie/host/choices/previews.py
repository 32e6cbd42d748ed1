"""Preview pictures of a hub, fetched by this process: the browser of a cloud notebook may not reach them. Small, checked, and kept
for as long as the process lives."""

from __future__ import annotations

import functools
import io
import re

from reverie.errors import FetchFailed

MAX_BYTES, MAX_PIXELS = 8 << 20, 40_000_000
WIDTH, TIMEOUT_S = 320, 15


@functools.lru_cache(maxsize=512)
def picture(url: str) -> bytes:
    """The picture at `url` as JPEG bytes, at most WIDTH pixels across. FetchFailed in one sentence if there is none."""
    import httpx

    data = b""
    try:
        with httpx.stream("GET", smaller(url), timeout=TIMEOUT_S, follow_redirects=True) as answer:
            answer.raise_for_status()
            if answer.headers.get("content-type", "").startswith("video/"):
                raise FetchFailed("The preview is a film.", "Look at it on the model's page.")
            for part in answer.iter_bytes():
                data += part
                if len(data) > MAX_BYTES:
                    raise FetchFailed(f"The preview has more than {MAX_BYTES >> 20} MB.", "Look at it on the model's page.")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise FetchFailed(f"The preview could not be fetched ({type(error).__name__}).", "Search again.") from None
    return _small(data)


def smaller(url: str) -> str:
    """The same picture at the width that is shown, where its host offers that."""
    return re.sub(r"/(?:original=true|width=\d+)(?:,[^/]*)?/", f"/width={WIDTH}/", url) if "//image.civitai.com/" in url else url


def _small(data: bytes) -> bytes:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as found:
            if found.width * found.height > MAX_PIXELS:
                raise ValueError("too large")
            found.draft("RGB", (WIDTH, WIDTH))
            shown = found.convert("RGB")
        shown.thumbnail((WIDTH, WIDTH * 2))
        out = io.BytesIO()
        shown.save(out, "JPEG", quality=85)
        return out.getvalue()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise FetchFailed("The preview is no picture that can be read.", "Look at it on the model's page.") from None
