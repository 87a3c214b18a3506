"""`lbhealth run`: a director in the foreground."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys

import click

from lbhealth.cli.client import api_address, api_option
from lbhealth.cli.drivers import driver_option, make_driver
from lbhealth.cli.files import load_in_child, show_findings
from lbhealth.cli.output import ERRORS, USAGE, talk
from lbhealth.config import Loaded
from lbhealth.errors import LbhealthError

__all__ = ["run"]


@click.command()
@click.argument("config")
@driver_option
@api_option
def run(config: str, driver: str, api: str | None) -> int:
    """Check the real servers of CONFIG and keep the kernel's table right, in the foreground.

    CONFIG is an ldirectord.cf or a .toml.  Logs go to stderr; SIGHUP or `lbhealth reload`
    reads the file again; TERM and Ctrl-C end it.
    """
    address = api_address(api)
    data_plane = make_driver(driver)
    try:
        loaded = asyncio.run(_prepare(config))
    except OSError as error:
        talk(f"cannot read {config}: {error.strerror or error}")
        return USAGE
    show_findings(loaded)
    if loaded.config is None:
        talk(f"{config} has errors: nothing was changed")
        return USAGE
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    from lbhealth.cli.application import Application

    try:
        return asyncio.run(Application(config, loaded.config, data_plane, address).run())
    except LbhealthError as error:
        talk(str(error))
    except OSError as error:
        talk(error.strerror or str(error))
    return ERRORS


async def _prepare(path: str) -> Loaded:
    """Let a child read the file while the modules of the application are imported."""
    modules = asyncio.to_thread(importlib.import_module, "lbhealth.cli.application")
    loaded, _ = await asyncio.gather(load_in_child(path), modules)
    return loaded
