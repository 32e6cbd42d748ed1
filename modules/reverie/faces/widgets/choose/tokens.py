"""The Tokens tab. It shows whether a token is set and from where, never the token: what is typed leaves the field the moment the
kernel hears of it, so that it is in no saved notebook."""

from __future__ import annotations

import threading
from typing import Any

from reverie.errors import ReverieError
from reverie.faces.widgets import look
from reverie.faces.widgets.choose.pieces import classed, hint, html, page
from reverie.faces.widgets.choose.state import State
from reverie.host import secrets
from reverie.host.choices import token_check


class TokenRow:
    def __init__(self, name: str):
        import ipywidgets

        self.name, self._held = name, ""
        title, where = token_check.SERVICES[name][:2]
        self.text = ipywidgets.Password(placeholder="Paste it here", continuous_update=False, tooltip=f"{title} token")
        self.keep = ipywidgets.Button(description="Save", tooltip=f"Keep the token of {title} in secrets.env", disabled=True)
        self.check = ipywidgets.Button(description="Check", tooltip=f"Ask {title} whether the token is good")
        self.drop = ipywidgets.Button(icon="trash", tooltip=f"Take the token of {title} out of secrets.env")
        self.state, self.words = html("", "rv-token-state"), html("", "rv-words")
        self.text.observe(lambda change: self._take(change["new"]), "value")
        self.keep.on_click(lambda _: self._do(self._keep))
        self.drop.on_click(lambda _: self._do(self._drop))
        self.check.on_click(lambda _: threading.Thread(target=self._do, args=(self._check,), daemon=True).start())
        head = html(f'<h4>{look.esc(title)}</h4><small>{look.esc(name)} · get one at <a href="{look.esc(where)}" target="_blank" rel="noopener">{look.esc(where)}</a></small>')
        line = classed(ipywidgets.HBox([self.text, self.keep, self.check, self.drop]), "rv-tools")
        self.widget = classed(ipywidgets.VBox([head, self.state, line, self.words]), "rv-token")
        self.refresh()

    def refresh(self) -> None:
        where = secrets.where(self.name)
        self.state.value = f'<span class="rv-mark rv-mark-good">set</span> <small>from {look.esc(where)}</small>' if where else '<span class="rv-mark">not set</span>'
        self.check.disabled = not (where or self._held)
        self.drop.layout.display = "" if where == str(secrets.file()) else "none"

    def _take(self, typed: str) -> None:
        """Hold what was typed, and empty the field."""
        if not typed:
            return
        self._held = typed.strip()
        self.text.value = ""
        self.keep.disabled = self.check.disabled = False
        self.words.value = look.status("Held, and not saved yet: the field is empty again, so that it lands in no notebook.")

    def _keep(self) -> str:
        secrets.keep(self.name, self._held)
        self._held, self.keep.disabled = "", True
        return f"Kept in {secrets.file()}, which only you may read."

    def _drop(self) -> str:
        secrets.keep(self.name, "")
        return "Taken out."

    def _check(self) -> str:
        self.words.value = look.status("Asking …")
        return token_check.check(self.name, self._held or secrets.token(self.name))

    def _do(self, what: Any) -> None:
        self.text.value = ""
        try:
            said, kind = what(), "good"
        except (ReverieError, OSError) as error:
            said, kind = str(error), "bad"
        self.refresh()
        self.words.value = look.status(said, kind)


class TokensTab:
    title = "Tokens"

    def __init__(self, state: State):
        self.rows = {name: TokenRow(name) for name in token_check.SERVICES}
        line = "Some models want a login. Tokens are kept beside your storage in a file that only you may read; never in the notebook, the settings file or an export."
        self.widget = page(hint(line), *(row.widget for row in self.rows.values()))
        state.listen(lambda whole: [row.refresh() for row in self.rows.values()] if whole else None)
