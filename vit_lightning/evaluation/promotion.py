"""Whether a run is really better than the champion, or than the baselines: figures, and a sentence. No torch here."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_lightning.evaluation.calibration import binned, calibration_error
from vit_lightning.evaluation.compare import Comparison, Predictions, compare, joined_groups, read_table
from vit_lightning.evaluation.intervals import Difference, jackknife_error, t_quantile
from vit_lightning.evaluation.metrics import BASELINE_NAMES
from vit_lightning.files import read_cell
from vit_lightning.registry import Registry
from vit_lightning.runs import finite

#: The chance, over any number of attempts on the same groups, that one that is no better is promoted.
ERROR = 0.05

#: Fewer groups never show anything, at whatever level.
LEAST_GROUPS = 6


@dataclass(frozen=True)
class Verdict:
    """What an attempt came to.

    Args:
        better: Whether it is promoted, as far as the comparison goes.
        reason: Why, or why not, in a sentence.
        figures: What was found.
    """

    better: bool
    reason: str
    figures: dict[str, Any]


def level_of(attempt: int) -> float:
    """The level of the k-th attempt on the same groups, 0.05 / (k (k + 1)): for any number they sum up to 0.05."""
    return ERROR / (attempt * (attempt + 1))


def groups_needed(level: float) -> int:
    """How many groups it takes at least: as many coins as seldom enough all fall on one side."""
    return max(LEAST_GROUPS, int(np.floor(-np.log2(level))) + 1)


def one_sided(found: Difference, margin: float = 0.0) -> float:
    """The p-value of the second being no better than the first less a margin, by Student's t over groups.

    It is never below 2^-G, that of as many coins that all fall alike. At the level 0.025 of a first attempt it says
    what the two-sided 95 % interval of `runs compare` says.
    """
    from scipy.stats import t

    gain = found.mean + margin
    if found.error == 0.0:
        return 2.0**-found.groups if gain > 0 else 1.0
    return max(float(t.sf(gain / found.error, found.worth - 1)), 2.0**-found.groups)


# Attempts


def group_names(data: str, groups: Sequence[str], paths: Sequence[str]) -> str:
    """What tells held-out groups from others, in eight digits each: the data's name, and the group or single image."""
    names = {f"{data}/{group or path}" for group, path in zip(groups, paths, strict=True)}
    return " ".join(sorted(hashlib.sha256(name.encode()).hexdigest()[:8] for name in names))


def attempt_number(registry: Registry, groups: str) -> int:
    """Which attempt on these groups the next one is: all that looked at one of them count, from 1."""
    own = set(groups.split())
    return 1 + sum(
        not own.isdisjoint(str(each["figures"].get("groups_seen", "")).split()) for each in registry.decisions
    )


# Against the champion


