"""The step of nbgrader that keeps only a notebook's exercises and checks; see `grading.py`."""

from typing import Any

from nbformat import NotebookNode
from nbgrader.preprocessors import NbGraderPreprocessor

from rlhf_lab.course.grading import only_exercises


class OnlyExercises(NbGraderPreprocessor):
    """Removes from a notebook all that is not needed to grade it."""

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict]:
        """The notebook to run, and the resources unchanged."""
        return only_exercises(nb), resources
