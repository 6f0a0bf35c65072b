"""What a real server does with hostile requests: an answer in a line or the end of the connection, and it goes on.

    python -m benchmarks.hostile_requests [--requests 3000] [--seed 1] [--model FILE.onnx] [--memory 1500]

Wrong methods, paths and headers, no HTTP at all, broken chunks and forms, bombs, damaged pictures, tricks in names,
slow senders and clients that leave, sixteen at once, each drawn from a seed of its own. Among them are good pictures,
which have to be answered as ever. Failures are: a status of 500, an answer that is no JSON line, a connection that
neither is answered nor ends, a good picture with another answer, a trace or anything unexpected in the server's log,
more memory than `--memory` MB at the peak (Linux), a server that does not end on SIGTERM. Then the exit status is 1.
"""

import argparse
import asyncio
import functools
import io
import json
import math
import os
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

#: What is sent: bytes, and seconds of silence between them.
Pieces = list[bytes | float]

#: Connections at once, the server's time for a request, and seconds in which each has to be through: a request's time,
#: or a head's (vit_lightning/serve/server.py), and what others take of the processor.
AT_ONCE, TIMEOUT, THROUGH = 16, 2.0, 60.0

#: Statuses that an answer may have.
STATUSES = (200, 400, 403, 404, 405, 408, 413, 415, 421, 422, 429, 431, 503, 504)

NAMES = [
    "../../etc/passwd",
    "/etc/shadow",
    "a\x00.jpg",
    "..\\..\\x",
    "\u202egpj.exe",
    "'; DROP TABLE x",
    "%s%n",
    "x" * 5000,
]
NAMES += ["<script>alert(1)</script>", "=cmd()", "con", "", ".", "~", "a\r\nSet-Cookie: x=1", '"; filename="b']
FORMS = ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"]


@dataclass
class Attack:
    """One connection.

    Args:
        pieces: What is sent on it.
        leaves: Whether the client leaves without waiting for an answer.
        good: Whether it is a good request.
    """

    pieces: Pieces
    leaves: bool = False
    good: bool = False


def request(
    body: bytes = b"", *headers: str, method: str = "POST", path: str = "/predict", length: bool = True
) -> bytes:
    """A request that asks for the connection's end."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    lines += [f"Content-Length: {len(body)}"] if length else []
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def picture(rng: random.Random, form: str | None = None) -> bytes:
    """A picture of noise."""
    content = io.BytesIO()
    size = rng.randrange(1, 200), rng.randrange(1, 200)
    Image.frombytes("RGB", size, rng.randbytes(3 * size[0] * size[1])).save(content, form or rng.choice(FORMS))
    return content.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """A PNG's part."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@functools.cache
def zeros(count: int) -> bytes:
    """So many zeros, packed."""
    return zlib.compress(bytes(count), 1)


def bomb(rng: random.Random) -> bytes:
    """A picture that is larger than it looks."""
    width, height = rng.choice([(60_000, 60_000), (8_000, 8_000), (2**31 - 1, 1), (1, 10**6), (19_999, 1_200), (0, 0)])
    pick = rng.randrange(5)
    if pick == 0:
        return (
            b"GIF89a"
            + struct.pack("<HH", min(width, 65_535), min(height, 65_535))
            + b"\x80\x00\x00"
            + rng.randbytes(40)
        )
    if pick == 1:
        return (
            b"BM" + struct.pack("<IIIIiiHHIIiiII", 200, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(99)
        )
    head = chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, rng.choice([1, 8, 16]), rng.choice([0, 2, 6]), 0, 0, 0)
    )
    if pick == 2:  # text that unpacks to 100 MB
        head += chunk(b"zTXt", b"k\0\0" + zeros(100_000_000))
    full = 10 ** round(math.log10(min(30_000_000, (6 * width + 1) * height + 1)))
    rows = zeros(full if pick == 3 else 1000)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def damaged(rng: random.Random, content: bytes) -> bytes:
    """With an end missing, or bytes changed."""
    if rng.random() < 0.5:
        return content[: rng.randrange(len(content))]
    data = bytearray(content)
    for _ in range(rng.choice([1, 3, 30])):
        data[rng.randrange(min(len(data), rng.choice([60, 10**9])))] = rng.randrange(256)
    return bytes(data)


