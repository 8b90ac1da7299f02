# make book    the whole book, trained live on this machine      make help    the rest
SCALE  ?= laptop
VENV   ?= .venv
# The first Python that is new enough.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
EXTRAS ?= book,test
TORCH  ?= auto

# Make splits names at spaces and the shell reads quotes, so paths reach the recipes as variables of the shell's.
export VENV PYTHON EXTRAS TORCH SCALE LOCKED
export PATH := $(if $(filter /%,$(VENV)),$(VENV),$(CURDIR)/$(VENV))/bin:$(PATH)

.PHONY: help book edition test quick coverage test-lowest lock doctor install clean
.DEFAULT_GOAL := help

help:           ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12
	@echo "variables:  SCALE=smoke|laptop|cpu|gpu (now $$SCALE)  VENV=folder  PYTHON=interpreter  TORCH=auto|cpu|default  LOCKED=1"

book: install   ## execute every chapter at SCALE and render the book into _book/
	"$$VENV/bin/python" -m lib book --scale "$$SCALE"

edition: install  ## refresh the committed chapters by replaying the stored results
	"$$VENV/bin/python" -m lib edition

test: install   ## every test
	"$$VENV/bin/python" -m pytest

quick: install  ## the tests that take no more than a few seconds each
	"$$VENV/bin/python" -m pytest -m "not slow"

coverage: install  ## every test, and the lines of lib that none of them runs
	"$$VENV/bin/python" -m pytest --cov --cov-report=term --cov-report=html:_build/coverage

test-lowest: install  ## the fast tests with the lowest versions that pyproject.toml allows, in .venv-lowest
	@sh ./tests/lowest.sh

lock: install   ## pin the newest versions and their hashes in requirements.lock
	"$$VENV/bin/python" -m pip install --quiet uv
	"$$VENV/bin/python" -m uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes --no-emit-index-url \
		--no-header --no-annotate --all-extras pyproject.toml -o requirements.lock

doctor: install  ## what this machine has: devices, tools, data sets, stored results
	"$$VENV/bin/python" -m lib doctor

install:        ## create VENV and install the book's packages into it
	@sh ./install.sh

clean:          ## remove what was built; runs/ (your own results) and VENV stay
	rm -rf _build _book .quarto .snakemake .pytest_cache .coverage
