"""Exact reads on a connection, for protocols whose messages say their length."""

from __future__ import annotations

from lbhealth.checkers.dialogue import MAX_BYTES
from lbhealth.checkers.stream import Stream
from lbhealth.errors import CheckFailed
from lbhealth.model import Status

__all__ = ["PacketReader"]


class PacketReader:
    """What a server sends, taken in pieces of a known length.

    The stream limits how much there can be in all.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._data = bytearray()

    def __len__(self) -> int:
        """Bytes that came in and were not taken."""
        return len(self._data)

    async def exactly(self, length: int) -> bytes:
        """The next `length` bytes.

        Raises CheckFailed when the server hangs up first, and for more than MAX_BYTES at once.
        """
        await self._fill(length)
        taken = bytes(self._data[:length])
        del self._data[:length]
        return taken

    async def peek(self, length: int) -> bytes:
        """As `exactly`, but the bytes stay for the next read."""
        await self._fill(length)
        return bytes(self._data[:length])

    def put_back(self, data: bytes) -> None:
        """Let the next read begin with `data`."""
        self._data[:0] = data

    async def _fill(self, length: int) -> None:
        if length > MAX_BYTES:
            raise CheckFailed(Status.L7RSP, f"the server announces {length} bytes at once")
        while len(self._data) < length:
            more = await self._stream.read_some(note=False)
            if not more:
                raise CheckFailed(Status.L7RSP, "the server closed the connection early")
            self._data += more

    async def start_tls(self) -> None:
        """Begin TLS.  Raises CheckFailed when unread data is there (CVE-2021-23222)."""
        if self._data:
            raise CheckFailed(Status.L7RSP, "the server sent data between its consent and TLS")
        await self._stream.start_tls()
