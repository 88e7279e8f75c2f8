"""The step of nbgrader that makes of what a student handed in what is run: the exercises and checks
alone (`grading.py`), tried on the inputs of the student's variant and on hidden ones (`roster.py`).
"""

from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbgrader.preprocessors import NbGraderPreprocessor

from rlhf_lab.course.grading import only_exercises
from rlhf_lab.course.roster import Student, numbered, read_students


class OnlyExercises(NbGraderPreprocessor):
    """Removes from a notebook all that is not needed to grade it, and sets the inputs.

    nbgrader runs in the class's folder, where it also reads its own settings.
    """

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict]:
        """The notebook to run, and the resources unchanged."""
        name = resources["nbgrader"]["student"]
        student = read_students(Path.cwd()).get(name, Student(name, "", ""))
        return numbered(only_exercises(nb), student.variant, student.hidden), resources
