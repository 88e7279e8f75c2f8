# Two commands do everything: `make demo` and `make test`. `make` alone lists the rest.

PYTHON ?= python3
VENV   ?= .venv

BIN    := $(VENV)/bin
STAMP  := $(VENV)/.setup-done
PIP    := $(BIN)/python -m pip
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo lab lint test test-unit test-notebooks test-browser \
  test-large gpu-smoke notebooks student dist bench clean

help:  ## list what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | \
	  awk -F'|' '{ printf "%-22s %s\n", $$1, $$2 }'

setup: $(STAMP)  ## make the environment in .venv (needs the network once)

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "No '$(PYTHON)' here. Install Python 3.11 or later, or name yours:"; \
	  echo "  make setup PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "'$(PYTHON)' is $$($(PYTHON) --version 2>&1), and 3.11 or later is needed."; \
	  echo "If you have one, name it: make setup PYTHON=python3.12"; exit 1; }
	@$(PIP) --version >/dev/null 2>&1 || $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "This Python cannot make virtual environments."; \
	  echo "On Debian or Ubuntu: apt install python3-venv. With conda: see environment.yml."; \
	  exit 1; }
	@$(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { \
	  echo "Could not make the virtual environment $(VENV). Delete that folder and try again."; \
	  exit 1; }
	$(PIP) install --disable-pip-version-check -c constraints.txt -e '.[dev]' || { \
	  echo "The installation stopped: the reason is above. It needs the network and a few GB of"; \
	  echo "disk. 'make setup' goes on from here."; exit 1; }
	@touch $@

demo: $(STAMP)  ## train all three stages, compare, and write a report (TASK=NAME for another world)
	$(BIN)/rlhf-lab demo --out runs/demo$(TASK:%=_%) $(TASK:%=--task %)

lab: $(STAMP)  ## copy the notebooks to course/ unless they are there, and open them in JupyterLab
	test -e course || $(BIN)/rlhf-lab course notebooks course
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/course/00_tour.ipynb $(LAB_ARGS)

test: lint test-unit test-notebooks test-browser  ## lint, then all tests, offline

lint: $(STAMP)  ## style, formatting, import order and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/mypy

# Nothing in these tests may reach for the network: what they need is in the clone.
test-unit test-notebooks test-browser: export HF_HUB_OFFLINE = 1

test-unit: $(STAMP)  ## the unit tests
	$(PYTEST)

test-notebooks: $(STAMP)  ## run every notebook and compare with its saved outputs
	$(PYTEST) --nbval --nbval-current-env --nbval-cell-timeout=600 \
	  --nbval-sanitize-with tests/nbval_sanitize.cfg notebooks/

test-browser: $(STAMP)  ## run the tour in JupyterLab in Chromium, where there is one
	$(PYTEST) -m browser -rs tests/browser

test-large: $(STAMP)  ## a real pretrained model through all three stages: fetches 93 MB, a quarter of an hour
	$(PYTEST) -m large tests/large

gpu-smoke: $(STAMP)  ## the tests that need a GPU
	$(PYTEST) -m gpu

notebooks: $(STAMP)  ## run every notebook and save it with fresh outputs
	$(BIN)/python tests/tools/execute_notebooks.py notebooks/*.ipynb

student: $(STAMP)  ## write the notebooks without solutions into build/student, for a class
	$(BIN)/rlhf-lab course student build/student notebooks/*.ipynb

dist: $(STAMP)  ## build the wheel and the source distribution into dist/
	rm -rf dist
	$(BIN)/python -m hatchling build

bench: $(STAMP)  ## sampling speed beside transformers' (beside TRL: see benchmarks/)
	$(BIN)/python benchmarks/sampling.py

clean:  ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .hypothesis .pytest_cache .ruff_cache \
	  .mypy_cache .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -prune -exec rm -rf {} +
