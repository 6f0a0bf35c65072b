"""One result over every image from the runs of all folds and seeds; no torch in here."""

import csv
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vit_lightning.evaluation.clips import score_clips
from vit_lightning.evaluation.conformal import calibrate_sets
from vit_lightning.evaluation.intervals import ratio_interval
from vit_lightning.evaluation.metrics import Array, Outcome, as_list, calibrate, score
from vit_lightning.files import cell, cell_of_path, csv_line, read_cell, replacing, write_text
from vit_lightning.runs import finite, now

#: What is taken of a finished member, and kept of it where it may be committed: no weights.
METRICS, PREDICTIONS, CONFIG = "metrics.json", "predictions.csv", "config.yaml"


@dataclass(frozen=True)
class Member:
    """What the run of one fold and seed said of the images that it held out for its test."""

    name: str
    fold: int
    seed: int
    metrics: dict[str, Any]
    outcome: Outcome


def read_member(name: str, fold: int, seed: int, folder: Path) -> Member:
    """Reads what `test` left in a run's report, or what was kept of it (compressed).

    Raises:
        FileNotFoundError: It was not tested.
        ValueError: A file of it is broken.
    """
    table = next((path for path in (folder / PREDICTIONS, folder / f"{PREDICTIONS}.gz") if path.is_file()), None)
    if table is None:
        raise FileNotFoundError(f"the run {name} was not tested: {folder} has no {PREDICTIONS}")
    opened = gzip.open if table.suffix == ".gz" else open
    try:
        metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        check_metrics(metrics)
        with opened(table, "rt", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        names = list(metrics["per_class"])
        index = {label: place for place, label in enumerate(names)}
        outcome = Outcome(
            class_names=names,
            paths=[row["path"].removeprefix("./") for row in rows],
            groups=[read_cell(row["group"]) for row in rows],
            labels=np.array([index[read_cell(row["label"])] for row in rows], dtype=np.int64),
            probabilities=np.array([[float(row[f"p_{label}"]) for label in names] for row in rows]),
        )
        if not rows or len(names) < 2 or not np.isfinite(outcome.probabilities).all():
            raise ValueError("it has no row, a single class, or probabilities that are no numbers")
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError, OSError, csv.Error) as error:
        raise ValueError(f"what {folder} has of the run {name} cannot be read ({error}); test it again") from error
    return Member(name, fold, seed, metrics, outcome)


def check_metrics(metrics: dict[str, Any]) -> None:
    """Looks whether what is taken over of a member's metrics is what `test` writes.

    Raises:
        ValueError: It is not.
        KeyError: Something is missing.
    """
    for section in ("per_class", "groups", "baselines", "split", "data"):
        if not isinstance(metrics[section], dict):
            raise ValueError(f"{section} is no section")  # noqa: TRY004  # what a file holds is a value
    numbers = [
        metrics["accuracy"],
        0 if isinstance(metrics["groups"]["kind"], str) else None,
        *(each for each in metrics["baselines"].values() if each is not None),
    ]
    if duplicates := metrics.get("near_duplicates"):
        numbers += [duplicates["share"], int(duplicates["flagged"])]
    if seen := metrics.get("seen"):
        numbers += [seen[key] for key in ("images", "seen", "chose")]
        numbers += [0 if isinstance(seen["unknown"], list) else None]
    if any(finite(each) is None for each in numbers):
        raise ValueError("what has to be a number is none")


def keep_member(run: Path, kept: Path) -> None:
    """Copies config, metrics and predictions of a tested run to where they can be committed, the table compressed.

    Where the images and the cache were on this machine is nobody else's business, and stays out.
    """
    kept.mkdir(parents=True, exist_ok=True)
    config = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
    config["data"] |= {"root": None, "cache_dir": None}
    if config["data"].get("labels"):
        config["data"]["labels"] = Path(config["data"]["labels"]).name
    write_text(kept / CONFIG, yaml.safe_dump(config, sort_keys=False))
    metrics = json.loads((run / "report" / METRICS).read_text(encoding="utf-8"))
    metrics["data"].pop("root", None)
    write_text(kept / METRICS, json.dumps(metrics, indent=2) + "\n")
    with replacing(kept / f"{PREDICTIONS}.gz") as temporary:
        # Without a time in it the same predictions are the same bytes.
        temporary.write_bytes(gzip.compress((run / "report" / PREDICTIONS).read_bytes(), mtime=0))


def joined(members: Sequence[Member]) -> Outcome:
    """Every image once a seed: the members' outcomes one after another.

    Raises:
        ValueError: They are of other classes, or one image was tested in two folds of a seed.
    """
    first = members[0].outcome
    seen: set[tuple[int, str]] = set()
    for member in members:
        if member.outcome.class_names != first.class_names:
            raise ValueError(f"{members[0].name} and {member.name} have other classes: they are of other data")
        images = {(member.seed, path) for path in member.outcome.paths}
        if seen & images:
            raise ValueError(f"{member.name} tested images that another fold tested: the folds are not of one split")
        seen |= images
    paths = [path for member in members for path in member.outcome.paths]
    groups = [group for member in members for group in member.outcome.groups]
    if len(seen) > len(set(paths)):  # what several seeds say of one image stands or falls together
        groups = [group or path for group, path in zip(groups, paths, strict=True)]
    return Outcome(
        class_names=first.class_names,
        paths=paths,
        groups=groups,
        labels=np.concatenate([member.outcome.labels for member in members]),
        probabilities=np.concatenate([member.outcome.probabilities for member in members]),
    )


