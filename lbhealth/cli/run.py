"""`lbhealth run`: a director in the foreground, with its API, its signals and its log."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import click

from lbhealth import __version__
from lbhealth.cli.client import api_address, api_option
from lbhealth.cli.drivers import driver_option, make_driver
from lbhealth.cli.files import load_in_child, show_findings
from lbhealth.cli.output import ERRORS, OK, USAGE, talk
from lbhealth.config import Loaded
from lbhealth.drivers.base import Driver
from lbhealth.engine import Director
from lbhealth.errors import ConfigError, LbhealthError
from lbhealth.events import Event
from lbhealth.services.address import Address
from lbhealth.services.api import Api
from lbhealth.services.words import level_of, words_of

__all__ = ["run"]

_log = logging.getLogger("lbhealth")


@click.command()
@click.argument("config")
@driver_option
@api_option
def run(config: str, driver: str, api: str | None) -> int:
    """Check the real servers of CONFIG and keep the kernel's table right, in the foreground.

    CONFIG is an ldirectord.cf or a .toml.  Logs go to stderr; SIGHUP or `lbhealth reload`
    reads the file again; TERM and Ctrl-C end it.
    """
    try:
        loaded = asyncio.run(load_in_child(config))
    except OSError as error:
        talk(f"cannot read {config}: {error.strerror or error}")
        return USAGE
    show_findings(loaded)
    if loaded.config is None:
        talk(f"{config} has errors: nothing was changed")
        return USAGE
    address = api_address(api)
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    try:
        return asyncio.run(_Application(config, loaded, make_driver(driver), address).run())
    except (LbhealthError, OSError) as error:
        talk(str(error))
        return ERRORS


class _Application:
    """One director and what surrounds it in a process of its own."""

    def __init__(self, path: str, loaded: Loaded, driver: Driver, address: Address) -> None:
        assert loaded.config is not None
        self._path = str(Path(path).resolve())
        self._director = Director(loaded.config, driver)
        self._driver = driver
        self._address = address
        self._api = Api(self._director, self._reload)
        self._stop = asyncio.Event()
        self._reloads: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Run until a signal ends it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        where = await self._api.start(self._address)
        try:
            log = asyncio.create_task(self._tell(self._director.events()))
            async with self._director:
                # What was built lives as long as the process: keep it out of every collection.
                gc.collect()
                gc.freeze()
                _log.info(
                    "lbhealth %s runs %s with driver %s, API at %s",
                    __version__,
                    self._path,
                    self._driver.name,
                    where,
                )
                await self._stop.wait()
                _log.info("ends on signal")
            await log
        finally:
            await self._api.aclose()
        return OK

    async def _tell(self, events: AsyncIterator[Event]) -> None:
        async for event in events:
            _log.log(level_of(event), "%s", words_of(event))

    def _hang_up(self) -> None:
        task = asyncio.create_task(self._reload_on_signal())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload_on_signal(self) -> None:
        try:
            await self._reload(False)
        except ConfigError as error:
            _log.error("the configuration has errors, the old one stays in force")
            for finding in error.diagnostics:
                _log.error("%s", finding)
        except LbhealthError as error:
            _log.error("not reloaded: %s", error)

    async def _reload(self, force: bool) -> Mapping[str, object]:
        """Read the file again and put it in force; raises LbhealthError and changes nothing."""
        del force  # no guard refuses a large change yet
        try:
            loaded = await load_in_child(self._path)
        except (OSError, TimeoutError) as error:
            raise LbhealthError(
                f"cannot read {self._path}: {str(error) or 'it took too long'}"
            ) from None
        if loaded.config is None:
            raise ConfigError(loaded.errors)
        for finding in loaded.warnings:
            _log.warning("%s", finding)
        event = await self._director.reload(loaded.config)
        return {
            "added": event.added,
            "changed": event.changed,
            "removed": event.removed,
            "unchanged": event.unchanged,
        }
