# Two commands: `make demo` runs the main job on the default data, `make test` checks everything.
# Both make their own environment in .venv, with uv where it is installed and pip otherwise, and reuse it.

PYTHON ?= python3
BIN := .venv/bin
INSTALL = $(if $(shell command -v uv),uv pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet --disable-pip-version-check)

.PHONY: demo test test-slow search clean

demo: .venv/installed
	$(BIN)/deeplinear learn

test: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --threads 2
	$(BIN)/pytest -q -n 2 --dist loadfile -m 'not slow and not alone' --durations=20
	XLA_FLAGS= $(BIN)/pytest -q -m alone tests

search: .venv/tested
	$(BIN)/pytest -q -n 2 --dist worksteal -m search --hypothesis-profile search --durations=20 tests

test-slow: .venv/tested
	XLA_FLAGS= $(BIN)/pytest -q -n 2 --dist loadfile -m 'not alone' --hypothesis-profile thorough --durations=20

.venv/bin/python:
	$(if $(shell command -v uv),uv venv --quiet --python $(PYTHON) .venv,$(PYTHON) -m venv .venv)

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) --constraint constraints.txt --editable .
	@touch $@

.venv/tested: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) --constraint constraints.txt --editable '.[test]'
	@touch $@ .venv/installed

clean:
	rm -rf .venv
