"""`lbhealth plan`: what `run` would change in the kernel now."""

from __future__ import annotations

import asyncio
import json

import click

from lbhealth.cli.drivers import driver_option, make_driver
from lbhealth.cli.files import read, show_findings
from lbhealth.cli.output import ERRORS, OK, USAGE, talk
from lbhealth.drivers.base import Driver
from lbhealth.drivers.ipvsadm import to_line
from lbhealth.engine.rehearsal import rehearse
from lbhealth.errors import DriverError
from lbhealth.model import Config
from lbhealth.plan import Op

__all__ = ["plan"]


@click.command()
@click.argument("config")
@driver_option
@click.option("--check", "run_checks", is_flag=True, help="Run each check once first.")
@click.option("--json", "as_object", is_flag=True, help="One JSON object on stdout.")
def plan(config: str, driver: str, run_checks: bool, as_object: bool) -> int:
    """Print, as ipvsadm lines, what `run CONFIG` would change now.  Changes nothing.

    Without --check nothing is known of the servers, so rows stay as they are found.  Exit 0,
    or 1 when the kernel cannot be read, or 2 when the file cannot be used.
    """
    try:
        loaded = read(config)
    except OSError as error:
        return _fail(f"cannot read {config}: {error.strerror or error}", USAGE, as_object)
    if loaded.config is None:
        show_findings(loaded)
        return _fail(f"{config} cannot be used", USAGE, as_object)
    try:
        ops = asyncio.run(_plan(loaded.config, make_driver(driver), run_checks))
    except DriverError as error:
        return _fail(str(error), ERRORS, as_object)
    lines = [to_line(op) for op in ops]
    if as_object:
        print(json.dumps({"schema": 1, "operations": lines}))
    else:
        for line in lines:
            print(line)
        talk(f"{len(lines)} changes" if lines else "nothing to change")
    return OK


async def _plan(config: Config, driver: Driver, run_checks: bool) -> list[Op]:
    try:
        return await rehearse(config, driver, run_checks=run_checks)
    finally:
        await driver.aclose()


def _fail(message: str, code: int, as_object: bool) -> int:
    if as_object:
        print(json.dumps({"schema": 1, "operations": [], "error": message}))
    talk(message)
    return code
