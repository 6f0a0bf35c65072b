"""`fit`, `test` and `export` with `--tracker mlflow`, on a file beside the runs and on real servers."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from vit_lightning.cli import main
from vit_lightning.tracking.model import register
from vit_lightning.tracking.run import TrackedRun

FIT = ["--model.image_size=[16,32]", "--model.patch_size=8", "--model.dim=16", "--model.depth=1", "--model.heads=2"]
FIT += ["--data.augment=none", "--data.num_workers=0", "--data.batch_size=16", "--data.test_fraction=0.2"]
FIT += ["--trainer.accelerator=cpu", "--trainer.precision=32-true", "--run=first"]

RUN = Path("lightning_logs/first")


def fit(frames: Path, *words: str) -> int:
    return main(["fit", f"--data.root={frames}", *FIT, "--tracker=mlflow", *words])


def memory() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RUN / "mlflow.json").read_text())
    return content


def epochs(client: MlflowClient) -> list[int]:
    return sorted(metric.step for metric in client.get_metric_history(memory()["run_id"], "val/acc"))


def test_one_mlflow_run_from_the_first_epoch_to_the_model(
    logs: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(frames, "--trainer.max_epochs=2") == 0
    client = MlflowClient(f"sqlite:///{logs / 'mlflow.db'}")
    first = memory()["run_id"]
    assert epochs(client) == [1, 2]
    assert main(["fit", "--resume=first", "--trainer.max_epochs=3"]) == 0  # its config says that it is tracked
    assert main(["test", "--tracker=mlflow"]) == 0
    run = client.get_run(memory()["run_id"])
    assert (run.info.run_id, epochs(client), run.info.status) == (first, [1, 2, 3], "FINISHED")
    assert run.data.params["model.image_size"] == "[16, 32]"
    assert run.data.tags["split_id"] == json.loads((RUN / "status.json").read_text())["split"]["id"]
    metrics = json.loads((RUN / "report/metrics.json").read_text())
    assert run.data.metrics["test/accuracy"] == metrics["accuracy"]
    assert "report/report.html" in {file.path for file in client.list_artifacts(first, "report")}
    assert len(client.search_runs([run.info.experiment_id])) == 1
    assert "warning: MLflow" not in capsys.readouterr().out
    assert main(["runs"]) == 0
    assert "mlflow" not in capsys.readouterr().out


def test_a_server_that_was_never_there_is_made_up_for(
    logs: Path, frames: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert fit(frames, "--trainer.max_epochs=2") == 0
    assert capsys.readouterr().out.count("warning: MLflow at http://127.0.0.1:9 is not told (Connection refused)") == 1
    assert not (RUN / "mlflow.json").exists()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert main(["test", "--tracker=mlflow"]) == 0
    client = MlflowClient(f"sqlite:///{logs / 'mlflow.db'}")
    assert epochs(client) == [1, 2]
    assert client.get_run(memory()["run_id"]).info.status == "FINISHED"


def test_without_the_flag_mlflow_is_not_imported(logs: Path, frames: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (logs / "mlflow.db").unlink()
    for name in [name for name in sys.modules if name.split(".")[0] == "mlflow"]:
        monkeypatch.setitem(sys.modules, name, None)  # whoever imports it has an error
    assert main(["fit", f"--data.root={frames}", *FIT, "--trainer.max_epochs=1"]) == 0
    assert main(["test"]) == 0
    assert not (RUN / "mlflow.json").exists()
    assert not (logs / "mlflow.db").exists()


# Real servers


class Server:
    """A `mlflow server` on a store of its own, which can be killed and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as place:
            self.port = place.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        words = ["--host=127.0.0.1", f"--port={self.port}", "--workers=1"]
        words += [f"--backend-store-uri=sqlite:///{self.folder / 'server.db'}"]
        words += [f"--artifacts-destination={self.folder / 'files'}"]
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *words],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"},
            )
        for _ in range(240):
            try:
                with urllib.request.urlopen(f"{self.address}/health", timeout=5):
                    return
            except OSError:
                assert self.process.poll() is None, (self.folder / "server.log").read_text()
                time.sleep(0.5)
        raise AssertionError("no server within two minutes")

    def kill(self) -> None:
        """kill -9 of the server and its workers."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "server.db").write_bytes(empty_store.read_bytes())
    server = Server(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")  # it is killed here, and not merely slow
    monkeypatch.setattr("vit_lightning.callbacks.tracking.EPOCH", 120.0)
    monkeypatch.chdir(tmp_path)
    yield server
    if server.process.poll() is None:
        server.kill()


def killing(method: Callable[..., Any], server: Server, call: int) -> Callable[..., Any]:
    """The method, whose server is killed before so many-th call of it, counted from 1."""
    calls = iter(range(1, 1000))

    def called(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            server.kill()
        return method(*args, **kwargs)

    return called


@pytest.mark.slow
def test_a_server_killed_in_every_phase_costs_a_warning_and_nothing_is_lost(
    server: Server,
    frames: Path,
    onnx_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(command: Callable[[], Any], owner: type, name: str, call: int) -> None:
        """A command whose server is killed, and comes back after it."""
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, killing(getattr(owner, name), server, call))
            assert command() in (0, None)
        assert capsys.readouterr().out.count("warning: MLflow") == 1
        server.start()

    broken(lambda: fit(frames, "--trainer.max_epochs=4"), TrackedRun, "send_epochs", 3)  # at first, and after two
    assert len((RUN / "history.csv").read_text().splitlines()) == 5
    client = MlflowClient(server.address)
    assert epochs(client) == [1]
    assert client.get_run(memory()["run_id"]).info.status == "RUNNING"
    broken(lambda: main(["test", "--tracker=mlflow"]), MlflowClient, "log_artifacts", 1)
    run = client.get_run(memory()["run_id"])
    assert (epochs(client), "test/accuracy" in run.data.metrics) == ([1, 2, 3, 4], False)
    names = ["red", "green", "blue"]
    for method in ("log_model_artifacts", "create_model_version"):
        broken(lambda: register(RUN, onnx_file, names), MlflowClient, method, 1)
        assert memory()["model"] is None
    register(RUN, onnx_file, names)
    run = client.get_run(memory()["run_id"])
    assert (run.info.status, "test/accuracy" in run.data.metrics) == ("FINISHED", True)
    assert "report/report.html" in {file.path for file in client.list_artifacts(run.info.run_id, "report")}
    (version,) = client.search_model_versions()
    assert (version.name, version.run_id, memory()["model"]["version"]) == (frames.name, run.info.run_id, 1)


@pytest.mark.slow
def test_of_several_processes_one_tells(logs: Path, frames: Path) -> None:
    words = ["fit", f"--data.root={frames}", *FIT, "--tracker=mlflow", "--trainer.max_epochs=2", "--trainer.devices=2"]
    command = [sys.executable, "-m", "vit_lightning.cli", *words, "--trainer.strategy=ddp"]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    client = MlflowClient(f"sqlite:///{logs / 'mlflow.db'}")
    run = client.get_run(memory()["run_id"])
    assert epochs(client) == [1, 2]
    assert len(client.search_runs([run.info.experiment_id])) == 1
