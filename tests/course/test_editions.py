"""The editions for a class, and nbgrader on them: what is right gets its point, nothing else
does."""

import copy
import csv
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from nbgrader.api import Gradebook

from rlhf_lab.cli import main
from rlhf_lab.course.editions import (
    exercises,
    instructor_edition,
    student_edition,
    tags,
    written_questions,
)
from rlhf_lab.course.exercises.nb04_advantages import GAE
from rlhf_lab.course.exercises.variants import varied
from rlhf_lab.course.roster import enrol, numbered, read_students, write_own_editions
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
    code = re.compile(r"\]\(\w+\[")  # table["a"](some[...]) is no link
    texts = [(p, code.sub("", p.read_text(encoding="utf-8"))) for p in pages]
    links = [(p, link) for p, text in texts for link in LINK.findall(text)]
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
    assert len(names) == len(set(names)) == 2 * len(found) + len(written_questions(whole))
    for cell in instructor_edition(whole, path.name).cells:
        if cell.cell_type == "code":
            compile(cell.source.replace("await ", ""), path.name, "exec")


def asked(*extra):
    """A question in words: its cells, and perhaps others."""
    graded = metadata("written", grade_id="why", grade=True, solution=True, locked=False, points=2)
    return [
        new_markdown_cell("Why?", metadata=metadata("question")),
        new_markdown_cell("Write here", metadata=graded),
        *extra,
    ]


RUBRIC = new_markdown_cell(
    "<details><summary>What a good answer holds</summary>\n\nA reason.\n\n</details>",
    metadata=metadata("rubric"),
)


def test_a_rubric_is_in_the_instructors_edition_alone():
    whole = new_notebook(cells=asked(RUBRIC))
    assert [cell.source for cell in student_edition(whole).cells] == ["Why?", "Write here"]
    assert [cell.source for cell in instructor_edition(whole).cells] == [
        "Why?",
        "### BEGIN SOLUTION\nA reason.\n### END SOLUTION",
    ]


def test_a_question_without_a_rubric_is_named():
    with pytest.raises(UserError, match="here.ipynb, cell 1: an answer in words needs"):
        instructor_edition(new_notebook(cells=asked()), "here.ipynb")


def test_only_the_checks_get_a_variant():
    whole = notebook()
    whole.cells[2].source = "result = check.double(double)  # as before\nresult.right"
    edition = numbered(whole, "a1", "b2")
    assert edition.cells[2].source == (
        'result = check.double(check.variant(double, "a1", "b2"))  # as before\nresult.right'
    )
    assert [c.source for c in edition.cells[:2]] == [c.source for c in whole.cells[:2]]


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
    """A class with the real notebooks, in which three students have numbers of their own: ann hands
    in all notebooks of her edition, solved, and the others one."""
    folder = tmp_path_factory.mktemp("class") / "autumn"
    (folder.parent / "names.txt").write_text("ann\nbob\n\nfay\n")
    names = str(folder.parent / "names.txt")
    assert main(["course", "grading", "--students", names, str(folder)]) == 0
    for path in sorted((folder / "editions/ann/course").glob("*.ipynb")):
        hand_in(folder, "ann", solved(folder, "ann", path.stem), path.stem)
    hand_in(folder, "bob", read(folder / f"editions/bob/course/{PPO}.ipynb"))
    hand_in(folder, "fay", by_heart(folder, "fay"))
    right = read(folder / f"source/course/{PPO}.ipynb")
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


def read(path):
    return nbformat.read(path, as_version=4)


def solved(folder, student, name):
    """A student's edition with the solutions, and an answer to each question in words."""
    edition = read(folder / f"editions/{student}/course/{name}.ipynb")
    source = {
        grade_id(cell): cell.source for cell in read(folder / f"source/course/{name}.ipynb").cells
    }
    for cell in edition.cells:
        if "exercise" in tags(cell):
            cell.source = source[grade_id(cell)]
        elif "written" in tags(cell):
            cell.source = "I expected the mark to fall. It rose, as the score did."
    return edition


