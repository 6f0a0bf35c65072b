"""What every request passes: who may ask, whether the server is ending, and a line for whatever goes wrong."""

import hmac
import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vit_lightning.progress import told
from vit_lightning.serve.limits import RefusedError

log = logging.getLogger(__name__)

#: What anybody may ask, and what is asked while the server ends.
OPEN = ("/health", "/ready")

#: Statuses after which the connection ends: the rest of the request may still be on its way.
LAST = (408, 413, 503)

#: The status that is counted where the client left before its answer, as nginx has it.
LEFT = 499


@dataclass
class State:
    """What the server is doing.

    Args:
        draining: Whether it is about to end.
        busy: Requests that it has taken and not yet answered.
    """

    draining: bool = False
    busy: int = 0


class Gate:
    """Around the application.

    Args:
        app: What is inside.
        paths: Those that it knows; others are counted together.
        token: Without which nothing but `OPEN` is answered; '' where none is needed.
        hosts: Names by which the server may be called; none where any will do.
        state: What the server is doing.
        count: Told path, status and seconds of each request.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        paths: Iterable[str],
        token: str,
        hosts: Iterable[str],
        state: State,
        count: Callable[[str, int, float], None],
    ) -> None:
        self.app = app
        self.paths = frozenset(paths)
        self.token = token.encode()
        self.hosts = frozenset(hosts)
        self.state = state
        self.count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, counts it, and lets no exception out."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), LEFT

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if status in LAST or self.state.draining:
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        self.state.busy += 1
        try:
            await self.passed(scope, receive, noting)
        except Exception as error:
            if status == LEFT:  # otherwise the application has told it
                await refused(error)(scope, receive, noting)
        finally:
            self.state.busy -= 1
            path = scope["path"] if scope["path"] in self.paths else "other"
            self.count(path, status, time.perf_counter() - began)

    async def passed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request in.

        Raises:
            RefusedError: It may not.
        """
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self.hosts and host.rpartition(":")[0].strip("[]") not in self.hosts and host not in self.hosts:
            raise RefusedError(403, "this server answers to 127.0.0.1 and localhost alone")
        if scope["path"] not in OPEN:
            if self.token and not allowed(headers.get(b"authorization", b""), self.token):
                raise RefusedError(401, "a token is needed: Authorization: Bearer TOKEN")
            if self.state.draining:
                raise RefusedError(503, "the server is ending; ask another, or again in a moment", retry=1)
        await self.app(scope, receive, send)


def allowed(header: bytes, token: bytes) -> bool:
    """Whether an `Authorization` header has the token; how long that takes tells nothing of it."""
    kind, _, given = header.partition(b" ")
    return hmac.compare_digest(given.strip(), token) and kind.lower() == b"bearer"


def refused(error: Exception) -> Response:
    """The answer to a request that was refused or has failed: `{"error": LINE}`."""
    headers: dict[str, str] = {}
    if isinstance(error, RefusedError):
        status, line = error.status, error.line
        if error.retry is not None:
            headers["Retry-After"] = str(error.retry)
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, HTTPException):
        known = {404: "there is no such page; see /docs", 405: "there is no such method here; see /docs"}
        status, line = error.status_code, known.get(error.status_code, str(error.detail))
        headers |= error.headers or {}
    else:
        place = extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        log.error("%s: %s (unexpected, at %s)", type(error).__name__, told(error), where)
        status, line = 500, "something went wrong here; the server's log has a line"
    return Response(json.dumps({"error": line}), status, headers, "application/json")
