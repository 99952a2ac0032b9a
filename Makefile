# Every target sets up what it needs by itself: `make` and a Python of at least 3.11 are all it asks for.
#
#   make run ARGS="--log-format json"       more flags for the server (docs/configuration.md)
#   PORT=9000 make run                      another port; BIND=0.0.0.0 for every interface
#   make test ARGS="tests/documents -k README"
#   make run PYTHON=python3.13              another interpreter for a new .venv
#   make clean test CONSTRAINTS=/dev/null   the newest releases of everything, instead of those of constraints.txt

PYTHON ?= python3
BIND ?= 127.0.0.1
PORT ?= 8000
ARGS ?=
CONSTRAINTS ?= constraints.txt

VENV := .venv
IN_VENV := $(VENV)/bin/python
# Stamps say which sets of packages a virtualenv holds; they age with pyproject.toml and the constraints.
RUNTIME := $(VENV)/.runtime-installed
TOOLS := $(VENV)/.tools-installed
PLOTS := $(VENV)/.plots-installed
PIP_INSTALL := $(IN_VENV) -m pip install --quiet --disable-pip-version-check

# A virtualenv whose interpreter is gone (upgraded away, or never finished) holds nothing.
ifneq ($(shell test -x $(IN_VENV) && echo usable),usable)
$(shell rm -f $(RUNTIME) $(TOOLS) $(PLOTS))
endif

.DEFAULT_GOAL := help
.PHONY: help run test check docs audit bench bench-full bench-page guard openapi lock fmt clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(RUNTIME) ## Serve on http://127.0.0.1:8000 (PORT=, BIND=, ARGS="--engine ...")
	@exec $(IN_VENV) -m ratus --bind $(BIND) --port $(PORT) $(ARGS)

test: $(TOOLS) ## Run the tests in parallel (ARGS= goes to pytest)
	@$(IN_VENV) -m pytest -n auto $(ARGS)

check: $(TOOLS) ## Check format, lint, types, documents, the package, and known vulnerabilities
	@echo '--- format'
	@$(IN_VENV) -m ruff format --check .
	@echo '--- lint'
	@$(IN_VENV) -m ruff check .
	@echo '--- types'
	@$(IN_VENV) -m mypy
	@echo '--- documents and specification'
	@$(IN_VENV) -m pytest -q tests/documents tests/api/test_openapi.py
	@echo '--- documentation site'
	@$(MAKE) --no-print-directory docs
	@echo '--- package'
	@$(IN_VENV) scripts/check_package.py
	@echo '--- known vulnerabilities'
	@$(MAKE) --no-print-directory audit

docs: $(TOOLS) ## Build the documentation into site/, and check every link of it
	@$(IN_VENV) scripts/build_site.py
	@$(IN_VENV) scripts/check_site.py

audit: $(TOOLS) ## Compare what is installed with the known vulnerabilities
	@$(IN_VENV) scripts/audit.py $(ARGS)

bench: $(PLOTS) ## Run the quick set of benchmarks, in under five minutes (ARGS="--help" tells more)
	@$(IN_VENV) -m benchmarks $(ARGS)

bench-full: $(PLOTS) ## Run all benchmarks, with CSV files and plots (ARGS="growth waiting" only these)
	@$(IN_VENV) -m benchmarks --full $(ARGS)

bench-page: $(PLOTS) ## Write docs/performance.md and its plots from what bench-full found
	@$(IN_VENV) -m benchmarks.page benchmarks/results

guard: $(TOOLS) ## Count instructions of the hot paths against benchmarks/baseline.json (ARGS="--refresh")
	@$(IN_VENV) -m benchmarks.guard $(ARGS)

openapi: $(TOOLS) ## Write the specification anew from the routes and models
	@$(IN_VENV) -m scripts.openapi

lock: $(TOOLS) ## Pin anew what the container image and .venv install, at the newest releases
	@$(IN_VENV) scripts/lock_requirements.py

fmt: $(TOOLS) ## Format the code and apply the safe fixes
	@$(IN_VENV) -m ruff format .
	@$(IN_VENV) -m ruff check --fix .

clean: ## Remove .venv, caches and everything built
	@rm -rf $(VENV) build dist htmlcov site .cache .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUNTIME): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'Ratus needs Python 3.11 or newer as "$(PYTHON)"; name another one: make PYTHON=/path/to/python3' >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo '"$(PYTHON)" cannot make virtualenvs; on Debian and Ubuntu: apt-get install python3-venv' >&2; \
	  exit 1; }
	@test -x $(IN_VENV) || { echo 'Making $(VENV)'; $(PYTHON) -m venv --clear $(VENV); }
	@echo 'Installing Ratus into $(VENV)'
	@$(PIP_INSTALL) --constraint $(CONSTRAINTS) --editable '.[all]'
	@touch $@

$(TOOLS): $(RUNTIME)
	@echo 'Installing the development tools into $(VENV)'
	@# Dependency groups (PEP 735) need pip 25.1.
	@$(PIP_INSTALL) --constraint $(CONSTRAINTS) --upgrade 'pip>=25.1'
	@$(PIP_INSTALL) --constraint $(CONSTRAINTS) --group dev
	@touch $@

$(PLOTS): $(TOOLS)
	@echo 'Installing what the benchmarks draw with into $(VENV)'
	@$(PIP_INSTALL) --constraint $(CONSTRAINTS) --group bench
	@touch $@
