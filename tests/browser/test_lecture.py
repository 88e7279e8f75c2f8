"""The slides of the lecture in Chromium: every slide fits, keys and buttons turn pages, the notes
show, a second window follows, paper has a page for each slide, and nothing is fetched."""

import re

import pytest

from rlhf_lab.course.lecture.slides import slides, write_slides

pytestmark = pytest.mark.browser
COUNT = len(slides())
SIZE = {"width": 1280, "height": 720}
# What of the slide in view lies outside its face, or text that lies outside its column.
OUTSIDE = """() => {
  const section = document.querySelector("section:not([hidden])");
  const face = section.querySelector(".face").getBoundingClientRect();
  const column = section.querySelector(".content").getBoundingClientRect();
  const beyond = (a, b) => a.width && (a.left < b.left - 1 || a.right > b.right + 1
                                       || a.top < b.top - 1 || a.bottom > b.bottom + 1);
  const found = [];
  for (const part of section.querySelectorAll(".face *"))
    if (beyond(part.getBoundingClientRect(), face)) found.push("face: " + part.tagName);
  for (const part of section.querySelectorAll(".content *"))
    if (beyond(part.getBoundingClientRect(), column)) found.push("content: " + part.tagName);
  const title = section.querySelector("h1, h2").getBoundingClientRect();
  if (title.bottom > column.top) found.push("title");
  const notes = section.querySelector("aside");
  if (notes.scrollHeight > notes.clientHeight + 1) found.push("notes");
  return found;
}"""


@pytest.fixture(scope="module")
def deck(tmp_path_factory) -> str:
    return write_slides(tmp_path_factory.mktemp("lecture") / "lecture.html").as_uri()


@pytest.fixture
def opened(browser, deck):
    context = browser.new_context(viewport=SIZE)
    page = context.new_page()
    errors, asked = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(deck)
    yield page
    assert errors == []
    assert [url for url in asked if not url.startswith((deck, "data:"))] == []
    context.close()


def at(page) -> int:
    """The slide in view; there must be exactly one."""
    [seen] = [s for s in page.locator("section").all() if s.is_visible()]
    return int(seen.get_attribute("id"))


@pytest.mark.parametrize("notes", [False, True])
def test_every_slide_fits(opened, notes):
    if notes:
        opened.keyboard.press("n")
    for number in range(1, COUNT + 1):
        assert at(opened) == number
        assert opened.evaluate(OUTSIDE) == [], f"slide {number}"
        assert opened.locator("section:not([hidden]) aside").is_visible() == notes
        pictures = "() => [...document.images].every((image) => image.naturalWidth > 100)"
        assert opened.evaluate(pictures)
        opened.keyboard.press("ArrowRight")
    assert at(opened) == COUNT  # there is nothing behind the last


def test_a_slide_that_is_too_full_is_found(opened):
    opened.evaluate("() => document.querySelector('.words').append('word '.repeat(2000))")
    assert opened.evaluate(OUTSIDE) != []


def test_keys_buttons_and_the_address_turn_pages(opened, deck):
    steps = (("End", COUNT), ("ArrowRight", COUNT), ("Home", 1), ("ArrowLeft", 1), (" ", 2))
    for key, number in (*steps, ("PageDown", 3), ("Shift+ ", 2), ("PageUp", 1)):
        opened.keyboard.press(key)
        assert at(opened) == number, key
    opened.mouse.move(100, 100)  # shows the buttons
    opened.get_by_role("button", name="→").click()
    assert at(opened) == 2 and opened.url.endswith("#2")
    heard = opened.locator("output").text_content()
    assert heard == f"Slide 2 of {COUNT}: {slides()[1].title}"
    opened.goto("about:blank")
    opened.goto(f"{deck}#7")
    assert at(opened) == 7


def test_a_second_window_shows_the_notes_and_follows(opened):
    with opened.expect_popup() as found:
        opened.keyboard.press("w")
    second = found.value
    second.wait_for_selector("aside:visible")
    assert not opened.locator("section:not([hidden]) aside").is_visible()
    opened.keyboard.press("ArrowRight")
    second.wait_for_selector("section[id='2']:visible")
    second.keyboard.press("ArrowRight")
    opened.wait_for_selector("section[id='3']:visible")


def test_it_fits_smaller_windows(opened):
    for width, height in ((1024, 768), (800, 450), (1920, 1080)):
        opened.set_viewport_size({"width": width, "height": height})
        box = opened.locator("section:not([hidden])").bounding_box()
        assert box["x"] >= -1 and box["y"] >= -1
        assert box["x"] + box["width"] <= width + 1 and box["y"] + box["height"] <= height + 1


@pytest.mark.parametrize("notes", [False, True])
def test_paper_has_a_page_for_each_slide(opened, notes):
    if notes:
        opened.keyboard.press("n")
    printed = opened.pdf(prefer_css_page_size=True, print_background=True)
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == COUNT


def test_without_a_script_all_slides_and_notes_are_there(browser, deck):
    context = browser.new_context(java_script_enabled=False, viewport=SIZE)
    page = context.new_page()
    page.goto(deck)
    assert page.locator("section:visible").count() == COUNT
    assert page.locator("aside:visible").count() == COUNT
    context.close()
