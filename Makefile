# make help lists the targets. Only Python 3.11 or newer (with its venv module) is needed.

VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= demo-output
EVENTS ?= 20000000
KILLS ?= 200

# scikit-learn's threads spin while they wait for a busy core unless told not to.
export OMP_WAIT_POLICY ?= PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help venv demo test chaos check format docs bench scale clean distclean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(VENV)/.dev ## create .venv with everything the targets below need

$(VENV)/bin/python:
	@for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  $$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' \
	    >/dev/null 2>&1 && python=$$candidate && break; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Python 3.11 or newer is needed and was not found (set PYTHON=/path/to/python3)." >&2; \
	  exit 1; \
	fi; \
	if ! $$python -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	  echo "Python's venv module is missing: apt-get install python3-venv" >&2; exit 1; \
	fi; \
	$$python -m venv $(VENV)

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing trace-engine and its tools into $(VENV) (once) ..."
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[bench]'
	@touch $@

demo: $(VENV)/.dev ## simulate a market, score it, write demo-output/report.html
	$(BIN)/trace-engine demo --out $(OUT)

# Kernels are compiled first and once: the workers then share them.
test: $(VENV)/.dev ## run the tests
	@$(BIN)/trace-engine warmup
	$(BIN)/python -m pytest

chaos: $(VENV)/.dev ## kill the service 200 times under load and check that nothing is lost (about 30 min)
	@$(BIN)/trace-engine warmup
	$(BIN)/python -m tests.service.chaos --kills $(KILLS)

check: $(VENV)/.dev ## lint, format, types, layers, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: $(VENV)/.dev ## sort imports and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev ## write the generated pages of docs/ again
	$(BIN)/python scripts/build_docs.py
	$(BIN)/python -m trace_engine.cli.reference docs/cli.md

bench: $(VENV)/.bench ## measure side by side with DuckDB, Polars and a bare read (EVENTS=20000000)
	$(BIN)/python benchmarks/score_vs_sql.py --events $(EVENTS)

scale: $(VENV)/.bench ## cost of an event and memory at 10, 30 and 100 million events
	$(BIN)/python benchmarks/scale.py

clean: ## remove what running and testing left behind
	rm -rf $(OUT) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find trace_engine tests benchmarks scripts examples -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## clean, and remove .venv and benchmark data
	rm -rf $(VENV) bench-data
