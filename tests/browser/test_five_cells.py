"""The five cells as a new user clicks them through, in a real JupyterLab: choose, download, launch, open it from outside, tidy up.

With REVERIE_SHOTS=FOLDER every step is photographed; choose.jpg and launch.jpg there are the README's pictures.
"""

import json
import re

import home
import lab
import moonlight
import pytest
from host import small_webui
from moonlight import LORA, MODEL

pytestmark = pytest.mark.browser
PATIENCE_MS = 240_000
SETUP, CHOOSE, DOWNLOAD, LAUNCH, CREATE = range(1, 6)  # counted with the parameters above
SECRET = "never-in-a-notebook-4711"
LEFT_OVER = "left-over.safetensors"


@pytest.fixture(scope="module")
def hubs():
    with moonlight.hubs() as hubs:
        yield hubs


@pytest.fixture(scope="module")
def page(chromium, tmp_path_factory, hubs):
    """The notebook, no cell of it run; a small WebUI is in the storage's own catalogue."""
    folder, storage = tmp_path_factory.mktemp("lab"), home.storage(tmp_path_factory.mktemp("storage"))
    small_webui.lay(storage, tmp_path_factory.mktemp("made"), note="It has ComfyUI's paths and no model behind them.")
    (storage / "downloads").mkdir()
    (storage / "downloads" / f"{LEFT_OVER}.part").write_bytes(b"x" * 3_000_000)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**hubs.environment(), "CIVITAI_TOKEN": "", "HF_TOKEN": "", "REVERIE_ROOT": str(lab.ROOT), "REVERIE_DEVICE": "cpu"}.items():
            patch.setenv(name, value)
        lab.copy_notebook(folder / "Reverie.ipynb", "steps = 4")
        with lab.server(folder, storage) as address:
            page = chromium.new_page(viewport={"width": 1280, "height": 1300})
            page.set_default_timeout(PATIENCE_MS)
            page.storage, page.folder, page.asked = storage, folder, []
            page.on("request", lambda request: page.asked.append(request.url))
            page.goto(address("Reverie.ipynb"))
            yield page
            page.close()


# ---------------------------------------------------------------------------------------------------------------- clicks


def output(page, number):
    return page.locator(".jp-Notebook .jp-CodeCell").nth(number).locator(".jp-OutputArea")


def open_tab(page, title):
    page.locator(".rv-choose .lm-TabBar-tab", has_text=title).first.click()
    page.locator(".rv-choose-page:visible").wait_for()


def kept(page) -> dict:
    path = page.storage / "choices.json"
    return json.loads(path.read_text()) if path.exists() else {}


