"""Cell 5 in a real JupyterLab: type, click, wait for pictures, as a person would."""

import os

import home
import lab
import pytest

pytestmark = pytest.mark.browser
PATIENCE_MS = 300_000
STORY = "# Chapter 1: The Gate\n\nEmma stood in the garden at dawn. Rain fell.\n\n* * *\n\nAt night Emma walked through the forest.\n"
# Cell 1 installs what is missing, and has tests of its own: here it is enough that `setup` can be loaded.
PARAMETERS = "import setup\nsteps, text, out = 4, 'tale.md', 'drawn'"
CREATE = 5  # the fifth cell, counted with the parameters above


@pytest.fixture(scope="module")
def page(chromium, tmp_path_factory):
    """The notebook with cell 5's tabs open."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "tale.md").write_text(STORY)
    lab.copy_notebook(folder / "Reverie.ipynb", PARAMETERS)
    with lab.server(folder, home.storage(tmp_path_factory.mktemp("storage"))) as address:
        page = chromium.new_page(viewport={"width": 1280, "height": 1400})
        page.set_default_timeout(PATIENCE_MS)
        page.goto(address("Reverie.ipynb"))
        for number in (0, CREATE):
            lab.run_cell(page, number)
        page.locator(".rv-draw:visible").wait_for()
        page.folder = folder
        yield page
        if os.environ.get("REVERIE_SHOTS"):
            page.screenshot(path=f"{os.environ['REVERIE_SHOTS']}/notebook.png")
        page.close()


def field(page, name):
    return page.locator(f".rv-field-{name}:visible").locator("input, textarea")


def open_tab(page, title):
    page.locator(".rv .lm-TabBar-tab", has_text=title).click()


def draw(page):
    page.locator(".rv-draw:visible").click()


def test_every_control_is_drawn(page):
    assert page.locator(".rv").get_by_text("javascript error").count() == 0
    assert field(page, "prompt").count() == field(page, "steps").count() == field(page, "seed").count() == 1


def test_what_a_checkbox_says_is_not_cut(page):
    open_tab(page, "Illustrate")
    label = page.locator(".widget-checkbox:visible .widget-label-basic", has_text="grade the pictures against their prompts")
    label.wait_for()
    for part in (label, label.locator("span")):
        wide, seen, tall, shown = part.evaluate("e => [e.scrollWidth, e.clientWidth || e.offsetWidth, e.scrollHeight, e.clientHeight || e.offsetHeight]")
        assert wide <= seen + 1 and tall <= shown + 1


def test_a_mistake_is_said_in_the_form(page):
    open_tab(page, "Generate")
    draw(page)
    page.locator(".rv-bad:visible", has_text="prompt is empty").wait_for()


def test_a_prompt_becomes_a_picture(page):
    open_tab(page, "Generate")
    field(page, "prompt").fill("a red house at night")
    field(page, "seed").fill("7")
    draw(page)
    card = page.locator(".rv-card:visible").first
    card.wait_for()
    assert "seed 7" in card.inner_text()
    assert card.locator("img").bounding_box()["width"] >= 190
    page.locator(".rv-good:visible").wait_for()


def test_cancel_is_heard_while_it_draws(page):
    open_tab(page, "Generate")
    field(page, "count").fill("400")
    field(page, "steps").fill("8")
    field(page, "steps").press("Tab")
    draw(page)
    page.locator(".rv-card:visible").nth(1).wait_for()
    page.locator(".rv-cancel:visible").click()
    page.locator(".rv-status:visible", has_text="Stopped").wait_for()
    assert page.locator(".rv-draw:visible").is_enabled()


def test_scenes_are_read_edited_drawn_and_shown_as_a_storyboard(page):
    open_tab(page, "Illustrate")
    page.locator(".rv-read:visible").click()
    page.locator(".rv-scene").first.wait_for()
    assert page.locator(".rv-scene").count() == 2
    page.locator(".rv-scene textarea").first.fill("a green castle at night")
    page.keyboard.press("Tab")
    page.locator(".rv-saved").first.wait_for()
    draw(page)
    page.locator(".rv-frame").wait_for()
    assert page.locator(".rv-scene .rv-thumb img").count() == 2
    board = page.frame_locator(".rv-frame")
    board.locator(".scene img").first.wait_for()
    assert board.locator(".scene img").count() == 2
    written = sorted((page.folder / "drawn" / "prompts").glob("*.txt"))
    assert "a green castle at night" in written[0].read_text()
