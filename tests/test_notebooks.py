"""What must hold for every notebook of the course, without running it."""

import ast
import importlib
import json
import re
import textwrap
from pathlib import Path

import nbformat
import pytest

from rlhf_lab.course.editions import exercises, tags

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = [
    *NOTEBOOKS,
    *sorted((ROOT / "docs").glob("**/*.md")),
    ROOT / "README.md",
    *sorted(ROOT.glob("*/README.md")),
    *(ROOT / f"{name}.md" for name in ("CONTRIBUTING", "CHANGELOG", "SECURITY")),
]
LINK = re.compile(r"(?:\]\(|(?:href|src)=\")([^)\"\s]+)")
ELSEWHERE = ("http://", "https://", "data:", "mailto:")
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def text_of(path: Path) -> str:
    """What a page says: of a notebook its markdown."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    return "\n\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")


@each
def test_it_was_executed_from_top_to_bottom_without_an_error(path):
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(
        o.get("execution_count", cell.execution_count) == cell.execution_count
        for cell in cells
        for o in cell.outputs
    )
    assert [o.ename for cell in cells for o in cell.outputs if o.output_type == "error"] == []


@each
def test_it_is_clean(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3" and "widgets" not in notebook.metadata
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert not str(output.get("name", "")).startswith("stderr"), output.text[:200]
            views = [kind for kind in output.get("data", {}) if "widget-view" in kind]
            assert views == []


@each
def test_it_has_the_parts_of_a_lesson(path):
    text = text_of(path)
    for part in (
        "**What you will see.**",
        "**How long.**",
        "**Predict",
        "\n## What to remember\n",
        "\n## To read more\n",
    ):
        assert part in text, part
    assert text.index("## To read more") > text.index("## What to remember")
    assert "### Exercise" not in text[text.index("## What to remember") :]


@each
def test_it_opens_with_three_to_five_objectives(path):
    _, found, objectives = read(path).cells[0].source.partition("\n\n**After it you can**\n")
    lines = objectives.strip().split("\n")
    assert found and 3 <= len(lines) <= 5 and all(line.startswith("- ") for line in lines)


FOLDED = re.compile(r"<details><summary>(.+?)</summary>\n\n(.+?)\n\n</details>", re.DOTALL)


@each
def test_it_asks_about_earlier_notebooks(path):
    """Three to five questions, each naming its notebook, and not all the one before; none in the
    first notebook."""
    cells = [c for c in read(path).cells if not {"badges", "setup"} & set(tags(c))]
    recall = [cell.source for cell in cells if "recall" in tags(cell)]
    if path.stem.startswith("00"):
        assert recall == []
        return
    assert len(recall) == 1 and recall[0] == cells[1].source
    assert recall[0].startswith("**From earlier notebooks.** Say the answer before you open it.")
    asked = [re.findall(r"\((\d\d\w?)\)", question) for question, _ in FOLDED.findall(recall[0])]
    assert 3 <= len(asked) <= 5 and all(asked)
    own, earlier = path.stem.partition("_")[0], {number for each in asked for number in each}
    assert all(number < own for number in earlier) and (own == "01" or len(earlier) > 1)


@each
def test_its_exercises_have_levels(path):
    headings = re.findall(r"^### Exercise.*$", text_of(path), re.MULTILINE)
    levels = [re.match(r"### Exercise \((core|stretch|research)\): \S", h) for h in headings]
    assert all(levels), headings
    assert len(headings) == len(exercises(read(path), path.name))


PREDICT = re.compile(r'predict\(\s*"([^"]+)",|your_prediction\("([^"]+)"\)')


@each
def test_each_prediction_has_a_place_to_write_and_comes_back(path):
    """The box is the cell after the question; what was written is shown after a cell with code,
    before the words that explain the result."""
    cells, boxes, back = read(path).cells, {}, {}
    for number, cell in enumerate(cells):
        if cell.cell_type == "markdown" and "**Predict" in cell.source:
            assert PREDICT.match(cells[number + 1].source), cell.source[-200:]
        if cell.cell_type == "code" and (found := PREDICT.match(cell.source)):
            (boxes if found[1] else back)[found[1] or found[2]] = number
            assert "nbval-ignore-output" in tags(cell)
    assert boxes.keys() == back.keys()
    assert len(boxes) == len([c for c in cells if "**Predict" in c.source])
    for name, number in boxes.items():
        assert name.startswith(path.stem.partition("_")[0] + " "), name
        last = cells[back[name] - 1]
        assert back[name] > number + 1 and (last.cell_type == "code" or "solution" in tags(last))


def test_no_two_predictions_have_one_name():
    sources = [cell.source for path in NOTEBOOKS for cell in read(path).cells]
    names = [found[1] for source in sources if (found := PREDICT.match(source)) and found[1]]
    assert len(names) == len(set(names)) > 20


@each
def test_it_has_two_exercises(path):
    assert len(exercises(read(path), path.name)) >= 2


@each
def test_no_cell_is_a_wall_of_text(path):
    for cell in read(path).cells:
        if cell.cell_type == "markdown" and not {"hint", "solution"} & set(tags(cell)):
            assert max(map(len, cell.source.split("\n\n"))) < 1000, cell.source[:80]


NUMBER = re.compile(r"(?<![\w.,/#-])(\d*\.\d+|\d+(?=\s?%))(?!\w|\.\d)")
UNREAD = re.compile(  # code, formulas, where links lead, years and the list of papers
    r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)|\b(19|20)\d\d\b|## To read more.*",
    re.DOTALL,
)
# What the words say and no cell computes: settings and round numbers, questions, what is read off a
# picture, and figures of pages that have tests of their own.
QUOTED = {
    "00_tour": "2.3 .95 95 .4 .5",
    "01_supervised_fine_tuning": ".43 .2 .4 95",
    "02_collecting_rankings": "95 .69",
    "03_the_reward_model": "99 85 88 72 80 76 2.1 1.2",
    "04_policy_gradients_and_ppo": ".7 .4",
    "05_under_the_microscope": "1.30 .05",
    "06_reward_hacking": "9.95 3.2 95",
    "06b_fits_ensembles_and_noise": ".48 .45 .1 1.6 3.3",
    "07_round_two": ".05 1.96 1.97 2.26",
    "08_other_roads": ".50 .51 .69 3.2 .41 .36 .33 .39",
    "09_a_constitution": ".3 .6 .9",
    "10_scaling_up": "79 55 6.4 33 .90 1.19 .15 .05 .02 .69 .92 .835 .832 3.1 .71 .249 .01 .03 .04 "
    "70",
}


def shown_by(cell) -> str:
    """A code cell with all the text that it shows."""
    shown = [o.get("text", "") for o in cell.outputs]
    shown += [
        re.sub(r"<[^>]+>", " ", o.get("data", {}).get(kind, ""))
        for o in cell.outputs
        for kind in ("text/plain", "text/html")
    ]
    return "\n".join([cell.source, *shown])


def said(path: Path) -> str:
    """All that a notebook says: its words, without its own questions on others, and its cells."""
    cells = [cell for cell in read(path).cells if "recall" not in tags(cell)]
    return "\n".join(shown_by(c) if c.cell_type == "code" else c.source for c in cells)


@each
def test_numbers_in_its_words_are_those_of_the_cells_beside_them(path):
    """Every number with a point or a percent sign stands, rounded, in what the four code cells
    before it say or show; in the summary at the end, in what any cell does. The questions on
    earlier notebooks have theirs from those."""
    quoted = {float(number) for number in QUOTED.get(path.stem, "").split()}
    before, wrong = [], []
    for cell in read(path).cells:
        if cell.cell_type == "code":
            before += [] if PREDICT.match(cell.source) else [shown_by(cell)]
            continue
        near = before if "## What to remember" in cell.source else before[-4:]
        if "recall" in tags(cell):
            named = set(re.findall(r"\((\d\d\w?)\)", cell.source))
            near = [said(other) for other in NOTEBOOKS if other.stem.partition("_")[0] in named]
        found = [float(x.replace(",", "")) for x in re.findall(r"[\d,]*\.?\d+", "\n".join(near))]
        found += [100 * x for x in found if x <= 1]
        for match in NUMBER.finditer(UNREAD.sub(" ", cell.source)):
            number, digits = float(match[1]), len(match[1].partition(".")[2])
            close = any(abs(x - number) <= 0.5 * 10**-digits + 1e-9 for x in found)
            wrong += [] if close or number in quoted else [f"{cell.id}: {match[1]}"]
    assert wrong == []


@each
def test_it_makes_the_folder_of_what_it_keeps(path):
    for cell in read(path).cells:
        if cell.cell_type == "code" and re.search(r'(FeedbackStore\(|store=)"runs/', cell.source):
            assert 'Path("runs").mkdir(exist_ok=True)' in cell.source, cell.source


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for link in LINK.findall(text_of(page)):
        if link.startswith(ELSEWHERE):
            continue
        target, _, anchor = link.partition("#")
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), f"{page.name}: {link}"
        assert there.is_relative_to(ROOT), f"{page.name}: {link} leads out of the project"
        if anchor and there.suffix in (".md", ".ipynb"):
            assert anchor in anchors(there), f"{page.name}: {link}"


def anchors(page: Path) -> set[str]:
    """The ids of a page: its headings as GitHub writes them, and those set by hand."""
    text = text_of(page)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'id="([^"]+)"', text)) | {h.replace(" ", "-") for h in headings}


# ---- the form of a code cell ---------------------------------------------------------------------

WIDEST = 100  # characters of a line
MOST_DRAWING = 12  # lines of a cell that draw; more of them belong in the package
DRAWN_ON = {"axes", "ax", "fig", "figure", "plt", "tag", "Picture"}  # what drawing statements name


def drawing_lines(source: str) -> int:
    """How many lines draw or build a page: those of simple statements that name a pair of axes, a
    figure or an element of a page."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(re.sub(r"\bawait ", "", source))):
        simple = isinstance(node, ast.stmt) and not hasattr(node, "body")
        if simple and not isinstance(node, ast.Import | ast.ImportFrom):
            names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            names |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
            if names & DRAWN_ON:
                lines.update(range(node.lineno, node.end_lineno + 1))
    return len(lines)


