# make demo   set everything up, simulate a genome of known entropy and train on it
# make test   set everything up and run every test;  make test-fast leaves out the slow ones
# make check  lint and types
# make bench  every comparison with what else there is, into benchmarks/RESULTS.md;  GENOME=FILE for real sequence
# make bench-gpu   those that ask for a GPU, into benchmarks/RESULTS-gpu.md
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-fast check bench bench-gpu clean

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	DS_BUILD_OPS=0 $(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,deepspeed]'
	touch $@

demo: .venv/.installed
	$(BIN)/genolm demo --out runs/demo

test: .venv/.installed check
	$(BIN)/python -m pytest -n auto

test-fast: .venv/.installed
	$(BIN)/python -m pytest -n auto -m "not slow"

check: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: .venv/.installed
	$(BIN)/pip install --quiet --requirement benchmarks/requirements.txt
	$(BIN)/python benchmarks/run.py $(if $(GENOME),--genome $(GENOME))

bench-gpu: .venv/.installed
	$(BIN)/python benchmarks/run.py --gpu

clean:
	rm -rf .venv runs
