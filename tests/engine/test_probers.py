"""Every way of carrying out a check, against real servers on loopback."""

import asyncio
import contextlib
import errno
import json
import os
import select
import socket
import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from lbhealth.checkers.http import Http
from lbhealth.checkers.tcp import Tcp
from lbhealth.engine.monitor import Monitor
from lbhealth.engine.probers import Job, TaskProber
from lbhealth.engine.running import RunningCheck
from lbhealth.health import UNKNOWN
from lbhealth.model import Check, HealthState, Passed, Schedule, Status, Target, Verdict
from tests.engine.kit import FAST, Switch, hang, http, reset, response, say, tcp, until

PASS, FAIL, ERROR = Verdict
QUICK = replace(FAST, timeout=0.3)


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def silent_target():
    """A port whose queue is full: the kernel answers no further SYN."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        crowd = [socket.socket() for _ in range(3)]
        for sock in crowd:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield Target(*listener.getsockname())
        for sock in crowd:
            sock.close()


@pytest.fixture
def torrent():
    """A server in a thread that sends a chunk extension as fast as it is read."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;"
    flood = b"x" * (1 << 20)

    def pour(listener):
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                with peer, contextlib.suppress(OSError):
                    peer.settimeout(0.5)
                    peer.sendall(head)
                    while True:
                        peer.sendall(flood)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=pour, args=(listener,))
        thread.start()
        yield Target(*listener.getsockname())
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def in_words(result):
    return result.verdict, result.status, result.detail


class TestConnect:
    async def test_a_server_that_accepts_passes(self, server, result_of):
        result = await result_of(tcp(server))
        assert in_words(result) == (PASS, Status.L4OK, "connected")
        assert 0 < result.duration < FAST.timeout

    async def test_a_closed_port_fails(self, start_server, result_of):
        result = await result_of(tcp(await start_server(up=False)))
        assert in_words(result) == (FAIL, Status.L4CON, "connection refused")

    async def test_silence_fails_after_the_time_out(self, silent_target, result_of):
        result = await result_of(Check(Tcp(), silent_target, QUICK))
        assert (result.verdict, result.status) == (FAIL, Status.L4TOUT)
        assert "0.3 s" in result.detail
        assert result.duration >= 0.3

    async def test_the_connection_ends_at_once(self, server, result_of):
        await result_of(tcp(server))
        await until(lambda: server.connections and not server.open)
        assert server.requests == []

    async def test_ipv6(self, start_server, result_of):
        assert (await result_of(tcp(await start_server("::1")))).verdict is PASS
        refused = await result_of(tcp(await start_server("::1", up=False)))
        assert refused.status is Status.L4CON


RESPONSES = {
    "whole": (say(response()), PASS, Status.L7OK, "200"),
    "other status": (say(response(b"", "204 No Content")), PASS, Status.L7OK, "204"),
    "bad status": (
        say(response(b"", "503 Service Unavailable")),
        FAIL,
        Status.L7STS,
        "503 Service Unavailable",
    ),
    "until close": (say(b"HTTP/1.0 200 OK\r\n\r\nOK", close=True), PASS, Status.L7OK, "200"),
    "chunked": (
        say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nO\r\n1\r\nK\r\n0\r\n\r\n"),
        PASS,
        Status.L7OK,
        "200",
    ),
    "after an interim one": (
        say(b"HTTP/1.1 103 Early Hints\r\n\r\n" + response()),
        PASS,
        Status.L7OK,
        "200",
    ),
    "in single bytes": (
        say(*(bytes([b]) for b in response()), gap=0.002),
        PASS,
        Status.L7OK,
        "200",
    ),
    "none": (say(close=True), FAIL, Status.L7RSP, "closed the connection"),
    "cut short": (
        say(response()[:-1], close=True),
        FAIL,
        Status.L7RSP,
        "ended after 1 of 2 bytes",
    ),
    "cut in the header": (
        say(b"HTTP/1.1 200", close=True),
        FAIL,
        Status.L7RSP,
        "inside the header",
    ),
    "reset": (reset, FAIL, Status.L7RSP, "reset by the server"),
    "garbage": (say(b"SSH-2.0-OpenSSH_9.2\r\n"), FAIL, Status.L7RSP, "not an HTTP response"),
    "hostile garbage": (say(b"\x1b[2J\0\xff\r\n"), FAIL, Status.L7RSP, r"\x1b[2J"),
    "hostile status": (
        say(b"HTTP/1.1 500 \x1b[31mred\r\nContent-Length: 0\r\n\r\n"),
        FAIL,
        Status.L7STS,
        "500",
    ),
    "endless header": (
        say(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000),
        FAIL,
        Status.L7RSP,
        "header",
    ),
    "a huge body": (
        say(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 300_000),
        PASS,
        Status.L7OK,
        "200",
    ),
}


