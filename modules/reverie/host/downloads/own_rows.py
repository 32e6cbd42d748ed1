"""The person's own rows of storage/webuis.yaml in a set-up: those that it uses go along, and are told to the other machine's file.

A row comes back from a file that may be somebody else's: it is checked as every row is, and names no place of this machine.
"""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, fields
from typing import Any, Iterable

from reverie import media
from reverie.errors import BadInput
from reverie.host import webuis
from reverie.host.webuis import extensions
from reverie.host.webuis.row import validate
from reverie.settings import Settings

PARTS = {"webuis": lambda row: validate(row, "the set-up"), "extensions": extensions.validate}
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL")
_PLACE = re.compile(r"(^|[=,;:\s])(/|~|[A-Za-z]:[\\/]|file:)(?!/)")


def of(webui: str, extension_ids: Iterable[str], settings: Settings, notes: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The own rows of that WebUI and those extensions; `notes` gets a sentence on each that means something on this machine only."""
    wanted, catalogue = set(extension_ids), extensions.all()
    found = {
        "webuis": [row for row in webuis.own_rows(settings) if row.id == webui],
        "extensions": [row for row in extensions.all(settings) if row.id in wanted and row not in catalogue],
    }
    carried: dict[str, list[dict[str, Any]]] = {}
    for part, rows in found.items():
        for row in rows:
            told = {spec.name: value for spec in fields(row) if (value := getattr(row, spec.name)) != _default(spec)}
            told = json.loads(json.dumps(told))
            if why := _stays(told):
                notes.append(f"{told.get('title') or told['id']} is a row of your own storage/{webuis.OWN} with {why}: take that file along.")
            else:
                carried.setdefault(part, []).append(told)
    return carried


def check(told: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """ValueError where a row cannot be used, or has what `of` would have left out."""
    for part, rows in told.items():
        if part not in PARTS:
            raise ValueError(f"'{part[:40]}' is no list of rows")
        for row in rows:
            try:
                PARTS[part](row)
            except BadInput as error:
                raise ValueError(str(error)) from None
            if why := _stays(row):
                raise ValueError(f"the row '{row['id']}' has {why}")
    return told


def tell(told: dict[str, list[dict[str, Any]]], settings: Settings) -> list[str]:
    """Write those rows into storage/webuis.yaml, unless it has some of the same ids; what was done, a sentence each."""
    import yaml

    path, notes = settings.storage / webuis.OWN, []
    webuis.own_rows(settings)  # says what is wrong with a file that cannot be read
    text = path.read_text("utf-8") if path.exists() else ""
    whole = yaml.safe_load(text) or {}
    for part, rows in told.items():
        here = {row["id"]: row for row in whole.get(part) or []}
        for row in rows:
            if row["id"] not in here:
                whole.setdefault(part, []).append(row)
                notes.append(f"{row['id']} is a row of storage/{webuis.OWN} now, as in the set-up.")
            elif PARTS[part](here[row["id"]]) != PARTS[part](row):
                notes.append(f"{row['id']} is another row in storage/{webuis.OWN} than in the set-up, and was left as it is.")
    if any("now, as" in note for note in notes):
        whole.setdefault("webuis", [])
        if text:
            media.write_text(path.with_name(f"{path.name}.before"), text)  # its comments are only there
        media.write_text(path, yaml.safe_dump(whole, sort_keys=False, allow_unicode=True))
    return notes


def _stays(row: dict[str, Any]) -> str:
    """What in a row is for this machine alone, or for nobody else to see; "" if nothing is."""
    for name in ("package", "venv", "git"):
        if row.get(name) and not re.match(r"https?://", row[name]):
            return f"a place of its machine as {name}"
    environment = row.get("environment", {})
    if any(_SECRET.search(name) for name in environment):
        return "what may be a secret in its environment"
    words = [*row.get("start", []), *(word for words in row.get("arguments", {}).values() for word in words), *environment.values()]
    return "places of its machine" if any(_PLACE.search(str(word)) for word in words) else ""


def _default(spec) -> Any:
    return spec.default if spec.default_factory is MISSING else spec.default_factory()
