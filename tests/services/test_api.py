"""The API of a director, over its sockets."""

import asyncio
import errno
import json
import os
import socket
import stat
import time
from pathlib import Path

import pytest

from lbhealth.config import Diagnostic, Severity, Span
from lbhealth.errors import ConfigError, LbhealthError
from lbhealth.model import AdminState, HealthState, Verdict
from lbhealth.services.address import TcpAddress, UnixAddress, parse_address
from lbhealth.services.api import Api
from tests.engine.kit import OTHER, config, real, until, virtual

ONE = "10.0.0.1:80"


class TestAddress:
    @pytest.mark.parametrize(
        ("text", "address"),
        [
            ("unix:/run/x.sock", UnixAddress(Path("/run/x.sock"))),
            ("unix:x.sock", UnixAddress(Path("x.sock"))),
            ("127.0.0.1:8000", TcpAddress("127.0.0.1", 8000)),
            ("[::1]:8000", TcpAddress("::1", 8000)),
            ("localhost:0", TcpAddress("localhost", 0)),
        ],
    )
    def test_is_read_and_written(self, text, address):
        assert str(parse_address(text)) == str(address) == text

    @pytest.mark.parametrize(
        "text", ["", "unix:", "127.0.0.1", ":80", "a:b", "a:99999", "a:\N{SUPERSCRIPT TWO}", "/x"]
    )
    def test_that_is_none_says_how_to_write_one(self, text):
        with pytest.raises(ValueError, match="write unix:"):
            parse_address(text)


class TestSocket:
    async def test_is_for_the_group_and_goes_with_the_api(self, director, serve, socket_path):
        api = Api(director, None)
        assert await api.start(UnixAddress(socket_path)) == f"unix:{socket_path}"
        mode = socket_path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o660
        await api.aclose()
        assert not socket_path.exists()

    async def test_its_directory_is_made(self, serve, tmp_path):
        client = await serve(UnixAddress(tmp_path / "lbhealth" / "api.sock"))
        assert (await client.get("/healthz"))[0] == 200

    async def test_a_stale_one_is_replaced(self, serve, socket_path):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(socket_path))
            stale.listen()
        client = await serve(UnixAddress(socket_path))
        assert (await client.get("/healthz"))[0] == 200

    async def test_a_live_one_is_refused_and_left_alone(self, client, serve, socket_path):
        with pytest.raises(OSError, match=str(socket_path)) as caught:
            await serve(UnixAddress(socket_path))
        assert caught.value.errno == errno.EADDRINUSE
        assert (await client.get("/healthz"))[0] == 200

    async def test_a_file_is_not_replaced(self, serve, socket_path):
        socket_path.write_text("precious")
        with pytest.raises(OSError, match=str(socket_path)):
            await serve(UnixAddress(socket_path))
        assert socket_path.read_text() == "precious"

    async def test_a_path_that_cannot_be_had_is_named(self, serve, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match=r"file/api\.sock"):
            await serve(UnixAddress(tmp_path / "file" / "api.sock"))

    async def test_a_tcp_port_in_use_is_refused(self, serve):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            with pytest.raises(OSError) as caught:
                await serve(TcpAddress(*taken.getsockname()))
            assert caught.value.errno == errno.EADDRINUSE

    async def test_no_descriptor_stays_behind(self, director, socket_path):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            api = Api(director, None)
            await api.start(UnixAddress(socket_path))
            with pytest.raises(OSError):
                await Api(director, None).start(UnixAddress(socket_path))
            await api.aclose()
        assert len(os.listdir("/proc/self/fd")) == before


