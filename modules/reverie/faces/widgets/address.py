"""The card of one address: copy it, open it, read it with a telephone, and the password when it is asked for."""

from __future__ import annotations

import threading
from typing import Any

from reverie.faces.widgets import look

SHOWN_S = 60  # a password stays on the page for so long: what stays for good would be saved with the notebook
# A page of the notebook server's own is copied as a whole address. Where a page strips this, the field can still be selected by hand.
COPY = (
    "const f=this.parentNode.querySelector('input');const t=f.dataset.path?new URL(f.value,location.href).href:f.value;"
    "const by_hand=()=>{f.focus();f.select();document.execCommand('copy')};"
    "navigator.clipboard?navigator.clipboard.writeText(t).catch(by_hand):by_hand();this.textContent='Copied'"
)


class AddressCard:
    """`show(tunnel)` draws an open tunnel (reverie.host.tunnels) or None; call it again when its address has changed. The password
    comes to the page only when its button is pressed, and leaves it after SHOWN_S."""

    def __init__(self) -> None:
        import ipywidgets

        self.address, self.password = ipywidgets.HTML(), ipywidgets.HTML()
        self.reveal = ipywidgets.Button(description="Show the password", icon="key", tooltip=f"For {SHOWN_S} seconds")
        self.reveal.on_click(lambda _: self._toggle())
        self.widget = ipywidgets.VBox([self.address, ipywidgets.HBox([self.reveal, self.password])])
        self.widget.add_class("rv-address")
        self._tunnel: Any = None
        self._timer: threading.Timer | None = None
        self.show(None)

    def show(self, tunnel) -> None:
        self._hide()
        self._tunnel = tunnel
        self.address.value = card(tunnel) if tunnel is not None else ""
        self.reveal.layout.display = "" if tunnel is not None and tunnel.up else "none"

    def _toggle(self) -> None:
        if self.password.value or self._tunnel is None:
            self._hide()
            return
        self.password.value = field("Password", self._tunnel.password)
        self.reveal.description = "Hide the password"
        self._timer = threading.Timer(SHOWN_S, self._hide)
        self._timer.daemon = True
        self._timer.start()

    def _hide(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self.password.value, self.reveal.description = "", "Show the password"


def card(tunnel) -> str:
    """The tunnel's address with a copy button, a QR code, and what is known of it."""
    if not tunnel.up:
        return look.status(f"The address of {tunnel.title} is gone. It is being opened again.", "bad")
    known = "checked: it leads here" if tunnel.checked else "not checked"
    facts = look.chips([tunnel.title, known, "public, with a password" if tunnel.public else "for you only"])
    note = f'<p class="rv-place">{look.esc(tunnel.note)}</p>' if tunnel.note else ""
    return f'<div class="rv-facts">{facts}</div>{field("Address", tunnel.url)}{note}{code(tunnel.url)}'


def field(title: str, value: str) -> str:
    """A line to copy from: it can be selected by hand where a page allows no scripts."""
    path = ' data-path="1"' if value.startswith("/") else ""
    link = f'<a href="{look.esc(value)}" target="_blank" rel="noopener" style="color:var(--rv-accent)">Open</a>' if value.startswith(("https:", "http:", "/")) else ""
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:10px;align-items:center;margin:6px 0">'
        f'<span style="flex:0 1 9rem">{look.esc(title)}</span><input type="text" readonly value="{look.esc(value)}"{path} aria-label="{look.esc(title)}" style="flex:1 1 16rem;border:1px solid var(--rv-line)">'
        f'<button class="jupyter-button" onclick="{look.esc(COPY)}">Copy</button>{link}</div>'
    )


def code(url: str) -> str:
    """Its QR code; nothing for what a telephone cannot follow: a path, or an address of this machine."""
    from reverie.host import qr
    from reverie.host.tunnels import reach

    if not url.startswith(("https:", "http:")) or reach.is_here(url):
        return ""
    return f'<div style="width:max-content;line-height:0;border-radius:8px;overflow:hidden">{qr.svg(url)}</div>'
