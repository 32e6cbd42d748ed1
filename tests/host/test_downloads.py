"""Links to models in their folders, for real: real servers on loopback, real bytes, aria2c and aiohttp, kills."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hub_servers import CIVITAI_TOKEN, COMMIT, sha256
from small_models import DENOISER, LORA, SD15, tensors

from reverie.errors import Busy, DiskFull
from reverie.host import downloads, links
from reverie.host.downloads import tables as plan_tables
from reverie.host.depot import Depot
from reverie.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240


@pytest.fixture
def house(tmp_path, monkeypatch) -> Settings:
    monkeypatch.setenv("REVERIE_STORAGE", str(tmp_path / "storage"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return Settings(root=ROOT, storage=tmp_path / "storage")


def bring(text: str, house: Settings, allow=(), **how):
    return downloads.carry_out(downloads.prepare(links.parse(text), house, allow), house, **how)


def actions(text: str, house: Settings) -> list[str]:
    return [row.action for row in downloads.prepare(links.parse(text), house).rows]


@pytest.mark.parametrize("way", ["aria2", "aiohttp"])
def test_a_link_becomes_a_model_in_its_folder_and_the_second_time_nothing_moves(hubs, house, way):
    data = tensors(*LORA, size=3_000_000)
    link = f"lora:{hubs.add_file('ink.safetensors', data)}"
    outcome = bring(link, house, way=way)
    assert outcome.good and outcome.fetched_bytes == len(data)
    assert (house.models / "loras/ink.safetensors").read_bytes() == data
    asked = len(hubs.asked("storage"))
    again = bring(link, house, way=way)
    assert [row.action for row in again.skipped] == ["skip"] and again.good and not again.fetched_bytes
    assert all(method != "GET" or "Range" in headers for method, _, headers in hubs.asked("storage")[asked:])
    assert not [path for path in (house.storage / "downloads").iterdir() if path.suffix in (".part", ".whole", ".aria2")]


def test_what_civitai_says_and_shows_lies_beside_the_model(hubs, house):
    data = tensors(*SD15)
    version = hubs.add_model("Dream", files={"dream.safetensors": data}, trained_words=("dreamy",))
    outcome = bring(f"{hubs.civitai}/models/{hubs.model_of(version)['id']}", house)
    folder = house.models / "checkpoints"
    assert outcome.good and (folder / "dream.safetensors").read_bytes() == data
    info = json.loads((folder / "dream.civitai.info").read_text())
    assert info["trainedWords"] == ["dreamy"] and info["id"] == version and info["model"]["name"] == "Dream"
    assert (folder / "dream.preview.jpeg").read_bytes().startswith(b"\xff\xd8\xff")


def test_a_token_opens_what_is_closed_and_lies_nowhere_afterwards(hubs, house, monkeypatch):
    version = hubs.add_model("Closed", files={"closed.safetensors": tensors(*SD15)}, login=True)
    link = f"{hubs.civitai}/api/download/models/{version}"
    assert "CIVITAI_TOKEN" in downloads.prepare(links.parse(link), house).rows[0].reason
    monkeypatch.setenv("CIVITAI_TOKEN", CIVITAI_TOKEN)
    assert bring(link, house).good
    written = [path for path in house.storage.rglob("*") if path.is_file()]
    assert written and not [path for path in written if CIVITAI_TOKEN.encode() in path.read_bytes()]
    assert all("Authorization" not in headers for _, _, headers in hubs.asked("storage"))


def test_dead_links_error_pages_and_a_pickle_stop_no_other(hubs, house):
    good = hubs.add_file("good.safetensors", tensors(*LORA))
    page = hubs.add_file("page.safetensors", b"<!DOCTYPE html><html>Log in</html>", type="text/html")
    pickle = hubs.add_file("old.pt", b"\x80\x04" + bytes(5000))
    text = f"lora:{hubs.storage}/none.safetensors\nlora:{page}\nembedding:{pickle}\nlora:{good}\nlora:http://127.0.0.1:1/x.safetensors"
    outcome = bring(text, house)
    assert [row.name for row in outcome.done] == ["good.safetensors"] and len(outcome.failed) == 4
    said = {row.name.rpartition("/")[2]: why for row, why in outcome.failed}
    assert "pickle" in said["old.pt"] and all(why.endswith((".", "pt")) for why in said.values())
    assert sorted(path.name for path in (house.storage / "models").rglob("*") if path.is_file()) == ["good.safetensors"]


def test_a_pickle_that_is_allowed_by_name_comes(hubs, house):
    link = f"embedding:{hubs.add_file('old.pt', bytes([0x80, 4]) + bytes(5000))}"
    assert bring(link, house, allow=["old.pt"]).good and (house.models / "embeddings/old.pt").is_file()


def test_a_lora_that_was_called_a_checkpoint_goes_to_the_loras_with_a_word(hubs, house):
    outcome = bring(f"checkpoint:{hubs.add_file('ink.safetensors', tensors(*LORA))}", house)
    assert (house.models / "loras/ink.safetensors").is_file() and not (house.models / "checkpoints/ink.safetensors").exists()
    assert outcome.done[0].kind == "lora" and "LoRA, not a checkpoint" in outcome.done[0].notes[-1]


def test_a_denoiser_alone_goes_to_the_denoisers(hubs, house):
    outcome = bring(f"checkpoint:{hubs.add_file('flux.safetensors', tensors(*DENOISER))}", house)
    assert outcome.good and (house.models / "diffusion_models/flux.safetensors").is_file()


def test_a_file_of_another_family_than_its_source_says_gets_a_note(hubs, house):
    version = hubs.add_model("Dream", base_model="SDXL 1.0", files={"dream.safetensors": tensors(*SD15)})
    outcome = bring(f"{hubs.civitai}/api/download/models/{version}", house)
    assert outcome.good and "made for SD1.5; its source says SDXL" in outcome.done[0].notes[-1]


def test_a_file_cut_short_at_its_source_is_refused_and_asked_for_anew_later(hubs, house):
    data = tensors(*LORA)
    link = f"lora:{hubs.add_file('half.safetensors', data[:-50])}"
    outcome = bring(link, house)
    assert "no whole safetensors file" in outcome.failed[0][1] and not (house.models / "loras/half.safetensors").exists()
    hubs.add_file("half.safetensors", data)
    assert bring(link, house).good and (house.models / "loras/half.safetensors").read_bytes() == data


def test_one_name_for_two_files_keeps_both_and_that_of_the_user(hubs, house):
    (house.models / "loras").mkdir(parents=True)
    (house.models / "loras/ink.safetensors").write_bytes(b"the user's own")
    one, two = tensors(*LORA, size=3000), tensors(*LORA, size=4000)
    text = f"lora:{hubs.add_file('a/ink.safetensors', one)}\nlora:{hubs.add_file('b/ink.safetensors', two)}"
    assert bring(text, house).good
    found = {path.name: path.read_bytes() for path in (house.models / "loras").iterdir()}
    assert found == {"ink.safetensors": b"the user's own", "ink-2.safetensors": one, "ink-3.safetensors": two}
    assert actions(text, house) == ["skip", "skip"]


def test_the_same_bytes_from_two_places_are_stored_once(hubs, house):
    data = tensors(*LORA)
    assert bring(f"lora:{hubs.add_file('one.safetensors', data)}\nlora:{hubs.add_file('two.safetensors', data)}", house).good
    assert (house.models / "loras/one.safetensors").samefile(house.models / "loras/two.safetensors")
    assert [path.name for path in (house.storage / "blobs").rglob("*") if path.is_file() and "." not in path.name] == [sha256(data)]


def test_bytes_that_are_here_under_another_name_are_linked_without_the_network(hubs, house):
    data = tensors(*SD15)
    version = hubs.add_model("Dream", files={"dream.safetensors": data})
    link = f"{hubs.civitai}/api/download/models/{version}"
    assert bring(link, house).good
    hubs.expire()
    outcome = bring(f"{link}[other.safetensors]", house)
    assert outcome.good and not outcome.fetched_bytes and (house.models / "checkpoints/other.safetensors").read_bytes() == data


def test_a_name_with_path_parts_never_leaves_the_folder(hubs, house):
    from reverie.errors import BadInput

    address = hubs.add_file("ink.safetensors", tensors(*LORA))
    with pytest.raises(BadInput, match="file name"):
        links.parse(f"lora:{address}[../../evil.safetensors]")
    version = hubs.add_model("Evil", type="LORA", files={"../../evil.safetensors": tensors(*LORA)})
    bring(f"{hubs.civitai}/api/download/models/{version}", house)
    assert not [path for path in house.storage.parent.rglob("*evil*") if "models/loras" not in str(path)]


def test_a_quota_too_small_is_told_before_anything_moves(hubs, house, monkeypatch):
    """Hugging Face's Spaces give 50 GB, however large the disk under them is."""
    monkeypatch.setenv("SPACE_ID", "me/space")
    (house.storage / "outputs").mkdir(parents=True)
    with open(house.storage / "outputs/film.mp4", "wb") as film:
        film.truncate(50 * 10**9 - 18_000_000)  # holes: it takes no room here
    plan = downloads.prepare(links.parse(f"lora:{hubs.add_file('ink.safetensors', tensors(*LORA, size=3_000_000))}"), house)
    assert "too small" in plan_tables.text(plan)
    with pytest.raises(DiskFull, match=r"18\.0 MB are free.*Free 1\.. MB more"):
        downloads.carry_out(plan, house)
    assert not (house.models / "loras").exists()


