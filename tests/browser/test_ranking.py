"""Ranking in a real JupyterLab page: every event comes from the browser, and every ranking is read
from the database."""

import pytest

from rlhf_lab.feedback.store import FeedbackStore, Sample
from rlhf_lab.records import Prompt

from .ranking_page import RankingPage, make_store, ranks_of

pytestmark = pytest.mark.browser

USUAL = {"viewport": {"width": 1100, "height": 1500}, "reduced_motion": "reduce"}  # cards jump


@pytest.fixture
def open_page(lab, browser, tmp_path):
    """open_page(store, responses, **browser options): the widget on a page of its own."""
    contexts = []

    def open_page(
        store: FeedbackStore | None = None,
        responses: int = 4,
        opening: dict | None = None,
        **options,
    ) -> RankingPage:
        contexts.append(browser.new_context(**USUAL | options))
        page = RankingPage(contexts[-1].new_page(), store or make_store(tmp_path / "ours.sqlite"))
        page.page.set_default_timeout(30_000)
        page.open(lab, responses, **(opening or {}))
        return page

    yield open_page
    for context in contexts:
        context.close()


def middle(box: dict, down: float = 0.5) -> tuple[float, float]:
    """A point of a box: in the middle, `down` of the way from top to bottom."""
    return box["x"] + box["width"] / 2, box["y"] + box["height"] * down


def drag(page: RankingPage, kind: str, target, down: float = 0.5, let_go: bool = True) -> None:
    """Take a card by its handle with the mouse to a point of the target."""
    mouse = page.page.mouse
    mouse.move(*middle(page.card(kind).locator(".handle").bounding_box()))
    mouse.down()
    mouse.move(*middle(target.bounding_box(), down), steps=8)
    if let_go:
        mouse.up()


def test_by_mouse(open_page):
    page = open_page()
    page.keep_picture("start")
    zones = page.widget.locator(".zone")
    free = page.widget.locator(".free[data-kind=next]")
    drag(page, "curt", free)
    drag(page, "best", page.card("curt"), down=0.05)  # above it
    drag(page, "wrong", free)
    drag(page, "fair", page.card("curt"), let_go=False)  # on it: a tie
    page.keep_picture("drag")
    page.page.mouse.up()
    drag(page, "wrong", zones.last)
    page.keep_picture("tie")
    page.button("Submit").click()
    page.wait_for_count(1)
    (entry,) = page.store.entries("ann")
    assert ranks_of(entry) == {"best": 1, "fair": 2, "curt": 2, "wrong": None}
    assert entry.seconds > 0


def test_by_keyboard_alone(open_page):
    page = open_page()
    cells = page.cells
    page.tab_to("wrong")
    page.key("4")
    page.tab_to("best")
    page.key("2")
    page.tab_to("fair")
    page.key("1", "ArrowDown")  # below best
    page.tab_to("curt")
    page.key("ArrowUp", " ", "ArrowUp", "ArrowUp", "ArrowUp")
    page.keep_picture("keyboard")
    page.key("Escape")  # back to where it was picked up: last
    page.tab_to("wrong")
    page.key("0", "ArrowUp", "=", "=")  # unranked, ranked last, tied, no longer tied
    for key in ("x", "a", "b", "d", "d", "y", "z", "c", "v", "Shift+Enter"):
        page.key(key)  # what JupyterLab would take for its shortcuts
        if key == "Shift+Enter":
            page.wait_for_count(1)
    (entry,) = page.store.entries("ann")
    assert ranks_of(entry) == {"best": 1, "fair": 2, "curt": 3, "wrong": 4}
    assert page.cells == cells


def test_keyboard_goes_on_with_the_next_prompt(open_page):
    page = open_page()
    page.tab_to("best")
    page.key("1", "Enter")
    page.wait_for_count(1)
    assert page.page.evaluate("() => document.activeElement.className") == "card"
    page.tab_to("fair")
    page.key(" ", "ArrowUp", " ", "Enter")
    page.wait_for_count(2)
    first, second = page.store.entries("ann")
    assert ranks_of(first) == {"best": 1, "fair": None, "curt": None, "wrong": None}
    assert ranks_of(second) == {"best": None, "fair": 1, "curt": None, "wrong": None}


