"""Whether two runs really differ: paired on the same images, over whole groups of them. No torch in here."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_lightning.data.splits import Fold
from vit_lightning.evaluation.intervals import (
    LEVEL,
    Difference,
    Interval,
    difference,
    groups_for,
    jackknife_error,
    least_found,
    power,
    t_quantile,
)
from vit_lightning.files import read_cell
from vit_lightning.runs import Run, find_run, find_runs, finite_in

#: A gain that one would like to find.
GAIN = 0.05

#: Of `config.yaml`, what may differ between folds of one experiment beside `data.fold`.
OF_NO_ACCOUNT = ("cache", "cache_dir", "num_workers", "root")
OF_THE_MACHINE = (
    "accelerator",
    "devices",
    "num_nodes",
    "strategy",
    "default_root_dir",
    "enable_progress_bar",
    "logger",
)


@dataclass(frozen=True)
class Predictions:
    """What one experiment said of each image (group, true class, classes said by its seeds), by path."""

    name: str
    rows: dict[str, tuple[str, str, tuple[str, ...]]]
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Comparison:
    """Scores of two experiments on the images that both have scored, and how they differ (the second minus the first).

    `paired` is the difference of the accuracies; it and the interval of that of macro-F1 are None where nearly all
    images are of one group. `warnings` say, a line each, whose score measures memory.
    """

    names: tuple[str, str]
    images: int
    groups: int
    accuracy: tuple[float, float]
    paired: Difference | None
    macro_f1: tuple[float, float]
    macro_f1_difference: Interval | None
    warnings: tuple[str, ...] = ()

    @property
    def accuracy_difference(self) -> Interval | None:
        """The interval of the accuracies' difference."""
        return self.paired and self.paired.interval

    @property
    def p(self) -> float | None:
        """The two-sided p-value of the accuracies being the same."""
        return self.paired and self.paired.p

    @property
    def real(self) -> bool:
        """Whether the interval of the accuracy's difference leaves 0 out, and groups are enough to say so."""
        return self.p is not None and self.p < 1 - LEVEL

    @property
    def power(self) -> str | None:
        """How likely such a comparison finds what is there, in a line; None where it is not known how groups differ."""
        found = self.paired
        if found is None or found.error == 0.0:
            return None
        needed = f"{groups_for(found, GAIN):,} groups"
        least = least_found(found)
        if least is None:
            return f"{found.groups} groups never show a difference as real; for {100 * GAIN:g} points it takes {needed}"
        share = f"a true difference of {100 * GAIN:g} points is found in {power(found, GAIN):.0%} of cases"
        return f"with {found.groups} groups {share}; 80% takes {100 * least:.1f} points, or {needed}"


def compare_runs(first: str, second: str, logs: Path) -> Comparison:
    """Compares two runs, or two experiments of which each has a run a fold.

    Args:
        first: A run's name or folder; any of its experiment's folds.
        second: Another.
        logs: The log folder.

    Raises:
        FileNotFoundError: There is no such run, or it was not tested.
        ValueError: They have no image in common, or its label differs, or they are the same.
    """
    one, other = experiment(find_run(first, logs), logs), experiment(find_run(second, logs), logs)
    if one.name == other.name:
        raise ValueError(f"{first} and {second} are of one experiment ({one.name}); compare it with another")
    paths = [path for path in one.rows if path in other.rows]
    if not paths:
        raise ValueError(
            f"{one.name} and {other.name} have scored no image in common: their splits differ; give both runs the same "
            "--data.split and --data.seed"
        )
    for path in paths:
        labels = one.rows[path][1], other.rows[path][1]
        if labels[0] != labels[1]:
            raise ValueError(f"{path} is a {labels[0]} to {one.name} and a {labels[1]} to {other.name}: other data")
    return compare(one, other, paths)


def compare(one: Predictions, other: Predictions, paths: Sequence[str]) -> Comparison:
    """The comparison on these images; those that share a group in either experiment share one here."""
    from vit_lightning.evaluation.metrics import count_said, macro_f1

    rows = [each.rows[path] for each in (one, other) for path in paths]
    names = sorted({name for _, label, said in rows for name in (label, *said)})
    place = {name: index for index, name in enumerate(names)}
    groups = joined_groups(*([each.rows[path][0] for path in paths] for each in (one, other)))
    labels = np.array([place[one.rows[path][1]] for path in paths])
    # A row a seed; what seeds say of an image is averaged.
    said = [np.array([[place[name] for name in each.rows[path][2]] for path in paths]).T for each in (one, other)]
    hits = [(labels == each).mean(axis=0) for each in said]
    images = np.bincount(groups).astype(float)
    found = difference(np.bincount(groups, weights=hits[1] - hits[0]).astype(float), images)
    counts = [np.mean([count_said(labels, seed, groups, len(names)) for seed in each], axis=0) for each in said]
    totals = [each.sum(axis=0) for each in counts]
    f1 = [float(macro_f1(total)) for total in totals]
    f1_interval = None
    if found is not None:
        before, after = (macro_f1(total - each) for total, each in zip(totals, counts, strict=True))
        half = float(t_quantile(found.worth) * jackknife_error(after - before))
        f1_interval = (f1[1] - f1[0] - half, f1[1] - f1[0] + half)
    return Comparison(
        names=(one.name, other.name),
        images=len(paths),
        groups=len(images),
        accuracy=(float(hits[0].mean()), float(hits[1].mean())),
        paired=found,
        macro_f1=(f1[0], f1[1]),
        macro_f1_difference=f1_interval,
        warnings=tuple(line for line in map(leak_warning, (one, other)) if line is not None),
    )


