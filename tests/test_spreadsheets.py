"""Names that a spreadsheet would compute: no cell of a CSV for people begins so, and what is read back is as it was."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vit_lightning.callbacks.predictions import Table
from vit_lightning.data.index import Sample
from vit_lightning.data.scan import write_unreadable
from vit_lightning.data.splits import read_split, write_split
from vit_lightning.evaluation.compare import read_predictions
from vit_lightning.evaluation.folds import Member, read_member, write_result
from vit_lightning.evaluation.metrics import Outcome, score, write_predictions
from vit_lightning.files import FORMULA, cell, cell_of_path, read_cell
from vit_lightning.runs import Run

NAMES = [
    "=cmd|' /C calc'!A0",
    "+1",
    "-2+3",
    "@SUM(1)",
    "\tx",
    "\rx",
    "'=x",
    "''=x",
    "'plain",
    "\uff1dx",
    "plain",
    "a,b",
]


def cells(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def harmless(path: Path) -> None:
    assert not [each for row in cells(path) for each in row if each.startswith(FORMULA)]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_read_as_it_was_written(name: str) -> None:
    assert read_cell(cell(name)) == name
    assert not cell(name).startswith(FORMULA)
    assert cell_of_path(name).removeprefix("./") == name
    assert not cell_of_path(name).startswith(FORMULA)


def test_only_dangerous_names_are_changed() -> None:
    assert [name for name in NAMES if cell(name) != name] == [*NAMES[:8], "\uff1dx"]
    assert [name for name in NAMES if cell_of_path(name) != name] == [*NAMES[:6], "\uff1dx"]
    assert cell_of_path("=x.jpg") == "./=x.jpg"


def test_a_split_keeps_its_paths_byte_for_byte(tmp_path: Path) -> None:
    samples = []
    for number, name in enumerate(NAMES):
        (tmp_path / name.replace("/", "_")).mkdir()
        label = name.replace("/", "_")
        (tmp_path / label / f"{label}.jpg").touch()
        samples.append(Sample(f"{label}/{label}.jpg", label, ("train", "val", "test")[number % 3], name))
    write_split(tmp_path / "split.csv", samples)
    harmless(tmp_path / "split.csv")
    assert read_split(tmp_path / "split.csv", root=tmp_path, classes=[each.label for each in samples]) == samples


def outcome() -> Outcome:
    count = len(NAMES)
    probabilities = np.full((count, count), 0.5 / (count - 1))
    np.fill_diagonal(probabilities, 0.5)
    paths, groups = [f"{name}.jpg" for name in NAMES], NAMES[::-1]
    return Outcome(class_names=NAMES, paths=paths, groups=groups, labels=np.arange(count), probabilities=probabilities)


def test_predictions_of_a_test_are_read_as_they_were(tmp_path: Path) -> None:
    said = outcome()
    report = tmp_path / "report"
    report.mkdir()
    write_predictions(report / "predictions.csv", said)
    harmless(report / "predictions.csv")
    read = read_predictions(Run(tmp_path, {}))
    assert list(read) == said.paths
    assert [group for group, *_ in read.values()] == said.groups
    assert [label for _, label, _ in read.values()] == NAMES
    assert [predicted for *_, (predicted,) in read.values()] == NAMES


def test_folds_read_a_member_as_it_was_and_write_it_safely(tmp_path: Path) -> None:
    import json

    said = outcome()
    write_predictions(tmp_path / "predictions.csv", said)
    sections: dict[str, Any] = {name: {} for name in ("baselines", "split", "data")}
    sections["groups"] = {"kind": "blocks of 4 frames", "count": 2}
    metrics = {**score(said), "accuracy": 1.0, **sections}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    member = read_member("a", 1, 0, tmp_path)
    assert (member.outcome.paths, member.outcome.groups) == (said.paths, said.groups)
    assert member.outcome.labels.tolist() == said.labels.tolist()
    write_result(tmp_path / "whole", metrics, [Member("a", 1, 0, metrics, said)])
    harmless(tmp_path / "whole" / "predictions.csv")


def test_labels_and_unreadable_files_are_safe(tmp_path: Path) -> None:
    table = Table(tmp_path / "a.csv", ["path", "label", "index", "confidence"])
    table.add([[f"{name}.jpg", name, 3, 0.25] for name in NAMES])
    table.close()
    harmless(tmp_path / "a.csv")
    assert cells(tmp_path / "a.csv")[1][2:] == ["3", "0.250000"]
    write_unreadable(tmp_path / "b.csv", dict(zip(NAMES, NAMES, strict=True)))
    write_unreadable(tmp_path / "b.csv", {"=later": "=why"}, append=True)
    harmless(tmp_path / "b.csv")
    assert cells(tmp_path / "b.csv")[0] == ["path", "reason"]
    assert len(cells(tmp_path / "b.csv")) == len(NAMES) + 2