def spread_of(members: Sequence[Member]) -> dict[str, Any]:
    """How far the accuracy moves by the images and by the training's seed, each by itself.

    `groups` is the interval with seeds averaged; `seeds` the accuracy of each seed over all of its images, their
    mean and standard deviation (None with a single one).
    """
    whole = joined(members)
    hits = (whole.predicted == whole.labels).astype(np.float64)
    groups = whole.group_index
    by_group = as_list(
        ratio_interval(np.bincount(groups, weights=hits).astype(np.float64), np.bincount(groups).astype(np.float64))
    )
    seeds: dict[int, list[Array]] = {}
    for member in members:
        own = (member.outcome.predicted == member.outcome.labels).astype(np.float64)
        seeds.setdefault(member.seed, []).append(own)
    accuracy = {seed: float(np.concatenate(parts).mean()) for seed, parts in seeds.items()}
    values = np.array(list(accuracy.values()))
    return {
        "groups": by_group,
        "seeds": {str(seed): value for seed, value in accuracy.items()},
        "mean": float(values.mean()),
        "deviation": float(values.std(ddof=1)) if len(values) > 1 else None,
    }


def summarise(name: str, members: Sequence[Member]) -> tuple[dict[str, Any], Outcome]:
    """`metrics.json` of the whole, in the form that `test` writes for one run, and its outcome.

    Baselines and near-duplicates are those of the members, weighted by their images. There is no temperature: each
    model would have its own.
    """
    outcome = joined(members)
    images = np.array([len(member.outcome.paths) for member in members], dtype=np.float64)
    groups = members[0].metrics["groups"]["kind"]
    count = int(outcome.group_index.max()) + 1
    seeds = {member.seed for member in members}
    baselines: dict[str, float | None] = {}
    for key in members[0].metrics["baselines"]:
        values = [member.metrics["baselines"].get(key) for member in members]
        known = [value for value in values if value is not None]
        baselines[key] = float(np.average(known, weights=images)) if len(known) == len(values) else None
    return {
        "run": name,
        "checkpoint": f"{len(members)} models",
        "data": members[0].metrics["data"],
        "split": {**{key: members[0].metrics["split"].get(key) for key in ("kind", "family")}, "id": None},
        "part": "test",
        "images": len(set(outcome.paths)),
        "predictions": len(outcome.paths),
        "created": now(),
        "groups": {"kind": groups, "count": count},
        **score(outcome),
        "spread": spread_of(members),
        "folds": {
            member.name: {
                "fold": member.fold,
                "seed": member.seed,
                "images": len(member.outcome.paths),
                "accuracy": member.metrics["accuracy"],
            }
            for member in members
        },
        "seen": seen_by(members),
        "calibration": calibrate(outcome, None) | {"no_temperature": "each of the models would have its own"},
        "baselines": baselines,
        "near_duplicates": duplicates_of(members, images),
        "challenges": None,
        "sets": calibrate_sets(outcome, groups),
        "clips": score_clips(outcome) if len(seeds) == 1 and members[0].metrics["split"]["kind"] == "blocks" else None,
    }, outcome


def duplicates_of(members: Sequence[Member], images: Array) -> dict[str, Any] | None:
    """The share of test images with a near-duplicate in training, over all members; flagged where one was."""
    found = [member.metrics.get("near_duplicates") for member in members]
    known = [each for each in found if each]
    if len(known) < len(members):
        return None
    share = float(np.average([each["share"] for each in known], weights=images))
    leaks = sorted({member.fold for member in members if member.metrics["near_duplicates"]["flagged"]})
    words = f"{share:.1%} of the test images have a near-duplicate in the training part of their fold"
    if leaks:
        words += f"; the split leaks in {len(leaks)} of {len({member.fold for member in members})} folds"
    return {"share": share, "flagged": bool(leaks), "sentence": words}


def seen_by(members: Sequence[Member]) -> dict[str, Any] | None:
    """What the weights have seen of what they were tested on, all members together; None where one does not know."""
    found = [member.metrics.get("seen") for member in members]
    known = [each for each in found if each]
    if len(known) < len(members):
        return None
    sums = {key: sum(each[key] for each in known) for key in ("images", "seen", "chose")}
    unknown = sorted({name for each in known for name in each["unknown"]})
    sentences = [
        f"{sums['seen']} of {sums['images']} predictions are of images that the weights, or a run they started from, "
        "were trained on"
    ]
    if unknown:
        sentences.append(f"what {' and '.join(unknown)} learned from is not known: maybe these very images")
    if sums["chose"]:
        sentences.append(f"{sums['chose']} are of images that chose a checkpoint that the weights come from")
    return {"part": "test", **sums, "unknown": unknown, "sentence": "; ".join(sentences)}


def write_result(folder: Path, metrics: dict[str, Any], members: Sequence[Member]) -> None:
    """Writes `metrics.json`, and `predictions.csv` with the columns fold and seed beside those of a single run."""
    folder.mkdir(parents=True, exist_ok=True)
    names = members[0].outcome.class_names
    with replacing(folder / PREDICTIONS) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        columns = ["path", "group", "label", "predicted", "fold", "seed", "confidence"]
        file.write(csv_line([*columns, *(f"p_{name}" for name in names)]))
        for member in members:
            said = member.outcome
            rows = zip(said.paths, said.groups, said.labels, said.predicted, said.probabilities, strict=True)
            for path, group, label, predicted, probabilities in rows:
                numbers = [f"{number:.6f}" for number in (probabilities.max(), *probabilities)]
                words = (cell(each) for each in (group, names[label], names[predicted]))
                file.write(csv_line([cell_of_path(path), *words, member.fold, member.seed, *numbers]))
    write_text(folder / METRICS, json.dumps(metrics, indent=2) + "\n")
