"""Give the notebooks the cell that sets Colab up and, once the lab is published, badges that open
them in Colab and on Binder.

    python tests/tools/badges.py OWNER/NAME notebooks/*.ipynb

for the repository github.com/OWNER/NAME, branch main; "-" in its place while there is none, which
leaves the badges out and the address blank. To do it again replaces what was there. Outputs stay.
"""

import re
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell

BADGES = """\
[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]\
(https://colab.research.google.com/github/{repository}/blob/main/notebooks/{name}) \
[![Open on Binder](https://mybinder.org/badge_logo.svg)]\
(https://mybinder.org/v2/gh/{repository}/main?labpath=notebooks/{name})"""
SETUP = """\
# In Colab this cell fetches the lab and installs it; in a clone and on Binder it is there already.
REPOSITORY = "{address}"

import importlib.util, os, subprocess, sys

if importlib.util.find_spec("rlhf_lab") is None:
    if not REPOSITORY:
        raise SystemExit("rlhf_lab is not installed here: open this notebook from a clone, after "
                         "its set-up, or write the address of the repository into this cell.")
    subprocess.run(["git", "clone", "--depth", "1", REPOSITORY, "lab"], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-e", "./lab[hub]"], check=True)
    sys.path.insert(0, os.path.abspath("lab"))
    os.chdir("lab/notebooks")"""


def add_badges(notebook: nbformat.NotebookNode, repository: str, name: str) -> None:
    """Put the cells below the title, in place; the badges only if there is a repository.

    The set-up cell counts as executed before all others, as it is when one runs the notebook, and
    is folded away in JupyterLab.
    """
    had = [
        cell for cell in notebook.cells if {"badges", "setup"} & set(cell.metadata.get("tags", []))
    ]
    notebook.cells = [cell for cell in notebook.cells if cell not in had]
    if not any(cell.cell_type == "code" for cell in had):
        for cell in notebook.cells:
            if cell.cell_type == "code" and cell.execution_count:
                cell.execution_count += 1
                for output in cell.outputs:
                    if "execution_count" in output:
                        output.execution_count = cell.execution_count
    address = f"https://github.com/{repository}" if repository else ""
    made = [
        new_code_cell(
            SETUP.format(address=address),
            id="setup",
            execution_count=1,
            metadata={"tags": ["setup"], "jupyter": {"source_hidden": True}},
        )
    ]
    if repository:
        links = BADGES.format(repository=repository, name=name)
        made.insert(0, new_markdown_cell(links, id="badges", metadata={"tags": ["badges"]}))
    notebook.cells[1:1] = made


def main(arguments: list[str]) -> int:
    if len(arguments) < 2 or not re.fullmatch(r"[\w.-]+/[\w.-]+|-", arguments[0]):
        print(__doc__, file=sys.stderr)
        return 1
    repository = "" if arguments[0] == "-" else arguments[0]
    for path in map(Path, arguments[1:]):
        notebook = nbformat.read(path, as_version=4)
        add_badges(notebook, repository, path.name)
        nbformat.write(notebook, path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
