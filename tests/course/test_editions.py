"""The editions for a class, and nbgrader on them: what is right gets its point, nothing else
does."""

import copy
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from rlhf_lab.cli import main
from rlhf_lab.course.editions import exercises, instructor_edition, student_edition, tags
from rlhf_lab.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LINK = re.compile(r"""(?:\]\(|href=\\?")(?!https?:|data:)([^)"#\\\s]+)""")
STUB = '''def double(x=1):
    """Twice x."""
    ### BEGIN SOLUTION
    raise NotImplementedError("your lines go here")
    ### END SOLUTION'''
SOLUTION = (
    "<details><summary>Solution</summary>\n\n```python\ndef double(x=1):\n    y = x\n\n    "
    "return y + y\n```\n\nBecause.\n\n</details>"
)


def metadata(tag, **nbgrader):
    return {"tags": [tag]} | (
        {"nbgrader": {"schema_version": 3, "task": False} | nbgrader} if nbgrader else {}
    )


def notebook(stub=STUB, solution=SOLUTION):
    cells = [
        new_markdown_cell("# Double"),
        new_code_cell(
            stub,
            metadata=metadata(
                "exercise", grade_id="double", grade=False, solution=True, locked=False
            ),
        ),
        new_code_cell(
            "check.double(double)",
            metadata=metadata(
                "check", grade_id="check-double", grade=True, solution=False, locked=True, points=1
            ),
        ),
        new_markdown_cell(
            "<details><summary>Hint</summary>\n\nAdd.\n\n</details>", metadata=metadata("hint")
        ),
        new_markdown_cell(solution, metadata=metadata("solution")),
    ]
    cells[1].execution_count, cells[2].execution_count = 1, 2
    cells[2].outputs = [nbformat.v4.new_output("stream", text="Not attempted yet")]
    return new_notebook(cells=cells)


# ---- editions ------------------------------------------------------------------------------------


def test_a_student_gets_all_but_solutions_and_outputs():
    whole = notebook()
    before = copy.deepcopy(whole)
    edition = student_edition(whole)
    assert whole == before
    assert [tags(cell) for cell in edition.cells] == [[], ["exercise"], ["check"], ["hint"]]
    assert edition.cells[1].source == STUB
    assert all(not c.outputs and c.execution_count is None for c in edition.cells[1:3])


def test_an_instructor_gets_the_solution_between_the_markers():
    stub = instructor_edition(notebook()).cells[1].source
    assert stub == (
        'def double(x=1):\n    """Twice x."""\n    ### BEGIN SOLUTION\n    y = x\n\n'
        "    return y + y\n    ### END SOLUTION"
    )
    names = {}
    exec(stub, names)
    assert names["double"](4) == 8


@pytest.mark.parametrize(
    "stub, solution", [(STUB.replace("### END SOLUTION", ""), SOLUTION), (STUB, "no code here")]
)
def test_an_exercise_that_lacks_something_is_named(stub, solution):
    with pytest.raises(UserError, match="here.ipynb, exercise double: it needs"):
        exercises(notebook(stub, solution), "here.ipynb")


def test_a_solution_of_more_than_a_function_is_refused():
    more = SOLUTION.replace("```python\n", "```python\nimport torch\n")
    with pytest.raises(UserError, match="exercise double: its solution must be one function"):
        instructor_edition(notebook(solution=more))


def test_the_command_writes_and_overwrites_nothing(tmp_path, capsys):
    nbformat.write(notebook(), tmp_path / "a.ipynb")
    arguments = ["course", "student", str(tmp_path / "class"), str(tmp_path / "a.ipynb")]
    assert main(arguments) == 0
    written = (tmp_path / "class/a.ipynb").read_text()
    assert "y + y" not in written and "is there already" not in capsys.readouterr().err
    assert main(arguments) == 1
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "class/a.ipynb").read_text() == written
    assert main(["course", "student", str(tmp_path / "b"), str(tmp_path / "none.ipynb")]) == 1


