"""The storyboard page on a phone and on a desk, as a browser shows it."""

import pytest
from PIL import Image

from reverie import storyboard

pytestmark = pytest.mark.browser
SCENES = 6


@pytest.fixture(scope="module")
def page_address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board")
    rows = []
    for number in range(SCENES):
        path = folder / f"{number}.png"
        Image.new("RGB", (512, 384), (40 * number, 90, 160)).save(path)
        rows.append({
            "chapter": 1 + number // 3, "chapter_title": "A title that is as long as titles in old novels are, or longer", "scene": 1 + number % 3,
            "words": 300, "characters": ["The Time Traveller", "Mrs. Watchett"], "setting": "laboratory", "time": "at night", "mood": "uneasy",
            "action": f"action {number}", "prompt": "a-very-long-unbroken-word-" * 8, "filename": f"{number}.png", "excerpt": "It was late. " * 8, "image": [path],
        })
    return storyboard.build("The Time Machine", rows, folder / "board.html", style="graphic novel", model="pocket").as_uri()


@pytest.fixture
def open_page(chromium, page_address):
    pages = []

    def opened(width, height, scheme="dark"):
        page = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        pages.append(page)
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(("file:", "data:")) else page.problems.append(request.url))
        page.goto(page_address)
        return page

    yield opened
    for page in pages:
        page.close()


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_scrolls_sideways(open_page, width):
    page = open_page(width, 844)
    for fold in page.locator("summary").all():
        fold.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.problems == []


def test_dark_and_light_follow_the_system_and_the_button(open_page):
    ground = "getComputedStyle(document.body).backgroundColor"
    dark, light = open_page(390, 844, "dark"), open_page(390, 844, "light")
    colours = dark.evaluate(ground), light.evaluate(ground)
    assert colours[0] != colours[1]
    dark.locator(".scheme").click()
    assert dark.evaluate(ground) == colours[1]


def test_pictures_open_large_and_keys_lead_on(open_page):
    page = open_page(1280, 900)
    page.locator(".pictures button").first.click()
    caption = page.locator("dialog figcaption")
    assert "Chapter 1, scene 1" in caption.inner_text()
    page.keyboard.press("ArrowRight")
    assert "action 1" in caption.inner_text()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert f"action {SCENES - 1}" in caption.inner_text()
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()


def test_a_large_picture_fits_the_window(open_page):
    page = open_page(390, 500)
    page.locator(".pictures button").first.click()
    box = page.locator("dialog img").bounding_box()
    assert box["width"] <= 390 and box["y"] >= 0 and box["y"] + box["height"] <= 500