class TestHttp:
    @pytest.mark.parametrize("name", RESPONSES)
    async def test_a_response(self, start_server, result_of, name):
        reply, verdict, status, words = RESPONSES[name]
        result = await result_of(
            http(await start_server(reply=reply), body="OK" * (name == "whole"))
        )
        assert (result.verdict, result.status) == (verdict, status)
        assert words in result.detail
        assert result.detail.isprintable()

    async def test_the_body_is_searched_however_it_arrives(self, start_server, result_of):
        body = b"x" * 100_000 + b"needle"
        message = response(body)
        reply = say(*(message[i : i + 9000] for i in range(0, len(message), 9000)), gap=0.002)
        server = await start_server(reply=reply)
        assert (await result_of(http(server, body="needle"))).verdict is PASS
        assert (await result_of(http(server, body_regex="needles$"))).status is Status.L7RSP

    async def test_silence_fails_after_the_time_out(self, start_server, result_of):
        server = await start_server(reply=hang)
        result = await result_of(http(server, QUICK))
        assert (result.verdict, result.status) == (FAIL, Status.L7TOUT)
        assert result.duration >= QUICK.timeout
        await until(lambda: not server.open)

    async def test_a_trickle_does_not_prolong_the_time_out(self, start_server, result_of):
        server = await start_server(
            reply=say(b"HTTP/1.1 200 OK\r\n", *[b"A: b\r\n"] * 100, gap=0.02)
        )
        assert (await result_of(http(server, QUICK))).status is Status.L7TOUT

    async def test_no_connection_is_the_transports_fault(
        self, start_server, silent_target, result_of
    ):
        refused = await result_of(http(await start_server(up=False)))
        assert in_words(refused) == (FAIL, Status.L4CON, "connection refused")
        silent = await result_of(Check(Http(), silent_target, QUICK))
        assert (silent.verdict, silent.status) == (FAIL, Status.L4TOUT)

    async def test_a_server_that_closes_before_the_request_fails(self, start_server, result_of):
        for greet in (say(close=True), reset):
            server = await start_server(greet=greet)
            result = await result_of(http(server))
            assert result.verdict is FAIL
            assert result.status in (Status.L4CON, Status.L7RSP)

    async def test_the_request_is_for_the_configured_host_and_path(self, server, result_of):
        await result_of(http(server, path="/health?deep=1", host="www.example.org"))
        first, *headers = server.requests[0].decode().split("\r\n")
        assert first == "GET /health?deep=1 HTTP/1.1"
        assert "Host: www.example.org" in headers

    async def test_ipv6(self, start_server, result_of):
        server = await start_server("::1")
        assert (await result_of(http(server))).verdict is PASS
        assert b"Host: [::1]" in server.requests[0]

    async def test_a_server_that_pours_without_end_holds_up_nobody(self, server, monitor, torrent):
        pouring = monitor.add(Check(Http(), torrent, QUICK))
        other = monitor.add(http(server))
        await until(lambda: pouring.failures and other.passes > 3)
        assert pouring.last.status is Status.L7TOUT
        assert not other.failures


