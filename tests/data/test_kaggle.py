"""The pinned set: downloads that hold, a cache that is checked, and one readable line when it cannot be had.

A server on this machine plays Kaggle's part; neither the network nor anybody's Kaggle account is used.
"""

import base64
import errno
import gzip
import hashlib
import importlib
import io
import json
import logging
import os
import random
import re
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kagglehub
import kagglehub.clients
import pytest
import requests
from filelock import FileLock
from rich.console import Console

from vit_lightning.data import kaggle
from vit_lightning.data.index import find_layout
from vit_lightning.data.kaggle import CLASSES, HANDLE, download
from vit_lightning.progress import set_up_logging

MEBIBYTE = 1 << 20

#: Bytes that no archive makes smaller.
NOISE = random.Random(0).randbytes(3 * MEBIBYTE)

FILES = {
    "tom_and_jerry/tom_and_jerry/tom/frame1.jpg": NOISE[: 2 * MEBIBYTE],
    "tom_and_jerry/tom_and_jerry/jerry/frame2.jpg": NOISE[2 * MEBIBYTE :],
    "tom_and_jerry/.DS_Store": b"hidden",
    "ground_truth.csv": b"frame1.jpg,1,0\n",
}

GOOD = {"tom/frame1.jpg": b"a"}

#: What the manifest has to hold of them.
SIZES = {name: len(data) for name, data in FILES.items() if ".DS_Store" not in name}


def zipped(files: dict[str, bytes] = FILES, *, link: str = "") -> bytes:
    """A zip archive; `link` is the member that is to be a symbolic link."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as pack:
        for name, data in files.items():
            member = zipfile.ZipInfo(name)
            member.create_system = 3
            member.external_attr = (0o120777 if name == link else 0o100644) << 16
            pack.writestr(member, data)
    return buffer.getvalue()


def tarred(files: dict[str, bytes] = FILES, *, kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    """A compressed tar archive; `kind` and `target` are the last member's."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as pack:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.mode = 0o6000  # nobody may read it, but it may become its owner
            if kind != tarfile.REGTYPE and name == list(files)[-1]:
                member.type, member.linkname = kind, target
            else:
                member.size = len(data)
            pack.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def spoilt_tar() -> bytes:
    """A tar archive without its end, so that it is read up to the wrong checksum that follows."""
    return gzip.compress(gzip.decompress(tarred(GOOD))[:1024])[:-8] + b"x" * 8


