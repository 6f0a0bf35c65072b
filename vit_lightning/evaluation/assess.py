"""The numbers of one evaluation, in words and in the run's `report/`."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.evaluation.baselines import BASELINE_NAMES, score_baselines
from vit_lightning.evaluation.metrics import Outcome, calibrate, score, score_challenges, write_predictions
from vit_lightning.evaluation.report import write_report
from vit_lightning.module import ViTClassifier
from vit_lightning.runs import now

log = logging.getLogger(__name__)

Part = Literal["val", "test"]


def outcome_of(data: ImageDataModule, part: Part, logits: Tensor, kind: str) -> Outcome:
    """What a model's logits (N, K) say of the images of a part.

    Args:
        data: With its samples split.
        part: The part, whose N images the logits are of.
        logits: Of the model.
        kind: How the split was made.
    """
    samples = data.part(part)
    if kind == "blocks":  # an older run's split.csv does not name them
        samples = [replace(each, group=each.group or str((each.number or 0) // data.block_length)) for each in samples]
    index = {name: number for number, name in enumerate(data.class_names)}
    return Outcome(
        class_names=data.class_names,
        paths=[sample.path for sample in samples],
        groups=[sample.group for sample in samples],
        labels=np.array([index[sample.label] for sample in samples], dtype=np.int64),
        probabilities=logits.double().softmax(dim=-1).numpy(),
    )


def assess(
    model: ViTClassifier,
    data: ImageDataModule,
    logits: dict[str, Tensor],
    *,
    part: Part,
    kind: str,
    facts: dict[str, Any],
    folder: Path,
) -> None:
    """Writes `metrics.json`, `predictions.csv`, `report.html` and its pictures, and says what the scores are worth.

    Args:
        model: What was scored.
        data: With its samples split.
        logits: Of the part's images, (N, K), and of `val`'s where that is another part, to fit the temperature on.
        part: What was scored.
        kind: How the split was made.
        facts: What goes into `metrics.json` of run, data and split.
        folder: Where to write; made where it is missing.

    Raises:
        OSError: The folder cannot be written, or a picture not be read.
    """
    outcome = outcome_of(data, part, logits[part], kind)
    validation = outcome_of(data, "val", logits["val"], kind) if part != "val" and "val" in logits else None
    baselines = score_baselines(data, part, kind=kind)
    scores = score(outcome)
    count = int(outcome.group_index.max()) + 1
    groups = group_words(data, kind) if any(outcome.groups) else "images"
    metrics = {
        **facts,
        "part": part,
        "images": len(outcome.paths),
        "created": now(),
        "groups": {"kind": groups, "count": count},
        **scores,
        "calibration": calibrate(outcome, validation),
        "baselines": baselines.accuracy if baselines else dict.fromkeys(BASELINE_NAMES),
        "near_duplicates": baselines
        and {"share": baselines.near_duplicates, "flagged": baselines.leaks, "sentence": baselines.sentence},
        "challenges": score_challenges(outcome, data.root) if data.root else None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(folder / "predictions.csv", outcome)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    report = write_report(folder, metrics, outcome, model, root=data.root or Path())
    log.info("%s", interval_words(metrics))
    if baselines is not None:
        baselines.tell(log)
    log.info("%s", calibration_words(metrics["calibration"]))
    log.info("the report is %s", report)


def group_words(data: ImageDataModule, kind: str) -> str:
    """What the images of a split are grouped by."""
    if kind == "blocks":
        return f"blocks of {data.block_length} frames"
    return f"groups by {data.group_by}" if data.group_by else "groups"


def interval_words(metrics: dict[str, Any]) -> str:
    """The interval of the accuracy."""
    interval, groups = metrics["intervals"]["accuracy"], metrics["groups"]
    if interval is None:
        return f"no interval: it takes two groups, and there is one of the {groups['kind']}"
    return f"95 % interval of acc {interval[0]:.3f} to {interval[1]:.3f}, over {groups['count']} {groups['kind']}"


def calibration_words(calibration: dict[str, Any]) -> str:
    """The calibration error, before and after."""
    before = f"calibration error {calibration['before']['ece']:.3f}"
    if calibration["temperature"] is None:
        return before
    after = calibration["after"]["ece"]
    return f"{before}, {after:.3f} with the temperature {calibration['temperature']:.2f} fitted on val"
