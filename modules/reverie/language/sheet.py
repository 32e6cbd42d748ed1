"""The character sheet: who looks how in every picture, as a YAML file that people edit and the program only adds to.

    Emma:
      kind: woman
      look: a tall woman with grey hair
      clothes: red coat
      phrase: a tall woman with grey hair wearing a red coat

Of several sheets the one given with `--characters` goes first, then `characters.yaml` beside the text, then the one in the
output folder.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from reverie import media
from reverie.errors import BadInput
from reverie.language import lexicon, people
from reverie.language.people import KINDS, Cast, Person, colour_of
from reverie.language.tokens import estimate_tokens
from reverie.settings import config

NAME = "characters.yaml"
MOST_TOKENS = 20  # of a phrase: three people then leave room for place, action and style in 75
_TEXTS = ("look", "clothes", "age", "phrase", "reference", "note")
_LISTS = ("aliases", "evidence")
_FIELDS = ("look", "clothes", "aliases", "kind", "colour", "narrator", "age", "phrase", "reference", "seed", "evidence", "note", "unseen")
_EXAMPLE = 'Write: Emma: {look: "short red hair"}'
HEADER = """\
# The people of this book, as every picture shows them. Change what you like: what is here is kept, new people are added
# at the end, and those who are not in the text any more are marked `unseen`.
#   phrase     what prompts say of the person, at most 20 tokens; emptied, it is made of look and clothes
#   colour     of the clothes: {colours}
#   kind       {kinds} (`nobody`: no person at all, never drawn)
#   narrator   true: says "I" in the text; quoted: says "I" in a tale that stands in quotation marks
#   evidence   where the text says so; a colour without evidence was chosen so that people differ
# `--characters FILE`, then a characters.yaml beside the text, go before what is said here.
"""


def load_sheet(path: Path | str | None) -> Cast:
    """The character sheet at `path`; an empty cast for None. BadInput says which line or person is wrong."""
    if path is None:
        return {}
    path = Path(path)
    cast, taken = {}, {}
    for name, entry, line in _entries(path, _text(path)):
        person = _from_sheet(name, entry, path, line)
        for called in dict.fromkeys(n.lower() for n in people.names(person)):
            if called in taken:
                raise BadInput(f"In '{path.name}', line {line}, '{name}' has a name of '{taken[called][0]}' (line {taken[called][1]}): {called}.",
                               "Join the two, or take the name from one of them.")
            taken[called] = name, line
        cast[name] = person
    return _coloured(cast)


def _coloured(cast: Cast) -> Cast:
    """Everybody of whose clothes the sheet tells no colour in one that the others do not wear."""
    worn = Counter(p.colour for p in cast.values() if p.colour)
    for name, person in cast.items():
        if not person.colour:
            cast[name] = replace(person, colour=people.free_colour(colour_of(name), worn))
            worn[cast[name].colour] += 1
    return cast


def together(*sheets: Cast) -> Cast:
    """One cast of several sheets; whom an earlier one knows by any name is left out of the later ones."""
    result: Cast = {}
    for sheet in sheets:
        known = {n.lower() for p in result.values() for n in people.names(p)}
        result |= {name: p for name, p in sheet.items() if not {n.lower() for n in people.names(p)} & known}
    return result


def freeze(everyone: Cast, sheet: Cast) -> Cast:
    """The cast with a phrase, clothes and a seed for everyone whom no sheet describes: the same words in every prompt."""
    garments = config("prompts")["pocket"]["garments"]
    return {name: person if name in sheet else _frozen(person, garments) for name, person in everyone.items()}


def proposed(everyone: Cast) -> str:
    """The text of a new sheet."""
    kinds, colours = ", ".join(KINDS), ", ".join(config("pocket")["colour"])
    return HEADER.format(kinds=kinds, colours=colours) + "\n" + _entries_text(everyone)


def updated(text: str, path: Path, new: Cast, unseen: set[str]) -> str | None:
    """`text` with new people at its end and `unseen` marks as they should be; every other line as it was.

    None when the sheet is written in a way that lines cannot be added to (all on one line, or a list).
    """
    sheet, lines = load_sheet(path), text.splitlines(keepends=True)
    node = _root(text, path)
    if node is None or node.flow_style or not hasattr(node, "value") or not all(isinstance(pair, tuple) for pair in node.value):
        return None
    for key, value in reversed(node.value):
        wanted, is_marked = key.value in unseen, sheet[key.value].unseen
        if wanted != is_marked:
            _mark(lines, key, value, wanted)
    body = "".join(lines)
    if new:
        indent = " " * node.value[0][0].start_mark.column
        added = "".join(indent + line if line.strip() else line for line in _entries_text(new).splitlines(keepends=True))
        body = body.rstrip("\n") + "\n\n" + added
    return body


def doubts(sheet: Cast) -> list[str]:
    """What a reader should know: phrases that say another colour than the sheet, names that could be two people's."""
    found = []
    for person in sheet.values():
        said = {lexicon.colours()[w] for w in re.findall(r"[a-z]+", person.phrase.lower()) if w in lexicon.colours()}
        said |= {lexicon.worn_colour(person.phrase.partition("wearing")[2])} - {""}
        missing = [what for what in ("look", "clothes") if (text := getattr(person, what)) and text.lower() not in person.phrase.lower()]
        if person.phrase and missing:
            found.append(f"The phrase of {person.name} does not say the {' and '.join(missing)} of the sheet; prompts say the phrase. Empty it to have it made anew.")
        elif person.phrase and said and person.colour not in said:
            found.append(f"The phrase of {person.name} says {', '.join(sorted(said))}, the colour says {person.colour}.")
    return found


