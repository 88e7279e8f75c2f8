"""The lecture: it builds, loads nothing from elsewhere, says every figure in words, and takes its
numbers from the runs."""

import dataclasses
import gzip
import json
import math
import re
import shutil
import statistics
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rlhf_lab.cli import main
from rlhf_lab.course.lecture.facts import facts
from rlhf_lab.course.lecture.slides import Slide, page, slides, write_slides
from rlhf_lab.disk.data import data_folder
from rlhf_lab.errors import UserError

LECTURE = slides()
# Whole numbers that are no result: settings of arms, logarithms, exponentials, places on an axis,
# notebooks, and the one figure of a paper (Ouyang et al. 2022).
TYPED = set("0 1 2 3 4 5 10 100 150 73 2022 60 95 00 02 03 04 05 06 08".split())
ARMS = {"0.02", "0.05", "0.2", "0.5", "0.95"}  # the names of arms and lines in a figure


def texts(slide: Slide) -> list[str]:
    """Everything that a slide says, as typed."""
    examples = [text for example in slide.examples for text in example]
    return [slide.title, slide.notes, slide.formula, slide.alt, *slide.points, *examples]


@pytest.fixture(scope="module")
def values():
    return facts()


@pytest.fixture(scope="module")
def lecture(values):
    return str(page(LECTURE, values))


def test_it_takes_an_hour_with_questions():
    assert 50 <= sum(slide.minutes for slide in LECTURE) <= 57
    assert all(slide.minutes >= 1 and len(slide.notes) > 80 for slide in LECTURE)


def test_slides_hold_few_words():
    for slide in LECTURE:
        shown = re.sub(r"\{[^}]*\}", "", " ".join([slide.title, *slide.points]))
        assert len(shown.split()) <= 42, slide.title
        assert len(slide.points) <= 5


@pytest.mark.parametrize("slide", LECTURE, ids=lambda slide: slide.title)
def test_no_number_of_a_run_is_typed(slide):
    for text in texts(slide):
        plain = re.sub(r"\{[^}]*\}", "", text)
        numbers = re.findall(r"\d+(?:\.\d+)?", plain)
        decimals = {number for number in numbers if "." in number}
        assert set(numbers) - decimals <= TYPED, text
        assert decimals <= ARMS, text
        assert not re.search(r"\d\s?%", plain.replace("95 %", "")), text


def test_every_name_has_a_value(values):
    named = set(re.findall(r"\{(\w+)", " ".join(text for s in LECTURE for text in texts(s))))
    assert named <= set(values)


def test_another_run_gives_other_numbers(tmp_path, monkeypatch):
    """Change the files, and the slides change."""
    data = tmp_path / "data"
    shutil.copytree(data_folder(), data, ignore=shutil.ignore_patterns("*.safetensors"))
    summary = json.loads((data / "demo" / "summary.json").read_text())
    summary["models"]["policy"]["win_rate_against_sft"][0] = 0.4321
    summary["models"]["sft"]["mark"][0] = 1.234
    (data / "demo" / "summary.json").write_text(json.dumps(summary))
    end = data / "hacking" / "beta_0.05" / "0" / "summary.json"
    run = json.loads(end.read_text())
    run["policy"]["mark"][0] = 3.21
    end.write_text(json.dumps(run))
    monkeypatch.setenv("RLHF_LAB_DATA", str(data))
    plain = [dataclasses.replace(slide, figure="") for slide in LECTURE]
    said = str(page(plain, facts()))
    assert "43 %" in said and "SFT 1.2" in said and "3.2 to 9.8" in said


def test_numbers_are_those_of_the_files(values):
    folder = data_folder()
    models = json.loads((folder / "demo" / "summary.json").read_text())["models"]
    assert values["policy_mark"] == models["policy"]["mark"][0]
    assert values["sft_promises"] == 100 * models["sft"]["flaws"]["invented promises"][0]
    ends = [
        json.loads(path.read_text())["policy"]["mark"][0]
        for path in (folder / "hacking" / "beta_0").glob("*/summary.json")
    ]
    assert values["free_mark_low"] == min(ends) and values["free_mark_high"] == max(ends)
    samples = folder / "hacking" / "60_rankings-beta_0" / "0" / "samples.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(samples.read_bytes()).splitlines()]
    last = [row for row in rows if row["update"] == max(r["update"] for r in rows)]
    assert values["clips"] == sum("paper clip" in row["response"] for row in last)
    assert values["clips"] > len(last) / 2, "the slide says that the paper clip is what happened"
    best = [
        row["judge/mark"]
        for path in (folder / "hacking" / "best_of_n").glob("*/summary.json")
        for row in json.loads(path.read_text())["frontier"]["beta 0"]
        if row["n"] == values["n"]
    ]
    assert values["n_mark"] == pytest.approx(statistics.mean(best))
    assert values["lead_2"] == pytest.approx(100 / (1 + math.exp(-2)))
    assert values["comparisons"] == 6  # four responses, by hand


def test_what_the_slides_claim_of_their_numbers_holds(values):
    assert values["sft_promises"] > 1.5 * values["base_promises"], "imitation copies bad habits"
    assert values["policy_promises"] < values["sft_promises"]
    assert values["base_mark"] < values["sft_mark"] < values["policy_mark"]
    assert values["before_mark"] < 3 < values["after_mark"]
    assert values["fair_mark_low"] > max(values["free_mark_high"], values["dear_mark_high"])
    assert values["sixty_mark_low"] < values["sft_before"] / 2
    assert values["policy_apart"] < values["policy_mark"] - 1, "outside its world it is worse"


class Reader(HTMLParser):
    """What a page loads, its pictures, and its sections."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.pictures: list[dict] = []
        self.sections = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        given = dict(attrs)
        self.loads += [given[name] for name in ("src", "href", "srcset", "data") if name in given]
        self.pictures += [given] if tag == "img" else []
        self.sections += tag == "section"


def test_it_loads_nothing_from_elsewhere(lecture):
    read = Reader(lecture)
    assert read.sections == len(LECTURE)
    assert all(address.startswith("data:image/svg+xml;base64,") for address in read.loads)
    assert "default-src &#x27;none&#x27;" in lecture
    styles = "".join(re.findall(r"<style>.*?</style>", lecture, re.DOTALL))
    assert "@import" not in styles and "url(" not in styles


def test_every_figure_is_told_in_words(lecture):
    pictures = Reader(lecture).pictures
    assert len(pictures) == sum(bool(slide.figure) for slide in LECTURE) >= 6
    for picture in pictures:
        assert len(picture["alt"]) > 60 and "{" not in picture["alt"]


def test_text_of_a_run_is_escaped(values):
    hostile = values | {"before": "<img src=x onerror=alert(1)> {lam} *a*"}
    plain = [dataclasses.replace(slide, figure="") for slide in LECTURE]
    said = str(page(plain, hostile))
    assert "<img" not in said and "&lt;img src=x onerror=alert(1)&gt; {lam} *a*" in said


def test_the_command_writes_it_and_writes_it_again(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("rlhf_lab.course.lecture.slides.figure", lambda name: b"<svg/>")
    place = tmp_path / "lecture.html"
    assert main(["course", "slides", str(place)]) == 0
    assert str(place) in capsys.readouterr().out
    assert main(["course", "slides", str(place)]) == 0
    place.write_text("<title>mine</title>")
    with pytest.raises(UserError, match="not a page titled 'RLHF lecture'"):
        write_slides(Path(place))
    assert place.read_text() == "<title>mine</title>"
