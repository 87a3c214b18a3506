"""Two writers on one table are kept apart."""

import os
import socket
import subprocess
import sys

import pytest

from lbhealth.engine import Director
from lbhealth.engine.ownership import Ownership, find_ldirectord
from lbhealth.errors import TableOwnedError
from lbhealth.model import FwmarkKey, InetKey, TransportProtocol
from tests.engine.kit import SharedDriver, Switch, config, real, until, virtual


def key_of(number):
    """A service that no other test process knows: locks are the host's."""
    return InetKey(
        TransportProtocol.TCP, f"198.18.{os.getpid() % 250}.{number}", os.getpid() % 60000 + 1
    )


@pytest.fixture(autouse=True)
def no_ldirectord(monkeypatch):
    """Whatever runs on this machine."""
    monkeypatch.setattr("lbhealth.engine.director.find_ldirectord", lambda: None)


def service(number):
    return virtual(real(Switch()), key=key_of(number))


class TestLocks:
    def test_a_service_has_one_owner(self):
        first, second = Ownership(), Ownership()
        first.take([key_of(1)])
        first.take([key_of(1)])
        with pytest.raises(TableOwnedError, match="another lbhealth"):
            second.take([key_of(1)])
        first.drop([key_of(1), key_of(2)])
        second.take([key_of(1)])
        second.close()

    def test_all_or_none(self):
        first, second, third = Ownership(), Ownership(), Ownership()
        first.take([key_of(2)])
        with pytest.raises(TableOwnedError):
            second.take([key_of(1), key_of(2)])
        third.take([key_of(1)])
        first.close()
        third.close()

    def test_kinds_of_services_do_not_collide(self):
        mark = os.getpid()
        owners = [Ownership() for _ in range(3)]
        keys = [
            FwmarkKey(mark),
            FwmarkKey(mark, socket.AF_INET6),
            InetKey(TransportProtocol.UDP, key_of(1).address, key_of(1).port),
        ]
        for owner, key in zip(owners, keys, strict=True):
            owner.take([key])
        for owner in owners:
            owner.close()

    def test_a_lock_ends_with_its_process(self):
        program = (
            "import os, sys; from lbhealth.engine.ownership import Ownership;"
            "from lbhealth.model import InetKey, TransportProtocol;"
            "Ownership().take([InetKey(TransportProtocol.TCP, sys.argv[1], int(sys.argv[2]))]);"
            "os.kill(os.getpid(), 9)"
        )
        key = key_of(3)
        done = subprocess.run([sys.executable, "-c", program, key.address, str(key.port)])
        assert done.returncode == -9
        owner = Ownership()
        owner.take([key])
        owner.close()


class TestDirectors:
    async def test_a_second_one_on_the_same_service_is_refused_with_the_remedy(self):
        driver, other = SharedDriver(), SharedDriver()
        async with Director(config(service(1)), driver):
            await until(lambda: driver.weights(key_of(1)))
            with pytest.raises(TableOwnedError, match="lbhealth status") as caught:
                async with Director(config(service(1)), other):
                    raise AssertionError("it must not begin")
            assert str(key_of(1)) in str(caught.value)
            assert isinstance(caught.value, BlockingIOError)
        assert other.closed
        assert not other.table
        async with Director(config(service(1)), SharedDriver()):
            pass

    async def test_different_services_go_together(self):
        async with (
            Director(config(service(1)), SharedDriver()),
            Director(config(service(2)), SharedDriver()),
        ):
            pass

    async def test_a_reload_that_wants_a_foreign_service_changes_nothing(self):
        driver = SharedDriver()
        async with (
            Director(config(service(1)), SharedDriver()),
            Director(config(service(2)), driver) as second,
        ):
            await until(lambda: driver.weights(key_of(2)))
            with pytest.raises(TableOwnedError):
                await second.reload(config(service(3), service(1)))
            assert [s.key for s in second.snapshot().services] == [key_of(2)]
            other = Ownership()
            other.take([key_of(3)])
            other.close()

    async def test_a_service_that_was_given_up_is_free(self):
        async with Director(config(service(1)), SharedDriver()) as first:
            await first.reload(config(service(2)))
            async with Director(config(service(1)), SharedDriver()):
                pass

    async def test_a_private_table_needs_no_lock(self, direct):
        await direct(config(service(1)))
        await direct(config(service(1)))

    async def test_a_live_ldirectord_is_refused_with_the_remedy(self, monkeypatch):
        monkeypatch.setattr("lbhealth.engine.director.find_ldirectord", lambda: 4711)
        with pytest.raises(TableOwnedError, match=r"process 4711.*systemctl stop ldirectord"):
            await Director(config(service(1)), SharedDriver()).__aenter__()


class TestLdirectord:
    @pytest.fixture
    def proc(self, tmp_path):
        """A tree like /proc; `proc.add(pid, words, namespace)` adds a process."""

        class Proc:
            path = tmp_path

            @staticmethod
            def add(pid, words, namespace="net:[1]"):
                process = tmp_path / str(pid)
                (process / "ns").mkdir(parents=True)
                (process / "cmdline").write_bytes(b"\0".join(words) + b"\0" if words else b"")
                if namespace is not None:
                    (process / "ns" / "net").symlink_to(namespace)

        Proc.add("self", [b"lbhealth"])
        (tmp_path / "meminfo").write_text("")
        return Proc

    @pytest.mark.parametrize(
        "words",
        [
            [b"/usr/bin/perl", b"-w", b"/usr/sbin/ldirectord", b"start"],
            [b"perl", b"/usr/sbin/ldirectord", b"/etc/ha.d/www.cf", b"start"],
            [b"/usr/bin/perl5.36", b"-w", b"ldirectord", b"-d", b"start"],
            [b"ldirectord tcp:192.0.2.10:80"],
            [b"ldirectord /etc/ha.d/www.cf"],
        ],
        ids=lambda words: b" ".join(words).decode(),
    )
    def test_is_found(self, proc, words):
        proc.add(77, [b"sleep", b"1"])
        proc.add(88, words)
        assert find_ldirectord(proc.path) == 88

    @pytest.mark.parametrize(
        "words",
        [
            [],
            [b""],
            [b"vi", b"/etc/ha.d/ldirectord.cf"],
            [b"/usr/bin/python3", b"/usr/bin/lbhealth", b"ldirectord", b"start"],
            [b"/usr/bin/python3", b"/usr/sbin/ldirectord", b"start"],
            [b"perl", b"script.pl", b"a", b"ldirectord"],
        ],
        ids=lambda words: b" ".join(words).decode(),
    )
    def test_is_not_something_else(self, proc, words):
        proc.add(88, words)
        assert find_ldirectord(proc.path) is None

    def test_counts_in_our_network_namespace_only(self, proc):
        words = [b"perl", b"/usr/sbin/ldirectord", b"start"]
        proc.add(88, words, "net:[2]")
        assert find_ldirectord(proc.path) is None
        proc.add(99, words, None)  # not to be read: better safe
        assert find_ldirectord(proc.path) == 99

    def test_a_process_that_ends_meanwhile_does_no_harm(self, proc):
        (proc.path / "55").mkdir()
        assert find_ldirectord(proc.path) is None