def test_the_whole_course_is_written_with_what_it_links_to(tmp_path, capsys):
    assert main(["course", "notebooks", str(tmp_path)]) == 0
    assert "to read" in capsys.readouterr().out
    written = sorted(tmp_path.glob("*.ipynb"))
    assert [path.name for path in written] == [path.name for path in NOTEBOOKS]
    for path, original in zip(written, NOTEBOOKS):
        ours, theirs = nbformat.read(path, as_version=4), nbformat.read(original, as_version=4)
        assert [c.source for c in ours.cells if c.cell_type == "code"] == [
            c.source for c in theirs.cells if c.cell_type == "code"
        ]
    pages = [*written, *tmp_path.rglob("*.md")]
    links = [(p, link) for p in pages for link in LINK.findall(p.read_text(encoding="utf-8"))]
    dead = [(p.name, link) for p, link in links if not (p.parent / link).exists()]
    assert len(links) > 100 and {link for _, link in dead} == {"../README.md"}, dead


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_has_a_student_edition_without_its_solutions(path):
    whole = nbformat.read(path, as_version=4)
    found = exercises(whole, path.name)
    edition = nbformat.writes(student_edition(whole))
    for exercise in found:
        assert exercise.solution.split("\n")[-1].strip() not in edition
    names = [c.metadata.nbgrader.grade_id for c in whole.cells if "nbgrader" in c.metadata]
    assert len(names) == len(set(names)) == 2 * len(found)
    for cell in instructor_edition(whole, path.name).cells:
        if cell.cell_type == "code":
            compile(cell.source.replace("await ", ""), path.name, "exec")


# ---- nbgrader ------------------------------------------------------------------------------------


def nbgrader(course, *arguments):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # for alembic
    env = os.environ | {"PATH": path, "JUPYTER_CONFIG_DIR": str(course)}
    ran = subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments],
        cwd=course,
        text=True,
        capture_output=True,
        env=env,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A class: the exercises of notebook 04 handed out, and handed in by three students."""
    folder = tmp_path_factory.mktemp("class")
    whole = nbformat.read(ROOT / "notebooks" / "04_policy_gradients_and_ppo.ipynb", as_version=4)
    begin = new_code_cell("import torch\nfrom rlhf_lab.course.exercises import check", id="begin")
    wanted = {"exercise", "check", "solution"}
    whole.cells = [begin, *(c for c in whole.cells if wanted & set(tags(c)))]
    source = folder / "source/ps/ppo.ipynb"
    source.parent.mkdir(parents=True)
    nbformat.write(instructor_edition(whole), source)
    (folder / "nbgrader_config.py").write_text(
        "c = get_config()\nc.CourseDirectory.course_id = 'rlhf'\n"
    )
    nbgrader(folder, "generate_assignment", "ps")
    released = nbformat.read(folder / "release/ps/ppo.ipynb", as_version=4)
    handed_in = {
        "ann": solved(released, whole),
        "bob": released,
        "cem": solved(released, whole, spoil=("maximum", "minimum")),
    }
    for student, edition in handed_in.items():
        path = folder / f"submitted/{student}/ps/ppo.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(edition, path)
    nbgrader(folder, "autograde", "ps")
    return folder


def solved(released, whole, spoil=("", "")):
    """What a student hands in who copies every solution, or spoils it in one way."""
    edition, found = copy.deepcopy(released), exercises(whole)
    stubs = [cell for cell in edition.cells if "exercise" in tags(cell)]
    for cell, exercise in zip(stubs, found, strict=True):
        cell.source = exercise.solution.replace(*spoil) if spoil[0] else exercise.solution
    return edition


def test_what_is_handed_out_holds_no_solution(course):
    text = (course / "release/ps/ppo.ipynb").read_text()
    assert "YOUR CODE HERE" in text and "torch.maximum" not in text and "SOLUTION" not in text


def test_right_answers_get_their_points_and_others_none(course):
    with closing(sqlite3.connect(course / "gradebook.db")) as book:
        rows = book.execute(
            "SELECT submitted_assignment.student_id, cell.name, grade.auto_score FROM grade "
            "JOIN base_cell AS cell ON grade.cell_id = cell.id "
            "JOIN submitted_notebook AS n ON grade.notebook_id = n.id "
            "JOIN submitted_assignment ON n.assignment_id = submitted_assignment.id"
        ).fetchall()
    scores = {}
    for student, name, score in rows:
        scores.setdefault(student, {})[name.removeprefix("check-ppo-")] = score
    everything = ["clipped-loss", "gae", "kl-rewards", "value-loss", "whiten"]
    assert sorted(scores["ann"]) == everything and set(scores["ann"].values()) == {1.0}
    assert set(scores["bob"].values()) == {0.0}
    assert scores["cem"] == scores["ann"] | {"clipped-loss": 0.0, "value-loss": 0.0}


@pytest.mark.parametrize("content", ["hi\n", "[]", "{}", '{"cells": 3}', "\udcff"])
def test_what_is_not_a_notebook_is_refused_before_anything_is_written(content, tmp_path, capsys):
    file = tmp_path / "no.ipynb"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert main(["course", "student", str(tmp_path / "out"), str(file)]) == 1
    assert "no.ipynb is not a notebook" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