def bodies(rng: random.Random) -> Attack:
    """A body that is no good picture."""
    others = [
        b"",
        b"\x00" * 1000,
        rng.randbytes(500),
        b"GIF89a",
        b"\xff\xd8\xff",
        b"<svg/>",
        b"%!PS",
        b"II*\x00\xff\xff\xff\xff",
    ]
    others += [b"\x80\x04cos\nsystem\n", b"PK\x03\x04" + rng.randbytes(99), b"x" * 21_000_000]
    body = rng.choice([rng.choice(others), bomb(rng), damaged(rng, picture(rng)), damaged(rng, picture(rng))])
    kinds = ["", "image/png", "text/html; charset=\x00", "application/json", "application/x-www-form-urlencoded"]
    return Attack([request(body, f"Content-Type: {rng.choice(kinds)}" if rng.random() < 0.5 else "X: y")])


def forms(rng: random.Random) -> Attack:
    """A form that is none, or holds what it should not."""
    boundary = rng.choice(["x", "-" * 70, "y" * 3000, "", "a b", "\u00e9", "x\x00"])
    contents = [picture(rng), damaged(rng, picture(rng)), b"", b"\r\n--x\r\n"]
    files = []
    for _ in range(rng.choice([1, 2, 40, 300])):
        name = rng.choice(NAMES)
        head = rng.choice(
            [
                f'Content-Disposition: form-data; name="file"; filename="{name}"',
                f"Content-Disposition: form-data; name=file; filename*=UTF-8''{name}",
                f'Content-Disposition: form-data; filename="{name}"',
                f'Content-Disposition: form-data; name="{name}"',
                "Content-Disposition: form-data",
                "X" * rng.choice([1, 9000]),
                "",
            ]
        )
        files.append(
            f"--{boundary}\r\n{head}\r\n\r\n".encode() + rng.choice(contents) + rng.choice([b"\r\n", b"", b"\n"])
        )
    body = b"".join(files) + rng.choice([f"--{boundary}--\r\n".encode(), b"", b"--", f"--{boundary}".encode()])
    body = damaged(rng, body) if rng.random() < 0.3 else body
    kind = rng.choice(["multipart/form-data", "multipart/form-data", "multipart/mixed", "MULTIPART/FORM-DATA"])
    more = rng.choice(["", "; charset=utf-7", "; charset=no-such"])
    return Attack([request(body, f"Content-Type: {kind}; boundary={boundary}{more}")])


def lines(rng: random.Random) -> Attack:
    """A first line, or headers, that are wrong."""
    paths = [
        "/../../etc/passwd",
        "/%2e%2e/%00",
        "//predict",
        "*",
        "http://elsewhere/predict",
        "/predict?top=" + "9" * 5000,
    ]
    paths += [
        "/predict?top=-1",
        "/predict?top=nan",
        "/predict?top=1&top=x",
        "/" + "a" * 9000,
        "/predict/",
        "/\x00",
        "/ x",
        "",
    ]
    paths += ["/docs", "/metrics", "/openapi.json", "/predict?top[]=1", "/model?x=%ff%fe", "/health;x"]
    methods = [
        "GET",
        "PUT",
        "DELETE",
        "TRACE",
        "CONNECT",
        "OPTIONS",
        "HEAD",
        "PATCH",
        "post",
        "X" * 300,
        "PO\x00ST",
        "G\u00c9T",
    ]
    headers = [
        "Expect: 100-continue",
        "Content-Encoding: gzip",
        "Upgrade: websocket",
        "Host: elsewhere",
        "Cookie: " + "a" * 70_000,
    ]
    headers += [
        "Content-Length: -1",
        "Content-Length: 99999999999999999999",
        "Content-Length: abc",
        "Content-Length: 1, 2",
    ]
    headers += [
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "no colon",
        ": empty",
        "A\x00: b",
        "A: b\x00c",
    ]
    headers += [" folded: x", "Authorization: Bearer \xff", "Range: bytes=0-", "X: y\r\n" * 300 + "X: y"]
    chosen = rng.sample(headers, rng.choice([0, 1, 1, 2]))
    method = rng.choice(methods) if rng.random() < 0.5 else "POST"
    return Attack(
        [
            request(
                picture(rng), *chosen, method=method, path=rng.choice([*paths, "/predict"]), length=rng.random() < 0.7
            )
        ]
    )


def nonsense(rng: random.Random) -> Attack:
    """No HTTP."""
    known = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(200), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    known += [
        b"GET /\r\n\r\n",
        b"\r\n" * 500,
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x00" * 5000,
        rng.randbytes(3000),
        b"SSH-2.0-x\r\n",
    ]
    known += [b"POST /predict HTTP/1.1\r\n\r\n", b"A" * 200_000, b"POST /predict HTTP/1.0\r\n\r\nxyz", b""]
    more: Pieces = [0.1, rng.randbytes(50)] if rng.random() < 0.3 else []
    return Attack([rng.choice(known), *more], leaves=rng.random() < 0.3)


