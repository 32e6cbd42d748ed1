"""The settings file of cell 2: what goes in comes out, and what somebody else's file tries is one clear sentence."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie import settings
from reverie.errors import BadInput
from reverie.host import choices
from reverie.host.choices import launch_options, offers, pasted
from reverie.host.choices import Choices, Pick

TOKEN = "abc123secret"
HF = "hf_abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty storage and no tokens."""
    for name in ("CIVITAI_TOKEN", "CIVITAI_API_TOKEN", "CIVITAI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN", "HUGGINGFACEHUB_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("REVERIE_STORAGE", str(tmp_path / "storage"))
    return settings.load()


ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,20}", fullmatch=True).filter(lambda text: not text.startswith("hf_"))
lists = st.lists(ids | ids.map(lambda name: f"https://example.org/{name}.safetensors"), max_size=4).map(tuple)
lines = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=30).filter(lambda text: not any(mark in text for mark in "=@"))
picks = st.builds(Pick, version=st.integers(1, 2**40), file=st.integers(0, 2**40), title=lines, kind=st.sampled_from(["", "lora", "checkpoint"]), size=st.integers(0, 2**50))
anything = st.builds(
    Choices, webui=st.sampled_from(["", "comfyui", "my-own_ui"]), model=lines, civitai=st.lists(picks, max_size=3).map(tuple), links=lines, extensions=st.lists(ids, max_size=3).map(tuple),
    launch_options=st.sampled_from(["", "--lowvram", "--ckpt-dir 'my models' --api"]), tunnel=st.booleans(), tunnel_order=st.lists(ids, max_size=3).map(tuple),
    theme=st.sampled_from(["dark", "light"]), port=st.integers(0, 65535), **{name: lists for name in choices.KINDS},
)


@given(anything)
def test_what_is_exported_is_what_is_read(chosen):
    assert choices._read(choices.export(chosen).encode(), "it", pasted.Lifted()) == chosen


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(sorted(choices.PARAMETERS)) | st.text(), inner), max_leaves=12))
def test_no_file_however_odd_is_more_than_a_sentence(data):
    try:
        found, _ = choices.import_(json.dumps(data))
        assert isinstance(found, Choices)
    except BadInput as error:
        assert "\n" not in error.what and len(str(error)) < 700


def test_saved_and_loaded_and_an_older_file_is_read(here):
    assert choices.load() == Choices()
    here.storage.mkdir()
    (here.storage / "settings.json").write_text('{"engine": "diffusers", "model": "sd15"}')
    assert choices.load().model == "sd15"
    chosen = Choices(webui="comfyui", loras=("moon",), model="sdxl-base")
    choices.save(chosen)
    assert choices.load() == chosen and not list(here.storage.glob("*.part*"))


def test_many_who_save_at_once_leave_one_whole_file(here):
    chosen = [Choices(models=tuple(f"model-{number}-{item}" for item in range(200))) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: [choices.save(one) for _ in range(10)], chosen))
    assert choices.load() in chosen


def test_what_a_killed_process_left_half_written_goes_in_time(here):
    here.storage.mkdir()
    old, new = here.storage / ".choices.json.1.part", here.storage / ".choices.json.2.part"
    for path in (old, new):
        path.write_text("{")
    os.utime(old, (1, 1))
    choices.save(Choices())
    assert not old.exists() and new.exists()


