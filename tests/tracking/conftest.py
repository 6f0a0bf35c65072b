"""Runs that nobody has trained, and stores of MLflow's own."""

import csv
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from vit_lightning.tracking.store import STORE, connect

MakeRun = Callable[..., Path]

NAMES = ["red", "green", "blue"]


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables, which take MLflow seconds."""
    folder = tmp_path_factory.mktemp("store")
    connect(None, folder).search_experiments()
    return folder / STORE


@pytest.fixture
def logs(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs with such a store, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "lightning_logs"
    folder.mkdir()
    shutil.copy(empty_store, folder / STORE)
    return folder


def write_history(folder: Path, epochs: int) -> None:
    """As `fit` leaves it: the loss is 1/epoch, the accuracy 1 - 1/epoch."""
    with (folder / "history.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["epoch", "train/loss", "val/acc"])
        table.writerows([epoch, round(1 / epoch, 6), round(1 - 1 / epoch, 6)] for epoch in range(1, epochs + 1))


@pytest.fixture
def make_run(logs: Path) -> MakeRun:
    """What a run's folder holds, as far as MLflow is told of it."""

    def make(name: str = "first", *, epochs: int = 3, **status: Any) -> Path:
        folder = logs / name
        (folder / "report").mkdir(parents=True)
        told = {
            "state": "finished",
            "started": "2026-01-02T03:04:05+00:00",
            "ended": "2026-01-02T03:05:05+00:00",
            "data": {"name": "colours", "id": "d1"},
            "split": {"kind": "blocks", "id": "s1"},
            "best": {"epoch": epochs, "val/acc": 0.75},
        }
        (folder / "status.json").write_text(json.dumps(told | status))
        (folder / "config.yaml").write_text(
            "tracker: mlflow\nseed_everything: 0\nmodel:\n  depth: 4\n  ema: null\n"
            "trainer:\n  max_epochs: 3\n  callbacks:\n  - class_path: X\n"
        )
        write_history(folder, epochs)
        metrics = {"accuracy": 0.8, "macro_f1": 0.7, "images": 40, "intervals": {"accuracy": [0.6, 0.9]}}
        (folder / "report" / "metrics.json").write_text(json.dumps(metrics))
        (folder / "report" / "report.html").write_text("<p>page</p>")
        return folder

    return make


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    """A model whose probabilities are the softmax over a picture's mean red, green and blue, times 0.05."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
            helper.make_node("Mul", ["means", "scale"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "height", "width", 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])],
        [
            helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("scale", TensorProto.FLOAT, [], [0.05]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    helper.set_model_props(model, {"class_names": json.dumps(NAMES)})
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture(autouse=True)
def quiet() -> None:
    """MLflow's own lines are nobody's business here."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
