"""Cell 2's tabs without a browser: search, tick, totals, tokens, CivitAI, what is kept. tests/browser has the same with one."""

import json
import sys
import threading
import time
from pathlib import Path

import ipywidgets
import pytest

from reverie import settings
from reverie.faces.widgets.choose import Choose
from reverie.faces.widgets.choose.picker import SORTS
from reverie.host import choices, secrets
from reverie.host.choices import Choices

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "host"))
from hub_servers import CIVITAI_TOKEN, Hubs, sha256  # noqa: E402
import small_webui  # noqa: E402
from launched import installed  # noqa: E402

PATIENCE_S = 120


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    for name in ("CIVITAI_TOKEN", "CIVITAI_API_TOKEN", "CIVITAI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN", "HUGGINGFACEHUB_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("REVERIE_STORAGE", str(tmp_path / "storage"))
    return settings.load()


@pytest.fixture
def hubs(monkeypatch):
    with Hubs() as hubs:
        for name, value in hubs.environment().items():
            monkeypatch.setenv(name, value)
        yield hubs


def wait_for(what):
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def kept(here) -> dict:
    path = choices.path(here)
    return json.loads(path.read_text()) if path.exists() else {}


def every(widget):
    """The widget and all below it."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from every(child)


def titles(page):
    return [offer.title for offer in page.shown()]


def test_the_tabs_are_those_of_the_cell():
    cell = Choose()
    assert isinstance(cell.tabs, ipywidgets.Tab)
    assert cell.tabs.titles == ("WebUI", "Models", "VAE", "LoRA", "ControlNet", "CivitAI", "Own links", "Tokens", "Launch")


def test_every_control_says_what_it_is():
    for widget in every(Choose().widget):
        if isinstance(widget, (ipywidgets.Button, ipywidgets.Text, ipywidgets.Dropdown, ipywidgets.Checkbox, ipywidgets.Textarea, ipywidgets.ToggleButtons)):
            assert widget.description or widget.tooltip, widget


def test_what_is_ticked_is_kept_in_one_file_and_there_the_next_time(here):
    cell = Choose()
    cell.pages["Models"].boxes["models", "sd15"].value = True
    cell.pages["VAE"].boxes["vaes", "sdxl-vae"].value = True
    cell.pages["ControlNet"].boxes["controlnets", "controlnet-sd15-depth"].value = True
    wait_for(lambda: kept(here).get("controlnets"))
    assert kept(here) == {"format": 2, "models": ["sd15"], "vaes": ["sdxl-vae"], "controlnets": ["controlnet-sd15-depth"]}
    again = Choose()
    assert again.pages["Models"].boxes["models", "sd15"].value and "<b>3</b> chosen" in again.footer.widget.value
    again.pages["Models"].boxes["models", "sd15"].value = False
    again.state.flush()
    assert "models" not in kept(here)


def test_search_base_kind_and_order_narrow_the_list_and_leave_ticks_alone():
    page = Choose().pages["Models"]
    page.boxes["models", "sd15"].value = True
    everything = titles(page)
    page.search.value = "WAN second half"
    assert titles(page) == ["Wan 2.2 I2V 14B, low noise", "Wan 2.2 T2V 14B, low noise"] and len(page.table.children) == 2
    page.search.value = "no such thing"
    assert not page.table.children and "CivitAI" in page.empty.value
    page.search.value = ""
    page.base.value = "SDXL"
    assert titles(page) == ["SDXL 1.0 base", "SDXL-Turbo", "SDXL 1.0 refiner"]
    page.base.value, page.kind.value = "Video", "Text encoder"
    assert titles(page) == ["UMT5-XXL in 8 bits (Wan)"]
    page.base.value, page.kind.value, page.sort.value = "All", "Every kind", "Largest first"
    sizes = [offer.size for offer in page.shown()]
    assert sizes == sorted(sizes, reverse=True) and sorted(titles(page)) == sorted(everything)
    page.boxes["models", "flux-dev"].value, page.sort.value = True, "Chosen first"
    assert [offer.id for offer in page.shown()][:2] == ["sd15", "flux-dev"]
    assert page.state.choices.models == ("sd15", "flux-dev") and SORTS[0] != page.sort.value


def test_the_foot_counts_and_says_what_to_untick():
    cell = Choose()
    cell.state.machine = cell.state.machine.__class__(vram_gb=4, ram_gb=8, free_bytes=0)
    cell.state.free = lambda: 30 * 10**9
    boxes = cell.pages["Models"].boxes
    boxes["models", "sd15"].value = True
    assert "4.3 GB</b> to fetch" in cell.footer.widget.value and "rv-bad" not in cell.footer.widget.value
    boxes["models", "flux-dev"].value = boxes["models", "flux-schnell"].value = True
    told = cell.footer.widget.value
    assert "21.9 GB too much for this disk. Untick FLUX.1" in told and 'role="alert"' in told and "Too large for this machine" in told
    boxes["models", "flux-dev"].value = False
    assert "too much" not in cell.footer.widget.value


def test_what_lies_here_is_marked_and_needs_no_tick(here):
    place = here.models / "vae" / "sdxl_vae.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"x")
    cell = Choose()
    rows = {offer.id: cell.pages["VAE"]._row(offer).children[1].value for offer in cell.pages["VAE"].shown()}
    assert "✓ here" in rows["sdxl-vae"] and "✓ here" not in rows["vae-ft-mse"]
    assert cell.pages["Models"].boxes["models", "pocket"].disabled


def test_a_webui_says_how_much_room_it_takes_and_whether_it_is_here(here):
    small_webui.write_rows(here.storage, small_webui.row(own_package=True))
    installed(here, "fine")
    cards = {id: box.children[0].value for id, box in Choose().pages["WebUI"]._boxes.items()}
    assert "About 18 GB." in cards["comfyui"] and "✓ here" not in cards["comfyui"]
    assert "✓ here" in cards["small"]


def test_another_webui_brings_its_own_extensions():
    cell = Choose()
    page = cell.pages["WebUI"]
    assert not page.extensions
    page.cards["forge"].click()
    first = set(page.extensions)
    assert cell.state.choices.webui == "forge" and first and page.cards["forge"].description == "Chosen"
    assert {id for id, box in page.extensions.items() if box.value} == set(cell.state.choices.extensions)
    page.cards["comfyui"].click()
    assert set(page.extensions) != first and set(cell.state.choices.extensions) <= set(page.extensions)
    page.cards[""].click()
    assert cell.state.choices.webui == "" and not page.extensions and not cell.state.choices.extensions


def test_reset_asks_once_more_and_import_takes_a_file(here):
    cell = Choose()
    cell.state.set(models=["sd15"], theme="light")
    assert "rv-light" in cell.widget._dom_classes and "rv-light" in cell.tabs._dom_classes
    text = choices.export(cell.state.choices)
    cell.bar.reset.click()
    assert cell.state.choices.models == ("sd15",)
    cell.bar.reset.click()
    assert cell.state.choices == Choices(theme="light") and not cell.pages["Models"].boxes["models", "sd15"].value
    cell.bar._import(({"name": "mine.json", "content": memoryview(text.encode())},))
    assert cell.state.choices.models == ("sd15",) and cell.pages["Models"].boxes["models", "sd15"].value
    cell.bar._import(({"name": "evil.json", "content": b'{"launch_options": "--x; y", "models": []}'},))
    assert "belongs to a shell" in cell.bar.words.value and cell.state.choices.models == ("sd15",)
    cell.bar.save.click()
    assert kept(here)["models"] == ["sd15"] and "rv-good" in cell.bar.words.value


def test_a_file_that_cannot_be_used_is_put_aside_and_the_cell_opens(here):
    here.storage.mkdir(parents=True)
    choices.path(here).write_text('{"port": "x"}')
    cell = Choose()
    assert "put aside" in cell.bar.words.value and (here.storage / "choices.refused.json").read_text() == '{"port": "x"}'


def test_a_variable_that_is_only_called_like_a_parameter_is_left_aside():
    cell = Choose({"port": "the port of the town", "models": ["../x"]})
    assert cell.state.choices == Choices() and "left aside" in cell.bar.words.value


def test_things_from_elsewhere_get_a_row_of_their_own():
    cell = Choose({"loras": "https://example.org/moon.safetensors"})
    assert "moon.safetensors" in titles(cell.pages["LoRA"])
    box = cell.pages["LoRA"].boxes["loras", "https://example.org/moon.safetensors"]
    assert box.value
    box.value = False
    assert cell.state.choices.loras == ()


def test_a_pasted_token_leaves_the_links_and_what_is_wrong_is_told(here):
    cell = Choose()
    page = cell.pages["Own links"]
    page.text.value = "lora:https://civitai.com/api/download/models/5?token=tok99[moon.safetensors]"
    assert "tok99" not in page.text.value and "kept as CIVITAI_TOKEN" in page.words.value and "moon.safetensors" in page.found.value
    assert secrets.token("CIVITAI_TOKEN") == "tok99"
    page.text.value = "lora:nowhere at all"
    assert "rv-bad" in page.found.value and cell.state.choices.links == "lora:nowhere at all"
    cell.state.flush()
    assert "tok99" not in choices.path(here).read_text()


def test_a_token_is_held_outside_of_the_field_saved_on_click_and_checked(here, hubs):
    row = Choose().pages["Tokens"].rows["CIVITAI_TOKEN"]
    assert "not set" in row.state.value and row.check.disabled
    row.text.value = "mine-123"
    assert row.text.value == "" and not (here.storage / "secrets.env").exists()
    row.keep.click()
    assert secrets.token("CIVITAI_TOKEN") == "mine-123" and "secrets.env" in row.state.value
    row.check.click()
    wait_for(lambda: "rv-bad" in row.words.value)
    assert "CivitAI answered 404" in row.words.value
    assert hubs.asked("civitai")[-1][2]["Authorization"] == "Bearer mine-123"
    shown = "".join(str(widget.get_state()) for widget in every(row.widget))
    assert "mine-123" not in shown
    row.drop.click()
    assert not secrets.token("CIVITAI_TOKEN") and "not set" in row.state.value


def test_launch_options_that_cannot_be_used_are_told_and_not_kept():
    cell = Choose()
    page = cell.pages["Launch"]
    page.options.value = "--lowvram; reboot"
    assert "belongs to a shell" in page.words.value and cell.state.choices.launch_options == ""
    page.options.value = "--lowvram"
    assert cell.state.choices.launch_options == "--lowvram" and not page.words.value
    page._move("cloudflared", 0)
    order = cell.state.choices.tunnel_order
    assert order[0] == page.sequence()[0] == "cloudflared" and len(order) == len(page.sequence()) - 1
    page._use("cloudflared", False)
    assert "cloudflared" not in cell.state.choices.tunnel_order
    page.tunnel.value = False
    assert not page.order.children and not cell.state.choices.tunnel


# ------------------------------------------------------------------------------------------------------------- CivitAI


def test_a_search_shows_cards_pages_and_adds_the_chosen_file(hubs, here):
    for number in range(14):
        hubs.add_model(f"Moon {number}", "LORA", "SDXL 1.0", {"moon.safetensors": 3000, "full.safetensors": 9000}, images=[])
    cell = Choose()
    page = cell.pages["CivitAI"]
    page.query.value = "moon"
    page.go.click()
    wait_for(lambda: len(page.cards) == 12 and not page.next.disabled)
    card = page.cards[0]
    wait_for(lambda: "no preview" in card.picture.value)
    card.file.value = 1
    card.button.click()
    (pick,) = cell.state.choices.civitai
    assert (pick.title, pick.kind, pick.base, pick.name, pick.size) == ("Moon 0", "lora", "SDXL 1.0", "full.safetensors", 9000)
    assert card.button.description == "Added" and len(page.chosen.children) == 2
    card.file.value = 0
    assert card.button.description == "Add"
    page.next.click()
    wait_for(lambda: len(page.cards) == 2 and not page.back.disabled)
    page.back.click()
    wait_for(lambda: len(page.cards) == 12 and page.back.disabled)
    wait_for(lambda: page.cards[0].button.description == "Add")
    cell.state.flush()
    assert kept(here)["civitai"][0]["name"] == "full.safetensors"


def test_opened_the_tab_shows_what_is_liked_and_marks_what_is_here(hubs, here):
    data = b"x" * 3000
    hubs.add_model("Moon", "LORA", "SDXL 1.0", {"moon.safetensors": data}, images=[])
    hubs.add_model("Sun", "LORA", "SDXL 1.0", {"sun.safetensors": 3000}, images=[])
    blob = here.storage / "blobs" / sha256(data)[:2] / sha256(data)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(data)
    cell = Choose()
    page = cell.pages["CivitAI"]
    assert not hubs.asked("civitai")
    cell.tabs.selected_index = list(cell.pages).index("CivitAI")
    wait_for(lambda: len(page.cards) == 2)
    assert ["✓ here" in card.about.value for card in page.cards] == [True, False]
    cell.tabs.selected_index = 0
    cell.tabs.selected_index = list(cell.pages).index("CivitAI")
    assert len(hubs.asked("civitai")) == 1


def test_adults_stay_out_unless_asked_for_and_early_access_is_told(hubs):
    hubs.add_model("Plain", early="2999-01-01T00:00:00Z", images=[])
    hubs.add_model("Naked", nsfw=True, images=[])
    page = Choose().pages["CivitAI"]
    page.search()
    wait_for(lambda: page.cards)
    assert [card.model.title for card in page.cards] == ["Plain"]
    assert "Early access until 2999-01-01" in page.cards[0].about.value
    page.nsfw.value = True
    wait_for(lambda: len(page.cards) == 2)


def test_type_and_base_narrow_the_search(hubs):
    for name, kind, base in (("A", "Checkpoint", "SD 1.5"), ("B", "LORA", "Pony"), ("C", "DoRA", "SDXL 1.0"), ("D", "LORA", "Flux.1 D")):
        hubs.add_model(name, kind, base, images=[])
    page = Choose().pages["CivitAI"]
    page.type.value = ("lora",)
    wait_for(lambda: [card.model.title for card in page.cards] == ["B", "C", "D"])
    page.base.value = ("sdxl",)
    wait_for(lambda: [card.model.title for card in page.cards] == ["B", "C"])


def test_previews_come_as_pictures_and_what_is_none_is_left_out(hubs):
    from io import BytesIO

    from PIL import Image

    out = BytesIO()
    Image.new("RGB", (900, 600), (200, 90, 40)).save(out, "PNG")
    good = hubs.add_file("good.png", out.getvalue(), type="image/png")
    for name, url in (("Good", good), ("Film", hubs.add_file("film", b"x", type="video/mp4")), ("Page", hubs.add_file("page", b"<html>", type="text/html"))):
        hubs.add_model(name, images=[{"id": 1, "url": url, "nsfwLevel": 1, "width": 9, "height": 6, "type": "image"}])
    page = Choose().pages["CivitAI"]
    page.search()
    wait_for(lambda: len(page.cards) == 3 and all("rv-spin" not in card.picture.value for card in page.cards))
    shown = {card.model.title: card.picture.value for card in page.cards}
    assert "data:image/jpeg;base64," in shown["Good"] and "no preview" in shown["Film"] and "no preview" in shown["Page"]


def test_what_an_outdated_search_brings_is_thrown_away(hubs):
    hubs.add_model("Old moon", images=[])
    hubs.add_model("New sun", images=[])
    page = Choose().pages["CivitAI"]
    page.query.value = "moon"
    with page._lock:  # the answer to the first search has to wait here
        thread = threading.Thread(target=page._answer, args=(page._number, {"query": "moon"}))
        thread.start()
        page._number += 1
    thread.join(PATIENCE_S)
    assert not page.cards
    page.query.value = "sun"
    page.search()
    wait_for(lambda: [card.model.title for card in page.cards] == ["New sun"])
    page.search()
    page.cancel()
    assert "Stopped" in page.words.value and page.stop.layout.display == "none"


def test_a_hub_that_is_down_is_a_sentence(monkeypatch):
    monkeypatch.setenv("REVERIE_CIVITAI_URL", "http://127.0.0.1:9")
    page = Choose().pages["CivitAI"]
    page.search()
    wait_for(lambda: "rv-bad" in page.words.value)
    assert "bug" not in page.words.value and not page.cards
    assert CIVITAI_TOKEN not in page.words.value