HOSTILE = {
    "a shell's sign": ({"launch_options": "--lowvram; rm -rf /"}, "belongs to a shell"),
    "a substitution": ({"launch_options": "--x $(id)"}, "belongs to a shell"),
    "a backtick": ({"launch_options": "--x `id`"}, "belongs to a shell"),
    "a second line": ({"launch_options": "--x\nrm"}, "belongs to a shell"),
    "a program": ({"launch_options": "python evil.py"}, "is no option"),
    "an open door": ({"launch_options": "--listen 0.0.0.0"}, "--listen cannot be used"),
    "an open door with =": ({"launch_options": "--listen=0.0.0.0"}, "--listen cannot be used"),
    "half a word, as argparse takes it": ({"launch_options": "--li"}, "--li cannot be used"),
    "a public address": ({"launch_options": "--share"}, "--share cannot be used"),
    "code from a page": ({"launch_options": "--enable-insecure-extension-access"}, "cannot be used"),
    "a folder elsewhere": ({"launch_options": "--ckpt-dir /etc"}, "leads out of the project's folders: '/etc'"),
    "a folder above": ({"launch_options": "--ckpt-dir models/../../../root"}, "leads out"),
    "an address for a folder": ({"launch_options": "--config=https://evil.org/x"}, "leads out"),
    "a folder elsewhere in a list": ({"launch_options": "--x a=[b,/etc]"}, "leads out"),
    "an open quotation": ({"launch_options": "--x 'y"}, "not closed"),
    "a path for an id": ({"models": ["../../x"]}, "models.0: this is neither an id nor a link"),
    "a program for a link": ({"loras": ["file:///etc/passwd"]}, "loras.0"),
    "a file of the machine": ({"links": "lora:/etc/passwd"}, "leads out"),
    "a home": ({"links": "~/.ssh/id_rsa"}, "leads out"),
    "a relative path": ({"links": "checkpoint: some/where.safetensors"}, "leads out"),
    "a model elsewhere": ({"model": "/etc/passwd"}, "leads out"),
    "a WebUI that is a path": ({"webui": "../evil"}, "webui"),
    "an extension that is an address": ({"extensions": ["https://evil.org/x.git"]}, "extensions.0"),
    "text for a list": ({"models": "sd15"}, "models"),
    "a number as text": ({"port": "8080"}, "port"),
    "a port that is none": ({"port": 70000}, "port"),
    "a list without an end": ({"models": ["a"] * 501}, "models"),
    "an endless name": ({"models": ["a" * 200]}, "models.0"),
    "an unknown theme": ({"theme": "<script>"}, "theme"),
    "a sign that moves the cursor": ({"model": "\x1b[2J"}, "model"),
    "half a letter": ({"model": "\ud800"}, "cannot be used"),
    "a kind of its own": ({"civitai": [{"version": 5, "kind": "../.."}]}, "civitai.0.kind"),
    "a version below one": ({"civitai": [{"version": 0}]}, "civitai.0.version"),
    "another time's format": ({"format": 99}, "format '99'"),
    "no format": ({"format": True}, "format 'True'"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_file_from_elsewhere_tries_is_one_sentence(name, here):
    data, said = HOSTILE[name]
    with pytest.raises(BadInput) as refused:
        choices.import_(json.dumps(data))
    assert said in str(refused.value) and len(refused.value.what) < 400
    assert not here.storage.exists()


@pytest.mark.parametrize("text", ["", "[]", "no", "{", "null", "[" * 100_000, "\x00", '{"models": NaN}'])
def test_what_is_no_settings_file_is_told(text):
    with pytest.raises(BadInput):
        choices.import_(text)


def test_a_huge_file_is_not_even_read():
    with pytest.raises(BadInput, match="MB large"):
        choices.import_(b" " * ((1 << 20) + 1))


def test_what_is_harmless_is_taken(here):
    inside = here.storage / "models"
    options = f"--lowvram --api --listen 127.0.0.1 --ckpt-dir {inside} --vae-dir models/vae --x=1.5"
    found, notes = choices.import_(json.dumps({"launch_options": options, "links": f"lora:{inside}/a.safetensors, https://example.org/b.safetensors"}))
    assert found.launch_options == options and not notes
    assert launch_options.words(options)[:2] == ["--lowvram", "--api"]


def test_unknown_fields_are_left_out_with_a_word():
    found, notes = choices.import_('{"format": 2, "webui": "comfyui", "on_start": "rm -rf /", "hf_token": 5}')
    assert found == Choices(webui="comfyui") and len(notes) == 1 and "on_start, hf_token" in notes[0]


def test_a_pasted_token_goes_into_the_file_that_only_its_owner_reads(here):
    text = json.dumps({"links": f"lora:https://civitai.com/api/download/models/5?type=Model&token={TOKEN}[moon.safetensors], https://huggingface.co/a/b?x=1#{HF}"})
    found, notes = choices.import_(text)
    assert found.links == "lora:https://civitai.com/api/download/models/5?type=Model[moon.safetensors], https://huggingface.co/a/b?x=1#"
    kept = here.storage / "secrets.env"
    assert sorted(kept.read_text().split()) == [f"CIVITAI_TOKEN={TOKEN}", f"HF_TOKEN={HF}"] and stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert len(notes) == 2 and TOKEN not in str(notes) and HF not in str(notes)
    again, notes = choices.import_(text.replace(TOKEN, "another"))
    assert "stays as it is" in notes[0] and TOKEN in kept.read_text()


def test_no_secret_is_in_what_is_saved_or_exported(here):
    chosen = Choices(models=(f"https://civitai.com/x?token={TOKEN}",), links=f"https://me:{TOKEN}@example.org/a?api_key={TOKEN}\nhttps://other.org/?token={TOKEN}")
    choices.save(chosen)
    assert TOKEN not in choices.export(chosen) + choices.path().read_text()
    clean, notes = choices.changed(Choices(), links=chosen.links)
    assert clean.links == "https://example.org/a\nhttps://other.org/" and TOKEN not in str(notes) + clean.links and len(notes) == 3
    assert TOKEN not in repr(pasted.Lifted({"HF_TOKEN": TOKEN}))


@pytest.mark.parametrize("piece", ["a", "a.", "?token=a&", "://", "a@", "hf_", "=&?", "//a:b@"])
def test_a_long_text_is_read_in_a_time_that_grows_with_its_length(piece):
    text = (piece * 100_000)[:100_000] + "="
    assert pasted.lift(text, pasted.Lifted()) is not None  # a pattern that looks back for every letter would take minutes


def test_parameters_are_the_same_choices():
    given = {
        "webui": "forge", "models": "sd15 sdxl-base", "vaes": ["sdxl-vae"], "civitai": "128713, 5/7", "loras": "lcm-lora-sdxl:0.8, moon:0.5",
        "tunnel": "cloudflared", "port": "7861", "links": "https://example.org/a.safetensors", "steps": 4,
    }
    found = choices.with_parameters(Choices(theme="light", models=("flux-dev",)), given)
    assert (found.webui, found.models, found.vaes, found.theme, found.port) == ("forge", ("sd15", "sdxl-base"), ("sdxl-vae",), "light", 7861)
    assert [(pick.version, pick.file) for pick in found.civitai] == [(128713, 0), (5, 7)]
    assert found.loras == ("lcm-lora-sdxl",), "moon is the studio's own business"
    assert found.tunnel and found.tunnel_order == ("cloudflared",)
    assert choices.with_parameters(Choices(), {"tunnel": "no"}).tunnel is False
    for wrong in ({"webui": "../x"}, {"civitai": "moon"}, {"models": "../x"}, {"port": -1}, {"launch_options": "--share"}):
        with pytest.raises(BadInput):
            choices.with_parameters(Choices(), wrong)


def test_everything_wanted_becomes_links():
    chosen = Choices(
        model="sd15", models=("sdxl-base",), loras=("https://example.org/a.safetensors",), vaes=("sdxl-vae",), links="vae:https://example.org/v.safetensors",
        civitai=(Pick(version=5, file=7, title="Moon", kind="lora"),),
    )
    found = {link.address: link.kind for link in choices.wanted(chosen)}
    assert list(found) == ["sd15", "sdxl-base", "sdxl-vae", "https://example.org/a.safetensors", "https://civitai.com/api/download/models/5?fileId=7", "https://example.org/v.safetensors"]
    assert found["https://example.org/a.safetensors"] == "lora" and found["sdxl-vae"] == "" and "pocket" not in found


# --------------------------------------------------------------------------------------------------- what is on offer


SMALL = offers.Machine(vram_gb=6, ram_gb=16, free_bytes=10 * 10**9)


def test_every_row_of_the_catalogue_can_be_offered():
    found = offers.all_offers()
    assert set(found) == set(choices.KINDS)
    rows = settings.config("models")
    for key, listed in found.items():
        for offer in listed:
            assert offer.title and offer.note and offer.licence, offer.id
            assert key == "models" or rows[key][offer.id]["url"].startswith("https://")
            Choices(**{key: (offer.id,)})
    several = [offer.id for listed in found.values() for offer in listed]
    assert len(set(several)) == len(several), "an id means one thing, whatever the kind"


def test_what_this_machine_carries_is_told_from_its_card_or_its_memory():
    sdxl = offers.Offer("x", "models", "X", vram_gb=8, ram_gb=14)
    assert offers.fits(sdxl, SMALL) == "too large"
    assert offers.fits(sdxl, offers.Machine(8, 16, 0)) == "tight" and offers.fits(sdxl, offers.Machine(24, 16, 0)) == "fits"
    assert offers.fits(sdxl, offers.Machine(0, 16, 0)) == "fits" and offers.fits(offers.Offer("y", "vaes", "Y"), SMALL) == ""


def test_the_total_says_what_has_no_room_and_what_to_leave_out(here):
    listed = {"models": [offers.Offer(name, "models", name.upper(), size=size * 10**9, vram_gb=4) for name, size in (("a", 7), ("b", 6), ("c", 1))]}
    found = offers.total(Choices(model="", models=("a", "b", "c"), links="https://example.org/x\n# a remark\n"), listed, SMALL)
    assert (found.number, found.chosen, found.to_fetch, found.lacking, found.unknown) == (4, 14 * 10**9, 14 * 10**9, 4 * 10**9, 1)
    assert found.untick == ("A",)
    few = offers.total(Choices(model="", models=("b", "c")), listed, SMALL)
    assert few.lacking == 0 and few.untick == ()


def test_what_is_here_is_not_fetched_again(here):
    place = here.models / "vae" / "sdxl_vae.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"x")
    listed = offers.all_offers()
    assert [offer.id for offer in listed["vaes"] if offer.here] == ["sdxl-vae"]
    found = offers.total(Choices(vaes=("sdxl-vae",)), listed, SMALL)
    assert found.chosen > 0 and found.to_fetch == 0
