"""`studio`: who may reach it, and that it ends with its server."""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from vit_lightning import cli
from vit_lightning.commands import studio

ROOT = Path(__file__).parent.parent.parent


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["studio", *words]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "::", "example.org"])
def test_another_host_is_refused_with_the_way_round(capsys: pytest.CaptureFixture[str], host: str) -> None:
    told = refusal(capsys, "--host", host)
    assert "there is no password" in told
    assert "ssh -L 8501:127.0.0.1:8501" in told


def test_exposing_is_warned_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def serve(options: argparse.Namespace) -> int:
        asked.append(options.host)
        return 0

    monkeypatch.setattr(studio, "serve", serve)
    assert cli.main(["studio", "--expose", "--port", str(free_port())]) == 0
    assert asked == ["0.0.0.0"]
    assert capsys.readouterr().err.startswith("warning: whoever reaches port")


def test_a_taken_port_a_wrong_root_and_a_wrong_number_are_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told = refusal(capsys, "--port", str(taken.getsockname()[1]))
    assert "cannot listen on 127.0.0.1" in told
    assert "--port" in told
    assert "is no folder" in refusal(capsys, "--root", "/no/such/folder")
    assert "65535" in refusal(capsys, "--port", "70000")


def test_without_the_extra_it_says_which(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "pip install 'vit-lightning[studio]'" in refusal(capsys)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A studio, and its address."""
    port = free_port()
    command = [sys.executable, str(ROOT / "cli.py"), "studio", "--port", str(port)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == f"the studio is on http://127.0.0.1:{port} (Ctrl-C ends it, never the runs)\n"
    yield process, f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as page:
            return bool(page.status == 200)
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_it_ends_with_its_server(server: tuple["subprocess.Popen[str]", str], number: int) -> None:
    process, url = server
    assert answers(url)
    process.send_signal(number)
    assert process.wait(30) == {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -9}[signal.Signals(number)]
    for _ in range(100):
        if not answers(url):
            break
        time.sleep(0.1)
    assert not answers(url)


def listening(port: int, host: str, origin: str) -> int:
    """The status with which the server answers a browser that wants to hear of a session."""
    told = {"Host": host, "Origin": origin, "Connection": "Upgrade", "Upgrade": "websocket"}
    told |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(f"GET /_stcore/stream HTTP/1.1\r\n{head}\r\n".encode())
        return int(line.recv(100).split()[1])


@pytest.mark.slow
def test_other_sites_may_neither_upload_nor_listen(server: tuple["subprocess.Popen[str]", str]) -> None:
    _, url = server
    port = int(url.rpartition(":")[2])
    assert listening(port, f"127.0.0.1:{port}", url) == 101
    assert listening(port, f"localhost:{port}", f"http://localhost:{port}") == 101  # by ssh -L
    assert listening(port, f"127.0.0.1:{port}", "http://elsewhere.example") == 403
    assert listening(port, f"elsewhere.example:{port}", f"http://elsewhere.example:{port}") == 403  # DNS rebinding
    upload = urllib.request.Request(f"{url}/_stcore/upload_file/a/b", data=b"x", method="PUT")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(upload, timeout=10)
    assert refused.value.code in (400, 403)
    health = urllib.request.Request(f"{url}/_stcore/health", headers={"Origin": "http://elsewhere.example"})
    with urllib.request.urlopen(health, timeout=10) as page:
        assert page.headers.get("Access-Control-Allow-Origin") is None
