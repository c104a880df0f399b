# Each target does its own set-up; a fresh clone needs nothing but Python 3.10 or newer and pip's package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test lint format clean

demo: $(VENV)/.package
	$(BIN)/mmgraph demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	@$(PYTHON) -c "import sys; sys.exit(0 if sys.version_info >= (3, 10) else 'Python 3.10 or newer is needed, found ' + sys.version.split()[0] + '; try: make $(MAKECMDGOALS) PYTHON=python3.11')"
	@# Half of one would pass for a whole one in the next call.
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "No virtual environment could be made; on Debian and Ubuntu: apt install python3-venv"; exit 1; }

$(VENV)/.package: $(BIN)/python pyproject.toml constraints.txt
	@echo "Setting up $(VENV), once: torch is downloaded"
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.package
	@echo "Adding what tests and linters need"
	$(PIP) install --quiet --constraint constraints.txt --editable ".[test,lint]"
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
