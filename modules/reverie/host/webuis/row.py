"""One WebUI as a row of a catalogue says it, and what such a row may say.

A row comes from a file that may be somebody else's: what it cannot mean is refused in one sentence, and nothing in it reaches a shell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import PurePosixPath
from typing import Any, Mapping

from reverie.errors import BadInput
from reverie.host.resources import FOLDERS

VIEWS = ("links", "extra_model_paths", "fooocus", "invokeai")
LOGINS = ("none", "gradio")
DEVICES = ("gpu", "cpu", "low_vram")
PLACEHOLDERS = {"PYTHON", "VENV", "HOME", "PORT", "OUTPUTS", "MODELS", "EXTRA_PATHS"}
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
REQUIREMENT = re.compile(r"[A-Za-z0-9][\w.\[\],~=<>! -]*")  # for pip: never an option, an address or a path
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PLACEHOLDER = re.compile(r"\$(\{?\w*\}?)")
_LOADS_CODE = re.compile(r"(LD_|DYLD_|PYTHON|GIT_|BASH|PATH$|ENV$|IFS$|SHELL$|HOME$|PERL|NODE_|LC_ALL$)")


@dataclass(frozen=True)
class WebUI:
    """One row. `folders`: kind → path relative to its home. `start` and `arguments` are argument lists with placeholders;
    `login` "none" needs a gate of ours in front, "gradio" takes --gradio-auth-path. `own_package`: nothing to install it from."""

    id: str
    title: str
    start: tuple[str, ...]
    health: str = "/"
    port: int = 7860
    login: str = "none"
    family: str = ""
    purpose: str = ""
    package: str = ""
    package_sha256: str = ""
    venv: str = ""
    venv_sha256: str = ""
    git: str = ""
    commit: str = ""
    python: str = ""
    requirements: str = "requirements.txt"
    requires: tuple[str, ...] = ()
    arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)
    view: str = "links"
    outputs: str = ""
    extensions: str = ""
    configs: tuple[Mapping[str, Any], ...] = ()
    capabilities: tuple[str, ...] = ()
    disk_gb: float = 0
    own_package: bool = False
    cuda_package: bool = False
    unchecked: tuple[str, ...] = ()
    note: str = ""


def validate(row: Any, where: str) -> WebUI:
    """The row as a WebUI. BadInput with one sentence on the first thing that is wrong with it."""
    if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not _ID.fullmatch(row["id"]):
        raise BadInput(f"A row in {where} has no usable id.", "Give it one of small letters, digits, - and _, like 'my-comfy'.")
    check = _Check(row, where)
    known = {spec.name for spec in fields(WebUI)}
    if unknown := sorted(str(key) for key in row if key not in known):
        check.no(f"'{unknown[0]}' is no field", f"Fields are: {', '.join(sorted(known))}.")
    texts = {name: check.text(name) for name in known if WebUI.__dataclass_fields__[name].type == "str" and name != "id"}
    made = {
        **texts, "id": row["id"], "title": texts["title"] or row["id"], "health": texts["health"] or "/",
        "requirements": check.inside("requirements", row.get("requirements", "requirements.txt") or "requirements.txt"),
        "port": check.port(), "disk_gb": check.disk_gb(), "login": check.one_of("login", LOGINS), "view": check.one_of("view", VIEWS),
        "start": check.start(), "arguments": check.arguments(), "environment": check.environment(), "folders": check.folders(),
        "configs": check.configs(), "own_package": check.flag("own_package"), "cuda_package": check.flag("cuda_package"),
        "requires": check.requires(), "capabilities": tuple(check.words("capabilities", row.get("capabilities", []))), "unchecked": tuple(check.words("unchecked", row.get("unchecked", []))),
    }
    for name in ("outputs", "extensions"):
        made[name] = check.inside(name, texts[name]) if texts[name] else ""
    check.sources(made)
    return WebUI(**made)


class _Check:
    """Reads one row's fields, each into what WebUI wants, or raises."""

    def __init__(self, row: dict, where: str):
        self.row, self.where = row, where

    def no(self, what: str, next_step: str):
        raise BadInput(f"WebUI '{self.row['id']}' in {self.where}: {what}.", next_step)

    def text(self, name: str) -> str:
        value = self.row.get(name, "")
        if name in ("python", "commit") and isinstance(value, (int, float)) and not isinstance(value, bool):
            self.no(f"{name} is the number {value}, which loses digits", f'Write it in quotes: {name}: "{value}".')
        if not isinstance(value, str) or any(ord(letter) < 32 for letter in value):
            self.no(f"{name} is {value!r:.60}, not a line of text", "Write it as plain text.")
        return value.strip()

    def flag(self, name: str) -> bool:
        value = self.row.get(name, False)
        return value if isinstance(value, bool) else self.no(f"{name} is {value!r:.40}", "Write true or false.")

    def one_of(self, name: str, known: tuple[str, ...]) -> str:
        value = self.row.get(name, known[0])
        return value if value in known else self.no(f"{name} is {value!r:.40}", f"Use one of: {', '.join(known)}.")

    def port(self) -> int:
        value = self.row.get("port", 7860)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
            self.no(f"port is {value!r:.40}", "Write a whole number from 1 to 65535.")
        return value

    def disk_gb(self) -> float:
        value = self.row.get("disk_gb", 0)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 100_000:
            self.no(f"disk_gb is {value!r:.40}", "Write about how many gigabytes it takes while it is installed.")
        return float(value)

    def words(self, name: str, value: Any) -> list[str]:
        if not isinstance(value, list) or any(not isinstance(word, (str, int, float)) or isinstance(word, bool) for word in value):
            self.no(f"{name} is {value!r:.60}, not a list of words", "Write it as a list, [word, word]: one argument each.")
        found = [str(word) for word in value]
        if any(ord(letter) < 32 for word in found for letter in word):
            self.no(f"{name} has a line break or control character in it", "Write one argument as one word.")
        return found

    def placeholders(self, name: str, words: list[str]) -> list[str]:
        for found in (match[1].strip("{}") for word in words for match in _PLACEHOLDER.finditer(word)):
            if found not in PLACEHOLDERS:
                self.no(f"{name} has '${found}' in it", f"Placeholders are: {', '.join('$' + name for name in sorted(PLACEHOLDERS))}.")
        return words

    def start(self) -> tuple[str, ...]:
        """$PYTHON with a script of its own or -m, or a program in its environment. Nothing else: no shell, no code."""
        words = self.placeholders("start", self.words("start", self.row.get("start", [])))
        programme, first = (words + ["", ""])[:2]
        what = f"start begins with '{programme} {first}'".replace(" '", "'")
        right = "Begin with $PYTHON and a script in its folder (main.py), with $PYTHON, -m and a module, or with $VENV/bin/name."
        script = first.endswith(".py") and not first.startswith("-") and _is_inside(first.removeprefix("$HOME/"))
        module = first == "-m" and len(words) > 2 and re.fullmatch(r"[A-Za-z_][\w.]*", words[2])
        own = programme.startswith("$VENV/") and _is_inside(programme.removeprefix("$VENV/")) and re.fullmatch(r"(bin|Scripts)/[\w.-]+", programme[6:])
        if own and re.match(r"(ba|z|da|k|fi|c|tc)?sh$|python|pip|env$|activate|powershell|cmd", programme.rpartition("/")[2], re.I):
            self.no(what, right)
        if not (programme == "$PYTHON" and (script or module)) and not own:
            self.no(what, right)
        return tuple(words)

    def arguments(self) -> dict[str, tuple[str, ...]]:
        value = self.row.get("arguments", {})
        if not isinstance(value, dict) or set(value) - set(DEVICES):
            self.no(f"arguments is {value!r:.60}", f"Write a list for each of: {', '.join(DEVICES)}.")
        return {name: tuple(self.placeholders("arguments", self.words(f"arguments.{name}", words))) for name, words in value.items()}

    def environment(self) -> dict[str, str]:
        value = self.row.get("environment", {})
        if not isinstance(value, dict):
            self.no(f"environment is {value!r:.60}", "Write NAME: value lines.")
        for name, text in value.items():
            if not isinstance(name, str) or not re.fullmatch(r"[A-Z][A-Z0-9_]*", name) or _LOADS_CODE.match(name):
                self.no(f"environment may not set {name!r:.40}", "Only settings of the WebUI itself belong there.")
            if not isinstance(text, (str, int, float)) or "\n" in str(text) or "\0" in str(text):
                self.no(f"environment.{name} is {text!r:.40}", "Write it as plain text.")
            self.placeholders("environment", [str(text)])
        return {name: str(text) for name, text in value.items()}

    def folders(self) -> dict[str, str]:
        value = self.row.get("folders", {})
        if not isinstance(value, dict):
            self.no(f"folders is {value!r:.60}", "Write kind: path lines.")
        for kind in value:
            if kind not in FOLDERS:
                self.no(f"folders has the kind {kind!r:.40}", f"Kinds are: {', '.join(FOLDERS)}.")
        return {kind: self.inside(f"folders.{kind}", path) for kind, path in value.items()}

    def requires(self) -> tuple[str, ...]:
        value = self.words("requires", self.row.get("requires", []))
        for word in value:
            if not REQUIREMENT.fullmatch(word):
                self.no(f"requires has '{word[:60]}', no name of a package", "Write it like 'name==1.2'.")
        return tuple(value)

    def inside(self, name: str, path: Any) -> str:
        if not isinstance(path, str) or not _is_inside(path):
            self.no(f"{name} is {path!r:.60}, not a path inside its folder", "Write it relative, without '..', like models/checkpoints.")
        return PurePosixPath(path).as_posix()

    def configs(self) -> tuple[dict[str, Any], ...]:
        value = self.row.get("configs", [])
        if not isinstance(value, list):
            self.no(f"configs is {value!r:.60}", "Write a list of {path, values}.")
        for item in value:
            if not isinstance(item, dict) or set(item) != {"path", "values"} or not isinstance(item["values"], dict):
                self.no("a config is not {path, values}", "Give the file's path and the values that it begins with.")
            if not self.inside("configs.path", item["path"]).endswith(".json"):
                self.no(f"config {item['path']!r:.60} is no .json file", "Only JSON settings can be written.")
        return tuple(value)

    def sources(self, made: dict[str, Any]) -> None:
        """Addresses are https, or a path on this machine; sums are 64 hex digits."""
        for name in ("package", "venv", "git"):
            address = made[name]
            if address.startswith("-") or re.match(r"(?!https?://|file://|[A-Za-z]:[\\/])[\w+.-]+:", address):
                self.no(f"{name} is '{address[:80]}'", "Give an https:// address, or a path on this machine.")
            if re.search(r"://[^/]*@", address):
                self.no(f"{name} has a login in its address", "Keep tokens in the secrets, never in a row.")
        for name in ("package_sha256", "venv_sha256"):
            made[name] = made[name].lower()
            if made[name] and not _SHA256.fullmatch(made[name]):
                self.no(f"{name} is '{made[name][:70]}'", "Give the 64 hex digits that sha256sum prints.")
        if made["python"] and not re.fullmatch(r"3\.\d{1,2}", made["python"]):
            self.no(f"python is '{made['python']}'", 'Write it like "3.10".')
        if made["commit"] and not re.fullmatch(r"[\w][\w./-]{0,99}", made["commit"]) or ".." in made["commit"]:
            self.no(f"commit is '{made['commit'][:60]}'", "Give a hash, a tag or a branch.")
        if not re.fullmatch(r"/[\w./?=&%~-]*", made["health"]):
            self.no(f"health is '{made['health'][:60]}'", "Give a path that begins with /.")
        if not (made["package"] or made["git"] or made["own_package"]):
            self.no("it has neither package nor git", "Name where to install it from, or set own_package: true.")


def _is_inside(path: str) -> bool:
    """A relative path with no way up, no drive and no control character; POSIX or Windows."""
    parts = path.replace("\\", "/").split("/")
    return bool(path.strip()) and not path.startswith(("/", "\\", "~", "-")) and ":" not in path and ".." not in parts and not any(ord(c) < 32 for c in path)
