"""The figures of a run and its report, as a PNG and in the page as an SVG; TensorBoard shows the matrix, too."""

from __future__ import annotations

import html
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vit_lightning.evaluation.metrics import BASELINE_NAMES
from vit_lightning.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What is written and framed in this colour takes the page's own text colour in the SVG, in light and dark alike.
INK = "#1f2328"

#: Told apart with most kinds of colour blindness, and at least 3:1 against a white and a near-black page.
COLOURS = ("#2f7fd1", "#d0650f", "#1a936f", "#c4508f", "#8c6bd1", "#a07b1c", "#1795a8", "#cf4a4a", "#6f8f2f", "#8a7a6f")

#: Points of one curve: more cannot be seen at the size of the figure, and each takes room in the page.
POINTS = 300

#: Above so many classes a table of counts is no longer read, and lines are no longer told apart.
MANY_CLASSES, MANY_LINES = 20, 8

#: Panels of the training curves, and what each is called.
CURVES = {"loss": "loss", "acc": "accuracy", "f1": "macro-F1", "lr": "learning rate"}

Floats = npt.NDArray[np.float64]


@contextmanager
def style() -> Iterator[None]:
    """Text that stays text and is taken literally, whatever signs a class name has."""
    import matplotlib as mpl  # half a second, needed only here

    ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    settings: dict[Any, Any] = {
        **dict.fromkeys(ink, INK),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.family": "DejaVu Sans",  # matplotlib brings it along
        "font.size": 9,
        "legend.frameon": False,
        "svg.fonttype": "none",
        "text.parse_math": False,
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has those signs
        yield


def short(name: str, length: int = 24) -> str:
    """A name that fits beside a figure."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def draw_confusion_matrix(matrix: npt.NDArray[np.int64], class_names: Sequence[str] | None) -> Figure:
    """The counts (K, K), rows true and columns predicted, with and coloured by their share of the row.

    Args:
        matrix: Numbers of images, or of predictions.
        class_names: K names; None leaves them out. Of a hundred classes they take ten times as long as all the rest.
    """
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm
    from matplotlib.figure import Figure

    classes = len(matrix)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    with style():
        side = float(np.clip(0.55 * classes, 2.4, 11.0))
        figure = Figure(figsize=(side + 1.6, side + 1.2), dpi=80, layout="constrained")
        axes = figure.subplots()
        # From nothing to full colour: a cell of no images has the page's own colour.
        shade = LinearSegmentedColormap.from_list("share", [f"{COLOURS[0]}00", f"{COLOURS[0]}ff"])
        # The cells as one picture inside the SVG: of 200 classes they would be 40,000 shapes.
        # Without numbers in the cells the root of the share: rare confusions are to be seen, too.
        scale = PowerNorm(1.0 if classes <= MANY_CLASSES else 0.5, vmin=0, vmax=1)
        axes.pcolormesh(shares, cmap=shade, norm=scale, rasterized=True)
        axes.set_aspect("equal")
        axes.invert_yaxis()
        names = [short(name) for name in class_names or ()]
        ticks = np.arange(len(names)) + 0.5
        font = 9 if classes <= MANY_CLASSES else min(9.0, max(3.0, 0.8 * 72 * side / classes))
        axes.set_xticks(ticks, names, rotation=90, fontsize=font)
        axes.set_yticks(ticks, names, fontsize=font)
        axes.tick_params(length=0)
        axes.set_xlabel("said by the model")
        axes.set_ylabel("true class")
        told = "share of the true class, and count"
        if classes <= MANY_CLASSES:
            for row, column in np.argwhere(matrix > 0):
                words = f"{100 * shares[row, column]:.0f} %\n{matrix[row, column]:,}"
                text = axes.text(column + 0.5, row + 0.5, words, ha="center", va="center", size=7.5)
                text.set_in_layout(False)  # measuring each of them would take as long as drawing all
        else:
            told = "colour: root of the share of the true class"
        axes.set_title(f"Confusion matrix\n{told}", fontsize=9)
    return figure


def draw_curves(
    rows: Sequence[Mapping[str, float]],
    rates: Sequence[tuple[int, float]],
    baselines: Mapping[str, Any],
    panels: Sequence[str] = tuple(CURVES),
) -> Figure:
    """Loss, accuracy and macro-F1 by epoch and the learning rate by step, side by side.

    Args:
        rows: Of `history.csv`: `epoch` and whichever scores it has.
        rates: Step and learning rate of every optimizer step.
        baselines: As `status.json` has them: those of `BASELINE_NAMES` are lines across the accuracy.
        panels: Which of `CURVES` are drawn.
    """
    from matplotlib.figure import Figure  # not pyplot: no window system, no global state

    with style():
        figure = Figure(figsize=(3.4 * len(panels), 3.4), layout="constrained")
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            axes.set_title(CURVES[panel])
            axes.grid(alpha=0.25)
            axes.set_xlabel("step" if panel == "lr" else "epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            if panel == "lr":
                axes.plot(*zip(*rates, strict=True), color=COLOURS[2])
                continue
            for part, colour in (("train", COLOURS[0]), ("val", COLOURS[1])):
                points = [(row["epoch"], row[f"{part}/{panel}"]) for row in rows if f"{part}/{panel}" in row]
                if points:
                    marker = "." if len(points) < 30 else ""
                    axes.plot(*zip(*points, strict=True), color=colour, marker=marker, label=part)
                if points and (part, panel) == ("val", "acc"):
                    epoch, best = max(points, key=lambda point: point[1])
                    axes.plot(epoch, best, "o", color=colour, markerfacecolor="none", markersize=9)
                    axes.set_title(f"accuracy (best val {best:.4f} in epoch {epoch:.0f})")
            if panel == "acc":
                known = [(name, baselines[key]) for key, name in BASELINE_NAMES.items() if key in baselines]
                for (name, value), line in zip(known, ("-", "--", ":"), strict=False):
                    axes.axhline(value, color=INK, linewidth=0.8, linestyle=line, label=f"{name} {value:.3f}")
            if axes.lines:
                look: dict[str, Any] = {"fontsize": 8, "handlelength": 1.5, "columnspacing": 1.2}
                axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, **look)
    return figure


def draw_reliability(curves: Mapping[str, tuple[Floats, Floats, npt.NDArray[np.int64]]]) -> Figure:
    """How often the model is right, by how sure it says it is.

    Args:
        curves: By what the legend says, from `calibration.reliability`: mean confidence (M,), accuracy (M,) and number
            of images (M,) of each bin.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(4.4, 4.5), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], linestyle=":", color=INK, linewidth=1)
        marks = zip(curves.items(), COLOURS, ("o", "s"), ("-", "--"), strict=False)
        for (name, (confidence, accuracy, _)), colour, marker, line in marks:
            axes.plot(confidence, accuracy, line, color=colour, marker=marker, markersize=4.5, label=name)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="how sure the model says it is", ylabel="how often it is right")
        axes.set_aspect("equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axes.grid(alpha=0.25)
        figure.legend(loc="outside upper left")
    return figure


def draw_precision_recall(labels: npt.NDArray[np.int64], probabilities: Floats, class_names: Sequence[str]) -> Figure:
    """Precision and recall at each threshold, of each class that has images against all others.

    The legend has their average precision: the mean of the precisions at the thresholds, weighted by the gain in
    recall (scikit-learn's `average_precision_score`). Of more than eight classes, the five of the lowest are named, and
    the others drawn faintly.

    Args:
        labels: True classes (N,).
        probabilities: Of each class (N, K).
        class_names: K names.
    """
    from matplotlib.figure import Figure
    from sklearn.metrics import average_precision_score, precision_recall_curve

    present = [index for index in range(len(class_names)) if np.any(labels == index)]
    averages = {index: float(average_precision_score(labels == index, probabilities[:, index])) for index in present}
    named = sorted(present, key=averages.__getitem__)[:5] if len(present) > MANY_LINES else present
    others = [index for index in present if index not in named]
    with style():
        figure = Figure(figsize=(4.4, 3.7 + 0.19 * (len(named) + 1)), layout="constrained")
        axes = figure.subplots()
        entries = []
        for index in (*others, *named):
            precision, recall, _ = precision_recall_curve(labels == index, probabilities[:, index])
            if len(recall) > POINTS:
                chosen = np.linspace(0, len(recall) - 1, POINTS).round().astype(int)
                precision, recall = precision[chosen], recall[chosen]
            look: dict[str, Any] = {"color": INK, "alpha": 0.3, "linewidth": 0.7}
            if index in named:
                place = named.index(index)
                look = {"color": COLOURS[place], "linestyle": ("-", "--")[place % 2]}
            (line,) = axes.step(recall, precision, where="post", **look)
            if index in named:
                entries.append((line, f"{short(class_names[index])}, {averages[index]:.2f}"))
        if others:
            entries.append((axes.lines[0], f"the other {len(others)} classes"))
        axes.set(xlim=(0, 1.01), ylim=(0, 1.03), xlabel="recall: share of the class that is found", ylabel="precision")
        axes.grid(alpha=0.25)
        lines = [line for line, _ in entries]
        legend = figure.legend(lines, [""] * len(lines), loc="outside lower center", title="class, average precision")
        for text, (_, content) in zip(legend.get_texts(), entries, strict=True):
            text.set_text(content)  # matplotlib would leave out names that begin with an underscore
    return figure


def save_png(figure: Figure, path: Path) -> None:
    """Saves it on white, in place of an older one in one step."""
    with style(), replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an `<svg>` element without background, for a page that says in words what it shows.

    Args:
        figure: One of the above.
        name: Told to the reader who cannot see it; different for each figure of a page.
    """
    import matplotlib as mpl

    text = StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # The salt keeps identifiers apart on a page, and the same from one report to the next.
    with style(), mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(text, format="svg", dpi=200, transparent=True, metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)  # only the shape: the page gives the width
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(name)}"', 1)
