# `make train` and `make test` are all that a new machine needs. Both make `.venv` and install into it first. `make docs` builds the site.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: train test check docs linkcheck clean

train: $(VENV)/installed
	$(BIN)/heron train $(ARGS)

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/installed-dev
	$(BIN)/sphinx-build -b html -W --keep-going -n docs docs/_build/html $(ARGS)

linkcheck: $(VENV)/installed-dev  # asks every other site that the pages name, so it needs a network
	$(BIN)/sphinx-build -b linkcheck -n docs docs/_build/linkcheck $(ARGS)

$(VENV)/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[ui]'
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache docs/_build
