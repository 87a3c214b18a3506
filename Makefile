# Everything runs from .venv, which `.ci/setup.sh` makes by itself.

VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin

.PHONY: help demo test lint docs bench soak packages clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(READY) packages ## show lbhealth at work on a load balancer in this machine's memory
	$(BIN)/python tests/demo/demo.py

test: $(READY) packages ## run every check: ruff, mypy, pytest, docs
	.ci/test.sh

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY) ## build the documentation into docs/_build/html
	$(BIN)/sphinx-build -n -W -b html docs docs/_build/html

bench: $(READY) packages ## measure lbhealth against its peers
	$(BIN)/python tests/bench/run.py

soak: $(READY) ## run the property tests with many more examples
	$(BIN)/pytest -n 2 --hypothesis-profile=soak --timeout=3600 tests/core

packages: # Debian packages that the tests use; needs root, else tests are skipped
	@.ci/setup.sh packages

clean: ## remove everything that the targets made
	rm -rf $(VENV) build dist docs/_build .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt .ci/setup.sh $(wildcard plugins/*/pyproject.toml)
	.ci/setup.sh venv
	@touch $@