def test_lines_that_draw_are_counted():
    source = """
    from rlhf_lab.show.plots import Picture
    axes = Picture(figsize=(3, 2)).add_subplot()
    for y in values:
        z = y + 1
        axes.plot(
            y, z)
    axes.figure"""
    assert drawing_lines(textwrap.dedent(source)) == 4


@each
def test_code_cells_are_narrow_and_leave_drawing_to_the_package(path):
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    wide = [f"{c.id}: {x}" for c in cells for x in c.source.splitlines() if len(x) > WIDEST]
    assert wide == []
    assert [c.id for c in cells if drawing_lines(c.source) > MOST_DRAWING] == []


@each
def test_its_pictures_have_an_alternative_text(path):
    """An image stands in a page with its text; none is a bare PNG, which JupyterLab shows without
    one."""
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    outputs = [(c.id, o.get("data", {})) for c in cells for o in c.outputs]
    bare = [name for name, data in outputs if {"image/png", "image/jpeg"} & set(data)]
    assert bare == []
    for name, data in outputs:
        for image in re.findall(r"<img [^>]*>", data.get("text/html", "")):
            alt = re.search(r'alt="([^"]*)"', image)
            assert alt and len(alt[1]) > 40, f"{name}: {image[-200:]}"


# ---- what a person does --------------------------------------------------------------------------

