"""A git repository at one commit, without questions, hooks or submodule surprises."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Callable

from reverie.errors import BadInput, FetchFailed, HostFailed, NotFound
from reverie.host.webuis import archives, commands

CLONE_S, STALL_S, ASK_S = 3600, 180, 60
_SAFE = [
    "-c", "protocol.ext.allow=never", "-c", "core.hooksPath=/dev/null", "-c", "core.symlinks=true", "-c", "advice.detachedHead=false",
    "-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "credential.interactive=false",
]


def environment() -> dict[str, str]:
    """git asks nobody anything, reads nobody's configuration but the address rewrites and certificates of this user, and gives up on
    a line that carries nothing."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in ("GIT_SSL_CAINFO", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM")}
    return {
        **kept, "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "SSH_ASKPASS": "", "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=20",
        "GIT_ALLOW_PROTOCOL": "https:http:ssh:git:file", "GIT_HTTP_LOW_SPEED_LIMIT": "1000", "GIT_HTTP_LOW_SPEED_TIME": "60", "LC_ALL": "C",
    }


def clone(
    url: str, ref: str, into: Path, on_line: Callable[[str], None] | None = None, cancelled: Callable[[], bool] = lambda: False,
    stall_s: float = STALL_S, within_s: float = CLONE_S,
) -> str:
    """`into` becomes the work tree of `url` at `ref` (a hash, a tag or a branch; "" the default branch); the commit's hash.

    `into` appears whole or not at all. Only the one commit is fetched where the server allows it. FetchFailed, NotFound (no such
    ref), Cancelled.
    """
    url = checked(url)
    staging = into.with_name(f".{into.name}.cloning")
    archives.remove(staging)
    staging.mkdir(parents=True)

    def git(*words: str) -> tuple[int, list[str]]:
        told = ["git", *_SAFE, "-C", str(staging), *words]
        return commands.run(told, within_s=within_s, stall_s=stall_s, env=environment(), on_line=on_line, cancelled=cancelled, title=f"git {words[0]} {url}")

    try:
        for words in (["init", "-q"], ["remote", "add", "origin", url]):
            _well(git(*words), url)
        code, lines = git("fetch", "--progress", "--no-tags", "--depth", "1", "origin", ref or "HEAD")
        want = "FETCH_HEAD"
        if code:
            if not ref or not re.search("couldn't find remote ref|not our ref|unadvertised object|does not allow", "\n".join(lines), re.I):
                raise _failed(url, lines)
            _well(git("fetch", "--progress", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"), url)
            want = ref
        code, lines = git("checkout", "-q", "--detach", want)
        if code:
            raise NotFound(f"{url} has no commit, tag or branch '{ref}'.", "Check the name in the catalogue's row.")
        commit = head(staging)
        os.replace(staging, into)
        return commit
    finally:
        archives.remove(staging)


def head(folder: Path) -> str:
    """The hash that is checked out at `folder`; "" where that is no work tree of its own."""
    if not (folder / ".git").exists():
        return ""
    return _ask(["git", *_SAFE, "-C", str(folder), "rev-parse", "HEAD"])


def newest(url: str, ref: str) -> str:
    """The hash that `ref` (a branch or a tag; "" the default branch) has at the source now; "" for a ref that is a hash itself,
    or where nothing answers."""
    if re.fullmatch(r"[0-9a-f]{40}", ref):
        return ""
    ref = ref or "HEAD"
    found = _ask(["git", *_SAFE, "ls-remote", "--", checked(url), ref, f"{ref}^{{}}"]).splitlines()
    return next((line for line in found if line.endswith("^{}")), next(iter(found), "")).split("\t")[0]  # ^{}: what a tag is put on


def checked(url: str) -> str:
    """The address, if git may be given it."""
    plain = re.match(r"(https?|ssh|git|file)://[^\s]+$", url) or os.path.isabs(url)
    if not plain or "::" in url.split("/")[0]:
        raise BadInput(f"'{url[:100]}' is no git address.", "Give an https:// address, or the whole path of a repository on this machine.")
    return url


def _ask(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=ASK_S, env=environment(), stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _well(outcome: tuple[int, list[str]], url: str) -> None:
    if outcome[0]:
        raise _failed(url, outcome[1])


def _failed(url: str, lines: list[str]) -> HostFailed | FetchFailed:
    said = next((line for line in reversed(lines) if line.startswith(("fatal:", "error:", "remote:"))), lines[-1] if lines else "it said nothing")
    said = re.sub(r"^(fatal|error|remote):\s*", "", said)[:200].rstrip(".")
    if "could not read Username" in said or "Authentication failed" in said:
        return FetchFailed(f"{url} does not exist, or wants a login.", "Check the address; private repositories must be cloned by hand.")
    return FetchFailed(f"{url} could not be cloned ({said}).", "Check the address and the network, then call this again.")
