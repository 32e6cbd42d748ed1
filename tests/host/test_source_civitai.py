"""CivitAI as a source: every form of address, the right file of a version, and each refusal told apart."""

from __future__ import annotations

import logging

import httpx
import pytest
from hub_servers import CIVITAI_TOKEN, Hubs, picture, sha256
from hypothesis import given
from hypothesis import strategies as st

from reverie.errors import BadInput, FetchFailed, NotFound, TokenNeeded
from reverie.host import links, sources
from reverie.host.resources import Link
from reverie.host.sources import _asking, _pages, _rows, civitai


FIELDS = ("id", "name", "type", "files", "images", "model", "modelId", "modelVersions", "metadata", "hashes", "SHA256", "sizeKB", "url", "nsfwLevel", "trainedWords",
          "earlyAccessEndsAt", "paidAccess", "availability", "stats", "creator", "baseModel", "primary", "format")


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


def bytes_of(resource) -> bytes:
    address = sources.open_address(resource)
    return httpx.get(address.url, headers=address.headers).content


def test_every_form_of_address_leads_to_the_same_file(hubs):
    version = hubs.add_model("Dream", base_model="SDXL 1.0", files={"dream.safetensors": 30_000}, trained_words=["dreamy", "soft light"])
    model = hubs.model_of(version)["id"]
    data = hubs.blobs[hubs.models[model]["modelVersions"][0]["files"][0]["id"]][0]
    forms = [
        f"civitai:{model}", f"civitai:{model}@{version}", f"urn:air:sdxl:checkpoint:civitai:{model}@{version}", f"{hubs.civitai}/models/{model}",
        f"{hubs.civitai}/models/{model}/dream?modelVersionId={version}", f"{hubs.civitai}/api/download/models/{version}?token=pasted1234",
        f"{hubs.civitai}/api/v1/models/{model}", f"{hubs.civitai}/api/v1/model-versions/{version}",
        f"{hubs.civitai}/api/v1/model-versions/by-hash/{sha256(data)[:10]}", f"https://civitai.com/models/{model}", f"civitai.com/models/{model}/x",
        f"model:https://www.civitai.com/models/{model}?modelVersionId={version}", f"https://civitai.red/models/{model}",
    ]
    found = {text: one(text) for text in forms}
    assert {(r.kind, r.name, r.url, r.size, r.sha256, r.family, r.token) for r in found.values()} == {
        ("checkpoint", "dream.safetensors", found[forms[0]].url, len(data), sha256(data), "sdxl", "")
    }
    resource = found[forms[0]]
    assert resource.about["trained_words"] == ["dreamy", "soft light"] and resource.about["title"] == "Dream" and not resource.about["pickled"]
    assert resource.preview == f"{hubs.storage}/pictures/1.jpeg" and resource.about["page"].endswith(f"/models/{model}?modelVersionId={version}")
    assert len({r.key for r in found.values()}) == 1 and "pasted1234" not in repr(list(found.values()))
    assert bytes_of(resource) == data


def test_the_named_file_of_a_version_is_taken(hubs):
    version = hubs.add_model(
        files={"full.safetensors": 900, "pruned.safetensors": 500, "old.ckpt": 700, "the.vae.pt": 80, "pictures.zip": 60},
        details={
            "full.safetensors": {"metadata": {"size": "full", "fp": "fp32"}}, "the.vae.pt": {"type": "VAE"}, "pictures.zip": {"type": "Training Data"},
        },
    )
    address = f"{hubs.civitai}/api/download/models/{version}"
    files = {file["name"]: file["id"] for file in hubs.model_of(version)["modelVersions"][0]["files"]}
    assert one(address).name == "full.safetensors"
    assert one(f"{address}?size=pruned&format=SafeTensor").name == "pruned.safetensors"
    assert one(f"{address}?type=Model&format=PickleTensor&fp=fp16").name == "old.ckpt"
    assert one(f"{address}?fileId={files['pictures.zip']}").name == "pictures.zip"
    vae = one(f"{address}?type=VAE")
    assert (vae.kind, vae.name, vae.about["pickled"]) == ("vae", "the.vae.pt", True)
    assert one(f"vae:{address}").name == "the.vae.pt"
    with pytest.raises(NotFound, match=r"no file like that. It has: full.safetensors \(fileId="):
        one(f"{address}?format=Diffusers")
    with pytest.raises(NotFound, match="no file like that"):
        one(f"{address}?fileId=999999")


