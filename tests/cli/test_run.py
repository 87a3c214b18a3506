"""`lbhealth run` and the commands that talk to it, each a process of its own."""

import signal
import subprocess
import sys
import time

import pytest

from tests.cli.conftest import environment, lbhealth, toml, until

SERVICE = "tcp:192.0.2.10:80"


@pytest.fixture
def running(run, backend):
    """A director whose one server is up."""
    running = run(toml(backend))
    running.wait_for(backend.name, health="up")
    return running


class TestStatus:
    def test_json_has_the_fields_that_are_promised(self, running, backend):
        status = running.ask("status", "--json").document
        assert status["schema"] == 1
        (service,) = status["services"]
        assert (service["service"], service["scheduler"]) == (SERVICE, "wrr")
        (server,) = service["real"]
        assert server["weight"] == {"configured": 5, "feedback": None, "applied": 5}
        assert server["last"]["status"] == "L7OK"

    def test_for_people(self, running, backend):
        shown = running.ask("status")
        assert shown.code == 0
        assert SERVICE in shown.out
        assert backend.name in shown.out
        assert "\x1b" not in shown.out

    def test_a_failure_is_shown_with_its_reason(self, running, backend):
        backend.answer = b"HTTP/1.1 500 \x1b[31mOops\r\nContent-Length: 0\r\n\r\n"
        server = running.wait_for(backend.name, health="down")
        assert server["weight"]["applied"] == 0
        assert "500" in server["why"]
        shown = running.ask("status").out + running.log
        assert "Oops" in shown
        assert "\x1b" not in shown


class TestOperator:
    def test_drain_halt_and_online(self, running, backend):
        done = running.ask("drain", backend.name, "--reason", "disk", "--until", "1h")
        assert (done.code, done.out) == (0, "")
        server = running.wait_for(backend.name, admin="drain")
        assert "disk" in server["why"]
        assert 3500 < server["admin_until"] - time.time() < 3700
        assert server["admin_actor"]
        assert running.ask("halt", f"{SERVICE}/{backend.name}", "--json").document["changed"] == 1
        until(lambda: running.server(backend.name)["weight"]["applied"] is None)
        assert running.ask("online", backend.name).code == 0
        until(lambda: running.server(backend.name)["weight"]["applied"] == 5)
        assert "set drain by" in running.log

    def test_until_brings_it_back(self, running, backend):
        running.ask("drain", backend.name, "--until", "0.5s")
        running.wait_for(backend.name, admin="online")
        assert "the time for drain is over" in running.log

    def test_an_unknown_server(self, running, backend):
        done = running.ask("drain", backend.name + "0")
        assert done.code == 1
        assert backend.name in done.err
        assert running.ask("halt", "nonsense", "--json").document["status"] == 404


class TestReload:
    def test_takes_a_changed_file(self, running, backend):
        running.file.write_text(toml(backend, weight=9))
        assert running.ask("reload", "--json").document["changed"] == 1
        until(lambda: running.server(backend.name)["weight"]["applied"] == 9)
        running.file.write_text(toml(backend, weight=7))
        running.process.send_signal(signal.SIGHUP)
        until(lambda: running.server(backend.name)["weight"]["applied"] == 7)

    BROKEN = (
        toml().replace("wrr", "").replace('listen = "192.0.2.10:80/tcp"', "listen = 5\nlisen = 6")
    )

    def test_a_broken_file_changes_nothing_and_says_all(self, running, backend):
        running.file.write_text(self.BROKEN)
        done = running.ask("reload")
        assert done.code == 1
        assert f"{running.file}:3:" in done.err
        assert f"{running.file}:4:" in done.err
        assert len(running.ask("reload", "--json").document["diagnostics"]) >= 2
        running.process.send_signal(signal.SIGHUP)
        until(lambda: "the old one stays" in running.log)
        until(lambda: f"{running.file}:3:" in running.log and f"{running.file}:4:" in running.log)
        assert running.server(backend.name)["weight"]["applied"] == 5

    def test_a_file_that_is_gone_changes_nothing(self, running, backend):
        running.file.unlink()
        assert running.ask("reload").code == 1
        running.process.send_signal(signal.SIGHUP)
        until(lambda: "not reloaded" in running.log)
        assert running.server(backend.name)["health"] == "up"

    def test_many_signals_at_once(self, running, backend):
        for weight in (6, 7, 8):
            running.file.write_text(toml(backend, weight=weight))
            running.process.send_signal(signal.SIGHUP)
        until(lambda: running.server(backend.name)["weight"]["applied"] == 8)


