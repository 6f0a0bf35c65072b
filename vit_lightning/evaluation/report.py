"""The report of a test: one page that can be read, kept and sent without anything beside it."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import numpy.typing as npt

from vit_lightning.evaluation.figures import (
    CURVES,
    MANY_CLASSES,
    draw_confusion_matrix,
    draw_curves,
    draw_precision_recall,
    draw_reliability,
    save_png,
    short,
    to_svg,
)
from vit_lightning.evaluation.gallery import Case, look_at, save_pictures, with_neighbours, with_pictures
from vit_lightning.evaluation.label_doctor import Doubts
from vit_lightning.files import write_text

if TYPE_CHECKING:
    from markupsafe import Markup

    from vit_lightning.data.index import Sample
    from vit_lightning.evaluation.metrics import Outcome
    from vit_lightning.evaluation.training import Training
    from vit_lightning.models.vit import VisionTransformer

log = logging.getLogger(__name__)

#: So many pictures of mistakes, of hits and of doubtful labels are shown.
MISTAKES, HITS, DOUBTFUL = 12, 6, 24

#: Stands for a number that is not known.
DASH = "\N{EN DASH}"


def write_report(
    folder: Path,
    metrics: dict[str, Any],
    outcome: Outcome,
    net: VisionTransformer | None,
    *,
    root: Path | None,
    training: Training | None = None,
    doubts: Doubts | None = None,
    nearest: Callable[[int], Sequence[tuple[Sample, float]]] | None = None,
) -> Path:
    """Writes `report.html` and its pictures: what was measured, on what, and how much it is worth.

    The page holds its pictures and asks for nothing from elsewhere; it takes its name last and in one step, so that a
    command that is broken off leaves the former one or none. Images that are gone by now are named in it.

    Args:
        folder: The run's `report/`, made where it is missing.
        metrics: What `metrics.json` says.
        outcome: The images, their classes and what the model said of them.
        net: It is asked once more where it looked, for the images that are shown; None shows the images alone.
        root: The data's root folder, which the outcome's paths are relative to; None, or one that is gone, names the
            images and shows none.
        training: How the network was trained, where that is known.
        doubts: Which labels are likely to be wrong, where models say so that have not seen the images.
        nearest: The training images nearest to one of the outcome's, by its index, with their similarity.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mistakes, hits = surest_mistakes(outcome, MISTAKES), least_sure_hits(outcome, HITS)
    cases = look_at(outcome, [*mistakes, *hits], net, root)
    if nearest is not None:
        for place, index in enumerate(mistakes):
            cases[place] = with_neighbours(cases[place], nearest(index), root)
    shown = {"mistakes": cases[: len(mistakes)], "hits": cases[len(mistakes) :], "doubts": []}
    if doubts is not None:
        shown["doubts"] = with_pictures(doubtful_cases(doubts, outcome.class_names), None, root)
    for name, group in shown.items():
        if group or name != "doubts":
            save_pictures(folder / name, group)
    figures = draw(folder, metrics, outcome)
    curves = [] if training is None else training_curves(training)
    page = folder / "report.html"
    write_text(page, render(metrics, shown, figures, training, curves, attention=net is not None))
    return page


def doubtful_cases(doubts: Doubts, class_names: Sequence[str]) -> list[Case]:
    """The first of the labels that are likely to be wrong."""
    rows = zip(doubts.paths, doubts.given, doubts.likely, doubts.scores, doubts.flagged, strict=True)
    flagged = [
        Case(path, class_names[given], class_names[likely], float(s)) for path, given, likely, s, flag in rows if flag
    ]
    return flagged[:DOUBTFUL]


def surest_mistakes(outcome: Outcome, count: int) -> list[int]:
    """Indices of wrongly labelled images, by falling confidence.

    Of the frames of one group that are mistaken in the same way the surest goes before: the others are mostly the same
    picture once more, and are taken only where there is nothing else.
    """
    wrong = np.flatnonzero(outcome.predicted != outcome.labels)
    return most_telling(outcome, wrong[np.argsort(-outcome.probabilities[wrong].max(axis=1), kind="stable")], count)


def least_sure_hits(outcome: Outcome, count: int) -> list[int]:
    """Indices of rightly labelled images, by growing confidence, chosen as the mistakes are."""
    right = np.flatnonzero(outcome.predicted == outcome.labels)
    return most_telling(outcome, right[np.argsort(outcome.probabilities[right].max(axis=1), kind="stable")], count)


def most_telling(outcome: Outcome, ordered: npt.NDArray[np.intp], count: int) -> list[int]:
    """The first of each group, true class and predicted class, then the rest; in their order."""
    kinds = np.stack([outcome.group_index, outcome.labels, outcome.predicted], axis=1)[ordered]
    first = np.sort(np.unique(kinds, axis=0, return_index=True)[1])
    rest = np.setdiff1d(np.arange(len(ordered)), first)
    chosen = np.sort(np.concatenate([first, rest])[:count])
    return [int(index) for index in ordered[chosen]]


