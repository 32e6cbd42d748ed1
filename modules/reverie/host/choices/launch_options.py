"""What a person may add to a WebUI's command: checked word by word. No shell ever sees it; this keeps out what would do harm
without one, and what would only have worked with one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from reverie.errors import BadInput
from reverie.host.choices.inside import is_inside

MAX_LENGTH, MAX_WORDS = 2000, 60

# Options that other fields or the gate are for, or that undo what protects the machine: option → what to do instead.
REFUSED = {
    ("--listen", "--host", "--server-name", "--ip", "--bind", "--web-host"): "The WebUI stays on this machine and is reached through the tunnel, which has a password.",
    ("--share", "--ngrok", "--ngrok-authtoken", "--ngrok-region", "--cloudflared", "--remotemoe", "--localhostrun"): "Switch the tunnel on instead: it has a password.",
    ("--port", "--server-port"): "Use the field for the port.",
    ("--gradio-auth", "--gradio-auth-path", "--api-auth", "--auth", "--auth-file", "--password", "--hf-token", "--token", "--api-key"):
        "Passwords and tokens are not kept in settings: cell 4 sets its own, and tokens have their tab.",
    ("--allow-code", "--enable-insecure-extension-access", "--insecure", "--disable-safe-unpickle", "--tls-keyfile", "--server-user"):
        "It lets whoever reaches the page run programs on this machine, or read its files.",
}
_WHOLE = {"--api"}  # options in their own right that are also beginnings of refused ones
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_WORD = re.compile(r"[\w./:=,@+%\-\[\] ()]*", re.UNICODE)


def words(text: str) -> list[str]:
    """The options as an argument list. BadInput in one sentence if one cannot be used."""
    if len(text) > MAX_LENGTH:
        raise BadInput(f"The launch options are {len(text)} letters long.", f"Keep them under {MAX_LENGTH}.")
    if found := re.search(r"[;|&`$<>\\\x00-\x1f\x7f{}!*?#~^]", text):
        raise BadInput(f"The launch options have {found[0]!r} in them, which belongs to a shell.", "Give options only, such as --lowvram --medvram.")
    try:
        found = shlex.split(text)
    except ValueError:
        raise BadInput("The launch options have a quotation mark that is not closed.", "Close it, or leave it out.") from None
    if len(found) > MAX_WORDS:
        raise BadInput(f"There are {len(found)} launch options.", f"Give at most {MAX_WORDS}.")
    _check(found)
    return found


def outside(text: str, inside: tuple[Path, ...]) -> str:
    """The first path in the options that leads out of the folders `inside`; "" if none does."""
    for value in (part.strip() for word in words(text) for part in re.split(r"[=,\[\]()%@]", word)):
        path = Path(value)
        if "://" in value or ".." in path.parts or path.is_absolute() and not is_inside(path, inside):
            return value
    return ""


def _why_not(option: str, value: str) -> str:
    """Why this option is refused. argparse takes a beginning of an option for the whole, so beginnings count too."""
    for names, why in REFUSED.items():
        if option in names or len(option) > 3 and option not in _WHOLE and any(name.startswith(option) for name in names):
            return "" if "--listen" in names and value in _LOOPBACK else why
    return ""


def _check(found: list[str]) -> None:
    if found and not found[0].startswith("-"):
        raise BadInput(f"The launch options begin with '{found[0][:60]}', which is no option.", "Options begin with --, as in --lowvram.")
    for word, after in zip(found, [*found[1:], ""]):
        option, _, value = word.partition("=")
        if why := _why_not(option.lower().replace("_", "-"), value or after):
            raise BadInput(f"The launch option {option} cannot be used here.", why)
        if not _WORD.fullmatch(word):
            raise BadInput(f"The launch option '{word[:60]}' has letters in it that no option has.", "Leave it out.")
