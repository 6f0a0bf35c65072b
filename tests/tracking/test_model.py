"""An exported model as MLflow keeps it, loaded without this project."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mlflow import MlflowClient

from vit_lightning.tracking.model import register

MakeRun = Callable[..., Path]

NAMES = ["red", "green", "blue"]

#: What somebody does who has MLflow and onnxruntime alone.
USER = """
import json, sys, mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/colours/1")
pictures = np.zeros((2, 5, 7, 3), np.uint8)
pictures[0, ..., 2], pictures[1, ..., 0] = 20, 40
table = model.predict(pictures)
example = model.predict(model.input_example)
assert "vit_lightning" not in sys.modules and "torch" not in sys.modules
assert list(example.columns) == [column.name for column in model.metadata.signature.outputs]
print(json.dumps([table.to_dict("records"), [list(each.shape) for each in model.metadata.signature.inputs]]))
"""


def test_a_version_is_loaded_without_this_project(make_run: MakeRun, onnx_file: Path, tmp_path: Path) -> None:
    folder = make_run()
    register(folder, onnx_file, NAMES)
    store = f"sqlite:///{folder.parent / 'mlflow.db'}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", USER, store], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    table, shapes = json.loads(done.stdout.splitlines()[-1])
    assert shapes == [[-1, -1, -1, 3]]
    assert [row["label"] for row in table] == ["blue", "red"]
    expected = np.exp([0, 0, 1]) / np.exp([0, 0, 1]).sum()
    assert np.allclose([table[0][f"probability_{name}"] for name in NAMES], expected, atol=1e-6)
    assert np.isclose(table[1]["confidence"], np.exp(2) / (np.exp(2) + 2), atol=1e-6)
    assert not (tmp_path / "mlflow.db").exists()  # MLflow's own choice of a store


def test_the_same_file_is_one_version_and_another_the_next(
    make_run: MakeRun, onnx_file: Path, told: list[tuple[str, str]]
) -> None:
    folder = make_run()
    for _ in range(2):
        register(folder, onnx_file, NAMES)
    assert told[-1] == ("INFO", "MLflow has the model by now: version 1 of colours")
    onnx_file.write_bytes(onnx_file.read_bytes() + b"\x7a\x00")  # an empty field of an unknown number
    register(folder, onnx_file, NAMES)
    register(make_run("second"), onnx_file, NAMES)
    client = MlflowClient(f"sqlite:///{folder.parent / 'mlflow.db'}")
    versions = {int(each.version): each for each in client.search_model_versions("name='colours'")}
    assert {number: each.tags["run"] for number, each in versions.items()} == {1: "first", 2: "first", 3: "second"}
    memory = json.loads((folder / "mlflow.json").read_text())
    assert memory["model"]["version"] == 2
    assert versions[2].run_id == memory["run_id"]
    outputs = client.get_run(memory["run_id"]).outputs
    assert outputs is not None
    assert len(outputs.model_outputs) == 2
    client.delete_model_version("colours", "2")
    register(folder, onnx_file, NAMES)
    assert json.loads((folder / "mlflow.json").read_text())["model"]["version"] == 4


def test_a_server_that_is_gone_costs_a_warning(make_run: MakeRun, onnx_file: Path, told: list[tuple[str, str]]) -> None:
    folder = make_run()
    (folder.parent / "mlflow.db").write_text("this is no database, whatever its name says")
    register(folder, onnx_file, NAMES)
    ((level, text),) = told
    assert level == "WARNING"
    assert text.endswith(
        "has not got the model (file is not a database); the same command, given once more, registers it"
    )
