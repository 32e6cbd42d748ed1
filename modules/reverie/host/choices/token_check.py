"""Whether a token is one: asked of the place that gave it. The token goes into a header and into nothing else."""

from __future__ import annotations

import os

from reverie.errors import BadInput, FetchFailed, TokenNeeded

TIMEOUT_S = 15

# Name → (whose it is, where one gets it, base address and its environment variable, what answers who one is, the name in the answer)
SERVICES = {
    "CIVITAI_TOKEN": ("CivitAI", "https://civitai.com/user/account", ("REVERIE_CIVITAI_URL", "https://civitai.com"), "/api/v1/me", "username"),
    "HF_TOKEN": ("Hugging Face", "https://huggingface.co/settings/tokens", ("HF_ENDPOINT", "https://huggingface.co"), "/api/whoami-v2", "name"),
    "NGROK_AUTHTOKEN": ("ngrok", "https://dashboard.ngrok.com/get-started/your-authtoken", None, "", ""),
    "ZROK_TOKEN": ("zrok", "https://myzrok.io", None, "", ""),
}


def check(name: str, token: str) -> str:
    """A sentence on whose the token is. TokenNeeded where it is refused, FetchFailed where nobody answers, BadInput for tokens
    that cannot be asked about."""
    import httpx

    title, page, base, path, field = SERVICES[name]
    if not base:
        raise BadInput(f"{title} does not say beforehand whether a token is good.", "It shows when a tunnel is opened in cell 4.")
    try:
        url = (os.environ.get(base[0]) or base[1]).rstrip("/") + path
        answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT_S)
        said = answer.json() if answer.status_code == 200 else {}
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise FetchFailed(f"{title} could not be asked ({type(error).__name__}).", "Check the network and try again.") from None
    if answer.status_code in (401, 403):
        raise TokenNeeded(f"{title} does not know this token.", f"Make a new one at {page}.")
    if answer.status_code != 200:
        raise FetchFailed(f"{title} answered {answer.status_code}.", "Try again later.")
    return f"{title} knows it: {said.get(field) or 'a user without a name'}."
