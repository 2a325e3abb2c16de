# Everything on a fresh machine: each target makes the environment first.
#   make results/compare/toolcall.json    any file under results/ works this way
#   make test                             all tests and checks
#   make check                            linters, types, layers, generated pages
#   make console                          the operator's page on http://localhost:4000
#   make cluster                          the graph on a throwaway Slurm, with everything that can break there
#   make real                             llama.cpp's server and a real small model, to a verdict (about four minutes)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests start commands of the environment by their names, as people with an active one do.
PYTEST := PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest

.PHONY: all env test check cluster docs console faults real clean FORCE

all: env
	$(BIN)/snakemake --cores all

env: $(READY)

# Written last, so its existence means that the installation completed.
$(READY): pyproject.toml $(wildcard envs/*.txt)
	$(PYTHON) -c 'import sys; sys.exit("Fledgling needs Python 3.11 or newer: make PYTHON=python3.11 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python envs/install.py '.[console,cluster,azure,dev]'
	$(BIN)/python -m pip install --quiet --no-deps -r envs/slurm.txt
	touch $@

results/%: env FORCE
	$(BIN)/snakemake --cores all $@

# The browser's part of tests/console skips, with a word, where Chromium is not installed.
test: env check
	$(PYTEST) -n 2 tests/unit tests/graph tests/faults
	$(PYTEST) tests/console
	$(PYTEST) tests/smoke tests/gpu

# Needs Debian's slurmctld slurmd slurm-client munge.
cluster: env
	FLEDGLING_REQUIRE_SLURM=1 $(PYTEST) -n 4 tests/cluster

real: env
	$(BIN)/python -m pip install --quiet --no-deps -r envs/real.txt
	$(PYTEST) -rP tests/real

console: env
	$(BIN)/fledgling console

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