class TestRedirect:
    @pytest.fixture
    async def moved(self, start_server):
        """Make a server that redirects `/` to a place and answers everything else."""

        async def start(location):
            server = await start_server()

            def reply(transport):
                path = server.requests[-1].split()[1]
                moved = response(b"", "302 Found", f"Location: {location(server)}")
                transport.write(moved if path == b"/" else response(b"there"))

            server.reply = reply
            return server

        return start

    @pytest.mark.parametrize(
        "location",
        [
            lambda server: "/there",
            lambda server: "there",
            lambda server: f"http://127.0.0.1:{server.port}/there",
            lambda server: f"//127.0.0.1:{server.port}/there",
        ],
        ids=["path", "relative", "url", "without scheme"],
    )
    async def test_to_the_same_server_is_followed(self, moved, result_of, location):
        server = await moved(location)
        result = await result_of(http(server, body="there"))
        assert result.verdict is PASS
        assert [r.split()[1] for r in server.requests] == [b"/", b"/there"]
        assert server.connections == 2

    @pytest.mark.parametrize(
        "location",
        [
            lambda server: "http://192.0.2.1/there",
            lambda server: f"http://127.0.0.2:{server.port}/there",
            lambda server: f"https://127.0.0.1:{server.port}/there",
            lambda server: "file:///etc/passwd",
            lambda server: "http://[::1",
        ],
        ids=["host", "address", "scheme", "file", "malformed"],
    )
    async def test_to_elsewhere_fails(self, moved, result_of, location):
        server = await moved(location)
        result = await result_of(http(server))
        assert (result.verdict, result.status) == (FAIL, Status.L7STS)
        assert server.connections == 1

    async def test_in_a_circle_ends(self, moved, result_of):
        server = await moved(lambda server: "/")
        result = await result_of(http(server, redirects=3))
        assert "more than 3 redirects" in result.detail
        assert server.connections == 4

    async def test_shares_one_time_out(self, start_server, result_of):
        server = await start_server()
        server.reply = lambda transport: asyncio.get_running_loop().call_later(
            0.1, transport.write, response(b"", "302 Found", "Location: /")
        )
        assert (await result_of(http(server, QUICK, redirects=100))).status is Status.L7TOUT
        assert server.connections <= 4

    async def test_to_a_server_that_went_away_fails(self, moved, result_of):
        server = await moved(lambda server: "/there")
        answer = server.reply

        def reply(transport):
            answer(transport)
            server._listener.close()

        server.reply = reply
        assert (await result_of(http(server))).status is Status.L4CON


class TestReuse:
    async def test_thousands_of_checks_on_shared_sockets_are_never_wrong(
        self, start_server, monitor
    ):
        """A socket of a pass goes on to the next check, whatever befalls its neighbours."""
        always = Schedule(interval=0.05, timeout=10.0, rise=1, fall=1, fast_interval=0.05)
        good = [await start_server() for _ in range(3)]
        refusing = [await start_server(up=False) for _ in range(3)]
        rude = await start_server(reply=reset)
        hosts = [f"h{n}.example.org" for n in range(8)]
        passing = [
            monitor.add(replace(http(s, always, host=host), target=s.target))
            for s in good
            for host in hosts
        ] + [monitor.add(tcp(s, always)) for s in good]
        failing = [
            monitor.add(check)
            for s in refusing
            for check in (tcp(s, always), *(http(s, always, host=host) for host in hosts))
        ] + [monitor.add(http(rude, always, host=host)) for host in hosts[:4]]
        await until(lambda: sum(r.passes + r.failures for r in (*passing, *failing)) > 3000)
        assert all(r.passes and not r.failures for r in passing)
        assert all(r.failures and not r.passes for r in failing)
        assert not any(r.errors for r in (*passing, *failing))

    async def test_a_server_that_comes_back_passes_again(self, start_server, monitor):
        server = await start_server()
        running = monitor.add(tcp(server)), monitor.add(http(server))
        for _ in range(3):
            await until(lambda: all(r.health.state is HealthState.UP for r in running))
            await server.down()
            await until(lambda: all(r.health.state is HealthState.DOWN for r in running))
            await server.up()

    async def test_descriptors_come_back_when_the_monitor_ends(self, start_server):
        servers = [await start_server() for _ in range(5)]
        servers += [await start_server(up=False), await start_server(reply=hang)]
        before = open_descriptors()
        monitor = Monitor(lambda *_: None)
        monitor.start()
        running = [monitor.add(check(s)) for s in servers for check in (tcp, http)]
        await until(lambda: sum(r.last is not None for r in running) == len(running) - 1)
        assert open_descriptors() > before
        await monitor.aclose()
        await until(lambda: not any(s.open for s in servers))
        assert open_descriptors() <= before


