"""A light client that asks a server for labels, in a process of its own: bare sockets, no HTTP library."""

import argparse
import asyncio
import itertools
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path


def main() -> None:
    """Asks, and prints seconds of each answer as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("port", type=int)
    parser.add_argument("pictures", type=Path, help="a folder of them")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second, at random moments; 0: all that go")
    options = parser.parse_args()
    bodies = itertools.cycle([path.read_bytes() for path in sorted(options.pictures.iterdir())])
    work = open_loop if options.rate else closed_loop
    print(json.dumps(asyncio.run(work(options, bodies))))


async def closed_loop(options: argparse.Namespace, bodies: Iterator[bytes]) -> dict[str, object]:
    """Clients that ask again as soon as they are answered."""
    seconds: list[float] = []
    began = time.perf_counter()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", options.port)
        while time.perf_counter() - began < options.seconds:
            asked = time.perf_counter()
            await ask(reader, writer, next(bodies))
            seconds.append(time.perf_counter() - asked)
        writer.close()

    await asyncio.gather(*(client() for _ in range(options.clients)))
    return {"seconds": seconds, "took": time.perf_counter() - began}


async def open_loop(options: argparse.Namespace, bodies: Iterator[bytes]) -> dict[str, object]:
    """Requests that come at random moments (a Poisson process), whether or not the earlier ones are answered.

    An answer's seconds count from the moment at which it should have been asked for.
    """
    rng, seconds, free = (
        random.Random(0),
        list[float](),
        asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]](),
    )
    moments = [0.0]
    while moments[-1] < options.seconds:
        moments.append(moments[-1] + rng.expovariate(options.rate))
    began = time.perf_counter()

    async def client(moment: float) -> None:
        if free.empty():
            free.put_nowait(await asyncio.open_connection("127.0.0.1", options.port))
        connection = await free.get()
        await ask(*connection, next(bodies))
        seconds.append(time.perf_counter() - began - moment)
        free.put_nowait(connection)

    asked = []
    for moment in moments:
        await asyncio.sleep(max(0.0, began + moment - time.perf_counter()))
        asked.append(asyncio.create_task(client(moment)))
    await asyncio.gather(*asked)
    return {"seconds": seconds, "took": time.perf_counter() - began}


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
    """Asks for one picture's label.

    Raises:
        RuntimeError: It is not answered with 200.
    """
    writer.write(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode())
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)


if __name__ == "__main__":
    main()