def grade_id(cell):
    return cell.metadata.get("nbgrader", {}).get("grade_id")


def by_heart(folder, student):
    """An edition in which gae knows the answers to the student's own inputs, and no others."""
    edition = solved(folder, student, PPO)
    variant = edition.metadata["rlhf_lab"]["variant"]
    for cell in edition.cells:
        if "exercise" in tags(cell) and "def gae(" in cell.source:
            cell.source = BY_HEART.format(answers=answers_of(varied(GAE, variant)))
    return edition


BY_HEART = """def gae(rewards, values, mask, gamma=1.0, lam=0.95):
    known = {answers}
    a, r = known.get(str((rewards, gamma, lam)), ([[0.0]], [[0.0]]))
    return torch.tensor(a), torch.tensor(r)"""


def answers_of(exercise):
    return {
        str((case.inputs["rewards"], case.inputs["gamma"], case.inputs["lam"])): tuple(
            x.tolist() for x in exercise.right(*case.inputs.values())
        )
        for case in exercise.cases
    }


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
    """The points of each check of the notebook on PPO; None where a person has to say."""
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
    return {n.removeprefix("check-ppo-"): score for n, score in rows if n.startswith("check")}


def test_what_is_handed_out_holds_no_solution(course):
    for path in NOTEBOOKS:
        text = (course / f"release/course/{path.name}").read_text()
        assert "YOUR CODE HERE" in text and "SOLUTION" not in text
        for exercise in exercises(nbformat.read(path, as_version=4)):
            assert exercise.solution.split("\n")[-1].strip() not in text
    assert (course / "release/course/linked/docs/alarms.md").exists()


def marks(folder, student):
    """The rows of the file of marks on a student, by notebook."""
    rows = csv.DictReader((folder / "marks.csv").open())
    return {row["notebook"]: row for row in rows if row["student"] == student}


def test_right_answers_to_all_notebooks_get_all_points_and_words_wait(course):
    mine = marks(course, "ann")
    assert sorted(mine) == [path.stem for path in NOTEBOOKS]
    for path in NOTEBOOKS:
        whole, row = read(path), mine[path.stem]
        words = sum(each.points for each in written_questions(whole))
        assert float(row["points"]) == len(exercises(whole)) > 0, row
        assert float(row["of"]) == len(exercises(whole)) + words, row
        assert float(row["waiting"]) == words, row
    assert sum(float(row["waiting"]) for row in mine.values()) >= 12


def test_a_question_that_was_left_blank_waits_for_nobody(course):
    assert (
        float(marks(course, "bob")[PPO]["waiting"])
        == float(marks(course, "bob")[PPO]["points"])
        == 0
    )


def test_an_edition_has_numbers_of_its_own_and_says_so(course):
    students = read_students(course)
    assert [*students] == ["ann", "bob", "fay", "cem", "dan", "eve"]
    variants = [students[name].variant for name in ("ann", "bob", "fay")]
    assert len(set(variants)) == 3 and students["cem"].variant == ""
    assert len({student.hidden for student in students.values()}) == 6
    for name, variant in zip(("ann", "bob", "fay"), variants):
        edition = read(course / f"editions/{name}/course/{PPO}.ipynb")
        nbformat.validate(edition)
        assert edition.metadata["rlhf_lab"]["variant"] == variant
        assert f"`{variant}`" in edition.cells[1].source
        called = [cell.source for cell in edition.cells if "check" in tags(cell)]
        assert f'check.gae(check.variant(gae, "{variant}"))' in called
        assert students[name].hidden not in str(edition)
        assert (course / f"editions/{name}/course/linked/docs/alarms.md").is_file()


def test_answers_known_by_heart_fail_on_hidden_inputs(course):
    everything = dict.fromkeys(["clipped-loss", "gae", "kl-rewards", "value-loss", "whiten"], 1.0)
    assert checks(course, "fay") == everything | {"gae": 0.0}
    graded = (course / f"autograded/fay/course/{PPO}.ipynb").read_text()
    assert "It is right on the inputs you know, but not on others" in graded


