"""Pictures from the web and from standard input, from a server of this machine."""

import io
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from vit_lightning.data import remote
from vit_lightning.data.loading import UnlabelledImages
from vit_lightning.data.remote import INPUT, Fetched, check_url, download, fetch
from vit_lightning.data.transforms import frame_size

CONTENT = b"0123456789" * 100

#: Headers and body of each answer.
ANSWERS = {
    "/ok": (200, {"Content-Length": "1000"}, CONTENT),
    "/unsaid": (200, {}, CONTENT),
    "/cut": (200, {"Content-Length": "1000"}, CONTENT[:10]),
    "/large": (200, {"Content-Length": "1000000000000"}, b""),
    "/there": (302, {"Location": "/ok"}, b""),
    "/loop": (302, {"Location": "/loop"}, b""),
    "/file": (302, {"Location": "file:///etc/passwd"}, b""),
    "/ftp": (302, {"Location": "ftp://127.0.0.1/x.png"}, b""),
    "/data": (302, {"Location": "data:text/plain,hello"}, b""),
    "/broken": (500, {}, b""),
}


class Server(BaseHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012  # of all of them

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/silent":
            time.sleep(1)
            return
        if self.path == "/drip":  # each sign in time, and never an end
            self.send_response(200)
            self.end_headers()
            for _ in range(60):
                time.sleep(0.1)
                self.wfile.write(b".")
                self.wfile.flush()
            return
        if self.path == "/junk":
            self.wfile.write(b"no http\r\n\r\n")
            return
        status, headers, body = ANSWERS.get(self.path, (404, {}, b""))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who is gone is gone
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of this machine's, and a short patience."""
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr(remote, "SILENCE", 0.4)


@pytest.mark.parametrize("path", ["/ok", "/unsaid", "/there"])
def test_what_is_there_comes_whole(address: str, path: str) -> None:
    assert fetch(address + path) == CONTENT


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/nowhere", r"the server answers 404 \(Not Found\)"),
        ("/broken", r"the server answers 500 \(Internal Server Error\)"),
        ("/cut", "it was cut off after 10 of 1,000 bytes"),
        ("/large", "it has 1,000,000,000,000 bytes; at most 100,000,000"),
        ("/loop", r"sends one elsewhere, where it cannot be followed \(302\)"),
        ("/file", r"sends one elsewhere, where it cannot be followed \(302\)"),
        ("/ftp", "ftp://127.0.0.1/x.png is no address of the web"),
        ("/data", "cannot be followed|no address of the web"),
        ("/junk", "the server's answer is none of the web"),
        ("/silent", "the server did not answer within 0.4 s"),
    ],
)
def test_what_does_not_come_says_why_in_a_line(address: str, path: str, words: str) -> None:
    with pytest.raises(OSError, match=words) as caught:
        fetch(address + path)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_says_so() -> None:
    with pytest.raises(OSError, match=r"the server cannot be reached \(Connection refused\)"):
        fetch("http://127.0.0.1:1/x.png")


def test_the_whole_time_and_the_bytes_are_bounded(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "SECONDS", 0.5)
    monkeypatch.setattr(remote, "SILENCE", 10.0)
    begin = time.monotonic()
    for get in (fetch, download):  # which of the two is the first to see it is a matter of chance
        with pytest.raises(OSError, match=r"it did not come within 0\.5 s"):
            get(f"{address}/drip")
    assert time.monotonic() - begin < 5  # it would drip for 6 each time
    monkeypatch.setattr(remote, "MOST", 99)
    for path, words in (
        ("/ok", "it has 1,000 bytes; at most 99"),
        ("/unsaid", "it has more than 99 bytes; at most 99"),
    ):
        with pytest.raises(OSError, match=words):
            fetch(address + path)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "ftp://host/x.png",
            "file:///etc/passwd",
            "data://x",
            "http:///x.png",
            "http://host:99999/x",
            "http://[x/a.png",
        ),
        *("http://user:secret@host/x.png", "http://host/a b.png", "http://host/x\r\nHost: other", "http://host/é.png"),
    ],
)
def test_what_is_no_address_of_the_web_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected|write them") as caught:
        check_url(url)
    assert "secret" not in str(caught.value)


def test_a_picture_is_fetched_once_and_files_are_left_alone(address: str, tmp_path: Path) -> None:
    fetched = Fetched(tmp_path)
    Server.asked.clear()
    files = {fetched(f"{address}/ok") for _ in range(3)}
    assert [file.read_bytes() for file in files] == [CONTENT]
    assert Server.asked == ["/ok"]
    assert fetched("a/b.png") == Path("a/b.png")
    _, name, reason = UnlabelledImages([f"{address}/ok"], frame_size((8, 8)), fetched)[0]
    assert (name, reason) == (f"{address}/ok", "its content is no BMP, GIF, JPEG, PNG, TIFF or WEBP picture")


def test_standard_input_is_one_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = Fetched(tmp_path)

    def given(content: bytes, terminal: bool = False) -> None:
        stream = SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: terminal)
        monkeypatch.setattr(sys, "stdin", stream)

    given(CONTENT)
    fetched.take_input()
    assert fetched(INPUT).read_bytes() == CONTENT
    given(b"", terminal=True)
    with pytest.raises(ValueError, match="takes a picture from standard input, as in: cat"):
        fetched.take_input()
    monkeypatch.setattr(remote, "MOST", 999)
    given(CONTENT)
    with pytest.raises(ValueError, match="more than 999 bytes on standard input"):
        fetched.take_input()
