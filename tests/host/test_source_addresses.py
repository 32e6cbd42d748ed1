"""Plain addresses, Google Drive, files and the catalogue as sources; redirects, pages that pose as files, and servers that never answer."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from hub_servers import Hubs
from hypothesis import given
from hypothesis import strategies as st

from reverie.errors import BadInput, FetchFailed, NotFound, TokenNeeded
from reverie.host import links, names, sources
from reverie.host.resources import FOLDERS, Link
from reverie.host.sources import _asking, catalogue, url
from reverie.settings import config

HTML = b"<!DOCTYPE html><html><head><title>Log in &amp; pay</title></head></html>"


@pytest.fixture
def hubs(monkeypatch):
    with Hubs() as hubs:
        yield hubs.use(monkeypatch)


def resolve(text: str):
    (link,) = links.parse(text)
    return sources.resolve(link)


def one(text: str):
    (resource,) = resolve(text)
    return resource


# ------------------------------------------------------------------------------------------------------ plain addresses


def test_a_plain_address_tells_its_size_and_name(hubs):
    address = hubs.add_file("models/lora one.safetensors", 60_000)
    resource = one(f"{address}?v=2")
    assert (resource.kind, resource.name, resource.size, resource.sha256, resource.url) == ("lora", "lora one.safetensors", 60_000, "", f"{address}?v=2")
    opened = sources.open_address(resource)
    assert httpx.get(opened.url).content == hubs.plain["models/lora one.safetensors"].data
    assert all("bytes=0-4095" == headers.get("Range") for method, _, headers in hubs.asked("storage")[:2])


def test_redirects_are_followed_and_the_address_where_they_lead_is_opened(hubs):
    hubs.add_file("b.safetensors", 5000)
    first = hubs.add_file("go?", redirect="/hop")
    hubs.add_file("hop", redirect="b.safetensors")
    resource = one(f"vae:{first}")
    assert resource.name == "b.safetensors" and resource.url == first and sources.open_address(resource).url == f"{hubs.storage}/b.safetensors"


@pytest.mark.parametrize(
    "header, name",
    [
        ('attachment; filename="a.safetensors"', "a.safetensors"),
        ("attachment; filename=a.safetensors; size=3", "a.safetensors"),
        ("attachment; filename=\"x.bin\"; filename*=UTF-8''Tr%C3%A4ume%20%231.safetensors", "Träume #1.safetensors"),
        ("attachment; filename*=iso-8859-1'en'%A3.safetensors", "£.safetensors"),
        ("attachment; filename*=nonsense''%FF.pt; filename=\"b.pt\"", "b.pt"),
        ('attachment; filename="say \\"hi\\".pt"', "say _hi_.pt"),
        ('attachment; filename="../../../etc/cron.d/x.pt"', "x.pt"),
        ('attachment; filename="C:\\\\Windows\\\\x.pt"', "x.pt"),
        ("attachment; filename*=UTF-8''..%2F..%2Fx.pt", "x.pt"),
        ('attachment; filename="con.pt"', "_con.pt"),
        ('attachment; filename="x.pt."', "x.pt"),
        ("inline", "asked.safetensors"),
        ("attachment; filename=", "asked.safetensors"),
        ('attachment; filename="setup.exe"', "asked.safetensors"),
    ],
)
def test_a_servers_name_is_read_as_the_rfcs_say_and_stays_in_the_folder(hubs, header, name):
    address = hubs.add_file("asked.safetensors", 500, headers={"Content-Disposition": header})
    assert one(f"lora:{address}").name == name


def test_a_raw_utf8_name_is_read():
    assert url.disposition_name('attachment; filename="夢.pt"'.encode().decode("latin-1")) == "夢.pt"


@given(st.one_of(st.text(max_size=120), st.lists(st.sampled_from(["attachment;", "filename", "*", "=", '"', "\\", "UTF-8''", "%2e%2e", "%ff", "/", "a.pt", ";", " "]), max_size=15).map("".join)))
def test_no_header_brings_the_reader_down(header):
    left = names.clean(url.disposition_name(header))
    assert not left or (Path("/folder") / left).parent == Path("/folder")


@pytest.mark.parametrize(
    "how, error, said",
    [
        (dict(data=HTML, type="text/html"), FetchFailed, r'is a web page \("Log in & pay"\), no model'),
        (dict(data=HTML), FetchFailed, "is a web page"),
        (dict(data=b'{"error": {"message": "no quota left"}}', type="application/json"), FetchFailed, r'an error message \("no quota left"\)'),
        (dict(data=b"<?xml version='1.0'?><Error><Message>Request has expired</Message></Error>", type="application/xml"), FetchFailed, "Request has expired"),
        (dict(data=b""), FetchFailed, "is empty"),
        (dict(data=b"no", status=401), TokenNeeded, "does not let everyone have"),
        (dict(data=b"no", status=403), TokenNeeded, "HTTP 403"),
        (dict(data=b"no", status=404), NotFound, "There is nothing at"),
        (dict(data=b"no", status=410), NotFound, "HTTP 410"),
        (dict(data=b"no", status=418), FetchFailed, "HTTP 418"),
        (dict(data=b"no", status=429, headers={"Retry-After": "7200"}), FetchFailed, "asked too often. Try again in 120 minutes"),
        (dict(data=b"no", status=503, headers={"Retry-After": "Wed, 01 Jan 2997 00:00:00 GMT"}), FetchFailed, "out of service"),
        (dict(redirect="/x.safetensors?signature=secret"), FetchFailed, "leads in circles: 11 redirects"),
        (dict(redirect="file:///etc/passwd"), FetchFailed, "leads to a file:// address"),
        (dict(redirect="ftp://a.example/x"), FetchFailed, "leads to a ftp:// address"),
        (dict(redirect="javascript:alert(1)"), FetchFailed, "cannot be asked"),
        (dict(redirect="http://"), FetchFailed, "leads in circles"),
        (dict(redirect="http://[::bad/"), FetchFailed, "x.safetensors"),
    ],
)
def test_what_is_no_file_is_refused_in_one_sentence(hubs, how, error, said):
    address = hubs.add_file("x.safetensors", how.pop("data", 500), **how)
    with pytest.raises(error, match=said) as caught:
        one(f"lora:{address}?signature=secret")
    assert "secret" not in str(caught.value) and caught.value.next_step


def test_a_redirect_of_a_stranger_to_this_machine_is_not_followed():
    for there in ("http://127.0.0.1:8188/x", "http://localhost/x", "http://[::1]/x", "http://0.0.0.0/x", "http://169.254.169.254/latest", "http://[::ffff:127.0.0.1]/x", "http://a.localhost./x"):
        with pytest.raises(FetchFailed, match="leads to this machine itself"):
            _asking.checked("https://models.example/x", there)
    assert _asking.checked("http://127.0.0.1:1/x", "http://127.0.0.1:2/y") and _asking.checked("https://a.example/x", "https://b.example/y")


def test_a_server_that_never_answers_is_given_up(hubs, monkeypatch):
    monkeypatch.setenv("REVERIE_ANSWER_S", "0.3")
    with pytest.raises(FetchFailed, match="does not answer .no answer within 0.3 seconds"):
        one(f"lora:{hubs.add_file('x.safetensors', stall=True)}")


def test_a_host_that_is_not_there_is_one_sentence(hubs):
    with Hubs() as gone:
        address = gone.add_file("x.safetensors")
    with pytest.raises(FetchFailed, match="does not answer"):
        one(f"lora:{address}")


def test_of_a_huge_file_only_the_beginning_is_read(hubs):
    hubs.bytes_per_s = 200_000
    address = hubs.add_file("x.safetensors", 3_000_000, headers={"Accept-Ranges": "none"})
    assert one(f"lora:{address}").size == 3_000_000


def test_a_name_that_disagrees_with_the_file_is_refused(hubs):
    address = hubs.add_file("x.ckpt", 500)
    with pytest.raises(BadInput, match=r"ends in .safetensors, but the file is a .ckpt. Write \[mine.ckpt\]"):
        one(f"checkpoint:{address}[mine.safetensors]")
    assert one(f"checkpoint:{address}[mine]").name == "mine.ckpt" and one(f"checkpoint:{address}").about["pickled"]
    nameless = hubs.add_file("download", 500)
    with pytest.raises(BadInput, match="does not tell a file name"):
        one(f"lora:{nameless}")
    with pytest.raises(BadInput, match="Neither the name 'mine' nor the address"):
        one(f"lora:{nameless}[mine]")
    assert one(f"lora:{nameless}[mine.safetensors]").name == "mine.safetensors"


def test_what_nobody_can_place_asks_for_its_kind(hubs):
    with pytest.raises(BadInput, match="Nothing says what kind of model .* Write it before the address: checkpoint:"):
        one(hubs.add_file("thing.safetensors", 500))
    for path, kind in (("split_files/text_encoders/qwen.safetensors", "text_encoder"), ("a/vae/x.safetensors", "vae"), ("4x-UltraSharp.pth", "upscaler"), ("face_yolov8n.pt", "detector")):
        assert one(hubs.add_file(path, 500)).kind == kind


@pytest.mark.parametrize("address", ["nonsense", "a/b/../c", "gopher", "x" * 300, "%00"])
def test_what_no_source_takes_is_refused(hubs, address):
    with pytest.raises((NotFound, BadInput)):
        sources.resolve(Link(address, address, "lora"))
    with pytest.raises(FetchFailed, match="no source"):
        sources.open_address(sources.Resource("lora", "x.pt", "https://a.example/x", "_asking"))


# --------------------------------------------------------------------------------------------------------- Google Drive


@pytest.mark.parametrize("large", [False, True])
def test_every_form_of_a_drive_link_leads_to_the_file(hubs, large):
    id = "1AbCdEfGhIjKlMnOp-_"
    data = hubs.add_drive(id, "Größe one.safetensors", 70_000, large=large)
    forms = [f"gdrive:{id}", f"https://drive.google.com/file/d/{id}/view?usp=sharing", f"https://drive.google.com/open?id={id}", f"https://drive.google.com/uc?id={id}&export=download",
             f"https://docs.google.com/uc?export=download&confirm=t&id={id}", f"https://drive.usercontent.google.com/download?id={id}", f"{hubs.drive}/file/d/{id}"]
    found = [one(f"lora:{form}") for form in forms]
    assert {(r.name, r.size, r.url) for r in found} == {("Größe one.safetensors", 70_000, found[0].url)}
    assert httpx.get(sources.open_address(found[0]).url).content == data


@pytest.mark.parametrize(
    "how, error, said",
    [(dict(quota=True), FetchFailed, "quota for that file is used up"), (dict(private=True), TokenNeeded, "not shared with everyone"), (None, NotFound, "no such file")],
)
def test_drives_refusals_are_told_apart(hubs, how, error, said):
    if how:
        hubs.add_drive("1AbCdEfGhIjKl", "x.safetensors", 500, **how)
    with pytest.raises(error, match=said):
        one("lora:gdrive:1AbCdEfGhIjKl")


@pytest.mark.parametrize("address", ["gdrive:x", "https://drive.google.com/drive/folders/1AbCdEfGhIjKl", "https://drive.google.com/file/d/", "https://docs.google.com/document/u/0/"])
def test_what_is_no_file_on_drive_is_refused(hubs, address):
    with pytest.raises(BadInput):
        one(f"lora:{address}")
    assert not hubs.requests


# ---------------------------------------------------------------------------------------------------------------- files


def test_a_file_of_this_machine_is_taken_by_path_and_by_file_address(tmp_path):
    file = tmp_path / "loras" / "My LoRA #1.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"x" * 700)
    for link in (Link("", str(file)), *links.parse(f"{file.as_uri()}\nlora:{file.as_uri()}")):
        (resource,) = sources.resolve(link)
        assert (resource.kind, resource.name, resource.size, resource.url) == ("lora", file.name, 700, file.as_uri())
        assert sources.open_address(resource).url == file.as_uri()
    file.unlink()
    with pytest.raises(FetchFailed, match="is gone"):
        sources.open_address(resource)


def test_a_folder_is_a_diffusers_model_or_files_of_one_kind(tmp_path):
    model = tmp_path / "tiny-model"
    for name in ("model_index.json", "unet/config.json", "unet/x.safetensors", "unet/x.bin", "notes.md"):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_bytes(b"{}")
    assert [(r.kind, r.name) for r in resolve(str(model))] == [("diffusers", f"tiny-model/{name}") for name in ("model_index.json", "unet/config.json", "unet/x.safetensors")]
    assert [(r.kind, r.name) for r in resolve(f"vae:{model / 'unet'}")] == [("vae", "x.safetensors")]


@pytest.mark.parametrize("text, error", [("lora:/no/such/file.pt", NotFound), ("lora:~nobody-here/x.pt", BadInput), ("lora:file://other/x.pt", BadInput), ("lora:file:///a%00b.pt", BadInput), ("lora:/dev/null", BadInput)])
def test_a_path_that_leads_nowhere_is_one_sentence(text, error):
    with pytest.raises(error):
        resolve(text)


def test_an_empty_folder_is_one_sentence(tmp_path):
    with pytest.raises(NotFound, match="There is no model in"):
        resolve(f"lora:{tmp_path}")


# ------------------------------------------------------------------------------------------------------------ catalogue


def test_an_id_is_its_file_under_the_name_that_the_studio_looks_for(hubs):
    data = hubs.add_repo("latent-consistency/lcm-lora-sdxl", {"pytorch_lora_weights.safetensors": 3000})["pytorch_lora_weights.safetensors"]
    resource = one("lcm-lora-sdxl")
    assert (resource.kind, resource.name, resource.family, resource.size, resource.source) == ("lora", "lcm-lora-sdxl.safetensors", "sdxl", len(data), "huggingface")
    assert resource.about["licence"] and httpx.get(sources.open_address(resource).url).content == data


def test_a_file_with_the_denoiser_alone_brings_its_companions(hubs):
    wanted = [config("models")["models"]["flux-schnell"]["url"], *config("models")["companions"]["flux"].values()]
    for address in wanted:
        repo, _, path = address.removeprefix("https://huggingface.co/").partition("/resolve/main/")
        hubs.repos.setdefault(repo, {"files": {}, "gated": False, "private": False, "small": (".json",), "page": 100})["files"][path] = b"x" * 900
    found = resolve("flux-schnell")
    assert [(r.kind, r.name) for r in found] == [
        ("diffusion_model", "flux1-schnell.safetensors"), ("text_encoder", "clip_l.safetensors"),
        ("text_encoder", wanted[2].rpartition("/")[2]), ("vae", "ae.safetensors"),
    ]
    assert {r.family for r in found} == {"flux"}


def test_a_row_with_a_repository_is_its_folder_and_a_bundled_one_needs_nothing(hubs):
    hubs.add_repo("stabilityai/sd-turbo", {"model_index.json": b"{}", "unet/config.json": b"{}", "unet/diffusion_pytorch_model.safetensors": 500})
    assert {(r.kind, r.name.split("/")[0], r.family) for r in resolve("sd-turbo")} == {("diffusers", "sd-turbo", "sd21")}
    assert resolve("pocket") == []


def test_a_file_that_is_not_the_catalogues_any_more_is_refused(hubs):
    row = config("models")["vaes"]["vae-ft-mse"]
    repo, _, path = row["url"].removeprefix("https://huggingface.co/").partition("/resolve/main/")
    hubs.add_repo(repo, {path: b"another"})
    with pytest.raises(FetchFailed, match="is another file than the catalogue knows"):
        resolve("vae-ft-mse")


def test_every_row_of_the_catalogue_is_taken_and_its_address_has_a_source():
    rows = config("models")
    for part, kind in catalogue._KINDS.items():
        assert kind in FOLDERS
        for name, row in rows.get(part, {}).items():
            assert catalogue.takes(name), name
            assert row.get("bundled") or any(source.takes(row.get("url") or f"hf:{row['repo']}") for source in sources._sources()), name


def test_the_wrong_kind_for_an_id_is_refused():
    with pytest.raises(BadInput, match="of the kind lora, not vae"):
        resolve("vae:lcm-lora-sdxl")


def test_quoted_paths_survive(hubs):
    assert one(f"lora:{hubs.storage}/{quote(hubs.add_file('ü (1).safetensors', 300).rpartition('/')[2], safe='%')}").name == "ü (1).safetensors"
