"""The RADIUS check against FreeRADIUS."""

import asyncio
import time

import pytest

from lbhealth.checkers.radius import Radius
from lbhealth.engine.runner import run_check
from tests.servers.freeradius import SECRET, freeradius_server  # noqa: F401 - a fixture
from tests.servers.kit import free_port, stopped

pytestmark = pytest.mark.xdist_group("freeradius")

PLACES = ["127.0.0.1", "::1"]


@pytest.mark.parametrize("address", PLACES)
@pytest.mark.parametrize(
    ("account", "wanted"),
    [
        (("hc", "secret"), ("PASS", "L7OK", "Access-Accept")),
        (("bj\xf6rn", "gr\xfc\xdfe, lang genug f\xfcr zwei Bl\xf6cke"), ("PASS", "L7OK", "")),
        (("", ""), ("PASS", "L7OK", "Access-Accept")),
        (("hc", "wrong"), ("FAIL", "L7STS", "authentication refused: Access-Reject")),
        (("hc", ""), ("FAIL", "L7STS", "authentication refused: Access-Reject")),
        (("nobody", "x"), ("FAIL", "L7STS", "authentication refused: Access-Reject")),
        (
            ("gone", "secret"),
            ("FAIL", "L7STS", 'Access-Reject: "account closed, your password is ***"'),
        ),
        (("token", "secret"), ("FAIL", "L7STS", "more than a password")),
    ],
)
async def test_accounts(freeradius, address, account, wanted, probe):
    checker = Radius(*account, secret=SECRET)
    verdict, status, detail = await probe(checker, freeradius.target(address))
    assert (verdict, status) == wanted[:2], detail
    assert wanted[2] in detail


@pytest.mark.parametrize("login", ["hc", ""])
async def test_wrong_secret_is_silence(freeradius, login, probe):
    steps = []
    verdict, status, _ = await probe(
        Radius(login, secret="another"),
        freeradius.target(),
        0.6,
        lambda *step: steps.append(step),
    )
    assert (verdict, status) == ("FAIL", "L7TOUT")
    # A third of what is left of the time-out, which is a little less than 0.6 s by then.
    again = [text for _, text in steps if str(text).endswith("sending again")]
    assert len(again) == 2


async def test_attributes_and_source_address(freeradius, probe):
    checker = Radius("here", "secret", SECRET)
    assert (await probe(checker, freeradius.target(source="127.0.0.9")))[0] == "PASS"
    assert (await probe(checker, freeradius.target()))[0] == "FAIL"


@pytest.mark.parametrize("address", PLACES)
async def test_refused(freeradius, address, probe):
    target = freeradius.target(address, port=free_port())
    verdict, status, detail = await probe(Radius(secret=SECRET), target)
    assert (verdict, status) == ("FAIL", "L4CON")
    assert "connection refused" in detail


async def test_stopped(freeradius):
    with stopped(freeradius.process):
        await asyncio.sleep(0.05)  # its threads stop one by one
        start = time.monotonic()
        checker = Radius("hc", "secret", SECRET)
        result = await run_check(checker, freeradius.target(), 0.5)
    assert (result.verdict, result.status) == ("FAIL", "L7TOUT")
    assert time.monotonic() - start < 1.5


async def test_many_at_once(freeradius):
    checker = Radius("hc", "secret", SECRET)
    results = await asyncio.gather(*(run_check(checker, freeradius.target(), 3) for _ in range(30)))
    assert {r.verdict for r in results} == {"PASS"}


async def test_secrets_stay_inside(freeradius):
    seen, steps = [], []
    for password in ("secret", "hunter2"):
        checker = Radius("hc", password, SECRET)
        result = await run_check(checker, freeradius.target(), 2, lambda *step: steps.append(step))
        seen += [result, checker]
    assert steps
    text = repr([seen, steps])
    assert SECRET not in text
    assert "hunter2" not in text
    assert "'secret'" not in text
