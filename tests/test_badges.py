"""Badges and the set-up cell: where they point, that they change nothing else, and what runs."""

import copy
import os
import subprocess
from pathlib import Path

import nbformat
import pytest

import badges

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOKS[0], as_version=4)


def test_both_cells_stand_below_the_title_and_nothing_else_changes(notebook):
    before = copy.deepcopy(notebook)
    badges.add_badges(notebook, "ann/lab", "00_tour.ipynb")
    title, links, setup, *rest = notebook.cells
    assert title == before.cells[0] and [c.source for c in rest] == [
        c.source for c in before.cells[1:]]
    assert "colab.research.google.com/github/ann/lab/blob/main/notebooks/00_tour.ipynb)" in links.source
    assert "mybinder.org/v2/gh/ann/lab/main?labpath=notebooks/00_tour.ipynb)" in links.source
    counts = [c.execution_count for c in notebook.cells if c.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    nbformat.validate(notebook)


def test_a_second_time_replaces_the_first(notebook):
    badges.add_badges(notebook, "ann/lab", "00_tour.ipynb")
    once = copy.deepcopy(notebook)
    badges.add_badges(notebook, "ben/fork", "00_tour.ipynb")
    assert len(notebook.cells) == len(once.cells) and "ann/lab" not in nbformat.writes(notebook)
    badges.add_badges(notebook, "ann/lab", "00_tour.ipynb")
    assert notebook == once


def test_in_a_clone_the_set_up_does_nothing(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it ran something"))
    exec(badges.SETUP.format(repository="ann/lab"), {})
    assert os.getcwd() == str(tmp_path) and os.listdir(tmp_path) == []


def test_elsewhere_it_fetches_installs_and_moves_there(monkeypatch, tmp_path):
    import importlib.util
    import sys

    ran = []

    def run(command, check):
        ran.append(command)
        Path("lab/notebooks").mkdir(parents=True, exist_ok=True)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    exec(badges.SETUP.format(repository="ann/lab"), {})
    assert ran[0] == ["git", "clone", "--depth", "1", "https://github.com/ann/lab", "lab"]
    assert ran[1][1:] == ["-m", "pip", "install", "-q", "-e", "./lab[agreement]"]
    assert sys.path[0] == str(tmp_path / "lab") and os.getcwd() == str(tmp_path / "lab/notebooks")


@pytest.mark.parametrize("arguments", [[], ["ann/lab"], ["no repository", "a.ipynb"]])
def test_a_wrong_call_says_how(arguments, capsys):
    assert badges.main(arguments) == 1 and "OWNER/NAME" in capsys.readouterr().err
