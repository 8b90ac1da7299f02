# make book    the whole book, trained live on this machine      make help    the rest
SCALE  ?= laptop
VENV   ?= .venv
# The first Python that is new enough.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
EXTRAS ?= book,test
LOWEST := .venv-lowest

VENV_BIN := $(abspath $(VENV))/bin
PY       := $(VENV_BIN)/python
STAMP    := $(VENV)/.edlm-installed
export PATH := $(VENV_BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help book edition test quick test-lowest lock doctor install clean
.DEFAULT_GOAL := help

help:           ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12
	@echo "variables:  SCALE=smoke|laptop|cpu|gpu (now $(SCALE))  VENV=folder  PYTHON=interpreter"

book: $(STAMP)  ## execute every chapter at SCALE and render the book into _book/
	$(PY) -m lib book --scale $(SCALE)

edition: $(STAMP)  ## refresh the committed chapters by replaying the stored results
	$(PY) -m lib edition

test: $(STAMP)  ## every test
	$(PY) -m pytest

quick: $(STAMP)  ## the tests that take no more than a few seconds each
	$(PY) -m pytest -m "not slow"

test-lowest: $(LOWEST)/.installed  ## the fast tests with the lowest versions that pyproject.toml allows, in .venv-lowest
	PYTHONPATH=. $(LOWEST)/bin/python -m pytest -m "not slow"

$(LOWEST)/.installed: pyproject.toml
	$(PYTHON) -m venv --clear $(LOWEST)
	$(PYTHON) tests/lowest_versions.py >$(LOWEST)/versions.txt
	$(LOWEST)/bin/python -m pip install --quiet -r $(LOWEST)/versions.txt
	@touch $@

lock: $(STAMP)  ## pin the newest versions and their hashes in requirements.lock
	$(PY) -m pip install --quiet uv
	$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes --no-emit-index-url \
		--no-header --no-annotate --all-extras pyproject.toml -o requirements.lock

doctor: $(STAMP)  ## what this machine has: devices, tools, data sets, stored results
	$(PY) -m lib doctor

install: $(STAMP)  ## create VENV and install the book's packages into it

clean:          ## remove what was built; runs/ (your own results) and VENV stay
	rm -rf _build _book .quarto .snakemake .pytest_cache

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and none was found; name one with PYTHON=..."; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { rm -f $(PY); \
		echo "$(PYTHON) could not create $(VENV); on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "installing into $(VENV) (PyTorch is large: minutes, the first time only)"
	@$(PY) -m pip install --quiet -e ".[$(EXTRAS)]"
	@test -n "$(QUARTO_PATH)" || command -v quarto >/dev/null || $(PY) -m pip install --quiet quarto-cli >$(VENV)/quarto-install.log 2>&1 || \
		echo "Quarto was not found and could not be installed: the book is rendered as a plain preview (https://quarto.org has installers)"
	@touch $@
