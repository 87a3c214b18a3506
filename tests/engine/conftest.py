"""Servers that end with their test, a running monitor, directors that are closed."""

import contextlib

import pytest

from lbhealth.engine import Director
from lbhealth.engine.monitor import Monitor
from tests.engine.kit import FaultyDriver, Server, until


@pytest.fixture
async def start_server():
    """Start servers on loopback: `await start_server(reply=...)`; all end with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(host="127.0.0.1", *, up=True, **behaviour):
            server = Server(host)
            stack.push_async_callback(server.aclose)
            for name, value in behaviour.items():
                setattr(server, name, value)
            if up:
                await server.up()
            return server

        yield start


@pytest.fixture
async def server(start_server):
    """One server that answers `200 OK`."""
    return await start_server()


@pytest.fixture
async def monitor():
    """A monitor at work; `monitor.told` is what its owner was told."""
    told = []
    monitor = Monitor(lambda running, transition: told.append((running, transition)))
    monitor.told = told
    monitor.start()
    yield monitor
    await monitor.aclose()


@pytest.fixture
def result_of(monitor):
    """Run a check until it has its first result, and return that."""

    async def first(check):
        running = monitor.add(check)
        await until(lambda: running.last is not None)
        monitor.remove(running)
        return running.last

    return first


@pytest.fixture
async def direct():
    """Start directors: `director, driver = await direct(config, table)`."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(config, driver=None, **settings):
            driver = driver if isinstance(driver, FaultyDriver) else FaultyDriver(driver)
            director = await stack.enter_async_context(Director(config, driver, **settings))
            return director, driver

        yield start
