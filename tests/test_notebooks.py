"""What must hold for every notebook of the course, without running it."""

import re
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
        "Predict before you",
        "What you ",
        "o read more",
    ):
        assert part in text, part


@each
def test_it_has_two_exercises(path):
    assert len(exercises(read(path), path.name)) >= 2


@each
def test_no_cell_is_a_wall_of_text(path):
    for cell in read(path).cells:
        if cell.cell_type == "markdown" and not {"hint", "solution"} & set(tags(cell)):
            assert max(map(len, cell.source.split("\n\n"))) < 1000, cell.source[:80]


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
