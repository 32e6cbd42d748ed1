"""QR codes of addresses: to be read by a telephone from a notebook or a terminal, on dark and on light ground."""

from __future__ import annotations

import io

QUIET = 4  # modules of empty ground around the code, as the standard asks


def svg(text: str, size_px: int = 168) -> str:
    """The code as an <svg> element of that many CSS pixels: black on a white ground of its own, which every reader knows."""
    buffer = io.BytesIO()
    _code(text).save(
        buffer, kind="svg", border=QUIET, dark="#000", light="#fff", xmldecl=False, svgns=True, omitsize=True, nl=False,
        svgclass="rv-qr", lineclass=None, title="QR code of the address",
    )
    return buffer.getvalue().decode("utf-8").replace("<svg ", f'<svg width="{size_px}" height="{size_px}" role="img" ', 1)


def terminal(text: str) -> str:
    """The code in half blocks, two rows of it in one line, light on dark ground and dark on light ground alike: the light part is
    drawn, with colours of its own, so the terminal's do not matter."""
    rows = [[not module for module in row] for row in _code(text).matrix_iter(border=QUIET)]  # True where it is light
    rows += [[True] * len(rows[0])] * (len(rows) % 2)
    lines = ("".join(_HALVES[pair] for pair in zip(upper, lower)) for upper, lower in zip(rows[::2], rows[1::2]))
    return "\n".join(f"\x1b[38;5;231;48;5;16m{line}\x1b[0m" for line in lines)


def plain(text: str) -> str:
    """The same without colours, for what prints letters only. It reads well on a dark ground."""
    return "\n".join(line.removeprefix("\x1b[38;5;231;48;5;16m").removesuffix("\x1b[0m") for line in terminal(text).splitlines())


_HALVES = {(True, True): "█", (True, False): "▀", (False, True): "▄", (False, False): " "}


def _code(text: str):
    import segno

    return segno.make_qr(text, error="m")
