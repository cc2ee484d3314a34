# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
ENGINE ?= sqlite
PROFILE ?= standard

.PHONY: help demo test check bench chaos docs format clean
.DELETE_ON_ERROR:

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "celeriac needs Python 3.11 or newer; set PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@

$(VENV)/.test: $(VENV)/.installed
	$(PIP) --group test
	@touch $@

$(VENV)/.check: $(VENV)/.test
	$(PIP) --group check
	@touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(PIP) --group docs
	@touch $@

demo: $(VENV)/.installed ## The main job on real input: map-reduce over the standard library's source
	$(BIN)/celeriac demo

test: $(VENV)/.test ## The whole test suite, with real processes and real files
	$(BIN)/python -m pytest -n 4 --dist loadgroup $(PYTEST_ARGS)

check: $(VENV)/.check ## Format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: $(VENV)/.test ## Every figure of docs/benchmarks.md beside its rivals, in the same run; ENGINE=redis or rabbitmq: there
	$(BIN)/python -m benchmarks --engine $(ENGINE) $(BENCH_ARGS)

chaos: $(VENV)/.test ## The fault campaign, ten minutes; PROFILE=short (90 s) or long (two hours); docs/reliability.md is its report
	$(BIN)/python -m chaos --profile $(PROFILE) $(CHAOS_ARGS)

docs: $(VENV)/.docs ## Build the documentation into site/
	$(BIN)/mkdocs build --strict

format: $(VENV)/.check ## Rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove what make made
	rm -rf $(VENV) site build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
