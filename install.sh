#!/bin/sh
# Make the environment VENV and install the book into it, unless that is done.  `make` calls this with its variables:
# VENV (a folder), PYTHON (which makes it), EXTRAS (of pyproject.toml),
# LOCKED (anything: the versions of requirements.lock), and
# TORCH: "cpu" for PyTorch without CUDA, "default" for what the package index gives, "auto" for cpu where there is no GPU.
set -eu
export PIP_DISABLE_PIP_VERSION_CHECK=1
cd "$(dirname "$0")"

WHEELS=https://download.pytorch.org/whl/cpu

say() { printf '%s\n' "$*"; }
stop() { say "$*" >&2; exit 1; }

[ -n "${VENV:-}" ] || stop "VENV names no folder: leave it out, or name the environment's (is a conda environment active?)"
py=$VENV/bin/python
stamp=$VENV/.edlm-installed

if [ -e "$py" ] || [ -L "$py" ]; then
    "$py" -c "" 2>/dev/null ||
        stop "$py does not start: the Python that made $VENV is gone or has moved. Remove the folder $VENV and call make again"
    [ ! "$stamp" -nt pyproject.toml ] || exit 0
else
    [ -n "${PYTHON:-}" ] || stop "Python 3.11 or newer is needed and none was found; name one with PYTHON=..."
    "$PYTHON" -m venv "$VENV" || {
        rm -f "$py"
        stop "$PYTHON could not create $VENV; on Debian and Ubuntu: apt install python3-venv"
    }
fi

if ! "$py" -m pip --version >/dev/null 2>&1; then   # as in environments made by uv
    "$py" -m ensurepip --upgrade >/dev/null 2>&1 ||
        stop "$VENV has no pip and cannot make one: install pip into it (uv pip install --python '$py' pip) and call make again"
fi

# Only Linux on x86 gets CUDA by default, 4.6 GB of it.
choice=${TORCH:-auto}
if [ "$choice" = auto ]; then
    choice=default
    if [ "$(uname -sm)" = "Linux x86_64" ] && [ ! -e /proc/driver/nvidia/version ]; then choice=cpu; fi
fi
index=
if "$py" -c "import torch" 2>/dev/null; then
    say "installing into $VENV, beside the PyTorch that it has"
elif [ "$choice" = cpu ] && "$py" -c "import urllib.request as u; u.urlopen('$WHEELS/torch/', timeout=10)" 2>/dev/null; then
    index="--extra-index-url $WHEELS"
    say "installing into $VENV: about 2 GB, with PyTorch for CPUs only (TORCH=default takes the build with CUDA)"
else
    [ "$choice" != cpu ] || say "no PyTorch without CUDA is to be had: $WHEELS does not answer"
    say "installing into $VENV: about 6.5 GB where PyTorch comes with CUDA (TORCH=cpu takes the build without, about 2 GB)"
fi
say "this takes minutes, the first time only"
# shellcheck disable=SC2086  # two words, or none
if [ -n "${LOCKED:-}" ]; then   # the very versions that the edition is made with, all extras included
    "$py" -m pip install --quiet $index --require-hashes -r requirements.lock
    "$py" -m pip install --quiet --no-deps -e .
else
    "$py" -m pip install --quiet $index -e ".[$EXTRAS]"
fi
if [ -z "${QUARTO_PATH:-}" ] && ! command -v quarto >/dev/null; then
    "$py" -m pip install --quiet quarto-cli >"$VENV/quarto-install.log" 2>&1 ||
        say "Quarto was not found and could not be installed: the book is rendered as a plain preview (https://quarto.org has installers)"
fi
touch "$stamp"
