"""`lbhealth check`: every finding in a file, at its place."""

from __future__ import annotations

import json

import click

from lbhealth.cli.files import read, show_findings
from lbhealth.cli.output import ERRORS, OK, USAGE, talk
from lbhealth.config import Loaded, as_json
from lbhealth.model import Config

__all__ = ["check"]


@click.command()
@click.argument("config")
@click.option("--json", "as_object", is_flag=True, help="One JSON object on stdout.")
def check(config: str, as_object: bool) -> int:
    """Read CONFIG as `run` would, names resolved, and report every finding.

    Exit 0 when it can be used (warnings too), 1 on errors, 2 when it cannot be read.
    """
    try:
        loaded = read(config)
    except OSError as error:
        message = f"cannot read {config}: {error.strerror or error}"
        if as_object:
            print(json.dumps({"schema": 1, "ok": False, "error": message, "diagnostics": []}))
        talk(message)
        return USAGE
    if as_object:
        print(json.dumps(_document(loaded)))
    else:
        show_findings(loaded)
        talk(_summary(config, loaded))
    return ERRORS if loaded.errors else OK


def _document(loaded: Loaded) -> dict[str, object]:
    return {
        "schema": 1,
        "ok": not loaded.errors,
        "language": loaded.language,
        "errors": len(loaded.errors),
        "warnings": len(loaded.warnings),
        "counts": _counts(loaded.config) if loaded.config else None,
        "diagnostics": [as_json(d) for d in loaded.diagnostics],
    }


def _summary(name: str, loaded: Loaded) -> str:
    found = f"{_plural(len(loaded.errors), 'error')}, {_plural(len(loaded.warnings), 'warning')}"
    if loaded.config is None:
        return f"{name}: {found}; the file cannot be used"
    counts = _counts(loaded.config)
    return (
        f"{name}: {found} "
        f"({_plural(counts['services'], 'virtual service')}, "
        f"{_plural(counts['servers'], 'real server')}, {_plural(counts['checks'], 'check')})"
    )


def _counts(config: Config) -> dict[str, int]:
    """Numbers of services, servers, and checks that run (equal ones run once)."""
    return {
        "services": len(config.virtual),
        "servers": sum(len(service.real) for service in config.virtual),
        "checks": len({c for s in config.virtual for r in s.real for c in r.checks}),
    }


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
