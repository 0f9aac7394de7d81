"""A server in front of another one that does to some requests what networks and busy services do.

`python -m campaign.faulty_proxy HOST PORT FAULT EVERY`: prints its port; each EVERY-th connection meets the FAULT. A
server that is silent is dead with EVERY 1, else it stalls `STALLS` times: each costs its timeout.
"""

import asyncio
import itertools
import sys

FAULTS = ("drop", "error 500", "error 503", "cut", "slow", "silent", "garbage")
NUMBERS = itertools.count(1)
STALLS = 3


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None = None) -> None:
    passed = 0
    while data := await reader.read(65536):
        if limit is not None and passed + len(data) > limit:
            writer.write(data[: limit - passed])
            break
        passed += len(data)
        writer.write(data)
        await writer.drain()
    writer.close()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: tuple[str, int]) -> None:
    """One connection: harmed or passed on."""
    fault, every = sys.argv[3], int(sys.argv[4])
    number = next(NUMBERS)
    harmed = number % every == 0 and (fault != "silent" or every == 1 or number <= STALLS * every)
    if harmed and fault not in ("cut", "slow"):
        await reader.read(65536)
        if fault == "silent":
            await asyncio.sleep(600)
        if fault == "garbage":
            writer.write(b"\x00\x01 not HTTP\r\n\r\n")
        if fault.startswith("error"):
            writer.write(
                f"HTTP/1.1 {fault.split()[1]} Broken\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
            )
        writer.close()
        return
    if harmed and fault == "slow":
        await asyncio.sleep(2)
    upstream_reader, upstream_writer = await asyncio.open_connection(*there)
    limit = 600 if harmed and fault == "cut" else None
    await asyncio.gather(_copy(reader, upstream_writer), _copy(upstream_reader, writer, limit), return_exceptions=True)


async def main() -> None:
    there = (sys.argv[1], int(sys.argv[2]))
    server = await asyncio.start_server(lambda reader, writer: _serve(reader, writer, there), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