class TestStart:
    def test_a_broken_file_is_two(self, tmp_path):
        file = tmp_path / "broken.toml"
        file.write_text(TestReload.BROKEN)
        words = ("run", file, "--driver", "memory", "--api", f"unix:{tmp_path}/api.sock")
        done = lbhealth(*words)
        assert (done.code, done.out) == (2, "")
        assert f"{file}:3:" in done.err
        assert f"{file}:4:" in done.err
        assert not (tmp_path / "api.sock").exists()

    def test_a_file_that_cannot_be_read_is_two(self, tmp_path):
        done = lbhealth("run", tmp_path / "nowhere.toml", "--driver", "memory")
        assert done.code == 2
        assert "nowhere.toml" in done.err

    def test_an_ldirectord_file(self, run, backend):
        text = f"""
checktimeout=2
checkinterval=1
virtual=192.0.2.10:80
    real={backend.name} masq 3
    service=http
    request="index.html"
    receive="OK"
    scheduler=wrr
"""
        running = run(text, "ldirectord.cf")
        server = running.wait_for(backend.name, health="up")
        assert server["weight"]["configured"] == 3

    def test_a_live_director_is_not_disturbed(self, running):
        words = ("run", running.file, "--driver", "memory", "--api", running.api)
        done = lbhealth(*words)
        assert done.code == 1
        assert "another program listens" in done.err
        assert running.ask("status").code == 0

    def test_the_socket_of_a_killed_director_is_replaced(self, run, backend):
        first = run(toml(backend))
        first.end(signal.SIGKILL)
        second = run(toml(backend))
        second.wait_for(backend.name, health="up")

    def test_the_usual_socket(self, tmp_path, backend):
        file = tmp_path / "lbhealth.toml"
        file.write_text(toml(backend))
        more = {"RUNTIME_DIRECTORY": str(tmp_path / "run")}
        process = subprocess.Popen(
            [sys.executable, "-m", "lbhealth", "run", file, "--driver", "memory"],
            stderr=subprocess.DEVNULL,
            env=environment(**more),
        )
        until(lambda: lbhealth("status", **more).code == 0)
        process.terminate()
        assert process.wait(30) == 0

    def test_over_tcp_it_can_be_read_only(self, tmp_path, backend):
        file = tmp_path / "lbhealth.toml"
        file.write_text(toml(backend))
        words = ("run", file, "--driver", "memory", "--api", "127.0.0.1:0")
        process = subprocess.Popen(
            [sys.executable, "-m", "lbhealth", *words],
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        with process:
            line = next(line for line in process.stderr if "API at" in line)
            api = line.split()[-1]
            assert lbhealth("status", "--api", api).code == 0
            assert lbhealth("drain", backend.name, "--api", api).code == 1
            process.terminate()


class TestEnd:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_soon_and_well(self, running, number):
        code, seconds = running.end(number)
        assert code == 0
        assert seconds < 3
        assert not running.file.with_name("api.sock").exists()

    def test_while_a_check_hangs_and_a_reader_waits(self, run, backend):
        backend.answer = b"HTTP/1.1 200 OK\r\n"
        running = run(toml(backend))
        until(lambda: backend.requests)
        code, seconds = running.end()
        assert code == 0
        assert seconds < 3

    def test_stdout_is_for_data(self, running):
        running.process.send_signal(signal.SIGTERM)
        out, _ = running.process.communicate(timeout=30)
        assert out == b""
