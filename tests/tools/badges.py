"""Give the notebooks badges that open them in Colab and on Binder, and a cell that sets Colab up.

    python tests/tools/badges.py OWNER/NAME notebooks/*.ipynb

for the repository github.com/OWNER/NAME, branch main. To do it again, for another repository too,
replaces what was there. Outputs stay as they are.
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
# In a clone and on Binder this does nothing. In Colab it fetches the lab and installs it.
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("rlhf_lab") is None:
    subprocess.run(["git", "clone", "--depth", "1", "https://github.com/{repository}", "lab"], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-e", "./lab[agreement]"], check=True)
    sys.path.insert(0, os.path.abspath("lab"))
    os.chdir("lab/notebooks")"""


def add_badges(notebook: nbformat.NotebookNode, repository: str, name: str) -> None:
    """Put both cells below the title, in place.

    The set-up cell counts as executed before all others, as it is when one runs the notebook.
    """
    tagged = ("badges", "setup")
    had = [cell for cell in notebook.cells if set(tagged) & set(cell.metadata.get("tags", []))]
    notebook.cells = [cell for cell in notebook.cells if cell not in had]
    if not any(cell.cell_type == "code" for cell in had):
        for cell in notebook.cells:
            if cell.cell_type == "code" and cell.execution_count:
                cell.execution_count += 1
    texts = [text.format(repository=repository, name=name) for text in (BADGES, SETUP)]
    made = [new_markdown_cell(texts[0], id="badges", metadata={"tags": ["badges"]}),
            new_code_cell(texts[1], id="setup", metadata={"tags": ["setup"]}, execution_count=1)]
    notebook.cells[1:1] = made


def main(arguments: list[str]) -> int:
    if len(arguments) < 2 or not re.fullmatch(r"[\w.-]+/[\w.-]+", arguments[0]):
        print(__doc__, file=sys.stderr)
        return 1
    for path in map(Path, arguments[1:]):
        notebook = nbformat.read(path, as_version=4)
        add_badges(notebook, arguments[0], path.name)
        nbformat.write(notebook, path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
