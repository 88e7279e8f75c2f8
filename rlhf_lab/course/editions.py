"""The course in your own folder: the whole notebooks, or for a class one edition to hand out and
one for grading. The pages and code that the notebooks link to are copied beside them.

In a notebook an exercise is five cells, recognised by their tags: the question, the stub
("exercise", with nbgrader's solution markers), the check ("check"), and a hint ("hint") and a
solution ("solution") that open on a click. A question that is answered in words is three cells: the
question ("question"), a markdown cell to write in ("written"), and what a good answer holds
("rubric"). The student edition has no solutions, rubrics and outputs. The instructor edition has
each solution between the markers of its stub, and each rubric where the answer goes, which is what
nbgrader's `generate_assignment` starts from.
"""

import ast
import copy
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from rlhf_lab.disk.data import project_file
from rlhf_lab.disk.jsonl import write_whole
from rlhf_lab.disk.places import check_place
from rlhf_lab.errors import UserError

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
FOLDED = re.compile(r"</?details>|<summary>.*?</summary>", re.DOTALL)
LINKED = "linked"  # the folder beside the notebooks for what they link to
UPWARDS = re.compile(r"""(\]\(|(?:href|src)=\\?")\.\./([^)"#\\\s]+)""")  # in a notebook's file
README = re.compile(r"\[([^\]]+)\]\((?:\.\./)*README\.md[^)]*\)")
ANYWHERE = re.compile(r"""(?:\]\(|(?:href|src)=")([^)"#\s]+)""")  # in a page


@dataclass(frozen=True)
class Exercise:
    """name: nbgrader's grade_id. stub, check: the numbers of their cells. solution: the right code,
    as the notebook shows it."""

    name: str
    stub: int
    check: int
    solution: str


def exercises(notebook: NotebookNode, where: str = "the notebook") -> list[Exercise]:
    """The exercises of a notebook, in their order.

    Raises UserError if a stub lacks its markers, its check or its solution.
    """
    found = []
    stubs = [i for i, cell in enumerate(notebook.cells) if "exercise" in tags(cell)]
    for stub, following in zip(stubs, [*stubs[1:], len(notebook.cells)]):
        cell = notebook.cells[stub]
        name = cell.metadata.get("nbgrader", {}).get("grade_id", f"cell {stub}")
        rest = {tag: i for i in reversed(range(stub, following)) for tag in tags(notebook.cells[i])}
        code = CODE.search(notebook.cells[rest["solution"]].source) if "solution" in rest else None
        if "check" not in rest or code is None or not _marked(cell.source):
            raise UserError(
                f"{where}, exercise {name}: it needs {BEGIN} and {END} in its stub, "
                "then a cell tagged 'check' and one tagged 'solution' with ```python"
            )
        found.append(Exercise(name, stub, rest["check"], code[1].rstrip("\n")))
    return found


@dataclass(frozen=True)
class WrittenQuestion:
    """A question that a person marks. name: nbgrader's grade_id. cell: the number of the cell to
    write in. question, rubric: their markdown."""

    name: str
    cell: int
    points: float
    question: str
    rubric: str


def written_questions(notebook: NotebookNode, where: str = "the notebook") -> list[WrittenQuestion]:
    """The questions of a notebook that are answered in words, in their order. Raises UserError if
    one lacks its question before it, its rubric after it, or its points."""
    found = []
    cells = [new_markdown_cell(""), *notebook.cells, new_markdown_cell("")]
    for i, (before, cell, after) in enumerate(zip(cells, cells[1:], cells[2:])):
        if "written" not in tags(cell):
            continue
        graded = cell.metadata.get("nbgrader", {})
        if "question" not in tags(before) or "rubric" not in tags(after) or "points" not in graded:
            raise UserError(
                f"{where}, cell {i}: an answer in words needs a cell tagged 'question' before it, "
                "one tagged 'rubric' after it, and nbgrader's points"
            )
        rubric = FOLDED.sub("", after.source).strip()
        found.append(
            WrittenQuestion(graded["grade_id"], i, graded["points"], before.source, rubric)
        )
    return found