def read_confidences(path: Path) -> dict[str, tuple[float, bool]]:
    """Confidence of each image of a `predictions.csv`, and whether the class said is right, by path.

    Raises:
        ValueError: The table is broken.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {
                row["path"].removeprefix("./"): (
                    float(row["confidence"]),
                    read_cell(row["label"]) == read_cell(row["predicted"]),
                )
                for row in csv.DictReader(file)
            }
    except (OSError, LookupError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read ({error}); run test again") from error


def calibration_difference(
    before: Sequence[tuple[float, bool]], after: Sequence[tuple[float, bool]], groups: npt.NDArray[np.int64]
) -> dict[str, Any]:
    """The calibration errors of two models on the same images, (N,) each, and the second less the first.

    The `interval` is that of the jackknife over groups and Student's t; None where there is one group.
    """
    both = [np.array(each, dtype=np.float64).T for each in (before, after)]  # (2, N): confidence, right

    def errors(chosen: npt.NDArray[np.bool_]) -> list[float]:
        return [calibration_error(*binned(confidence[chosen], hit[chosen])) for confidence, hit in both]

    whole = errors(np.ones(len(groups), dtype=bool))
    count = int(groups.max()) + 1
    told: dict[str, Any] = {"before": whole[0], "after": whole[1], "difference": whole[1] - whole[0], "interval": None}
    if count > 1:
        pairs = np.array([errors(groups != group) for group in range(count)])
        without = pairs[:, 1] - pairs[:, 0]
        half = float(t_quantile(count) * jackknife_error(without))
        told["interval"] = [told["difference"] - half, told["difference"] + half]
    return told


def judge(
    champion: Predictions,
    candidate: Predictions,
    tables: tuple[Path, Path],
    *,
    data: str,
    registry: Registry,
    margin: float,
) -> Verdict:
    """Holds a candidate against the champion, paired on all images that the candidate was tested on.

    Args:
        champion: What it said of them.
        candidate: What it said of them.
        tables: Both `predictions.csv`.
        data: The name of the data.
        registry: For the attempts before this one.
        margin: By how much accuracy the candidate may be worse; 0 asks for one that is better.

    Raises:
        ValueError: They have not scored the same images, or a table is broken.
    """
    paths = list(candidate.rows)
    if missing := sum(path not in champion.rows for path in paths):
        raise ValueError(f"{champion.name} has not scored {missing} of the {len(paths)} images of {candidate.name}")
    found = compare(champion, candidate, paths)
    groups = [candidate.rows[path][0] for path in paths]
    joined = joined_groups(groups, [champion.rows[path][0] for path in paths])
    before, after = ([each[path] for path in paths] for each in map(read_confidences, tables))
    calibration = calibration_difference(before, after, joined)
    seen = group_names(data, groups, paths)
    attempt = attempt_number(registry, seen)
    level = level_of(attempt)
    figures: dict[str, Any] = {
        "images": found.images,
        "groups": found.groups,
        "accuracy": list(found.accuracy),
        "difference": found.paired and found.paired.mean,
        "interval": found.paired and list(found.paired.interval),
        "p": found.paired and one_sided(found.paired, margin),
        "margin": margin,
        "attempt": attempt,
        "level": level,
        "power": found.power,
        "calibration": calibration,
        "groups_seen": seen,
    }
    return Verdict(*ruling(found, calibration, figures), figures)


def ruling(found: Comparison, calibration: dict[str, Any], figures: dict[str, Any]) -> tuple[bool, str]:
    """Whether the candidate is promoted, and why."""
    before, after = found.names
    if too_few := few_groups(found.groups, figures["attempt"], worth=found.paired is not None):
        return False, too_few
    low, high = (100 * end for end in figures["interval"])
    words = f"{100 * figures['difference']:+.1f} points [{low:.1f}, {high:.1f}] over {found.groups} groups"
    test = f"p {figures['p']:.4f}, and attempt {figures['attempt']} on them takes less than {figures['level']:.4f}"
    asked = f"not {100 * figures['margin']:g} points worse" if figures["margin"] else "better"
    if not figures["p"] < figures["level"]:
        power = f"; {found.power}" if found.power else ""
        return False, f"that {after} is {asked} than {before} may be chance: {words}, {test}{power}"
    interval = calibration["interval"]
    if interval is not None and interval[0] > 0:
        error = f"{calibration['before']:.3f} to {calibration['after']:.3f}"
        return False, f"{after} is {asked} than {before} ({words}), but its calibration is really worse: error {error}"
    return True, f"{after} is {asked} than {before}: {words}, {test}"


def few_groups(groups: int, attempt: int, *, worth: bool) -> str:
    """A sentence where groups are too few for an attempt; '' where they are enough."""
    needed = groups_needed(level_of(attempt))
    if groups < needed:
        return (
            f"{groups} held-out groups are too few to show anything: attempt {attempt} on them takes {needed} at "
            "least; hold more out (data.test_fraction), or take more clips"
        )
    return "" if worth else "nearly all held-out images are of one group: whether a difference is real cannot be said"


# The first one


def judge_first(run: str, metrics: dict[str, Any], table: Path, *, data: str, registry: Registry) -> Verdict:
    """Holds a run against the baselines of its own report, each paired over groups.

    Args:
        run: Its name.
        metrics: Its `metrics.json`.
        table: Its `predictions.csv`.
        data: The name of the data.
        registry: For the attempts before this one.

    Raises:
        ValueError: A table is broken.
    """
    rows = read_table(table)
    seen = group_names(data, [group for group, _, _ in rows.values()], list(rows))
    attempt = attempt_number(registry, seen)
    level, groups = level_of(attempt), (metrics.get("groups") or {}).get("count") or 0
    leads = {
        name: lead
        for name, lead in (metrics.get("leads") or {}).items()
        if isinstance(lead, dict) and finite(lead.get("difference")) is not None
    }
    # Half of a two-sided p that lies on the right side is the one-sided one.
    chances = {
        name: (lead["p"] / 2 if lead["difference"] > 0 else 1.0) for name, lead in leads.items() if lead.get("p")
    }
    figures: dict[str, Any] = {
        "images": metrics.get("images"),
        "groups": groups,
        "accuracy": [metrics.get("accuracy")],
        "leads": leads,
        "p": max(chances.values(), default=None),
        "attempt": attempt,
        "level": level,
        "groups_seen": seen,
    }
    words = "; ".join(
        f"{100 * lead['difference']:+.1f} points over the {BASELINE_NAMES.get(name, name)}"
        for name, lead in leads.items()
    )
    if not leads:
        return Verdict(False, f"{run} has no baselines in its report: test it again where its images are", figures)
    if too_few := few_groups(groups, attempt, worth=len(chances) == len(leads)):
        return Verdict(False, too_few, figures)
    test = f"p {figures['p']:.4f}, and attempt {attempt} on these groups takes less than {level:.4f}"
    if not figures["p"] < level:
        return Verdict(False, f"that {run} beats all baselines may be chance: {words}; {test}", figures)
    return Verdict(True, f"the first one, it beats the baselines over {groups} groups: {words}; {test}", figures)
