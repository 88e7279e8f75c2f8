"""The editions for a class, and nbgrader on them: what is right gets its point, nothing else
does."""

import copy
import csv
import re
import sqlite3
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
    assert "y + y" not in written and "already exists" not in capsys.readouterr().err
    assert main(arguments) == 1
    assert "already exists" in capsys.readouterr().err
    assert (tmp_path / "class/a.ipynb").read_text() == written
    assert main(["course", "student", str(tmp_path / "b"), str(tmp_path / "none.ipynb")]) == 1


def test_the_whole_course_is_written_with_what_it_links_to(tmp_path, capsys):
    assert main(["course", "notebooks", str(tmp_path)]) == 0
    assert "the pages they link to are in" in capsys.readouterr().out
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
    assert len(links) > 100 and dead == []
    assert "(in the project's README)" in (tmp_path / "linked/docs/from-trl.md").read_text()


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


# ---- grading -------------------------------------------------------------------------------------

PPO = "04_policy_gradients_and_ppo"
ALIAS = """from rlhf_lab.maths import gae as mine
from rlhf_lab.maths import clipped_value_loss"""
BESIDE = {  # cells that a student adds: a helper that the answer needs, and what must not run
    "helper": "def smaller(a, b):\n    return -torch.maximum(-a, -b)",
    "slow": "import time\nSTEPS = 1000000000\nfor _ in range(STEPS):\n    time.sleep(1)",
    "magic": "%timeit sum(range(10**9))\nimport math",
    "broken": "train_ppo(",
}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A class with the real notebooks: ann hands all of them in, the others one."""
    folder = tmp_path_factory.mktemp("class") / "autumn"
    assert main(["course", "grading", str(folder)]) == 0
    for path in sorted((folder / "source/course").glob("*.ipynb")):
        hand_in(folder, "ann", nbformat.read(path, as_version=4), path.stem)
    right = nbformat.read(folder / f"source/course/{PPO}.ipynb", as_version=4)
    blank = nbformat.read(folder / f"release/course/{PPO}.ipynb", as_version=4)
    hand_in(folder, "bob", blank)
    hand_in(folder, "cem", changed(right, ("maximum", "minimum")))
    taken = changed(right)
    for cell in taken.cells:
        if "def gae(" in cell.source and "exercise" in tags(cell):
            cell.source = "gae = lambda *given: mine(*given)"
    taken.cells[1:1] = [new_code_cell(ALIAS, id="alias")]
    hand_in(folder, "dan", taken)
    own = changed(right, ("torch.minimum(", "smaller("))
    own.cells[5:5] = [new_code_cell(text, id=name) for name, text in BESIDE.items()]
    hand_in(folder, "eve", own)
    assert main(["course", "grade", str(folder)]) == 0
    return folder


def hand_in(folder, student, notebook, name=PPO):
    path = folder / f"submitted/{student}/course/{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def changed(notebook, words=("", "")):
    """A copy whose exercises have other words, wherever these stand."""
    edition = copy.deepcopy(notebook)
    for cell in edition.cells:
        if "exercise" in tags(cell) and words[0]:
            cell.source = cell.source.replace(*words)
    return edition


def checks(folder, student):
    """The points of each check of the notebook on PPO."""
    with closing(sqlite3.connect(folder / "gradebook.db")) as book:
        rows = book.execute(
            "SELECT cell.name, grade.auto_score FROM grade "
            "JOIN base_cell AS cell ON grade.cell_id = cell.id "
            "JOIN submitted_notebook AS n ON grade.notebook_id = n.id "
            "JOIN notebook ON n.notebook_id = notebook.id "
            "JOIN submitted_assignment AS s ON n.assignment_id = s.id "
            "WHERE s.student_id = ? AND notebook.name = ?",
            [student, PPO],
        ).fetchall()
    return {name.removeprefix("check-ppo-"): score for name, score in rows}


def test_what_is_handed_out_holds_no_solution(course):
    for path in NOTEBOOKS:
        text = (course / f"release/course/{path.name}").read_text()
        assert "YOUR CODE HERE" in text and "SOLUTION" not in text
        for exercise in exercises(nbformat.read(path, as_version=4)):
            assert exercise.solution.split("\n")[-1].strip() not in text
    assert (course / "release/course/linked/docs/alarms.md").exists()


def test_right_answers_to_all_notebooks_get_all_points(course):
    rows = list(csv.DictReader((course / "marks.csv").open()))
    mine = {row["notebook"]: row for row in rows if row["student"] == "ann"}
    assert sorted(mine) == [path.stem for path in NOTEBOOKS]
    assert all(row["points"] == row["of"] != "0.0" for row in mine.values()), mine
    counts = [len(exercises(nbformat.read(path, as_version=4))) for path in NOTEBOOKS]
    assert [float(mine[path.stem]["of"]) for path in NOTEBOOKS] == counts


def test_wrong_and_borrowed_answers_get_none(course):
    everything = dict.fromkeys(["clipped-loss", "gae", "kl-rewards", "value-loss", "whiten"], 1.0)
    assert checks(course, "ann") == everything
    assert set(checks(course, "bob").values()) == {0.0}
    assert checks(course, "cem") == everything | {"clipped-loss": 0.0, "value-loss": 0.0}
    assert checks(course, "dan") == everything | {"gae": 0.0}
    assert (
        "of the lab. Write these lines yourself"
        in (course / f"autograded/dan/course/{PPO}.ipynb").read_text()
    )


def test_a_students_helpers_are_kept_and_nothing_else_runs(course):
    assert set(checks(course, "eve").values()) == {1.0}
    graded = nbformat.read(course / f"autograded/eve/course/{PPO}.ipynb", as_version=4)
    sources = "\n".join(cell.source for cell in graded.cells)
    assert "def smaller(" in sources and "import math" in sources and "STEPS = " in sources
    for left_out in ("time.sleep", "%timeit", "train_ppo(", "load_policy("):
        assert left_out not in sources


def test_a_class_that_cannot_be_made_or_graded_is_said_to_be_so(course, tmp_path, capsys):
    assert main(["course", "grading", str(course)]) == 1
    assert "already exists" in capsys.readouterr().err
    assert main(["course", "grade", str(tmp_path)]) == 1
    assert "is not a class" in capsys.readouterr().err
    (tmp_path / "nbgrader_config.py").touch()
    assert main(["course", "grade", str(tmp_path)]) == 1
    assert "nothing was handed in" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["hi\n", "[]", "{}", '{"cells": 3}', "\udcff"])
def test_what_is_not_a_notebook_is_refused_before_anything_is_written(content, tmp_path, capsys):
    file = tmp_path / "no.ipynb"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert main(["course", "student", str(tmp_path / "out"), str(file)]) == 1
    assert "no.ipynb is not a notebook" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
