"""The pinned set: a download, a cache that is checked, and one readable line when it cannot be had.

A server on this machine plays Kaggle's part; neither the network nor anybody's Kaggle account is used.
"""

import base64
import hashlib
import importlib
import io
import json
import os
import random
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from vit_lightning.data.index import find_layout
from vit_lightning.data.kaggle import CLASSES, HANDLE, PAGE, download

MEBIBYTE = 1 << 20
WHOLE = sys.maxsize
NOISE = random.Random(0).randbytes(3 * MEBIBYTE)  # bytes that no archive makes smaller
FILES = {"set/tom/1.jpg": NOISE[MEBIBYTE:], "set/jerry/2.jpg": NOISE[:MEBIBYTE], "set/.DS_Store": b"x", "t.csv": b"t"}
SIZES = {name: len(data) for name, data in FILES.items() if ".DS_Store" not in name}


class Kaggle(ThreadingHTTPServer):
    """Answers as Kaggle does, but for the `faults`: statuses, or places where the connection is cut, in order."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as pack:
            for name, data in FILES.items():
                pack.writestr(name, data)
        self.archive = buffer.getvalue()
        self.faults: list[int] = []
        self.seen: list[int] = []  # where each answer began


class Answer(BaseHTTPRequestHandler):
    server: Kaggle

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert f"{asked['ownerSlug']}/{asked['datasetSlug']}/versions/{asked['datasetVersionNumber']}" == HANDLE
        self.send_response(302)
        self.send_header("Location", f"{self.server.address}/archive.zip?signature=secret")
        self.end_headers()

    def do_GET(self) -> None:
        data, start = self.server.archive, int((self.headers["Range"] or "bytes=0-")[6:-1])
        self.server.seen.append(start)
        fault = self.server.faults.pop(0) if self.server.faults else WHOLE
        if fault < 1000:
            self.send_error(fault)
            return
        self.send_response(206 if start else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("x-goog-hash", f"md5={base64.b64encode(hashlib.md5(data).digest()).decode()}")
        self.end_headers()
        self.wfile.write(data[start:fault])


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kaggle]:
    """Kaggle's part, for a person without an account who does not wait between attempts."""
    for name in [name for name in os.environ if name.startswith(("KAGGLE", "TBE_")) or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setattr("vit_lightning.data.kaggle.time.sleep", lambda _: None)
    sdk: Any = importlib.import_module("kagglesdk.kaggle_env")  # by name: it has no types
    with Kaggle() as server:
        monkeypatch.setitem(sdk._env_to_endpoint, sdk.KaggleEnv.PROD, server.address)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def unplug(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*arguments: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)


def check_whole(folder: Path) -> None:
    """The set is there, with its manifest, and nothing that only the download needed."""
    assert {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == FILES
    assert json.loads((folder.parents[1] / "3.manifest.json").read_text()) == SIZES
    left = {path.name for path in folder.parents[1].iterdir()}
    assert left - {"3.lock"} == {"versions", "3.complete", "3.manifest.json"}


def check_refusal(cache: Path, *parts: str) -> None:
    """The download fails with one line that has these parts besides set, cache and way round."""
    with pytest.raises(FileNotFoundError) as caught:
        download(cache)
    for part in (HANDLE, f" {cache}:", "or point --data.root at ", "a copy", *parts):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_version_is_pinned_and_the_classes_are_the_drawn_set_s(frames: Path) -> None:
    assert HANDLE == "balabaskar/tom-and-jerry-image-classification/versions/3"
    assert list(CLASSES) == find_layout(frames).classes


def test_a_first_download_is_whole_and_the_last(server: Kaggle, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    folder = download(cache)
    assert folder == cache / "datasets" / HANDLE
    check_whole(folder)
    unplug(monkeypatch)
    monkeypatch.setattr("filelock.FileLock", lambda _: pytest.fail("a lock was taken"))
    (folder / "set/.DS_Store").write_bytes(b"a file manager was here")
    assert download(cache) == folder
    code = (
        "import sys; from pathlib import Path; from vit_lightning.data.kaggle import download; "
        f"download(Path({str(cache)!r})); print({{'torch', 'kagglehub', 'requests', 'filelock'}} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
    assert server.seen == [0]


def test_a_complete_cache_without_a_manifest_gets_one(server: Kaggle, cache: Path) -> None:
    folder = download(cache)
    for manifest in ("", "{'not': json"):
        (folder.parents[1] / "3.manifest.json").write_text(manifest)
        assert download(cache) == folder
        check_whole(folder)
    assert server.seen == [0]


@pytest.mark.parametrize("calls", [1, 2])
def test_a_download_that_broke_off_goes_on(
    server: Kaggle, monkeypatch: pytest.MonkeyPatch, cache: Path, calls: int
) -> None:
    server.faults = [MEBIBYTE + 5, WHOLE, 2 * MEBIBYTE + 5]  # kagglehub asks from the start before it goes on
    if calls == 2:
        monkeypatch.setattr("vit_lightning.data.kaggle.DELAYS", (0,))
        check_refusal(cache, "the download broke off (", "), check the network; it goes on from there")
    check_whole(download(cache))
    assert server.seen == [0, 0, MEBIBYTE, 0, 2 * MEBIBYTE]


def test_a_busy_server_is_asked_three_times(server: Kaggle, cache: Path) -> None:
    server.faults = [503, 429, 502, 503]
    check_refusal(cache, "the download broke off (status 502), check the network")
    check_whole(download(cache))
    assert len(server.seen) == 5


def test_offline_with_nothing_cached(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    unplug(monkeypatch)
    check_refusal(cache, "broke off (Temporary failure in name resolution), check the network")


def test_pictures_gone_or_changed(server: Kaggle, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    folder = download(cache)
    (folder / "set/jerry/2.jpg").unlink()
    os.truncate(folder / "set/tom/1.jpg", 7)
    with monkeypatch.context() as patch:
        unplug(patch)
        found = f"2 of 3 files in {folder} missing or changed, such as set/jerry/2.jpg"
        check_refusal(cache, f"{found}; could not", "point --data.root at what is left, or at a copy")
    assert (folder / "t.csv").exists()
    check_whole(download(cache))
    assert len(server.seen) == 2


def test_a_refusal_is_not_tried_again(server: Kaggle, cache: Path) -> None:
    for status, reason in (
        (401, "Kaggle does not know your token (401); renew it at https://www.kaggle.com/settings/api"),
        (403, f"Kaggle refuses it (403); accept the licence at {PAGE}"),
        (404, f"Kaggle does not give it (status 404); look at {PAGE}"),
    ):
        server.faults, server.seen = [status], []
        check_refusal(cache, reason)
        assert server.seen == [0]


def test_what_is_no_archive_does_not_spoil_the_next_attempt(server: Kaggle, cache: Path) -> None:
    shelf = (cache / "datasets" / HANDLE).parents[1]
    shelf.mkdir(parents=True)
    (shelf / "3.archive").write_bytes(b"x" * len(server.archive))  # kagglehub does not check what is as long
    check_refusal(cache, "Unsupported archive type.; what had come was deleted, see to that or look at")
    check_whole(download(cache))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_and_a_cache_folder_that_cannot_be(cache: Path, tmp_path: Path) -> None:
    shelf = (cache / "datasets" / HANDLE).parents[1]
    shelf.mkdir(parents=True)
    (shelf / "3.archive").symlink_to("/dev/full")
    check_refusal(cache, "the disk is full; make room, or choose another with --data.cache_dir")
    (tmp_path / "file").touch()
    check_refusal(tmp_path / "file", "Not a directory; choose another folder with --data.cache_dir")


def test_of_two_that_want_it_one_downloads(server: Kaggle, cache: Path) -> None:
    threads = [threading.Thread(target=download, args=[cache]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    check_whole(cache / "datasets" / HANDLE)
    assert server.seen == [0]


def test_an_archive_can_lay_nothing_outside_and_no_link(server: Kaggle, cache: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as pack:
        for name in ("set/tom/1.jpg", "set/jerry/1.jpg", "../../../../evil", "/evil"):
            pack.writestr(name, b"x")
        link = zipfile.ZipInfo("set/tom/link.jpg")
        link.external_attr = 0o120777 << 16
        pack.writestr(link, "/etc/passwd")
    server.archive = buffer.getvalue()
    folder = download(cache)
    assert [path for path in tmp_path.rglob("evil") if not path.is_relative_to(folder)] == []
    assert not Path("/evil").exists()
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert find_layout(folder).classes == ["jerry", "tom"]