def test_safetensors_go_before_a_primary_pickle_and_a_lone_pickle_is_marked(hubs):
    both = hubs.add_model(files={"a.ckpt": 500, "a.safetensors": 400})
    lone = hubs.add_model(files={"b.ckpt": 500})
    assert one(f"{hubs.civitai}/api/v1/model-versions/{both}").name == "a.safetensors"
    assert one(f"{hubs.civitai}/api/v1/model-versions/{lone}").about["pickled"] is True


def test_the_newest_version_that_is_not_in_early_access_is_taken(hubs):
    old = hubs.add_model(files={"old.safetensors": 500})
    model = hubs.model_of(old)["id"]
    hubs.add_model(model=model, files={})
    hubs.add_model(model=model, files={"new.safetensors": 500}, early="2999-01-01T00:00:00.000Z")
    ended = hubs.add_model(model=model, files={"ended.safetensors": 500})
    assert one(f"civitai:{model}").name == "ended.safetensors"
    hubs.model_of(ended)["modelVersions"].pop(0)
    _asking.forget()
    assert one(f"civitai:{model}").name == "old.safetensors"


def test_each_refusal_is_told_apart_before_anything_starts(hubs, monkeypatch):
    login, early, disabled = hubs.add_model("Locked", login=True), hubs.add_model("Early", early="2999-05-01T00:00:00.000Z"), hubs.add_model("Shut", disabled=True)
    address = f"{hubs.civitai}/api/v1/model-versions/"
    with pytest.raises(TokenNeeded, match="wants a login for 'Locked'. Make a token at https://civitai.com/user/account and set CIVITAI_TOKEN"):
        one(f"{address}{login}")
    with pytest.raises(TokenNeeded, match="'Early' is in early access until 2999-05-01: only who paid"):
        one(f"{address}{early}")
    with pytest.raises(FetchFailed, match="creator of 'Shut' has disabled") as caught:
        one(f"{address}{disabled}")
    assert not isinstance(caught.value, TokenNeeded)
    monkeypatch.setenv("CIVITAI_TOKEN", "not-the-right-one")
    with pytest.raises(TokenNeeded, match="does not accept the token") as caught:
        one(f"{address}{login}")
    assert "not-the-right-one" not in str(caught.value)
    monkeypatch.setenv("CIVITAI_TOKEN", CIVITAI_TOKEN)
    resource = one(f"{address}{login}")
    assert resource.token == "CIVITAI_TOKEN" and bytes_of(resource)
    with pytest.raises(TokenNeeded, match="early access"):
        one(f"{address}{early}")
    with pytest.raises(NotFound, match="no version with files"):
        one(f"civitai:{hubs.model_of(hubs.add_model('Empty', files={}))['id']}")
    with pytest.raises(NotFound, match="CivitAI has no model 987654"):
        one("civitai:987654")
    with pytest.raises(NotFound, match="is of model"):
        one(f"civitai:1@{login}")


def test_a_page_that_sells_or_asks_to_log_in_is_no_file(hubs, monkeypatch):
    version = hubs.add_model("Sold", files={"sold.safetensors": 900})
    resource = one(f"{hubs.civitai}/api/v1/model-versions/{version}")
    file = hubs.add_file("page", b"<!DOCTYPE html><title>Buy it</title>", type="text/html")
    for redirect, error, said in (("/login?reason=download-auth", TokenNeeded, "wants a login"), ("/purchase/1", TokenNeeded, "early access"), ("file:///etc/passwd", FetchFailed, "file://")):
        hubs.add_file("hop", redirect=redirect)
        moved = type(resource)(**{**vars(resource), "url": f"{hubs.storage}/hop"})
        for place in ("login", "purchase/1"):
            hubs.plain[place] = hubs.plain["page"]
        with pytest.raises(error, match=said):
            sources.open_address(moved)
    assert file and bytes_of(resource)