class TestOurSide:
    """What this host lacks is an ERROR and takes no server out."""

    async def test_a_source_address_is_used(self, server, result_of):
        for check in (tcp(server), http(server)):
            target = replace(server.target, source="127.0.0.5")
            assert (await result_of(replace(check, target=target))).verdict is PASS
        assert {host for host, _ in server.peers} == {"127.0.0.5"}

    @pytest.mark.parametrize("source", ["192.0.2.77", "2001:db8::77"])
    @pytest.mark.parametrize("check", [tcp, http])
    async def test_a_source_address_of_another_host(self, server, result_of, check, source):
        target = replace(server.target, source=source)
        result = await result_of(replace(check(server), target=target))
        assert (result.verdict, result.status) == (ERROR, Status.SOCKERR)
        assert server.connections == 0

    @pytest.mark.parametrize("mark", [2**31, 2**32 - 1])
    async def test_a_mark_that_is_hard_to_set_stops_no_other_check(self, server, monitor, mark):
        marked = monitor.add(replace(tcp(server), target=replace(server.target, mark=mark)))
        plain = monitor.add(tcp(server))
        await until(lambda: plain.passes > 2 and marked.last)
        assert marked.last.verdict in (PASS, ERROR)

    async def test_no_descriptors_left(self, start_server):
        """In a process of its own, whose limit is lower than what its checks need."""
        server = await start_server(reply=hang)
        program = textwrap.dedent("""
            import asyncio, json, resource, sys
            from collections import Counter
            from lbhealth.checkers.http import Http
            from lbhealth.checkers.tcp import Tcp
            from lbhealth.engine.monitor import Monitor
            from lbhealth.model import Check, Schedule, Target

            async def main():
                resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))
                monitor = Monitor(lambda *_: None)
                monitor.start()
                target, schedule = Target("127.0.0.1", int(sys.argv[1])), Schedule(1.0, 30.0)
                hanging = [monitor.add(Check(Http(f"/{n}"), target, schedule)) for n in range(60)]
                while sum(r.busy or r.errors > 0 for r in hanging) < len(hanging):
                    await asyncio.sleep(0.01)
                states = Counter(r.health.state for r in hanging)
                print(json.dumps([states, [r.last.detail for r in hanging if r.errors]]))
                await monitor.aclose()

            asyncio.run(main())
        """)
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", program, str(server.port)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stderr == ""
        states, details = json.loads(done.stdout)
        assert states == {"unknown": 60}
        assert 60 > len(details) > 10
        assert all("open files" in detail for detail in details)


class TestIndependence:
    async def test_hung_servers_delay_no_other_check(self, start_server, silent_target, monitor):
        """However a server hangs, whichever prober waits for it."""
        hung = await start_server(reply=hang)
        slow = replace(FAST, timeout=20.0)
        waiting = [monitor.add(http(hung, slow, path=f"/{n}")) for n in range(20)]
        waiting.append(monitor.add(Check(Tcp(), silent_target, slow)))
        waiting += [monitor.add(Check(Forever(), hung.target, slow))]
        await until(lambda: all(r.busy for r in waiting))
        good = await start_server()
        fine = monitor.add(tcp(good)), monitor.add(http(good)), monitor.add(Switch().check_of())
        await until(lambda: all(r.passes >= 5 for r in fine))
        assert all(r.last is None for r in waiting)

    async def test_answers_that_came_while_the_loop_was_held_up_count(self, start_server, monitor):
        """More of them than one look at the sockets takes in."""
        server = await start_server()
        held = []
        server.reply = held.append
        schedule = replace(FAST, timeout=1.0)
        running = [monitor.add(http(server, schedule, path=f"/{n}")) for n in range(400)]
        await until(lambda: len(held) == len(running))
        server.reply = say(response())
        for transport in held:
            transport.write(response())
        hold_up(1.1)
        await until(lambda: all(r.passes for r in running))
        assert not any(r.failures for r in running)


def hold_up(seconds):
    """Block the event loop, as a garbage collection or a bad plug-in would."""
    select.select([], [], [], seconds)


@dataclass(frozen=True)
class Forever:
    kind: ClassVar[str] = "forever"

    async def check(self, target, ctx):
        await asyncio.Event().wait()


