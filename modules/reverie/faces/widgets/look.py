"""How things look in a notebook: one style sheet, and small pieces of HTML. Everything said by a text is escaped here."""

from __future__ import annotations

import base64
import functools
import html
import io
from pathlib import Path
from typing import Any, Iterable

THUMB = 384  # pixels across of a thumbnail: sharp at 192 CSS pixels on a dense screen


def esc(value: Any) -> str:
    return html.escape(str(value))


@functools.cache
def style_sheet() -> str:
    from reverie import settings

    return (settings.load().assets / "css" / "widgets.css").read_text("utf-8")


def style_widget():
    """The style sheet as a widget; it may be on the page more than once."""
    import ipywidgets

    sheet = ipywidgets.HTML(f"<style>{style_sheet()}</style>")
    sheet.layout.display = "none"
    return sheet


def header(line: str, title: str = ""):
    """A panel's head: its title, what it does, and the switch between dark and light. Gives back the row and the switch."""
    import ipywidgets

    from reverie.faces.widgets import scheme

    switch = scheme.switch()
    named = f"<h2>{esc(title)}</h2>" if title else ""
    row = ipywidgets.HBox([ipywidgets.HTML(f"{named}<p>{esc(line)}</p>"), switch])
    row.add_class("rv-head")
    return row, switch


def follow_scheme(panel, switch) -> None:
    """`panel` is light while `switch` is on."""
    from reverie.faces.widgets import scheme

    scheme.follow(panel, switch)


def thumbnail(path: Path, width: int = THUMB) -> bytes:
    """A picture as JPEG bytes, at most `width` pixels across; never enlarged, the browser does that smoothly."""
    from PIL import Image

    from reverie import media

    picture = media.open_picture(path)
    if picture.width > width:
        picture = picture.resize((width, max(1, round(picture.height * width / picture.width))), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def data_uri(data: bytes, kind: str = "image/jpeg") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def card(path: Path, caption: str, width: int = THUMB) -> str:
    """A finished picture with its caption; the file's place is its tooltip."""
    return (
        f'<figure class="rv-card" title="{esc(path)}"><img alt="{esc(caption)}" src="{data_uri(thumbnail(path, width))}">'
        f"<figcaption>{esc(caption)}</figcaption></figure>"
    )


def editions(files: dict[str, Path], most_bytes: int) -> str:
    """A run's book, comic and film: the film to play here, all to save; what is larger than `most_bytes` is only named."""
    named = (("animatic", "film", "video/mp4"), ("epub", "book", "application/epub+zip"), ("pdf", "comic", "application/pdf"))
    film, links, places = "", [], []
    for key, name, kind in named:
        path = files.get(key)
        if path is None:
            continue
        places.append(f'<p class="rv-place">{esc(path)}</p>')
        if path.stat().st_size <= most_bytes:
            uri = data_uri(path.read_bytes(), kind)
            links.append(f'<a class="rv-save" download="{esc(path.name)}" href="{uri}">Save the {name}</a>')
            if key == "animatic":
                film = f'<video class="rv-film" controls playsinline preload="metadata" style="max-width:100%" src="{uri}"></video>'
    title = '<h3 class="rv-chapter">Short film and book</h3>' if places else ""
    return f'{title}{"".join(places)}{film}<p class="rv-links">{" ".join(links)}</p>' if places else ""


def lines(title: str, texts: list[str]) -> str:
    """Lines of a report under a title, spaced as on a terminal; nothing without any."""
    body = "\n".join(esc(text) for text in texts)
    return f'<h3 class="rv-chapter">{esc(title)}</h3><pre class="rv-lines">{body}</pre>' if texts else ""


def chips(values: Iterable[Any]) -> str:
    return "".join(f'<span class="rv-chip">{esc(value)}</span>' for value in values if value)


def status(text: str, kind: str = "") -> str:
    """One line on how it goes; `kind` is empty, "good" or "bad"."""
    role = ' role="alert"' if kind == "bad" else ""
    return f'<div class="rv-status rv-{kind or "plain"}"{role}>{esc(text)}</div>' if text else ""


def page_frame(page: str, name: str, scheme: str = "dark") -> str:
    """A storyboard inside the notebook, in the tabs' colours, with a link that saves it. The frame keeps its scripts to itself."""
    href = f"data:text/html;base64,{base64.b64encode(page.encode()).decode()}"
    inside = page.replace('data-scheme="auto"', f'data-scheme="{scheme}"', 1)
    return (
        f'<p class="rv-links"><a class="rv-save" download="{esc(name)}" href="{href}">Save the storyboard</a></p>'
        f'<iframe class="rv-frame" title="Storyboard" sandbox="allow-scripts allow-popups allow-downloads" srcdoc="{esc(inside)}"></iframe>'
    )
