"""A run's folder in MLflow: settings, scores by epoch, state and reports, as far as MLflow has not got them yet."""

import hashlib
import json
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vit_lightning import __version__
from vit_lightning.files import write_text
from vit_lightning.runs import METRIC_NUMBERS, METRIC_SECTIONS, Run, finite, read_json, read_numbers, read_status, sound
from vit_lightning.tracking.store import ARTIFACTS, MEMORY, STORE, connect, memory_of, store_of, why, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

log = logging.getLogger(__name__)

#: What MLflow calls the states of a run.
STATES = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}

#: Signs of a setting and settings at once that MLflow takes; epochs at once, of six scores each.
LONGEST, SETTINGS_AT_ONCE, EPOCHS_AT_ONCE = 6000, 100, 100

#: Scores of a report that become metrics.
HEADLINE = ("accuracy", "macro_f1", "balanced_accuracy", "auroc", "images")


class TrackedRun:
    """The MLflow run of a run's folder.

    What is sent is read from the folder alone, and is what MLflow has not got yet. So what a server has missed while it
    was gone comes with the next call that finds it, and a call that breaks off leaves nothing to be mended.

    Args:
        folder: The run's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = store_of(folder)
        self.client: MlflowClient = None  # type: ignore[assignment]  # until `send` connects
        self.run_id = ""
        self.sent: set[tuple[int, float]] = set()  # epoch and first score of the rows that MLflow has

    @property
    def where(self) -> str:
        """The store in words."""
        return without_password(self.address) or str(self.folder.parent / STORE)

    def remember(self, **facts: object) -> None:
        """Keeps run and model in the folder, for the commands to come."""
        told = {"tracking_uri": without_password(self.address), "run_id": self.run_id}
        write_text(self.folder / MEMORY, json.dumps(memory_of(self.folder) | told | facts, indent=2) + "\n")

    def send(self, reports: Sequence[Path] = ()) -> None:
        """Finds or makes the MLflow run, and sends what it has not got.

        Args:
            reports: Folders that `test` has written elsewhere, beside those in the run's own.

        Raises:
            Exception: The store cannot be reached, or refuses; what was sent by then is there.
        """
        run = Run(self.folder, read_status(self.folder / "status.json"))
        self.client = connect(self.address, self.folder.parent)
        tracked = self.find() or self.make(run.status)
        self.run_id = tracked.info.run_id
        self.send_settings(run.config(), tracked)
        self.send_tags(facts_of(run.status), tracked)
        history = self.client.get_metric_history(self.run_id, "train/loss")
        self.sent = {(metric.step, metric.value) for metric in history}
        self.send_epochs()
        best = run.status.get("best") or {}
        epoch, score = finite(best.get("epoch")), finite(best.get("val/acc"))
        if epoch is not None and score is not None and tracked.data.metrics.get("best/val/acc") != score:
            self.send_scores({"best/val/acc": score}, int(epoch))
        for report in dict.fromkeys([*sorted(self.folder.glob("report*")), *reports]):
            self.send_report(report, tracked)
        state = STATES.get(run.state)
        if state == "RUNNING":
            self.client.update_run(self.run_id, status=state)
        elif state is not None and state != tracked.info.status:
            self.client.set_terminated(self.run_id, state, milliseconds(run.status.get("ended")))

    def find(self) -> "MlflowRun | None":
        """The MLflow run that the folder remembers, unless somebody has deleted it there."""
        from mlflow.exceptions import MlflowException

        run_id = memory_of(self.folder).get("run_id")
        if not isinstance(run_id, str):
            return None
        try:
            tracked = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return tracked if tracked.info.lifecycle_stage == "active" else None

    def make(self, status: Mapping[str, Any]) -> "MlflowRun":
        """A new MLflow run, in the experiment of the data."""
        began = milliseconds(status.get("started"))
        tracked = self.client.create_run(self.experiment(name_of(status)), began, run_name=self.folder.name)
        self.run_id = tracked.info.run_id
        self.remember(model=None)
        log.info("MLflow run %s in %s", self.run_id, self.where)
        return tracked

    def experiment(self, name: str) -> str:
        """The id of an experiment, which is made where there is none; another process may make it meanwhile."""
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            place = None if self.address else (self.folder.parent / ARTIFACTS).resolve().as_posix()
            try:
                return str(self.client.create_experiment(name, artifact_location=place))
            except MlflowException:
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def send_settings(self, config: Mapping[str, Any], tracked: "MlflowRun") -> None:
        """The config as parameters; those of MLflow never change, so a later other value is a tag."""
        from mlflow.entities import Param

        settings = {name: value[:LONGEST] for name, value in flat(config) if name != "tracker"}
        known = tracked.data.params
        new = [Param(name, value) for name, value in settings.items() if name not in known]
        for start in range(0, len(new), SETTINGS_AT_ONCE):
            self.client.log_batch(self.run_id, params=new[start : start + SETTINGS_AT_ONCE])
        changed = {name: value for name, value in settings.items() if known.get(name, value) != value}
        self.send_tags({f"changed.{name}": value for name, value in changed.items()}, tracked)

    def send_tags(self, tags: Mapping[str, str], tracked: "MlflowRun") -> None:
        """Those that are not so by now."""
        from mlflow.entities import RunTag

        new = [RunTag(name, value) for name, value in tags.items() if tracked.data.tags.get(name) != value]
        for start in range(0, len(new), SETTINGS_AT_ONCE):
            self.client.log_batch(self.run_id, tags=new[start : start + SETTINGS_AT_ONCE])

    def send_epochs(self) -> None:
        """The rows of `history.csv` that MLflow has not got; an epoch's scores come all at once or not at all."""
        from mlflow.entities import Metric

        rows = [row for row in read_numbers(self.folder / "history.csv") if row_key(row) not in self.sent]
        now = int(1000 * time.time())
        for start in range(0, len(rows), EPOCHS_AT_ONCE):
            some = rows[start : start + EPOCHS_AT_ONCE]
            metrics = [
                Metric(name, value, now, int(row["epoch"]))
                for row in some
                for name, value in row.items()
                if name != "epoch" and finite(value) is not None
            ]
            self.client.log_batch(self.run_id, metrics=metrics)
            self.sent |= {row_key(row) for row in some}

    def send_scores(self, scores: Mapping[str, float], step: int = 0) -> None:
        """Scores that are no epoch's, or are the best one's."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self.client.log_batch(self.run_id, metrics=[Metric(name, value, now, step) for name, value in scores.items()])

    def send_report(self, folder: Path, tracked: "MlflowRun") -> None:
        """A report's files, then its scores, then a tag by which the next call knows that it is all there."""
        try:
            digest = hashlib.sha256((folder / "metrics.json").read_bytes()).hexdigest()
        except OSError:
            return
        tag = f"{folder.name}.sha256"
        if tracked.data.tags.get(tag) == digest:
            return
        self.client.log_artifacts(self.run_id, str(folder), folder.name)
        part = "test" if folder.name == "report" else folder.name
        scores = headline(sound(read_json(folder / "metrics.json"), METRIC_SECTIONS, (), METRIC_NUMBERS))
        self.send_scores({f"{part}/{name}": value for name, value in scores.items()})
        self.client.set_tag(self.run_id, tag, digest)


