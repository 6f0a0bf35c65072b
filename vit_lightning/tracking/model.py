"""An exported model in MLflow: a version of the model that is registered under the data's name."""

import hashlib
import logging
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vit_lightning.runs import read_status
from vit_lightning.tracking.run import TrackedRun, name_of
from vit_lightning.tracking.store import memory_of, why

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

log = logging.getLogger(__name__)


def register(folder: Path, onnx: Path, class_names: Sequence[str]) -> None:
    """Brings MLflow's run up to date, and adds the model; where that cannot be, it costs a warning.

    Args:
        folder: The run's.
        onnx: The file that `export` has written.
        class_names: The classes, in the order of the probabilities.
    """
    run = TrackedRun(folder)
    try:
        run.send()
        add_version(run, onnx, class_names)
    except Exception as error:  # what MLflow and the libraries below it raise has no common class
        log.warning(
            "MLflow at %s has not got the model (%s); the same command, given once more, registers it",
            *(run.where, why(error)),
        )


def add_version(run: TrackedRun, onnx: Path, class_names: Sequence[str]) -> None:
    """Logs the model and makes it a version, unless this very file is one.

    Raises:
        Exception: The store cannot be reached, or refuses; then there is no version, at most a model without one.
    """
    digest = hashlib.sha256(onnx.read_bytes()).hexdigest()
    name = name_of(read_status(run.folder / "status.json"))
    known = memory_of(run.folder).get("model") or {}
    if known.get("sha256") == digest and known.get("name") == name and is_there(run, known):
        log.info("MLflow has the model by now: version %s of %s", known["version"], name)
        return
    registered = add_to_registry(run, name, log_model(run, onnx, class_names), digest)
    run.remember(model={"name": name, "version": registered, "sha256": digest})
    log.info("MLflow: version %s of the model %s in %s", registered, name, run.where)


def is_there(run: TrackedRun, known: Mapping[str, Any]) -> bool:
    """Whether MLflow still has a version that the run's folder remembers."""
    from mlflow.exceptions import MlflowException

    try:
        run.client.get_model_version(known["name"], str(known["version"]))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def log_model(run: TrackedRun, onnx: Path, class_names: Sequence[str]) -> "LoggedModel":
    """Uploads the model as one of the MLflow run."""
    from mlflow.entities import LoggedModelOutput

    experiment = run.client.get_run(run.run_id).info.experiment_id
    model = run.client.create_logged_model(experiment, name=run.folder.name, source_run_id=run.run_id)
    with tempfile.TemporaryDirectory() as temporary:
        write_model(Path(temporary) / "model", onnx, class_names, model)
        run.client.log_model_artifacts(model.model_id, str(Path(temporary) / "model"))
    model = run.client.finalize_logged_model(model.model_id, "READY")  # one that a kill has left stays pending
    run.client.log_outputs(run.run_id, [LoggedModelOutput(model.model_id, step=0)])
    return model


def write_model(folder: Path, onnx: Path, class_names: Sequence[str], model: "LoggedModel") -> None:
    """Writes an MLflow model around an ONNX file, with signature and input example.

    Args:
        folder: It is made.
        onnx: The file that `export` has written.
        class_names: The classes, in the order of the probabilities.
        model: What MLflow knows it as.
    """
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    columns: list[ColSpec | TensorSpec] = [ColSpec(DataType.string, "label"), ColSpec(DataType.float, "confidence")]
    columns += [ColSpec(DataType.float, f"probability_{name}") for name in class_names]
    pictures = Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3))])
    packages = [f"{name}=={version(name)}" for name in ("numpy", "onnxruntime", "pandas")]
    code = Path(__file__).with_name("exported_vit.py")
    mlflow.pyfunc.save_model(
        str(folder),
        mlflow_model=Model(model.artifact_location, model.source_run_id, model_id=model.model_id),
        loader_module=code.stem,
        code_paths=[str(code)],
        data_path=str(onnx.resolve()),
        signature=ModelSignature(pictures, Schema(columns)),
        input_example=example(),
        pip_requirements=[f"mlflow=={mlflow.__version__}", *packages],  # found out otherwise by running it
    )


def example() -> npt.NDArray[np.uint8]:
    """A made-up picture (1, 24, 32, 3): which pictures a project has is nobody's business."""
    height, width, color = np.ogrid[:24, :32, :3]
    picture: npt.NDArray[np.uint8] = (8 * height + 4 * width + 40 * color).astype(np.uint8)
    return picture[None]


def add_to_registry(run: TrackedRun, name: str, model: "LoggedModel", digest: str) -> int:
    """Makes a model the newest version of a registered one, which is made where there is none.

    Returns:
        The version.
    """
    from mlflow.exceptions import MlflowException

    try:
        run.client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {"run": run.folder.name, "sha256": digest}
    # Not by `models:/ID`, which MLflow would look up in the store of its own choice.
    made = run.client.create_model_version(
        name, model.artifact_location, run.run_id, tags=tags, model_id=model.model_id
    )
    return int(made.version)
