#!/bin/sh
# The fast tests with the lowest versions that pyproject.toml allows, in an environment of their own.  `make test-lowest` calls it.
set -eu
cd "$(dirname "$0")/.."
lowest=.venv-lowest
if [ ! "$lowest/.installed" -nt pyproject.toml ]; then
    "$PYTHON" -m venv --clear "$lowest"
    "$PYTHON" tests/lowest_versions.py >"$lowest/versions.txt"
    "$lowest/bin/python" -m pip install --quiet -r "$lowest/versions.txt"
    touch "$lowest/.installed"
fi
PYTHONPATH=. "$lowest/bin/python" -m pytest -m "not slow"
