"""The code on the page "Write a checker in 40 lines" is run as it stands there."""

import inspect
import re
import sys
import tomllib
import types
from pathlib import Path

import pytest

from lbhealth.config import parse
from lbhealth.config.loading import SystemResolver
from lbhealth.engine.runner import run_check
from lbhealth.errors import SettingError
from lbhealth.plugins import Registry
from lbhealth.testing import CheckerContract, ScriptedServer

PAGE = Path(__file__).parent.parent / "docs" / "howto" / "write-a-checker.md"
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
PYTHON = [text for language, text in BLOCKS if language == "python"]
TOML = [text for language, text in BLOCKS if language == "toml"]


def module(name, text):
    made = types.ModuleType(name)
    sys.modules[name] = made  # dataclasses look their module up
    exec(compile(text, f"{PAGE.name}:{name}", "exec"), made.__dict__)
    return made


@pytest.fixture(scope="module")
def gopher():
    yield module("gopher", PYTHON[0])
    del sys.modules["gopher"]


@pytest.fixture(scope="module")
def tests(gopher):
    yield module("test_gopher", PYTHON[2])
    del sys.modules["test_gopher"]


def test_it_has_40_lines():
    assert len(PYTHON[0].splitlines()) <= 40


CONTRACT = [name for name in dir(CheckerContract) if name.startswith("test_")]


@pytest.mark.parametrize("name", CONTRACT)
async def test_it_keeps_the_contract(tests, name):
    await getattr(tests.TestContract(), name)()


async def test_the_test_on_the_page(tests):
    assert inspect.iscoroutinefunction(tests.test_an_answer)
    await tests.test_an_answer()


async def test_no_match(gopher):
    async with ScriptedServer.reply(b"3not found\r\n\r\n.\r\n") as server:
        result = await run_check(gopher.Gopher(receive="OK"), server.target(), 1.0)
    assert (result.verdict, result.status) == ("FAIL", "L7RSP")
    assert result.detail == r'no match; it begins "3not found\n\n"'


def test_wrong_settings(gopher):
    with pytest.raises(SettingError):
        gopher.Gopher(request="a\nb")
    with pytest.raises(SettingError):
        gopher.Gopher(receive="(")


def test_the_secret_is_kept():
    login = module("login", PYTHON[1]).Login(password="hunter2")
    del sys.modules["login"]
    assert "hunter2" not in repr(login)


def test_it_is_a_check_type_of_toml(gopher):
    entry = tomllib.loads(TOML[0])["project"]["entry-points"]["lbhealth.checkers"]
    assert entry == {"gopher": "gopher:Gopher"}

    class WithGopher(Registry):
        def checker(self, kind):
            return gopher.Gopher if kind == "gopher" else super().checker(kind)

        def kinds(self):
            return [*super().kinds(), "gopher"]

    text = f"""
[[virtual]]
listen = "192.0.2.10:70/tcp"
real = [ {{ address = "10.0.0.1:70" }} ]
{TOML[1]}"""
    loaded = parse(text, "example.toml", WithGopher(), SystemResolver())
    assert [str(finding) for finding in loaded.errors] == []
    (check,) = loaded.config.virtual[0].real[0].checks
    assert check.checker == gopher.Gopher(request="/status", receive="OK")
    assert check.schedule.timeout == 2.0
