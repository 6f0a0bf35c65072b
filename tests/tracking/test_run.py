"""What MLflow is told of a run's folder, held against what MLflow answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from vit_lightning.tracking.run import track

MakeRun = Callable[..., Path]


def asked(folder: Path, store: str | None = None) -> tuple[MlflowClient, Run]:
    """MLflow's own client, and the run that the folder names."""
    client = MlflowClient(store or f"sqlite:///{folder.parent / 'mlflow.db'}")
    return client, client.get_run(json.loads((folder / "mlflow.json").read_text())["run_id"])


def history(client: MlflowClient, run: Run, name: str) -> list[tuple[int, float]]:
    return sorted((metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name))


def test_mlflow_has_what_the_folder_has(make_run: MakeRun, logs: Path) -> None:
    folder = make_run()
    track(folder)
    client, run = asked(folder)
    assert run.info.run_name == "first"
    assert client.get_experiment(run.info.experiment_id).name == "colours"
    assert run.data.params == {
        "seed_everything": "0",
        "model.depth": "4",
        "trainer.max_epochs": "3",
        "trainer.callbacks": '[{"class_path": "X"}]',
    }
    assert history(client, run, "train/loss") == [(1, 1.0), (2, 0.5), (3, 0.333333)]
    assert history(client, run, "val/acc") == [(1, 0.0), (2, 0.5), (3, 0.666667)]
    assert history(client, run, "best/val/acc") == [(3, 0.75)]
    tags = {"data": "colours", "data_id": "d1", "split": "blocks", "split_id": "s1", "state": "finished"}
    assert tags.items() <= run.data.tags.items()
    assert run.info.status == "FINISHED"
    assert (run.info.start_time, run.info.end_time) == (1767323045000, 1767323105000)
    scores = {name: value for name, value in run.data.metrics.items() if name.startswith("test/")}
    assert scores == {
        "test/accuracy": 0.8,
        "test/macro_f1": 0.7,
        "test/images": 40,
        "test/accuracy_low": 0.6,
        "test/accuracy_high": 0.9,
    }
    files = {file.path for file in client.list_artifacts(run.info.run_id, "report")}
    assert files == {"report/metrics.json", "report/report.html"}
    assert run.info.artifact_uri.startswith(str(logs / "mlflow-artifacts"))


def test_what_it_has_is_not_sent_again(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run(epochs=2, state="running", best={})
    track(folder)
    _, before = asked(folder)
    make_run("other", epochs=4)
    (folder / "history.csv").write_text((folder.parent / "other" / "history.csv").read_text())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "metrics.json").write_text('{"accuracy": 0.3}')
    track(folder, [tmp_path / "elsewhere"])
    track(folder)
    client, run = asked(folder)
    assert run.info.run_id == before.info.run_id
    assert history(client, run, "train/loss") == [(1, 1.0), (2, 0.5), (3, 0.333333), (4, 0.25)]
    assert history(client, run, "test/accuracy") == [(0, 0.8)]
    assert history(client, run, "elsewhere/accuracy") == [(0, 0.3)]


def test_a_changed_setting_and_another_report_are_told(make_run: MakeRun) -> None:
    folder = make_run()
    track(folder)
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("max_epochs: 3", "max_epochs: 9"))
    (folder / "report" / "metrics.json").write_text('{"accuracy": 0.85}')
    track(folder)
    _, run = asked(folder)
    assert run.data.params["trainer.max_epochs"] == "3"
    assert run.data.tags["changed.trainer.max_epochs"] == "9"
    assert "changed.model.depth" not in run.data.tags
    assert run.data.metrics["test/accuracy"] == 0.85


@pytest.mark.parametrize(
    ("state", "expected"), [("failed", "FAILED"), ("interrupted", "KILLED"), ("running", "KILLED")]
)
def test_how_it_ended(make_run: MakeRun, state: str, expected: str) -> None:
    folder = make_run(state=state)  # one that says running, while nobody holds its lock, was killed
    track(folder)
    assert asked(folder)[1].info.status == expected


def test_a_run_that_was_deleted_there_is_made_anew(make_run: MakeRun) -> None:
    folder = make_run()
    track(folder)
    client, run = asked(folder)
    client.delete_run(run.info.run_id)
    track(folder)
    assert asked(folder)[1].info.run_id != run.info.run_id
    assert asked(folder)[1].data.metrics["train/loss"] == 0.333333


def test_another_store_gets_a_run_of_its_own_and_is_remembered(
    make_run: MakeRun, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run()
    track(folder)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    (tmp_path / "other.db").write_bytes(empty_store.read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    track(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    track(folder)
    assert json.loads((folder / "mlflow.json").read_text())["tracking_uri"] == other
    assert asked(folder, other)[1].data.metrics["train/loss"] == 0.333333


def test_two_runs_share_the_experiment(make_run: MakeRun) -> None:
    folders = [make_run("one"), make_run("two")]
    for folder in folders:
        track(folder)
    assert len({asked(folder)[1].info.experiment_id for folder in folders}) == 1


def test_many_epochs_and_settings_come_in_parts(make_run: MakeRun) -> None:
    folder = make_run(epochs=250)
    lines = "".join(f"  s{number}: {number}\n" for number in range(150))
    (folder / "config.yaml").write_text(f"model:\n{lines}  long: {'x' * 9000}\n")
    track(folder)
    client, run = asked(folder)
    assert len(history(client, run, "val/acc")) == 250
    assert len(run.data.params) == 151
    assert run.data.params["model.long"] == "x" * 6000


def test_broken_files_of_a_run_are_none(make_run: MakeRun, told: list[tuple[str, str]]) -> None:
    folder = make_run()
    for name in ("config.yaml", "status.json", "report/metrics.json", "mlflow.json"):
        (folder / name).write_text("{")
    (folder / "history.csv").write_text("epoch,train/loss\n1,0.5\n2,")
    track(folder)
    client, run = asked(folder)
    assert history(client, run, "train/loss") == [(1, 0.5)]
    assert [level for level, _ in told] == ["INFO"]


def test_a_store_that_is_none_is_one_warning(make_run: MakeRun, told: list[tuple[str, str]]) -> None:
    folder = make_run()
    (folder.parent / "mlflow.db").write_text("this is no database, whatever its name says")
    track(folder)
    ((level, text),) = told
    assert level == "WARNING"
    assert text == (
        f"MLflow at {folder.parent / 'mlflow.db'} is not told (file is not a database); what it misses is sent by the "
        "next fit --resume, test or export of this run with --tracker mlflow"
    )
    assert not (folder / "mlflow.json").exists()


def test_other_commands_see_runs_alone(make_run: MakeRun, logs: Path, capsys: Any) -> None:
    from vit_lightning.runs import find_runs

    track(make_run())
    assert (logs / "mlflow-artifacts").is_dir()
    assert [run.name for run in find_runs(logs)] == ["first"]
    assert not [path for path in logs.rglob("events.out.tfevents*") if "mlflow" in str(path)]
