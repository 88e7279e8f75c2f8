"""The step of nbgrader that leaves a notebook's exercises and checks alone; see `grading.py`."""

from typing import Any

from nbformat import NotebookNode
from nbgrader.preprocessors import NbGraderPreprocessor

from rlhf_lab.course.grading import only_exercises


class OnlyExercises(NbGraderPreprocessor):
    """Takes out of a notebook whatever need not run for its marks."""

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict]:
        """The notebook to run, and the resources as they were."""
        return only_exercises(nb), resources
