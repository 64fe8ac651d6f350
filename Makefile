# make demo   set everything up, simulate a genome of known entropy and train on it;  STEPS=100 for a short one
# make test   set everything up, lint, and run the tests;  make test-fast leaves out the slow ones
# make test-nightly   the long proofs: every published recipe, many random kills, the GPU check on a CPU
# make wheel  build wheel and sdist, install the wheel in a fresh environment elsewhere, and use it there
# make check  lint, types, the order of imports and the words of the package
# make docs   the documentation, into site/
# make bench  every comparison with what else there is, into benchmarks/RESULTS.md;  GENOME=FILE for real sequence
# make bench-gpu   those that ask for a GPU, into benchmarks/RESULTS-gpu.md
PYTHON ?= python3
BIN := .venv/bin
# Neighbouring tests stay on one worker, which keeps the fixtures they share; an idle worker takes from a busy one.
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: demo test test-fast test-nightly wheel check docs bench bench-gpu clean

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	DS_BUILD_OPS=0 $(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,deepspeed]'
	touch $@

demo: .venv/.installed
	$(BIN)/genolm demo $(if $(STEPS),--steps $(STEPS)) --out runs/demo

test: .venv/.installed check
	$(PYTEST) -m "not nightly"

test-fast: .venv/.installed
	$(PYTEST) -m "not slow and not nightly"

test-nightly: .venv/.installed
	$(PYTEST) -m nightly

wheel: .venv/.installed
	rm -rf dist
	$(BIN)/pip install --quiet build
	$(BIN)/python -m build --outdir dist . > /dev/null
	$(PYTHON) .ci/smoke.py dist

check: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/test_language.py tests/test_imports.py

docs: .venv/.installed
	$(BIN)/mkdocs build --strict

bench: .venv/.installed
	$(BIN)/pip install --quiet --requirement benchmarks/requirements.txt
	$(BIN)/python benchmarks/run.py $(if $(GENOME),--genome $(GENOME))

bench-gpu: .venv/.installed
	$(BIN)/python benchmarks/run.py --gpu

clean:
	rm -rf .venv runs dist build site
