"""Chapters with pictures become an illustrated EPUB 3: to read on any e-reader, in light and dark."""

from __future__ import annotations

import html
import io
import re
import uuid
import zipfile
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import Any, Mapping

from reverie import media, storyboard
from reverie.language.epub import GENERATOR
from reverie.lettering import shape

COVER = (1200, 1800)  # pixels
MAX_SIDE, QUALITY = 1600, 88  # pixels of a picture in the book; of JPEG
_STAMP = (1980, 1, 1, 0, 0, 0)  # of every member: the same book has the same bytes
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

CSS = """\
body { margin: 0 5%; line-height: 1.5; hyphens: auto; -webkit-hyphens: auto; }
h1 { margin: 2.5em 0 1.5em; text-align: center; line-height: 1.25; font-weight: bold; hyphens: none; -webkit-hyphens: none; }
h1 small { display: block; margin-bottom: 0.5em; font-size: 0.5em; font-weight: normal; letter-spacing: 0.12em; text-transform: uppercase; }
h2 { margin: 1.5em 0 0.75em; font-size: 1.1em; page-break-after: avoid; }
p { margin: 0; text-indent: 1.3em; text-align: justify; orphans: 2; widows: 2; }
section > p:first-of-type, figure + p, h2 + p, hr + p { text-indent: 0; }
figure { margin: 1.5em 0; padding: 0; text-align: center; page-break-inside: avoid; break-inside: avoid; }
figure img { max-width: 100%; max-height: 85vh; border-radius: 0.2em; }
hr { width: 20%; margin: 1.75em auto; border: 0; border-top: 1px solid; opacity: 0.5; }
nav ol { list-style: none; padding: 0; line-height: 2; }
.cover { margin: 0; padding: 0; text-align: center; }
.cover img { max-width: 100%; max-height: 100vh; }
"""
_CONTAINER = """\
<?xml version="1.0" encoding="UTF-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="book/package.opf" media-type="application/oebps-package+xml"/></rootfiles>
</container>
"""
_PAGE = """\
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops" lang="{language}" xml:lang="{language}">
<head><meta charset="utf-8"/><title>{title}</title><link rel="stylesheet" type="text/css" href="style.css"/></head>
{body}
</html>
"""
_PACKAGE = """\
<?xml version="1.0" encoding="UTF-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id" xml:lang="{language}">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:identifier id="id">{identifier}</dc:identifier>
<dc:title>{title}</dc:title>
<dc:language>{language}</dc:language>
<meta property="dcterms:modified">{modified}</meta>
<meta name="generator" content="{generator}"/>
<meta name="cover" content="cover-image"/>
<meta property="schema:accessMode">textual</meta>
<meta property="schema:accessMode">visual</meta>
<meta property="schema:accessModeSufficient">textual</meta>
<meta property="schema:accessibilityFeature">alternativeText</meta>
<meta property="schema:accessibilityFeature">tableOfContents</meta>
<meta property="schema:accessibilityHazard">none</meta>
<meta property="schema:accessibilitySummary">Every picture has a description.</meta>
</metadata>
<manifest>
{manifest}
</manifest>
<spine>
{spine}
</spine>
</package>
"""


@dataclass(frozen=True)
class Member:
    """One file of the book below `book/`, with its line in the manifest; the pages of the spine come in their order."""

    name: str
    data: bytes
    media_type: str
    properties: str = ""

    @property
    def id(self) -> str:
        return self.name.rpartition("/")[2].rpartition(".")[0]


def build(title: str, rows: list[dict[str, Any]], texts: Mapping[tuple[int, int], str], out_path, language: str = "en") -> Path:
    """Write the book of `rows` (storyboard rows) to `out_path`; an older one is replaced only by a whole new one.

    `texts` has each scene's text by chapter and scene; a scene without one has only its picture. Every picture stands before
    its scene. The modified date is that of the newest picture, so the same input gives the same bytes.
    """
    pictures = {path: _picture(path, f"images/p{number:04d}") for number, path in enumerate(_drawn(rows), 1)}
    pages = [_page(list(group), number, pictures, texts, language) for number, (_, group) in enumerate(_chapters(rows), 1)]
    front = [_nav(title, rows, language)]
    if pictures:
        front = [*_cover(title, next(iter(pictures)), language), *front]
    members = [*front, *pages, Member("style.css", CSS.encode(), "text/css"), *pictures.values()]
    return media.write_bytes(Path(out_path), _zipped(members, _package(title, rows, members, language)))


def paragraphs(text: str) -> list[str]:
    """A scene's text as XHTML blocks: paragraphs with their emphasis and hard breaks, and small headings."""
    blocks = []
    for block in re.split(r"\n\s*\n", text.strip()):
        if found := re.fullmatch(r"#{1,6}\s+(.+?)\s*#*", block.strip()):
            blocks.append(f"<h2>{_emphasised(found[1])}</h2>")
        elif block.strip():
            lines = re.split(r"(?: {2,}|\\)\n", block.strip())
            blocks.append(f"<p>{'<br/>'.join(_emphasised(' '.join(line.split())) for line in lines)}</p>")
    return blocks


def _emphasised(text: str) -> str:
    text = _text(text)
    text = re.sub(r"(?<![\w*])\*\*(?=\S)([^*]+)(?<=\S)\*\*(?![\w*])", r"<strong>\1</strong>", text)
    return re.sub(r"(?<![\w*_])([*_])(?=\S)([^*_<>]+)(?<=\S)\1(?![\w*_])", r"<em>\2</em>", text)