def draw(folder: Path, metrics: dict[str, Any], outcome: Outcome) -> dict[str, Markup | None]:
    """The figures as SVG for the page, and as PNG in the folder.

    Returns:
        By name; no confusion matrix where the page has a table of it.
    """
    from markupsafe import Markup

    from vit_lightning.evaluation.calibration import reliability, with_temperature

    figures: dict[str, Markup | None] = {}
    matrix = draw_confusion_matrix(np.array(metrics["confusion_matrix"]), outcome.class_names)
    save_png(matrix, folder / "confusion_matrix.png")
    few = len(outcome.class_names) <= MANY_CLASSES
    figures["confusion_matrix"] = None if few else Markup(to_svg(matrix, "Confusion matrix"))

    curves = {"as trained": reliability(outcome.probabilities, outcome.labels)}
    temperature = metrics["calibration"]["temperature"]
    if temperature is not None:
        curves[f"T = {temperature:.2f}"] = reliability(
            with_temperature(outcome.probabilities, temperature), outcome.labels
        )
    diagram = draw_reliability(curves)
    save_png(diagram, folder / "reliability.png")
    figures["reliability"] = Markup(to_svg(diagram, "Reliability diagram"))

    precision_recall = draw_precision_recall(outcome.labels, outcome.probabilities, outcome.class_names)
    save_png(precision_recall, folder / "precision_recall.png")
    figures["precision_recall"] = Markup(to_svg(precision_recall, "Precision-recall curves"))
    return figures


def training_curves(training: Training) -> list[Markup]:
    """The curves by epoch as SVG, a panel each, so that a narrow page sets them below each other."""
    from markupsafe import Markup

    baselines = training.status.get("baselines") or {}
    panels = [panel for panel in CURVES if any(name.endswith(f"/{panel}") for row in training.rows for name in row)]
    return [
        Markup(to_svg(draw_curves(training.rows, [], baselines, [panel]), f"Training curve: {CURVES[panel]}"))
        for panel in panels
    ]


def render(
    metrics: dict[str, Any],
    cases: dict[str, list[Case]],
    figures: dict[str, Markup | None],
    training: Training | None = None,
    curves: Sequence[Markup] = (),
    *,
    attention: bool = True,
) -> str:
    """The page's text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # names of classes and files come from whoever made the data
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (breakable, day, duration, listed, number, percent, percents, score, scores, sentence, short)
    environment.filters |= {function.__name__: function for function in filters}
    return environment.get_template("report.html.j2").render(
        metrics=metrics,
        **cases,
        attention=attention,
        figures=figures,
        training=training,
        curves=curves,
        baselines=told_baselines(metrics["baselines"], metrics.get("leads") or {}),
        notable=notable_classes(metrics["per_class"]),
        unbounded=classes_without_intervals(metrics["per_class"]),
        confusions=frequent_confusions(metrics["confusion_matrix"], list(metrics["per_class"])),
    )


def told_baselines(
    baselines: dict[str, float | None], leads: dict[str, dict[str, Any] | None]
) -> list[tuple[str, float, dict[str, Any] | None]]:
    """What each baseline does, in words, its accuracy, and the model's lead over it where that is known."""
    words = {
        "majority": "Always the most frequent class",
        "neighbour_number": "Class of the training image with the nearest number",
        "thumbnail_neighbour": "Class of the most similar training image (16 \N{MULTIPLICATION SIGN} 16 pixels)",
    }
    known = ((name, text, baselines.get(name)) for name, text in words.items())
    return [(text, value, leads.get(name)) for name, text, value in known if value is not None]


def classes_without_intervals(per_class: dict[str, dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Why classes with images have no interval, and which they are."""
    reasons: dict[str, list[str]] = {}
    for name, row in per_class.items():
        if row.get("no_interval"):
            reasons.setdefault(row["no_interval"], []).append(name)
    return list(reasons.items())


def notable_classes(per_class: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Which classes are found best and worst by F1, several where they tie, and which have no image."""
    f1 = {name: row["f1"] for name, row in per_class.items() if row["support"]}
    best, worst = max(f1.values(), default=0.0), min(f1.values(), default=0.0)
    return {
        "worst": [name for name in f1 if math.isclose(f1[name], worst)],
        "best": [name for name in f1 if math.isclose(f1[name], best)],
        "absent": [name for name in per_class if name not in f1],
    }


def frequent_confusions(matrix: Sequence[Sequence[int]], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The three most frequent mistakes: true class, what is said, how many images, of how many."""
    counts = np.array(matrix)
    off = counts - np.diag(np.diag(counts))
    order = np.argsort(-off, axis=None, kind="stable")[:3]
    pairs = [(int(place) // len(counts), int(place) % len(counts)) for place in order]
    return [
        {
            "true": class_names[row],
            "said": class_names[column],
            "images": int(off[row, column]),
            "of": int(counts[row].sum()),
        }
        for row, column in pairs
        if off[row, column]
    ]


def breakable(name: str) -> Markup:
    """A name that a narrow page may break at its signs."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([_/.\-]+)", r"\1<wbr>", str(escape(name))))


def day(moment: str) -> str:
    """The day of an ISO time, as in 5 March 2026."""
    date = datetime.fromisoformat(moment)
    return f"{date.day} {date:%B %Y}"


def duration(seconds: float) -> str:
    """A time in seconds, minutes or hours."""
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence, the last after an "and"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def number(count: int) -> str:
    """A count with commas."""
    return f"{count:,}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share in per cent, or a dash where it is not known."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%" if known(share) else DASH


def percents(interval: Sequence[float] | None) -> str:
    """An interval in per cent."""
    return f"{100 * interval[0]:.1f} to {percent(interval[1])}" if interval else DASH


def score(value: float | None, digits: int = 2) -> str:
    """A number between 0 and 1, or a dash where it is not known."""
    return f"{value:.{digits}f}" if known(value) else DASH


def scores(interval: Sequence[float] | None) -> str:
    """An interval of such numbers."""
    return f"{interval[0]:.2f}\N{EN DASH}{interval[1]:.2f}" if interval else DASH


def sentence(words: str) -> str:
    """Words that begin with a capital and end with a full stop."""
    return words[:1].upper() + words[1:].rstrip(".") + "."


def known(value: float | None) -> TypeGuard[float]:
    """Whether there is a number."""
    return value is not None and math.isfinite(value)