def test_by_touch_on_a_phone(open_page):
    page = open_page(viewport={"width": 430, "height": 1600}, has_touch=True)
    advice = page.widget.locator(".narrow")
    advice.wait_for()  # beside the side bars there is no room
    assert "side bars" in advice.inner_text()
    page.keep_picture("narrow")
    page.hide_sidebars()
    advice.wait_for(state="hidden")
    finger = page.page.context.new_cdp_session(page.page)

    def swipe(start, end) -> None:
        def touch(kind, *points):
            points = [{"x": x, "y": y} for x, y in points]
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        touch("touchStart", start)
        for step in range(1, 9):
            so_far = (a + (b - a) * step / 8 for a, b in zip(start, end, strict=True))
            touch("touchMove", tuple(so_far))
        touch("touchEnd")

    for kind in ("fair", "best"):
        handle = page.card(kind).locator(".handle").bounding_box()
        first = page.widget.locator("ol.zone > li").first.bounding_box()
        swipe(middle(handle), middle(first, 0.1))
    text = page.card("wrong").locator(".text").bounding_box()
    swipe(middle(text), middle(first))  # a finger on the text scrolls, it does not drag
    page.card("curt").get_by_role("button", name="Rank 3").tap()
    page.keep_picture("phone")
    page.button("Submit").tap()
    page.wait_for_count(1)
    (entry,) = page.store.entries("ann")
    assert ranks_of(entry) == {"best": 1, "fair": 2, "curt": 3, "wrong": None}


def test_by_buttons_with_skip_flag_and_undo(open_page):
    page = open_page()
    skipped = page.prompt
    page.button("Skip").click()
    page.wait_for_count(1)
    page.button("Flag").click()
    page.keep_picture("flag")
    page.button("Unsafe").click()
    page.wait_for_count(2)
    page.rank("best", "wrong", "fair")
    page.card("wrong").get_by_role("button", name="Move down").click()
    page.card("wrong").get_by_role("button", name="Tie").click()
    page.card("best").get_by_role("button", name="Leave unranked").click()
    page.button("Submit").click()
    page.wait_for_count(3)
    skip, flag, ranking = page.store.entries("ann")
    assert (skip.kind, skip.prompt.text) == ("skip", skipped)
    assert (flag.kind, flag.flag) == ("flag", "unsafe")
    assert ranks_of(ranking) == {"best": None, "fair": 1, "curt": None, "wrong": 1}

    page.button("Undo").click()
    page.wait_for_count(2)
    assert page.prompt == ranking.prompt.text
    page.keep_picture("undo")
    assert page.store.entries("ann") == [skip, flag]
    page.rank("best")  # the order that was given is there again, so this is third
    page.button("Submit").click()
    page.wait_for_count(3)
    again = page.store.entries("ann")[-1]
    assert ranks_of(again) == {"best": 3, "fair": 1, "curt": None, "wrong": 1}
    assert again.shown == ranking.shown
    history = [entry.kind for entry in page.store.entries("ann", undone=True)]
    assert history == ["skip", "flag", "ranking", "undo", "ranking"]


def test_pause_then_a_new_kernel_goes_on_where_it_stopped(open_page):
    page = open_page()
    page.rank("best")
    page.button("Submit").click()
    page.wait_for_count(1)
    interrupted = page.prompt
    page.button("Pause").click()
    page.button("Resume").wait_for()
    page.keep_picture("paused")
    page.key("s", "u", "Enter")  # skip and undo are asleep; Enter presses Resume
    page.button("Pause").wait_for()
    page.restart()
    page.rank("best")
    page.button("Submit").click()  # in the widget that the old kernel made
    page.widget.get_by_text("not saved yet").wait_for()
    page.keep_picture("no_kernel")
    assert len(page.store.entries("ann")) == 1
    page.clear()
    page.run()
    page.wait_for_count(1)
    assert page.prompt == interrupted
    for done in range(2, 7):
        page.rank("best")
        page.button("Submit").click()
        page.wait_for_count(done)
    page.widget.get_by_text("All done").wait_for()
    page.keep_picture("finished")
    entries = page.store.entries("ann", undone=True)
    assert len({entry.prompt.text for entry in entries}) == len(entries) == 6
    assert {ranks_of(entry)["best"] for entry in entries} == {1}
    assert entries[1].prompt.text == interrupted


def test_a_page_that_is_loaded_again_goes_on(open_page):
    page = open_page()
    page.rank("best")
    page.button("Submit").click()
    page.wait_for_count(1)
    page.reload()
    page.wait_for_count(1)
    page.rank("fair")
    page.button("Submit").click()
    page.wait_for_count(2)
    assert [ranks_of(entry)["fair"] for entry in page.store.entries("ann")] == [None, 1]