class Kaggle(ThreadingHTTPServer):
    """Answers as Kaggle does; `faults` are what it does instead, in order, to the requests of one path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.archive = zipped()
        self.checksum: str | None = base64.b64encode(hashlib.md5(self.archive).digest()).decode()
        self.faults: dict[str, list[Callable[[Answer], None]]] = {"ask": [], "get": [], "range": []}
        self.seen: list[str] = []
        self.closing = threading.Event()
        self.shelf = Path()
        self.kept: list[int] = []  # the size of what was on the disk, at each request to go on

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def serve(self, archive: bytes) -> None:
        self.archive = archive
        self.checksum = base64.b64encode(hashlib.md5(archive).digest()).decode()

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # the client hung up, as it may


class Answer(BaseHTTPRequestHandler):
    server: Kaggle

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert f"{asked['ownerSlug']}/{asked['datasetSlug']}/versions/{asked['datasetVersionNumber']}" == HANDLE
        assert self.path == "/v1/datasets.DatasetApiService/DownloadDataset"
        self.answer("ask", self.redirect)

    def do_GET(self) -> None:
        self.answer("range" if self.headers["Range"] else "get", self.send)

    def answer(self, kind: str, usual: Callable[[], None]) -> None:
        self.server.seen.append(f"{kind} {self.headers['Range']}" if kind == "range" else kind)
        if kind == "range":
            self.server.kept.append((self.server.shelf / "3.archive").stat().st_size)
        faults = self.server.faults[kind]
        if faults:
            faults.pop(0)(self)
        else:
            usual()

    def redirect(self) -> None:
        self.send_response(302)
        self.send_header("Location", f"{self.server.address}/storage/archive.zip?signature=secret")
        self.send_header("X-Kaggle-HubVersion", "99.0.0")
        self.end_headers()

    def send(self, *, stop: int | None = None, heed_range: bool = True) -> None:
        """Sends the archive, or its rest, up to a place in the archive."""
        data = self.server.archive
        wanted = self.headers["Range"] if heed_range else None
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("X-Kaggle-HubVersion", "99.0.0")
        if self.server.checksum:
            self.send_header("x-goog-hash", f"crc32c=AAAAAA==,md5={self.server.checksum}")
        self.end_headers()
        self.wfile.write(data[start:stop])
        self.wfile.flush()


def status(code: int, body: bytes = b"", kind: str = "text/html") -> Callable[[Answer], None]:
    def fault(answer: Answer) -> None:
        answer.send_response(code)
        answer.send_header("Content-Type", kind)
        answer.send_header("Content-Length", str(len(body)))
        answer.end_headers()
        answer.wfile.write(body)

    return fault


def cut(stop: int) -> Callable[[Answer], None]:
    """Closes the connection in mid-body."""
    return lambda answer: answer.send(stop=stop)


def reset(answer: Answer) -> None:
    """Breaks the connection off hard."""
    answer.send(stop=MEBIBYTE)
    answer.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    answer.connection.close()


def stall(answer: Answer) -> None:
    answer.server.closing.wait(20)


def stall_in_mid_body(answer: Answer) -> None:
    answer.send(stop=MEBIBYTE + 5)
    stall(answer)


def ignore_range(answer: Answer) -> None:
    answer.send(heed_range=False)


@pytest.fixture(scope="session")
def sdk() -> Any:
    return importlib.import_module("kagglesdk.kaggle_env")  # by name: it has no types


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sdk: Any) -> Iterator[Kaggle]:
    """Kaggle's part, for a person without an account."""
    for name in [name for name in os.environ if name.startswith(("KAGGLE", "TBE_")) or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", "elsewhere")
    monkeypatch.setattr(kagglehub.clients, "get_user_agent", lambda: "test")  # it looks through all the modules
    with Kaggle() as server:
        server.shelf = tmp_path / "cache" / "datasets" / "balabaskar" / "tom-and-jerry-image-classification"
        monkeypatch.setitem(sdk._env_to_endpoint, sdk.KaggleEnv.PROD, server.address)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, which the tests do not wait for."""
    sleeps: list[float] = []
    monkeypatch.setattr("vit_lightning.data.kaggle.time.sleep", sleeps.append)
    return sleeps


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What this project said, from warnings up with the level before it."""
    monkeypatch.setattr(logging.getLogger("vit_lightning"), "propagate", True)  # other tests set the logging up
    monkeypatch.setattr(logging.getLogger("vit_lightning"), "level", logging.INFO)

    def said() -> list[str]:
        records = [record for record in caplog.records if record.name.startswith("vit_lightning")]
        return [
            f"warning: {record.getMessage()}" if record.levelno >= logging.WARNING else record.getMessage()
            for record in records
        ]

    return said


def unplug(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any use of the network from now on fails."""

    def no_network(*arguments: object, **settings: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)


def forbid_kagglehub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kagglehub, "dataset_download", lambda *_, **__: pytest.fail("kagglehub was asked"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_whole(folder: Path) -> None:
    """The set is there, with its manifest, and nothing that only the download needed."""
    assert contents(folder) == FILES
    shelf = folder.parent.parent
    assert json.loads((shelf / "3.manifest.json").read_text()) == SIZES
    assert {path.name for path in shelf.iterdir()} - {"3.lock"} == {"versions", "3.complete", "3.manifest.json"}
    assert [path.name for path in folder.parent.iterdir()] == ["3"]


def check_refusal(cache: Path, *parts: str) -> FileNotFoundError:
    """The download fails with one line that has these parts besides set, cache and way round."""
    with pytest.raises(FileNotFoundError) as caught:
        download(cache)
    message = str(caught.value)
    assert "\n" not in message
    for part in (HANDLE, f" {cache}:", "or point --data.root at a copy", *parts):
        assert part in message
    assert "secret" not in message
    return caught.value


def check_nothing_left(server: Kaggle) -> None:
    """Nothing that could pass for the set."""
    assert {path.name for path in server.shelf.iterdir()} <= {"3.lock"}


def test_the_version_is_pinned() -> None:
    assert HANDLE == "balabaskar/tom-and-jerry-image-classification/versions/3"


def test_classes_are_the_drawn_set_s_folders_too(frames: Path) -> None:
    assert list(CLASSES) == find_layout(frames).classes


def test_the_set_arrives_whole_with_a_manifest(server: Kaggle, cache: Path, sleeps: list[float]) -> None:
    folder = download(cache)
    assert folder == cache / "datasets" / HANDLE
    check_whole(folder)
    assert server.seen == ["ask", "get"]
    assert sleeps == []


def test_a_tar_archive_does_as_well(server: Kaggle, cache: Path) -> None:
    server.serve(tarred())
    folder = download(cache)
    check_whole(folder)
    assert stat.S_IMODE((folder / "ground_truth.csv").stat().st_mode) == 0o600


# --- the cache -----------------------------------------------------------------------------------------------------


def test_what_is_in_the_cache_needs_neither_network_nor_kagglehub(
    server: Kaggle, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    folder = download(cache)
    unplug(monkeypatch)
    forbid_kagglehub(monkeypatch)
    monkeypatch.setattr(kaggle, "locked", lambda _: pytest.fail("a lock was taken"))
    assert download(cache) == folder
    assert server.seen == ["ask", "get"]


def test_a_cache_without_a_manifest_gets_one(
    monkeypatch: pytest.MonkeyPatch, server: Kaggle, cache: Path, lines: Callable[[], list[str]]
) -> None:
    folder = download(cache)
    (server.shelf / "3.manifest.json").unlink()
    forbid_kagglehub(monkeypatch)
    assert download(cache) == folder
    check_whole(folder)
    (server.shelf / "3.manifest.json").write_text("{'not': json")
    assert download(cache) == folder
    check_whole(folder)


def test_a_cache_that_cannot_be_written_to_serves(monkeypatch: pytest.MonkeyPatch, server: Kaggle, cache: Path) -> None:
    folder = download(cache)
    (server.shelf / "3.manifest.json").unlink()

    def refuse(*arguments: object, **settings: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    forbid_kagglehub(monkeypatch)
    assert download(cache) == folder
    assert not (server.shelf / "3.manifest.json").exists()


def test_a_full_disk_leaves_neither_half_a_manifest_nor_an_old_one(
    server: Kaggle, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    write = Path.write_text

    def fill(path: Path, text: str, **settings: Any) -> None:
        write(path, text[:9], **settings)
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = download(cache)
    (folder / "ground_truth.csv").unlink()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", fill)
        download(cache)
    assert {path.name for path in server.shelf.iterdir()} - {"3.lock"} == {"versions", "3.complete"}
    download(cache)
    check_whole(folder)
    assert server.seen == ["ask", "get"] * 2


def test_kagglehub_s_mark_is_not_needed(monkeypatch: pytest.MonkeyPatch, server: Kaggle, cache: Path) -> None:
    folder = download(cache)
    (server.shelf / "3.complete").unlink()
    forbid_kagglehub(monkeypatch)
    assert download(cache) == folder


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    os.truncate(path, 7)


@pytest.mark.parametrize("harm", [remove, truncate])
@pytest.mark.parametrize("marked", [True, False])
def test_missing_and_truncated_files_are_downloaded_anew(
    server: Kaggle, cache: Path, lines: Callable[[], list[str]], harm: Callable[[Path], None], marked: bool
) -> None:
    folder = download(cache)
    harm(folder / "tom_and_jerry/tom_and_jerry/jerry/frame2.jpg")
    (folder / "stray.jpg").touch()
    if not marked:
        (server.shelf / "3.complete").unlink()
    assert download(cache) == folder
    check_whole(folder)
    assert server.seen == ["ask", "get"] * 2
    assert lines()[-4] == (
        f"warning: 1 of 3 files in {folder} missing or changed, such as tom_and_jerry/tom_and_jerry/jerry/frame2.jpg: "
        "downloading the set anew"
    )


def test_hidden_files_may_change(server: Kaggle, cache: Path) -> None:
    folder = download(cache)
    (folder / "tom_and_jerry/.DS_Store").write_bytes(b"a file manager was here")
    download(cache)
    assert server.seen == ["ask", "get"]


def test_what_is_left_stays_when_it_cannot_be_downloaded_anew(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    folder = download(cache)
    (folder / "ground_truth.csv").unlink()
    left = contents(folder)
    unplug(monkeypatch)
    for _ in range(2):
        check_refusal(
            cache,
            f"1 of 3 files in {folder} missing or changed, such as ground_truth.csv; could not",
            "attempts failed, the last with: Temporary failure in name resolution; check the network",
            "or at that folder to use what is left",
        )
        assert contents(folder) == left


def test_an_unmarked_folder_without_a_manifest_is_downloaded_anew(
    server: Kaggle, cache: Path, lines: Callable[[], list[str]]
) -> None:
    folder = server.shelf / "versions" / "3"
    for killed in (folder, server.shelf / "3.unpacking"):  # kagglehub's own unpacking, and this project's
        killed.mkdir(parents=True)
        (killed / "stray.jpg").touch()
    check_whole(download(cache))
    assert lines()[0] == f"warning: {folder} is incomplete: downloading the set anew"


@pytest.mark.parametrize("left", ["3.complete", "3.manifest.json", "both", "empty folder"])
def test_a_mark_without_files_is_no_set(server: Kaggle, cache: Path, left: str) -> None:
    folder = download(cache)
    shutil.rmtree(folder)
    for name in {"3.complete", "3.manifest.json"} - {left}:
        if left != "both":
            (server.shelf / name).unlink(missing_ok=left == "empty folder")
    if left == "empty folder":
        (folder / "tom").mkdir(parents=True)
        (server.shelf / "3.complete").touch()
    check_whole(download(cache))
    assert server.seen == ["ask", "get"] * 2


# --- transient failures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fault", "reason"),
    [
        ("ask", status(503), "status 503"),
        ("ask", status(429, b'{"code": 429, "message": "Too many requests"}', "application/json"), "status 429"),
        ("ask", stall, "timed out"),
        ("ask", lambda answer: answer.connection.close(), "Remote end closed connection without response"),
        ("get", status(502), "status 502"),
        ("get", stall, "timed out"),
        ("get", stall_in_mid_body, "timed out"),
        ("get", cut(MEBIBYTE + 5), "the connection was cut"),
        ("get", reset, "Connection reset by peer"),
    ],
)
def test_a_transient_failure_is_tried_again(
    server: Kaggle,
    monkeypatch: pytest.MonkeyPatch,
    cache: Path,
    lines: Callable[[], list[str]],
    sleeps: list[float],
    kind: str,
    fault: Callable[[Answer], None],
    reason: str,
) -> None:
    monkeypatch.setattr(kaggle, "TIMEOUT", (0.3, 0.3))
    server.faults[kind] = [fault]
    check_whole(download(cache))
    assert sleeps == [1]
    assert [line for line in lines() if line.startswith("warning")] == [
        f"warning: the download failed ({reason}): trying again in 1 s"
    ]


def test_a_refused_connection_is_tried_again(
    server: Kaggle, monkeypatch: pytest.MonkeyPatch, cache: Path, lines: Callable[[], list[str]], sdk: Any
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setitem(sdk._env_to_endpoint, sdk.KaggleEnv.PROD, f"http://127.0.0.1:{closed.getsockname()[1]}")
        back = {sdk.KaggleEnv.PROD: server.address}
        monkeypatch.setattr("vit_lightning.data.kaggle.time.sleep", lambda _: sdk._env_to_endpoint.update(back))
        check_whole(download(cache))
    assert "warning: the download failed (Connection refused): trying again in 1 s" in lines()


def test_attempts_end_after_ever_longer_waits(
    server: Kaggle, cache: Path, lines: Callable[[], list[str]], sleeps: list[float]
) -> None:
    server.faults["ask"] = [status(503)] * 9
    check_refusal(cache, "4 attempts failed, the last with: status 503; check the network and try again later")
    assert server.seen == ["ask"] * 4
    assert sleeps == [1, 4, 15]
    assert len([line for line in lines() if line.startswith("warning")]) == 3


@pytest.mark.parametrize("attempts_in_one_call", [True, False])
def test_a_download_goes_on_where_it_stopped(
    server: Kaggle, monkeypatch: pytest.MonkeyPatch, cache: Path, attempts_in_one_call: bool
) -> None:
    server.faults["get"] = [cut(MEBIBYTE + 5)]
    server.faults["range"] = [cut(2 * MEBIBYTE + 5)]
    if not attempts_in_one_call:
        monkeypatch.setattr(kaggle, "DELAYS", ())
        for _ in range(2):
            check_refusal(cache, "it goes on where it stopped")
    check_whole(download(cache))
    assert server.kept == [MEBIBYTE, 2 * MEBIBYTE]
    assert [line for line in server.seen if line.startswith("range")] == [
        f"range bytes={MEBIBYTE}-",
        f"range bytes={2 * MEBIBYTE}-",
    ]


def test_no_byte_is_kept_twice(server: Kaggle, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    written: list[int] = []
    original = kaggle.bar

    @contextmanager
    def bar(**settings: Any) -> Iterator[SimpleNamespace]:
        def update(size: int) -> None:
            written.append(size)
            progress.update(size)

        with original(**settings) as progress:
            yield SimpleNamespace(update=update)

    monkeypatch.setattr(kaggle, "bar", bar)
    server.faults["get"] = [cut(2 * MEBIBYTE + 5)]
    check_whole(download(cache))
    assert sum(written) == len(server.archive)


def test_an_error_page_is_not_appended(server: Kaggle, cache: Path, sleeps: list[float]) -> None:
    server.checksum = None  # which would notice
    server.faults["get"] = [cut(MEBIBYTE + 5)]
    server.faults["range"] = [status(503, b"<html>busy</html>")]
    check_whole(download(cache))
    assert server.kept == [MEBIBYTE, MEBIBYTE]
    assert sleeps == [1, 4]


def test_a_server_that_cannot_go_on_starts_over(server: Kaggle, cache: Path, lines: Callable[[], list[str]]) -> None:
    server.checksum = None
    server.faults["get"] = [cut(MEBIBYTE + 5)]
    server.faults["range"] = [ignore_range]
    check_whole(download(cache))
    assert server.seen[-2:] == ["ask", "get"]
    assert "warning: the download failed (the part on the disk does not fit, starting over): trying again in 4 s" in (
        lines()
    )


@pytest.mark.parametrize(("extra", "attempts"), [(-len(zipped()), 1), (1, 2)])
def test_a_part_may_be_empty_or_too_long(
    server: Kaggle, cache: Path, sleeps: list[float], extra: int, attempts: int
) -> None:
    server.shelf.mkdir(parents=True)
    (server.shelf / "3.archive").write_bytes(b"x" * (len(server.archive) + extra))
    server.checksum = None
    check_whole(download(cache))
    assert len(sleeps) == attempts - 1


# --- interruptions -------------------------------------------------------------------------------------------------


def interrupt(*arguments: object, **settings: object) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_during_the_download_stays_one(server: Kaggle, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(kaggle, "bar", lambda **_: nullcontext(SimpleNamespace(update=interrupt)))
        with pytest.raises(KeyboardInterrupt):
            download(cache)
    assert (server.shelf / "3.archive").stat().st_size == MEBIBYTE
    check_whole(download(cache))
    assert server.seen[-1] == f"range bytes={MEBIBYTE}-"


def test_ctrl_c_during_the_unpacking_stays_one(server: Kaggle, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    extract = zipfile.ZipFile.extract

    def extract_one(pack: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
        if member.filename.endswith(".csv"):
            raise KeyboardInterrupt
        extract(pack, member, folder)

    with monkeypatch.context() as patched:
        patched.setattr(zipfile.ZipFile, "extract", extract_one)
        with pytest.raises(KeyboardInterrupt):
            download(cache)
    assert {path.name for path in server.shelf.iterdir()} <= {"3.lock", "3.archive"}
    check_whole(download(cache))
    assert server.seen == ["ask", "get"] * 2


def test_ctrl_c_between_attempts_stays_one(server: Kaggle, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    server.faults["ask"] = [status(503)]
    monkeypatch.setattr("vit_lightning.data.kaggle.time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download(cache)


@pytest.mark.parametrize("fault", [None, status(404)])
def test_kagglehub_is_itself_again_afterwards(
    server: Kaggle, cache: Path, fault: Callable[[Answer], None] | None
) -> None:
    owned = (
        (requests.adapters.HTTPAdapter, "send"),
        (kagglehub.clients, "tqdm"),
        (kagglehub.clients, "already_printed_version_warning"),
        (kagglehub.http_resolver, "_extract_archive"),
        (logging.getLogger("kagglehub"), "level"),
    )
    logging.getLogger("kagglehub").setLevel(logging.INFO)
    before = [getattr(owner, name) for owner, name in owned]
    if fault:
        server.faults["ask"] = [fault]
        check_refusal(cache)
    else:
        download(cache)
    assert [getattr(owner, name) for owner, name in owned] == before


# --- archives that are refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("archive", "name"),
    [
        (zipped(GOOD | {"../evil.jpg": b"b"}), "../evil.jpg"),
        (zipped(GOOD | {"tom/../../evil.jpg": b"b"}), "tom/../../evil.jpg"),
        (zipped(GOOD | {"..\\evil.jpg": b"b"}), "..\\evil.jpg"),
        (zipped(GOOD | {"/evil.jpg": b"b"}), "/evil.jpg"),
        (zipped(GOOD | {"\\\\host\\share\\evil.jpg": b"b"}), "\\\\host\\share\\evil.jpg"),
        (zipped(GOOD | {"C:\\evil.jpg": b"b"}), "C:\\evil.jpg"),
        (zipped(GOOD | {"C:evil.jpg": b"b"}), "C:evil.jpg"),
        (zipped(GOOD | {"tom/link": b"/etc"}, link="tom/link"), "tom/link"),
        (tarred(GOOD | {"../evil.jpg": b"b"}), "../evil.jpg"),
        (tarred(GOOD | {"/evil.jpg": b"b"}), "/evil.jpg"),
        (tarred(GOOD | {"D:/evil.jpg": b"b"}), "D:/evil.jpg"),
        (tarred(GOOD | {"tom/link": b""}, kind=tarfile.SYMTYPE, target="../../.."), "tom/link"),
        (tarred(GOOD | {"tom/link": b""}, kind=tarfile.LNKTYPE, target="../../../3.lock"), "tom/link"),
        (tarred(GOOD | {"tom/pipe": b""}, kind=tarfile.FIFOTYPE), "tom/pipe"),
    ],
)
def test_members_that_leave_the_folder_are_refused(
    server: Kaggle, tmp_path: Path, cache: Path, archive: bytes, name: str
) -> None:
    server.serve(archive)
    check_refusal(
        cache, f"the archive was refused and deleted: its member {name!r} is a link or leads out of the folder; try"
    )
    check_nothing_left(server)
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}
    assert not Path("/evil.jpg").exists()
    server.serve(zipped())
    check_whole(download(cache))


def test_a_refused_archive_leaves_the_old_set_alone(server: Kaggle, cache: Path) -> None:
    folder = download(cache)
    (folder / "ground_truth.csv").unlink()
    left = contents(folder)
    server.serve(zipped({"../evil": b""}))
    check_refusal(cache, "1 of 3 files", "refused and deleted")
    assert contents(folder) == left


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (b"no archive at all", "refused and deleted: File is not a zip file; try again"),
        (zipped({}), "refused and deleted: it is empty; try again"),
        (b"\n<!doctype html>", f"it is a web page, perhaps to sign in or to accept the licence at {kaggle.PAGE}; try"),
        (zipped().replace(NOISE[:9], b"x" * 9), "refused and deleted: Bad CRC-32 for file 'tom_and_jerry/"),
        (tarred()[:MEBIBYTE], "refused and deleted: Compressed file ended before the end-of-stream marker was reached"),
        (spoilt_tar(), "refused and deleted: CRC check failed"),
    ],
)
def test_what_is_no_whole_archive_is_refused(server: Kaggle, cache: Path, archive: bytes, reason: str) -> None:
    server.serve(archive)
    check_refusal(cache, reason)
    check_nothing_left(server)
    server.serve(zipped())
    check_whole(download(cache))


# --- one line when it cannot be had --------------------------------------------------------------------------------


def test_a_wrong_checksum_does_not_spoil_the_next_attempt(server: Kaggle, cache: Path, sleeps: list[float]) -> None:
    right, server.checksum = server.checksum, "AAAAAAAAAAAAAAAAAAAAAA=="
    check_refusal(cache, "what came does not have Kaggle's checksum and was deleted; try again")
    check_nothing_left(server)
    assert sleeps == []
    server.checksum = right
    check_whole(download(cache))
    assert server.seen == ["ask", "get"] * 2


def test_a_corrupt_part_does_not_spoil_the_next_attempt(server: Kaggle, cache: Path) -> None:
    server.shelf.mkdir(parents=True)
    for size in (MEBIBYTE, len(server.archive)):  # kagglehub does not check a part that has the archive's size
        (server.shelf / "3.archive").write_bytes(b"x" * size)
        check_refusal(cache, "deleted", "try again")
        check_nothing_left(server)
    check_whole(download(cache))


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
def test_a_full_disk_during_the_download(server: Kaggle, cache: Path, sleeps: list[float]) -> None:
    server.shelf.mkdir(parents=True)
    (server.shelf / "3.archive").symlink_to(FULL)
    check_refusal(cache, "the disk is full; make room, choose another disk with --data.cache_dir")
    assert sleeps == []
    (server.shelf / "3.archive").unlink()
    check_whole(download(cache))


def test_a_full_disk_during_the_unpacking(server: Kaggle, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    def fill(pack: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
        (folder / "half.jpg").parent.mkdir(parents=True)
        (folder / "half.jpg").touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(zipfile.ZipFile, "extract", fill)
        check_refusal(cache, "the disk is full; make room")
    assert {path.name for path in server.shelf.iterdir()} <= {"3.lock", "3.archive"}
    check_whole(download(cache))
    assert server.seen == ["ask", "get"] * 2


def test_a_cache_folder_that_cannot_be(server: Kaggle, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    check_refusal(tmp_path / "cache", "Not a directory", "; choose another folder with --data.cache_dir")


def test_a_cache_folder_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    def refuse(folder: Path, pattern: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "rglob", refuse)
    check_refusal(cache, "Permission denied", "; choose another folder with --data.cache_dir")


@pytest.mark.parametrize(
    ("code", "body", "kind", "reason"),
    [
        (401, b"", "text/html", "Kaggle does not know your token (401); renew it at "),
        (403, b"", "text/html", f"Kaggle refuses it (403); sign in and accept the licence at {kaggle.PAGE}, then set"),
        (
            403,
            b'{"code": 403, "message": "You must\\naccept the licence"}',
            "application/json",
            "Kaggle refuses it (403: You must accept the licence); sign in and accept",
        ),
        (404, b"", "text/html", f"Kaggle does not give it (status 404); look at {kaggle.PAGE}"),
        (410, b"", "text/html", "Kaggle does not give it (status 410); look at"),
    ],
)
@pytest.mark.parametrize("at", ["ask", "get"])
def test_a_refusal_is_not_tried_again(
    server: Kaggle, cache: Path, sleeps: list[float], at: str, code: int, body: bytes, kind: str, reason: str
) -> None:
    server.faults[at] = [status(code, body, kind)]
    check_refusal(cache, reason)
    assert sleeps == []
    assert server.seen == ["ask", "get"][: 1 + (at == "get")]
    assert not (server.shelf / "3.complete").exists()


def test_a_refusal_of_the_rest_is_one_line_too(server: Kaggle, cache: Path) -> None:
    server.faults["get"] = [cut(MEBIBYTE + 5)]
    server.faults["range"] = [status(403)]
    check_refusal(cache, "Kaggle refuses it (403); sign in")
    assert (server.shelf / "3.archive").stat().st_size == MEBIBYTE


def test_no_network_and_nothing_cached(monkeypatch: pytest.MonkeyPatch, cache: Path, sleeps: list[float]) -> None:
    unplug(monkeypatch)
    check_refusal(cache, "4 attempts failed, the last with: Temporary failure in name resolution; check the network")
    assert sleeps == [1, 4, 15]


def test_credentials_that_cannot_be_read(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "kaggle.json").write_text("{")
    check_refusal(cache, f"Invalid Kaggle credentials file at {tmp_path}/home/kaggle.json; see to that and try again")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (requests.TooManyRedirects("Exceeded\n30 redirects."), "Exceeded 30 redirects.; see to that and try again"),
        (KeyError(), "KeyError; see to that and try again"),
        (NotImplementedError("no locks here"), "no locks here; choose another folder with --data.cache_dir"),
    ],
)
def test_whatever_else_goes_wrong_is_one_line(
    monkeypatch: pytest.MonkeyPatch, cache: Path, error: Exception, reason: str
) -> None:
    def fail(handle: str) -> None:
        raise error

    monkeypatch.setattr(kagglehub, "dataset_download", fail)
    assert check_refusal(cache, reason).__cause__ is error


def test_a_later_kagglehub_without_these_parts_is_one_line(
    monkeypatch: pytest.MonkeyPatch, server: Kaggle, cache: Path
) -> None:
    monkeypatch.delattr(kagglehub.http_resolver, "_extract_archive")
    check_refusal(cache, "has no attribute '_extract_archive'")
    assert server.seen == []


def test_a_mounted_set_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> None:
    monkeypatch.setattr(kagglehub, "dataset_download", lambda _: str(tmp_path / "input"))  # in a Kaggle notebook
    assert download(cache) == tmp_path / "input"


# --- several processes ---------------------------------------------------------------------------------------------

CHILD = """
import logging, sys
from pathlib import Path
from kagglesdk import kaggle_env
kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = sys.argv[1]
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
from vit_lightning.data import kaggle
kaggle.PATIENCE = 0.1
print("ready", flush=True)
sys.stdin.readline()
folder = kaggle.download(Path(sys.argv[2]))
assert "torch" not in sys.modules
print(folder)
"""


def test_of_two_processes_one_downloads(server: Kaggle, cache: Path) -> None:
    def hold_up(answer: Answer) -> None:
        server.closing.wait(1)  # long enough for the other to arrive
        answer.send()

    server.faults["get"] = [hold_up]
    command = [sys.executable, "-c", CHILD, server.address, str(cache)]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    outputs = []
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        outputs.append(child.communicate(timeout=30)[0].splitlines())
        assert child.returncode == 0
    folder = cache / "datasets" / HANDLE
    assert [lines[-1] for lines in outputs] == [str(folder)] * 2
    check_whole(folder)
    assert server.seen == ["ask", "get"]
    waited, loaded = sorted((lines[:-1] for lines in outputs), key=len)
    assert waited == [f"another process is downloading {HANDLE}: waiting for it"]
    assert loaded == [f"downloading {HANDLE} from Kaggle into {cache}", "fetching 3 MiB", "unpacking 4 files"]


def test_the_wait_for_another_process_can_be_interrupted(
    server: Kaggle, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(kaggle, "PATIENCE", 0.05)
    server.shelf.mkdir(parents=True)
    monkeypatch.setattr(kaggle.log, "info", interrupt)  # what is said when the wait begins
    done: list[type[BaseException]] = []

    def wait() -> None:
        try:
            download(cache)
        except BaseException as error:
            done.append(type(error))

    with FileLock(server.shelf / "3.lock"):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(10)
    assert done == [KeyboardInterrupt]
    assert server.seen == []


def test_neither_torch_nor_kagglehub_is_imported_for_a_cached_set(cache: Path) -> None:
    download(cache)
    code = (
        "import sys; from pathlib import Path; from vit_lightning.data.kaggle import download; "
        f"print(download(Path({str(cache)!r})), {{'torch', 'kagglehub', 'requests', 'filelock'}} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == f"{cache / 'datasets' / HANDLE} set()\n"


# --- what a person sees --------------------------------------------------------------------------------------------


def test_a_log_file_gets_three_lines_and_no_bar(
    monkeypatch: pytest.MonkeyPatch, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "a token")  # kagglehub speaks of newer versions to account holders only
    set_up_logging()
    download(cache)
    assert capfd.readouterr() == (
        f"downloading {HANDLE} from Kaggle into {cache}\nfetching 3 MiB\nunpacking 4 files\n",
        "",
    )
    download(cache)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_of_80_columns_shows_bars_that_go(
    server: Kaggle, monkeypatch: pytest.MonkeyPatch, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.faults["get"] = [cut(2 * MEBIBYTE + 5)]
    set_up_logging()
    console = Console(force_terminal=True, width=80)
    monkeypatch.setattr("rich.get_console", lambda: console)
    monkeypatch.setattr("rich.progress.get_console", lambda: console)
    download(cache)
    out, err = capfd.readouterr()
    assert err == ""
    drawn = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in re.split(r"[\r\n]+", out)]
    bars = [line for line in drawn if "━" in line]
    for part in ("fetching 3 MiB", " 3/3", "unpacking 4 files", " 4/4"):
        assert any(part in line for line in bars), part
    assert any("2/3" in line for line in bars)  # the second begins where the first ended
    assert max(map(len, bars)) <= 80
    rest = [line for line in drawn if line.strip() and "━" not in line]
    assert rest[0].startswith("downloading ")
    assert rest[1].startswith("warning: the download failed (the connection was cut): trying again in 1 s")
    assert len(rest) == 2
    assert out.count("\x1b[2K") >= 3  # each bar is wiped


def test_the_bar_counts_whole_mebibytes_of_any_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    monkeypatch.setattr(kaggle, "track", lambda *_, **__: nullcontext(counts.append))
    with kaggle.bar(total=3 * MEBIBYTE + 9, initial=MEBIBYTE + 5) as progress:
        for size in (MEBIBYTE // 2, MEBIBYTE // 2, MEBIBYTE + 4):
            progress.update(size)
    assert counts == [1, 0, 1, 1]


def test_the_check_of_a_whole_set_is_fast(server: Kaggle, cache: Path) -> None:
    folder = server.shelf / "versions" / "3"
    for number in range(5_500):
        path = folder / f"tom_and_jerry/tom_and_jerry/{CLASSES[number % 4]}/frame{number}.jpg"
        if number < 4:
            path.parent.mkdir(parents=True)
        path.touch()
    (server.shelf / "3.complete").touch()
    download(cache)
    start = time.perf_counter()
    download(cache)
    assert time.perf_counter() - start < 1