@dataclass(eq=False)
class Gate:
    """Counts who is inside, and lets all out at once."""

    kind: ClassVar[str] = "gate"

    def __post_init__(self):
        self.opened = asyncio.Event()
        self.inside = self.most = self.cancelled = 0

    async def check(self, target, ctx):
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.inside -= 1
        return Passed(Status.L7OK)


def jobs(prober, checker, count, timeout=30.0):
    target = Target("127.0.0.1", 9)
    found = []
    for _ in range(count):
        check = Check(checker, target, FAST)
        running = RunningCheck(check, UNKNOWN, lambda *_: None)
        found.append(Job(prober, running, prober.prepare(checker, target, timeout)))
    return found


class TestTask:
    async def test_so_many_run_at_once_and_the_rest_wait_their_turn(self):
        prober, gate = TaskProber(limit=3), Gate()
        started = jobs(prober, gate, 10)
        for job in started:
            prober.start(job, 0.0)
        await until(lambda: gate.inside == 3)
        assert all(job.running.busy for job in started)
        gate.opened.set()
        await until(lambda: all(job.running.passes == 1 for job in started))
        assert gate.most == 3
        await prober.aclose()

    async def test_the_end_cancels_what_runs_and_reports_nothing(self):
        prober, gate = TaskProber(limit=3), Gate()
        started = jobs(prober, gate, 5)
        for job in started:
            prober.start(job, 0.0)
        await until(lambda: gate.inside == 3)
        await prober.aclose()
        assert gate.cancelled == 3
        assert all(job.running.last is None for job in started)

    async def test_a_check_has_its_deadline(self, monitor):
        running = monitor.add(Check(Forever(), Target("127.0.0.1", 9), QUICK))
        await until(lambda: running.failures)
        assert running.last.status is Status.L4TOUT

    @pytest.mark.parametrize(
        "bug",
        [
            RuntimeError("a \x1b[31mbug"),
            KeyError("missing"),
            asyncio.CancelledError(),
            asyncio.InvalidStateError(),
            SystemExit(3),
            OSError(errno.EMFILE, "Too many open files"),
        ],
        ids=lambda bug: type(bug).__name__,
    )
    async def test_a_bug_in_a_plug_in_is_an_error_and_the_check_goes_on(self, monitor, bug):
        switch = Switch()
        running = monitor.add(switch.check_of())
        await until(lambda: running.health.state is HealthState.UP)
        switch.says = bug
        await until(lambda: running.errors >= 2)
        assert running.health.state is HealthState.UP
        assert running.last.detail.isprintable()
        switch.says = PASS
        await until(lambda: running.last.verdict is PASS)
        assert running.failures == 0

    async def test_a_plug_in_that_returns_nonsense_is_an_error(self, monitor):
        @dataclass(frozen=True)
        class Nonsense:
            kind: ClassVar[str] = "nonsense"

            async def check(self, target, ctx):
                return True

        running = monitor.add(Check(Nonsense(), Target("127.0.0.1", 9), FAST))
        await until(lambda: running.errors)
        assert running.health.state is HealthState.UNKNOWN

    async def test_the_phase_of_a_time_out_is_the_checkers(self, monitor):
        @dataclass(frozen=True)
        class Handshake:
            kind: ClassVar[str] = "handshake"

            async def check(self, target, ctx):
                ctx.phase = Status.L6TOUT
                await asyncio.Event().wait()

        running = monitor.add(Check(Handshake(), Target("127.0.0.1", 9), QUICK))
        await until(lambda: running.failures)
        assert running.last.status is Status.L6TOUT


class TestJudge:
    async def test_a_bug_while_judging_touches_no_other_check(self, server, monitor, monkeypatch):
        others = [monitor.add(http(server, path=f"/{n}")) for n in range(5)]
        judge = Http.judge

        def stumble(self, *args):
            if self.path == "/odd":
                raise ValueError("a bug")
            return judge(self, *args)

        monkeypatch.setattr(Http, "judge", stumble)
        odd = monitor.add(http(server, path="/odd"))
        await until(lambda: odd.errors and all(r.passes > 2 for r in others))
        assert odd.health.state is HealthState.UNKNOWN
        assert not any(r.failures for r in others)
