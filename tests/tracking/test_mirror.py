"""Champion and candidate of the registry as aliases in MLflow."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from vit_lightning.tracking.mirror import mirror
from vit_lightning.tracking.model import register

MakeRun = Callable[..., Path]


def registry(logs: Path, *runs: str, **aliases: int) -> dict[str, Any]:
    versions = [
        {"version": number, "run": run, "folder": str(logs / run), "started": "", "registered": "", "sha256": ""}
        for number, run in enumerate(runs, start=1)
    ]
    return {"versions": versions, "aliases": aliases, "decisions": []}


def decision(version: int, outcome: str, reason: str, time: str = "2026-01-01T00:00:00+00:00") -> dict[str, Any]:
    return {"time": time, "version": version, "against": 1, "outcome": outcome, "reason": reason, "figures": {}}


def aliases_of(client: MlflowClient, name: str) -> dict[str, int]:
    return {alias: int(version) for alias, version in client.get_registered_model(name).aliases.items()}


@pytest.fixture
def client(logs: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{logs / 'mlflow.db'}")


@pytest.fixture
def both(make_run: MakeRun, onnx_file: Path) -> None:
    for name in ("one", "two"):
        register(make_run(name), onnx_file, ["red", "green", "blue"])


def test_aliases_and_the_latest_decision_follow(both: None, logs: Path, client: MlflowClient) -> None:
    content = registry(logs, "one", "two", champion=1, candidate=2)
    content["decisions"] = [decision(1, "promoted", "the first"), decision(2, "refused", "may be chance")]
    mirror(content, logs)
    assert aliases_of(client, "colours") == {"champion": 1, "candidate": 2}
    tags = client.get_model_version("colours", "2").tags
    assert (tags["outcome"], tags["reason"]) == ("refused", "may be chance")
    content["aliases"] = {"champion": 2}
    content["decisions"].append(decision(2, "promoted", "9 points better", "2026-01-02T00:00:00+00:00"))
    for _ in range(2):
        mirror(content, logs)
        assert aliases_of(client, "colours") == {"champion": 2}
    tags = client.get_model_version("colours", "2").tags
    assert (tags["outcome"], tags["reason"]) == ("promoted", "9 points better")
    assert tags["decided"] == "2026-01-02T00:00:00+00:00"
    assert client.get_model_version("colours", "1").tags["reason"] == "the first"


def test_versions_that_mlflow_does_not_know_are_skipped_with_a_line(
    both: None, make_run: MakeRun, logs: Path, client: MlflowClient, told: list[tuple[str, str]]
) -> None:
    make_run("three")
    client.set_registered_model_alias("colours", "champion", "1")
    content = registry(logs, "one", "two", "three", champion=3, candidate=2)
    content["decisions"] = [decision(3, "promoted", "better")]
    mirror(content, logs)
    assert aliases_of(client, "colours") == {"candidate": 2}  # rather none than an old one
    line = "version 3 is no model in MLflow; export --run three --tracker mlflow makes it one"
    assert told[-1:] == [("INFO", line)]
    client.delete_model_version("colours", "2")
    mirror(content, logs)
    assert [text for _, text in told[-2:]] == [line.replace("3", "2").replace("three", "two"), line]


def test_an_alias_leaves_other_data_s_models(
    both: None, make_run: MakeRun, onnx_file: Path, logs: Path, client: MlflowClient
) -> None:
    register(make_run("shapes", data={"name": "sh/apes"}), onnx_file, ["red", "green", "blue"])
    mirror(registry(logs, "one", "shapes", champion=1), logs)
    mirror(registry(logs, "one", "shapes", champion=2), logs)
    assert aliases_of(client, "colours") == {}
    assert aliases_of(client, "sh_apes") == {"champion": 1}


def test_another_store_s_version_of_the_same_number_is_not_ours(
    both: None, logs: Path, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.db").write_bytes(empty_store.read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    other = MlflowClient(f"sqlite:///{tmp_path / 'other.db'}")
    other.create_registered_model("colours")
    other.create_model_version("colours", str(tmp_path), run_id=None)
    mirror(registry(logs, "one", "two", champion=1), logs)
    assert aliases_of(other, "colours") == {}


def test_without_mlflow_nothing_happens(make_run: MakeRun, logs: Path, told: list[tuple[str, str]]) -> None:
    make_run("one")
    (logs / "mlflow.db").unlink()
    mirror(registry(logs, "one", champion=1), logs)
    mirror({}, logs)
    assert not told
    assert not (logs / "mlflow.db").exists()


def test_a_store_that_is_none_is_one_warning(both: None, logs: Path, told: list[tuple[str, str]]) -> None:
    told.clear()
    (logs / "mlflow.db").write_text("this is no database, whatever its name says")
    mirror(registry(logs, "one", champion=1), logs)
    assert told == [
        (
            "WARNING",
            f"MLflow at {logs / 'mlflow.db'} is not told who is champion (file is not a database); the next change "
            "tells it",
        )
    ]
