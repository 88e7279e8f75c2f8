"""Pages that hold what models and people wrote, opened in a browser: nothing that stands in a text
runs, loads or changes the page."""

import pytest

from rlhf_lab.disk.run_folder import RunFolder
from rlhf_lab.feedback.store import Entry, FeedbackStore, Sample
from rlhf_lab.records import Prompt
from rlhf_lab.runs.report import write_report
from rlhf_lab.show.cards import Card, Cards
from rlhf_lab.show.feedback_browser import browse_disagreements
from rlhf_lab.show.widgets.dashboard import Dashboard

pytestmark = pytest.mark.browser

HACK = "window.hacked=1"
TEXTS = (
    f"<script>{HACK}</script>",
    f"<ScRiPt>{HACK}</sCrIpT>",
    f"<img src=x onerror='{HACK}'>",
    f"<svg onload='{HACK}'></svg>",
    f"<svg><script>{HACK}</script></svg>",
    f"<iframe srcdoc='<script>parent.{HACK.removeprefix('window.')}</script>'></iframe>",
    f"<iframe src='javascript:{HACK}'></iframe>",
    f"<body onload='{HACK}'>",
    f"<details open ontoggle='{HACK}'><summary>x</summary></details>",
    f"<input autofocus onfocus='{HACK}'>",
    f"<math><mtext><img src=x onerror='{HACK}'></mtext></math>",
    f"</td></tr></table></details></div><script>{HACK}</script>",
    f"</style><script>{HACK}</script>",
    f"</title></textarea></noscript><script>{HACK}</script>",
    f"--><script>{HACK}</script><!--",
    f"]]><script>{HACK}</script>",
    f"'\"><script>{HACK}</script>",
    f'" onmouseover="{HACK}" style="position:fixed;inset:0" x="',
    f"<a href='javascript:{HACK}'>click</a>",
    f"<meta http-equiv=refresh content='0;url=javascript:{HACK}'>",
    "<link rel=stylesheet href='http://example.invalid/x.css'><base href='http://example.invalid/'>",
    "<style>* { display: none !important }</style>",
    f"\x1b]0;{HACK}\x07 \u202e>tpircs/<1=dekcah.wodniw>tpircs<\u202c &lt;script&gt;{HACK}",
)


def report(text: str, folder) -> str:
    """A run's report with the text as prompt, response and reason."""
    rows = [
        {"id": "main-0", "prompt": text, "model": model, "response": text, "mark": 5.0}
        | {"reasons": [text]}
        for model in ("sft", "policy")
    ]
    with RunFolder.open(folder / "run", {"seed": 0, "task": text}) as run:
        run.write_lines("metrics.jsonl", [])
        run.write_lines("samples.jsonl", rows)
    run = RunFolder.view(folder / "run")
    write_report(run)
    return run.report.read_text(encoding="utf-8")


def disagreements(text: str, folder) -> str:
    """The page of what two people, one of that name, disagree about."""
    store, prompt = FeedbackStore(folder / "a.sqlite"), Prompt("1", text)
    texts = (text, f"{text} too")
    store.add(prompt, [Sample(each) for each in texts])
    for name, ranks in ((text.replace("\n", " ")[:60].strip(), (1, 2)), ("ann", (2, 1))):
        store.add_labeller(name)
        store.write(Entry("", "ranking", name, prompt, texts, ranks, (0, 1)))
    return str(browse_disagreements(store)).replace("<details", "<details open")


def dashboard(text: str, folder) -> str:
    """The page of a stage that answers the text with the text."""
    board = Dashboard()
    board.prompts, board.answers = [Prompt("1", text)], {0: [text], 1: [text]}
    return str(board.html())


def cards(text: str, folder) -> str:
    """The cards of a model of that name, which answers the text with the text."""
    return str(Cards([(text, [Card(text, text, reasons=[text])])])._repr_html_())


@pytest.fixture(scope="module")
def page(browser):
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.mark.parametrize(
    "make", [report, disagreements, dashboard, cards], ids=lambda make: make.__name__
)
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_what_stands_in_a_text_does_nothing(page, tmp_path, make, text):
    html = make(text, tmp_path)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto("about:blank")
    page.set_content(html)
    page.mouse.move(200, 200)
    page.wait_for_timeout(30)
    assert page.evaluate("() => window.hacked") is None
    assert [url for url in asked if not url.startswith(("about:", "data:"))] == []
    foreign = "script, iframe, input, math, base, body[onload], [onerror], [onfocus], [onmouseover]"
    made = page.evaluate(
        "selector => [...document.querySelectorAll(selector)].map(e => e.outerHTML)", foreign
    )
    assert made == []
    shown = page.locator("body").inner_text()  # it is still to be read, as it was written
    assert any(part in shown for part in ("hacked=1", "example.invalid", "display: none"))
