"""Installing without a clone: the wheel alone, beside the dependencies, in a folder that is empty.

The wheel is built through the source distribution, as a release is.
"""

import ast
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import nbformat
import pytest
from nbclient import NotebookClient
from test_packaging import MIB, ROOT, tracked_files

FIRST = 4  # code cells of notebook 05: set-up, imports, the rollout that comes with the lab, a look


def run(*command, **where) -> str:
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", **where)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="session")
def dist(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", str(folder), cwd=ROOT)
    return folder


@pytest.fixture(scope="session")
def site(dist, tmp_path_factory) -> Path:
    """The folder that the wheel is installed into."""
    site = tmp_path_factory.mktemp("site")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    run(*pip, "--target", str(site), *map(str, dist.glob("*.whl")))
    return site


@pytest.fixture
def elsewhere(site, tmp_path) -> dict:
    """Where and how to run what knows the installed wheel and no clone."""
    return dict(cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(site)})


def command(site: Path) -> str:
    (script,) = site.glob("bin/rlhf-lab*")
    return str(script)


def tracked(*folders: str) -> set[str]:
    names = {path.relative_to(ROOT).as_posix() for path in tracked_files()}
    return {name for name in names if name.startswith(folders)}


def test_the_wheel_holds_what_git_tracks_and_is_small(dist):
    (wheel,) = dist.glob("*.whl")
    assert wheel.stat().st_size < 60 * MIB
    wanted = tracked("rlhf_lab/") | {
        f"rlhf_lab/_shipped/{name}" for name in tracked("data/", "notebooks/", "docs/")
    }
    assert len(wanted) > 700 and wanted - set(ZipFile(wheel).namelist()) == set()


def test_the_source_distribution_is_complete(dist):
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()}
    assert tracked("") - held == set()


def test_data_comes_from_the_wheel(site, elsewhere):
    where = "import rlhf_lab; print(rlhf_lab.__file__, rlhf_lab.base_model(), sep='\\n')"
    package, base = map(Path, run(sys.executable, "-c", where, **elsewhere).splitlines())
    assert package.is_relative_to(site) and base.is_relative_to(site)
    assert (base / "model.safetensors").is_file()


def test_the_demo_runs(site, elsewhere, tmp_path):
    assert "mark (points)" in run(command(site), "demo", "--smoke", **elsewhere)
    assert "mark" in (tmp_path / "runs/demo/report.html").read_text(encoding="utf-8")


def test_the_notebooks_are_written_and_run(site, elsewhere, tmp_path):
    run(command(site), "course", "notebooks", "course", **elsewhere)
    written = sorted(tmp_path.glob("course/*.ipynb"))
    assert {f"notebooks/{path.name}" for path in written} == tracked("notebooks/")
    course = [nbformat.read(path, as_version=4) for path in written]
    code = [[cell for cell in book.cells if cell.cell_type == "code"] for book in course]
    every = "\n".join(imports(cell.source) for cells in code for cell in cells)
    shortened = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(every), *code[5][:FIRST]])
    place = {"metadata": {"path": str(tmp_path / "course")}}
    NotebookClient(shortened, kernel_name="python3", resources=place).execute(env=elsewhere["env"])


def imports(source: str) -> str:
    """The imports of a cell."""
    tree = compile(source, "cell", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    found = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(map(ast.unparse, found))
