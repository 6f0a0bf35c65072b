"""Where MLflow's store is, and servers that are none."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vit_lightning.cli import main
from vit_lightning.tracking.run import track
from vit_lightning.tracking.store import SETTINGS, store_of, why, within, without_password

MakeRun = Callable[..., Path]


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes every connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_is_not_there_is_one_warning(
    make_run: MakeRun, told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    folder = make_run()
    track(folder)
    ((level, text),) = told
    assert level == "WARNING"
    assert text.startswith("MLflow at http://me@127.0.0.1:9 is not told (Connection refused); what it misses is sent")
    assert not (folder / "mlflow.json").exists()


def test_a_server_that_hangs_is_not_waited_for(
    make_run: MakeRun, silent: str, told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", silent)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # whoever sets it has it so
    track(make_run())
    assert [level for level, _ in told] == ["WARNING"]
    assert "timed out" in told[0][1]
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "1"
    assert (int(SETTINGS["MLFLOW_HTTP_REQUEST_TIMEOUT"]), SETTINGS["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) == (5, "0")


def test_the_environment_says_where_then_the_run_then_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert store_of(tmp_path) is None
    (tmp_path / "mlflow.json").write_text('{"tracking_uri": "http://a"}')
    assert store_of(tmp_path) == "http://a"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://b")
    assert store_of(tmp_path) == "http://b"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:secret@host:5000/x", "http://me@host:5000/x"),
        ("postgresql://me:s@host/db", "postgresql://me@host/db"),
        ("http://host:5000/a:b@c", "http://host:5000/a:b@c"),
        ("sqlite:////tmp/a.db", "sqlite:////tmp/a.db"),
        (None, None),
    ],
)
def test_passwords_are_not_shown(address: str | None, shown: str | None) -> None:
    assert without_password(address) == shown


def test_what_hangs_for_good_is_left() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.1 seconds"):
        within(0.1, lambda: time.sleep(20))
    assert time.monotonic() - began < 10
    with pytest.raises(ZeroDivisionError):
        within(60, lambda: 1 / 0)


def test_the_cause_is_what_is_told() -> None:
    error = RuntimeError("Max retries exceeded with url: /api/2.0")
    error.__cause__ = ConnectionRefusedError(111, "Connection refused")
    assert why(error) == "Connection refused"
    assert len(why(ValueError("x" * 500))) < 200


@pytest.mark.parametrize("command", ["fit", "test", "export"])
def test_a_missing_package_is_one_line_before_anything_is_computed(
    command: str, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == "mlflow" else find(name, *more))
    monkeypatch.chdir(trained)
    capsys.readouterr()
    assert main([command, "--tracker=mlflow"]) == 2
    out, err = capsys.readouterr()
    line = "error: --tracker mlflow needs mlflow, which is not installed: pip install 'vit-lightning[mlflow]', or -e"
    assert (out, err) == ("", f"{line} '.[mlflow]'\n")


@pytest.mark.parametrize("command", ["fit", "test", "export"])
def test_another_tracker_is_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--tracker=wandb"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "tracker" in line
    assert "wandb" in line
    assert "mlflow" in line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["export", "--format=web"], "--tracker registers the ONNX file; leave it out, or --format web"),
        (["export", "--run=some.ckpt"], "--tracker goes on with a run, and some.ckpt is in no run's folder"),
        (["test", "--run=some.ckpt"], "--tracker goes on with a run, and some.ckpt is in no run's folder"),
    ],
)
def test_what_cannot_be_tracked_is_refused(
    words: list[str], expected: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "some.ckpt").write_bytes((work / "lightning_logs/first/checkpoints/best.ckpt").read_bytes())
    capsys.readouterr()
    assert main([*words, "--tracker=mlflow"]) == 2
    assert expected in capsys.readouterr().err


def test_nothing_is_told_to_mlflow_s_makers_and_torch_stays_out() -> None:
    code = (
        "import sys; from pathlib import Path; from vit_lightning.tracking.store import connect;"
        "assert 'mlflow' not in sys.modules; connect('http://127.0.0.1:9', Path());"
        "import mlflow; from mlflow.telemetry.utils import is_telemetry_disabled;"
        "assert is_telemetry_disabled(); assert mlflow.telemetry.get_telemetry_client() is None;"
        "assert 'torch' not in sys.modules"
    )
    told = ("PYTEST_CURRENT_TEST", "CI", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")  # by which it is off anyway
    environment = {name: value for name, value in os.environ.items() if name not in told}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