def test_who_gives_no_name_is_asked_for_one(open_page):
    page = open_page(opening={"who": None})
    field = page.widget.get_by_role("textbox", name="Your name")
    field.click()
    page.keep_picture("name")
    page.key("s", "u", "p")  # letters, and no commands
    assert field.input_value() == "sup" and page.store.labellers() == []
    page.key("Enter")
    page.wait_for_count(0)
    assert page.store.labellers() == ["sup"]
    page.rank("best")
    page.button("Submit").click()
    page.wait_for_count(1)
    assert [entry.labeller for entry in page.store.entries()] == ["sup"]


def test_letters_go_to_a_response_f_to_the_reasons_and_facts_are_a_click_away(open_page):
    page = open_page()
    facts = page.widget.get_by_text("hold the button for ten seconds", exact=True)
    assert not facts.is_visible()
    page.widget.get_by_text("What is known about this prompt").click()
    assert facts.is_visible()
    page.keep_picture("facts")
    page.tab_to("best")
    for letter in "CABD":
        page.key(letter)
        focused = page.page.evaluate("() => document.activeElement.getAttribute('aria-label')")
        assert focused.startswith(f"Response {letter},")
    page.key("1", "f")
    page.page.wait_for_function("() => document.activeElement.innerText.startsWith('Unsafe')")
    page.key("Enter")
    page.wait_for_count(1)
    (entry,) = page.store.entries("ann")
    assert (entry.kind, entry.flag) == ("flag", "unsafe")


def test_while_a_cell_runs_an_answer_waits_is_said_to_and_is_saved_in_the_end(open_page):
    page = open_page(opening={"then": "import time; time.sleep(12)"})
    page.rank("best")
    page.button("Submit").click()
    said = page.widget.get_by_text("is busy with another cell")
    said.or_(page.widget.get_by_text("1 of 6", exact=True)).wait_for()
    page.keep_picture("busy")
    page.wait_for_count(1)
    assert not said.is_visible() and len(page.store.entries("ann")) == 1
    assert not page.widget.locator(".problem").is_visible()


HOSTILE = (
    "<script>window.hacked = 1</script><b>bold</b><style>* { display: none }</style>",
    "<img src=x onerror='window.hacked = 1'><iframe srcdoc='<b onload=hacked=1>'></iframe>",
    "\x1b[31mred \x1b]0;title\x07 \u202egnp.exe\u202c \u2066a\u2069 \u200f"
    "<a href=javascript:1>x</a>",
    "first " + "word " * 3_998 + "last",
)


def test_hostile_responses_are_text(open_page, tmp_path):
    store = FeedbackStore(tmp_path / "hostile.sqlite")
    store.add(Prompt("1", "<h1>Prompt</h1>" + HOSTILE[0]), [Sample(text) for text in HOSTILE])
    page = open_page(store)
    texts = page.widget.locator(".text")
    assert texts.locator("css=:not(.code)").count() == 0  # nothing in them became an element
    assert page.page.evaluate("() => window.hacked") is None
    long = page.widget.locator(".card").filter(has_text="first word")
    assert long.locator(".text").bounding_box()["height"] < 250
    page.keep_picture("hostile")
    long.get_by_role("button", name="Show all").click()
    assert long.locator(".text").bounding_box()["height"] > 1_000
    red = page.widget.locator(".card").filter(has_text="U+001B").locator(".text")
    assert red.inner_text().startswith("U+001B[31mred U+001B]0;titleU+0007 U+202Egnp.exe")
    for part in ("</style>", "</iframe>", "gnp.exe", "last"):
        card = page.widget.locator(".card").filter(has_text=part)
        card.get_by_role("button", name="Rank").click()
    page.button("Submit").click()
    page.widget.get_by_text("All done").wait_for()
    (entry,) = store.entries("ann")
    assert dict(zip(entry.responses, entry.ranks, strict=True)) == dict(zip(HOSTILE, (1, 2, 3, 4)))


def test_guidelines_and_colours_follow_the_page(open_page):
    page = open_page()
    page.button("Guidelines").click()
    page.keep_picture("guidelines")
    assert page.widget.get_by_text("Help comes first").is_visible()
    page.key("Escape")
    assert not page.widget.get_by_text("Help comes first").is_visible()
    background = "el => getComputedStyle(el).backgroundColor"
    assert page.widget.evaluate(background) == "rgb(255, 255, 255)"
    theme = "name => jupyterapp.commands.execute('apputils:change-theme', {theme: name})"
    page.page.evaluate(theme, "JupyterLab Dark")
    try:
        page.page.locator("body[data-jp-theme-light=false]").wait_for(state="attached")
        page.rank("fair", "best")
        page.keep_picture("dark")
        assert page.widget.evaluate(background) == "rgb(20, 23, 26)"
    finally:
        page.page.evaluate(theme, "JupyterLab Light")