def unheard(found: Cast, sheet: Cast, heard: Mapping[str, Iterable]) -> list[str]:
    """Whom of the sheet a writer would describe in other words, for a reader. `heard`: names in `found` → claims."""
    known = {n.lower(): person for person in sheet.values() for n in people.names(person)}
    others = []
    for name, told in heard.items():
        old = next((known[n.lower()] for n in people.names(found[name]) if n.lower() in known), None)
        said = {claim.what for claim in told} & {"look", "clothes"}
        if old and any(getattr(old, what) != getattr(found[name], what) for what in said):
            others.append(old.name)
    if not others:
        return []
    listed = ", ".join(others[:5]) + (" …" if len(others) > 5 else "")
    return [f"The language model would describe {listed} in other words. The sheet stays as it is; "
            "delete an entry there to have it proposed anew."]


def is_due(out: Path, reading) -> bool:
    """Whether the sheet in the output folder lacks anybody, or marks somebody wrongly; see `language.Reading`."""
    return bool(reading.new) or reading.unseen != _marked(out / NAME)


def keep(out: Path, reading) -> list[str]:
    """Write the sheet of an output folder, or add to it; returns what a reader should know. Nothing of a person's is changed."""
    path = out / NAME
    if not is_due(out, reading):
        return []
    if not path.exists():
        media.write_text(path, proposed(reading.new))
        return [f"{path} is proposed: {len(reading.new)} people as every picture will show them. Edit it as you like."]
    text = updated(_text(path), path, reading.new, reading.unseen)
    if text is None:
        return [f"{path} is written in a way that nothing can be added to. Not in it: {', '.join(reading.new)}."]
    media.write_text(path, text)
    return [f"{path} has {len(reading.new)} new people: {', '.join(reading.new)}."] if reading.new else []


def _marked(path: Path) -> set[str]:
    return {name for name, person in load_sheet(path).items() if person.unseen} if path.is_file() else set()


# -------------------------------------------------------------------------------------------------------- writing


