"""onnxruntime-web from a registry of our own: fetched once, known by its hash, given by hand."""

import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vit_lightning.export import runtime

PATH = f"/onnxruntime-web/-/onnxruntime-web-{runtime.VERSION}.tgz"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive as npm packs it, which counts as the one that is wanted."""
    path = tmp_path / "package.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name in (*runtime.FILES, "ort.webgpu.min.mjs"):
            content = f"this is {name}".encode() * 1000
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    monkeypatch.setattr(runtime, "INTEGRITY", runtime.integrity(path))
    monkeypatch.setattr(runtime, "SIZE", path.stat().st_size)
    return path


@pytest.fixture
def registry(package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes, int], list[str]]]:
    """Starts a registry that answers with these bytes and status; gives what it is asked for."""
    servers = []

    def start(content: bytes, status: int = 200) -> list[str]:
        asked: list[str] = []

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the name that http.server calls
                asked.append(self.path)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_port}/")
        return asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_it_is_fetched_once(
    package: Path, registry: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = registry(package.read_bytes())
    kept = runtime.find_runtime(tmp_path / "cache")
    assert kept.read_bytes() == package.read_bytes()
    assert runtime.find_runtime(tmp_path / "cache") == kept
    assert asked == [PATH]
    kept.write_bytes(b"damaged")
    assert runtime.find_runtime(tmp_path / "cache").read_bytes() == package.read_bytes()
    assert asked == [PATH] * 2


def test_what_is_needed_is_unpacked_with_its_licence(package: Path, tmp_path: Path) -> None:
    folder = tmp_path / "web"
    folder.mkdir()
    runtime.unpack(package, folder)
    licences = ["onnxruntime-LICENSE", "onnxruntime-ThirdPartyNotices.txt"]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*runtime.FILES, *licences])
    assert (folder / runtime.FILES[0]).read_text().startswith(f"this is {runtime.FILES[0]}")
    assert "MIT License" in (folder / licences[0]).read_text()


@pytest.mark.parametrize("content", [b"something else", b"", None], ids=["other", "empty", "longer"])
def test_another_file_is_refused_and_not_kept(
    package: Path, registry: Callable[..., list[str]], tmp_path: Path, content: bytes | None
) -> None:
    registry(package.read_bytes() * 2 if content is None else content)
    with pytest.raises(ValueError, match=r"127\.0\.0\.1 has sent is not onnxruntime-web .*nothing of it was used"):
        runtime.find_runtime(tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_without_a_network_one_line_says_how_to_give_it(
    package: Path, registry: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry(b"", 404)
    way_round = r"`npm pack onnxruntime-web@[\d.]+` on another machine makes the file for --runtime FILE.tgz$"
    with pytest.raises(ValueError, match=rf"cannot be fetched from 127\.0\.0\.1 \(.*404.*\); {way_round}"):
        runtime.find_runtime(tmp_path / "cache")
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=rf"cannot be fetched from 127\.0\.0\.1 \(.+\); {way_round}"):
        runtime.find_runtime(tmp_path / "cache")
    assert runtime.find_runtime(tmp_path / "cache", package) == package
    with pytest.raises(ValueError, match=rf"gone.tgz does not exist; {way_round}"):
        runtime.find_runtime(tmp_path / "cache", tmp_path / "gone.tgz")
    package.write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"package.tgz is not onnxruntime-web"):
        runtime.find_runtime(tmp_path / "cache", package)


def test_a_cache_that_cannot_be_written_is_named(
    package: Path, registry: Callable[..., list[str]], tmp_path: Path
) -> None:
    registry(package.read_bytes())
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ValueError, match=r"onnxruntime-web cannot be kept in .*cache.*--runtime FILE.tgz"):
        runtime.find_runtime(tmp_path / "cache")


def test_the_registry_is_npm_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NPM_CONFIG_REGISTRY", raising=False)
    monkeypatch.delenv("npm_config_registry", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert runtime.registry() == runtime.REGISTRY
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho https://npm.example.org/some/\n")
    npm.chmod(0o755)
    assert runtime.registry() == "https://npm.example.org/some"
    npm.write_text("#!/bin/sh\nexit 1\n")
    assert runtime.registry() == runtime.REGISTRY
    monkeypatch.setenv("npm_config_registry", "https://other.example.org")
    assert runtime.registry() == "https://other.example.org"