def leak_warning(tested: Predictions) -> str | None:
    """A line where the split that an experiment was tested on is flagged, by its own report; else None."""
    reports = [run.metrics() for run in tested.runs]
    told = [(report.get("near_duplicates") or {}, report.get("images", 0)) for report in reports]
    known = [(found, images) for found, images in told if finite_in(found, "share") is not None and images > 0]
    if not any(found.get("flagged") for found, _ in known):
        return None
    share = np.average([found["share"] for found, _ in known], weights=[images for _, images in known])
    why = f"{share:.1%} of the images it was tested on have a near-duplicate in its training part"
    if share < 0.0005:  # it is the frame number that gives them away
        why = "its report says how"
    return f"warning: the split of {tested.name} leaks, and its score measures memory: {why}"


def joined_groups(first: Sequence[str], second: Sequence[str]) -> npt.NDArray[np.int64]:
    """One group for all images that a chain of two groupings joins, as numbers from 0, (N,); '' is no group."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    from vit_lightning.evaluation.metrics import group_index

    rows, columns = group_index(first), group_index(second)
    size = int(rows.max()) + int(columns.max()) + 2  # a node a group: those of the first, then those of the second
    edges = (np.ones(len(rows), dtype=bool), (rows, columns + int(rows.max()) + 1))
    labels = connected_components(coo_array(edges, shape=(size, size)), directed=False)[1]
    joined: npt.NDArray[np.int64] = np.unique(labels[rows], return_inverse=True)[1].astype(np.int64)
    return joined


def experiment(run: Run, logs: Path) -> Predictions:
    """What a run said, together with the other folds of its experiment that were tested, the latest of each."""
    own = run.config()
    fold = None if run.is_folds else fold_of(own)
    if fold is None:
        return Predictions(run.name, read_predictions(run), (run,))
    folds = {fold.number: run}
    for rival in find_runs(logs):
        config = rival.config()
        theirs = fold_of(config)
        if theirs is None or theirs.of != fold.of or theirs.number in folds:
            continue
        if without_fold(config) == without_fold(own) and rival.metrics().get("part") == "test":
            folds[theirs.number] = rival
    rows: dict[str, tuple[str, str, tuple[str, ...]]] = {}
    runs = tuple(each for _, each in sorted(folds.items()))
    for each in runs:
        rows |= read_predictions(each)
    return Predictions(", ".join(each.name for each in runs), rows, runs)


def fold_of(config: dict[str, Any]) -> Fold | None:
    """The fold that a run kept for its test, if it did."""
    try:
        return Fold.parse(str((config.get("data") or {}).get("fold")))
    except ValueError:
        return None


def without_fold(config: dict[str, Any]) -> dict[str, Any]:
    """What folds of one experiment share: all but the fold, and where and how fast it is computed."""
    data = {name: value for name, value in (config.get("data") or {}).items() if name not in ("fold", *OF_NO_ACCOUNT)}
    trainer = {name: value for name, value in (config.get("trainer") or {}).items() if name not in OF_THE_MACHINE}
    return {"model": config.get("model"), "data": data, "trainer": trainer, "seed": config.get("seed_everything")}


def read_predictions(run: Run) -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """Group, label and class said (by each seed) of each image of `report/predictions.csv`, by path.

    Raises:
        FileNotFoundError: The run was not tested.
        ValueError: The table is broken.
    """
    path = run.folder / "report" / "predictions.csv"
    if not path.is_file():
        raise FileNotFoundError(f"the run {run.name} was not tested: first run test --run {run.name}")
    tested, own = ((read.get("split") or {}).get("id") for read in (run.metrics(), run.status))
    if own is not None and tested != own:  # it may have trained on what was scored
        raise ValueError(
            f"the run {run.name} was last tested on another split than its own; run test --run {run.name} again"
        )
    try:
        return read_table(path)
    except ValueError as error:
        raise ValueError(f"{error}; run test --run {run.name} again") from error


def read_table(path: Path) -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """Group, label and class said (by each seed) of each image of a `predictions.csv`, by path.

    Raises:
        ValueError: It is broken.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        said: dict[str, tuple[str, str, tuple[str, ...]]] = {}
        for row in rows:
            name = row["path"].removeprefix("./")
            before = said.get(name, ("", "", ()))[2]
            words = [read_cell(row[column]) for column in ("group", "label", "predicted")]
            said[name] = words[0], words[1], (*before, words[2])
        if len({len(each) for *_, each in said.values()}) != 1:
            raise ValueError("an image is named more often than another, or there is none")
        return said
    except (KeyError, AttributeError, ValueError, csv.Error) as error:  # a row may be short of a cell
        raise ValueError(f"{path} cannot be read ({error})") from error