def _frozen(person: Person, garments: dict[str, str]) -> Person:
    clothes = person.clothes or (f"{person.colour} {garments[person.kind]}" if person.kind in garments else "")
    seed = int.from_bytes(hashlib.sha256(person.name.lower().encode()).digest()[:4]) % 2**31
    look = person.look or ({"man": "a boy", "woman": "a girl"}.get(person.gender, "") if person.kind == "child" else "")
    whole = replace(person, clothes=clothes, look=look, seed=seed)
    shorter = (whole, replace(whole, look=look.split(" with ")[0]), replace(whole, look=""), replace(whole, look="", clothes=""))
    phrase = next((said for p in shorter if estimate_tokens(said := people.describe(p)) <= MOST_TOKENS), people.describe(shorter[-1]))
    return replace(whole, phrase=phrase)


def _entries_text(everyone: Cast) -> str:
    import yaml

    def entry(p: Person) -> dict:
        values = {"aliases": list(p.aliases), "kind": p.kind, "age": p.age, "look": p.look, "clothes": p.clothes, "colour": p.colour,
                  "phrase": p.phrase, "reference": p.reference, "seed": p.seed}
        told = {"narrator": "quoted" if p.quoted else True} if p.narrator or p.quoted else {}
        return values | told | ({"note": p.note} if p.note else {}) | {"evidence": list(p.evidence)}

    return "\n".join(yaml.safe_dump({name: entry(person)}, sort_keys=False, allow_unicode=True, width=10_000) for name, person in everyone.items())


def _mark(lines: list[str], key, value, wanted: bool) -> None:
    """Put `unseen: true` into a person's entry, or take it out, touching no other line."""
    if not wanted:
        marks = [k.start_mark.line for k, _ in getattr(value, "value", ()) if not value.flow_style and k.value == "unseen"]
        for line in marks:
            lines[line] = ""
        if value.flow_style:
            at = value.start_mark.line
            lines[at] = re.sub(r",?\s*\bunseen:\s*true\b(?:,\s*(?=[^\s}]))?", "", lines[at], count=1)
    elif isinstance(value.value, list) and value.flow_style:
        at, column = value.start_mark.line, value.start_mark.column + 1
        lines[at] = f"{lines[at][:column]}unseen: true{', ' if value.value else ''}{lines[at][column:]}"
    elif isinstance(value.value, list) and value.value:
        first = value.value[0][0].start_mark
        lines[first.line] = f"{' ' * first.column}unseen: true\n{lines[first.line]}"


# -------------------------------------------------------------------------------------------------------- reading


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput(f"The character sheet '{path}' cannot be read.", "Check its path.") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"The character sheet '{path.name}' is not YAML: it is not text.", _EXAMPLE) from error


def _root(text: str, path: Path):
    """The node that holds the people: a mapping, or a list of entries with `name`; None for neither."""
    import yaml

    try:
        node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError) as error:
        where = f" at line {error.problem_mark.line + 1}" if getattr(error, "problem_mark", None) else ""
        raise BadInput(f"The character sheet '{path.name}' is not YAML{where}.", f"Mend that line. {_EXAMPLE}") from error
    if isinstance(node, yaml.MappingNode):
        inner = next((v for k, v in node.value if k.value == "characters" and not isinstance(v, yaml.ScalarNode)), None)
        return inner or node
    return node if isinstance(node, yaml.SequenceNode) else None


def _entries(path: Path, text: str):
    """(name, values, line) of every person; values is a dictionary, or a text: the look."""
    import yaml

    node, loader = _root(text, path), yaml.SafeLoader("")
    try:
        if isinstance(node, yaml.MappingNode):
            found = [(k.value, loader.construct_object(v, deep=True), k.start_mark.line + 1) for k, v in node.value]
            found = found if all(isinstance(name, str) for name, _, _ in found) else []
        else:
            found = [(str(e.get("name") or ""), {k: v for k, v in e.items() if k != "name"}, v.start_mark.line + 1)
                     for v in (node.value if node is not None else ()) if isinstance(e := loader.construct_object(v, deep=True), dict)]
            found = [] if any(not name for name, _, _ in found) else found
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        where = f" at line {error.problem_mark.line + 1}" if getattr(error, "problem_mark", None) else ""
        raise BadInput(f"The character sheet '{path.name}' is not YAML{where} that can be used.", _EXAMPLE) from error
    if not found:
        raise BadInput(f"The character sheet '{path.name}' names nobody.", _EXAMPLE)
    return found