@pytest.mark.parametrize("status", [403, 451])
def test_the_guard_before_the_hub_is_no_early_access(hubs, monkeypatch, status):
    page = dict(data=b"<!DOCTYPE html><title>Just a moment...</title>", type="text/html", status=status)
    hubs.add_file("api/v1/models/5", **page)
    resource = one(f"{hubs.civitai}/api/v1/model-versions/{hubs.add_model()}")
    hubs.add_file("guarded", **page)
    monkeypatch.setenv("REVERIE_CIVITAI_URL", hubs.storage)
    for ask in (lambda: one("civitai:5"), lambda: sources.open_address(type(resource)(**{**vars(resource), "url": f"{hubs.storage}/guarded"}))):
        with pytest.raises(FetchFailed, match=r'turns this machine away with a web page \("Just a moment') as caught:
            ask()
        assert not isinstance(caught.value, TokenNeeded)


def test_the_token_goes_to_civitai_alone_and_never_into_an_address(hubs, monkeypatch):
    hubs.use(monkeypatch, tokens=True)
    version = hubs.add_model(login=True, files={"x.safetensors": 40_000})
    resource = one(f"{hubs.civitai}/api/v1/model-versions/{version}")
    address = sources.open_address(resource)
    assert address.url.startswith(hubs.storage) and not address.headers and CIVITAI_TOKEN not in address.url + repr(resource)
    stranger = type(resource)(**{**vars(resource), "url": hubs.add_file("stranger.safetensors", 500)})
    sources.open_address(stranger)
    assert hubs.asked("storage") and not any("Authorization" in headers for _, _, headers in hubs.asked("storage"))
    assert any(headers.get("Authorization") == f"Bearer {CIVITAI_TOKEN}" for _, _, headers in hubs.asked("civitai"))


def test_a_signed_address_that_expired_is_given_anew(hubs):
    resource = one(f"{hubs.civitai}/api/v1/model-versions/{hubs.add_model(stale=True)}")
    first = sources.open_address(resource)
    hubs.expire()
    assert httpx.get(first.url).status_code == 403
    assert httpx.get(sources.open_address(resource).url).status_code == 200


def test_a_busy_hub_is_asked_again_as_late_as_it_says_and_not_for_ever(hubs):
    version = hubs.add_model()
    hubs.busy = 2
    assert one(f"{hubs.civitai}/api/v1/model-versions/{version}").name == "dream.safetensors"
    _asking.forget()
    hubs.busy, hubs.retry_after = 99, "1800"
    asked = len(hubs.requests)
    with pytest.raises(FetchFailed, match="asked too often. Try again in 30 minutes"):
        one(f"{hubs.civitai}/api/v1/model-versions/{version}")
    assert len(hubs.requests) == asked + 1


def test_a_preview_is_a_picture_and_fit_for_everyone(hubs):
    videos = [picture(hubs.storage, 1, "video"), {**picture(hubs.storage, 2, "image"), "url": f"{hubs.storage}/2.mp4"}, picture(hubs.storage, 3, "image", 16)]
    assert one(f"{hubs.civitai}/api/v1/model-versions/{hubs.add_model(images=videos)}").preview == ""
    assert one(f"{hubs.civitai}/api/v1/model-versions/{hubs.add_model(images=[*videos, picture(hubs.storage, 4, 'image')])}").preview.endswith("/4.jpeg")


@pytest.mark.parametrize(
    "type, base, kind, family",
    [("LORA", "Pony", "lora", "sdxl"), ("LoCon", "Flux.1 D", "lora", "flux"), ("TextualInversion", "SD 1.5", "embedding", "sd15"),
     ("VAE", "SDXL 1.0", "vae", "sdxl"), ("Controlnet", "SD 3.5", "controlnet", "sd3"), ("Upscaler", "Other", "upscaler", ""), ("MotionModule", "SD 1.5", "animatediff", "sd15")],
)
def test_its_types_are_our_kinds_and_its_base_models_our_families(hubs, type, base, kind, family):
    resource = one(f"{hubs.civitai}/api/v1/model-versions/{hubs.add_model(type=type, base_model=base)}")
    assert (resource.kind, resource.family) == (kind, family)


