#!/usr/bin/env bash
# Kernel tests under later versions of jax, which need Python 3.12: found here, or fetched by uv, else skipped aloud.
#   tests/kernels/next.sh 0.11.2 0.12.0.1      VENV=.venv-next: where to install, a folder a version; TESTS=tests/kernels;
#                                              MARK="not full": which of them, all where it is empty
set -euo pipefail
cd "$(dirname "$0")/../.."
VENV=${VENV:-.venv-next}
TESTS=${TESTS:-tests/kernels}
MARK=${MARK-not full}

runs() { "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; }

found() {
  for python in python3.12 python3.13 python3 "$HOME"/.pyenv/versions/3.1[2-9]*/bin/python3; do
    if runs "$python"; then echo "$python"; return; fi
  done
  if command -v uv >/dev/null && uv python install --quiet 3.12 2>/dev/null; then uv python find 3.12; fi
}

PYTHON=$(found)
if [ -z "$PYTHON" ]; then
  echo "SKIPPED: jax $* need Python 3.12 or later; none was found here, and uv could not fetch one."
  exit 0
fi
for jax in "$@"; do
  venv=$VENV-$jax
  if [ ! -e "$venv/.ready" ]; then
    "$PYTHON" -m venv "$venv"
    # shellcheck disable=SC2086 # flags are words
    "$venv/bin/python" -m pip install --quiet ${PIP_FLAGS:-} --constraint constraints-next.txt "jax==$jax" pytest pytest-timeout
    touch "$venv/.ready"
  fi
  echo "kernel tests on jax $jax, $("$venv/bin/python" --version)"
  # XLA's CPU compiler takes minutes over some interpreted kernels, unless told not to optimize them.
  # shellcheck disable=SC2086 # paths are words
  JAX_DISABLE_MOST_OPTIMIZATIONS=1 RECIS_PALLAS_INTERPRET=1 "$venv/bin/python" -m pytest -p tests.garbage $TESTS --confcutdir=tests/kernels -m "$MARK"
done
