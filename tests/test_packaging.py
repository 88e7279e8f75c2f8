"""What installs the project, and what is in the clone: the files agree with one another."""

import importlib
import re
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import nbformat
import pytest
import yaml
from execute_notebooks import WIDGET_VIEW, clean
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import rlhf_lab

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MIB = 1024 * 1024
NOT_IN_A_CLONE = {
    *(".git", ".venv", "runs", "build", "dist", "__pycache__", ".ipynb_checkpoints"),
    *(".mypy_cache", ".ruff_cache", ".pytest_cache", ".import_linter_cache"),
}


def declared() -> list[Requirement]:
    """Every requirement of pyproject.toml, those of the extras included."""
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(line) for group in (PROJECT["dependencies"], *extras) for line in group]


def constraints() -> dict[str, Version]:
    """Package name to pinned version; every line of constraints.txt must be such a pin."""
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            assert canonicalize_name(name) not in pins, f"{name} stands twice"
            pins[canonicalize_name(name)] = Version(version)
    return pins


def supported_pythons() -> list[Version]:
    """The minor versions of Python that pyproject.toml lists as supported, in order."""
    found = (
        re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line)
        for line in PROJECT["classifiers"]
    )
    return sorted(Version(match[1]) for match in found if match)


def tracked_files() -> list[Path]:
    """The files git tracks, or without git (a downloaded archive) those a clone would have."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode == 0 and listing.stdout:
        paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    else:
        paths = [p for p in ROOT.rglob("*") if not NOT_IN_A_CLONE & set(p.relative_to(ROOT).parts)]
    return [path for path in paths if path.is_file()]


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_every_dependency_is_pinned_within_its_bounds(requirement):
    pins = constraints()
    name = canonicalize_name(requirement.name)
    assert name in pins
    assert requirement.specifier.contains(pins[name])


def test_pins_are_exact_portable_and_in_order():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    assert all(re.fullmatch(r"[a-z0-9.-]+==[a-z0-9.]+", line) for line in lines)
    assert lines == sorted(lines)


@pytest.mark.parametrize(
    "system", [("darwin", "Darwin", "posix"), ("win32", "Windows", "nt")], ids=lambda s: s[1]
)
def test_everything_a_dependency_brings_along_is_pinned_too(system):
    # What Linux alone needs is PyTorch's CUDA libraries, whose versions PyTorch itself names.
    there = default_environment() | dict(
        zip(("sys_platform", "platform_system", "os_name"), system, strict=True)
    )
    pins, waiting, seen = constraints(), [(r.name, r.extras) for r in declared()], set()
    while waiting:
        name, extras = waiting.pop()
        name = canonicalize_name(name)
        if (name, tuple(extras)) in seen:
            continue
        seen.add((name, tuple(extras)))
        assert name in pins, f"{name} is not in constraints.txt"
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # an extra that is not installed
            continue
        for line in map(Requirement, lines):
            environments = [there | {"extra": extra} for extra in ("", *extras)]
            if line.marker is None or any(map(line.marker.evaluate, environments)):
                waiting.append((line.name, line.extras))
    assert len(seen) > len(declared())


def test_environment_for_conda_and_binder_installs_the_project_under_its_constraints():
    *conda, pip = ENVIRONMENT["dependencies"]
    assert ENVIRONMENT["name"] == PROJECT["name"]
    assert [line.split("=")[0] for line in conda] == ["python", "pip"]
    assert pip == {"pip": ["-c constraints.txt", "-e .[dev]"]}


def test_python_versions_agree():
    pythons = supported_pythons()
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    python = ENVIRONMENT["dependencies"][0].removeprefix("python=")
    assert Version(python) in pythons
    minors = [version.minor for version in pythons]
    assert minors == list(range(minors[0], minors[-1] + 1))


def test_what_names_the_version_names_the_same_one():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)$", changes, re.MULTILINE)[1]
    assert citation["version"] == newest == rlhf_lab.__version__
    assert citation["license"] == PROJECT["license"]


def test_a_kernel_that_loses_threads_is_refused():
    kernel = next(r for r in declared() if r.name == "ipykernel").specifier
    assert [kernel.contains(v) for v in ("6.31.0", "7.0.0", "7.0.1", "7.1.0")] == [
        True,
        False,
        False,
        True,
    ]


def test_console_script_exists():
    module, function = PROJECT["scripts"]["rlhf-lab"].split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_license_is_apache_2():
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert text.split()[:6] == ["Apache", "License", "Version", "2.0,", "January", "2004"]
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_clone_is_small():
    sizes = {str(path.relative_to(ROOT)): path.stat().st_size for path in tracked_files()}
    assert "pyproject.toml" in sizes
    assert {name: size for name, size in sizes.items() if size > 15 * MIB} == {}
    assert sum(sizes.values()) < 100 * MIB


def test_there_is_a_tour():
    assert ROOT / "notebooks" / "00_tour.ipynb" in NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_is_committed_with_the_outputs_of_one_run(path):
    # nbval compares nothing in a cell that was never executed, so a stripped notebook would pass.
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert clean(nbformat.from_dict(notebook)) == nbformat.read(path, as_version=4)


def test_clean_drops_what_is_volatile_and_keeps_the_rest():
    both = nbformat.v4.new_output(
        "display_data", {WIDGET_VIEW: {"model_id": "1"}, "text/html": "<b>4</b>"}
    )
    cell = nbformat.v4.new_code_cell("x", outputs=[both], metadata={"tags": ["keep"]})
    cell.metadata["execution"] = {"iopub.status.busy": "2026-01-01T00:00:00Z"}
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {"state": {}}})
    notebook.metadata["language_info"] = {"name": "python", "version": "3.11.7"}

    cleaned = clean(notebook)

    assert cleaned.cells[0].outputs[0].data == {"text/html": "<b>4</b>"}
    assert cleaned.cells[0].metadata == {"tags": ["keep"]}
    assert set(cleaned.metadata) == {"kernelspec", "language_info"}
    assert cleaned.metadata["language_info"] == {"name": "python"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("<object at 0x7f3a2c1b9d50>", "<object at 0x10a2b3c4d>", True),
        ("took 1.25 s", "took 13 s", True),
        ("in 1 min 20 s", "in 2 min 3.5 s", True),
        (" 40%|####      | 4/10 [00:01<00:02, 2.9it/s]", " 40%|### | 4/10 [00:11, 1.9s/it]", True),
        ("1234 tokens/s", "99.5 tokens/s", True),
        ('clip-path="url(#p0123456789)"', 'clip-path="url(#pabcdef0123)"', True),
        ("mean mark 0.61", "mean mark 0.62", False),
        ("tokens (4, 12)", "tokens (4, 13)", False),
        ("epoch 3: loss 1.5", "epoch 4: loss 1.5", False),
    ],
)
def test_sanitising_hides_times_and_addresses_but_no_results(one, other, same):
    pairs = re.findall(
        r"^regex: (.*)\nreplace: (.*)$", (ROOT / "tests/nbval_sanitize.cfg").read_text(), re.M
    )
    assert len(pairs) >= 8

    def sanitise(text: str) -> str:
        for regex, replacement in pairs:
            text = re.sub(regex, replacement, text)
        return text

    assert (sanitise(one) == sanitise(other)) is same
