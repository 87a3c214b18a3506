"""The contract of every checker, and what this one makes of its answers."""

import pytest
from lbhealth_finger.checker import Finger

from lbhealth.engine.runner import run_check
from lbhealth.errors import SettingError
from lbhealth.testing import CheckerContract, ScriptedServer


class TestContract(CheckerContract):
    def checker(self):
        return Finger(user="root", receive="Login: root")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(
    ("settings", "answer", "wanted"),
    [
        ({}, b"Nobody\r\n", ("PASS", "L7OK", "8 bytes")),
        ({"receive": "^Login: root"}, b"Login: root\r\n", ("PASS", "L7OK", "13 bytes")),
        ({"receive": "root"}, b"no such \x1b\r\n", ("FAIL", "L7RSP", "no match; ")),
        ({}, b"\r\n", ("FAIL", "L7RSP", "without an answer")),
    ],
)
async def test_answers(host, settings, answer, wanted):
    async with ScriptedServer.reply(answer, host=host) as server:
        result = await run_check(Finger(user="root", **settings), server.target(), 1.0)
        assert bytes(server.received[0]) == b"root\r\n"
    assert (result.verdict, result.status) == wanted[:2]
    assert wanted[2] in result.detail
    assert result.detail.isprintable()


@pytest.mark.parametrize(
    ("settings", "field"),
    [({"user": "a b"}, "user"), ({"user": "a\n"}, "user"), ({"receive": "("}, "receive")],
)
def test_wrong_settings(settings, field):
    with pytest.raises(SettingError) as caught:
        Finger(**settings)
    assert caught.value.field == field
