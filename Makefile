# Everything here sets itself up: a machine with Python 3.11 or newer and make is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCHMARKS := $(filter-out report,$(basename $(notdir $(wildcard benchmarks/[a-z]*.py))))
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: help demo test check bench examples clean

help:
	@echo "make demo   simulated reflectometer, live analysis, adaptive plan, storage, replay"
	@echo "make test   the whole test suite"
	@echo "make check  linters, types, import contracts, contents of wheel and sdist"
	@echo "make bench  side by side with the peers"

# torch first and by its pin, so that nothing else chooses its build; on Linux the public index has the one with GPU
# libraries, some gigabytes more: point pip at an index or a folder with a CPU build of this pin to be spared them
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip setuptools wheel
	$(PIP) torch

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[demo]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/.demo

$(VENV)/.bench: $(VENV)/.dev
	$(PIP) --editable '.[bench]'
	touch $@

demo: $(VENV)/.demo
	$(BIN)/skyloop demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses 2

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --quiet tests/test_packaging.py

examples: $(VENV)/.dev
	for script in examples/[0-9]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

bench: $(VENV)/.bench
	mkdir -p build
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name --json build/$$name.json || exit 1; done
	$(BIN)/python -m benchmarks.report $(BENCHMARKS:%=build/%.json) > docs/benchmarks.md

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info .pytest_cache .ruff_cache .hypothesis