def student_edition(notebook: NotebookNode) -> NotebookNode:
    """A copy without solutions, rubrics and outputs; the stubs are as they were."""
    edition = copy.deepcopy(notebook)
    edition.cells = [cell for cell in edition.cells if not {"solution", "rubric"} & set(tags(cell))]
    for cell in edition.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return edition


def instructor_edition(notebook: NotebookNode, where: str = "the notebook") -> NotebookNode:
    """The student edition with each solution written into its stub, and each rubric into the cell
    for the answer, between nbgrader's markers."""
    solved = copy.deepcopy(notebook)
    for exercise in exercises(notebook, where):
        stub = solved.cells[exercise.stub]
        before, _, rest = stub.source.partition(BEGIN)
        after = rest.partition(END)[2]
        body = _body(exercise.solution, f"{where}, exercise {exercise.name}")
        stub.source = f"{before}{BEGIN}\n{body}\n    {END}{after}"
    for each in written_questions(notebook, where):
        solved.cells[each.cell].source = f"{BEGIN}\n{each.rubric}\n{END}"
    return student_edition(solved)


EDITIONS = {
    "notebooks": copy.deepcopy,
    "student": student_edition,
    "instructor": instructor_edition,
}


def write_edition(edition: str, notebooks: Sequence[Path], folder: Path) -> list[Path]:
    """Write an edition (a name in EDITIONS) of each notebook into a folder, and the pages and code
    of the project that they link to into its folder "linked".

    Raises UserError, before anything is written, if a notebook exists already, if a linked file
    exists with other content, or if a file is not a notebook.
    """
    targets = [folder / path.name for path in notebooks]
    for target in targets:
        check_place(target)
    linked = set()

    def relink(link: re.Match) -> str:
        if not project_file(link[2]).is_file():
            return link[0]
        linked.add(link[2])
        return f"{link[1]}{LINKED}/{link[2]}"

    files = {}
    for path, target in zip(notebooks, targets):
        text = nbformat.writes(EDITIONS[edition](read_notebook(path)))
        files[target] = (UPWARDS.sub(relink, text) + "\n").encode()
    for name, content in _linked(linked).items():
        files[folder / LINKED / name] = content
        check_place(
            folder / LINKED / name,
            lambda place, ours=content: "" if place.read_bytes() == ours else "is there already",
        )
    for place, content in files.items():
        write_whole(place, content)
    return targets


def read_notebook(path: Path) -> NotebookNode:
    """A notebook of version 4. Raises UserError for a file that is not one."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        return notebook
    except Exception as error:  # nbformat raises all kinds of errors for other files
        why = str(error).splitlines()[0][:100]
        raise UserError(f"{path} is not a notebook ({why}): name .ipynb files") from error


def _linked(names: set[str]) -> dict[str, bytes]:
    """These files of the project and all that their pages link to, changed so that they can be read
    beside the notebooks. The README, which links to everything, is left out, and what
    links to it says so in place of a link."""
    waiting, found = sorted(names), dict[str, bytes]()
    while waiting:
        name = waiting.pop()
        source = project_file(name)
        left_out = name == "README.md" or name.startswith("notebooks/") or not source.is_file()
        if name in found or left_out:
            continue
        found[name] = source.read_bytes()
        if name.endswith(".md"):
            text = README.sub(r"\1 (in the project's README)", found[name].decode())
            here = posixpath.dirname(name)
            waiting += [
                posixpath.normpath(posixpath.join(here, link)) for link in ANYWHERE.findall(text)
            ]
            found[name] = text.replace("../notebooks/", "../../").encode()
    return found


def tags(cell: NotebookNode) -> list[str]:
    """The tags of a cell."""
    return cell.metadata.get("tags", [])


def _body(solution: str, where: str) -> str:
    """The body of a solution's function."""
    functions = ast.parse(solution).body
    if len(functions) != 1 or not isinstance(functions[0], ast.FunctionDef):
        raise UserError(f"{where}: its solution must be one function and nothing else")
    first = functions[0].body[0].lineno
    return "\n".join(solution.split("\n")[first - 1 :])


def _marked(source: str) -> bool:
    return 0 <= source.find(BEGIN) < source.find(END)