def test_a_second_download_at_once_is_refused_in_one_sentence(hubs, house):
    hubs.bytes_per_s = 50_000
    plan = downloads.prepare(links.parse(f"lora:{hubs.add_file('ink.safetensors', tensors(*LORA, size=2_000_000))}"), house)
    said = []

    def meanwhile(progress):
        if not said:
            with pytest.raises(Busy, match="Another download"):
                downloads.carry_out(plan, house)
            said.append(progress)

    outcome = downloads.carry_out(plan, house, meanwhile, cancelled=lambda: bool(said))
    assert said and outcome.cancelled and not outcome.failed


def test_cancelled_in_the_middle_the_rest_comes_later(hubs, house):
    data = tensors(*LORA, size=4_000_000)
    link = f"lora:{hubs.add_file('ink.safetensors', data)}"
    hubs.bytes_per_s = 200_000
    seen = []
    outcome = downloads.carry_out(downloads.prepare(links.parse(link), house), house, seen.append, lambda: any(p.done_bytes > 500_000 for p in seen))
    assert outcome.cancelled and not outcome.failed and not outcome.done
    plan = downloads.prepare(links.parse(link), house)
    assert plan.rows[0].action == "resume" and plan.rows[0].there > 200_000
    hubs.bytes_per_s = 0
    assert downloads.carry_out(plan, house).good and (house.models / "loras/ink.safetensors").read_bytes() == data