def test_the_wrong_kind_is_refused(hubs):
    version = hubs.add_model("Dream")
    with pytest.raises(BadInput, match="'Dream' on CivitAI is of the kind checkpoint, not lora. Write checkpoint:"):
        one(f"lora:{hubs.civitai}/api/v1/model-versions/{version}")
    assert one(f"unet:{hubs.civitai}/api/v1/model-versions/{version}").kind == "diffusion_model"
    flow = hubs.add_model("Graph", "Workflows", files={"graph.zip": 100})
    with pytest.raises(BadInput, match="of the type 'Workflows', which is no model"):
        one(f"{hubs.civitai}/api/v1/model-versions/{flow}")


@pytest.mark.parametrize("address", ["https://civitai.com/images/1", "https://civitai.com/models/abc", f"https://civitai.com/models/{'9' * 30}", "https://civitai.com/user/me"])
def test_what_is_no_model_is_refused(hubs, address):
    with pytest.raises(BadInput):
        one(address)
    assert not hubs.requests


@pytest.mark.parametrize("answer", [b"<!DOCTYPE html><title>Just a moment...</title>", b'{"error":"Internal"}', b"[]", b'{"id":1,"files":[null,7,{}]}', b'"x"', b"{" * 9000])
def test_an_answer_nobody_expects_is_one_sentence(hubs, monkeypatch, answer):
    hubs.add_file("api/v1/model-versions/5", answer, type="application/json")
    monkeypatch.setenv("REVERIE_CIVITAI_URL", hubs.storage)
    with pytest.raises((FetchFailed, NotFound)):
        one(f"{hubs.storage}/api/v1/model-versions/5")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(FIELDS), inner, max_size=9)), max_leaves=30,
)


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, min_size=1))
def test_no_data_of_the_hub_brings_the_reader_down(row):
    """Whatever its fields hold, a row is read or refused; nothing else comes out."""
    try:
        with _pages.reading("CivitAI"):
            _rows.model_of(row, 2)
            civitai._resource(Link("", "civitai:1", "lora"), civitai._Wanted("https://civitai.com", 1), row)
    except (FetchFailed, BadInput, NotFound):
        pass


def test_a_file_whose_name_has_a_path_stays_in_its_folder(hubs):
    version = hubs.add_model(files={"../../evil/x.safetensors": 300})
    assert one(f"{hubs.civitai}/api/v1/model-versions/{version}").name == "x.safetensors"


def test_search_pages_with_a_cursor_and_never_by_number(hubs):
    for number in range(7):
        hubs.add_model(f"Dream {number}", "LORA" if number % 2 else "Checkpoint", "Pony" if number > 3 else "SD 1.5", nsfw=number == 6)
    first = civitai.search("dream", limit=4)
    second = civitai.search("dream", limit=4, cursor=first.cursor)
    assert [model.title for model in (*first.items, *second.items)] == [f"Dream {number}" for number in range(6)] and second.cursor == ""
    assert len(civitai.search("dream", nsfw=True, limit=1000).items) == 7
    assert {model.type for model in civitai.search(types=["lora"]).items} == {"LORA"}
    assert {model.base_models for model in civitai.search(base_models=["sdxl"]).items} == {("Pony",)}
    assert not any("page=" in path for _, path, _ in hubs.asked("civitai"))
    model = first.items[0]
    assert (model.creator, model.downloads, model.nsfw, model.preview) == ("painter", 1000 + model.id, False, f"{hubs.storage}/pictures/1.jpeg")
    (version,) = model.versions
    assert version.size == 20_000 and version.published.startswith("2025") and version.early_access == "" and version.files[0]["name"] == "dream.safetensors"


def test_nothing_of_an_address_or_a_token_is_logged(hubs, monkeypatch, caplog):
    hubs.use(monkeypatch, tokens=True)
    with caplog.at_level(logging.DEBUG):
        hubs.busy = 1
        one(f"{hubs.civitai}/api/v1/model-versions/{hubs.add_model(login=True)}")
    assert CIVITAI_TOKEN not in caplog.text and "Signature" not in caplog.text and "HTTP Request" not in caplog.text
