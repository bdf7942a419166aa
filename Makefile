# Everything a person or CI does here. Needs git, make and python3 with venv (and apt-get, as root, where a service is
# missing); the rest comes from PyPI and Debian. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# uv from PATH, else our own in .venv-tools. Its Python is the machine's: none is downloaded.
UV := $(or $(shell command -v uv),.venv-tools/bin/uv)
export UV_PYTHON_DOWNLOADS := never
# Where the machine has a list of authorities it is used, as a company's own may be in it.
ifneq (,$(wildcard /etc/ssl/certs/ca-certificates.crt))
export UV_SYSTEM_CERTS ?= true
endif
RUN := $(UV) run --no-sync
FAST := not docker and not root and not browser and not postgres and not rabbitmq and not compose and not systemd and not slow

.PHONY: help setup demo check lint test nightly bench clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 20

setup: .venv/.ready ## install what is needed into .venv

.venv/.ready: pyproject.toml uv.lock | $(UV)
	$(UV) sync --quiet --locked --compile-bytecode
	@touch $@

.venv-tools/bin/uv:
	python3 -m venv .venv-tools
	.venv-tools/bin/pip install --quiet 'uv>=0.8'

demo: setup ## run a pipeline of examples/, in Docker where an engine answers or may be started
	@UV='$(UV)' scripts/demo

check: lint ## format, lint, types, imports, fast tests
	$(RUN) pytest -q -n auto -m '$(FAST)' --ignore=tests/simulation --ignore=tests/acceptance

lint: setup ## format, lint, types, imports
	$(RUN) ruff format --check --quiet .
	$(RUN) ruff check --quiet .
	$(RUN) mypy
	$(RUN) lint-imports --verbose

test: setup ## all tests, with the services they need (started here where none answers)
	scripts/services up
	@source .services/env && $(RUN) pytest -n auto -m '$(FAST)' --ignore=tests/acceptance $(PYTEST_ARGS)
	@source .services/env && $(RUN) pytest -m 'not ($(FAST))' --ignore=tests/acceptance $(PYTEST_ARGS)
	@source .services/env && $(RUN) pytest tests/acceptance $(PYTEST_ARGS)

nightly: setup ## the simulation with 20,000 histories
	STRETTO_SIM_HISTORIES=20000 $(RUN) pytest --timeout=0 tests/simulation

bench: setup ## the measures of bench/, into bench/results.md
	scripts/services up
	@source .services/env && $(RUN) python -m bench.run "$$(date -u +%F)"

clean: ## stop the services and delete what was made here
	if [ -d .services ]; then scripts/services down && rm -rf .services; fi
	rm -rf .venv .venv-tools build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
