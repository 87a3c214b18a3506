"""One file that uses the whole language, taken by the checkers that are installed."""

from pathlib import Path

import pytest

from lbhealth.config import load
from lbhealth.config.cf.settings import EXTENSIONS, GLOBAL, VIRTUAL
from lbhealth.model import FwmarkKey, HealthState, OnDown, Persistence
from lbhealth.plugins import Registry
from tests.config.fakes import FakeResolver

SAMPLE = Path(__file__).parent / "sample.cf"


@pytest.fixture(scope="module")
def loaded():
    return load(SAMPLE, Registry(), FakeResolver())


@pytest.fixture(scope="module")
def services(loaded):
    return {str(service.key): service for service in loaded.config.virtual}


def test_it_uses_every_directive():
    text = SAMPLE.read_text()
    missing = {key for key in {*GLOBAL, *VIRTUAL} - set(EXTENSIONS) if f"{key}=" not in text}
    assert missing == set()


def test_it_is_taken(loaded):
    assert loaded.errors == ()
    assert {d.code for d in loaded.warnings} <= {"LB218", "LB280", "LB281", "LB413"}
    assert loaded.config.director.clean_stop is False


def test_web(services):
    web = services["tcp:192.0.2.20:80"]
    assert (web.scheduler, web.persistence, web.name) == ("wlc", Persistence(600, 24), "Shop")
    assert web.on_down is OnDown.QUIESCE
    assert [s.weight for s in web.real] == [10, 10, 10, 10, 20, 5, 0]
    assert (web.real[5].lower, web.real[5].upper) == (100, 400)
    (check,) = web.real[0].checks
    assert check.checker.kind == "http"
    assert (check.checker.path, check.checker.host) == ("/health?full=1", "www.example.org")
    assert check.checker.body_regex == r"(OK|fine) \d+"
    assert web.real[4].checks[0].checker.body_regex == "fine"
    schedule = check.schedule
    assert (schedule.interval, schedule.timeout, schedule.rise, schedule.fall) == (2, 8, 1, 2)


def test_tls(services):
    web = services["tcp:[2001:db8::20]:443"]
    assert [s.name for s in web.real] == ["[2001:db8:1::1]:443", "[2001:db8::101]:443"]
    (check,) = web.real[0].checks
    assert (check.target.port, check.target.server_name) == (8443, "www.example.org")
    assert (check.hybrid.connects, check.hybrid.timeout) == (5, 3)
    assert (check.checker.path, check.checker.verify) == ("/health", False)
    assert web.fallback.name == "[::1]:8443"


def test_mark(services):
    mark = services["fwm:7"]
    assert mark.key == FwmarkKey(7)
    assert mark.flags == ("sh-fallback", "sh-port")
    assert mark.destination_key(mark.real[0]) == ("10.2.0.1", 0)
    assert mark.real[0].checks[0].target.port == 8080


def test_others(services):
    dns = services["udp:192.0.2.20:53"]
    assert (dns.one_packet, dns.on_down) == (True, OnDown.REMOVE)
    assert dns.fallback.name == "127.0.0.1:80"
    assert services["tcp:192.0.2.20:9000"].clean_stop is True
    (ping,) = services["tcp:192.0.2.20:9001"].real[0].checks
    assert (ping.checker.attempts, ping.schedule.timeout) == (3, 12)
    assert services["tcp:192.0.2.20:9002"].real[0].assumed is HealthState.UP
    assert services["tcp:192.0.2.20:9003"].real[0].assumed is HealthState.DOWN