def test_killed_at_random_moments_the_same_call_ends_right(hubs, house):
    """SIGKILL, ten times; then to the end. Two files, one of them with a sum that is known before."""
    one, two = tensors(*SD15, size=6_000_000), tensors(*LORA, size=3_000_000)
    version = hubs.add_model("Dream", files={"dream.safetensors": one})
    text = f"{hubs.civitai}/api/download/models/{version}, lora:{hubs.add_file('ink.safetensors', two)}"
    hubs.bytes_per_s = 150_000
    command = [sys.executable, "-m", "reverie.faces.cli", "fetch", text, "--yes"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "modules")}
    kills = 0
    for round in range(30):
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            process.wait(timeout=random.uniform(1.0, 4.0) if kills < 10 else PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += 1
        said = process.communicate()[1]
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, said
            break
        hubs.expire()
        hubs.bytes_per_s = 150_000 if kills < 10 else 0
    assert kills and (house.models / "checkpoints/dream.safetensors").read_bytes() == one
    assert (house.models / "loras/ink.safetensors").read_bytes() == two
    with Depot(house.storage) as depot:
        assert {kept.name for kept in depot.find()} == {"dream.safetensors", "ink.safetensors"} and not depot.verify()


MOMENTS = {"before its bytes are moved": ("os.rename", "/blobs/"), "before it is noted": ("open", ".kept.json"), "before it is linked": ("os.symlink", "dream"),
           "before what belongs beside it": ("open", ".reverie-link")}  # fmt: skip


@pytest.mark.parametrize("event, of", MOMENTS.values(), ids=MOMENTS)
def test_killed_between_the_last_byte_and_the_link_nothing_is_fetched_again(hubs, house, event, of):
    """A process that ends hard at that moment, and then an ordinary run."""
    data = tensors(*SD15)
    version = hubs.add_model("Dream", files={"dream.safetensors": data})
    link = f"{hubs.civitai}/api/download/models/{version}"
    script = f"""
import os, sys
from reverie import settings
from reverie.host import downloads, links
house = settings.load()
plan = downloads.prepare(links.parse(sys.argv[1]), house)
sys.addaudithook(lambda event, given: os._exit(9) if event == {event!r} and any({of!r} in str(one) for one in given) else None)
downloads.carry_out(plan, house)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "modules")}
    done = subprocess.run([sys.executable, "-c", script, link], env=env, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 9, done.stderr
    outcome = bring(link, house)
    assert outcome.good and not outcome.fetched_bytes and (house.models / "checkpoints/dream.safetensors").read_bytes() == data


def test_progress_tells_of_each_file_from_the_first_byte_to_the_last(hubs, house):
    seen = []
    text = "\n".join(f"lora:{hubs.add_file(f'{name}.safetensors', tensors(*LORA))}" for name in "ab")
    assert bring(text, house, on_progress=seen.append).good
    assert {p.title for p in seen if p.state == "done"} == {"a.safetensors", "b.safetensors"}
    assert all(p.done_bytes == p.size for p in seen if p.state == "done")


def test_a_whole_repository_lies_in_a_folder_of_its_own(hubs, house):
    files = hubs.add_repo("me/tiny", {"model_index.json": b'{"_class_name": "StableDiffusionPipeline"}', "unet/diffusion_pytorch_model.safetensors": tensors("unet.w"), "unet/config.json": b"{}"})
    started = time.monotonic()
    outcome = bring("diffusers:hf:me/tiny", house)
    assert outcome.good, (outcome.failed, time.monotonic() - started)
    for name in ("model_index.json", "unet/diffusion_pytorch_model.safetensors", "unet/config.json"):
        assert (house.models / "diffusers/tiny" / name).read_bytes() == files[name]
    assert set(actions("diffusers:hf:me/tiny", house)) == {"skip"}


def test_what_was_fetched_once_needs_no_network_any_more(hubs, house):
    link = f"lora:{hubs.add_file('ink.safetensors', tensors(*LORA))}"
    assert bring(link, house).good
    hubs.plain.clear()
    assert actions(link, house) == ["skip"] and actions(f"{link}[other.safetensors]", house) == ["link"]


def test_a_catalogued_model_that_is_here_in_any_form_is_left_alone(hubs, house):
    asked = len(hubs.requests)
    assert actions("pocket", house) == ["skip"]
    (house.models / "diffusers/sdxl-base/unet").mkdir(parents=True)
    (house.models / "diffusers/sdxl-base/model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    assert actions("sdxl-base", house) == ["skip"] and len(hubs.requests) == asked


def test_a_fetched_folder_of_which_something_is_missing_is_completed(hubs, house):
    files = hubs.add_repo("stabilityai/sd-turbo", {"model_index.json": b'{"_class_name": "StableDiffusionPipeline"}', "unet/diffusion_pytorch_model.safetensors": tensors("unet.w"), "unet/config.json": b'{"cross_attention_dim": 1024}'})
    assert bring("sd-turbo", house).good
    (house.models / "diffusers/sd-turbo/unet/diffusion_pytorch_model.safetensors").unlink()
    assert bring("sd-turbo", house).good
    assert (house.models / "diffusers/sd-turbo/unet/diffusion_pytorch_model.safetensors").read_bytes() == files["unet/diffusion_pytorch_model.safetensors"]


def test_a_file_of_this_machine_is_copied_in_and_stays_where_it_was(hubs, house, tmp_path):
    data, seen = tensors(*LORA), []
    (tmp_path / "my models").mkdir()
    (tmp_path / "my models/ink.safetensors").write_bytes(data)
    link = links.parse(f"lora:{tmp_path}/my models/ink.safetensors")
    assert downloads.carry_out(downloads.prepare(link, house), house, seen.append).good and seen[-1].state == "done"
    assert (house.models / "loras/ink.safetensors").read_bytes() == (tmp_path / "my models/ink.safetensors").read_bytes() == data
    assert [row.action for row in downloads.prepare(link, house).rows] == ["skip"]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 MB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, timeout=60).returncode:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True, timeout=60)


def test_a_disk_too_small_is_told_and_one_that_fills_up_meanwhile_loses_nothing(hubs, small_disk, monkeypatch):
    monkeypatch.setenv("REVERIE_STORAGE", str(small_disk / "storage"))
    house, data = Settings(root=ROOT, storage=small_disk / "storage"), tensors(*LORA, size=24_000_000)
    large = downloads.prepare(links.parse(f"lora:{hubs.add_file('large.safetensors', tensors(*LORA, size=60_000_000))}"), house)
    with pytest.raises(DiskFull, match="Free .* more"):
        downloads.carry_out(large, house)
    plan = downloads.prepare(links.parse(f"lora:{hubs.add_file('ink.safetensors', data)}"), house)
    (small_disk / "film").write_bytes(bytes(38_000_000))
    outcome = downloads.carry_out(plan, house)
    assert "missing" in outcome.failed[0][1] and not (house.models / "loras/ink.safetensors").exists()
    (small_disk / "film").unlink()
    assert bring(f"lora:{hubs.storage}/ink.safetensors", house).good and (house.models / "loras/ink.safetensors").read_bytes() == data


def test_where_no_links_can_be_made_the_room_for_copies_is_counted(hubs, house):
    """The interpreter's audit hook refuses links, as FAT does."""
    data = tensors(*LORA)
    script = """
import os, sys
from reverie import settings
from reverie.host import downloads, links
def refuse(event, given):
    if event in ("os.symlink", "os.link"):
        raise PermissionError(1, "refused")
sys.addaudithook(refuse)
house = settings.load()
plan = downloads.prepare(links.parse(sys.argv[1]), house)
print(plan.copy_bytes, downloads.carry_out(plan, house).good)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "modules")}
    done = subprocess.run([sys.executable, "-c", script, f"lora:{hubs.add_file('ink.safetensors', data)}"], env=env, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.stdout.split() == [str(len(data)), "True"], done.stderr
    assert (house.models / "loras/ink.safetensors").read_bytes() == data and actions(f"lora:{hubs.storage}/ink.safetensors", house) == ["skip"]


def test_a_folder_of_which_a_file_is_missing_is_not_called_whole_when_its_source_is_silent(hubs, house):
    hubs.add_repo("stabilityai/sd-turbo", {"model_index.json": b'{"_class_name": "StableDiffusionPipeline"}', "unet/diffusion_pytorch_model.safetensors": tensors("unet.w"), "unet/config.json": b'{"cross_attention_dim": 1024}'})
    assert bring("sd-turbo", house).good
    (house.models / "diffusers/sd-turbo/unet/diffusion_pytorch_model.safetensors").unlink()
    hubs.repos.clear()
    assert sorted(actions("sd-turbo", house)) == ["link", "skip", "skip"]  # its bytes are here
    with Depot(house.storage) as depot:
        depot.find(name="sd-turbo/unet/diffusion_pytorch_model.safetensors")[0].path.unlink()
    assert actions("sd-turbo", house) == ["refused"]


def test_a_whole_folder_that_was_fetched_needs_its_hub_no_more(hubs, house):
    hubs.add_repo("stabilityai/sd-turbo", {"model_index.json": b'{"_class_name": "StableDiffusionPipeline"}', "unet/diffusion_pytorch_model.safetensors": tensors("unet.w"), "unet/config.json": b'{"cross_attention_dim": 1024}'})
    assert bring("sd-turbo", house).good
    asked = len(hubs.requests)
    assert actions("sd-turbo", house) == actions(f"hf:stabilityai/sd-turbo@{COMMIT}", house) == ["skip"] * 3
    assert len(hubs.requests) == asked
    hubs.repos.clear()
    assert actions("diffusers:https://huggingface.co/stabilityai/sd-turbo", house) == ["skip"] * 3
    assert actions("hf:stabilityai/sd-turbo[turbo]", house) == ["link"] * 3
    assert actions("hf:stabilityai/sd-turbo@dev", house) == actions("clip:hf:stabilityai/sd-turbo", house) == ["refused"]
    assert actions("hf:stabilityai/another", house) == ["refused"]
    assert bring("hf:stabilityai/sd-turbo[turbo]", house).good
    assert (house.models / "diffusers/turbo/unet/config.json").read_bytes() == b'{"cross_attention_dim": 1024}'


def test_a_file_that_is_in_its_place_here_stays_there(hubs, house):
    path = house.models / "checkpoints/dream.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(tensors(*SD15))
    assert actions(f"checkpoint:{path}", house) == actions(str(path), house) == ["skip"]
    assert actions(f"checkpoint:{path}[other.safetensors]", house) == ["fetch"]
    assert actions(f"checkpoint:~nobody-here/x.safetensors, checkpoint:/{'x' * 300}.safetensors, checkpoint:{path}", house) == ["refused", "refused", "skip"]


def test_the_user_s_own_copy_of_a_file_is_known_by_its_bytes(hubs, house):
    data = tensors(*SD15)
    version = hubs.add_model("Dream", files={"dream.safetensors": data})
    link = f"{hubs.civitai}/api/download/models/{version}"
    (house.models / "checkpoints").mkdir(parents=True)
    (house.models / "checkpoints/dream.safetensors").write_bytes(data)
    assert actions(link, house) == ["skip"]
    (house.models / "checkpoints/dream.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert [row.name for row in downloads.prepare(links.parse(link), house).rows] == ["dream-2.safetensors"]
