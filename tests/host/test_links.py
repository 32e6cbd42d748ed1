"""What people write as links: every form is understood, and every mistake is one sentence with its line."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reverie.errors import BadInput, NotFound
from reverie.host import links, names
from reverie.host.resources import FOLDERS
from reverie.settings import config

PAGE = "https://civitai.com/models/4384?modelVersionId=128713"


def only(text: str, kind: str = ""):
    (link,) = links.parse(text, kind)
    return link


def told(text: str) -> tuple:
    link = only(text)
    return link.kind, link.address, link.name


@pytest.mark.parametrize(
    "text, kind, address, name",
    [
        (PAGE, "", PAGE, ""),
        (f"lora:{PAGE}", "lora", PAGE, ""),
        (f"  LoRA : {PAGE} [dream.safetensors] ", "lora", PAGE, "dream.safetensors"),
        (f"text encoder:{PAGE}", "text_encoder", PAGE, ""),
        (f"upscale:{PAGE}[x4.pth]", "upscaler", PAGE, "x4.pth"),
        ("sdxl-base", "", "sdxl-base", ""),
        ("checkpoint:sdxl-base", "checkpoint", "sdxl-base", ""),
        ("civitai:4384@128713", "", "civitai:4384@128713", ""),
        ("model:civitai:4384", "checkpoint", "civitai:4384", ""),
        ("hf:owner/repo/a/b.safetensors", "", "hf:owner/repo/a/b.safetensors", ""),
        ("urn:air:sdxl:checkpoint:civitai:101055@128078", "", "urn:air:sdxl:checkpoint:civitai:101055@128078", ""),
        ("civitai.com/models/1", "", "https://civitai.com/models/1", ""),
        ("vae:/models/My VAE, the best.safetensors", "vae", "/models/My VAE, the best.safetensors", ""),
        (r"C:\models\x.safetensors", "", r"C:\models\x.safetensors", ""),
        (r"lora:C:\models\x.safetensors[y.safetensors]", "lora", r"C:\models\x.safetensors", "y.safetensors"),
        ("vae:file:///models/x.safetensors", "vae", "file:///models/x.safetensors", ""),
        ("lora:http://[::1]:8000/x.safetensors[y.safetensors]", "lora", "http://[::1]:8000/x.safetensors", "y.safetensors"),
        ("lora:https://host:8443/x?ids=1,2,3&b=a:b#part", "lora", "https://host:8443/x?ids=1,2,3&b=a:b#part", ""),
        (f"<{PAGE}>", "", PAGE, ""),
    ],
)
def test_a_link_is_kind_address_and_name(text, kind, address, name):
    assert told(text) == (kind, address, name)


def test_commas_part_links_and_stay_inside_of_a_query():
    text = "lora:https://a.example/x?ids=1,2,3[a, b.safetensors],https://b.example/y,vae: https://c.example/z?q=1,2 , sdxl-base,pocket"
    found = [(link.kind, link.address, link.name) for link in links.parse(text)]
    assert found == [
        ("lora", "https://a.example/x?ids=1,2,3", "a, b.safetensors"),
        ("", "https://b.example/y", ""),
        ("vae", "https://c.example/z?q=1,2", ""),
        ("", "sdxl-base", ""),
        ("", "pocket", ""),
    ]


def test_sections_say_the_kind_of_what_follows(tmp_path):
    file = tmp_path / "links.txt"
    file.write_text(
        "\ufeff# My links, the good ones\r\nsd15\r\n# Models:\r\nhttps://a.example/1.safetensors # the best\r\n\r\n"
        "// only a note\r\n## VAE\r\nhttps://a.example/2.safetensors // fine\r\nlora:https://a.example/3.safetensors\r\n"
        "[ Embeddings ]\r\n#https://a.example/off.safetensors\r\nhttps://a.example/4.pt#fragment\r\nText Encoders:\r\nhttps://a.example/5.safetensors\r\n",
        "utf-8",
    )
    found = [(link.kind, link.address.rpartition("/")[2]) for link in links.read(file)]
    assert found == [
        ("", "sd15"), ("checkpoint", "1.safetensors"), ("vae", "2.safetensors"), ("lora", "3.safetensors"),
        ("embedding", "4.pt#fragment"), ("text_encoder", "5.safetensors"),
    ]


def test_the_plural_heads_a_section_too():
    for word in ("LoRAs", "VAEs", "checkpoints", "ControlNets", "text encoders", "SAMs", "upscalers", "diffusion_models"):
        assert only(f"# {word}\n{PAGE}").kind in FOLDERS


def test_the_same_link_twice_is_one_and_the_asked_kind_is_for_those_without_one():
    assert [link.kind for link in links.parse(f"{PAGE},{PAGE}\n{PAGE}\nvae:{PAGE}", "loras")] == ["lora", "vae"]


@pytest.mark.parametrize("kind", FOLDERS)
def test_every_kind_can_be_written_as_it_is_called_or_as_its_folder_is(kind):
    if kind != "clip":  # people say clip to a text encoder; whole CLIPs come from the catalogue
        assert only(f"{kind}:{PAGE}").kind == kind
        assert only(f"{FOLDERS[kind]}:{PAGE}").kind == kind
    assert only(PAGE, kind).kind == kind


@pytest.mark.parametrize("kind, words", config("sources")["kinds"].items())
def test_every_word_of_the_table_heads_a_section(kind, words):
    assert kind in FOLDERS
    for word in words:
        assert {link.kind for heading in (f"# {word}", f"[{word.upper()}]", f"## {word.title()}:", f"# {word} models") for link in links.parse(f"{heading}\n{PAGE}")} == {kind}


@pytest.mark.parametrize(
    "text, part",
    [
        ("banana:https://a.example/x", "'banana'"),
        ("ftp://a.example/x", "ftp://"),
        ("magnet:?xt=urn:btih:1", "magnet"),
        ("javascript:alert(1)", "javascript"),
        ("https://", "no address"),
        ("https:///models/1", "no address"),
        ("https://a.example:99999/x", "no address"),
        ("https://a.example/x y", "no address"),
        ("https://[::1/x", "no address"),
        ("https://me:secret@a.example/x", "has a login"),
        ("https://a.example/x[y", "brackets"),
        ("https://a.example/x[a]b", "brackets"),
        ("sd15, lora:", "Nothing follows"),
        ("lora:[x.safetensors]", "Nothing follows"),
        ("[unknown]", "'unknown'"),
        ("two words", "no link"),
        ("$(reboot)|sh", "no link"),
        ("extension:https://github.com/a/b", "no model"),
        ("# Custom nodes\nhttps://github.com/a/b", "no model"),
        ("https://a.example/\u202egnp.x", "invisible"),
        ("a" * 5000, "over 4,096 letters"),
        ("[," * 500_000, "over 4,096 letters"),
        ("https://a.example/b," + "c," * 500_000, "over 4,096 letters"),
        ("/" + "a," * 500_000, "over 4,096 letters"),
        ("x " * 500_000 + ":", "over 4,096 letters"),
        ("a:" * 500_000, "over 4,096 letters"),
        ("#" + " " * 500_000 + "x\n,,ftp://x", "Line 2"),
        ("," * 1_000_000 + "ftp://x", "ftp://"),
        ("x\n" * 600_000, "1,200,000"),
        ("\n".join(f"id-{number}" for number in range(3000)), "2000"),
    ],
)
def test_a_malformed_link_is_refused_in_one_sentence(text, part):
    with pytest.raises(BadInput, match=".") as caught:
        links.parse(text)
    assert part in str(caught.value) and caught.value.next_step and len(str(caught.value)) < 600
    assert "secret" not in str(caught.value)


def test_a_refusal_names_the_line_and_the_file(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text(f"{PAGE}\n\nbanana:{PAGE}\n", "utf-8")
    with pytest.raises(BadInput, match="mine.txt: Line 3: 'banana'"):
        links.read(file)


def test_what_is_no_text_file_is_refused(tmp_path):
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x80" * 100)
    (tmp_path / "huge.txt").write_bytes(b"x" * (links.MAX_BYTES + 1))
    for file, error in ((tmp_path / "none.txt", NotFound), (tmp_path, BadInput), (tmp_path / "binary.txt", BadInput), (tmp_path / "huge.txt", BadInput)):
        with pytest.raises(error):
            links.read(file)
    with pytest.raises((BadInput, NotFound)):
        links.read(Path("a\0b"))


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors", "a/b.safetensors", "a\\b.safetensors", "..", ".", "...", "x\n.safetensors", "x\0.safetensors", "CON", "nul.safetensors",
        "com1.pt", "LPT9 .pt", "x.exe", "x.safetensors.sh", "x.safetensors.", "-" * 300 + ".pt", "a:b.pt", "a?.pt", "\u202etp.x.pt", "x\u200b.pt", ".safetensors",
    ],
)
def test_a_name_that_is_no_file_name_is_refused(name):
    with pytest.raises(BadInput):
        links.parse(f"{PAGE}[{name}]")


@pytest.mark.parametrize("name", ["dream", "dream_v1.5", "Träume.safetensors", "夢 (final).ckpt", "-rf.pt", "console.safetensors", "a,b.pt"])
def test_a_name_that_is_fine_is_taken(name):
    assert only(f"{PAGE}[{name}]").name == name


WORDS = st.sampled_from(
    ["lora", "model", "clip_vision", ":", "//", "https", "http://", "https://a.example/x", "[", "]", ",", "?", "#", "\n", " ", "\\", "C:\\", "..", "/", "@",
     "civitai:", "12", "hf:", "a/b", "urn:air:", "file:", "~", "\u202e", "\0", "%2e%2e", "con", ".pt", "sdxl-base", "\ud800", "é", "|", "$(x)"]
)


@given(st.one_of(st.text(max_size=200), st.lists(WORDS, max_size=25).map("".join)), st.sampled_from(["", "lora", "models"]))
@example("[\n]", "")
@example("lora:[]", "")
def test_no_text_brings_the_parser_down_and_no_name_leaves_its_folder(text, kind):
    try:
        found = links.parse(text, kind)
    except BadInput as error:
        assert error.next_step and len(str(error)) < 800
        return
    for link in found:
        assert link.address and link.kind in (*FOLDERS, "") and link.address.isprintable()
        assert not link.name or within(link.name)


@given(st.one_of(st.text(max_size=300), st.text(string.printable, max_size=60), st.lists(WORDS, max_size=9).map("".join)))
def test_what_is_left_of_a_servers_name_is_a_name(text):
    left = names.clean(text)
    assert left == "" or within(left) and names.clean(left) == left


@given(st.text(max_size=80))
def test_a_checked_name_is_checked_for_good(text):
    try:
        name = names.check(text)
    except BadInput:
        return
    assert within(name) and names.check(name) == name


def within(name: str) -> bool:
    """Whether joining the name to a folder leads to a child of it, on Windows too, and to no device."""
    from pathlib import PureWindowsPath

    folder, drive = Path("/storage/models/loras"), PureWindowsPath("C:/storage")
    return (folder / name).parent == folder and name not in (".", "..") and (drive / name).parent == drive and len(name.encode()) <= names.MAX_BYTES and "\0" not in name
