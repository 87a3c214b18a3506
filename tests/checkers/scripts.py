"""Servers of line protocols for tests: a greeting, then a reply to each command."""

import asyncio

from lbhealth.testing import ScriptedServer


def conversation(greeting, replies, *, piece=None, every=0.0, host="127.0.0.1"):
    """Greet, then answer each line by the longest beginning of it that `replies` knows.

    A reply of None hangs up.  With `piece` everything leaves in pieces of so many bytes,
    `every` seconds apart.
    """

    async def say(writer, data):
        for start in range(0, len(data), piece or len(data) or 1):
            writer.write(data[start : start + (piece or len(data))])
            await writer.drain()
            await asyncio.sleep(every)

    async def behave(reader, writer):
        await say(writer, greeting)
        pending = b""
        while data := await reader.read(65536):
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                known = [start for start in replies if line.startswith(start)]
                reply = replies[max(known, key=len)]
                if reply is None:
                    return
                await say(writer, reply)

    return ScriptedServer(behave, host=host)
