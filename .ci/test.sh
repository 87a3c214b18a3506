#!/bin/sh
# Run every check of the project, to the end even when one fails, and sum up.
set -u
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH

summary=
failed=0

step() {
    name=$1
    shift
    echo "==> $name"
    if "$@"; then
        summary="$summary\n  ok      $name"
    else
        summary="$summary\n  FAILED  $name"
        failed=1
    fi
}

step "ruff check" ruff check .
step "ruff format" ruff format --check .
step "mypy" mypy
step "mypy plugins" mypy plugins/*/lbhealth_*
step "pytest" pytest -q -n 2 --dist loadgroup "$@"
step "docs" sphinx-build -q -n -W -b html docs docs/_build/html

printf "\nSummary$summary\n"
exit "$failed"
