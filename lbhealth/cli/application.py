"""The application behind `lbhealth run`: a director with its API, its signals and its log."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

from lbhealth import __version__
from lbhealth.cli.files import load_in_child
from lbhealth.cli.output import OK
from lbhealth.drivers.base import Driver
from lbhealth.engine import Director
from lbhealth.errors import ConfigError, LbhealthError
from lbhealth.events import Event
from lbhealth.model import Config
from lbhealth.services.address import Address
from lbhealth.services.api import Api
from lbhealth.services.words import level_of, words_of

__all__ = ["Application"]

_log = logging.getLogger("lbhealth")


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Build long-lived objects without collections, then keep them out of later ones.

    A full collection of the objects of 10,000 servers would hold the loop for 100 ms.
    Nothing is lost: the engine breaks its own cycles when servers go.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        with contextlib.suppress(AttributeError):  # a C library other than glibc
            ctypes.CDLL(None).malloc_trim(0)  # what building needed goes back to the system


class Application:
    """One director and what surrounds it in a process of its own."""

    def __init__(self, path: str, config: Config, driver: Driver, address: Address) -> None:
        self._path = str(Path(path).resolve())
        self._director = Director(config, driver)
        self._driver = driver
        self._address = address
        self._api = Api(self._director, self._reload)
        self._stop = asyncio.Event()
        self._reloads: set[asyncio.Task[None]] = set()
        self._reading = asyncio.Lock()

    async def run(self) -> int:
        """Run until a signal ends it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        where = await self._api.start(self._address)
        try:
            log = asyncio.create_task(self._tell(self._director.events()))
            async with contextlib.AsyncExitStack() as stack:
                with _no_collection():
                    await stack.enter_async_context(self._director)
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
        async with self._reading:  # one after the other: what was read last is what stays
            return await self._read_again()

    async def _read_again(self) -> Mapping[str, object]:
        try:
            with _no_collection():
                loaded = await load_in_child(self._path, nice=10)
        except (OSError, TimeoutError) as error:
            raise LbhealthError(
                f"cannot read {self._path}: {str(error) or 'it took too long'}"
            ) from None
        if loaded.config is None:
            raise ConfigError(loaded.errors)
        for finding in loaded.warnings:
            _log.warning("%s", finding)
        with _no_collection():
            event = await self._director.reload(loaded.config)
        return {
            "added": event.added,
            "changed": event.changed,
            "removed": event.removed,
            "unchanged": event.unchanged,
        }
