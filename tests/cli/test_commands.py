"""Commands that need no director: check, plan, probe, plugins, and calls that are wrong."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys

import pytest

from lbhealth import __version__
from tests.cli.conftest import environment, lbhealth, toml

BROKEN = """
[[virtual]]
listen = "192.0.2.10:80/tcp"
scheduler = 5
real = [ { address = "10.0.0.1", wieght = 1 } ]
"""


@pytest.fixture
def refused():
    """An address where nobody listens."""
    with socket.socket() as keeper:
        keeper.bind(("127.0.0.1", 0))
        yield "{}:{}".format(*keeper.getsockname())


@pytest.fixture
def file(tmp_path):
    """Write a configuration file."""

    def write(text, name="lbhealth.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


class TestUsage:
    def test_help_and_version(self):
        shown = lbhealth("--help")
        assert shown.code == 0
        for command in ("run", "check", "plan", "probe", "status", "drain", "halt", "online"):
            assert f"\n  {command} " in shown.out
        assert lbhealth("--version").out.split()[-1] == __version__

    @pytest.mark.parametrize(
        "words",
        [
            ("frobnicate",),
            ("check",),
            ("check", "a", "b"),
            ("check", "--frob", "a"),
            ("plan",),
            ("probe",),
            ("probe", "http"),
            ("probe", "gopher", "127.0.0.1:70"),
            ("probe", "connect", "127.0.0.1"),
            ("probe", "connect", "127.0.0.1:0"),
            ("probe", "connect", "127.0.0.1:\N{SUPERSCRIPT TWO}"),
            ("probe", "connect", "127.0.0.1:99999"),
            ("probe", "connect", "..:80"),
            ("probe", "connect", f"{'a' * 70}.example:80"),
            ("probe", "connect", "no-such-host.invalid:80"),
            ("probe", "connect", "127.0.0.1:80", "--request", "/"),
            ("probe", "connect", "127.0.0.1:80", "--timeout", "soon"),
            ("probe", "http", ":80"),
            ("probe", "http", "127.0.0.1", "--request", "no slash"),
            ("probe", "http", "127.0.0.1", "--receive", "[a-"),
            ("status", "--api", "nonsense"),
            ("drain",),
            ("drain", "10.0.0.1:80", "--until", "tomorrow"),
            ("drain", "10.0.0.1:80", "--until", "2001-01-01T00:00"),
            ("halt", "10.0.0.1:80", "--until", "10 parsecs"),
            ("online", "10.0.0.1:80", "--until", "10m"),
        ],
        ids=" ".join,
    )
    def test_a_wrong_call_is_two_and_one_object(self, words):
        plain = lbhealth(*words)
        assert (plain.code, plain.out) == (2, "")
        assert plain.err
        told = lbhealth(*words, "--json")
        assert told.code == 2
        if words[0] == "probe":
            assert told.document["verdict"] is None
            assert told.document["detail"]
        else:
            assert told.document["error"]

    def test_nobody_reads(self):
        """`lbhealth plugins | true` is no error that anybody wants to read about."""
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [sys.executable, "-m", "lbhealth", "plugins"],
            stdout=write,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        os.close(write)
        assert done.stderr == b""

    def test_plugins_lists_what_is_built_in(self):
        names = {(p["group"], p["name"]) for p in lbhealth("plugins", "--json").document["plugins"]}
        assert names >= {("checkers", "tcp"), ("checkers", "http"), ("drivers", "memory")}
        assert "memory" in lbhealth("plugins").out


class TestCheck:
    def test_a_good_file(self, file, refused):
        path = file(toml().replace("real = [  ]", f'real = [ {{ address = "{refused}" }} ]'))
        assert lbhealth("check", path).code == 0
        told = lbhealth("check", path, "--json")
        assert told.code == 0
        assert told.document["ok"] is True
        assert told.document["counts"] == {"services": 1, "servers": 1, "checks": 1}

    def test_a_broken_file(self, file):
        path = file(BROKEN)
        plain = lbhealth("check", path)
        assert (plain.code, plain.out) == (1, "")
        assert f"{path}:4:" in plain.err
        assert f"{path}:5:" in plain.err
        assert "^" in plain.err
        told = lbhealth("check", path, "--json")
        assert told.code == 1
        assert told.document["ok"] is False
        assert {d["line"] for d in told.document["diagnostics"]} >= {4, 5}

    def test_an_ldirectord_file(self, file):
        text = "virtual=192.0.2.10:80\n    real=10.0.0.1:80 masq\n    checktype=off\n"
        assert lbhealth("check", file(text, "ldirectord.cf"), "--json").code == 0
        assert lbhealth("check", file("quiescant=yes\n", "ldirectord.cf"), "--json").code == 1

    def test_what_cannot_be_read(self, tmp_path):
        for path in (tmp_path / "nowhere.toml", tmp_path):
            assert lbhealth("check", path).code == 2
            told = lbhealth("check", path, "--json")
            assert told.code == 2
            assert "cannot read" in told.document["error"]


class TestPlan:
    def test_without_checks_adds_the_service_alone(self, file, backend):
        done = lbhealth("plan", file(toml(backend)), "--driver", "memory")
        assert done.code == 0
        assert done.out.splitlines() == ["ipvsadm -A -t 192.0.2.10:80 -s wrr"]
        assert backend.requests == 0

    def test_with_checks_adds_the_servers_that_pass(self, file, backend, start_backend):
        broken = start_backend()
        broken.answer = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
        done = lbhealth(
            "plan", file(toml(backend, broken)), "--driver", "memory", "--check", "--json"
        )
        assert done.code == 0
        added = [line for line in done.document["operations"] if " -a " in line]
        assert len(added) == 1
        assert backend.name in added[0]

    def test_what_cannot_be_used(self, file, tmp_path):
        for path in (file(BROKEN), tmp_path / "nowhere.toml"):
            done = lbhealth("plan", path, "--driver", "memory", "--json")
            assert done.code == 2
            assert done.document["operations"] == []

    def test_an_unknown_driver(self, file, backend):
        done = lbhealth("plan", file(toml(backend)), "--driver", "memori", "--json")
        assert done.code == 2
        assert "memory" in done.document["error"]


class TestProbe:
    FIELDS = ("verdict", "status", "detail", "duration", "dialogue")

    def test_pass(self, backend):
        for service in ("connect", "tcp"):
            done = lbhealth("probe", service, backend.name)
            assert done.code == 0
            assert done.out.startswith("PASS L4OK")
        told = lbhealth("probe", "http", backend.name, "--receive", "O.", "--json")
        assert told.code == 0
        assert tuple(told.document) == self.FIELDS
        assert (told.document["verdict"], told.document["status"]) == ("PASS", "L7OK")
        assert any("GET / HTTP/1.1" in step["text"] for step in told.document["dialogue"])

    def test_fail(self, backend, refused):
        assert lbhealth("probe", "connect", refused).code == 1
        told = lbhealth("probe", "http", backend.name, "--receive", "needle", "--json")
        assert told.code == 1
        assert (told.document["verdict"], told.document["status"]) == ("FAIL", "L7RSP")

    def test_time_out(self, backend):
        backend.answer = b"HTTP/1.1 200 OK\r\n"
        with socket.create_server(("127.0.0.1", 0)) as silent:
            where = "{}:{}".format(*silent.getsockname())
            told = lbhealth("probe", "http", where, "--timeout", "0.2", "--json")
        assert (told.code, told.document["status"]) == (1, "L7TOUT")
        assert told.document["duration"] >= 0.2

    def test_error(self):
        told = lbhealth("probe", "connect", "[fe80::1%nowhere9]:80", "--json")
        assert (told.code, told.document["verdict"]) == (3, "ERROR")

    def test_https_with_another_protocol_behind_it(self, backend):
        told = lbhealth("probe", "https", backend.name, "--json")
        assert told.code == 1
        assert told.document["status"] == "L6RSP"

    def test_the_dialogue_goes_to_the_person(self, backend):
        done = lbhealth("probe", "http", backend.name, "-v", "--virtualhost", "www.example.org")
        assert "Host: www.example.org" in done.err
        assert len(done.out.splitlines()) == 1

    def test_control_characters_of_a_server_are_escaped(self, backend):
        backend.answer = b"HTTP/1.1 500 \x1b]0;owned\x07\x1b[31m\r\n\r\n\x1b[2J\xc2\x9b1m"
        done = lbhealth("probe", "http", backend.name, "--receive", "x", "-v")
        assert done.code == 1
        for stream in (done.out, done.err):
            assert all(c.isprintable() or c == "\n" for c in stream)
        assert "\\x1b" in done.out + done.err

    def test_colour_is_for_terminals(self, backend):
        words = [sys.executable, "-m", "lbhealth", "probe", "connect", backend.name]

        def at_a_terminal(**more):
            ours, theirs = pty.openpty()
            subprocess.run(words, stdout=theirs, env=environment(TERM="xterm", **more))
            shown = os.read(ours, 4096)
            os.close(theirs)
            os.close(ours)
            return shown

        assert b"\x1b[32mPASS" in at_a_terminal()
        assert b"\x1b" not in at_a_terminal(NO_COLOR="1")
        assert "\x1b" not in lbhealth(*words[3:], TERM="xterm").out

    def test_an_interrupt_ends_it(self, backend):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            where = "{}:{}".format(*silent.getsockname())
            process = subprocess.Popen(
                [sys.executable, "-m", "lbhealth", "probe", "http", where, "--timeout", "60"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(),
            )
            peer, _ = silent.accept()
            with peer:
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert b"Traceback" not in err


class TestNoDirector:
    @pytest.mark.parametrize(
        "words", [("status",), ("reload",), ("drain", "10.0.0.1:80"), ("online", "10.0.0.1:80")]
    )
    def test_is_said_with_a_remedy(self, tmp_path, words):
        api = f"unix:{tmp_path}/nowhere.sock"
        done = lbhealth(*words, "--api", api)
        assert (done.code, done.out) == (1, "")
        assert api in done.err
        assert "lbhealth run" in done.err
        assert lbhealth(*words, "--json", LBHEALTH_API=api).document["error"]

    def test_a_stranger_at_the_address(self, backend):
        done = lbhealth("status", "--api", backend.name, "--json")
        assert done.code == 1
        assert json.loads(done.out)["error"]

    def test_the_usual_places(self, tmp_path):
        done = lbhealth("status", RUNTIME_DIRECTORY=str(tmp_path))
        assert f"{tmp_path}/api.sock" in done.err
