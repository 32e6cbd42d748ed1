"""Hugging Face as a source: files pinned to a commit, whole folders in one precision, and the two refusals of gated models."""

from __future__ import annotations

import json
from dataclasses import replace

import httpx
import pytest
from hub_servers import COMMIT, HF_TOKEN, Hubs, sha256

from reverie.errors import BadInput, FetchFailed, NotFound, TokenNeeded
from reverie.host import links, sources
from reverie.host.sources import _folders


@pytest.fixture
def hubs(monkeypatch):
    with Hubs() as hubs:
        yield hubs.use(monkeypatch)


def resolve(text: str):
    (link,) = links.parse(text)
    return sources.resolve(link)


def test_every_form_of_address_leads_to_the_same_pinned_file(hubs):
    data = hubs.add_repo("me/loras", {"a b/x.safetensors": 40_000})["a b/x.safetensors"]
    forms = [
        "hf:me/loras/a%20b/x.safetensors", "huggingface:me/loras@main/a%20b/x.safetensors", f"{hubs.huggingface}/me/loras/resolve/main/a%20b/x.safetensors?download=true",
        f"{hubs.huggingface}/me/loras/blob/main/a%20b/x.safetensors", "https://huggingface.co/me/loras/raw/main/a%20b/x.safetensors", "hf.co/me/loras/blob/main/a%20b/x.safetensors",
        f"hf:me/loras@{COMMIT}/a%20b/x.safetensors",
    ]
    for text in forms:
        (resource,) = resolve(f"lora:{text}")
        assert resource.url == f"{hubs.huggingface}/me/loras/resolve/{COMMIT}/a%20b/x.safetensors", text
        assert (resource.kind, resource.name, resource.size, resource.sha256, resource.token) == ("lora", "x.safetensors", len(data), sha256(data), "")
    address = sources.open_address(resource)
    assert address.url.startswith(hubs.storage) and httpx.get(address.url).content == data
    assert all(headers["Accept-Encoding"] == "identity" for _, path, headers in hubs.asked("huggingface"))


def test_a_small_file_is_read_from_the_hub_itself(hubs, monkeypatch):
    hubs.use(monkeypatch, tokens=True)
    data = hubs.add_repo("me/words", {"words.txt": b"one\ntwo\n"})["words.txt"]
    (resource,) = resolve("embedding:hf:me/words/words.txt")
    assert resource.size == len(data) and resource.sha256 == ""
    address = sources.open_address(resource)
    assert httpx.get(address.url, headers=address.headers).content == data and HF_TOKEN not in repr(address)


def test_a_renamed_repository_is_followed_and_another_host_is_not_told_the_token(hubs, monkeypatch):
    hubs.use(monkeypatch, tokens=True)
    data = hubs.add_repo("new/home", {"x.safetensors": 9000})["x.safetensors"]
    hubs.add_repo("old/home", {})
    hubs.repos["old/home"]["moved"] = "new/home"
    (resource,) = resolve("lora:hf:old/home/x.safetensors")
    assert resource.sha256 == sha256(data) and httpx.get(sources.open_address(resource).url).content == data
    sources.open_address(replace(resource, url=hubs.add_file("me/x/resolve/main/x.safetensors", 500)))
    assert hubs.asked("storage") and not any("Authorization" in headers for _, _, headers in hubs.asked("storage"))


def test_a_gated_model_tells_no_login_from_no_licence(hubs, monkeypatch):
    hubs.add_repo("me/gated", {"x.safetensors": 500}, gated=True)
    hubs.add_repo("me/private", {"x.safetensors": 500}, private=True)
    text = "lora:hf:me/gated/x.safetensors"
    with pytest.raises(TokenNeeded, match=rf"wants a login and its licence accepted. Accept it at {hubs.huggingface}/me/gated. Make a token"):
        resolve(text)
    with pytest.raises(NotFound, match="or it is private. .* set HF_TOKEN"):
        resolve("lora:hf:me/private/x.safetensors")
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(TokenNeeded, match=rf"licence of me/gated has not been accepted with this login. Accept it at {hubs.huggingface}/me/gated"):
        resolve(text)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(TokenNeeded, match="does not accept the token that is set") as caught:
        resolve(text)
    assert "hf_wrong" not in str(caught.value)
    for bad in ("two words", "a\nb", "ü"):
        monkeypatch.setenv("HF_TOKEN", bad)
        with pytest.raises(TokenNeeded, match="blanks or strange letters") as caught:
            resolve(text)
        assert bad not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", HF_TOKEN)
    (resource,) = resolve(text)
    assert resource.token == "HF_TOKEN" and resolve("lora:hf:me/private/x.safetensors")


@pytest.mark.parametrize(
    "text, error, said",
    [
        ("lora:hf:me/none/x.safetensors", NotFound, "no repository me/none"),
        ("lora:hf:me/there/y.safetensors", NotFound, "has no file y.safetensors"),
        ("lora:hf:me/there@dev/x.safetensors", NotFound, "no branch or commit 'dev'"),
        ("https://huggingface.co/", BadInput, "no file and no repository"),
        ("https://huggingface.co/a/b/c/d", BadInput, "no file and no repository"),
        ("hf:me/there", BadInput, "no folder in diffusers' layout.* It has: x.safetensors, z.safetensors. Write hf:me/there/FILE"),
        ("lora:hf:me/there/README.md", BadInput, "does not tell a file name"),
        ("hf:me/there/x.safetensors", BadInput, "Nothing says what kind"),
        ("lora:hf:me/there/x.safetensors[x.ckpt]", BadInput, "ends in .ckpt, but the file is a .safetensors"),
    ],
)
def test_what_is_not_there_or_not_clear_is_one_sentence(hubs, text, error, said):
    hubs.add_repo("me/there", {"x.safetensors": 500, "z.safetensors": 400, "README.md": b"# it"})
    with pytest.raises(error, match=said):
        resolve(text)


