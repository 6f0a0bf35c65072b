"""The numbers of one evaluation, in words and in the run's `report/`."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from torch import Tensor

from vit_lightning.data.splitting import Split
from vit_lightning.evaluation.baselines import Baselines, lead, score_baselines
from vit_lightning.evaluation.clips import score_clips
from vit_lightning.evaluation.conformal import calibrate_sets, set_words
from vit_lightning.evaluation.embeddings import Embedded, neighbours_of, write_embeddings
from vit_lightning.evaluation.intervals import LEVEL
from vit_lightning.evaluation.metrics import (
    BASELINE_NAMES,
    Outcome,
    calibrate,
    score,
    score_challenges,
    write_predictions,
)
from vit_lightning.evaluation.report import write_report
from vit_lightning.evaluation.strangers import find_strangers, stranger_words
from vit_lightning.evaluation.training import Training
from vit_lightning.models.vit import VisionTransformer
from vit_lightning.runs import now

log = logging.getLogger(__name__)

Part = Literal["val", "test"]


def outcome_of(split: Split, part: Part, logits: Tensor) -> Outcome:
    """What a model's logits (N, K) say of the images of a part.

    Args:
        split: Who is held out.
        part: The part, whose N images the logits are of.
        logits: Of the model.
    """
    samples = split.part(part)
    return Outcome(
        class_names=list(split.class_names),
        paths=[sample.path for sample in samples],
        groups=[sample.group for sample in samples],
        labels=np.array(split.labels(part), dtype=np.int64),
        probabilities=logits.double().softmax(dim=-1).numpy(),
    )


def assess(
    net: VisionTransformer,
    split: Split,
    logits: dict[str, Tensor],
    *,
    part: Part,
    facts: dict[str, Any],
    folder: Path,
    training: Training | None = None,
    embedded: tuple[Embedded, Embedded] | None = None,
    strangers: Mapping[str, Sequence[Path]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Writes `metrics.json`, `predictions.csv`, `report.html` and its pictures, and says what the scores are worth.

    Args:
        net: What was scored.
        split: Who is held out; `made_as` has the kind that the run's record knows of.
        logits: Of the part's images, (N, K), and of `val`'s where that is another part, to fit the temperature on.
        part: What was scored.
        facts: What goes into `metrics.json` of run, data and split.
        folder: Where to write; made where it is missing.
        training: How the net was trained, where that is known.
        embedded: Training images, and those of the part in their order; see `embed_split`.
        strangers: Pictures that are none of the model's business, by kind.

    Returns:
        What `metrics.json` says.

    Raises:
        OSError: The folder cannot be written, or a picture not be read.
    """
    outcome = outcome_of(split, part, logits[part])
    validation = outcome_of(split, "val", logits["val"]) if part != "val" and "val" in logits else None
    baselines = score_baselines(split, part)
    metrics = facts | {"part": part} | measured(outcome, validation, baselines, split)
    unseen = not (facts.get("seen") or {}).get("seen")
    metrics["sets"] = calibrate_sets(outcome, metrics["groups"]["kind"]) if unseen else None
    metrics["strangers"] = None if embedded is None else find_strangers(net, split.root, embedded, strangers)
    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(folder / "predictions.csv", outcome)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    nearest = None
    if embedded is not None:
        write_embeddings(folder, *embedded)
        nearest = neighbours_of(*embedded)
    report = write_report(folder, metrics, outcome, net, root=split.root, training=training, nearest=nearest)
    say(metrics, baselines)
    log.info("the report is %s", report)
    return metrics


def measured(outcome: Outcome, validation: Outcome | None, baselines: Baselines | None, split: Split) -> dict[str, Any]:
    """What `metrics.json` says beside the facts of run, data and split."""
    count = int(outcome.group_index.max()) + 1
    return {
        "images": len(outcome.paths),
        "created": now(),
        "groups": {"kind": split.group_words if any(outcome.groups) else "images", "count": count},
        **score(outcome),
        "calibration": calibrate(outcome, validation),
        "baselines": baselines.accuracy if baselines else dict.fromkeys(BASELINE_NAMES),
        "leads": leads(outcome, baselines),
        "near_duplicates": baselines
        and {
            "share": baselines.near_duplicates,
            "flagged": baselines.leaks,
            "sentence": baselines.sentence,
            "note": baselines.note,
        },
        "challenges": score_challenges(outcome, split.root),
        "clips": score_clips(outcome) if split.kind == "blocks" else None,
    }


def say(metrics: dict[str, Any], baselines: Baselines | None) -> None:
    """Says what the scores are worth."""
    log.info("%s", interval_words(metrics))
    if baselines is not None:
        baselines.tell(log)
    sets = set_words(metrics["sets"], "; see folds") if metrics["sets"] else []
    strange = [stranger_words(metrics["strangers"])] if metrics["strangers"] else []
    for line in (*lead_words(metrics["leads"]), *calibration_words(metrics["calibration"]), *sets, *strange):
        log.info("%s", line)


def interval_words(metrics: dict[str, Any]) -> str:
    """The interval of the accuracy."""
    interval, groups = metrics["intervals"]["accuracy"], metrics["groups"]
    if interval is None:
        return f"no interval: it takes two groups, and there is one of the {groups['kind']}"
    return f"95 % interval of acc {interval[0]:.3f} to {interval[1]:.3f}, over {groups['count']} {groups['kind']}"


def leads(outcome: Outcome, baselines: Baselines | None) -> dict[str, Any]:
    """`difference`, `interval` and `p` of the model's lead over each baseline, paired over groups.

    None for a baseline that is not known; interval and p are None where nearly all images are of one group.
    """
    hits = baselines.hits if baselines else {}
    found: dict[str, Any] = dict.fromkeys(BASELINE_NAMES)
    right = outcome.predicted == outcome.labels
    for name, theirs in hits.items():
        paired = lead(right, theirs, outcome.group_index)
        found[name] = {
            "difference": float(right.mean() - theirs.mean()),
            "interval": paired and list(paired.interval),
            "p": paired and paired.p,
        }
    return found


def lead_words(leads: dict[str, Any]) -> list[str]:
    """The same in points, a line a baseline."""
    lines = []
    for name, found in leads.items():
        if found is not None:
            line = f"{100 * found['difference']:+.1f} points over the {BASELINE_NAMES[name]}"
            if found["interval"] is not None:
                low, high = (100 * end for end in found["interval"])
                line += f" [{low:.1f}, {high:.1f}]{chance(found['p'])}"
            lines.append(line)
    return lines


def calibration_words(calibration: dict[str, Any]) -> list[str]:
    """The calibration error beside what chance alone makes of it, and what the temperature does to the likelihood."""
    before, temperature = calibration["before"], calibration["temperature"]
    first = f"calibration error {before['ece']:.3f}; a calibrated model would show {before['ece_floor']:.3f} by chance"
    if temperature is None:
        return [first, f"no temperature: {calibration['no_temperature']}"]
    change = calibration["change"]["nll"]
    second = f"temperature {temperature:.2f} from val: NLL {change['difference']:+.3f}"
    if change["interval"] is not None:
        low, high = change["interval"]
        second += f" [{low:+.3f}, {high:+.3f}]{chance(change['p'])}"
    return [first, second]


def chance(p: float) -> str:
    """What is added to a difference that may be none."""
    return "" if p < 1 - LEVEL else ", may be chance"
