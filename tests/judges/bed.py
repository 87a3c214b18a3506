"""What both judges share: the servers and their states, and lbhealth's own verdicts."""

import asyncio
import contextlib
import dataclasses
import subprocess
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lbhealth.engine.runner import run_check
from lbhealth.model import Target, TransportProtocol
from tests.servers import kit

STATES = RUNNING, STOPPED, REFUSED = ("running", "stopped", "refused")
ONCE = (RUNNING,)
SKIPPED = "skipped"


@dataclass(frozen=True)
class Server:
    port: int
    process: subprocess.Popen[bytes]


@dataclass(frozen=True)
class Question:
    """The same thing asked of lbhealth and of a judge.

    `ask` names it to people and stands in the table; `port` and `checker` are made from the
    server, and so is `judge`, whatever the judge needs.  `patience` is lbhealth's time-out in
    seconds, long for a busy host; a stopped server gets one second.
    """

    protocol: str
    ask: str
    server: str
    port: Callable
    checker: Callable
    judge: Callable
    states: tuple[str, ...] = STATES
    transport: str = "tcp"
    patience: float = 5.0
    target: dict = dataclasses.field(default_factory=dict)

    def cases(self):
        return [(self.protocol, self.ask, state) for state in self.states]


@dataclass(frozen=True)
class Bed:
    found: dict
    missing: dict
    closed: int = dataclasses.field(default_factory=kit.free_port)
    """A port on which nobody listens."""

    def askable(self, questions):
        return [question for question in questions if question.server in self.found]

    def port(self, question, state):
        if state == REFUSED:
            return self.closed
        return question.port(self.found[question.server])

    def processes(self):
        for server in self.found.values():
            if hasattr(server, "process"):
                yield server.process
            else:  # nginx
                pid = int(Path(server.ca_file).with_name("nginx.pid").read_text())
                yield types.SimpleNamespace(pid=pid)

    @contextlib.contextmanager
    def stopped(self):
        """All servers stand still."""
        with contextlib.ExitStack() as stack:
            for process in self.processes():
                stack.enter_context(kit.stopped(process))
            yield

    def verdicts(self, pairs):
        """lbhealth's words on (question, state) pairs, all asked at once."""

        async def one(question, state):
            server = self.found[question.server]
            port = self.port(question, state)
            protocol = TransportProtocol(question.transport)
            target = Target("127.0.0.1", port, protocol, **question.target)
            seconds = 1.0 if state == STOPPED else question.patience
            result = await run_check(question.checker(server), target, seconds)
            return (f"{result.verdict} {result.status}", result.detail)

        async def every():
            return await asyncio.gather(*(one(*pair) for pair in pairs))

        got = []
        # A thread of its own: no event loop of the test runner's is touched.
        thread = threading.Thread(target=lambda: got.extend(asyncio.run(every())))
        thread.start()
        thread.join()
        return {
            (question.protocol, question.ask, state): words
            for (question, state), words in zip(pairs, got, strict=True)
        }


def phases(questions):
    """(question, state) pairs: of servers that run, and of servers that stand still."""
    pairs = [(question, state) for question in questions for state in question.states]
    awake = [pair for pair in pairs if pair[1] != STOPPED]
    return awake, [pair for pair in pairs if pair[1] == STOPPED]


def compare(row, bed, questions, ours, theirs):
    """Reality against one row of the table; skips where the server is not there."""
    question = next(q for q in questions if row.key in q.cases())
    if question.server in bed.missing:
        pytest.skip(bed.missing[question.server])
    said, why = ours[row.key]
    if theirs[row.key][0] == SKIPPED:
        pytest.skip(theirs[row.key][1])
    assert (said, theirs[row.key][0]) == (row.ours, row.theirs), (why, theirs[row.key][1])