def eventually(page, what):
    for _ in range(PATIENCE_MS // 100):
        if what():
            return
        page.wait_for_timeout(100)
    pytest.fail("it never happened")


def shot(page, name, what=".rv-choose:visible"):
    lab.shot(page, page.locator(what).first, name)


# ----------------------------------------------------------------------------------------------------------- the journey


def test_a_new_user_clicks_through_the_five_cells(page, hubs):
    set_up(page)
    choose(page, hubs)
    download(page, hubs)
    launch(page)
    tidy_up(page)
    elsewhere = [url for url in page.asked if not re.match(r"(https?|wss?)://127\.0\.0\.1[:/]|data:|blob:", url)]
    assert not elsewhere  # no font, script or picture of ours comes from another machine


def set_up(page):
    lab.run_cell(page, SETUP)
    output(page, SETUP).get_by_text("SD-Reverie").first.wait_for()


def choose(page, hubs):
    lab.run_cell(page, CHOOSE)
    page.locator(".rv-choice-comfyui button").click()
    page.locator(".rv-choice-comfyui.rv-chosen").wait_for()
    lab.not_cut(page)
    shot(page, "2-webui")

    open_tab(page, "Models")
    page.locator(".rv-search:visible input").fill("wan 5b")
    page.locator(".rv-row:visible", has_text="Wan 2.2 TI2V 5B").wait_for()
    eventually(page, lambda: page.locator(".rv-table:visible .rv-row").count() == 1)
    page.locator(".rv-search:visible input").fill("")
    eventually(page, lambda: page.locator(".rv-table:visible .rv-row").count() > 10)
    page.get_by_role("checkbox", name="Stable Diffusion 1.5").check()
    page.get_by_role("checkbox", name="FLUX.1 dev").check()
    page.locator(".rv-footer", has_text="28.1 GB").wait_for()
    lab.not_cut(page)
    shot(page, "2-models")
    page.get_by_role("checkbox", name="FLUX.1 dev").uncheck()
    page.locator(".rv-footer", has_text="4.3 GB").wait_for()

    open_tab(page, "ControlNet")
    depth = page.get_by_role("checkbox", name="Depth, SD1.5")
    depth.focus()
    page.keyboard.press("Space")  # by keyboard alone
    eventually(page, depth.is_checked)
    shot(page, "2-controlnet")
    search_and_add(page)
    open_tab(page, "Launch")
    shot(page, "2-launch")
    eventually(page, lambda: len(kept(page).get("civitai", [])) == 1)
    assert kept(page)["webui"] == "comfyui" and kept(page)["models"] == ["sd15"] and kept(page)["controlnets"] == ["controlnet-sd15-depth"]

    page.reload()
    lab.run_cell(page, CHOOSE)
    page.locator(".rv-choice-comfyui.rv-chosen").wait_for()
    open_tab(page, "Models")
    assert page.get_by_role("checkbox", name="Stable Diffusion 1.5").is_checked()
    choose_what_is_small(page, hubs)


def search_and_add(page):
    open_tab(page, "CivitAI")
    page.locator(".rv-search:visible input").fill("moonlight")
    page.locator(".rv-search:visible input").press("Enter")
    page.locator(".rv-model img").nth(11).wait_for()
    card = page.locator(".rv-model").nth(0)
    card.locator("button", has_text="Add").click()
    page.locator(".rv-picks .rv-row").wait_for()
    lab.not_cut(page)
    shot(page, "2-civitai")
    lab.readme(page, page.locator(".rv-choose:visible"), "choose")
    page.get_by_role("button", name="Next").first.click()
    eventually(page, lambda: page.locator(".rv-model").count() == 2)
    page.get_by_role("button", name="Back").first.click()
    eventually(page, lambda: page.locator(".rv-model").count() == 12)


def choose_what_is_small(page, hubs):
    """What these servers have: without the catalogue's models, with a link of one's own, behind the gate on this machine."""
    page.get_by_role("checkbox", name="Stable Diffusion 1.5").uncheck()
    open_tab(page, "ControlNet")
    page.get_by_role("checkbox", name="Depth, SD1.5").uncheck()
    open_tab(page, "Own links")
    text = page.locator(".rv-links-text textarea")
    text.fill(f"lora: {hubs.link}")
    text.press("Tab")
    page.locator(".rv-links-table td", has_text=LORA).first.wait_for()
    open_tab(page, "WebUI")
    page.locator(".rv-choice-small button").click()
    page.locator(".rv-choice-small.rv-chosen").wait_for()
    ticked = page.locator(".rv-table:visible .rv-row input:checked")
    while ticked.count():  # they would be cloned from GitHub
        ticked.first.uncheck()
    open_tab(page, "Launch")
    options = page.get_by_role("textbox", name="Launch options")
    options.fill("--lowvram --wait 1")
    options.press("Tab")
    page.get_by_title("Try this first: This machine only").click()
    eventually(page, lambda: kept(page).get("launch_options") == "--lowvram --wait 1" and kept(page).get("tunnel_order", [""])[0] == "local")
    assert kept(page)["webui"] == "small" and not kept(page).keys() & {"models", "controlnets", "extensions"}


def download(page, hubs):
    panel = output(page, DOWNLOAD)
    hubs.bytes_per_s = 300_000
    lab.run_cell(page, DOWNLOAD)
    panel.locator(".rv-plan tbody tr").nth(1).wait_for()
    assert "2 files to fetch" in panel.inner_text() and "Small WebUI" in panel.inner_text()
    bar = panel.locator(".rv-bar:visible .progress-bar").first
    eventually(page, lambda: 0 < float(bar.evaluate("e => parseFloat(e.style.width)")) < 100)
    shot(page, "3-bars", ".rv:has(.rv-files)")
    lab.not_cut(page, ".rv:has(.rv-files)")
    panel.locator(".rv-good", has_text="Done in").wait_for()
    hubs.bytes_per_s = 0
    shot(page, "3-done", ".rv:has(.rv-files)")
    lab.run_cell(page, DOWNLOAD)
    panel.get_by_text("2 here already").wait_for()
    panel.locator(".rv-good", has_text="Done in").wait_for()
    shot(page, "3-again", ".rv:has(.rv-files)")


def launch(page):
    panel = output(page, LAUNCH)
    lab.run_cell(page, LAUNCH)
    panel.get_by_role("status").get_by_text("starting").wait_for()
    shot(page, "4-starting", ".rv:has(.rv-more pre)")
    panel.get_by_role("status").get_by_text("runs").wait_for()
    panel.get_by_role("button", name="Show the password").click()
    password = panel.get_by_label("Password", exact=True).input_value()
    address = panel.get_by_label("Address", exact=True).input_value()
    shot(page, "4-runs", ".rv:has(.rv-more pre)")
    lab.readme(page, page.locator(".rv:has(.rv-more pre)").first, "launch")
    look_from_outside(page, address, password)
    panel.get_by_role("button", name="Stop").click()
    panel.get_by_text("Stopped.").wait_for()
    shot(page, "4-stopped", ".rv:has(.rv-more pre)")


def look_from_outside(page, address, password):
    """Another browser, which has never been here: the login, then the WebUI with the models in it."""
    visitor = page.context.browser.new_page()
    try:
        visitor.goto(address)
        assert "protected" in visitor.inner_text("main")
        lab.photograph(visitor, "4-login")
        visitor.get_by_label("Password").fill(password)
        visitor.keyboard.press("Enter")
        visitor.get_by_role("heading", name="Small WebUI").wait_for()
        for folder, name in (("checkpoints", MODEL), ("loras", LORA)):
            visitor.goto(f"{address}models/{folder}")
            visitor.get_by_text(name).wait_for()
    finally:
        visitor.close()


def tidy_up(page):
    lab.run_cell(page, CREATE)
    panel, part = output(page, CREATE), page.storage / "downloads" / f"{LEFT_OVER}.part"
    panel.locator(".rv-draw:visible").wait_for()
    row = panel.locator(".rv-pick", has_text="left-over")
    row.wait_for()
    assert "checkpoints" in panel.locator(".rv-legend").first.inner_text()
    shot(page, "5-studio", ".rv:has(.rv-draw)")
    shot(page, "5-storage", ".rv:has(.rv-use)")
    lab.not_cut(page, ".rv:has(.rv-use)")
    row.get_by_role("checkbox").check()
    panel.get_by_role("button", name="Move to the bin").click()
    panel.locator(".rv-good", has_text="in the bin").wait_for()
    assert not part.exists()
    shot(page, "5-bin", ".rv:has(.rv-use)")
    panel.get_by_role("button", name="Undo").click()
    panel.locator(".rv-good", has_text="put back").wait_for()
    assert part.stat().st_size == 3_000_000


# ------------------------------------------------------------------------------------------------- cell 2, looked at closely


def test_a_token_is_in_no_notebook_and_leaves_the_field_at_once(page):
    open_tab(page, "Tokens")
    field = page.locator(".rv-token input[type=password]").first
    field.fill(SECRET)
    field.press("Tab")
    page.locator(".rv-token", has_text="Held, and not saved yet").first.wait_for()
    assert field.input_value() == ""
    page.locator(".rv-token").first.get_by_role("button", name="Save").click()
    page.locator(".rv-token .rv-mark-good").first.wait_for()
    lab.not_cut(page)
    shot(page, "2-tokens")
    page.keyboard.press("Control+s")
    secrets = page.storage / "secrets.env"
    assert SECRET in secrets.read_text() and secrets.stat().st_mode & 0o077 == 0
    eventually(page, lambda: "Choose" in (page.folder / "Reverie.ipynb").read_text())
    assert SECRET not in page.content()
    for path in [*page.folder.rglob("*.ipynb"), page.storage / "choices.json"]:
        assert not path.exists() or SECRET not in path.read_text("utf-8", "replace")


def test_light_links_and_a_narrow_page(page):
    page.locator(".rv-choose .rv-scheme").click()
    page.locator(".rv-choose.rv-light").wait_for()
    shot(page, "2-webui-light")
    open_tab(page, "Models")
    shot(page, "2-models-light")
    open_tab(page, "Own links")
    text = page.locator(".rv-links-text textarea")
    text.fill("lora: https://civitai.com/api/download/models/5?token=pasted123 [moon.safetensors]\nsdxl-vae")
    text.press("Tab")
    page.locator(".rv-links-table td", has_text="moon.safetensors").wait_for()
    shot(page, "2-links-light")
    eventually(page, lambda: "moon.safetensors" in json.dumps(kept(page)))
    assert "pasted123" not in page.content() + json.dumps(kept(page)) and "pasted123" not in text.input_value()
    open_tab(page, "CivitAI")
    page.get_by_role("button", name="Search").click()
    page.locator(".rv-model img").first.wait_for()
    shot(page, "2-civitai-light")
    for panel in (".rv:has(.rv-files)", ".rv:has(.rv-more pre)", ".rv:has(.rv-draw)", ".rv:has(.rv-use)"):
        page.locator(f"{panel}.rv-light").first.wait_for()  # one choice for all five cells
    for name, panel in (("3", ".rv:has(.rv-files)"), ("4", ".rv:has(.rv-more pre)"), ("5-studio", ".rv:has(.rv-draw)"), ("5-storage", ".rv:has(.rv-use)")):
        shot(page, f"{name}-light", panel)
    page.keyboard.press("Control+b")  # the list of files makes room, as everybody does it on half a screen
    page.set_viewport_size({"width": 600, "height": 1100})
    for title in ("WebUI", "Models", "CivitAI", "Own links", "Tokens", "Launch"):
        open_tab(page, title)
        lab.not_cut(page)
        shot(page, f"2-{title.lower().replace(' ', '-')}-narrow")
    for name, panel in (("3", ".rv:has(.rv-files)"), ("4", ".rv:has(.rv-more pre)"), ("5-studio", ".rv:has(.rv-draw)"), ("5-storage", ".rv:has(.rv-use)")):
        lab.not_cut(page, panel)
        shot(page, f"{name}-narrow", panel)