def _text(value: Any) -> str:
    """Escaped, and without what XML cannot hold."""
    return html.escape(_NO_XML.sub("", str(value)))


def _chapters(rows):
    return groupby(rows, key=lambda row: row.get("chapter"))


def _drawn(rows) -> list[Path]:
    return list(dict.fromkeys(path for row in rows for path in storyboard.images(row)))


def _picture(path: Path, name: str) -> Member:
    picture = media.open_picture(path)
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    data, kind = media.smaller(picture, QUALITY)
    return Member(f"{name}.{'jpg' if kind == 'jpeg' else kind}", data, f"image/{kind}")


def _named(title: str, rows) -> list[tuple[str, str]]:
    """File and name of every chapter."""
    heads = [storyboard.heading(next(group)) for _, group in _chapters(rows)]
    return [(f"chapter-{number:03d}.xhtml", f"{numbered}: {name}" if name else numbered) for number, (numbered, name) in enumerate(heads, 1)]


def _page(scenes: list[dict], number: int, pictures: dict[Path, Member], texts, language: str) -> Member:
    numbered, name = storyboard.heading(scenes[0])
    head = f"<small>{_text(numbered)}</small>{_text(name)}" if name else _text(numbered)
    body = [f'<body epub:type="bodymatter"><section epub:type="chapter"><h1>{head}</h1>']
    for place, row in enumerate(scenes):
        figures = [_figure(pictures[path], row) for path in storyboard.images(row)]
        body += figures or (["<hr/>"] if place else [])
        body += paragraphs(texts.get((row.get("chapter"), row.get("scene")), ""))
    page = _PAGE.format(language=language, title=_text(f"{numbered}: {name}" if name else numbered), body="\n".join([*body, "</section></body>"]))
    return Member(f"chapter-{number:03d}.xhtml", page.encode(), "application/xhtml+xml")


def _figure(picture: Member, row: dict) -> str:
    return f'<figure><img src="{picture.name}" alt="{_text(storyboard.description(row))}"/></figure>'


def _nav(title: str, rows, language: str) -> Member:
    chapters = _named(title, rows) or [("nav.xhtml", title)]
    links = "\n".join(f'<li><a href="{file}">{_text(name)}</a></li>' for file, name in chapters)
    body = f'<body epub:type="frontmatter"><nav epub:type="toc" id="toc"><h1>{_text(title)}</h1>\n<ol>\n{links}\n</ol></nav></body>'
    return Member("nav.xhtml", _PAGE.format(language=language, title=_text(title), body=body).encode(), "application/xhtml+xml", "nav")


def _cover(title: str, path: Path, language: str) -> list[Member]:
    buffer = io.BytesIO()
    cover_picture(title, path).save(buffer, "JPEG", quality=QUALITY, optimize=True)
    body = f'<body epub:type="cover" class="cover"><div><img src="images/cover-image.jpg" alt="{_text(f"Cover of {title}")}"/></div></body>'
    page = _PAGE.format(language=language, title=_text(title), body=body)
    return [
        Member("cover.xhtml", page.encode(), "application/xhtml+xml"),
        Member("images/cover-image.jpg", buffer.getvalue(), "image/jpeg", "cover-image"),
    ]


def cover_picture(title: str, path: Path):
    """The picture over the whole width, the title below it on a ground of the picture's own colour, dark enough for white letters."""
    from PIL import Image, ImageDraw, ImageOps

    width, height = COVER
    tall = width * 10 // 9
    picture = ImageOps.fit(media.open_picture(path), (width, tall), Image.Resampling.LANCZOS)
    mean = picture.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    ground = tuple(round(level * 46 / max(max(mean), 46)) for level in mean)
    cover = Image.new("RGB", COVER, ground)
    cover.paste(picture, (0, 0))
    band = height - tall
    block = shape(title, round(width * 0.84), round(band * 0.68), 116, 34, bold=True)
    block.draw(ImageDraw.Draw(cover), width / 2, tall + (band - block.height) / 2, (255, 255, 255), centred=True)
    return cover


def _package(title: str, rows, members: list[Member], language: str) -> bytes:
    newest = max((path.stat().st_mtime for path in _drawn(rows)), default=0.0)
    first = storyboard.heading(rows[0]) if rows else ()
    manifest = [
        f'<item id="{member.id}" href="{member.name}" media-type="{member.media_type}"' + (f' properties="{member.properties}"' if member.properties else "") + "/>"
        for member in members
    ]
    return _PACKAGE.format(
        language=language, title=_text(title), generator=GENERATOR, manifest="\n".join(manifest),
        identifier=uuid.uuid5(uuid.NAMESPACE_OID, "\n".join(("SD-Reverie", title, *first))).urn,
        modified=datetime.fromtimestamp(newest, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        spine="\n".join(f'<itemref idref="{member.id}"/>' for member in members if member.media_type.endswith("xhtml+xml")),
    ).encode()


def _zipped(members: list[Member], package: bytes) -> bytes:
    """The container; its first member says what it is and is stored as it is, as OCF 3.3 (4.2) asks."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as book:
        def put(name: str, data: bytes, packed: bool) -> None:
            entry = zipfile.ZipInfo(name, _STAMP)
            entry.external_attr = 0o644 << 16
            book.writestr(entry, data, zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED)

        put("mimetype", b"application/epub+zip", False)
        put("META-INF/container.xml", _CONTAINER.encode(), True)
        put("book/package.opf", package, True)
        for member in members:
            put(f"book/{member.name}", member.data, not member.media_type.startswith("image/"))
    return buffer.getvalue()