def test_the_variant_is_that_of_the_records_whatever_is_handed_in(course):
    graded = read(course / f"autograded/cem/course/{PPO}.ipynb")
    hidden = read_students(course)["cem"].hidden
    assert f'check.gae(check.variant(gae, "", "{hidden}"))' in [c.source for c in graded.cells]
    taken = read(course / f"autograded/fay/course/{PPO}.ipynb")
    fay = read_students(course)["fay"]
    assert f'check.variant(gae, "{fay.variant}", "{fay.hidden}")' in nbformat.writes(taken).replace(
        "\\", ""
    )


def test_points_that_a_person_gives_are_in_the_marks(course, capsys):
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        grade = book.find_grade("written-ppo-prediction", PPO, "course", "ann")
        grade.manual_score, grade.needs_manual_grade = 2.0, False
        book.db.commit()
    assert main(["course", "marks", str(course)]) == 0
    said = capsys.readouterr().out
    row = marks(course, "ann")[PPO]
    assert (row["points"], row["of"], row["waiting"]) == ("7.0", "8.0", "0")
    assert "wait for a person)" in said and "formgrader" in said


def test_what_a_good_answer_holds_is_with_the_teacher_alone(course):
    rubrics = (course / "rubrics.md").read_text()
    for path in NOTEBOOKS:
        handed_out = (course / f"release/course/{path.name}").read_text()
        for each in written_questions(read(path), path.name):
            line = each.rubric.splitlines()[-1]
            in_json = json.dumps(line, ensure_ascii=False)[1:-1]
            assert line in rubrics and in_json in path.read_text() and in_json not in handed_out
            assert each.question.splitlines()[0].lstrip("# ") in handed_out


def test_students_can_be_added_and_bad_names_are_refused(course, tmp_path, capsys):
    before = read_students(course)
    (tmp_path / "more.txt").write_text("ann\ngus\n")
    more = ["course", "grading", "--students", str(tmp_path / "more.txt"), str(course)]
    assert main(more) == 0
    after = read_students(course)
    assert {**before, "gus": after["gus"]} == after and after["gus"].variant
    assert "to gus" in capsys.readouterr().out
    (tmp_path / "more.txt").write_text("../eve\n")
    assert main(more) == 1 and "cannot be a student's name" in capsys.readouterr().err
    assert read_students(course) == after


def test_a_list_of_students_from_a_spreadsheet(tmp_path):
    enrol(tmp_path, ["Zo\u00eb", "ben"])
    place, before = tmp_path / "students.csv", read_students(tmp_path)
    text = place.read_text("utf-8")
    place.write_bytes(text.encode("utf-8-sig"))
    assert read_students(tmp_path) == before
    place.write_bytes(text.encode("cp1252"))
    with pytest.raises(UserError, match="is not UTF-8"):
        read_students(tmp_path)


def test_a_folder_that_was_handed_in_needs_no_name_for_every_system(tmp_path):
    assert [one.variant for one in enrol(tmp_path, ["Anna Maria", "O'Brien"], False)] == ["", ""]
    for name in ("Anna Maria", "anna.", ".anna", ""):
        with pytest.raises(UserError, match="cannot be a student's name"):
            enrol(tmp_path / "other", [name])


def test_an_edition_that_was_broken_off_is_completed(tmp_path):
    release = tmp_path / "release/course"
    release.mkdir(parents=True)
    for name in ("a.txt", "b.txt"):
        (release / name).write_text(name)
    enrol(tmp_path, ["cem"], own_numbers=False)  # graded before there were editions
    [own, _] = write_own_editions(tmp_path, release, ["ada", "cem"])
    first = read_students(tmp_path)
    assert first["cem"].variant and first["ada"].variant
    (own / "b.txt").unlink()
    assert write_own_editions(tmp_path, release, ["ada", "cem"]) == [own]
    assert (own / "b.txt").read_text() == "b.txt" and read_students(tmp_path) == first


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