def track(folder: Path, reports: Sequence[Path] = ()) -> None:
    """Has MLflow's run be what a run's folder is; where that cannot be, it costs a warning."""
    run = TrackedRun(folder)
    try:
        run.send(reports)
    except Exception as error:  # what MLflow and the libraries below it raise has no common class
        missing(run, error)


def missing(run: TrackedRun, error: Exception) -> None:
    """Says that MLflow could not be told, and what makes up for it."""
    log.warning(
        "MLflow at %s is not told (%s); what it misses is sent by the next fit --resume, test or export of this run "
        "with --tracker mlflow",
        *(run.where, why(error)),
    )


def name_of(status: Mapping[str, Any]) -> str:
    """What experiment and registered model are called: as the data, whose runs are comparable."""
    name = str((status.get("data") or {}).get("name") or "vit_lightning")
    return re.sub(r"[/:.%\"']", "_", name)  # what MLflow refuses in the name of a model


def facts_of(status: Mapping[str, Any]) -> dict[str, str]:
    """What a run's status says of data, split and machine, as tags."""
    data, split = status.get("data") or {}, status.get("split") or {}
    facts = {
        "data": data.get("name"),
        "data_id": data.get("id"),
        "split": split.get("kind"),
        "split_id": split.get("id"),
    }
    facts |= {"device": status.get("device"), "state": status.get("state"), "made_by": f"vit_lightning {__version__}"}
    return {name: str(value) for name, value in facts.items() if value is not None}


def flat(config: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """The settings of a config by their whole names; those that are left out are none."""
    for name, value in config.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{before}{name}.")
        elif value is not None:
            yield f"{before}{name}", value if isinstance(value, str) else json.dumps(value, default=str)


def row_key(row: Mapping[str, float]) -> tuple[int, float]:
    """By what an epoch's row is known: its number, and a score, since an epoch may come once more."""
    return int(row["epoch"]), row.get("train/loss", 0.0)


def headline(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The scores of a `metrics.json` that one compares, and the ends of the accuracy's interval."""
    scores = {name: finite(metrics.get(name)) for name in HEADLINE}
    interval = metrics.get("intervals", {}).get("accuracy")
    if isinstance(interval, list) and len(interval) == 2:
        scores |= {"accuracy_low": finite(interval[0]), "accuracy_high": finite(interval[1])}
    return {name: value for name, value in scores.items() if value is not None}


def milliseconds(time: object) -> int | None:
    """A time of a status as MLflow counts it; None where there is none."""
    try:
        return int(1000 * datetime.fromisoformat(str(time)).timestamp())
    except ValueError:
        return None
