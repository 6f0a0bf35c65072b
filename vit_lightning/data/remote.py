"""A picture from the web or from standard input, as a file in a temporary folder; no torch in here."""

import contextlib
import hashlib
import http.client
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

#: What tables call the picture from standard input.
INPUT = "<stdin>"

#: Bytes of a picture at most, and seconds that fetching one may take.
MOST, SECONDS = 100_000_000, 60.0

#: Seconds without an answer after which a server is given up, and times that it may send one elsewhere.
SILENCE, REDIRECTIONS = 15.0, 5


def is_url(name: Path | str) -> bool:
    """Whether this is an address rather than a file's name."""
    return isinstance(name, str) and "://" in name


def check_url(url: str) -> None:
    """Refuses what is no address of a picture on the web.

    Raises:
        ValueError: Another scheme than http and https, no host, or a password in it, which would stand in the tables.
    """
    try:
        parts = urlsplit(url)
        host, user = parts.hostname, parts.username
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"{url} is no address ({error}); expected one as https://HOST/picture.jpg") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"{url} is no address of the web; expected http:// or https://, or a file")
    if user is not None:
        raise ValueError(f"the address of a picture on {host} has a name and password in it; expected one without")
    if any(ord(sign) <= 32 or ord(sign) >= 127 for sign in url):
        raise ValueError(f"{url!a} has signs that no address has; write them as %20 and so on")


class Fetched:
    """The file of a picture, whatever it is named by: fetched once from the web, or taken from standard input.

    Args:
        folder: Where what is fetched lies; whoever made it takes it away.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: Path | str) -> Path:
        """The file.

        Raises:
            OSError: It cannot be fetched; the message does not name it.
        """
        if name != INPUT and not is_url(name):
            return Path(name)
        file = self.folder / hashlib.sha256(str(name).encode()).hexdigest()
        if name != INPUT and not file.exists():
            file.write_bytes(fetch(str(name)))
        return file

    def take_input(self) -> None:
        """Keeps what comes over standard input.

        Raises:
            ValueError: It is a terminal, or more than a picture has.
        """
        if sys.stdin is None or sys.stdin.isatty():
            raise ValueError("--images - takes a picture from standard input, as in: cat a.jpg | ... --images -")
        content = sys.stdin.buffer.read(MOST + 1)
        if len(content) > MOST:
            raise ValueError(f"there are more than {MOST:,} bytes on standard input; expected one picture")
        self(INPUT).write_bytes(content)


def fetch(url: str) -> bytes:
    """What is at an address, within `SECONDS` and `MOST` bytes.

    Raises:
        OSError: It cannot be fetched; the message does not name it.
    """
    found: list[bytes | Exception] = []

    def get() -> None:
        try:
            found.append(download(url))
        except Exception as error:
            found.append(error)

    # In a thread of its own, which nobody waits for: a server may send a sign of its head every few seconds.
    thread = threading.Thread(target=get, daemon=True)
    thread.start()
    thread.join(SECONDS)
    if not found:
        raise late()
    if isinstance(found[0], Exception):
        raise OSError(reason(found[0])) from found[0]
    return found[0]


def download(url: str) -> bytes:
    """`fetch` with a limit to the time of the content alone.

    Raises:
        OSError: Of urllib or the system.
        ValueError: It is too large, cut off, or leads to another kind of address.
    """
    opener = urllib.request.OpenerDirector()  # knows neither file:// nor ftp:// nor data:
    for handler in (
        *(urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler()),
        *(urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor(), Redirections()),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(url, headers={"User-Agent": "vit_lightning", "Accept": "image/*"})
    begin = time.monotonic()
    with opener.open(request, timeout=SILENCE) as answer:
        told = answer.headers.get("Content-Length", "")
        length = int(told) if told.isdecimal() else None
        content = bytearray()
        while (length or 0) <= MOST and len(content) <= MOST and (piece := answer.read1(2**16)):
            content += piece
            if time.monotonic() - begin > SECONDS:  # what came so far is no whole picture
                raise late()
    if (length or 0) > MOST or len(content) > MOST:
        raise ValueError(f"it has {'more than ' if length is None else ''}{length or MOST:,} bytes; at most {MOST:,}")
    if length is not None and len(content) < length:
        raise ValueError(f"it was cut off after {len(content):,} of {length:,} bytes")
    return bytes(content)


def late() -> OSError:
    """That the whole time has gone by."""
    return OSError(f"it did not come within {SECONDS:g} s")


class Redirections(urllib.request.HTTPRedirectHandler):
    """Follows a server that sends one elsewhere, a few times and within the web."""

    max_redirections = REDIRECTIONS

    def redirect_request(  # noqa: D102  # urllib's
        self, req: urllib.request.Request, fp: object, code: int, msg: str, headers: object, newurl: str
    ) -> urllib.request.Request | None:
        check_url(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]  # urllib's types


def reason(error: Exception) -> str:
    """Why a picture could not be fetched, in a few words."""
    if isinstance(error, urllib.error.HTTPError):
        with contextlib.closing(error):
            if "redirect" in str(error.msg).lower() and 300 <= error.code < 400:
                return f"the server sends one elsewhere, where it cannot be followed ({error.code})"
            return f"the server answers {error.code} ({http.client.responses.get(error.code, 'unknown')})"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"the server did not answer within {SILENCE:g} s"
    if isinstance(cause, ssl.SSLError):
        return f"its certificate or encryption is not right ({cause.reason})"
    if isinstance(cause, OSError) and cause.strerror:
        return f"the server cannot be reached ({cause.strerror})"
    if isinstance(cause, http.client.HTTPException):
        return f"the server's answer is none of the web ({type(cause).__name__})"
    return " ".join(str(cause).split())[:300]
