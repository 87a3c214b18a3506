"""The command as people run it, a director in a process of its own, and servers to check."""

import contextlib
import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time

import pytest

PATIENCE = 30.0
"""Seconds to wait for what must come; a busy machine is no failure."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"


def until(condition):
    """Wait until `condition()` holds and return what it gave."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, "what the test waits for did not come"
        time.sleep(0.02)
    return found


class Backend(socketserver.ThreadingTCPServer):
    """A server that says `answer` to every request."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.answer = OK
        self.requests = 0

    @property
    def name(self):
        return "{}:{}".format(*self.server_address)


class _Conversation(socketserver.BaseRequestHandler):
    def handle(self):
        with contextlib.suppress(OSError):
            if self.request.recv(65536):
                self.server.requests += 1
                self.request.sendall(self.server.answer)


class Result:
    """What a command said and how it ended."""

    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr
        assert "Traceback" not in self.err, self.err

    @property
    def document(self):
        """The one JSON object on stdout."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


def environment(**more):
    """What a service manager would leave of ours, and `more`."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, **more}


def lbhealth(*words, **more):
    """Run the command to its end."""
    return Result(
        subprocess.run(
            [sys.executable, "-m", "lbhealth", *map(str, words)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            env=environment(**more),
        )
    )


class Running:
    """`lbhealth run` on a file, and the commands that talk to it."""

    def __init__(self, directory, text, name="lbhealth.toml"):
        self.file = directory / name
        self.file.write_text(text)
        self.api = f"unix:{directory}/api.sock"
        self.log_file = directory / "log"
        with self.log_file.open("w") as log:
            words = ("run", self.file, "--driver", "memory", "--api", self.api)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lbhealth", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(),
            )
        until(lambda: " runs " in self.log or self.process.poll() is not None)
        assert self.process.poll() is None, self.log

    @property
    def log(self):
        return self.log_file.read_text()

    def ask(self, *words, **more):
        """Run a command that talks to this director."""
        return lbhealth(*words, "--api", self.api, **more)

    def server(self, name):
        """The status of one server."""
        for service in self.ask("status", "--json").document["services"]:
            for server in service["real"]:
                if server["server"] == name:
                    return server
        return None

    def wait_for(self, name, **wanted):
        """Wait until the status of a server has these values."""
        return until(
            lambda: (s := self.server(name)) and all(s[k] == v for k, v in wanted.items()) and s
        )

    def end(self, number=signal.SIGTERM):
        """End it by a signal; return the exit code and the seconds that it took."""
        begun = time.monotonic()
        self.process.send_signal(number)
        self.process.communicate(timeout=60)
        return self.process.returncode, time.monotonic() - begun


def toml(*backends, interval="100ms", weight=5, **more):
    """A configuration with one virtual service."""
    reals = ", ".join(f'{{ address = "{b.name}", weight = {weight} }}' for b in backends)
    extra = "\n".join(f"{key} = {value}" for key, value in more.items())
    return f"""
[[virtual]]
listen = "192.0.2.10:80/tcp"
forwarding = "masq"
check = {{ type = "http", interval = "{interval}", timeout = "5s", rise = 1, fall = 1 }}
real = [ {reals} ]
{extra}
"""


@pytest.fixture
def start_backend():
    """Start servers; all end with the test."""
    with contextlib.ExitStack() as stack:

        def start():
            backend = stack.enter_context(Backend())
            thread = threading.Thread(target=backend.serve_forever, args=(0.01,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(backend.shutdown)
            return backend

        yield start


@pytest.fixture
def backend(start_backend):
    """One server that answers `200 OK`."""
    return start_backend()


@pytest.fixture
def run(tmp_path):
    """Start `lbhealth run` on a text; it is ended with the test and must not have stumbled."""
    started = []

    def start(text, name="lbhealth.toml"):
        started.append(Running(tmp_path, text, name))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            running.end()
        running.process.stdout.close()
        assert "Traceback" not in running.log, running.log
