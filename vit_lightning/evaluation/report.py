"""The report of a test: one page that can be read, kept and sent without anything beside it."""

from __future__ import annotations

import base64
import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
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
from vit_lightning.files import write_text
from vit_lightning.progress import track

if TYPE_CHECKING:
    from markupsafe import Markup
    from PIL import Image

    from vit_lightning.evaluation.metrics import Outcome
    from vit_lightning.evaluation.training import Training
    from vit_lightning.models.vit import VisionTransformer

log = logging.getLogger(__name__)

#: So many pictures of mistakes and of hits are shown.
MISTAKES, HITS = 12, 6

#: Pixels that the longer side of a picture in the page has at most: two of them stand side by side.
PICTURE_SIZE = 320

#: Stands for a number that is not known.
DASH = "\N{EN DASH}"


@dataclass(frozen=True)
class Case:
    """One image and what the model said of it, to be shown.

    Args:
        path: Of the image, relative to the data's root.
        true: Its class.
        said: The model's.
        confidence: The probability that the model gave that class.
        picture: The image and the attention over it, side by side, as a JPEG, or the image alone; None where it cannot
            be read any more.
        trouble: Why it cannot; nothing is said of each where all of them are elsewhere.
    """

    path: str
    true: str
    said: str
    confidence: float
    picture: bytes | None = None
    trouble: str = ""

    @property
    def source(self) -> str:
        """The picture as a `data:` address."""
        return "data:image/jpeg;base64," + base64.b64encode(self.picture or b"").decode()


def write_report(
    folder: Path,
    metrics: dict[str, Any],
    outcome: Outcome,
    net: VisionTransformer | None,
    *,
    root: Path | None,
    training: Training | None = None,
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

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mistakes, hits = surest_mistakes(outcome, MISTAKES), least_sure_hits(outcome, HITS)
    cases = look_at(outcome, [*mistakes, *hits], net, root)
    shown = {"mistakes": cases[: len(mistakes)], "hits": cases[len(mistakes) :]}
    for name, group in shown.items():
        save_pictures(folder / name, group)
    figures = draw(folder, metrics, outcome)
    curves = [] if training is None else training_curves(training)
    page = folder / "report.html"
    write_text(page, render(metrics, shown, figures, training, curves, attention=net is not None))
    return page


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


def look_at(outcome: Outcome, indices: Sequence[int], net: VisionTransformer | None, root: Path | None) -> list[Case]:
    """These images, with the model's attention over them where there is a network."""
    cases = []
    there = root is not None and root.is_dir()
    with track(f"looking once more at {len(indices)} images, for the report", total=len(indices)) as advance:
        for index in indices:
            said, picture, trouble = int(outcome.predicted[index]), None, ""
            try:
                if root is not None and there:
                    picture = picture_of(root / outcome.paths[index], net)
            except FileNotFoundError:
                trouble = "The file is no longer there."
            except OSError:
                trouble = "The file can no longer be read."
            cases.append(
                Case(
                    path=outcome.paths[index],
                    true=outcome.class_names[int(outcome.labels[index])],
                    said=outcome.class_names[said],
                    confidence=float(outcome.probabilities[index, said]),
                    picture=picture,
                    trouble=trouble,
                )
            )
            advance(1)
    gone = [case.path for case in cases if case.picture is None]
    if gone and there:
        log.warning("%d of the report's %d pictures cannot be read any more: %s", len(gone), len(cases), gone[0])
    elif gone:
        where = f"they are no longer in {root}" if root else "it is not known where they are"
        log.warning("the report names images and shows none: %s", where)
    return cases


def picture_of(path: Path, net: VisionTransformer | None) -> bytes:
    """An image at its own aspect, and beside it the attention of a network over it, as a JPEG.

    Raises:
        OSError: It is missing or no readable picture.
    """
    from PIL import Image

    from vit_lightning.data.images import load_image

    picture = load_image(path)
    picture.thumbnail((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.LANCZOS)
    times = PICTURE_SIZE // 2 // max(picture.size)
    if times > 1:  # a browser would blur what it enlarges
        picture = picture.resize((times * picture.width, times * picture.height), Image.Resampling.NEAREST)
    shown = picture if net is None else side_by_side(picture, with_attention(picture, path, net))
    file = BytesIO()
    shown.save(file, "JPEG", quality=80)
    return file.getvalue()


def with_attention(picture: Image.Image, path: Path, net: VisionTransformer) -> Image.Image:
    """The same picture with the attention over it, of the network that is given the whole image at its own size."""
    import torch
    from PIL import Image

    from vit_lightning.data.frames import load_frame
    from vit_lightning.data.transforms import frame_size, normalise
    from vit_lightning.evaluation.attention import attention_of, overlay

    frame = load_frame(path, frame_size(net.image_shape[1:]))
    attention = attention_of(net, normalise(frame[None], net.image_shape[0]), kind="rollout")[0]
    return Image.fromarray(overlay(torch.from_numpy(np.array(picture)), attention).numpy())


def side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two pictures of one size in one; wide ones below each other."""
    from PIL import Image

    width, height = left.size
    gap = 4
    below = width > 2 * height
    both = Image.new("RGB", (width, 2 * height + gap) if below else (2 * width + gap, height), "white")
    both.paste(left, (0, 0))
    both.paste(right, (0, height + gap) if below else (width + gap, 0))
    return both


def save_pictures(folder: Path, cases: Sequence[Case]) -> None:
    """The cases' pictures as `01.jpg`, ... in place of those of an earlier report."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("[0-9][0-9].jpg"):
        old.unlink()
    for number, case in enumerate(cases, start=1):
        if case.picture is not None:
            (folder / f"{number:02}.jpg").write_bytes(case.picture)


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
