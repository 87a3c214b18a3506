"""Which data plane a command drives."""

from __future__ import annotations

import os
from typing import cast

import click

from lbhealth.drivers.base import Driver
from lbhealth.errors import LbhealthError
from lbhealth.plugins import DRIVERS, Registry

__all__ = ["driver_option", "make_driver"]

driver_option = click.option(
    "--driver",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="auto, ipvs (netlink), ipvsadm, memory, or a plug-in's.  "
    "auto is ipvsadm if $IPVSADM names a program, else ipvs.",
)


def make_driver(name: str) -> Driver:
    """Return the driver of that name; raises click.UsageError when there is none."""
    if name == "auto":
        name = "ipvsadm" if os.environ.get("IPVSADM") else "ipvs"
    try:
        return cast("Driver", Registry().load(DRIVERS, name)())
    except LbhealthError as error:  # unknown, broken, or not to be had here
        raise click.UsageError(str(error)) from None