PERSON = {"FeedbackStore", "RankingWidget"}  # what comes of these depends on who ranks, and how
STOP = {"Dashboard"}  # what comes of this depends on when somebody presses Stop


def assertions_on(cells: list[str], sources: set[str]) -> list[str]:
    """The assertions that read what was made from these names, in this or an earlier cell, and are
    not below an `if` that reads it too."""
    made, found = set(sources), []

    def reads(node: ast.AST) -> bool:
        return any(isinstance(n, ast.Name) and n.id in made for n in ast.walk(node))

    def look(statements: list[ast.stmt], guarded: bool) -> None:
        for each in statements:
            if isinstance(each, ast.Assert) and reads(each) and not guarded:
                found.append(ast.unparse(each))
            if isinstance(each, ast.Assign):
                names = {n.id for t in each.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
                made.difference_update(names - sources)
                made.update(names if reads(each.value) else ())
            if isinstance(each, ast.For) and reads(each.iter):
                made.update(n.id for n in ast.walk(each.target) if isinstance(n, ast.Name))
            inside = guarded or (isinstance(each, ast.If) and reads(each.test))
            look(getattr(each, "body", []) + getattr(each, "orelse", []), inside)

    for source in cells:
        look(ast.parse(source).body, guarded=False)
    return found


def test_assertions_on_what_a_person_did_are_found():
    ranked = "store = FeedbackStore('a')\nshares = agreement(store.entries())"
    assert assertions_on([ranked, "assert shares > 0.5"], PERSON) == ["assert shares > 0.5"]
    assert assertions_on([ranked, "shares = 1\nassert shares > 0.5"], PERSON) == []
    run = "board = Dashboard()\nrows = await_(board.run(train()))"
    assert assertions_on([run, "for row in rows:\n    assert row"], STOP) == ["assert row"]
    assert assertions_on([run, "if not board.stopped:\n    assert rows[-1] > 1"], STOP) == []


@each
def test_no_assertion_depends_on_how_a_person_ranks_or_when_they_stop_a_run(path):
    cells = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
    plain = [re.sub(r"\bawait ", "", source) for source in cells]
    assert assertions_on(plain, PERSON) == assertions_on(plain, STOP) == []


# ---- the glossary --------------------------------------------------------------------------------

GLOSSARY = (ROOT / "docs" / "glossary.md").read_text("utf-8")
CODED = sorted(set(re.findall(r"`([a-z_]+(?:\.[A-Za-z_0-9]+)+)`", GLOSSARY)))
METRICS = sorted(set(re.findall(r"`([a-z]+/\w+)`", GLOSSARY)))


@pytest.mark.parametrize("name", CODED)
def test_the_glossary_names_what_is_in_the_code(name):
    parts = name.split(".")
    for split in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(["rlhf_lab", *parts[:split]]))
        except ModuleNotFoundError:
            continue
        for part in parts[split:]:
            found = getattr(found, part)
        return
    raise AssertionError(f"nothing is called {name}")


@pytest.mark.parametrize("metric", METRICS)
def test_the_glossary_names_metrics_that_stages_log(metric):
    sources = [path.read_text("utf-8") for path in (ROOT / "rlhf_lab").rglob("*.py")]
    assert any(f'"{metric}"' in source for source in sources)


def test_every_metric_that_ppo_logs_is_in_the_glossary():
    run = (ROOT / "data" / "demo" / "metrics.jsonl").read_text("utf-8").splitlines()
    logged = {name for line in run for name in json.loads(line) if "/" in name}
    old = {"val/ratio_first"}  # logged by the version that made the shipped run
    assert logged - old <= {*METRICS}
