"""The gate's own two pages: the login, and the one that waits for a WebUI that is not there yet. Nothing in them comes from elsewhere."""

from __future__ import annotations

import html
from string import Template

POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
HEADERS = {
    "Content-Security-Policy": POLICY, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
}
_FRAME = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="dark">$head<title>$title</title><style>
*{box-sizing:border-box}
body{margin:0;min-height:100vh;min-height:100dvh;display:grid;place-items:center;padding:20px;background:#16151a;color:#ece9e3;
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{width:min(100%,380px);padding:30px 28px;background:#1e1d23;border:1px solid #37353f;border-radius:16px}
h1{margin:0 0 4px;font-size:21px}p{margin:0 0 18px;color:#a39fa9}
label{display:block;margin:0 0 6px;font-size:14px;color:#a39fa9}
input,button{width:100%;min-height:48px;padding:10px 14px;border-radius:10px;font:inherit}
input{background:#0f0e12;color:#ece9e3;border:1px solid #37353f}
input:focus-visible,button:focus-visible{outline:2px solid #e39a63;outline-offset:2px}
button{margin-top:14px;border:0;background:#e39a63;color:#201307;font-weight:650;cursor:pointer}
.bad{margin:0 0 14px;padding:9px 13px;border-radius:8px;background:#3a2022;color:#f2938c}
</style></head><body><main>$body</main></body></html>
""")


def login(action: str, goal: str, title: str, complaint: str = "") -> str:
    """The form. `goal` is where to go afterwards, a path."""
    said = f'<p class="bad" role="alert">{html.escape(complaint)}</p>' if complaint else ""
    body = (
        f"<h1>{html.escape(title)}</h1><p>This address is protected. The password stands in the notebook or the terminal.</p>{said}"
        f'<form method="post" action="{html.escape(action)}"><input type="hidden" name="next" value="{html.escape(goal)}">'
        '<label for="password">Password</label><input id="password" name="password" type="password" autocomplete="current-password"'
        ' autocapitalize="none" autocorrect="off" spellcheck="false" required autofocus><button>Open</button></form>'
    )
    return _FRAME.substitute(title=html.escape(title), head="", body=body)


def waiting(title: str, every_s: int = 4) -> str:
    """For a WebUI that does not answer: it looks again by itself."""
    words = f"It may still be starting, or has been stopped. This page looks again every {every_s} seconds."
    body = f'<h1>{html.escape(title)} does not answer yet</h1><p role="status">{words}</p>'
    return _FRAME.substitute(title=html.escape(title), head=f'<meta http-equiv="refresh" content="{every_s}">', body=body)
