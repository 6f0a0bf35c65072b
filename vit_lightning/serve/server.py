"""The process: it listens, answers, and ends when it is asked to."""

import asyncio
import logging
import signal
import socket
import sys
import time
from asyncio import Transport
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from vit_lightning.progress import LOGGER, Format
from vit_lightning.serve.gate import State

log = logging.getLogger(__name__)

#: Seconds in which the head of a request has to come, and after which a connection without requests is closed.
HEAD, IDLE = 10.0, 15

#: Connections at once: more are answered 503.
CONNECTIONS = 512

#: Seconds during which a server that ends tells so at least.
SAYING = 0.3


class TimedProtocol(H11Protocol):
    """HTTP/1.1 whose requests' heads have to come within a time, which uvicorn's may take for ever."""

    timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begins to wait for a request."""
        super().connection_made(transport)
        self.wait()

    def data_received(self, data: bytes) -> None:
        """Takes what was sent."""
        try:
            super().data_received(data)
        except h11.LocalProtocolError:  # nonsense after the answer had begun
            self.transport.abort()
        self.wait()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP, and has whoever still waits for the rest of it wait no more."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        super().send_400_response(msg)

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def wait(self) -> None:
        """Gives a request that has begun to come its time."""
        if not self.idle or self.transport.is_closing():
            self.stop()
        elif self.timer is None:
            self.timer = self.loop.call_later(HEAD, self.late)

    def stop(self) -> None:
        """Waits no more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def late(self) -> None:
        """Ends a connection whose request did not come."""
        self.timer = None
        if self.idle:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets it."""
        self.stop()
        super().connection_lost(exc)


class DrainingServer(uvicorn.Server):
    """Asked to end, it takes no more work, answers what it has taken, and then ends.

    Args:
        config: uvicorn's.
        state: What the gate knows.
        patience: Seconds that the work may take.
    """

    def __init__(self, config: uvicorn.Config, state: State, patience: float) -> None:
        super().__init__(config)
        self.state = state
        self.patience = patience
        self.asked: int | None = None
        self.since = 0.0
        self.left = 0  # requests that were given up

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Listens to Ctrl-C and SIGTERM; uvicorn's would be killed by them in the end."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the end, the second one is the end."""
        del frame
        if self.asked is None:
            self.asked, self.since = sig, time.monotonic()
            self.state.draining = True
        else:
            self.left = self.state.busy
            self.should_exit = self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether it is time to end."""
        if self.asked is not None:
            gone = time.monotonic() - self.since
            if gone > self.patience or (gone > SAYING and not self.state.busy):
                self.left = self.state.busy
                self.should_exit = True
        return await super().on_tick(counter)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any that is free.

    Raises:
        ValueError: It cannot.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )[0]
        # Only where the protocol is named asyncio turns Nagle's algorithm off: answers would wait 40 ms for it.
        found = socket.socket(family, kind, protocol)
        if sys.platform != "win32":  # where it would let two servers listen at once
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(1024)
    except (OSError, UnicodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else "") or error
        raise ValueError(f"the server cannot listen on {host}:{port} ({why}); choose another --port") from error
    return found


def set_up_logging() -> None:
    """One line a message on the standard output, never a trace."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(Format())
    logging.basicConfig(handlers=[handler], level=logging.ERROR, force=True)
    logging.getLogger(LOGGER).setLevel(logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # the gate says what is worth a line


def run(app: ASGIApp, state: State, place: socket.socket, *, patience: float) -> int:
    """Serves until it is asked to end.

    Args:
        app: The application with its gate.
        state: What the gate knows.
        place: Where to listen.
        patience: Seconds for what was taken, once it is asked to end.

    Returns:
        The exit status: 0 after SIGTERM, 130 after Ctrl-C, 1 where requests were left unanswered.
    """
    config = uvicorn.Config(
        app,
        http=TimedProtocol,
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=1,
    )
    server = DrainingServer(config, state, patience)
    server.run(sockets=[place])
    if server.left:
        log.error("%d requests were left unanswered", server.left)
        return 1
    return 130 if server.asked == signal.SIGINT else 0
