"""The pinned set, its cache, and one readable line when it cannot be had."""

import os
import re
import socket
from pathlib import Path

import kagglehub
import pytest
import requests
from kagglehub.config import get_cache_folder

from vit_lightning.data.index import find_layout
from vit_lightning.data.kaggle import CLASSES, HANDLE, download


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `download` sets for kagglehub ends with the test."""
    monkeypatch.setenv("KAGGLEHUB_CACHE", "elsewhere")


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def dataset_download(handle: str) -> str:
        raise error

    monkeypatch.setattr(kagglehub, "dataset_download", dataset_download)


def test_the_version_is_pinned() -> None:
    assert HANDLE == "balabaskar/tom-and-jerry-image-classification/versions/3"


def test_classes_are_the_drawn_set_s_folders_too(frames: Path) -> None:
    assert list(CLASSES) == find_layout(frames).classes


def test_handle_and_cache_folder_reach_kagglehub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[tuple[str, str]] = []

    def dataset_download(handle: str) -> str:
        calls.append((handle, get_cache_folder()))
        return str(tmp_path / "there")

    monkeypatch.setattr(kagglehub, "dataset_download", dataset_download)
    assert download(tmp_path / "cache") == tmp_path / "there"
    assert calls == [(HANDLE, str(tmp_path / "cache"))]


def test_what_is_in_the_cache_needs_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    owner, name, _, version = HANDLE.split("/")
    kept = tmp_path / "datasets" / owner / name
    frames = kept / "versions" / version
    frames.mkdir(parents=True)
    (kept / f"{version}.complete").touch()

    def no_network(*arguments: object, **settings: object) -> None:
        raise AssertionError("a request was made")

    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(requests.Session, "send", no_network)
    assert download(tmp_path) == frames


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (requests.exceptions.ConnectionError("Max retries exceeded"), "Max retries exceeded"),
        (requests.exceptions.HTTPError("403 Client Error\n\nPermission denied\nfor url"), "403 Client Error"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (ValueError("\n  bad archive"), "bad archive"),
        (KeyError(), "KeyError"),
        (RuntimeError("  \n"), "RuntimeError"),
    ],
)
def test_any_failure_is_one_line_that_names_set_cache_and_way_round(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, reason: str
) -> None:
    fail_with(monkeypatch, error)
    with pytest.raises(FileNotFoundError, match=re.escape(reason)) as caught:
        download(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert HANDLE in message
    assert f" {tmp_path}:" in message
    assert "--data.root" in message
    assert caught.value.__cause__ is error


def test_an_interruption_stays_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fail_with(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        download(tmp_path)
    assert os.environ["KAGGLEHUB_CACHE"] == str(tmp_path)
