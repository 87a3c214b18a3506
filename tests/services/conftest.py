"""A director whose API is asked over real sockets."""

import contextlib

import aiohttp
import pytest

from lbhealth.engine import Director
from lbhealth.services.address import TcpAddress, UnixAddress
from lbhealth.services.api import Api
from tests.engine.kit import FaultyDriver, Switch, config, reals, until, virtual


class Client:
    """Asks one API; an answer is its status and its body, JSON decoded."""

    def __init__(self, session, base):
        self.session, self.base = session, base

    async def get(self, path, **more):
        return await self._ask("GET", path, **more)

    async def post(self, path, **more):
        return await self._ask("POST", path, **more)

    async def _ask(self, method, path, **more):
        async with self.session.request(method, self.base + path, **more) as response:
            if response.content_type.endswith("json"):
                return response.status, await response.json(content_type=None)
            return response.status, await response.text()


@pytest.fixture
def switches():
    return Switch(), Switch()


@pytest.fixture
async def director(switches):
    driver = FaultyDriver()
    async with Director(config(virtual(*reals(*switches, weight=4))), driver) as director:
        director.driver = driver
        yield director


@pytest.fixture
async def ready(director):
    await until(lambda: director.ready and director.driver.weights())
    return director


@pytest.fixture
async def serve(director):
    """Start APIs: `client, address = await serve(address, reload)`."""
    async with contextlib.AsyncExitStack() as stack:

        async def no_reload(force):
            raise AssertionError("not asked for")

        async def start(address, reload=no_reload):
            api = Api(director, reload)
            where = await api.start(address)
            stack.push_async_callback(api.aclose)
            if isinstance(address, UnixAddress):
                connector, base = aiohttp.UnixConnector(str(address.path)), "http://lbhealth"
            else:
                connector, base = aiohttp.TCPConnector(), f"http://{where}"
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            return Client(session, base)

        yield start


@pytest.fixture
def socket_path(tmp_path):
    return tmp_path / "api.sock"


@pytest.fixture
async def client(serve, socket_path):
    """A client on the unix socket."""
    return await serve(UnixAddress(socket_path))


@pytest.fixture
async def reader(serve):
    """A client over TCP."""
    return await serve(TcpAddress("127.0.0.1", 0))
