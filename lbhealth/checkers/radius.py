"""The `radius` check: may this account log in, or is the server alive at all."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from typing import ClassVar

from lbhealth.checkers.datagram import NoAnswer, connected, exchange, spread
from lbhealth.checkers.outcome import excerpt
from lbhealth.checkers.radius_packet import (
    MAX_PASSWORD,
    MAX_VALUE,
    Attribute,
    Code,
    Packet,
    PacketError,
    encode_request,
    hide_password,
    verify_response,
)
from lbhealth.errors import CheckFailed, SettingError
from lbhealth.model import CheckContext, Passed, Status, Target, TransportProtocol

__all__ = ["Radius"]

_VIRTUAL_PORT = (5).to_bytes(4)  # NAS-Port-Type, RFC 2865, 5.41
_GOOD = {
    Code.ACCESS_REQUEST: (Code.ACCESS_ACCEPT,),
    # An accounting port answers with its own code (RFC 5997, 3).
    Code.STATUS_SERVER: (Code.ACCESS_ACCEPT, Code.ACCOUNTING_RESPONSE),
}
_ANSWERS = {
    Code.ACCESS_REQUEST: (Code.ACCESS_ACCEPT, Code.ACCESS_REJECT, Code.ACCESS_CHALLENGE),
    Code.STATUS_SERVER: _GOOD[Code.STATUS_SERVER],
}
_NAMES = {
    Code.ACCESS_REQUEST: "Access-Request",
    Code.ACCESS_ACCEPT: "Access-Accept",
    Code.ACCESS_REJECT: "Access-Reject",
    Code.ACCOUNTING_RESPONSE: "Accounting-Response",
    Code.ACCESS_CHALLENGE: "Access-Challenge",
    Code.STATUS_SERVER: "Status-Server",
}


@dataclass(frozen=True, slots=True)
class Radius:
    """Passes when the server, always over UDP, lets an account in (Access-Accept).

    `login` (up to 253 bytes) and `password` (up to 128) are the account, `secret` is shared
    with the server.  Without a login a Status-Server request asks whether the server is
    alive, which it must support (RFC 5997).  `nas_identifier` (up to 253 bytes) names lbhealth
    to the server, besides the local address.  A server that knows another secret stays
    silent, so a wrong secret is a time-out.
    """

    kind: ClassVar[str] = "radius"
    protocols: ClassVar[tuple[TransportProtocol, ...]] = (TransportProtocol.UDP,)
    owns_sockets: ClassVar[bool] = True

    login: str = ""
    password: str = field(default="", repr=False, metadata={"secret": True})
    secret: str = field(default="", repr=False, metadata={"secret": True})
    nas_identifier: str = "lbhealth"

    def __post_init__(self) -> None:
        """Refuse what does not fit into a packet."""
        if not self.secret:
            raise SettingError("secret", "the secret shared with the server is needed")
        if self.password and not self.login:
            raise SettingError("login", "is needed where there is a password")
        if not self.nas_identifier:
            raise SettingError("nas_identifier", "must not be empty")
        limits = {"login": MAX_VALUE, "password": MAX_PASSWORD, "nas_identifier": MAX_VALUE}
        for name, limit in limits.items():
            if len(_encoded(getattr(self, name))) > limit:
                raise SettingError(name, f"has at most {limit} bytes")

    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        """Ask once, with retransmissions, and judge the genuine answer."""
        code = Code.ACCESS_REQUEST if self.login else Code.STATUS_SERVER
        secret = _encoded(self.secret)
        identifier, authenticator = os.urandom(1)[0], os.urandom(16)

        def accept(data: bytes) -> Packet:
            try:
                packet = verify_response(data, authenticator, secret)
            except PacketError as error:
                raise NoAnswer(str(error)) from None
            if packet.identifier != identifier or packet.code not in _ANSWERS[code]:
                raise NoAnswer(f"a RADIUS packet of code {packet.code} that is no answer")
            return packet

        with connected(target, ctx) as sock:
            attributes = self._attributes(sock, authenticator)
            request = encode_request(code, identifier, authenticator, attributes, secret)
            who = f" for {self.login!r}" if self.login else ""
            ctx.note(">", f"{_NAMES[code]}{who} to {target}, id {identifier}")
            packet = await exchange(sock, request, accept, spread(ctx), ctx)
        return self._judge(code, packet, ctx)

    def _attributes(self, sock: socket.socket, authenticator: bytes) -> list[tuple[int, bytes]]:
        attributes: list[tuple[int, bytes]] = []
        if self.login:
            hidden = hide_password(_encoded(self.password), _encoded(self.secret), authenticator)
            attributes += [
                (Attribute.USER_NAME, _encoded(self.login)),
                (Attribute.USER_PASSWORD, hidden),
                (Attribute.NAS_PORT_TYPE, _VIRTUAL_PORT),
            ]
        address = sock.getsockname()[0].partition("%")[0]
        if sock.family == socket.AF_INET6:
            own = (Attribute.NAS_IPV6_ADDRESS, socket.inet_pton(socket.AF_INET6, address))
        else:
            own = (Attribute.NAS_IP_ADDRESS, socket.inet_aton(address))
        return [*attributes, own, (Attribute.NAS_IDENTIFIER, _encoded(self.nas_identifier))]

    def _judge(self, asked: Code, packet: Packet, ctx: CheckContext) -> Passed:
        name = _NAMES[Code(packet.code)]
        words = b" ".join(packet.values(Attribute.REPLY_MESSAGE))
        for hidden in filter(None, (self.password, self.secret)):
            words = words.replace(_encoded(hidden), b"***")
        said = f": {excerpt(words)}" if words else ""
        ctx.note("<", f"{name}, id {packet.identifier}{said}")
        if packet.code in _GOOD[asked]:
            return Passed(Status.L7OK, name)
        if packet.code == Code.ACCESS_CHALLENGE:
            text = f"{name}: the account needs more than a password{said}"
            raise CheckFailed(Status.L7STS, text)
        raise CheckFailed(Status.L7STS, f"authentication refused: {name}{said}")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
