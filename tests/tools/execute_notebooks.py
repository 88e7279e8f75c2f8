"""Run notebooks from top to bottom and save them in place with fresh outputs, ready to commit.

    python tests/tools/execute_notebooks.py notebooks/*.ipynb

A notebook that fails is left as it was. What changes from run to run without meaning anything
(times, interpreter version, widget state) is dropped, so that a diff shows what really changed.
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
VOLATILE_CELL_METADATA = ("execution", "collapsed", "ExecuteTime")
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop volatile metadata and widget views, in place, and return the notebook.

    A widget view refers to a model that lives in no file: JupyterLab would show an error in its
    place. Every widget also gives HTML or text, and that is what stays.
    """
    notebook.metadata.pop("widgets", None)
    notebook.metadata["kernelspec"] = dict(KERNEL)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        for key in VOLATILE_CELL_METADATA:
            cell.metadata.pop(key, None)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if len(data) > 1:
                data.pop(WIDGET_VIEW, None)
                output.get("metadata", {}).pop(WIDGET_VIEW, None)
    return notebook


def execute(path: Path, timeout: int = 600) -> None:
    """Run the notebook at `path` in its own folder and replace it with the result.

    `timeout` is in seconds for each cell. Raises nbclient's errors; the file is then untouched.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name=KERNEL["name"],
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
    ).execute()
    partial = path.with_suffix(".partial")
    nbformat.write(clean(notebook), partial)
    os.replace(partial, path)


def main(arguments: list[str]) -> int:
    """Execute each notebook named; the number of failures is the exit status."""
    failures = 0
    for path in map(Path, arguments):
        print(f"{path} ...", flush=True)
        try:
            execute(path)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            failures += 1
            print(f"{path} failed and was left as it was:\n{error}", file=sys.stderr)
    return failures


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
