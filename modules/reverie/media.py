"""Pictures in and out: staged under another name, checked, moved into place. A reader never sees half a file."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reverie import __version__, recipes
from reverie.errors import BadInput, StoreFailed

STAGED = ".part"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {
    errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY,
    errno.ENAMETOOLONG,
}


@contextmanager
def staged(path: Path):
    """Yields a name beside `path` to write to; on a clean end it is moved into place, else removed. Full disk → StoreFailed."""
    temporary = path.with_name(f".{path.name}.{threading.get_native_id()}{STAGED}")  # two threads may write one file
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # left by a killed one of this number
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path):
    """What the system has against writing `path` in here becomes a StoreFailed that says what to do about it."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL | _REFUSED:
            raise _refusal(path, error) from error
        raise


def folder(path: Path) -> Path:
    """`path` as a folder to write into, made if it is not there. StoreFailed if it cannot be one."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _refusal(path, error) from error
    return path


def _refusal(path: Path, error: OSError) -> StoreFailed:
    """What the system has against writing `path`, and what to do about it."""
    if error.errno in _FULL:
        advice = "Free some space and run it again: what is finished is kept."
        return StoreFailed(f"The disk is full: {path.name} could not be written.", advice)
    advice = "Choose another folder or name, or change its permissions."
    return StoreFailed(f"{path} cannot be written ({error.strerror}).", advice)


def write_bytes(path: Path, data: bytes) -> Path:
    """`data` at `path`, whole or not at all, and on the disk before this returns."""
    with staged(path) as temporary:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    return path


def write_text(path: Path, text: str) -> Path:
    return write_bytes(path, text.encode("utf-8"))


def encode_png(image, recipe: dict[str, Any]) -> bytes:
    """A PNG's bytes with the recipe in our, A1111's and ComfyUI's form."""
    from PIL.PngImagePlugin import PngInfo

    recipe = {"version": f"SD-Reverie {__version__}", **recipe}
    info = PngInfo()
    info.add_itxt("parameters", recipes.infotext(recipe))
    info.add_text("prompt", json.dumps(recipes.comfy_graph(recipe)))
    info.add_text(recipes.OWN_KEY, json.dumps(recipe, sort_keys=True))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info, compress_level=4)
    return buffer.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def place(source: Path, target: Path) -> None:
    """`target` becomes a copy of `source`, atomically. No link: whoever edits the one must not change the other."""
    write_bytes(target, source.read_bytes())


def open_picture(path: Path, data: bytes | None = None, ground: str = "white"):
    """An RGB picture, loaded whole; of `data`, where the file was read already. BadInput if it is none, or cut short.

    What is transparent shows `ground`; 16 bits become 8.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path if data is None else io.BytesIO(data)) as image:
            picture = ImageOps.exif_transpose(image)
            if picture.mode.startswith("I"):  # Pillow would cut such values off at 255
                picture = picture.convert("I").point(lambda value: value / 257).convert("L")
            if not picture.has_transparency_data:
                return picture.convert("RGB")
            picture = picture.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", picture.size, ground), picture).convert("RGB")
    except FileNotFoundError:
        raise BadInput(f"There is no picture {path}.", "Check the path.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(f"{path} is not a picture that can be read ({error}).", "Give a whole PNG, JPEG or WebP.") from None


def enlarge(image, min_width: int = 512):
    """The picture at a whole multiple of its size with at least `min_width` pixels across (Lanczos); as it is if wide enough."""
    from PIL import Image

    factor = -(-min_width // image.width)
    return image if factor <= 1 else image.resize((image.width * factor, image.height * factor), Image.Resampling.LANCZOS)


def contact_sheet(paths: list[Path], columns: int = 4, tile: int = 256):
    """Pictures side by side, `columns` a row, each fitted into `tile` pixels square on a dark ground."""
    from PIL import Image, ImageOps

    columns = max(1, min(columns, len(paths)))
    rows = -(-len(paths) // columns)
    sheet = Image.new("RGB", (columns * tile, max(rows, 1) * tile), (18, 20, 24))
    for number, path in enumerate(paths):
        picture = ImageOps.contain(open_picture(path), (tile - 8, tile - 8))
        sheet.paste(picture, ((number % columns) * tile + 4, (number // columns) * tile + 4))
    return sheet


def smaller(image, quality: int = 88) -> tuple[bytes, str]:
    """A picture's bytes as JPEG (of `quality`) or as PNG, whichever has fewer, and `jpeg` or `png`."""
    jpeg, png = io.BytesIO(), io.BytesIO()
    image.save(jpeg, "JPEG", quality=quality, optimize=True, subsampling=0 if quality >= 90 else 2)
    image.save(png, "PNG", compress_level=6)
    return min((jpeg.getvalue(), "jpeg"), (png.getvalue(), "png"), key=lambda made: len(made[0]))
