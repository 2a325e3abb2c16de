# Everything on a fresh machine: each target makes the environment first.
#   make results/compare/toolcall.json    any file under results/ works this way
#   make test                             all tests and checks
#   make check                            linters, types, layers, generated pages
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: all env test check docs faults clean FORCE

all: env
	$(BIN)/snakemake --cores all

env: $(READY)

# Written last, so its existence means that the installation completed.
$(READY): pyproject.toml envs/base.txt envs/dev.txt
	$(PYTHON) -c 'import sys; sys.exit("Fledgling needs Python 3.11 or newer: make PYTHON=python3.11 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

results/%: env FORCE
	$(BIN)/snakemake --cores all $@

test: env check
	$(BIN)/python -m pytest -n 2 tests/unit tests/graph tests/faults
	$(BIN)/python -m pytest tests/smoke tests/gpu

check: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/mypy --strict src
	$(BIN)/lint-imports --no-cache
	$(BIN)/python docs/describe.py --check
	$(BIN)/snakemake --lint

faults: env
	$(BIN)/python -m tests.faults

# docs/files.md, the JSON Schemas of the files under results/, and the table of keys in config/README.md.
docs: env
	$(BIN)/python docs/describe.py

clean:
	rm -rf results logs
