"""The `telnet` check (RFC 854): the first bytes, options refused, a prompt if asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbhealth.checkers.outcome import excerpt, printable
from lbhealth.checkers.patterns import compile_pattern
from lbhealth.checkers.stream import Stream
from lbhealth.errors import CheckFailed
from lbhealth.model import CheckContext, Passed, Status, Target

__all__ = ["Telnet", "TelnetDecoder"]

_SE, _SB, _WILL, _WONT, _DO, _DONT, _IAC = 240, 250, 251, 252, 253, 254, 255
_REFUSAL = {_WILL: _DONT, _DO: _WONT}


@dataclass(frozen=True, slots=True)
class Telnet:
    """Passes when the server has said its first bytes, or text that matches `receive`.

    Every option is refused (DO with WONT, WILL with DONT), which leaves the plain terminal
    that each server must be content with (RFC 854).  `receive` is a Perl regular expression,
    searched in all the text so far, for a banner or a prompt ("login:").
    """

    kind: ClassVar[str] = "telnet"
    owns_sockets: ClassVar[bool] = True

    receive: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is no expression."""
        if self.receive:
            compile_pattern(self.receive, "receive")

    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        """Listen, refusing options, until there is enough."""
        decoder, text = TelnetDecoder(), b""
        async with Stream.connect(target, ctx) as stream:
            while data := await stream.read_some():
                new, replies = decoder.feed(data)
                if replies:
                    await stream.write(replies)
                text += new
                if self._satisfied(text, bool(new)):
                    return Passed(Status.L7OK, excerpt(text) if text else "negotiates options")
        if self.receive and text:
            wanted = printable(self.receive, 100)
            raise CheckFailed(Status.L7RSP, f'no match for "{wanted}" in {excerpt(text)}')
        raise CheckFailed(Status.L7RSP, "the server closed the connection without a word")

    def _satisfied(self, text: bytes, grown: bool) -> bool:
        if not self.receive:
            return True
        return grown and compile_pattern(self.receive, "receive").search(text)


class TelnetDecoder:
    """Takes commands out of the bytes of a server and refuses the options they offer.

    Knows where it is between two calls, so bytes may be cut anywhere.
    """

    __slots__ = ("_command", "_state")

    def __init__(self) -> None:
        self._state = "text"
        self._command = 0

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """The text in `data`, and the commands to answer with."""
        text, replies = bytearray(), bytearray()
        for byte in data:
            match self._state:
                case "text" if byte == _IAC:
                    self._state = "command"
                case "text":
                    text.append(byte)
                case "command":
                    self._state = self._after(byte)
                    if byte == _IAC:  # doubled: the character itself
                        text.append(byte)
                case "option":
                    self._state = "text"
                    if self._command in _REFUSAL:
                        replies += bytes((_IAC, _REFUSAL[self._command], byte))
                case "parameters" if byte == _IAC:
                    self._state = "parameters-command"
                case "parameters-command":
                    self._state = "text" if byte == _SE else "parameters"
        return bytes(text), bytes(replies)

    def _after(self, command: int) -> str:
        self._command = command
        if command == _SB:
            return "parameters"
        return "option" if _WILL <= command <= _DONT else "text"