def _from_sheet(name: str, entry, path: Path, line: int) -> Person:
    def wrong(what: str, next_step: str) -> BadInput:
        return BadInput(f"In '{path.name}', line {line}, {what}.", next_step)

    entry = {"look": entry} if isinstance(entry, str) else {} if entry is None else entry
    if not isinstance(entry, dict):
        raise wrong(f"'{name}' is {_said(entry)} instead of what is known of the person", _EXAMPLE)
    entry = {"colour" if k == "color" else str(k): v for k, v in entry.items()}
    unknown = sorted(set(entry) - set(_FIELDS))
    if unknown or not name.strip():
        raise wrong(f"'{name}' has {', '.join(unknown) or 'no name'}, which is not known", f"Known are: {', '.join(_FIELDS)}.")
    for field in (*_TEXTS, "kind", "colour"):
        if not isinstance(entry.get(field), (str, int, type(None))) or isinstance(entry.get(field), bool):
            raise wrong(f"the {field} of '{name}' is {_said(entry[field])} instead of words", f"Write it in quotes: {field}: \"…\"")
    lists = {field: [entry[field]] if isinstance(entry.get(field), str) else entry.get(field) or [] for field in _LISTS}
    for field, values in lists.items():
        if not isinstance(values, list) or not all(isinstance(v, (str, int)) for v in values):
            raise wrong(f"the {field} of '{name}' are {_said(values)} instead of a list of words", f"Write: {field}: [one, another]")
    kind, colour = str(entry.get("kind") or "man").lower(), str(entry.get("colour") or "").lower()
    if kind not in KINDS:
        raise wrong(f"the kind of '{name}' is '{kind}'", f"Use one of: {', '.join(KINDS)}.")
    if colour and not lexicon.worn_colour(colour):
        raise wrong(f"the colour of '{name}' is '{colour}', which cannot be painted", f"Use one of: {', '.join(config('pocket')['colour'])}.")
    if entry.get("narrator") not in (None, True, False, "quoted") or not isinstance(entry.get("unseen"), (bool, type(None))):
        raise wrong(f"narrator or unseen of '{name}' is neither true nor false", "Write true or false; narrator may be 'quoted' as well.")
    if not isinstance(entry.get("seed") or 0, int) or not 0 <= (entry.get("seed") or 0) < 2**32:
        raise wrong(f"the seed of '{name}' is {_said(entry['seed'])}", "Write a whole number from 0 to 4294967295.")
    texts = {field: " ".join(str(entry[field] if entry.get(field) is not None else "").split()) for field in _TEXTS}
    length = len(re.findall(r"\w+|[^\w\s]", texts["phrase"]))
    if length > MOST_TOKENS:
        raise wrong(f"the phrase of '{name}' has at least {length} tokens, and {MOST_TOKENS} fit", "Shorten it to what one sees at once.")
    worn = lexicon.worn_colour(texts["clothes"]) or lexicon.worn_colour(texts["phrase"].partition("wearing")[2] or texts["phrase"])
    return Person(name, kind, colour=lexicon.worn_colour(colour) or worn, aliases=tuple(map(str, lists["aliases"])),
                  narrator=entry.get("narrator") is True, quoted=entry.get("narrator") == "quoted", seed=entry.get("seed") or 0,
                  evidence=tuple(map(str, lists["evidence"])), unseen=bool(entry.get("unseen")), **texts)


def _said(value) -> str:
    return {dict: "a table", list: "a list", bool: "yes or no", float: "a number", int: "a number"}.get(type(value), f"'{str(value)[:40]}'")
