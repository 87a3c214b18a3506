"""The checkers keep the contract that plug-ins are held to."""

import pytest

from lbhealth.checkers.http import Http, Https
from lbhealth.checkers.ping import Ping
from lbhealth.checkers.tcp import Tcp
from lbhealth.testing import CheckerContract


class TestTcp(CheckerContract):
    talks = False

    def checker(self):
        return Tcp()


class TestPing(CheckerContract):
    speaks_tcp = False
    talks = False

    def checker(self):
        return Ping(attempts=2)


class TestHttp(CheckerContract):
    def checker(self):
        return Http(path="/x", body="OK")


class TestHttps(CheckerContract):
    def checker(self):
        return Https(path="/x")


class TestBrokenPlugin(CheckerContract):
    """The contract finds what it is there to find."""

    __test__ = False

    def checker(self):
        return Printing()


class Printing:
    kind = "printing"

    async def check(self, target, ctx):
        print("hello")
        raise RuntimeError("bug")


async def test_contract_finds_a_print(capsys):
    with pytest.raises(AssertionError, match="prints nothing"):
        await TestBrokenPlugin().test_refused()


async def test_contract_finds_checkers_without_equality():
    with pytest.raises(AssertionError, match="differ"):
        await TestBrokenPlugin().test_equal_settings_make_equal_checkers()


async def test_contract_finds_changeable_settings():
    class Changeable(TestBrokenPlugin):
        __test__ = False

    with pytest.raises(AssertionError, match="not frozen"):
        await Changeable().test_settings_cannot_change()