INDEX = {"_class_name": "StableDiffusionXLPipeline", "unet": ["diffusers", "UNet"], "vae": ["diffusers", "VAE"], "text_encoder": ["transformers", "CLIP"],
         "tokenizer": ["transformers", "Tok"], "scheduler": ["diffusers", "Euler"], "safety_checker": ["x", "y"], "feature_extractor": [None, None]}
SDXL = {
    "model_index.json": json.dumps(INDEX).encode(), "README.md": b"#", "sd_xl.safetensors": 9000, "sd_xl_lora.safetensors": 300,
    "scheduler/scheduler_config.json": b"{}", "tokenizer/vocab.json": b"{}", "tokenizer/merges.txt": b"a b", "safety_checker/model.safetensors": 77,
    "text_encoder/config.json": b"{}", "text_encoder/model.safetensors": 800, "text_encoder/model.fp16.safetensors": 400, "text_encoder/model.onnx": 90,
    "unet/config.json": b"{}", "unet/diffusion_pytorch_model.safetensors": 4000, "unet/diffusion_pytorch_model.fp16.safetensors": 2000,
    "unet/diffusion_pytorch_model.non_ema.safetensors": 4000, "unet/diffusion_pytorch_model.bin": 4000,
    "vae/config.json": b"{}", "vae/diffusion_pytorch_model.safetensors": 600, "vae/diffusion_pytorch_model.fp16.safetensors": 300,
    "vae_1_0/config.json": b"{}", "vae_1_0/diffusion_pytorch_model.fp16.safetensors": 300, "vae_decoder/model.onnx": 50,
}
WANTED = {"model_index.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json", "tokenizer/merges.txt", "text_encoder/config.json", "unet/config.json",
          "vae/config.json"}
HALVES = {"text_encoder/model.fp16.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors", "vae/diffusion_pytorch_model.fp16.safetensors"}
WHOLE = {path.replace(".fp16", "") for path in HALVES}


def test_a_whole_folder_is_its_parts_in_half_precision(hubs):
    files = hubs.add_repo("me/sdxl-thing", SDXL, page=5)
    found = resolve("hf:me/sdxl-thing")
    assert {resource.name for resource in found} == {f"sdxl-thing/{path}" for path in WANTED | HALVES} and {r.kind for r in found} == {"diffusers"}
    for resource in found:
        data = files[resource.name.removeprefix("sdxl-thing/")]
        assert resource.size == len(data) and f"/resolve/{COMMIT}/" in resource.url and resource.sha256 == (sha256(data) if "safetensors" in resource.name else "")
        address = sources.open_address(resource)
        assert httpx.get(address.url, headers=address.headers).content == data
    assert {r.name.split("/")[0] for r in resolve(f"diffusers:{hubs.huggingface}/me/sdxl-thing/tree/main[mine]")} == {"mine"}


def test_one_precision_for_the_whole_folder_whole_where_a_part_has_no_half(hubs):
    hubs.add_repo("me/mixed", {path: data for path, data in SDXL.items() if path != "vae/diffusion_pytorch_model.fp16.safetensors"})
    assert {resource.name for resource in resolve("hf:me/mixed")} == {f"mixed/{path}" for path in WANTED | WHOLE}
    hubs.add_repo("me/torn", {path: data for path, data in SDXL.items() if path not in ("vae/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.safetensors")})
    with pytest.raises(BadInput, match="no folder in diffusers' layout"):
        resolve("hf:me/torn")


def test_shards_come_with_the_index_of_their_precision():
    paths = [
        "model_index.json", "transformer/config.json", "transformer/diffusion_pytorch_model.safetensors.index.json", "transformer/diffusion_pytorch_model.safetensors.index.fp16.json",
        *(f"transformer/diffusion_pytorch_model{variant}-0000{number}-of-00002.safetensors" for number in (1, 2) for variant in ("", ".fp16")),
    ]
    chosen = _folders.choose(paths, frozenset({"transformer"}))
    assert chosen == sorted(path for path in paths if "fp16" in path or path.endswith("config.json") or path == "model_index.json")


def test_a_clip_is_a_folder_without_parts_and_a_repository_of_one_file_is_that_file(hubs):
    hubs.add_repo("openai/clip-tiny", {"config.json": b"{}", "model.safetensors": 700, "pytorch_model.bin": 700, "vocab.json": b"{}", "merges.txt": b"", "README.md": b""})
    assert {r.name for r in resolve("diffusers:hf:openai/clip-tiny")} == {f"clip-tiny/{name}" for name in ("config.json", "model.safetensors", "vocab.json", "merges.txt")}
    hubs.add_repo("me/lora", {"it.safetensors": 500, "README.md": b"#"})
    assert [(r.kind, r.name) for r in resolve("lora:me/lora")] == [("lora", "it.safetensors")]


def test_a_listing_that_is_none_is_refused(hubs, monkeypatch):
    hubs.add_file("api/models/me/odd/tree/main", b'{"rows": 1}', type="application/json")
    hubs.add_file("api/models/me/evil/tree/main", json.dumps([{"type": "file", "path": path, "size": 3} for path in ("model_index.json", "../x.safetensors")]).encode(), type="application/json")
    hubs.add_file("me/evil/resolve/main/model_index.json", b'{"..": ["a", "b"]}', type="application/json")
    monkeypatch.setenv("HF_ENDPOINT", hubs.storage)
    with pytest.raises(FetchFailed, match="not what it used to be"):
        resolve("hf:me/odd")
    with pytest.raises(FetchFailed, match="cannot be written here"):
        resolve("hf:me/evil")