class TestReading:
    @pytest.fixture(params=["client", "reader"])
    def anyone(self, request):
        return request.getfixturevalue(request.param)

    async def test_it_lives(self, anyone):
        assert await anyone.get("/healthz") == (200, "ok\n")

    async def test_it_is_ready_once_every_server_has_a_verdict(self, switches, serve, director):
        switches[1].says = Verdict.ERROR
        client = await serve(TcpAddress("127.0.0.1", 0))
        await until(lambda: switches[1].runs > 1)
        assert (await client.get("/readyz"))[0] == 503
        switches[1].says = Verdict.FAIL
        await until(lambda: director.ready)
        assert (await client.get("/readyz"))[0] == 200

    async def test_status_has_the_fields_that_are_promised(self, ready, anyone):
        await until(lambda: ready.driver.weights() == {ONE: 4, "10.0.0.2:80": 4})
        code, status = await anyone.get("/v1/status")
        assert code == 200
        assert status["schema"] == 1
        (service,) = status["services"]
        assert service["service"] == "tcp:192.0.2.10:80"
        assert service["scheduler"] == "wrr"
        assert service["fallback"] is None
        server = service["real"][0]
        assert server.keys() >= {"server", "health", "admin", "weight", "why", "since", "last"}
        assert (server["server"], server["health"], server["admin"]) == (ONE, "up", "online")
        assert server["weight"] == {"configured": 4, "feedback": None, "applied": 4}
        assert abs(server["since"] - time.time()) < 60
        last = server["last"]
        assert (last["verdict"], last["status"], last["detail"]) == ("PASS", "L7OK", "fine")
        assert 0 <= last["duration"] < 5

    async def test_status_of_a_large_service_is_whole(self, ready, client):
        servers = [real(address=f"10.1.{n // 250}.{n % 250}") for n in range(3000)]
        await ready.reload(config(virtual(*servers), virtual(key=OTHER)))
        _, status = await client.get("/v1/status")
        assert [len(s["real"]) for s in status["services"]] == [3000, 0]

    async def test_a_reader_that_goes_away_does_no_harm(self, ready, client, socket_path):
        for _ in range(3):
            _, writer = await asyncio.open_unix_connection(str(socket_path))
            writer.write(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
            writer.transport.abort()
        assert (await client.get("/v1/status"))[0] == 200


class TestReadOnly:
    @pytest.mark.parametrize("path", ["/v1/admin", "/v1/reload"])
    async def test_over_tcp_nothing_can_be_done(self, ready, reader, path):
        body = {"server": ONE, "state": "halt"}
        code, _ = await reader.post(path, json=body)
        assert code in (404, 405)
        assert ready.snapshot().services[0].real[0].admin.state is AdminState.ONLINE


class TestAdmin:
    async def test_takes_a_server_offline_and_online(self, ready, client):
        code, answer = await client.post(
            "/v1/admin", json={"server": ONE, "state": "drain", "reason": "disk", "actor": "ann"}
        )
        assert (code, answer["state"], answer["changed"]) == (200, "drain", 1)
        admin = ready.snapshot().services[0].real[0].admin
        assert (admin.state, admin.reason, admin.actor) == (AdminState.DRAIN, "disk", "ann")
        await until(lambda: ready.driver.weights().get(ONE) == 0)
        until_then = time.time() + 60
        await client.post("/v1/admin", json={"server": ONE, "state": "halt", "until": until_then})
        _, status = await client.get("/v1/status")
        assert status["services"][0]["real"][0]["admin"] == "halt"
        assert status["services"][0]["real"][0]["admin_until"] == until_then
        await client.post("/v1/admin", json={"server": ONE, "state": "online"})
        await until(lambda: ready.driver.weights().get(ONE) == 4)

    async def test_an_unknown_server_is_not_found_but_the_nearest_is_named(self, client):
        code, problem = await client.post(
            "/v1/admin", json={"server": "10.0.0.1:8", "state": "halt"}
        )
        assert (code, problem["status"]) == (404, 404)
        assert ONE in problem["detail"]

    @pytest.mark.parametrize(
        "body",
        [
            {},
            [],
            "halt",
            {"server": ONE},
            {"state": "halt"},
            {"server": ONE, "state": "HALT"},
            {"server": ONE, "state": None},
            {"server": 1, "state": "halt"},
            {"server": ONE, "state": "halt", "reason": 5},
            {"server": ONE, "state": "halt", "reason": "x" * 2000},
            {"server": ONE, "state": "halt", "until": "tomorrow"},
            {"server": ONE, "state": "halt", "until": True},
            {"server": ONE, "state": "halt", "until": float("inf")},
            {"server": ONE, "state": "halt", "until": float("nan")},
        ],
        ids=str,
    )
    async def test_a_wrong_body_changes_nothing(self, ready, client, body):
        code, problem = await client.post("/v1/admin", data=json.dumps(body))
        assert code == 400
        assert problem["detail"]
        assert ready.snapshot().services[0].real[0].admin.state is AdminState.ONLINE

    @pytest.mark.parametrize(
        ("data", "headers", "expected"),
        [
            (b"{", {}, 400),
            (b"\xff\xfe", {}, 400),
            (b"", {}, 400),
            (b"[" * 60_000, {}, 400),
            (b"{}", {"Content-Type": "application/json; charset=nonsense"}, 400),
            (b'{"server": "' + b"x" * 100_000 + b'"}', {}, 413),
        ],
        ids=["cut", "bytes", "empty", "deep", "charset", "huge"],
    )
    async def test_a_body_that_is_no_json_is_refused(self, client, caplog, data, headers, expected):
        code, problem = await client.post("/v1/admin", data=data, headers=headers)
        assert (code, problem["status"]) == (expected, expected)
        assert caplog.records == []


class TestReload:
    async def test_answers_what_changed(self, serve, socket_path):
        asked = []

        async def reload(force):
            asked.append(force)
            return {"added": 1, "changed": 0, "removed": 0, "unchanged": 2}

        client = await serve(UnixAddress(socket_path), reload)
        assert await client.post("/v1/reload", json={"force": True}) == (
            200,
            {"schema": 1, "added": 1, "changed": 0, "removed": 0, "unchanged": 2},
        )
        await client.post("/v1/reload")
        assert asked == [True, False]
        assert (await client.post("/v1/reload", json={"force": "no"}))[0] == 400

    async def test_a_broken_file_answers_with_every_finding(self, serve, socket_path):
        found = [Diagnostic(f"LB{n}", Severity.ERROR, "no", "x.cf", Span(n, 1)) for n in (101, 102)]

        async def reload(force):
            raise ConfigError(found)

        client = await serve(UnixAddress(socket_path), reload)
        code, problem = await client.post("/v1/reload")
        assert code == 422
        assert [d["line"] for d in problem["diagnostics"]] == [101, 102]

    async def test_another_refusal_says_why(self, serve, socket_path):
        async def reload(force):
            raise LbhealthError("the file is gone")

        client = await serve(UnixAddress(socket_path), reload)
        assert (await client.post("/v1/reload"))[1]["detail"] == "the file is gone"


class TestProblems:
    @pytest.mark.parametrize(
        ("method", "path", "expected"),
        [("GET", "/nowhere", 404), ("POST", "/v1/status", 405), ("DELETE", "/v1/admin", 405)],
    )
    async def test_every_refusal_is_a_problem_document(self, client, method, path, expected):
        async with client.session.request(method, client.base + path) as response:
            assert response.status == expected
            assert response.content_type == "application/problem+json"
            assert (await response.json(content_type=None))["status"] == expected


def test_health_states_are_the_words_of_the_document():
    assert {str(state) for state in HealthState} == {"up", "down", "unknown"}
    assert {str(state) for state in AdminState} == {"online", "drain", "halt"}
