"""Prints the events that ComfyUI sends to its page, one line of JSON each; a part of `benchmarks.comfyui`.

usage: python comfyui_events.py ADDRESS CLIENT, run by ComfyUI's Python, which has aiohttp
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from typing import Any

# The number of a binary event that holds a text for a node.
TEXT = 3


async def main(address: str, client: str) -> None:
    """Listens until the server closes the connection."""
    import aiohttp

    async with aiohttp.ClientSession() as session, session.ws_connect(f"{address}/ws?clientId={client}") as socket:
        print(json.dumps({"type": "listening"}), flush=True)
        async for message in socket:
            event = read(message.data)
            if event is not None:
                print(json.dumps(event), flush=True)


def read(data: str | bytes) -> Any:
    """The event of a message; None for a picture."""
    if isinstance(data, str):
        return json.loads(data)
    kind, length = struct.unpack(">II", data[:8])
    return {"type": "text", "data": data[8 + length :].decode()} if kind == TEXT else None


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
