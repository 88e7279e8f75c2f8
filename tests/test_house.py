"""The house: imports run downwards, names are told apart, git sees every file of the package."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from rlhf_lab.tasks import TASKS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "rlhf_lab"
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST = 28  # entries at the top of the package
PARTS = ("world", "grammar", "reader", "judge")  # of a world: its facts, its text, its judge


def only_imports(source: str) -> bool:
    """Whether a module has imports, and nothing else but a docstring and `__all__`."""
    names = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names.append(node)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            continue
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            return False
    return bool(names)


def test_imports_run_downwards():
    # In a process of its own, as it turns off the logging of whatever is loaded already.
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports as lint\nraise SystemExit(lint(no_cache=True))",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_git_ignores_no_file_of_the_package():
    files = [p for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    command = ["git", "check-ignore", "--no-index", "--stdin"]
    found = subprocess.run(
        command, cwd=ROOT, input="\n".join(map(str, files)), capture_output=True, text=True
    )
    if found.returncode == 128:
        pytest.skip("not a git repository")
    assert len(files) > 100
    assert found.stdout == ""


def test_the_top_of_the_package_is_a_short_list():
    names = {path.stem for path in PACKAGE.iterdir()} - {"__init__", "__main__", "__pycache__"}
    assert {"ppo", "maths", "show"} <= names
    assert len(names) <= MOST


def test_no_two_modules_share_a_name():
    """Files in `cli` and `studies` bear the name of their command or study; every world has its
    parts under the same names."""
    named = [p for p in MODULES if p.stem != "__init__" and p.parent.name not in ("cli", "studies")]
    worlds = [PACKAGE / "tasks" / name for name in TASKS]
    named = [p for p in named if not (p.parent in worlds and p.stem in PARTS)]
    counts = Counter(path.stem for path in named)
    assert [name for name, count in counts.items() if count > 1] == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('"""What it is."""\nfrom a.b import c\n\n__all__ = ["c"]\n', True),
        ('"""What it is."""\n', False),
        ("from a.b import c\n\n\ndef f():\n    return c\n", False),
    ],
)
def test_re_exports_are_told_from_code(source, expected):
    assert only_imports(source) is expected


def test_no_init_file_only_re_exports():
    inits = [path for path in MODULES if path.name == "__init__.py"]
    assert [path for path in inits if only_imports(path.read_text(encoding="utf-8"))] == []
