# Everything happens in .venv inside this folder. A fresh machine needs Python 3.11 and a C compiler, nothing else.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# RERUNS=1 tries a failed test once more, and says so: for machines that other work slows down at random.
RERUNS ?= 0
export RERUNS
PARALLEL = -n $(JOBS) --dist loadfile $(if $(filter-out 0,$(RERUNS)),--reruns $(RERUNS) -rfEsR) -p no:benchmark
# Test arguments: make test ARGS="-k top -x"; JOBS=0 runs them one after the other, in one process.
ARGS ?=
JOBS ?= auto
# What `make bench-docs` may take, and the builds of CPython that it measures.
MINUTES ?= 25
PYTHONS ?= $(wildcard /usr/bin/python3.11) $(BIN)/python

NATIVE := $(wildcard src/fastalloc/native/*.c src/fastalloc/native/*.h src/fastalloc/_core.pyx src/fastalloc/_core.pxd src/fastalloc/*.pxi)

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

$(VENV)/.locked: requirements-dev.lock
	@command -v $(PYTHON) >/dev/null || { echo "need $(PYTHON) (or say: make PYTHON=/path/to/python3.11 ...)" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	@touch $@

$(VENV)/.installed: $(VENV)/.locked pyproject.toml setup.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/.built: $(VENV)/.installed $(NATIVE)
	$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

.PHONY: build
build: $(VENV)/.built ## make .venv and compile the core into it

TOOLS := build/tools
$(TOOLS)/.locked: tools/wheels/requirements.txt
	@command -v $(PYTHON) >/dev/null || { echo "need $(PYTHON) (or say: make PYTHON=/path/to/python3.11 ...)" >&2; exit 1; }
	test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

.PHONY: demo
demo: build ## a web service is killed for its memory; see what its recording says
	$(BIN)/python -m fastalloc demo $(ARGS)

.PHONY: test
test: build ## the quick tests
	$(PYTEST) $(PARALLEL) -m "not slow" $(ARGS)

.PHONY: test-slow
test-slow: build ## only the slow tests
	$(PYTEST) $(PARALLEL) -m slow $(ARGS)

.PHONY: test-all
test-all: build ## all tests
	$(PYTEST) $(PARALLEL) $(ARGS)

.PHONY: test-pythons
test-pythons: $(TOOLS)/.locked ## the core's tests on Python 3.12 to 3.15, where they can be found
	@tools/test-pythons 3.12 3.13 3.14 3.15

.PHONY: test-free-threaded
test-free-threaded: build $(TOOLS)/.locked ## CPythons without the GIL, compiled from Debian's sources: the recorder refuses them
	for version in 3.13 3.14 3.15; do \
	  tools/debian-python $$version "$$(dpkg --print-architecture)" build/pythons/$$version-free-threaded --free-threaded || test $$? = 3; done
	$(PYTEST) -p no:benchmark tests/packaging/test_free_threaded.py

.PHONY: smoke-test
smoke-test: $(TOOLS)/.locked ## one aarch64 wheel, built, installed and used under emulation
	@wheels-arm64/smoke-test

.PHONY: lint
lint: build ## ruff, types, and our C compiled with warnings as errors
	FASTALLOC_WERROR=1 $(BIN)/python setup.py --quiet build_ext --force --build-temp build/warnings --build-lib build/warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --no-print-directory types

.PHONY: format
format: $(VENV)/.locked ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: types
types: build ## mypy, strict; the core's stub against the compiled core
	$(BIN)/mypy
	if test -f src/fastalloc/_core.pyi; then $(BIN)/stubtest fastalloc._core; fi

.PHONY: bench
bench: build ## the workloads with pytest-benchmark; ARGS="compare --help" for one of benchmarks' commands instead
	$(if $(ARGS),$(BIN)/python -m benchmarks $(ARGS),$(PYTEST) benchmarks/bench_workloads.py --benchmark-columns=median,iqr,ops,rounds)

.PHONY: bench-docs
bench-docs: build ## measure again all that docs/benchmarks.md and README.md quote; MINUTES=25 PYTHONS="..."
	$(BIN)/python -m benchmarks docs --minutes $(MINUTES) --python $(PYTHONS) $(ARGS)

.PHONY: docs
docs: build ## check that the docs name every command and option
	$(PYTEST) tests/test_docs.py tests/test_words.py $(ARGS)

.PHONY: wheels
wheels: $(TOOLS)/.locked ## wheels for x86_64 and aarch64, checked, in dist/; ARGS="--pythons 3.13" for some
	$(TOOLS)/bin/python tools/wheels/build.py $(ARGS)

.PHONY: try-wheels
try-wheels: $(TOOLS)/.locked ## install, record, kill, read, export with each wheel in dist/, aarch64 under emulation
	$(TOOLS)/bin/python tools/wheels/try_all.py $(ARGS)

.PHONY: lock
lock: ## write requirements-dev.lock anew from pyproject.toml
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --upgrade pip
	build/lock/bin/python -m pip install --quiet --group dev numpy pyelftools rich
	{ echo "# What development is done with. Written by \`make lock\` from pyproject.toml; do not edit."; \
	  build/lock/bin/python -m pip freeze --all --exclude pip --exclude wheel | \
	    sed "s/^atheris==.*/& ; platform_machine == 'x86_64'/"; } > requirements-dev.lock

.PHONY: clean
clean: ## remove what was built, the environments too
	rm -rf build dist .venv .venv-* src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f src/fastalloc/*.so
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
