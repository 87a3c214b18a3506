"""`lbhealth plugins`: what is installed, built-in or not."""

from __future__ import annotations

import json

import click

from lbhealth.cli.output import table
from lbhealth.plugins import Registry

__all__ = ["plugins"]


@click.command()
@click.option("--json", "as_object", is_flag=True, help="One JSON object on stdout.")
def plugins(as_object: bool) -> int:
    """List checkers and drivers with the distribution that brings them."""
    found = Registry().list()
    if as_object:
        keys = ("group", "name", "distribution", "version")
        print(
            json.dumps({"schema": 1, "plugins": [dict(zip(keys, p, strict=True)) for p in found]})
        )
    else:
        print(table(("GROUP", "NAME", "DISTRIBUTION", "VERSION"), found))
    return 0
