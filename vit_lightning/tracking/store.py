"""Where MLflow keeps what it is told: a file beside the runs, or a server, which may be gone."""

import importlib.util
import logging
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vit_lightning.progress import told
from vit_lightning.runs import read_json

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: In a run's folder: `tracking_uri` (null: the store beside the runs), `run_id` and `model`.
MEMORY = "mlflow.json"

#: Beside the runs: the store, and the folder of the files that belong to it.
STORE, ARTIFACTS = "mlflow.db", "mlflow-artifacts"

#: What MLflow does unless the environment says otherwise: a server that hangs is not waited for, and nothing is told to
#: MLflow's makers.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",  # seconds; MLflow's own are 120, and seven more tries
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def check_tracker(tracker: str | None) -> None:
    """Refuses a tracker whose package is missing, before anything is computed.

    Args:
        tracker: `mlflow`, or None for none.

    Raises:
        ValueError: It says what to install.
    """
    if tracker is not None and importlib.util.find_spec("mlflow") is None:
        raise ValueError(
            "--tracker mlflow needs mlflow, which is not installed: pip install 'vit-lightning[mlflow]', or "
            "-e '.[mlflow]'"
        )


def store_of(folder: Path) -> str | None:
    """The address of the store that a run is kept in: `MLFLOW_TRACKING_URI`, or what the run's folder remembers.

    Returns:
        The address, or None for the store beside the runs.
    """
    remembered = read_json(folder / MEMORY).get("tracking_uri")
    return os.environ.get("MLFLOW_TRACKING_URI") or (remembered if isinstance(remembered, str) else None)


def memory_of(folder: Path) -> dict[str, Any]:
    """What a run's folder remembers of MLflow; nothing where that is of another store than `store_of` tells."""
    memory = read_json(folder / MEMORY)
    return memory if memory.get("tracking_uri") == without_password(store_of(folder)) else {}


def connect(address: str | None, logs: Path) -> "MlflowClient":
    """MLflow's client of a store.

    Args:
        address: As `store_of` gives it.
        logs: The folder of runs.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient  # seconds

    for name in ("mlflow", "alembic"):  # which tell of every table that they make
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient(address or f"sqlite:///{(logs / STORE).resolve().as_posix()}")


def without_password(address: str | None) -> str | None:
    """An address as it may be shown and kept: a password in it is nobody's business."""
    return address and re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1@", address)


def why(error: BaseException) -> str:
    """What went wrong, in some words: libraries wrap the system's own error, such as `Connection refused`."""
    inner: BaseException | None = error
    while inner is not None:
        error, inner = inner, inner.__cause__ or inner.__context__
    text = told(error) if isinstance(error, Exception) else str(error)
    return text if len(text) <= 160 else f"{text[:160]}..."


def within(seconds: float, task: Callable[[], Any]) -> None:
    """Does a task that may hang where no limit of a library's helps, as in looking a name up.

    Args:
        seconds: After which it is left alone, in a thread that ends with the process.
        task: It.

    Raises:
        TimeoutError: It is not done by then.
        Exception: What the task raises.
    """
    ended: list[Exception | None] = []

    def work() -> None:
        try:
            task()
        except Exception as error:  # it is raised below
            ended.append(error)
        else:
            ended.append(None)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not ended:
        raise TimeoutError(f"no answer within {seconds:g} seconds")
    if ended[0] is not None:
        raise ended[0]
