"""The drawn diagrams: files up to date, readable by a screen reader, texts that do not collide, and
numbers that are those of the formulas."""

import itertools
import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import nbformat
import pytest
import torch
from draw_diagrams import DIAGRAMS, DOCS
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from rlhf_lab.course.editions import write_edition
from rlhf_lab.show.diagrams import rollout_tensors, three_stages

SVG = "{http://www.w3.org/2000/svg}"
WORDS = {"three-stages.svg": three_stages.WORDS, "rollout.svg": rollout_tensors.WORDS}
SYMBOLS = {
    "three-stages.svg": "policy reference responses rankings score beta KL demonstrations judge",
    "rollout.svg": "tokens (B,T) mask logprobs ref_logprobs values rewards advantages returns "
    "(B,N) scores (B,) P N T beta",
}
Box = tuple[float, float, float, float]  # left, top, right, bottom
each = pytest.mark.parametrize("name", DIAGRAMS)


def root(name: str) -> ET.Element:
    return ET.fromstring(DIAGRAMS[name]())


def texts(name: str) -> list[tuple[str, Box]]:
    """Every text with its box, in the widest of the fonts that a page may use."""
    found = []
    for text in root(name).iter(f"{SVG}text"):
        size, x, y = (float(text.get(key)) for key in ("font-size", "x", "y"))
        font = FontProperties(family="DejaVu Sans", weight=text.get("font-weight") or "normal")
        width = TextPath((0, 0), text.text, size=size, prop=font, usetex=False).get_extents().x1
        left = x - width * {"start": 0, "middle": 0.5, "end": 1}[text.get("text-anchor")]
        found.append((text.text, (left, y - 0.76 * size, left + width, y + 0.24 * size)))
    return found


def rects(name: str) -> list[Box]:
    sides = ("x", "y", "width", "height")
    found = [[float(rect.get(side)) for side in sides] for rect in root(name).iter(f"{SVG}rect")]
    return [(x, y, x + width, y + height) for x, y, width, height in found]


def overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def inside(a: Box, b: Box) -> bool:
    return b[0] <= a[0] and b[1] <= a[1] and a[2] <= b[2] and a[3] <= b[3]


@each
def test_the_file_is_what_the_code_draws(name):
    assert (DOCS / name).read_text("utf-8") == DIAGRAMS[name]() + "\n"


@each
def test_it_has_a_title_and_says_in_words_what_it_shows(name):
    top = root(name)
    title, words = top.find(f"{SVG}title"), top.find(f"{SVG}desc")
    assert top.get("role") == "img"
    assert top.get("aria-labelledby").split() == [title.get("id"), words.get("id")]
    assert title.text and words.text == WORDS[name]


@each
def test_it_shows_every_symbol_that_its_words_name(name):
    shown = "".join(text.replace(" ", "") for text, _ in texts(name))
    for symbol in SYMBOLS[name].split():
        assert symbol in shown, symbol
        assert symbol in WORDS[name].replace(" ", ""), symbol


@each
def test_no_text_runs_into_another_or_over_the_edge(name):
    placed = texts(name)
    clashes = [(s, t) for (s, a), (t, b) in itertools.combinations(placed, 2) if overlap(a, b)]
    assert clashes == []
    card = rects(name)[0]
    assert [text for text, box in placed if not inside(box, card)] == []


@each
def test_no_text_crosses_the_frame_of_a_box(name):
    across = [
        text
        for text, box in texts(name)
        for frame in rects(name)
        if overlap(box, frame) and not inside(box, frame)
    ]
    assert across == []


def test_a_text_that_is_too_long_is_found(monkeypatch):
    """The checks above can fail."""
    long = three_stages.three_stages().replace("gives such answers", "gives such answers " * 3)
    monkeypatch.setitem(DIAGRAMS, "three-stages.svg", lambda: long)
    with pytest.raises(AssertionError):
        test_no_text_crosses_the_frame_of_a_box("three-stages.svg")


def test_the_numbers_of_the_rollout_obey_the_formulas():
    made = rollout_tensors.example()
    mask = made["mask"].bool()
    kl = ((made["logprobs"] - made["ref_logprobs"]) * mask).sum(1)
    torch.testing.assert_close(made["rewards"].sum(1), made["scores"] - rollout_tensors.BETA * kl)
    # by hand: the last token of the first row earns 1.5 and pays 0.1 (-0.2 + 0.4) = 0.02
    assert made["rewards"][0, 4].item() == pytest.approx(1.48)
    assert made["advantages"][0, 4].item() == pytest.approx(1.48 - 1.2)
    shown = Counter(text.replace("−", "-") for text, _ in texts("rollout.svg"))
    numbers = [n for name in made if name != "mask" for n in made[name].flatten().tolist()]
    drawn = Counter(f"{n:.2f}" if n else "0" for n in numbers)
    assert drawn - shown == Counter()


@pytest.mark.parametrize(
    ("notebook", "name"), [("00_tour", "three-stages.svg"), ("04_policy", "rollout.svg")]
)
def test_the_notebook_shows_it_and_says_the_same_in_words(notebook, name):
    [path] = Path(DOCS.parent, "notebooks").glob(f"{notebook}*.ipynb")
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells]
    [cell] = [source for source in cells if f"](../docs/{name})" in source]
    assert WORDS[name] in cell


def test_a_copied_course_has_the_pictures(tmp_path):
    notebooks = sorted(Path(DOCS.parent, "notebooks").glob("0[04]_*.ipynb"))
    for path in write_edition("student", notebooks, tmp_path):
        [link] = re.findall(r"\]\((\S+\.svg)\)", path.read_text("utf-8"))
        assert (tmp_path / link).read_text("utf-8").startswith("<svg ")