def chunks(rng: random.Random) -> Attack:
    """A body in chunks that are broken."""
    content = picture(rng)
    whole = b"%x\r\n%s\r\n" % (len(content), content)
    ends = [
        b"0\r\n\r\n",
        b"",
        b"0\r\n",
        b"-1\r\n\r\n",
        b"zz\r\n\r\n",
        b"ffffffffffffffffffff\r\n",
        b"5\r\nab",
        b"0\r\nX: y\r\n\r\n",
    ]
    ends += [
        b"1;" + b"x" * 100_000 + b"\r\na\r\n",
        b"\x00\r\n",
        b"1\r\na\r\n" * 5000 + b"0\r\n\r\n",
        b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
    ]
    head = request(b"", "Transfer-Encoding: chunked", length=rng.random() < 0.2)
    return Attack([head + rng.choice([whole, whole[:-9], b""]) + rng.choice(ends)])


def slow(rng: random.Random) -> Attack:
    """A sender that takes its time, or sends no more."""
    whole = request(picture(rng))
    if rng.random() < 0.3:
        place = rng.randrange(len(whole) - 1)
        return Attack([whole[:place], rng.choice([3.0, 12.0])])
    steps = rng.choice([20, 60])
    width = -(-len(whole) // steps) if rng.random() < 0.5 else 3
    return Attack(
        [each for k in range(steps) for each in (whole[k * width : (k + 1) * width], rng.choice([0.05, 0.2]))]
    )


def leaving(rng: random.Random) -> Attack:
    """A client that leaves before its answer, or half-way."""
    whole = request(picture(rng))
    place = rng.choice([len(whole), rng.randrange(1, len(whole))])
    return Attack([whole[:place], *([rng.choice([0.001, 0.02])] if rng.random() < 0.5 else [])], leaves=True)


def several(rng: random.Random) -> Attack:
    """Requests one behind the other, without waiting for an answer."""
    one = request(picture(rng)).replace(b"Connection: close\r\n", b"")
    return Attack([one * rng.choice([2, 10]) + rng.choice([b"", b"\x00garbage\r\n\r\n", request(b"x"), one[:50]])])


#: How often each kind is drawn.
KINDS: dict[Callable[[random.Random], Attack], int] = {
    bodies: 26,
    forms: 16,
    lines: 20,
    nonsense: 8,
    chunks: 10,
    slow: 3,
    leaving: 9,
    several: 3,
}


def main() -> int:
    """Runs the campaign; gives 1 where there was a failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1, help="of the first request; the next has the next")
    parser.add_argument("--model", type=Path, help="an exported model; left out, one of the demo's size")
    parser.add_argument("--memory", type=float, default=1500.0, help="MB at the peak (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model
        if model is None:
            from benchmarks.serve import prepare

            prepare(Path(folder))
            model = Path(folder) / "model.onnx"
        return campaign(model.absolute(), Path(folder), options.requests, options.seed, options.memory)


def campaign(model: Path, folder: Path, count: int, seed: int, memory: float) -> int:
    """Sends so many requests to a server of its own, and tells what came of them."""
    command = [
        sys.executable,
        "-m",
        "vit_lightning.cli",
        "serve",
        f"--model={model}",
        "--port=0",
        f"--timeout={TIMEOUT:g}",
    ]
    root = Path(__file__).parent.parent
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | {"PYTHONPATH": str(root)}, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        port = wait_for(folder / "server.log", process)
        began = time.monotonic()
        outcomes, failures = asyncio.run(send_all(port, count, seed))
        took = time.monotonic() - began
        peak = peak_of(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)
    said = (folder / "server.log").read_text().splitlines()[1:]
    failures += [f"the server's log has {line[:200]!a}" for line in said]
    failures += [f"the server ended with status {status}"] if status else []
    failures += [f"the server took {peak:.0f} MB"] if peak > memory else []
    for line in failures:
        print(f"FAILURE {line}")
    told = ", ".join(f"{number} {what}" for what, number in sorted(outcomes.items()))
    print(f"{count:,} requests in {took:.0f} s: {told}")
    print(f"peak memory {peak:.0f} MB, {len(said)} lines in the log, {len(failures)} failures")
    return int(bool(failures))


def wait_for(log: Path, process: "subprocess.Popen[bytes]") -> int:
    """The port of a server, once its log tells.

    Raises:
        RuntimeError: It has ended.
    """
    while process.poll() is None:
        found = re.search(r" is on http://[^:]+:(\d+) ", log.read_text())
        if found:
            return int(found[1])
        time.sleep(0.1)
    raise RuntimeError(log.read_text())


def peak_of(process: int) -> float:
    """The most memory that a process has had, in MB; 0 where the system does not tell."""
    path = Path(f"/proc/{process}/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", path.read_text()) if path.is_file() else None
    return int(found[1]) / 1000 if found else 0.0


async def send_all(port: int, count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Sends them, some at once; gives how often what came out, and what failed."""
    rng = random.Random(0)
    good = [request(picture(rng, form)) for form in FORMS]
    right = {each: body_of(await spoken(port, [each], leaves=False)) for each in good}
    outcomes: Counter[str] = Counter()
    failures: list[str] = [f"a good picture is answered {body!a}" for body in right.values() if b'"label"' not in body]
    kinds, weights = list(KINDS), list(KINDS.values())
    numbers = iter(range(seed, seed + count))

    async def client() -> None:
        for number in numbers:
            rng = random.Random(number)
            if rng.random() < 0.05:
                kind, attack = "good", Attack([rng.choice(good)], good=True)
            else:
                chosen = rng.choices(kinds, weights)[0]
                kind, attack = chosen.__name__, chosen(rng)
            try:
                answer = await asyncio.wait_for(spoken(port, attack.pieces, leaves=attack.leaves), THROUGH)
            except TimeoutError:
                failures.append(f"{kind} seed {number}: neither an answer nor an end within {THROUGH:g} s")
                continue
            first = attack.pieces[0]
            outcome, trouble = judge(answer, bare=isinstance(first, bytes) and first.startswith(b"HEAD "))
            if attack.good and outcome == "200" and body_of(answer) != right[bytes(attack.pieces[0])]:  # type: ignore[arg-type]  # no pause
                trouble = "another answer than before"
            if attack.good and outcome not in ("200", "429"):
                trouble = f"a good picture is answered {outcome}"
            outcomes[outcome] += 1
            if trouble:
                failures.append(f"{kind} seed {number}: {trouble}")

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    for each, body in right.items():
        if body_of(await spoken(port, [each], leaves=False)) != body:
            failures.append("in the end a good picture is answered otherwise")
    return outcomes, failures


async def spoken(port: int, pieces: Sequence[bytes | float], *, leaves: bool) -> bytes:
    """What is heard on a connection on which this is said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard = b""

    async def say() -> None:
        for piece in pieces:
            if isinstance(piece, bytes):
                writer.write(piece)
                await writer.drain()
            else:
                await asyncio.sleep(piece)

    async def hear() -> bytes:
        found = b""
        while piece := await reader.read(65536):
            found += piece
        return found

    hearing = asyncio.create_task(hear())
    try:
        await say()
        if leaves:
            writer.transport.abort()
        heard = await hearing
    except OSError:  # it was cut off; what has been said before may still be there
        with_rest = await asyncio.gather(hearing, return_exceptions=True)
        heard = with_rest[0] if isinstance(with_rest[0], bytes) else b""
    finally:
        hearing.cancel()
        writer.transport.abort()
    return heard


def body_of(answer: bytes) -> bytes:
    """What follows the head of an answer."""
    return answer.partition(b"\r\n\r\n")[2]


def judge(answer: bytes, *, bare: bool = False) -> tuple[str, str]:
    """The status of an answer, `closed` without one, and what is wrong with it; a bare one is to have no body."""
    if not answer:
        return "closed", ""
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    if not found:
        return "strange", f"no HTTP: {answer[:100]!a}"
    status, body = int(found[1]), body_of(answer)
    if status == 100:
        return judge(body, bare=bare)
    if status not in STATUSES:
        return str(status), f"status {status}: {body[:200]!a}"
    if b"Traceback" in answer or b'File "' in body:
        return str(status), f"a trace: {body[:200]!a}"
    if status >= 400 and b"application/json" in answer and not bare:
        try:
            told, _ = json.JSONDecoder().raw_decode(body.decode())
            if "\n" in told["error"] or not told["error"].isprintable():
                return str(status), f"no line: {body[:200]!a}"
        except (ValueError, KeyError):
            return str(status), f"no JSON: {body[:200]!a}"
    return str(status), ""


if __name__ == "__main__":
    sys.exit(main())
