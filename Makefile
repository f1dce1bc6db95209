# What a person, the README and the continuous integration run. `make` alone lists the targets.
SHELL := /bin/sh
BIN := .venv/bin
READY := .venv/.ready
NATIVE := .venv/.native
PYTEST := $(BIN)/python -m pytest
SHAPES := --jaxtyping-packages=regard,beartype.beartype
# A file's tests stay in one process, since they share what they trained; conftest.py puts the longest files first.
SIDE_BY_SIDE := --numprocesses=auto --maxprocesses=8 --dist=loadfile --no-loadscope-reorder

# OpenMP's threads spin only shortly while they wait: longer, they starve each other where another process uses a core.
export GOMP_SPINCOUNT ?= 1000

.DEFAULT_GOAL := help
.PHONY: help setup native native-sanitized demo demo-fast test test-compiled coverage check lint types layers docs environment wheel bench clean

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

setup: $(READY) $(NATIVE) ## make .venv with everything that the other targets need; nothing to do the second time

$(READY): pyproject.toml constraints.txt data-packages.txt
	@PYTHON="$(PYTHON)" sh scripts/setup.sh

# A part of setup, so that no target runs kernels older than their sources; where there is no compiler it says so.
$(NATIVE): $(READY) $(wildcard native/CMakeLists.txt native/pyproject.toml native/src/* native/regard_native/*.py)
	@$(BIN)/python scripts/build_native.py --optional

native: $(READY) ## build the native attention kernels again; setup does where a C++ compiler is
	@$(BIN)/python scripts/build_native.py

native-sanitized: setup ## look for wrong addresses, undefined behaviour and races in the native kernels; some minutes
	@$(BIN)/python scripts/check_native.py address,undefined tests/native/grid.py
	@$(BIN)/python scripts/check_native.py thread tests/native/grid.py

demo: setup ## fine-tune a real BERT on real news, watch every head, end with a verdict and a report
	@$(BIN)/regard demo

demo-fast: setup ## the same on a small setting of the same data, in about a minute
	@$(BIN)/regard demo --fast

test: setup ## run the whole test suite with every shape annotation checked
	@echo "Running the test suite, a process for each core; some twenty minutes on two."
	@$(PYTEST) -m "not compiled" $(SHAPES) $(SIDE_BY_SIDE)

coverage: setup ## the test suite in one process, and which lines and branches of regard it does not run
	@$(PYTEST) -m "not compiled" $(SHAPES) --cov --cov-report=term:skip-covered

test-compiled: setup ## run the tests of compiled functions, which the shape hook would disturb
	@$(PYTEST) -m compiled

check: lint types layers environment wheel docs ## everything that is checked without running the tests

lint: setup
	@echo "check: lint and format"
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: setup
	@echo "check: types"
	@$(BIN)/mypy

layers: setup
	@echo "check: who may import whom"
	@$(BIN)/lint-imports --no-logo

environment: setup
	@echo "check: the environment is the one that was asked for"
	@$(BIN)/python scripts/check_environment.py

wheel: setup
	@echo "check: what the wheels hold"
	@$(BIN)/python scripts/check_wheel.py
	@$(BIN)/python scripts/check_native_wheel.py

docs: setup ## build the documentation into site/ and verify its links
	@echo "check: documentation"
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@$(BIN)/python scripts/check_site.py site

bench: setup ## run every benchmark that needs no run of yours; each measures ours and the peer in turn and prints ratios
	@for program in $$(grep -l '^if __name__ ==' benchmarks/*.py | grep -v alignment.py); do echo "$$program"; $(BIN)/python "$$program" || exit 1; done

clean: ## remove what was built and cached; .venv and runs/ stay
	@rm -rf site build dist native/build .setup .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find src tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
