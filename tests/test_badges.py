"""Badges and the set-up cell: where they point, that they change nothing else, and what runs."""

import copy
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import badges
import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture
def notebook():
    """A notebook of the course as it was before it got either cell."""
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    notebook.cells = [c for c in notebook.cells if "setup" not in c.metadata.get("tags", [])]
    code = [c for c in notebook.cells if c.cell_type == "code"]
    for count, cell in enumerate(code, 1):
        cell.execution_count = count
    return notebook


def test_both_cells_stand_below_the_title_and_nothing_else_changes(notebook):
    before = copy.deepcopy(notebook)
    badges.add_badges(notebook, "ann/lab", "00_tour.ipynb")
    title, links, setup, *rest = notebook.cells
    assert title == before.cells[0] and [c.source for c in rest] == [
        c.source for c in before.cells[1:]
    ]
    assert (
        "colab.research.google.com/github/ann/lab/blob/main/notebooks/00_tour.ipynb)"
        in links.source
    )
    assert "mybinder.org/v2/gh/ann/lab/main?labpath=notebooks/00_tour.ipynb)" in links.source
    assert 'REPOSITORY = "https://github.com/ann/lab"' in setup.source
    counts = [c.execution_count for c in notebook.cells if c.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    nbformat.validate(notebook)


def test_a_second_time_replaces_the_first(notebook):
    badges.add_badges(notebook, "ann/lab", "00_tour.ipynb")
    once = copy.deepcopy(notebook)
    badges.add_badges(notebook, "ben/fork", "00_tour.ipynb")
    assert len(notebook.cells) == len(once.cells) and "ann/lab" not in nbformat.writes(notebook)
    badges.add_badges(notebook, "", "00_tour.ipynb")
    assert len(notebook.cells) == len(once.cells) - 1  # no address, no badges
    badges.add_badges(notebook, "ann/lab", "00_tour.ipynb")
    assert notebook == once


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_of_the_course_sets_itself_up(path):
    setup = next(c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")
    address = re.search('REPOSITORY = "(.*)"', setup.source)[1]
    assert setup.source == badges.SETUP.format(address=address)


def test_in_a_clone_the_set_up_does_nothing(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it ran something"))
    exec(badges.SETUP.format(address=""), {})
    assert os.getcwd() == str(tmp_path) and os.listdir(tmp_path) == []


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """A place where the lab is not installed; what is run there."""
    ran = []

    def run(command, check):
        ran.append(command)
        Path("lab/notebooks").mkdir(parents=True, exist_ok=True)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    return ran


def test_elsewhere_it_fetches_installs_and_moves_there(elsewhere, tmp_path):
    exec(badges.SETUP.format(address="https://github.com/ann/lab"), {})
    assert elsewhere[0] == ["git", "clone", "--depth", "1", "https://github.com/ann/lab", "lab"]
    assert elsewhere[1][1:] == ["-m", "pip", "install", "-q", "-e", "./lab[hub]"]
    assert sys.path[0] == str(tmp_path / "lab") and os.getcwd() == str(tmp_path / "lab/notebooks")


def test_elsewhere_without_an_address_it_says_what_to_do(elsewhere):
    with pytest.raises(SystemExit, match="open this notebook from a clone"):
        exec(badges.SETUP.format(address=""), {})
    assert elsewhere == []


@pytest.mark.parametrize("arguments", [[], ["ann/lab"], ["no repository", "a.ipynb"]])
def test_a_wrong_call_says_how(arguments, capsys):
    assert badges.main(arguments) == 1 and "OWNER/NAME" in capsys.readouterr().err
